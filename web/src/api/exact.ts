// JSON as it is stored and as it was typed. What `JSON.parse` makes of a number is not always that number, so that the
// text of a payload is cut out of an answer, and put into a request, instead of being made anew.
import { answer, type Schema } from "./client";

/** An item with the very text of the JSON it carries. */
export type Item = Schema["ItemDetail"] & { raw?: string };

interface Page {
  items: Item[];
  next_cursor?: string | undefined;
}

/** What a call answers when it is made with `parseAs: "text"`, whatever the document says. */
type TextCall = Promise<{ data?: unknown; error?: unknown; response: Response }>;

export const AS_TEXT = { parseAs: "text" } as const;

/** An answer, and its very text. */
export interface Exact<T> {
  data: T;
  text: string;
}

export async function exact<T>(call: TextCall): Promise<Exact<T>> {
  const text = String(await answer(call));
  return { data: JSON.parse(text) as T, text };
}

/** What `path` leads to in `text`, which is valid JSON, letter by letter. */
export function textAt(text: string, path: readonly (string | number)[]): string | undefined {
  let here: string | undefined = text.trim();
  for (const step of path) here = here && /^[[{]/.test(here) ? partsOf(here).get(String(step)) : undefined;
  return here;
}

/** `members` as the text of an object, with `raw` among them letter by letter. */
export function objectText(members: object, raw: Record<string, string>): string {
  const parts = Object.entries(raw).map(([name, text]) => `${JSON.stringify(name)}:${text}`);
  return `{${[...parts, JSON.stringify(members).slice(1, -1)].filter(Boolean).join(",")}}`;
}

export async function exactItem(call: TextCall): Promise<Item> {
  const text = String(await answer(call));
  return withRaw(JSON.parse(text) as Item, text);
}

export async function exactItems(call: TextCall): Promise<Page> {
  const text = String(await answer(call));
  const page = JSON.parse(text) as Page;
  const items = partsOf(text).get("items") ?? "[]";
  const texts = [...partsOf(items).values()];
  return { ...page, items: page.items.map((item, at) => withRaw(item, texts[at] ?? "{}")) };
}

function withRaw(item: Item, text: string): Item {
  const raw = partsOf(text).get("json");
  return raw === undefined ? item : { ...item, raw };
}

/** The texts of the members of an object, by name, or of the elements of an array, by place. `text` is valid JSON. */
function partsOf(text: string): Map<string, string> {
  const parts = new Map<string, string>();
  let name: string | null = null;
  let began = 1;
  let depth = 0;
  for (const { at, token } of tokens(text)) {
    const closes = token === "}" || token === "]";
    if (depth === 1 && (token === "," || closes)) {
      const part = text.slice(began, at).trim();
      if (part !== "") parts.set(name ?? String(parts.size), part);
    }
    if (depth === 1 && token === ":") name = JSON.parse(text.slice(began, at)) as string;
    if (token === "{" || token === "[") depth += 1;
    if (closes) depth -= 1;
    if (depth === 1 && (token === "," || token === ":")) began = at + 1;
  }
  return parts;
}

/** `text`, which is valid JSON, with a line for each member and element; numbers and texts stay as they are written. */
export function indented(text: string): string {
  let out = "";
  let depth = 0;
  const line = (): string => `\n${"  ".repeat(depth)}`;
  let before = "";
  for (const { token } of tokens(text)) {
    const closes = token === "}" || token === "]";
    if (closes) depth -= 1;
    const isFirst = before === "{" || before === "[";
    if (closes ? !isFirst : isFirst || before === ",") out += line();
    out += token === ":" ? ": " : token;
    if (token === "{" || token === "[") depth += 1;
    before = token;
  }
  return out;
}

/** Brackets, commas, colons, texts, numbers and words, without the space between them. */
function* tokens(text: string): Generator<{ at: number; token: string }> {
  for (const match of text.matchAll(/[{}[\],:]|"[^"\\]*(?:\\.[^"\\]*)*"|[^\s{}[\],:"]+/g)) yield { at: match.index, token: match[0] };
}
