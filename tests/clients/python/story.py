"""The whole story with the client that openapi-python-client makes of openapi/mqueue.json.

In the environment: MQUEUE_URL, MQUEUE_TOKEN, MQUEUE_NAMESPACE (an empty one), MQUEUE_TINY (one whose quota is one item a
minute) and MQUEUE_MODULE (a hook that checks items against the JSON schema in its configuration).
"""

import base64
import os
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

from mqueue_client import AuthenticatedClient
from mqueue_client.api.consumers import ack, dequeue, extend, nack
from mqueue_client.api.hooks import activate_binding, add_hook_version, delete_hook_version, dry_run_hook, put_binding
from mqueue_client.api.producers import enqueue
from mqueue_client.api.topics import browse_dead, get_topic, put_topic, redrive_dead, topic_stats
from mqueue_client.models import (
    AckLease,
    AckRequest,
    Activation,
    AddedVersion,
    Binding,
    BindingDraft,
    DequeueRequest,
    DequeueResponse,
    DryRun,
    DryRunRequest,
    EnqueueRequest,
    EnqueueResponse,
    EnqueueStatus,
    ExtendLease,
    ExtendRequest,
    HookVerdict,
    ItemList,
    NackLease,
    NackRequest,
    NewItem,
    NewItemHeaders,
    Problem,
    RedriveRequest,
    RedriveResponse,
    Settings,
    SettleResponse,
    SettleStatus,
    Side,
    TestItem,
    TopicDetail,
    VersionUpload,
    VersionUploadConfig,
)

NS = os.environ["MQUEUE_NAMESPACE"]
TOPIC = "orders"
client = AuthenticatedClient(
    base_url=os.environ["MQUEUE_URL"], token=os.environ["MQUEUE_TOKEN"], raise_on_unexpected_status=True, timeout=30
)


def send(*items, namespace=NS, topic=TOPIC):
    return enqueue.sync_detailed(namespace, topic, client=client, body=EnqueueRequest(items=list(items)))


def take(wait_ms=0):
    answer = dequeue.sync(NS, TOPIC, client=client, body=DequeueRequest(max_=1, wait_ms=wait_ms))
    assert isinstance(answer, DequeueResponse), answer
    return answer.items


def settled(answer):
    assert isinstance(answer, SettleResponse), answer
    return [result.status for result in answer.results]


def refused(answer, status, code):
    """Holds that `answer` is a typed problem."""
    assert answer.status_code == status, answer
    problem = answer.parsed
    assert isinstance(problem, Problem), problem
    assert (problem.status, problem.code) == (status, code), problem
    assert problem.title and problem.detail and problem.request_id, problem
    return problem


def a_lease_and_its_ends():
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(take, 20_000)
        headers = NewItemHeaders.from_dict({"source": "till"})
        sent = send(NewItem(json={"order": 1}, headers=headers, idempotency_key="order-1")).parsed
        assert isinstance(sent, EnqueueResponse) and sent.results[0].status == EnqueueStatus.ACCEPTED, sent
        [item] = waiting.result()
    assert item.id == sent.results[0].id and item.json == {"order": 1}, item
    assert item.headers["source"] == "till" and item.attempt == 1, item
    again = send(NewItem(json={"order": 1}, headers=headers, idempotency_key="order-1")).parsed
    assert again.results[0].status == EnqueueStatus.DUPLICATE, again
    extended = extend.sync(client=client, body=ExtendRequest(leases=[ExtendLease(lease_id=item.lease_id, lease_ms=60_000)]))
    assert settled(extended) == [SettleStatus.OK], extended
    done = AckRequest(leases=[AckLease(lease_id=item.lease_id)])
    assert settled(ack.sync(client=client, body=done)) == [SettleStatus.OK]
    assert settled(ack.sync(client=client, body=done)) == [SettleStatus.ALREADY_DONE]


def a_dead_letter_and_the_way_back():
    topic = put_topic.sync(NS, TOPIC, client=client, body=Settings(max_attempts=1))
    assert isinstance(topic, TopicDetail) and topic.effective.max_attempts == 1, topic
    send(NewItem(text="fails"))
    [item] = take()
    failed = NackRequest(leases=[NackLease(lease_id=item.lease_id, error="the card was declined")])
    assert settled(nack.sync(client=client, body=failed)) == [SettleStatus.OK]
    dead = browse_dead.sync(NS, TOPIC, client=client)
    assert isinstance(dead, ItemList) and dead.items[0].last_error == "the card was declined", dead
    would = redrive_dead.sync(NS, TOPIC, client=client, body=RedriveRequest(dry_run=True))
    assert isinstance(would, RedriveResponse) and (would.count, would.dry_run) == (1, True), would
    assert redrive_dead.sync(NS, TOPIC, client=client).count == 1
    [item] = take(5_000)
    assert item.text == "fails", item
    assert settled(ack.sync(client=client, body=AckRequest(leases=[AckLease(lease_id=item.lease_id)]))) == [SettleStatus.OK]
    assert topic_stats.sync(NS, TOPIC, client=client).dead == 0


def upload(schema, note):
    module = base64.b64encode(Path(os.environ["MQUEUE_MODULE"]).read_bytes()).decode()
    config = VersionUploadConfig.from_dict({"schema": schema})
    added = add_hook_version.sync(NS, "check", client=client, body=VersionUpload(module=module, config=config, note=note))
    assert isinstance(added, AddedVersion), added
    return added.version


def a_hook():
    first = upload({"type": "object"}, "anything")
    draft = BindingDraft(topic=TOPIC, side=Side.ENQUEUE, hook="check", version=first)
    bound = put_binding.sync_detailed(NS, "check", client=client, body=draft, if_none_match="*")
    assert bound.status_code == HTTPStatus.CREATED and isinstance(bound.parsed, Binding), bound
    second = upload({"type": "object", "required": ["total"]}, "with a total")
    tried = dry_run_hook.sync(NS, "check", second, client=client, body=DryRunRequest(items=[TestItem(json={})]))
    assert isinstance(tried, DryRun) and tried.items[0].verdict == HookVerdict.REJECT, tried
    activate = Activation(version=second)
    stale = activate_binding.sync_detailed(NS, "check", client=client, body=activate, if_match='"999"')
    refused(stale, 412, "precondition_failed")
    current = activate_binding.sync(NS, "check", client=client, body=activate, if_match=bound.headers["etag"])
    assert isinstance(current, Binding) and (current.version, current.previous) == (second, first), current
    problem = refused(send(NewItem(json={})), 422, "hook_rejected")
    assert problem.results[0].hook == f"check@{second}", problem
    assert send(NewItem(json={"total": 5})).parsed.results[0].status == EnqueueStatus.ACCEPTED
    refused(delete_hook_version.sync_detailed(NS, "check", second, client=client), 409, "version_in_use")


def problems():
    refused(get_topic.sync_detailed(NS, "nothing", client=client), 404, "unknown_topic")
    problem = refused(send(NewItem(text="a", lease_ms=5), topic="bad"), 422, "invalid_field")
    assert problem.errors[0].field == "items[0].lease_ms", problem
    tiny = os.environ["MQUEUE_TINY"]
    send(NewItem(text="a"), namespace=tiny)
    over = send(NewItem(text="b"), namespace=tiny)
    refused(over, 429, "quota_exceeded")
    assert int(over.headers["retry-after"]) >= 1, over
    stranger = AuthenticatedClient(base_url=os.environ["MQUEUE_URL"], token="no token")
    refused(get_topic.sync_detailed(NS, TOPIC, client=stranger), 401, "unauthorized")


a_lease_and_its_ends()
a_dead_letter_and_the_way_back()
a_hook()
problems()
