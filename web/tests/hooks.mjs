// Hooks for the tests: those that are committed as modules, and one made of text.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const moduleOf = (name) => fileURLToPath(new URL(`../../plugins/artefacts/${name}.wasm`, import.meta.url));

/** The text of a hook that refuses payloads of more than `bytes` bytes. */
export const sizeHook = (bytes) =>
  readFileSync(new URL("../../plugins/examples/size/hook.wat", import.meta.url), "utf8").replace("(i32.const 4096))\n", `(i32.const ${bytes}))\n`);

/** The text of a hook that keeps every item and logs `text`, once a call. */
export const logHook = (text) =>
  readFileSync(new URL("../../plugins/fixtures/template.wat", import.meta.url), "utf8")
    .replace("(;IMPORTS;)", '(import "mqueue:hooks/log@0.1.0" "log" (func $log (param i32 i32 i32)))')
    .replace("(;FIELDS;)", `(data (i32.const 64) "${text}")`)
    .replace("(;BODY;)", `(call $log (i32.const 2) (i32.const 64) (i32.const ${text.length}))`);

/** Uploads a committed module beside the browser, and binds it under its name when `binding` is given. */
export async function push(node, namespace, hook, { config = {}, manifest, note, module = moduleOf(hook), binding } = {}) {
  const body = { module: readFileSync(module).toString("base64"), config, ...(manifest ? { manifest } : {}), ...(note ? { note } : {}) };
  const { version } = await node.call("POST", `/v1/namespaces/${namespace}/hooks/${hook}/versions`, body);
  if (binding) await node.call("PUT", `/v1/namespaces/${namespace}/bindings/${hook}`, { hook, version, ...binding }, { "if-none-match": "*" });
  return version;
}
