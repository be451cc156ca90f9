import { computed, signal } from "@preact/signals";

export const BASE = "/console";

const place = signal(location.pathname + location.search);
window.addEventListener("popstate", () => {
  place.value = location.pathname + location.search;
});

/** The path below the console's, cut into its names. */
export const path = computed<string[]>(() => {
  const below = new URL(place.value, location.origin).pathname.slice(BASE.length);
  return below.split("/").filter(Boolean).map(decoded);
});

/** What is no encoding of anything stays as it is: no name has a `%`, so that it is not found. */
function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

export const query = computed(() => new URL(place.value, location.origin).searchParams);

export function href(...names: string[]): string {
  return [BASE, ...names.map(encodeURIComponent)].join("/");
}

export function go(to: string): void {
  if (to === place.value) return;
  const isOther = new URL(to, location.origin).pathname !== location.pathname;
  history.pushState(null, "", to);
  place.value = to;
  window.scrollTo(0, 0);
  // Another page begins at its beginning, for the keyboard and for who hears it.
  if (isOther) document.getElementById("main")?.focus({ preventScroll: true });
}

/** Changes parts of the query; an empty text removes one. The way back stays short: no entry per key stroke. */
export function setQuery(changes: Record<string, string>): void {
  const url = new URL(place.value, location.origin);
  for (const [name, value] of Object.entries(changes)) {
    if (value === "") url.searchParams.delete(name);
    else url.searchParams.set(name, value);
  }
  const to = url.pathname + url.search;
  history.replaceState(null, "", to);
  place.value = to;
}

/** Follows links inside the console without loading the page again. */
export function followLinks(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  const to = link?.getAttribute("href");
  if (!to || link?.target || (to !== BASE && !to.startsWith(`${BASE}/`))) return;
  event.preventDefault();
  go(to);
}
