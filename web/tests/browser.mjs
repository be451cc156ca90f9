// Chromium of this machine, and what every page of the console is held to.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/usr/bin/google-chrome-stable"];
/** Longer than anything here takes on a busy machine: what meets it is missing. */
const PATIENCE_MS = 60_000;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export async function launch() {
  const executablePath = process.env.CHROMIUM ?? PLACES.find(existsSync);
  assert.ok(executablePath, "no Chromium: install it (apt-get install chromium) or name it in CHROMIUM");
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/** A page at `url` that fails the test for requests elsewhere, scripts that throw and refused content. */
export async function open(browser, url, { width = 1440, height = 900, scheme = "light" } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, reducedMotion: "reduce" });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const faults = [];
  page.on("request", (request) => {
    if (!request.url().startsWith(`${url}/`) && !request.url().startsWith("blob:")) faults.push(`request to ${request.url()}`);
    if (/eyJ/.test(request.url())) faults.push(`a token in ${request.url()}`);
  });
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => {
    if (/Content Security Policy/.test(message.text())) faults.push(message.text());
  });
  await page.goto(`${url}/console`);
  return {
    page,
    async end() {
      await context.close();
      assert.deepEqual(faults, []);
    },
  };
}

export async function signIn(page, token) {
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
}

/** No rule of WCAG 2.2 A and AA is broken, and the page is no wider than its window. */
export async function hold(page, where) {
  // The content policy lets no script in; what the debugger evaluates is not bound by it.
  await page.evaluate(AXE);
  const broken = await page.evaluate(async () => {
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
    const { violations } = await globalThis.axe.run(document, { runOnly: tags });
    return violations.map((rule) => `${rule.id}: ${rule.nodes.map((node) => `${node.html} ${node.failureSummary}`).join("\n  ")}`);
  });
  assert.deepEqual(broken, [], where);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(wider, 0, `${where} is ${wider} pixels wider than its window`);
}
