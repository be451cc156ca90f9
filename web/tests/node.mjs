// A node of its own for the tests: the built binary, a free port, a folder that is gone afterwards.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const BINARY = process.env.MQUEUE_BIN ?? fileURLToPath(new URL("../../target/release/mqueue", import.meta.url));
const SETTINGS = ["auth.leeway=0s"];

export class Node {
  #folder = mkdtempSync(join(tmpdir(), "mqueue-console-"));
  #child = null;
  #port = 0;
  #environment;
  #settings;

  /** A node whose namespaces have `quotas`: `name:items a minute:at once`, with commas between them; with more `settings`. */
  constructor({ quotas = "shop:60000:2000", settings = [] } = {}) {
    this.#settings = [...SETTINGS, ...settings];
    // The node refuses variables that begin like its own and are none.
    const { MQUEUE_BIN: _, ...environment } = process.env;
    this.#environment = { ...environment, NAMESPACE_QUOTAS: quotas };
  }

  get url() {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** The program that it is. */
  get command() {
    return BINARY;
  }

  /** The arguments that say which node is meant. */
  get where() {
    return ["--data-dir", this.#folder, ...this.#settings.flatMap((setting) => ["--set", setting])];
  }

  /** Starts it, on the same port as before if there was one, and waits until it listens. */
  async start() {
    const child = spawn(BINARY, ["serve", ...this.where, "--listen", `127.0.0.1:${this.#port}`], {
      stdio: ["ignore", "ignore", "pipe"],
      env: this.#environment,
    });
    this.#child = child;
    let log = "";
    await new Promise((resolve, reject) => {
      child.stderr.setEncoding("utf8").on("data", (text) => {
        log += text;
        const found = /listening on \S*?:\/\/127\.0\.0\.1:(\d+)/.exec(log.replaceAll(/\u001b\[[0-9;]*m/g, ""));
        if (found) {
          this.#port = Number(found[1]);
          resolve();
        }
      });
      child.once("exit", () => reject(new Error(`the node ended before it listened:\n${log}`)));
      child.once("error", reject);
    });
  }

  async stop(signal = "SIGTERM") {
    const child = this.#child;
    this.#child = null;
    if (!child || child.exitCode !== null) return;
    child.kill(signal);
    await once(child, "exit");
  }

  async end() {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** A token for `namespace`, with all scopes unless some are given. */
  token({ namespace = "*", scopes = [], ttl = "1h" } = {}) {
    const more = scopes.flatMap((scope) => ["--scope", scope]);
    return execFileSync(BINARY, ["token", ...this.where, "-n", namespace, "--ttl", ttl, ...more], { encoding: "utf8", env: this.#environment }).trim();
  }

  /** Calls the API beside the browser. */
  async call(method, path, body, more = {}) {
    const response = await fetch(this.url + path, {
      method,
      headers: { authorization: `Bearer ${this.token()}`, "content-type": "application/json", ...more },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(`${method} ${path}: ${JSON.stringify(answer)}`);
    return answer;
  }

  /** Enqueues `items` and answers their ids. */
  async enqueue(namespace, topic, items) {
    const { results } = await this.call("POST", `/v1/namespaces/${namespace}/topics/${topic}/enqueue`, { items });
    return results.map((result) => result.id);
  }

  /** Takes `count` items out and rejects them: they are dead letters then. */
  async kill(namespace, topic, count, error) {
    const { items } = await this.call("POST", `/v1/namespaces/${namespace}/topics/${topic}/dequeue`, { max: count });
    await this.call("POST", "/v1/reject", { leases: items.map((item) => ({ lease_id: item.lease_id, error })) });
    return items.map((item) => item.id);
  }
}
