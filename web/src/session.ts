import { signal } from "@preact/signals";

const KEY = "mqueue.token";

/** The token, kept for this tab alone and never part of a URL. */
export const token = signal<string | null>(sessionStorage.getItem(KEY));

/** Why a token is asked for again although there was one. */
export const refused = signal<string | null>(null);

export function keepToken(text: string): void {
  sessionStorage.setItem(KEY, text);
  refused.value = null;
  token.value = text;
}

export function forgetToken(): void {
  sessionStorage.removeItem(KEY);
  refused.value = null;
  token.value = null;
}

/** The server does not take the token any more: the page stays, and the sign-in comes over it. */
export function refuseToken(why: string): void {
  if (token.value !== null) refused.value = why;
}
