// The whole story with openapi-fetch and the types that openapi-typescript makes of openapi/mqueue.json.
//
// In the environment: MQUEUE_URL, MQUEUE_TOKEN, MQUEUE_NAMESPACE (an empty one), MQUEUE_TINY (one whose quota is one
// item a minute) and MQUEUE_MODULE (a hook that checks items against the JSON schema in its configuration).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Schema = components["schemas"];

const variable = (name: string): string => process.env[name] ?? assert.fail(`${name} is not set`);
const ns = variable("MQUEUE_NAMESPACE");
const topic = "orders";
const path = { ns, topic };
const clientOf = (token: string) =>
  createClient<paths>({ baseUrl: variable("MQUEUE_URL"), headers: { Authorization: `Bearer ${token}` } });
const api = clientOf(variable("MQUEUE_TOKEN"));

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

async function good<T>(call: Promise<Answer<T>>): Promise<T> {
  const { data, error } = await call;
  return data ?? assert.fail(JSON.stringify(error));
}

/** Holds that the answer is a problem, and gives it, typed. */
async function refused<E extends Schema["Problem"]>(
  call: Promise<{ data?: unknown; error?: E; response: Response }>,
  status: number,
  code: string,
): Promise<E> {
  const { error, response } = await call;
  assert.equal(response.status, status);
  assert.ok(error);
  assert.deepEqual([error.status, error.code], [status, code]);
  assert.ok(error.title && error.detail && error.request_id);
  return error;
}

const send = (item: Schema["NewItem"], to: { ns: string; topic: string } = path) =>
  api.POST("/v1/namespaces/{ns}/topics/{topic}/enqueue", { params: { path: to }, body: { items: [item] } });

async function take(wait_ms = 0): Promise<Schema["DeliveredItem"]> {
  const body = { max: 1, wait_ms };
  const { items } = await good(api.POST("/v1/namespaces/{ns}/topics/{topic}/dequeue", { params: { path }, body }));
  return items[0] ?? assert.fail("nothing was handed out");
}

const statuses = async (call: Promise<Answer<Schema["SettleResponse"]>>) => (await good(call)).results.map((result) => result.status);

const leaseOf = (item: Schema["DeliveredItem"]): string => item.lease_id ?? assert.fail("there is no lease");

async function aLeaseAndItsEnds(): Promise<void> {
  const waiting = take(20_000);
  const first = { json: { order: 1 }, headers: { source: "till" }, idempotency_key: "order-1" };
  const sent = await good(send(first));
  const item = await waiting;
  assert.equal(item.id, sent.results[0]?.id);
  assert.deepEqual([item.json, item.headers, item.attempt], [{ order: 1 }, { source: "till" }, 1]);
  assert.equal((await good(send(first))).results[0]?.status, "duplicate");
  const lease_id = leaseOf(item);
  assert.deepEqual(await statuses(api.POST("/v1/extend", { body: { leases: [{ lease_id, lease_ms: 60_000 }] } })), ["ok"]);
  const done = { body: { leases: [{ lease_id }] } };
  assert.deepEqual(await statuses(api.POST("/v1/ack", done)), ["ok"]);
  assert.deepEqual(await statuses(api.POST("/v1/ack", done)), ["already_done"]);
}

async function aDeadLetterAndTheWayBack(): Promise<void> {
  const settings = await good(api.PUT("/v1/namespaces/{ns}/topics/{topic}", { params: { path }, body: { max_attempts: 1 } }));
  assert.equal(settings.effective.max_attempts, 1);
  await good(send({ text: "fails" }));
  const error = "the card was declined";
  const failed = { leases: [{ lease_id: leaseOf(await take()), error }] };
  assert.deepEqual(await statuses(api.POST("/v1/nack", { body: failed })), ["ok"]);
  const dead = await good(api.GET("/v1/namespaces/{ns}/topics/{topic}/dead", { params: { path } }));
  assert.equal(dead.items[0]?.last_error, error);
  const redrive = (body?: Schema["RedriveRequest"]) =>
    good(api.POST("/v1/namespaces/{ns}/topics/{topic}/dead/redrive", { params: { path }, ...(body ? { body } : {}) }));
  const would = await redrive({ dry_run: true });
  assert.deepEqual([would.count, would.dry_run], [1, true]);
  assert.equal((await redrive()).count, 1);
  const item = await take(5_000);
  assert.equal(item.text, "fails");
  assert.deepEqual(await statuses(api.POST("/v1/ack", { body: { leases: [{ lease_id: leaseOf(item) }] } })), ["ok"]);
  assert.equal((await good(api.GET("/v1/namespaces/{ns}/topics/{topic}/stats", { params: { path } }))).dead, 0);
}

async function upload(schema: object, note: string): Promise<number> {
  const module = readFileSync(variable("MQUEUE_MODULE")).toString("base64");
  const params = { path: { ns, hook: "check" } };
  const added = await good(api.POST("/v1/namespaces/{ns}/hooks/{hook}/versions", { params, body: { module, config: { schema }, note } }));
  return added.version;
}

async function aHook(): Promise<void> {
  const first = await upload({ type: "object" }, "anything");
  const binding = { ns, binding: "check" };
  const bound = await api.PUT("/v1/namespaces/{ns}/bindings/{binding}", {
    params: { path: binding, header: { "If-None-Match": "*" } },
    body: { topic, side: "enqueue", hook: "check", version: first },
  });
  assert.equal(bound.response.status, 201);
  const second = await upload({ type: "object", required: ["total"] }, "with a total");
  const version = { ns, hook: "check", version: second };
  const tried = await good(
    api.POST("/v1/namespaces/{ns}/hooks/{hook}/versions/{version}/dry-run", { params: { path: version }, body: { items: [{ json: {} }] } }),
  );
  assert.equal(tried.items[0]?.verdict, "reject");
  const activate = (etag: string) =>
    api.POST("/v1/namespaces/{ns}/bindings/{binding}/activate", {
      params: { path: binding, header: { "If-Match": etag } },
      body: { version: second },
    });
  await refused(activate('"999"'), 412, "precondition_failed");
  const current = await good(activate(bound.response.headers.get("etag") ?? ""));
  assert.deepEqual([current.version, current.previous], [second, first]);
  const problem = await refused(send({ json: {} }), 422, "hook_rejected");
  assert.equal(problem.results?.[0]?.hook, `check@${second}`);
  assert.equal((await good(send({ json: { total: 5 } }))).results[0]?.status, "accepted");
  await refused(api.DELETE("/v1/namespaces/{ns}/hooks/{hook}/versions/{version}", { params: { path: version } }), 409, "version_in_use");
}

async function problems(): Promise<void> {
  const nothing = { params: { path: { ns, topic: "nothing" } } };
  await refused(api.GET("/v1/namespaces/{ns}/topics/{topic}", nothing), 404, "unknown_topic");
  const problem = await refused(send({ text: "a", lease_ms: 5 }, { ns, topic: "bad" }), 422, "invalid_field");
  assert.equal(problem.errors?.[0]?.field, "items[0].lease_ms");
  const tiny = { ns: variable("MQUEUE_TINY"), topic };
  await good(send({ text: "a" }, tiny));
  const over = send({ text: "b" }, tiny);
  await refused(over, 429, "quota_exceeded");
  assert.ok(Number((await over).response.headers.get("retry-after")) >= 1);
  await refused(clientOf("no token").GET("/v1/namespaces/{ns}/topics/{topic}", nothing), 401, "unauthorized");
}

await aLeaseAndItsEnds();
await aDeadLetterAndTheWayBack();
await aHook();
await problems();
