//! The routes of the first version, as its README shows them, over the same use cases.
//!
//! What they answer, where that README is silent:
//! - `POST /enqueue` takes a bare list of items, of several namespaces and topics if need be, and answers
//!   a list of results in the same order. Unless every item was accepted the status is that of the first
//!   refusal, so that a client that looks only at the status does not lose items; `results` has each item.
//! - `GET /dequeue` leases items and answers a bare list. The payload is always base64. `X-Limited-By: leases`
//!   says that there are fewer because the namespace has as many leases as its quota allows.
//! - `POST /ack` and `POST /nack` settle an item by its id, whoever holds its current lease, or by its
//!   `lease_id` when one is given; 409 when it is not leased.
//! - Bodies are read as JSON whatever their content type says: `curl -d` sends a form's.
//! - An unavailable shard is 500 here and 503 elsewhere.

use poem::Response;
use poem::http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ApiState;
use super::body::{Incoming, parse};
use super::caller::{Caller, requester};
use super::items::{WithinQuota, count, enqueue_within_quota, follow, hand_out, lease, wait};
use super::problem::{Code, Problem};
use super::quota::over_quota;
use super::read_items::{EnqueueBody, Text, base64};
use super::reply::json_bytes;
use super::settle::cut;
use super::write_items::{self, Writer};
use crate::clock::Timestamp;
use crate::model::{ItemId, LeaseRef, PayloadKind, TopicKey, limits};
use crate::queue::{
    Delivered, DequeueRequest, Durability, EnqueueResult, LeaseAction, NewItem, QueueError, SettleStatus,
    Verb,
};
use crate::tenant::{Authorised, Scope};

/// Names the quota that made the answer to a dequeue smaller: its body, a bare list, has no place for it.
const LIMITED_BY: HeaderName = HeaderName::from_static("x-limited-by");

/// An item as Go's `encoding/json` writes the first version's struct. Unknown fields are passed over, as
/// Go does.
#[derive(Deserialize)]
struct ClassicItem<'a> {
    #[serde(borrow)]
    namespace: Text<'a>,
    #[serde(borrow)]
    topic: Text<'a>,
    #[serde(default)]
    priority: i32,
    #[serde(default, borrow)]
    payload: Option<Text<'a>>,
    #[serde(default, borrow)]
    deliver_after: Option<Text<'a>>,
}

/// An item with its place in the request.
type Placed = (usize, NewItem);

/// `POST /enqueue`.
pub(crate) async fn enqueue(
    state: &ApiState,
    caller: &Caller,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let principal = caller.principal(state)?;
    let bytes = incoming.any(state.limits.batch()).await?;
    let items: Vec<ClassicItem<'_>> = parse(&bytes)?;
    if !(1..=limits::BATCH_ITEMS_MAX).contains(&items.len()) {
        let detail = format!("must be a list of 1 to {}", limits::BATCH_ITEMS_MAX);
        return Err(Problem::field(Code::InvalidField, "items", detail));
    }
    let total = items.len();
    // Everything is read and authorised before anything is enqueued.
    let mut groups: Vec<(Authorised, TopicKey, Vec<Placed>)> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let key = TopicKey::parse(&item.namespace.0, &item.topic.0)
            .map_err(|e| Problem::field(Code::InvalidName, format!("[{index}].topic"), e.to_string()))?;
        let new = new_item(index, &item)?;
        match groups.iter_mut().find(|(_, known, _)| *known == key) {
            Some((_, _, placed)) => placed.push((index, new)),
            None => {
                let authorised = principal.authorise(key.namespace(), Scope::Enqueue)?;
                groups.push((authorised, key, vec![(index, new)]));
            }
        }
    }
    let mut outcomes: Vec<Option<(TopicKey, EnqueueResult)>> = vec![None; total];
    let mut first_problem: Option<(usize, Problem)> = None;
    for (authorised, key, placed) in groups {
        let problem = enqueue_group(state, caller, &authorised, &key, placed, &mut outcomes).await;
        if let Some((at, problem)) = problem
            && first_problem.as_ref().is_none_or(|(first, _)| at < *first)
        {
            first_problem = Some((at, problem));
        }
    }
    let body = results(&outcomes);
    match first_problem {
        None => Ok(json_bytes(body.finish())),
        Some((_, problem)) => Err(match raw(body) {
            Some(results) => problem.with_results(results),
            None => problem,
        }),
    }
}

/// Enqueues the items of one topic and tells the first that was refused.
async fn enqueue_group(
    state: &ApiState,
    caller: &Caller,
    authorised: &Authorised,
    key: &TopicKey,
    placed: Vec<Placed>,
    outcomes: &mut [Option<(TopicKey, EnqueueResult)>],
) -> Option<(usize, Problem)> {
    let (places, mut items): (Vec<usize>, Vec<NewItem>) = placed.into_iter().unzip();
    follow(caller, key, &mut items);
    let body = EnqueueBody {
        items,
        durability: Durability::default(),
    };
    match enqueue_within_quota(state, authorised, key, body).await {
        Ok(WithinQuota { enqueued, limit }) => {
            let mut first = None;
            for (&place, result) in places.iter().zip(enqueued.results) {
                if let Some((code, message)) = result.refusal()
                    && first.is_none()
                {
                    let code = Code::find(code).unwrap_or(Code::Rejected);
                    let problem = Problem::new(code, message.to_owned());
                    let problem = match code {
                        Code::QuotaExceeded => over_quota(state, key.namespace(), problem, limit),
                        _ => problem,
                    };
                    first = Some((place, problem));
                }
                outcomes[place] = Some((key.clone(), result));
            }
            first
        }
        Err(problem) => {
            let problem = as_classic(problem);
            for &place in &places {
                let refused = EnqueueResult::Rejected {
                    code: problem.code().as_str(),
                    message: problem.code().title().to_owned(),
                };
                outcomes[place] = Some((key.clone(), refused));
            }
            Some((*places.first()?, problem))
        }
    }
}

/// The first version answers trouble with a shard with 500.
fn as_classic(problem: Problem) -> Problem {
    if problem.code() == Code::ShardUnavailable {
        problem.with_status(StatusCode::INTERNAL_SERVER_ERROR)
    } else {
        problem
    }
}

fn queue_problem(error: QueueError) -> Problem {
    as_classic(error.into())
}

fn new_item(index: usize, item: &ClassicItem<'_>) -> Result<NewItem, Problem> {
    let payload = match &item.payload {
        None => Box::default(),
        Some(Text(text)) => base64(text).map_err(|_| {
            Problem::field(
                Code::MalformedBody,
                format!("[{index}].payload"),
                "not standard base64",
            )
        })?,
    };
    Ok(NewItem {
        priority: Some(item.priority),
        payload,
        kind: Some(PayloadKind::Bytes),
        deliver_after: match &item.deliver_after {
            None => None,
            Some(Text(text)) => instant(text).map_err(|detail| {
                Problem::field(Code::MalformedBody, format!("[{index}].deliver_after"), detail)
            })?,
        },
        ..NewItem::default()
    })
}

/// An instant; Go's zero time, as every instant before 1970, stands for "now".
fn instant(text: &str) -> Result<Option<Timestamp>, String> {
    let year: Option<u32> = text.get(..4).and_then(|year| year.parse().ok());
    match Timestamp::parse(text) {
        Ok(instant) => Ok(Some(instant)),
        Err(_) if text.starts_with("0001-01-01T00:00:00") => Ok(None),
        Err(crate::clock::TimestampError::Range) if year.is_some_and(|year| year < 1970) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn results(outcomes: &[Option<(TopicKey, EnqueueResult)>]) -> Writer {
    let mut out = Writer::with_capacity(outcomes.len() * 100);
    out.raw("[");
    for (i, outcome) in outcomes.iter().enumerate() {
        if i > 0 {
            out.raw(",");
        }
        // Every item is in one group, and every group answers for all of its items.
        let Some((key, result)) = outcome else {
            out.raw("{}");
            continue;
        };
        // Names need no escapes: their characters are checked.
        let names = format!(
            "\"namespace\":\"{}\",\"topic\":\"{}\",",
            key.namespace(),
            key.topic()
        );
        write_items::enqueue_result(&mut out, result, &names);
        out.raw("}");
    }
    out.raw("]");
    out
}

fn raw(out: Writer) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(out.into_vec()).ok()?).ok()
}

/// The query of `GET /dequeue`.
#[derive(Debug)]
pub(crate) struct ClassicDequeue {
    /// The namespace.
    pub(crate) namespace: String,
    /// The topic.
    pub(crate) topic: String,
    /// The most items.
    pub(crate) limit: Option<u32>,
    /// How long to wait for the first, in milliseconds.
    pub(crate) wait_ms: Option<u32>,
    /// Lease length, in milliseconds.
    pub(crate) lease_ms: Option<u32>,
}

/// `GET /dequeue?namespace&topic&limit`.
pub(crate) async fn dequeue(
    state: &ApiState,
    caller: &Caller,
    query: ClassicDequeue,
) -> Result<Response, Problem> {
    let names = (query.namespace.as_str(), query.topic.as_str());
    let (authorised, topic) = caller.topic(state, names, Scope::Dequeue)?;
    let max = count("limit", query.limit)?;
    let request = DequeueRequest {
        topics: vec![(topic, max)],
        max_total: max,
        wait_ms: wait(query.wait_ms.unwrap_or_default())?,
        lease_ms: lease("lease_ms", query.lease_ms)?,
        request_id: None,
        consumer: requester(&authorised),
    };
    let handed_out = hand_out(state, authorised.namespace(), request)
        .await
        .map_err(queue_problem)?;
    let mut response = json_bytes(delivered(&handed_out.items).finish());
    if handed_out.out_of_leases {
        response
            .headers_mut()
            .insert(LIMITED_BY, HeaderValue::from_static("leases"));
    }
    Ok(response)
}

fn delivered(items: &[Delivered]) -> Writer {
    let mut out = Writer::with_capacity(
        2 + items
            .iter()
            .map(|d| 380 + d.item.payload.len() * 4 / 3)
            .sum::<usize>(),
    );
    out.raw("[");
    for (i, delivered) in items.iter().enumerate() {
        let item = &delivered.item;
        out.raw(if i == 0 { "{\"id\":" } else { ",{\"id\":" }).id(item.id);
        out.raw(",\"namespace\":")
            .string(delivered.topic.namespace().as_str());
        out.raw(",\"topic\":").string(delivered.topic.topic().as_str());
        out.raw(",\"priority\":").number(item.priority);
        out.raw(",\"payload\":").base64(&item.payload);
        out.raw(",\"deliver_after\":").timestamp(delivered.due);
        out.raw(",\"attempt\":").number(delivered.attempt);
        if let Some(lease) = &delivered.lease {
            out.raw(",\"lease_id\":").string(&lease.id);
            out.raw(",\"lease_expires_at\":").timestamp(lease.expires_at);
        }
        out.raw("}");
    }
    out.raw("]");
    out
}

/// What `/ack` and `/nack` take.
#[derive(Deserialize)]
struct ClassicSettle<'a> {
    id: ItemId,
    #[serde(borrow)]
    namespace: Text<'a>,
    #[serde(borrow)]
    topic: Text<'a>,
    #[serde(default, borrow)]
    lease_id: Option<Text<'a>>,
    #[serde(default)]
    delay_ms: Option<i64>,
    #[serde(default, borrow)]
    error: Option<Text<'a>>,
}

/// `POST /ack` and `POST /nack`.
pub(crate) async fn settle(
    state: &ApiState,
    caller: &Caller,
    nack: bool,
    incoming: Incoming,
) -> Result<Response, Problem> {
    caller.principal(state)?;
    let bytes = incoming.any(state.limits.small()).await?;
    let body: ClassicSettle<'_> = parse(&bytes)?;
    let (_, topic) = caller.topic(state, (&body.namespace.0, &body.topic.0), Scope::Dequeue)?;
    let lease = held(state, &topic, &body).await?;
    let verb = if nack {
        Verb::Nack {
            delay_ms: delay(body.delay_ms)?,
            error: body.error.as_ref().map(|Text(text)| cut(text).into()),
        }
    } else {
        Verb::Ack
    };
    let settled = state
        .queue
        .settle(vec![LeaseAction { lease, verb }])
        .await
        .map_err(queue_problem)?;
    let status = settled
        .first()
        .map_or(SettleStatus::LeaseLost, |result| result.status);
    if status == SettleStatus::LeaseLost {
        return Err(not_leased(body.id));
    }
    let mut out = Writer::with_capacity(64);
    out.raw("{\"id\":")
        .id(body.id)
        .raw(",\"status\":")
        .value(&status)
        .raw("}");
    Ok(json_bytes(out.finish()))
}

fn delay(delay_ms: Option<i64>) -> Result<Option<i64>, Problem> {
    match delay_ms {
        Some(ms) if !(0..=limits::DURATION_MS_MAX).contains(&ms) => {
            let detail = format!("must be between 0 and {}", limits::DURATION_MS_MAX);
            Err(Problem::field(Code::InvalidField, "delay_ms", detail))
        }
        fine => Ok(fine),
    }
}

/// The lease that was given, when it is this item's, else the item's current one.
async fn held(state: &ApiState, topic: &TopicKey, body: &ClassicSettle<'_>) -> Result<LeaseRef, Problem> {
    let lease = match &body.lease_id {
        Some(Text(text)) => state.queue.open_lease(text),
        None => state
            .queue
            .current_leases(topic, &[body.id])
            .await?
            .into_iter()
            .next()
            .flatten(),
    };
    lease
        .filter(|lease| lease.topic == *topic && lease.id == body.id)
        .ok_or_else(|| not_leased(body.id))
}

fn not_leased(id: ItemId) -> Problem {
    Problem::new(
        Code::NotLeased,
        format!("item {id} is not leased; it was settled, or its lease ended"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::write_items::tests::delivery;
    use super::*;

    fn read(body: &str) -> Result<Vec<NewItem>, Problem> {
        let items: Vec<ClassicItem<'_>> = parse(body.as_bytes())?;
        items
            .iter()
            .enumerate()
            .map(|(i, item)| new_item(i, item))
            .collect()
    }

    #[test]
    fn the_readme_item_is_read() {
        let items = read(
            r#"[{"namespace":"default","topic":"test-topic","priority":1,"payload":"SGVsbG8gV29ybGQ=",
                 "deliver_after":"2024-01-01T12:00:00Z"}]"#,
        )
        .unwrap();
        assert_eq!(
            (&*items[0].payload, items[0].priority),
            (&b"Hello World"[..], Some(1))
        );
        assert_eq!(
            items[0].deliver_after,
            Some(Timestamp::from_ms(1_704_110_400_000))
        );
    }

    #[test]
    fn what_go_writes_is_read() {
        let item = |fields: &str| {
            read(&format!(r#"[{{"namespace":"a","topic":"b"{fields}}}]"#)).map(|mut i| i.remove(0))
        };
        assert_eq!(
            item(r#","deliver_after":"0001-01-01T00:00:00Z""#)
                .unwrap()
                .deliver_after,
            None
        );
        assert_eq!(
            item(r#","deliver_after":"1969-12-31T23:59:59Z""#)
                .unwrap()
                .deliver_after,
            None
        );
        let precise = item(r#","deliver_after":"2024-01-01T14:00:00.123456789+02:00""#).unwrap();
        assert_eq!(precise.deliver_after, Some(Timestamp::from_ms(1_704_110_400_123)));
        let bare = item(r#","payload":null,"unknown":{"a":[1]}"#).unwrap();
        assert_eq!((bare.payload.len(), bare.priority), (0, Some(0)));
        let error = item(r#","payload":"%""#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "malformed_body: [0].payload: not standard base64"
        );
        assert!(item(r#","deliver_after":"noon""#).is_err());
    }

    #[test]
    fn ids_are_read_as_numbers_and_as_strings() {
        for id in ["174568912344", "\"174568912344\""] {
            let body =
                format!("{{\n \"id\": {id},\n \"namespace\": \"default\",\n \"topic\": \"test-topic\"\n}}");
            let settle: ClassicSettle<'_> = parse(body.as_bytes()).unwrap();
            assert_eq!(settle.id, ItemId(174_568_912_344));
        }
    }

    #[test]
    fn answers_are_bare_lists() {
        let items: Value =
            serde_json::from_slice(&delivered(&[delivery(PayloadKind::Text, b"hi")]).finish()).unwrap();
        assert_eq!(
            items,
            json!([{
                "id": "9007199254740993", "namespace": "default", "topic": "orders", "priority": 5,
                "payload": "aGk=", "deliver_after": "2024-01-01T00:00:01.000Z", "attempt": 2,
                "lease_id": "lease-1", "lease_expires_at": "2024-01-01T00:00:31.000Z",
            }])
        );
        let key = TopicKey::parse("a", "b").unwrap();
        let outcome = Some((key, EnqueueResult::Accepted { id: ItemId(3) }));
        let answer: Value = serde_json::from_slice(&results(&[outcome]).finish()).unwrap();
        assert_eq!(
            answer,
            json!([{"namespace": "a", "topic": "b", "id": "3", "status": "accepted"}])
        );
    }

    #[test]
    fn an_unavailable_shard_is_500_here() {
        let problem = queue_problem(QueueError::ShardUnavailable("gone".into()));
        assert_eq!(
            (problem.status().as_u16(), problem.code()),
            (500, Code::ShardUnavailable)
        );
        assert_eq!(queue_problem(QueueError::LogFull).status(), 503);
    }
}
