// A node with more topics than the stream of events carries.
import assert from "node:assert/strict";
import { test } from "node:test";
import { becomes, consoleOfOneNode, tile } from "./fixture.mjs";

const { node, signedIn, visit } = consoleOfOneNode();

test("a topic beyond the first thousand is opened by its address, and the lists say that there are more", async () => {
  const items = Array.from({ length: 1_001 }, (_, at) => ({ namespace: "many", topic: `t${String(at).padStart(4, "0")}`, payload: "YQ==" }));
  // The first version's route takes items of any topics.
  for (const some of [items.slice(0, 500), items.slice(500)]) await node.call("POST", "/enqueue", some);
  await node.enqueue("many", "z-last", [{ json: { order: 1 } }]);
  await signedIn(async (page) => {
    await page.getByText("2 topics more are not shown").waitFor();
    await visit(page, "/topics?q=t0001");
    await page.getByText("2 topics more are not shown").waitFor();
    await visit(page, "/namespaces");
    await becomes(page.getByRole("row", { name: /^many/ }), "1,002");
    await visit(page, "/topics/many/z-last");
    await page.getByRole("cell", { name: '{"order":1}' }).waitFor();
    await node.enqueue("many", "z-last", [{ json: { order: 2 } }]);
    await becomes(tile(page, "Ready"), /^2$/);
    await page.getByRole("cell", { name: '{"order":2}' }).waitFor();
    await page.getByRole("link", { name: "Charts" }).click();
    await page.getByText("as far as this node remembers").waitFor();
    await visit(page, "/topics/many/nowhere");
    await page.getByText("The topic has no items").waitFor();
    const send = await page.getByRole("button", { name: "Send a test item" }).boundingBox();
    assert.ok(send.width < 300, `the button is ${send.width} pixels wide`);
  });
});
