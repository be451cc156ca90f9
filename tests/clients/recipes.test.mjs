// The commands and programs of docs/CLIENTS.md, run as a reader would: a block fenced as `sh` runs, in order, in one bash; the
// `text` right after it is what it must print, where white space is free and `…` stands for anything; a block fenced with a
// file's name is that file. Where a block's tool is not there, such as go, it is left out. The Rust program is run by
// tests/it/clients.rs, which need not build anything for it.
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Node } from "../../web/tests/node.mjs";
import { isThere, place, prepare, root, run } from "./workshop.mjs";

const node = new Node();
const folder = join(place, "recipes");

before(async () => {
  await prepare();
  await node.start();
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, "target/release"), { recursive: true });
  // The page's `mqueue token` reads the key of a node in the folder; this one is elsewhere.
  const token = join(folder, "target/release/mqueue");
  writeFileSync(token, `#!/bin/sh\nexec ${node.command} "$@" ${node.where.join(" ")}\n`);
  chmodSync(token, 0o755);
});
after(() => node.end());

/** Fenced blocks, with the words they are fenced as. */
function blocks(text) {
  const found = [...text.matchAll(/^```(.+)\n([\s\S]*?)^```$/gm)];
  return found.map(([, words, body]) => ({ kind: words.split(" ")[0], file: words.split(" ")[1], body }));
}

/** Whether `printed` is what the page shows. */
function isAsShown(shown, printed) {
  const bare = (text) => text.replaceAll(/\s/g, "");
  const parts = bare(shown).split("…").map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`, "s").test(bare(printed));
}

/** The program a block begins with; bash itself where it begins with a word of its own, and what a program is made for. */
const toolOf = (body) => (/^(export|call)\b/.test(body) ? "bash" : /^openapi-generator-cli\b/.test(body) ? "java" : body.split(" ")[0]);

test("every recipe does what it says", async () => {
  const all = blocks(readFileSync(join(root, "docs/CLIENTS.md"), "utf8"));
  for (const { file, body } of all.filter(({ file }) => file)) writeFileSync(join(folder, file), body);
  let variables = "";
  let count = 0;
  for (const [at, { kind, body }] of all.entries()) {
    if (kind !== "sh" || !isThere(toolOf(body))) continue;
    count += 1;
    const commands = body.replaceAll("http://127.0.0.1:8080", node.url);
    const printed = await run("bash", ["-euo", "pipefail", "-s"], { cwd: folder, input: `${variables}\n${commands}` });
    if (body.startsWith("export")) variables = commands;
    const next = all[at + 1];
    if (next?.kind === "text") assert.ok(isAsShown(next.body, printed), `${body}\nprinted\n${printed}\nand not\n${next.body}`);
  }
  assert.ok(count >= 6, `${count} blocks ran`);
});
