// Where clients are generated and run: target/clients, with the tools of requirements.txt and package.json in it. The tools
// stay there until their list changes.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
export const root = fileURLToPath(new URL("../..", import.meta.url));
export const place = join(root, "target/clients");
export const document = join(root, "openapi/mqueue.json");
const bin = join(place, "venv/bin");

/** Runs a program and gives what it printed; what it printed is in the error when it fails. */
export async function run(program, args, { env = {}, cwd = place, input = "" } = {}) {
  const path = `${bin}:${process.env.PATH}`;
  const child = spawn(program, args, { cwd, env: { ...process.env, PATH: path, ...env }, stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (said += text));
  child.stdin.end(input);
  const [status] = await once(child, "close");
  if (status !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${status}:\n${said.slice(-20_000)}`);
  return said;
}

export const isThere = (program) => spawnSync("sh", ["-c", `command -v ${program}`]).status === 0;

/** Does `make` unless it was done for the same `lists`. */
async function unlessDone(stamp, lists, make) {
  const wanted = createHash("sha256").update(lists.map((file) => readFileSync(join(here, file))).join("\n")).digest("hex");
  const file = join(place, stamp);
  if (existsSync(file) && readFileSync(file, "utf8") === wanted) return;
  rmSync(file, { force: true });
  await make();
  writeFileSync(file, wanted);
}

/** Puts sources and tools into the place. */
export async function prepare() {
  mkdirSync(place, { recursive: true });
  for (const entry of readdirSync(here)) cpSync(join(here, entry), join(place, entry), { recursive: true });
  await unlessDone("python.stamp", ["requirements.txt"], async () => {
    rmSync(join(place, "venv"), { recursive: true, force: true });
    await run("python3", ["-m", "venv", "venv"]);
    await run(join(bin, "pip"), ["install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"]);
  });
  await unlessDone("node.stamp", ["package-lock.json"], () => run("npm", ["ci", "--silent", "--no-fund", "--no-audit"]));
}

/** The client of openapi-python-client, as the package `mqueue_client` below python/. */
export async function generatePython() {
  const args = ["generate", "--path", document, "--config", "openapi-python-client.yaml", "--meta", "none"];
  const said = await run("openapi-python-client", [...args, "--output-path", "python/mqueue_client", "--overwrite"]);
  // The one thing it cannot do, for a body that has other media types too.
  return said.match(/^.*(?:WARNING|Unable|Unsupported|not processed|Error).*$/gm)?.filter((line) => !/text\/wat|versions within hooks/.test(line)) ?? [];
}

/** The types of openapi-typescript, for openapi-fetch, checked and compiled. */
export async function generateTypeScript() {
  await run("node_modules/.bin/openapi-typescript", [document, "-o", "typescript/schema.ts"]);
  await run("node_modules/.bin/tsc", ["-p", "typescript"]);
}

/** The client of openapi-generator's typescript-fetch, checked and compiled. */
export async function generateTypeScriptFetch() {
  rmSync(join(place, "typescript-fetch/generated"), { recursive: true, force: true });
  const args = ["generate", "-g", "typescript-fetch", "-i", document, "-o", "typescript-fetch/generated"];
  await run("openapi-generator-cli", [...args, "--additional-properties=importFileExtension=.js"]);
  await run("node_modules/.bin/tsc", ["-p", "typescript-fetch"]);
}

/** A committed document, as JSON. */
export const openapi = (name) => JSON.parse(readFileSync(join(root, "openapi", name), "utf8"));
