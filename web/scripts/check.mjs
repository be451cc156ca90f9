// Whether src/api/schema.ts and dist are what their sources make: builds both again, elsewhere, and compares.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const web = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "mqueue-dist-"));
const run = (name, ...args) => execFileSync(join(web, "node_modules/.bin", name), args, { cwd: web, stdio: ["ignore", "ignore", "inherit"] });

/** Every file below `root` with its content. */
function files(root) {
  const names = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = names.map((entry) => join(entry.parentPath, entry.name));
  return new Map(paths.map((path) => [path.slice(root.length), readFileSync(path)]));
}

try {
  const schema = join(folder, "schema.ts");
  run("openapi-typescript", "../openapi/mqueue.json", "-o", schema);
  if (!readFileSync(schema).equals(readFileSync(join(web, "src/api/schema.ts")))) {
    throw new Error("src/api/schema.ts is not what openapi/mqueue.json makes");
  }
  run("tsc", "--noEmit");
  const dist = join(folder, "dist");
  run("vite", "build", "--logLevel", "warn", "--outDir", dist, "--emptyOutDir");
  const [made, kept] = [files(dist), files(join(web, "dist"))];
  const names = new Set([...made.keys(), ...kept.keys()]);
  const differ = [...names].filter((name) => !made.get(name)?.equals(kept.get(name) ?? Buffer.alloc(0)));
  if (differ.length > 0) throw new Error(`dist is not what its sources make: ${differ.join(", ")}`);
  console.log("schema.ts and dist are current");
} catch (error) {
  console.error(`${error.message}\nrun: cd web && npm ci && npm run types && npm run build`);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
