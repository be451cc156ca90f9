// The whole story with the client that openapi-generator's typescript-fetch makes of openapi/mqueue.json.
//
// In the environment: MQUEUE_URL, MQUEUE_TOKEN, MQUEUE_NAMESPACE (an empty one), MQUEUE_TINY (one whose quota is one
// item a minute) and MQUEUE_MODULE (a hook that checks items against the JSON schema in its configuration).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import {
  Configuration,
  ConsumersApi,
  type DeliveredItem,
  EnqueueStatus,
  HookVerdict,
  HooksApi,
  type NewItem,
  type Problem,
  ProblemFromJSON,
  ProducersApi,
  ResponseError,
  type SettleResponse,
  SettleStatus,
  Side,
  TopicsApi,
} from "./generated/index.js";

const variable = (name: string): string => process.env[name] ?? assert.fail(`${name} is not set`);
const ns = variable("MQUEUE_NAMESPACE");
const topic = "orders";
const configuration = (accessToken: string) => new Configuration({ basePath: variable("MQUEUE_URL"), accessToken });
const mine = configuration(variable("MQUEUE_TOKEN"));
const [producers, consumers, topics, hooks] = [new ProducersApi(mine), new ConsumersApi(mine), new TopicsApi(mine), new HooksApi(mine)];

/** Holds that the call is refused with a problem, and gives it, typed, with the answer it came in. */
async function refused(call: Promise<unknown>, status: number, code: string): Promise<{ problem: Problem; response: Response }> {
  const error = await call.then(
    () => assert.fail(`${code} was not told`),
    (error: unknown) => error,
  );
  assert.ok(error instanceof ResponseError, String(error));
  const { response } = error;
  const problem = ProblemFromJSON(await response.json());
  assert.deepEqual([response.status, problem.status, problem.code], [status, status, code]);
  assert.ok(problem.title && problem.detail && problem.requestId);
  return { problem, response };
}

const send = (item: NewItem, to = { ns, topic }) => producers.enqueue({ ...to, enqueueRequest: { items: [item] } });

async function take(waitMs = 0): Promise<DeliveredItem> {
  const { items } = await consumers.dequeue({ ns, topic, dequeueRequest: { max: 1, waitMs } });
  return items[0] ?? assert.fail("nothing was handed out");
}

const statuses = async (call: Promise<SettleResponse>) => (await call).results.map((result) => result.status);
const leaseOf = (item: DeliveredItem): string => item.leaseId ?? assert.fail("there is no lease");

async function aLeaseAndItsEnds(): Promise<void> {
  const waiting = take(20_000);
  const first = { json: { order: 1 }, headers: { source: "till" }, idempotencyKey: "order-1" };
  const sent = await send(first);
  const item = await waiting;
  assert.equal(item.id, sent.results[0]?.id);
  assert.deepEqual([item.json, item.headers, item.attempt], [{ order: 1 }, { source: "till" }, 1]);
  assert.ok(item.enqueuedAt instanceof Date);
  assert.equal((await send(first)).results[0]?.status, EnqueueStatus.Duplicate);
  const leaseId = leaseOf(item);
  const longer = { extendRequest: { leases: [{ leaseId, leaseMs: 60_000 }] } };
  assert.deepEqual(await statuses(consumers.extend(longer)), [SettleStatus.Ok]);
  const done = { ackRequest: { leases: [{ leaseId }] } };
  assert.deepEqual(await statuses(consumers.ack(done)), [SettleStatus.Ok]);
  assert.deepEqual(await statuses(consumers.ack(done)), [SettleStatus.AlreadyDone]);
}

async function aDeadLetterAndTheWayBack(): Promise<void> {
  const { effective } = await topics.putTopic({ ns, topic, settings: { maxAttempts: 1 } });
  assert.equal(effective.maxAttempts, 1);
  await send({ text: "fails" });
  const error = "the card was declined";
  const failed = { nackRequest: { leases: [{ leaseId: leaseOf(await take()), error }] } };
  assert.deepEqual(await statuses(consumers.nack(failed)), [SettleStatus.Ok]);
  assert.equal((await topics.browseDead({ ns, topic })).items[0]?.lastError, error);
  const would = await topics.redriveDead({ ns, topic, redriveRequest: { dryRun: true } });
  assert.deepEqual([would.count, would.dryRun], [1, true]);
  assert.equal((await topics.redriveDead({ ns, topic })).count, 1);
  const item = await take(5_000);
  assert.equal(item.text, "fails");
  const done = { ackRequest: { leases: [{ leaseId: leaseOf(item) }] } };
  assert.deepEqual(await statuses(consumers.ack(done)), [SettleStatus.Ok]);
  assert.equal((await topics.topicStats({ ns, topic })).dead, 0);
}

async function upload(schema: object, note: string): Promise<number> {
  const module = readFileSync(variable("MQUEUE_MODULE")).toString("base64");
  const added = await hooks.addHookVersion({ ns, hook: "check", versionUpload: { module, config: { schema }, note } });
  return added.version;
}

async function aHook(): Promise<void> {
  const first = await upload({ type: "object" }, "anything");
  const bindingDraft = { topic, side: Side.Enqueue, hook: "check", version: first };
  const bound = await hooks.putBindingRaw({ ns, binding: "check", bindingDraft, ifNoneMatch: "*" });
  assert.equal(bound.raw.status, 201);
  const second = await upload({ type: "object", required: ["total"] }, "with a total");
  const version = { ns, hook: "check", version: second };
  const tried = await hooks.dryRunHook({ ...version, dryRunRequest: { items: [{ json: {} }] } });
  assert.equal(tried.items[0]?.verdict, HookVerdict.Reject);
  const activate = (ifMatch: string) => hooks.activateBinding({ ns, binding: "check", ifMatch, activation: { version: second } });
  await refused(activate('"999"'), 412, "precondition_failed");
  const current = await activate(bound.raw.headers.get("etag") ?? "");
  assert.deepEqual([current.version, current.previous], [second, first]);
  const { problem } = await refused(send({ json: {} }), 422, "hook_rejected");
  assert.equal(problem.results?.[0]?.hook, `check@${second}`);
  assert.equal((await send({ json: { total: 5 } })).results[0]?.status, EnqueueStatus.Accepted);
  await refused(hooks.deleteHookVersion(version), 409, "version_in_use");
}

async function problems(): Promise<void> {
  await refused(topics.getTopic({ ns, topic: "nothing" }), 404, "unknown_topic");
  const { problem } = await refused(send({ text: "a", leaseMs: 5 }, { ns, topic: "bad" }), 422, "invalid_field");
  assert.equal(problem.errors?.[0]?.field, "items[0].lease_ms");
  const tiny = { ns: variable("MQUEUE_TINY"), topic };
  await send({ text: "a" }, tiny);
  const over = await refused(send({ text: "b" }, tiny), 429, "quota_exceeded");
  assert.ok(Number(over.response.headers.get("retry-after")) >= 1);
  await refused(new TopicsApi(configuration("no token")).getTopic({ ns, topic }), 401, "unauthorized");
}

await aLeaseAndItsEnds();
await aDeadLetterAndTheWayBack();
await aHook();
await problems();
