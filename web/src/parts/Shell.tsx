import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { has, latest, looks, lost, unwatch } from "../api/live";
import { BASE, href, path } from "../router";
import { forgetToken } from "../session";
import { nextTheme, theme } from "../theme";
import { NavLink } from "./NavLink";

const PAGES = [
  { name: "Overview", at: undefined, to: BASE, scope: undefined },
  { name: "Topics", at: "topics", to: href("topics"), scope: undefined, items: true },
  { name: "Hooks", at: "hooks", to: href("hooks"), scope: "hooks" },
  { name: "Namespaces", at: "namespaces", to: href("namespaces"), scope: undefined },
  { name: "Node", at: "node", to: href("node"), scope: "admin", whole: true },
] as const;

/** Whether the token opens a page: some need a scope or that it shows items, and some that it opens every namespace. */
const isOpen = (page: (typeof PAGES)[number]): boolean =>
  (page.scope === undefined || has(page.scope)) && (!("items" in page) || looks.value) && (!("whole" in page) || latest.value?.node !== undefined);

/** What is around every page. */
export function Shell({ onHelp, children }: { onHelp: () => void; children: ComponentChildren }) {
  const at = path.value[0];
  const title = path.value.length > 1 ? path.value.slice(1).join("/") : (PAGES.find((page) => page.at === at)?.name ?? "Console");
  useEffect(() => {
    document.title = `${title} – MQueue`;
  }, [title]);
  const signOut = (): void => {
    unwatch();
    latest.value = null;
    forgetToken();
  };
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <header class="top">
        <span class="brand">MQueue</span>
        <nav aria-label="Pages">
          {PAGES.filter(isOpen).map((page) => (
            <NavLink key={page.name} to={page.to} current={page.at === at}>
              {page.name}
            </NavLink>
          ))}
        </nav>
        <span class="grow" />
        <Link />
        <button type="button" class="quiet" onClick={nextTheme} aria-label={`Colours: ${theme.value}; change`}>
          {theme.value === "auto" ? "Auto" : theme.value === "light" ? "Light" : "Dark"}
        </button>
        <button type="button" class="quiet" onClick={onHelp} aria-label="Keyboard help">
          ?
        </button>
        <button type="button" class="quiet" onClick={signOut} title={latest.value?.subject ?? ""}>
          Sign out
        </button>
      </header>
      <div aria-live="polite">
        {lost.value && <p class="banner">The server is away. These are the last numbers; the console tries again by itself.</p>}
      </div>
      <main id="main" tabIndex={-1}>
        {children}
      </main>
    </>
  );
}

function Link() {
  const well = !lost.value && latest.value !== null;
  return (
    <span class={`state ${well ? "good" : "bad"}`}>
      <i aria-hidden="true" /> {well ? "Live" : "Offline"}
    </span>
  );
}
