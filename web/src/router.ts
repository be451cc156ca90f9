import { computed, signal } from "@preact/signals";

export const BASE = "/console";

const place = signal(location.pathname + location.search);
window.addEventListener("popstate", () => {
  place.value = location.pathname + location.search;
});

/** The path below the console's, cut into its names. */
export const path = computed<string[]>(() => {
  const below = new URL(place.value, location.origin).pathname.slice(BASE.length);
  return below.split("/").filter(Boolean).map(decodeURIComponent);
});

export const query = computed(() => new URL(place.value, location.origin).searchParams);

export function href(...names: string[]): string {
  return [BASE, ...names.map(encodeURIComponent)].join("/");
}

export function go(to: string): void {
  if (to === place.value) return;
  history.pushState(null, "", to);
  place.value = to;
  window.scrollTo(0, 0);
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
