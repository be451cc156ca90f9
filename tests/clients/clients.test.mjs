// Clients that generators make of openapi/mqueue.json, each through the whole story against a real node.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Node } from "../../web/tests/node.mjs";
import { generatePython, generateTypeScript, generateTypeScriptFetch, isThere, place, prepare, root, run } from "./workshop.mjs";

const CLIENTS = ["python", "typescript", "typescript-fetch"];
const node = new Node({ quotas: CLIENTS.map((client) => `tiny-${client}:1:1`).join(",") });

before(async () => {
  await prepare();
  await node.start();
});
after(() => node.end());

/** What a story reads of its surroundings. */
const surroundings = (client) => ({
  MQUEUE_URL: node.url,
  MQUEUE_TOKEN: node.token(),
  MQUEUE_NAMESPACE: `story-${client}`,
  MQUEUE_TINY: `tiny-${client}`,
  MQUEUE_MODULE: join(root, "plugins/artefacts/validate.wasm"),
});

test("the Python client of openapi-python-client", async () => {
  assert.deepEqual(await generatePython(), []);
  await run("python", ["python/story.py"], { env: { ...surroundings("python"), PYTHONPATH: join(place, "python") } });
});

test("the TypeScript client of openapi-typescript and openapi-fetch", async () => {
  await generateTypeScript();
  await run("node", ["out/typescript/story.js"], { env: surroundings("typescript") });
});

test("the TypeScript client of openapi-generator", { skip: isThere("java") ? false : "openapi-generator needs Java" }, async () => {
  await generateTypeScriptFetch();
  await run("node", ["out/typescript-fetch/story.js"], { env: surroundings("typescript-fetch") });
});
