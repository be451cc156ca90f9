// A node and a browser for one file of tests.
import { mkdirSync } from "node:fs";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { hold, launch, open, signIn } from "./browser.mjs";
import { Node } from "./node.mjs";

const SCREENSHOTS = fileURLToPath(new URL("../../target/screenshots/", import.meta.url));

/** Starts both, the node with `options`, before the tests of the file that calls it, and ends them afterwards. */
export function consoleOfOneNode(options = {}) {
  const node = new Node(options);
  let browser;
  before(async () => {
    mkdirSync(SCREENSHOTS, { recursive: true });
    await node.start();
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await node.end();
  });
  const opened = (options) => open(browser, node.url, options);
  return {
    node,
    opened,
    /** Goes to a place of the console without losing what the tab holds. */
    visit: (page, path) => page.goto(`${node.url}/console${path}`),
    /** Runs `steps` on a page that is signed in. */
    async signedIn(steps, claims = {}) {
      const { page, end } = await opened();
      // Made only now: some do not last long.
      await signIn(page, node.token(claims));
      await page.getByRole("heading", { name: "Overview" }).waitFor();
      await steps(page);
      await end();
    },
    /** Holds views to what every view is held to, at one size and in one colour scheme, and keeps their pictures. */
    async pictured({ width, scheme }, steps) {
      const { page, end } = await opened({ width, height: width === 320 ? 720 : 900, scheme });
      await steps(page, async (name) => {
        await hold(page, name);
        await page.screenshot({ path: `${SCREENSHOTS}${name}-${width}-${scheme}.png`, fullPage: true });
      });
      await end();
    },
  };
}

/** The sizes and colour schemes every view is looked at in. */
export const LOOKS = [320, 1440].flatMap((width) => ["light", "dark"].map((scheme) => ({ width, scheme })));

/** The number of a tile. */
export const tile = (page, name) => page.locator(".tile", { has: page.locator("dt", { hasText: new RegExp(`^${name}$`) }) }).locator("dd");

/** Waits until `locator` has `text`. */
export const becomes = async (locator, text) => locator.filter({ hasText: text }).waitFor();
