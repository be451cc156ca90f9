// The console's pages of hooks in a real browser, against a real node.
import assert from "node:assert/strict";
import { test } from "node:test";
import { signIn } from "./browser.mjs";
import { LOOKS, becomes, consoleOfOneNode } from "./fixture.mjs";
import { logHook, moduleOf, push, sizeHook } from "./hooks.mjs";

const { node, pictured, signedIn, visit } = consoleOfOneNode();

const SCHEMA = { type: "object", required: ["total"] };
const redactCase = {
  side: "dequeue",
  item: { json: { email: "ada@example.com" } },
  expect: { verdict: "deliver_as", json: { email: "***" } },
};

test("a hook is uploaded as a file, bound, and decides about items", async () => {
  await node.enqueue("shop", "checked", [{ json: { total: 1 } }]);
  await signedIn(async (page) => {
    await page.getByRole("link", { name: "Hooks" }).click();
    await page.getByText("The namespace has no hooks").waitFor();
    await page.getByRole("button", { name: "Upload a hook" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Name").fill("validate");
    await dialog.locator("input[type=file]").setInputFiles(moduleOf("validate"));
    await dialog.getByLabel("Configuration").fill("[]");
    await dialog.getByRole("button", { name: "Upload" }).click();
    await dialog.getByText("The configuration is no JSON object").waitFor();
    await dialog.getByLabel("Configuration").fill(JSON.stringify({ schema: SCHEMA }));
    await dialog.getByLabel("Note").fill("the first");
    await dialog.getByRole("button", { name: "Upload" }).click();
    await dialog.getByText("Version 1 of validate was added").waitFor();
    await dialog.getByRole("button", { name: "Go on" }).click();
    await page.getByRole("heading", { name: "shop/validate" }).waitFor();
    await page.getByRole("button", { name: "Bind to a topic" }).click();
    await dialog.getByLabel("Topic").fill("checked");
    await dialog.getByRole("button", { name: "Bind" }).click();
    await page.getByRole("article", { name: "Binding validate" }).waitFor();
    const path = "/v1/namespaces/shop/topics/checked/enqueue";
    const { results } = await node.call("POST", path, { items: [{ json: {} }, { json: { total: 2 } }] });
    assert.deepEqual(results.map((result) => result.status), ["rejected", "accepted"]);
    await page.getByRole("cell", { name: /reject 1/ }).waitFor();
  });
});

test("try it shows the verdict and the difference, and keeps a case", async () => {
  await push(node, "shop", "redact", { config: { fields: ["email"] } });
  await node.enqueue("shop", "people", [{ json: { email: "bob@example.com" } }, { json: { name: "Eve" } }]);
  await signedIn(async (page) => {
    await visit(page, "/hooks/shop/redact?tab=try");
    await page.getByLabel("Payload", { exact: true }).fill('{"email":"ada@example.com","n":1}');
    await page.getByRole("button", { name: "Try it" }).click();
    const outcome = page.getByRole("region", { name: "What it would do" });
    await outcome.getByText("deliver as").first().waitFor();
    const lines = await outcome.getByRole("group", { name: "Difference" }).innerText();
    assert.match(lines, /− \/email "ada@example.com"\s+\+ \/email "\*\*\*"/);
    await outcome.getByRole("button", { name: "Keep as a test case" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Name").fill("masks-email");
    await dialog.getByRole("button", { name: "Store" }).click();
    await dialog.waitFor({ state: "detached" });
    await page.getByLabel("Topic").fill("people");
    await page.getByRole("button", { name: "Items of the topic" }).click();
    await page.getByRole("button", { name: "Try it" }).click();
    await outcome.getByText("deliver as 1").waitFor();
    await outcome.getByText("deliver 1", { exact: true }).waitFor();
    const stats = await node.call("GET", "/v1/namespaces/shop/topics/people/stats");
    assert.deepEqual([stats.ready, stats.leased, stats.delivered_total], [2, 0, 0]);
    await page.getByRole("link", { name: "Test cases" }).click();
    await page.getByRole("button", { name: "Run all" }).click();
    await page.getByText("1 passed, 0 failed").waitFor();
  });
});

test("numbers that JavaScript cannot hold are tried, kept and stored as they were typed", async () => {
  await push(node, "shop", "exactly", { module: moduleOf("redact"), config: { fields: ["email"] } });
  await signedIn(async (page) => {
    await visit(page, "/hooks/shop/exactly?tab=try");
    await page.getByLabel("Payload", { exact: true }).fill('{"id":12345678901234567890,"price":1.10,"email":9007199254740993}');
    await page.getByRole("button", { name: "Try it" }).click();
    const outcome = page.getByRole("region", { name: "What it would do" });
    const lines = outcome.getByRole("group", { name: "Difference" });
    await becomes(lines, /− \/email 9007199254740993\s*\+ \/email "\*\*\*"/);
    await becomes(outcome.locator("pre"), /"id": 12345678901234567890/);
    await outcome.getByRole("button", { name: "Keep as a test case" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Name").fill("exact");
    assert.match(await dialog.locator("textarea").inputValue(), /"id": 12345678901234567890,\s+"price": 1\.10,\s+"email": 9007199254740993/);
    await dialog.getByRole("button", { name: "Store" }).click();
    await dialog.waitFor({ state: "detached" });
    await page.getByRole("link", { name: "Test cases" }).click();
    await page.getByRole("button", { name: "exact", exact: true }).click();
    assert.match(await dialog.locator("textarea").inputValue(), /"id": 12345678901234567890,\s+"price": 1\.10,\s+"email": 9007199254740993/);
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Upload a version" }).click();
    await dialog.getByLabel("Configuration").fill('{"fields": ["email"], "seed": 12345678901234567890}');
    await dialog.getByRole("button", { name: "Upload", exact: true }).click();
    await dialog.getByRole("button", { name: "Go on" }).click();
    await page.getByRole("button", { name: "Upload a version" }).click();
    assert.match(await dialog.getByLabel("Configuration").inputValue(), /"seed": 12345678901234567890/);
  });
});

test("a payload that is no JSON is told, and so is a header without a colon", async () => {
  await push(node, "shop", "typos", { module: moduleOf("redact"), config: { fields: ["email"] } });
  await signedIn(async (page) => {
    await visit(page, "/hooks/shop/typos?tab=try");
    await page.getByLabel("Payload", { exact: true }).fill("{");
    await page.getByRole("button", { name: "Try it" }).click();
    await page.getByRole("alert").waitFor();
    await page.getByLabel("Payload", { exact: true }).fill("{}");
    await page.getByLabel("Headers").fill("no colon");
    await page.getByRole("button", { name: "Try it" }).click();
    await page.getByRole("alert").getByText("is no header").waitFor();
  });
});

test("a canary is begun, promoted and rolled back, and a change behind one's back is refused", async () => {
  await push(node, "shop", "size", { module: moduleOf("validate"), config: { schema: SCHEMA }, binding: { topic: "sized", side: "enqueue" } });
  await signedIn(async (page) => {
    await visit(page, "/hooks/shop/size");
    await page.getByRole("button", { name: "Upload a version" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("button", { name: "WebAssembly text" }).click();
    await dialog.locator("textarea").first().fill(sizeHook(8));
    await dialog.getByRole("button", { name: "Upload" }).click();
    await dialog.getByText("Version 2 of size was added").waitFor();
    await dialog.getByRole("button", { name: "Go on" }).click();
    const card = page.getByRole("article", { name: "Binding size" });
    await card.getByRole("button", { name: "Activate" }).click();
    await dialog.getByLabel("Canary, percent").fill("10");
    await dialog.getByRole("button", { name: "Activate" }).click();
    await card.getByText("version 2, 10 % of the items").waitFor();
    await card.getByRole("button", { name: "Promote version 2" }).click();
    await card.getByRole("button", { name: "Roll back to version 1" }).click();
    await card.getByText("version 1", { exact: true }).waitFor();
    await card.getByRole("button", { name: "Edit" }).click();
    await node.call("POST", "/v1/namespaces/shop/bindings/size/activate", { version: 2 }, { "if-match": "*" });
    await dialog.getByLabel("Order in the chain").fill("5");
    await dialog.getByRole("button", { name: "Save" }).click();
    await dialog.getByText("somebody changed it meanwhile").waitFor();
    await page.keyboard.press("Escape");
    await card.getByText("version 2", { exact: true }).waitFor();
    await card.getByRole("button", { name: "Unbind" }).click();
    await dialog.getByRole("button", { name: "Unbind" }).click();
    await page.getByText("No topic uses the hook").waitFor();
    assert.deepEqual((await node.call("GET", "/v1/namespaces/shop/hooks/size")).bindings, []);
  });
});

test("the log comes live, and failures keep what the hook was given", async () => {
  await node.call("POST", "/v1/namespaces/shop/hooks/talks/versions", { wat: logHook("seen by the hook") });
  await node.call("PUT", "/v1/namespaces/shop/bindings/talks", { hook: "talks", version: 1, topic: "talk", side: "enqueue" }, { "if-none-match": "*" });
  await push(node, "shop", "broken", { module: moduleOf("validate"), manifest: { keep_failures: true }, binding: { topic: "breaks", side: "enqueue", policies: { error: "open" } } });
  await signedIn(async (page) => {
    await visit(page, "/hooks/shop/talks?tab=log");
    await page.getByText("Nothing was logged yet").waitFor();
    await node.enqueue("shop", "talk", [{ text: "a" }]);
    await page.getByRole("cell", { name: "seen by the hook" }).waitFor();
    await page.getByLabel("From").selectOption("error");
    await page.getByText("Nothing was logged yet").waitFor();
    await node.enqueue("shop", "breaks", [{ json: { secret: "kept" } }]);
    await visit(page, "/hooks/shop/broken?tab=failures");
    await page.locator("[data-row]").first().click();
    await page.getByRole("dialog").getByText('"secret": "kept"').waitFor();
  });
});

test("what a shadow says otherwise is shown beside what counts", async () => {
  await push(node, "shop", "masks", { module: moduleOf("redact"), config: { fields: ["email"] } });
  await push(node, "shop", "masks", { module: moduleOf("redact"), config: { fields: ["email", "phone"] } });
  const bound = { hook: "masks", version: 1, shadow: 2, shadow_percent: 100, topic: "masked", side: "dequeue" };
  await node.call("PUT", "/v1/namespaces/shop/bindings/masks", bound, { "if-none-match": "*" });
  await signedIn(async (page) => {
    await visit(page, "/hooks/shop/masks?tab=shadows");
    await page.getByText("The shadow said nothing else").waitFor();
    await node.enqueue("shop", "masked", [{ json: { email: "a@example.com", phone: "555" } }]);
    await node.call("POST", "/v1/namespaces/shop/topics/masked/dequeue", { max: 1 });
    await page.locator("[data-row]").first().click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("region", { name: "Version 1, which counted" }).getByText('"phone": "555"').waitFor();
    await dialog.getByRole("region", { name: "Version 2, the shadow" }).getByText('"phone": "***"').waitFor();
    const lines = dialog.getByRole("region", { name: "How the payloads differ" }).getByRole("group", { name: "Difference" });
    await becomes(lines, /− \/phone "555"\s*\+ \/phone "\*\*\*"/);
  });
});

test("a version that no binding names is deleted, and the hook with the last", async () => {
  await push(node, "shop", "leaves", { module: moduleOf("redact"), config: { fields: ["email"] } });
  await signedIn(async (page) => {
    await visit(page, "/hooks/shop/leaves?tab=versions");
    await page.getByRole("button", { name: "Delete" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("the hook goes with it").waitFor();
    await dialog.getByRole("button", { name: "Delete" }).click();
    await page.getByText("no hook of that name", { exact: false }).waitFor();
  });
});

test("a token for hooks alone is told why it sees no items", async () => {
  await signedIn(
    async (page) => {
      await page.getByText("Topics, items and quotas are shown to tokens with one of the scopes").waitFor();
      assert.equal(await page.locator(".chart").count(), 0);
      assert.equal(await page.getByRole("link", { name: "Topics", exact: true }).count(), 0);
    },
    { namespace: "shop", scopes: ["hooks"] },
  );
});

test("who may not touch hooks sees none of them", async () => {
  await signedIn(
    async (page) => {
      await page.getByRole("link", { name: "Topics", exact: true }).waitFor();
      assert.equal(await page.getByRole("link", { name: "Hooks" }).count(), 0);
    },
    { namespace: "shop", scopes: ["enqueue", "dequeue", "admin"] },
  );
});

for (const look of LOOKS) {
  test(`every view of hooks is accessible and fits at ${look.width} px, ${look.scheme}`, async () => {
    const namespace = `look-${look.width}-${look.scheme}`;
    await push(node, namespace, "redact", {
      config: { fields: ["email", "phone"] },
      manifest: { description: "Masks personal data on delivery." },
      note: "email and phone",
      binding: { topic: "orders", side: "dequeue", policies: { trap: "dead_letter" }, auto_rollback: true },
    });
    await push(node, namespace, "redact", { config: { fields: ["email", "phone", "iban"] }, note: "the IBAN too" });
    await push(node, namespace, "validate", {
      config: {},
      manifest: { description: "Refuses what does not fit its schema.", keep_failures: true },
      binding: { topic: "orders*", side: "enqueue", policies: { error: "open" } },
    });
    await push(node, namespace, "validate", { config: { schema: SCHEMA }, note: "with a schema" });
    const shadowed = { hook: "validate", version: 1, shadow: 2, shadow_percent: 100, topic: "orders*", side: "enqueue", policies: { error: "open" } };
    await node.call("PUT", `/v1/namespaces/${namespace}/bindings/validate`, shadowed, { "if-match": "*" });
    await node.call("PUT", `/v1/namespaces/${namespace}/hooks/redact/tests/masks-email`, redactCase);
    await node.call("PUT", `/v1/namespaces/${namespace}/hooks/redact/tests/text-passes`, { side: "dequeue", item: { text: "a" }, expect: { verdict: "defer" } });
    await node.call("POST", `/v1/namespaces/${namespace}/hooks/talks/versions`, { wat: logHook("an order came by") });
    await node.call("PUT", `/v1/namespaces/${namespace}/bindings/talks`, { hook: "talks", version: 1, topic: "orders", side: "enqueue" }, { "if-none-match": "*" });
    await node.enqueue(namespace, "orders", Array.from({ length: 4 }, (_, at) => ({ json: { order: at, email: `c${at}@example.com` } })));
    await node.call("POST", `/v1/namespaces/${namespace}/topics/orders/dequeue`, { max: 2 });
    await node.call("POST", `/v1/namespaces/${namespace}/bindings/redact/activate`, { version: 2, canary_percent: 10, force: true }, { "if-match": "*" });
    await pictured(look, async (page, shot) => {
      await signIn(page, node.token());
      await page.getByRole("heading", { name: "Overview" }).waitFor();
      await visit(page, `/hooks?ns=${namespace}`);
      await page.getByRole("link", { name: "redact" }).waitFor();
      await shot("hooks");
      await page.getByRole("button", { name: "Upload a hook" }).click();
      await page.getByRole("dialog").waitFor();
      await shot("hook-upload");
      await visit(page, `/hooks/${namespace}/redact`);
      await page.getByText("10 % of the items").waitFor();
      await shot("hook");
      await page.getByRole("button", { name: "Edit" }).click();
      await page.getByRole("dialog").waitFor();
      await shot("hook-binding");
      await visit(page, `/hooks/${namespace}/redact?tab=versions`);
      await page.getByText("the IBAN too").waitFor();
      await shot("hook-versions");
      await visit(page, `/hooks/${namespace}/redact?tab=try`);
      await page.getByLabel("Payload", { exact: true }).fill('{\n  "order": 7,\n  "email": "ada@example.com",\n  "phone": "555-1234"\n}');
      await page.getByRole("button", { name: "Try it" }).click();
      await page.getByRole("group", { name: "Difference" }).waitFor();
      await shot("hook-try");
      await page.getByRole("button", { name: "Items of the topic" }).click();
      await page.getByRole("button", { name: "Try it" }).click();
      await page.locator("details.card").nth(1).waitFor();
      await shot("hook-try-topic");
      await visit(page, `/hooks/${namespace}/redact?tab=tests`);
      await page.getByRole("button", { name: "Run all" }).click();
      await page.getByText("1 passed, 1 failed").waitFor();
      await shot("hook-tests");
      await visit(page, `/hooks/${namespace}/talks?tab=log`);
      await page.getByRole("cell", { name: "an order came by" }).waitFor();
      await shot("hook-log");
      await visit(page, `/hooks/${namespace}/validate?tab=failures`);
      await page.locator("[data-row]").first().waitFor();
      await shot("hook-failures");
      await visit(page, `/hooks/${namespace}/validate?tab=shadows`);
      await page.locator("[data-row]").first().waitFor();
      await shot("hook-shadows");
    });
  });
}
