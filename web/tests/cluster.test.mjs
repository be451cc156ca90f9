// The page about nodes and shards, against a node with two shards.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { signIn } from "./browser.mjs";
import { LOOKS, becomes, consoleOfOneNode } from "./fixture.mjs";
import { Node } from "./node.mjs";

const folder = mkdtempSync(join(tmpdir(), "mqueue-shards-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const databases = [0, 1].map((shard) => `sqlite://${join(folder, `${shard}.db`)}?mode=rwc`);
const settings = (id) => [`storage.database_urls=${databases.join(",")}`, `node.id=${id}`, "node.claim=2s"];

const { node, pictured, signedIn, visit } = consoleOfOneNode({ settings: settings(1) });

const shard = (page, number) => page.getByRole("row", { name: new RegExp(`^${number} well `) });

test("slots move from shard to shard after a dry run that moves none, and back into balance", async () => {
  await signedIn(async (page) => {
    await page.getByRole("link", { name: "Node", exact: true }).click();
    await becomes(shard(page, 0), /2,048/);
    await page.getByRole("button", { name: "Move slots …" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("button", { name: "Dry run" }).click();
    await dialog.getByText("There is nothing to move.").waitFor();
    await dialog.getByLabel("So many that every shard").uncheck();
    await dialog.getByLabel("From shard").selectOption("0");
    await dialog.getByLabel("To shard").selectOption("0");
    await dialog.getByRole("button", { name: "Move", exact: true }).click();
    await dialog.getByRole("alert").waitFor();
    await dialog.getByLabel("To shard").selectOption("1");
    await dialog.getByRole("spinbutton", { name: "Slots" }).fill("48");
    await dialog.getByRole("button", { name: "Dry run" }).click();
    await dialog.getByText("48 slots would move from shard 0 to shard 1.").waitFor();
    assert.deepEqual((await node.call("GET", "/v1/shards")).moves, []);
    await dialog.getByRole("button", { name: "Move", exact: true }).click();
    await dialog.waitFor({ state: "detached" });
    await becomes(shard(page, 0), /2,000/);
    await becomes(shard(page, 1), /2,096/);
    await page.getByRole("button", { name: "Move slots …" }).click();
    await dialog.getByRole("button", { name: "Move", exact: true }).click();
    await becomes(shard(page, 0), /2,048/);
  });
});

test("a node that is lost is forgotten, once it was said what that costs", async () => {
  const other = new Node({ settings: settings(2) });
  await other.start();
  await other.stop("SIGKILL");
  await other.end();
  await signedIn(async (page) => {
    await visit(page, "/node");
    const lost = page.getByRole("row", { name: /^2 missing/ });
    await lost.getByRole("button", { name: "Forget …" }).click();
    const dialog = page.getByRole("dialog", { name: "Forget node 2" });
    await dialog.getByText("the items that only its log has are lost").waitFor();
    await dialog.getByRole("button", { name: "Forget", exact: true }).click();
    await lost.waitFor({ state: "detached" });
    const { nodes } = await node.call("GET", "/v1/nodes");
    assert.deepEqual(
      nodes.map(({ node: number, state }) => [number, state]),
      [[1, "running"]],
    );
  });
});

for (const look of LOOKS) {
  test(`nodes and shards are accessible and fit at ${look.width} px, ${look.scheme}`, async () => {
    const other = new Node({ settings: settings(3) });
    await other.start();
    await other.stop("SIGKILL");
    await other.end();
    await pictured(look, async (page, shot) => {
      await signIn(page, node.token());
      await page.getByRole("heading", { name: "Overview" }).waitFor();
      await visit(page, "/node");
      await page.getByRole("button", { name: "Forget …" }).waitFor();
      await shot("cluster");
      await page.getByRole("button", { name: "Move slots …" }).click();
      await page.getByLabel("So many that every shard").uncheck();
      await page.getByRole("button", { name: "Dry run" }).click();
      await page.getByRole("status").waitFor();
      await shot("cluster-move");
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Forget …" }).click();
      await shot("cluster-forget");
      await page.getByRole("button", { name: "Forget", exact: true }).click();
      await page.getByRole("button", { name: "Forget …" }).waitFor({ state: "detached" });
    });
  });
}
