// Whether a real node does what openapi/mqueue.json says: requests that schemathesis makes of the document, and what their
// answers must be. Found would be an unexpected 5xx, a status, media type or header that is not documented, or an answer
// that does not fit its schema.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Node } from "../../web/tests/node.mjs";
import { document, prepare, root, run } from "./workshop.mjs";

/** How long each kind of test goes on making requests. */
const SECONDS = Number(process.env.SCHEMATHESIS_SECONDS ?? 45);
/** Streams end with the node only; /metrics is open to this machine without a token, which the document cannot say. */
const LEFT_OUT = ["--exclude-path", "/v1/events", "--exclude-path", "/metrics"];
const node = new Node();

before(async () => {
  await prepare();
  await node.start();
});
after(() => node.end());

/** Runs schemathesis with `more` arguments. */
async function schemathesis(config, more) {
  const args = ["--config-file", config, "run", document, "--url", node.url, "-H", `Authorization: Bearer ${node.token()}`];
  const bounds = ["--max-time", String(SECONDS), "--request-timeout", "30", "--workers", "2", "--no-color", "--warnings", "off"];
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await run("schemathesis", [...args, ...bounds, ...LEFT_OUT, ...more]);
    } catch (error) {
      // CPython 3.11 fails now and then while it reads its own sources deep in a recursion: that says nothing of the node.
      const isOfPython = error.message.includes("AST constructor recursion depth mismatch") && !error.message.includes("Failures:");
      if (!isOfPython || attempt === 3) throw error;
    }
  }
}

test("requests of every kind are answered as documented", async () => {
  await schemathesis("schemathesis.toml", ["--phases", "examples,coverage,fuzzing"]);
});

test("requests about what is there are answered as documented", async () => {
  const ns = "/v1/namespaces/there";
  const module = readFileSync(join(root, "plugins/artefacts/validate.wasm")).toString("base64");
  await node.call("POST", `${ns}/hooks/check/versions`, { module, config: { schema: { type: "object" } }, manifest: { keep_failures: true } });
  await node.call("PUT", `${ns}/bindings/check`, { topic: "orders", side: "enqueue", hook: "check", version: 1 }, { "if-none-match": "*" });
  await node.call("PUT", `${ns}/hooks/check/tests/passes`, { side: "enqueue", item: { json: {} }, expect: { verdict: "keep" } });
  const [id] = await node.enqueue("there", "orders", [{ json: { a: 1 }, headers: { b: "c" } }, { json: { a: 2 } }, { json: { a: 3 }, delay_ms: 3_600_000 }]);
  await node.kill("there", "orders", 1, "gone");
  const config = join(root, "target/clients/there.toml");
  const names = { ns: "there", topic: "orders", hook: "check", binding: "check", test: "passes", version: 1, id, code: "invalid_field" };
  const lines = Object.entries(names).map(([name, value]) => `"path.${name}" = ${JSON.stringify(value)}`);
  writeFileSync(config, `[parameters]\n${lines.join("\n")}\n\n${readFileSync(join(root, "tests/clients/schemathesis.toml"), "utf8")}`);
  await schemathesis(config, ["--phases", "coverage,fuzzing", "--mode", "positive", "--exclude-method", "DELETE"]);
});
