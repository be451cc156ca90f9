// Makes README's pictures of the console, docs/images, of a node with some traffic. To be run on a machine that is quiet
// otherwise: the pictures show latencies.
import { fileURLToPath } from "node:url";
import { launch, open, signIn } from "../tests/browser.mjs";
import { push } from "../tests/hooks.mjs";
import { Node } from "../tests/node.mjs";

const TRAFFIC_MS = 75_000;
const SIZE = { width: 1200, height: 800 };
const picture = (name) => fileURLToPath(new URL(`../../docs/images/${name}.png`, import.meta.url));
const between = (least, most) => least + Math.random() * (most - least);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Orders that come and go, now more and now less of them, until `end`. */
async function trade(node, end) {
  const token = node.token();
  const post = async (path, body) => {
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const response = await fetch(node.url + path, { method: "POST", headers, body: JSON.stringify(body) });
    return response.json();
  };
  const acks = [];
  for (let level = 8; Date.now() < end; level = Math.max(3, Math.min(24, level + Math.round(between(-4, 4))))) {
    const topic = `/v1/namespaces/shop/topics/${["orders", "invoices", "mails"][Math.floor(between(0, 3))]}`;
    await post(`${topic}/enqueue`, { items: Array.from({ length: level }, (_, order) => ({ json: { order, email: "ada@example.com" } })) });
    const { items } = await post(`${topic}/dequeue`, { max: level, wait_ms: 100 });
    const leases = items.map(({ lease_id }) => ({ lease_id }));
    if (leases.length > 0) acks.push(pause(between(150, 650)).then(() => post("/v1/ack", { leases })));
    await pause(between(60, 220));
  }
  await Promise.all(acks);
}

const node = new Node();
await node.start();
const browser = await launch();
try {
  const binding = { topic: "orders", side: "dequeue" };
  await push(node, "shop", "redact", { config: { fields: ["email", "phone"] }, manifest: { description: "Masks personal data on delivery." }, note: "email and phone", binding });
  await node.enqueue("shop", "reminders", Array.from({ length: 40 }, (_, at) => ({ text: `reminder ${at}`, delay_ms: 3_600_000 })));
  await node.enqueue("warehouse", "failed", [{ text: "x" }, { text: "y" }, { text: "z" }]);
  await node.kill("warehouse", "failed", 2, "the scanner did not answer");
  const { page, end } = await open(browser, node.url, SIZE);
  await signIn(page, node.token());
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  const trading = trade(node, Date.now() + TRAFFIC_MS);
  await pause(TRAFFIC_MS - 2_000);
  await page.screenshot({ path: picture("console-overview") });
  await trading;
  await page.goto(`${node.url}/console/hooks/shop/redact?tab=try`);
  await page.getByLabel("Payload", { exact: true }).fill('{\n  "order": 7,\n  "email": "ada@example.com",\n  "phone": "555-1234"\n}');
  await page.getByRole("button", { name: "Try it" }).click();
  await page.getByRole("group", { name: "Difference" }).waitFor();
  await page.setViewportSize({ ...SIZE, height: 900 });
  const { y } = await page.locator("main").boundingBox();
  await page.screenshot({ path: picture("console-hook"), clip: { x: 0, y, width: SIZE.width, height: 740 } });
  await end();
} finally {
  await browser.close();
  await node.end();
}
