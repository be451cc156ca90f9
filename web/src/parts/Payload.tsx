import { useState } from "preact/hooks";
import { indented, type Item as Whole } from "../api/exact";
import { Copy } from "./Copy";

type Item = Pick<Whole, "raw" | "text" | "payload">;
type View = "json" | "text" | "hex";

const HEX_BYTES_MAX = 16 << 10;

export function bytesOf(item: Item): Uint8Array {
  if (item.raw !== undefined) return new TextEncoder().encode(item.raw);
  if (item.text !== undefined) return new TextEncoder().encode(item.text);
  return Uint8Array.from(atob(item.payload ?? ""), (letter) => letter.charCodeAt(0));
}

function asJson(text: string): string | null {
  try {
    JSON.parse(text);
    return indented(text);
  } catch {
    return null;
  }
}

/** Offset, sixteen bytes, and the letters among them. */
function asHex(bytes: Uint8Array): string {
  const rows: string[] = [];
  for (let at = 0; at < Math.min(bytes.length, HEX_BYTES_MAX); at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    const digits = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const letters = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    rows.push(`${at.toString(16).padStart(6, "0")}  ${digits.padEnd(47)}  ${letters}`);
  }
  if (bytes.length > HEX_BYTES_MAX) rows.push(`… ${bytes.length - HEX_BYTES_MAX} bytes more`);
  return rows.join("\n");
}

/** An item's payload in the form one asks for. */
export function Payload({ item }: { item: Item }) {
  const bytes = bytesOf(item);
  const text = new TextDecoder().decode(bytes);
  const json = asJson(text);
  const [view, setView] = useState<View>(json !== null ? "json" : item.text !== undefined ? "text" : "hex");
  const shown = view === "json" ? (json ?? "This is no JSON.") : view === "text" ? text : asHex(bytes);
  return (
    <section class="payload" aria-label="Payload">
      <div class="bar">
        <div role="group" aria-label="Payload as" class="choice">
          {(["json", "text", "hex"] as const).map((name) => (
            <button key={name} type="button" aria-pressed={view === name} onClick={() => setView(name)}>
              {name === "json" ? "JSON" : name}
            </button>
          ))}
        </div>
        <span class="dim num">{bytes.length} bytes</span>
        <Copy text={text} />
      </div>
      <pre tabIndex={0}>{shown}</pre>
    </section>
  );
}
