//! Enqueue and dequeue: the handlers behind both the documented routes and the fast ones.

use std::time::Duration;

use poem::Response;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ApiState;
use super::body::{Incoming, parse, parse_or_default};
use super::caller::{Caller, requester};
use super::problem::{Code, Problem};
use super::quota::{over_quota, rate_limit_headers};
use super::read_items::EnqueueBody;
use super::reply::json_bytes;
use super::write_items::{self, Writer};
use crate::model::{Namespace, TopicKey, TopicName, limits};
use crate::queue::{Delivered, DequeueRequest, EnqueueResult, Enqueued, NewItem, QueueError};
use crate::telemetry::traces::{self, TraceContext};
use crate::tenant::{Authorised, Scope, Usage};

/// When a producer should look again for room: it comes as consumers take items out.
const ROOM_RETRY: Duration = Duration::from_secs(5);
/// Items a dequeue hands out when it names no number.
const MAX_DEFAULT: u32 = 10;

/// `POST /v1/namespaces/{ns}/topics/{topic}/enqueue`.
pub(crate) async fn enqueue(
    state: &ApiState,
    caller: &Caller,
    names: (&str, &str),
    incoming: Incoming,
) -> Result<Response, Problem> {
    let (authorised, topic) = caller.topic(state, names, Scope::Enqueue)?;
    let bytes = incoming.json(state.limits.batch()).await?;
    let mut body: EnqueueBody = parse(&bytes)?;
    follow(caller, &topic, &mut body.items);
    let WithinQuota { enqueued, limit } = enqueue_within_quota(state, &authorised, &topic, body).await?;
    if let Some(code) = common_refusal(&enqueued.results) {
        let problem = all_refused(code, &enqueued.results);
        return Err(match problem.code() {
            Code::QuotaExceeded => over_quota(state, authorised.namespace(), problem, limit),
            _ => problem,
        });
    }
    let mut response = json_bytes(write_items::enqueued(enqueued.durability, &enqueued.results));
    for (name, value) in rate_limit_headers(state, authorised.namespace(), limit.usage) {
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// Puts the items of an enqueue into the trace of their request, except those that have one of their own.
pub(crate) fn follow(caller: &Caller, topic: &TopicKey, items: &mut [NewItem]) {
    traces::describe(topic.namespace().as_str(), topic.topic().as_str(), items.len());
    let Some(trace) = caller.trace() else { return };
    let headers = trace.headers();
    let bytes = |headers: &[(Box<str>, Box<str>)]| -> usize {
        headers.iter().map(|(name, value)| name.len() + value.len()).sum()
    };
    for item in items {
        let has_own = item
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case(traces::TRACEPARENT));
        // A producer's own headers go first: where there is no room, the trace ends here.
        let has_room = item.headers.len() + headers.len() <= limits::HEADERS_MAX
            && bytes(&item.headers) + bytes(&headers) <= limits::HEADER_BYTES_MAX;
        if !has_own && has_room {
            item.headers.extend(headers.iter().cloned());
        }
    }
}

/// What a dequeue handed out.
#[derive(Debug, Default)]
pub(crate) struct HandedOut {
    /// The items, the most urgent first.
    pub(crate) items: Vec<Delivered>,
    /// There are not more of them because the namespace has as many leases as it may have.
    pub(crate) out_of_leases: bool,
}

/// Hands out items of `namespace`, says so in the request's trace, and tells whether a quota stood in the way.
///
/// # Errors
/// Those of [`dequeue`](crate::queue::Queue::dequeue).
pub(crate) async fn hand_out(
    state: &ApiState,
    namespace: &Namespace,
    request: DequeueRequest,
) -> Result<HandedOut, QueueError> {
    let wanted = request.max_total;
    let items = state.queue.dequeue(request).await?;
    deliver_within_trace(&items);
    let out_of_leases = items.len() < wanted && state.queue.is_out_of_leases(namespace);
    Ok(HandedOut { items, out_of_leases })
}

/// Shows in the trace of a dequeue whose items it handed out.
fn deliver_within_trace(items: &[Delivered]) {
    traces::link(items.iter().filter_map(|delivered| {
        let headers = &delivered.item.extra.as_ref()?.headers;
        TraceContext::of_item(headers.iter().map(|(name, value)| (&**name, &**value)))
    }));
}

/// What became of a batch, and how its namespace's quota stood to it.
pub(crate) struct WithinQuota {
    /// What was enqueued and what was not.
    pub(crate) enqueued: Enqueued,
    /// What the quota leaves.
    pub(crate) limit: QuotaLeft,
}

/// What a quota leaves after a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuotaLeft {
    /// When what was refused may come again.
    pub(crate) retry_after: Option<Duration>,
    /// What is left of the rate; none when nothing was asked of it.
    pub(crate) usage: Option<Usage>,
}

/// Enqueues as many of the first items as the quota allows; the others are rejected one by one.
pub(crate) async fn enqueue_within_quota(
    state: &ApiState,
    authorised: &Authorised,
    topic: &TopicKey,
    body: EnqueueBody,
) -> Result<WithinQuota, Problem> {
    let wanted = body.items.len();
    // A batch that is refused whole spends nothing.
    let mut items = state.queue.check(topic, body.items).await?;
    // What takes no room costs nothing, and is looked at first.
    let fitting = state.queue.fitting(authorised.namespace(), items.items());
    let grant = state.quotas.take(authorised.namespace(), fitting).await;
    items.truncate(grant.granted);
    let mut usage = grant.usage;
    let mut enqueued = if items.items().is_empty() {
        Enqueued {
            durability: body.durability,
            results: vec![],
        }
    } else {
        let by = requester(authorised);
        let outcome = state
            .queue
            .enqueue_checked(topic, items, body.durability, &by)
            .await;
        let back = unspent(&outcome, grant.granted);
        if back > 0 {
            let namespace = authorised.namespace();
            state.quotas.give_back(namespace, back, grant.receipt).await;
            usage = state.quotas.usage(namespace);
        }
        outcome?
    };
    if grant.granted < wanted {
        state.metrics.over_quota(wanted - grant.granted);
        let refused = |message: &str| EnqueueResult::Rejected {
            code: Code::QuotaExceeded.as_str(),
            message: message.to_owned(),
        };
        let results = &mut enqueued.results;
        results.resize(
            fitting,
            refused("the namespace's quota is used up; send the item again later"),
        );
        results.resize(
            wanted,
            refused("the namespace holds as many bytes as it may; take some out first"),
        );
    }
    let no_room = (fitting < wanted).then_some(ROOM_RETRY);
    let limit = QuotaLeft {
        retry_after: grant.retry_after.or(no_room),
        usage,
    };
    Ok(WithinQuota { enqueued, limit })
}

/// How many of the items that a quota granted do not count against it after all.
fn unspent(outcome: &Result<Enqueued, QueueError>, granted: usize) -> usize {
    match outcome {
        Ok(enqueued) => {
            let spends = enqueued.results.iter().filter(|result| result.spends_quota());
            granted.saturating_sub(spends.count())
        }
        Err(error) if error.stored_nothing() => granted,
        // They may be there.
        Err(_) => 0,
    }
}

/// The code for which every item was refused, when it is one and the same; refusals and failures of hooks
/// count as one.
fn common_refusal(results: &[EnqueueResult]) -> Option<&'static str> {
    let mut codes = results
        .iter()
        .map(|result| result.refusal().map(|(code, _)| code));
    let first = codes.next().flatten()?;
    codes.try_fold(first, |common, code| match code? {
        code if code == common => Some(common),
        code if is_of_hook(code) && is_of_hook(common) => Some(Code::HookRejected.as_str()),
        _ => None,
    })
}

fn is_of_hook(code: &str) -> bool {
    code == Code::HookRejected.as_str() || code == Code::HookFailed.as_str()
}

fn all_refused(code: &'static str, results: &[EnqueueResult]) -> Problem {
    let refusal = results.iter().find_map(EnqueueResult::refusal);
    let detail = refusal.map(|(_, detail)| detail.to_owned());
    let code = Code::find(code).unwrap_or(Code::Rejected);
    let mut problem = Problem::new(code, detail.unwrap_or_default());
    if code == Code::HookOverloaded {
        problem = problem.retry_after(hook_wait(results));
    }
    match results_json(results) {
        Some(results) => problem.with_results(results),
        None => problem,
    }
}

/// When the last of the hooks that were not run may be again.
fn hook_wait(results: &[EnqueueResult]) -> Duration {
    let wait = |result: &EnqueueResult| match result {
        EnqueueResult::HookFailed { retry_after_ms, .. } => *retry_after_ms,
        _ => None,
    };
    Duration::from_millis(results.iter().filter_map(wait).max().unwrap_or(1_000))
}

fn results_json(results: &[EnqueueResult]) -> Option<Box<RawValue>> {
    let mut out = Writer::with_capacity(results.len() * 80);
    write_items::enqueue_results(&mut out, results);
    RawValue::from_string(String::from_utf8(out.into_vec()).ok()?).ok()
}

/// What a dequeue of one topic asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DequeueBody {
    max: Option<u32>,
    wait_ms: u32,
    lease_ms: Option<u32>,
    request_id: Option<Box<str>>,
}

/// What a dequeue of several topics asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DequeueManyBody {
    topics: Vec<TopicShare>,
    #[serde(default)]
    max_total: Option<u32>,
    #[serde(default)]
    wait_ms: u32,
    #[serde(default)]
    lease_ms: Option<u32>,
    #[serde(default)]
    request_id: Option<Box<str>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicShare {
    topic: TopicName,
    #[serde(default)]
    max: Option<u32>,
}

/// `POST /v1/namespaces/{ns}/topics/{topic}/dequeue`.
pub(crate) async fn dequeue(
    state: &ApiState,
    caller: &Caller,
    names: (&str, &str),
    incoming: Incoming,
) -> Result<Response, Problem> {
    let (authorised, topic) = caller.topic(state, names, Scope::Dequeue)?;
    let bytes = incoming.json(state.limits.small()).await?;
    let body: DequeueBody = parse_or_default(&bytes)?;
    let max = count("max", body.max)?;
    let request = DequeueRequest {
        topics: vec![(topic, max)],
        max_total: max,
        wait_ms: wait(body.wait_ms)?,
        lease_ms: lease("lease_ms", body.lease_ms)?,
        request_id: request_id(body.request_id)?,
        consumer: requester(&authorised),
    };
    let handed_out = hand_out(state, authorised.namespace(), request).await?;
    Ok(json_bytes(write_items::delivered(&handed_out)))
}

/// `POST /v1/namespaces/{ns}/dequeue`.
pub(crate) async fn dequeue_many(
    state: &ApiState,
    caller: &Caller,
    namespace: &str,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let authorised = caller.enter(state, namespace, Scope::Dequeue)?;
    let bytes = incoming.json(state.limits.small()).await?;
    let body: DequeueManyBody = parse(&bytes)?;
    if body.topics.is_empty() || body.topics.len() > limits::DEQUEUE_TOPICS_MAX {
        let detail = format!("must name 1 to {} topics", limits::DEQUEUE_TOPICS_MAX);
        return Err(Problem::field(Code::InvalidField, "topics", detail));
    }
    let max_total = count("max_total", body.max_total)?;
    let mut topics = Vec::with_capacity(body.topics.len());
    for (i, share) in body.topics.into_iter().enumerate() {
        let max = match share.max {
            None => max_total,
            some => count(&format!("topics[{i}].max"), some)?,
        };
        topics.push((authorised.topic(share.topic), max));
    }
    let request = DequeueRequest {
        topics,
        max_total,
        wait_ms: wait(body.wait_ms)?,
        lease_ms: lease("lease_ms", body.lease_ms)?,
        request_id: request_id(body.request_id)?,
        consumer: requester(&authorised),
    };
    let handed_out = hand_out(state, authorised.namespace(), request).await?;
    Ok(json_bytes(write_items::delivered(&handed_out)))
}

/// How many items are wanted, with its default and its bounds.
pub(crate) fn count(field: &str, value: Option<u32>) -> Result<usize, Problem> {
    let value = value.unwrap_or(MAX_DEFAULT) as usize;
    if (1..=limits::BATCH_ITEMS_MAX).contains(&value) {
        Ok(value)
    } else {
        let detail = format!("must be between 1 and {}", limits::BATCH_ITEMS_MAX);
        Err(Problem::field(Code::InvalidField, field, detail))
    }
}

/// How long a dequeue may wait, within its bound.
pub(crate) fn wait(wait_ms: u32) -> Result<u32, Problem> {
    if wait_ms <= limits::WAIT_MS_MAX {
        Ok(wait_ms)
    } else {
        let detail = format!("must be at most {}", limits::WAIT_MS_MAX);
        Err(Problem::field(Code::InvalidField, "wait_ms", detail))
    }
}

/// A lease's length, within its bounds.
pub(crate) fn lease(field: &str, lease_ms: Option<u32>) -> Result<Option<u32>, Problem> {
    let allowed = limits::LEASE_MS_MIN..=limits::LEASE_MS_MAX;
    match lease_ms {
        Some(ms) if !allowed.contains(&ms) => {
            let detail = format!("must be between {} and {}", allowed.start(), allowed.end());
            Err(Problem::field(Code::InvalidField, field, detail))
        }
        fine => Ok(fine),
    }
}

fn request_id(id: Option<Box<str>>) -> Result<Option<Box<str>>, Problem> {
    match id {
        Some(id) if id.is_empty() || id.len() > limits::REQUEST_ID_BYTES_MAX => {
            let detail = format!("must be 1 to {} bytes long", limits::REQUEST_ID_BYTES_MAX);
            Err(Problem::field(Code::InvalidField, "request_id", detail))
        }
        fine => Ok(fine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ItemId;

    fn refused(code: &'static str) -> EnqueueResult {
        EnqueueResult::Rejected {
            code,
            message: "why".into(),
        }
    }

    #[test]
    fn a_batch_takes_a_status_only_when_all_items_fail_for_one_reason() {
        let accepted = EnqueueResult::Accepted { id: ItemId(1) };
        assert_eq!(common_refusal(&[refused("a"), refused("a")]), Some("a"));
        assert_eq!(common_refusal(&[refused("a"), refused("b")]), None);
        assert_eq!(common_refusal(&[refused("a"), accepted.clone()]), None);
        assert_eq!(common_refusal(&[accepted]), None);
        let mixed = [
            refused("hook_failed"),
            refused("hook_rejected"),
            refused("hook_failed"),
        ];
        assert_eq!(common_refusal(&mixed), Some("hook_rejected"));
        assert_eq!(common_refusal(&[refused("hook_failed"), refused("a")]), None);
    }

    #[test]
    fn numbers_outside_their_limits_are_refused_with_the_limits() {
        assert_eq!(count("max", None).unwrap(), 10);
        let text = count("max", Some(1_001)).unwrap_err().to_string();
        assert_eq!(text, "invalid_field: max: must be between 1 and 1000");
        assert!(count("max", Some(0)).is_err());
        assert!(wait(20_001).is_err());
        assert!(lease("lease_ms", Some(999)).is_err());
        assert!(request_id(Some("x".repeat(129).into())).is_err());
    }
}
