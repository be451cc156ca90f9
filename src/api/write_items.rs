//! The answers of the hot routes, written straight into bytes.

use bytes::Bytes;
use serde::Serialize;

use super::items::HandedOut;
use crate::clock::Timestamp;
use crate::model::{Item, ItemId, PayloadKind};
use crate::queue::{Delivered, Durability, EnqueueResult, HookReason, SettleResult, SettleStatus};

/// JSON under construction. Values are written where they stand; the caller keeps the shape.
pub(crate) struct Writer {
    text: Vec<u8>,
    /// The instants written lately, by their low bits: those of a batch are mostly the same few.
    instants: [(i64, [u8; INSTANT_BYTES]); INSTANTS],
}

const INSTANTS: usize = 8;
/// `2024-01-31T12:00:00.250Z`.
const INSTANT_BYTES: usize = 24;

impl Writer {
    /// An empty text with room for `bytes`.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes),
            instants: [(i64::MIN, [0; INSTANT_BYTES]); INSTANTS],
        }
    }

    /// The finished text.
    pub(crate) fn finish(self) -> Bytes {
        Bytes::from(self.text)
    }

    /// The finished text as a vector.
    pub(crate) fn into_vec(self) -> Vec<u8> {
        self.text
    }

    /// Text that is JSON already.
    pub(crate) fn raw(&mut self, json: &str) -> &mut Self {
        self.text.extend_from_slice(json.as_bytes());
        self
    }

    /// A string with its escapes.
    pub(crate) fn string(&mut self, text: &str) -> &mut Self {
        self.value(text)
    }

    /// Anything serde can write.
    pub(crate) fn value(&mut self, value: &(impl Serialize + ?Sized)) -> &mut Self {
        let start = self.text.len();
        if serde_json::to_writer(&mut self.text, value).is_err() {
            // Only a map with keys that are no texts fails, and none is ever given.
            self.text.truncate(start);
            self.text.extend_from_slice(b"null");
        }
        self
    }

    /// A number.
    pub(crate) fn number(&mut self, number: impl itoa::Integer) -> &mut Self {
        self.text
            .extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        self
    }

    /// An id, as a string of digits.
    pub(crate) fn id(&mut self, id: ItemId) -> &mut Self {
        self.raw("\"").number(id.0).raw("\"")
    }

    /// An instant, as RFC 3339 in UTC with milliseconds.
    pub(crate) fn timestamp(&mut self, instant: Timestamp) -> &mut Self {
        let ms = instant.ms();
        let (known, written) = &mut self.instants[ms as usize % INSTANTS];
        if *known != ms {
            *written = instant_text(ms);
            *known = ms;
        }
        self.text.push(b'"');
        self.text.extend_from_slice(written);
        self.text.push(b'"');
        self
    }

    /// `"payload":"…"`, `"json":…` or `"text":"…"`, as the producer gave it.
    pub(crate) fn payload(&mut self, item: &Item) -> &mut Self {
        match (item.kind, std::str::from_utf8(&item.payload)) {
            (PayloadKind::Json, Ok(json)) => self.raw("\"json\":").raw(json),
            (PayloadKind::Text, Ok(text)) => self.raw("\"text\":").string(text),
            _ => self.raw("\"payload\":").base64(&item.payload),
        }
    }

    /// Bytes as base64.
    pub(crate) fn base64(&mut self, bytes: &[u8]) -> &mut Self {
        self.raw("\"");
        base64_simd::STANDARD.encode_append(bytes, &mut self.text);
        self.raw("\"")
    }

    /// Header names and values as an object.
    pub(crate) fn headers(&mut self, headers: &[(Box<str>, Box<str>)]) -> &mut Self {
        self.raw("{");
        for (i, (name, value)) in headers.iter().enumerate() {
            self.raw(if i == 0 { "" } else { "," })
                .string(name)
                .raw(":")
                .string(value);
        }
        self.raw("}")
    }
}

/// `2024-01-31T12:00:00.250Z`. The formatter of a date library takes ten times as long, and every
/// delivered item carries three instants.
fn instant_text(ms: i64) -> [u8; INSTANT_BYTES] {
    let mut out = [0; INSTANT_BYTES];
    let mut at = 0;
    let ms = ms.clamp(0, Timestamp::MAX.ms()) as u64;
    let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
    // Years counted from March, so that the leap day is the last of its year; 719,468 days lie between
    // 1 March of the year 0 and 1 January 1970.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let mut digits = |number: u64, width: u32, after: u8| {
        for place in (0..width).rev() {
            out[at] = b'0' + (number / 10_u64.pow(place) % 10) as u8;
            at += 1;
        }
        out[at] = after;
        at += 1;
    };
    digits(year, 4, b'-');
    digits(month, 2, b'-');
    digits(day, 2, b'T');
    digits(in_day / 3_600_000, 2, b':');
    digits(in_day / 60_000 % 60, 2, b':');
    digits(in_day / 1_000 % 60, 2, b'.');
    digits(in_day % 1_000, 3, b'Z');
    out
}

/// The answer to an enqueue.
pub(crate) fn enqueued(durability: Durability, results: &[EnqueueResult]) -> Bytes {
    let mut out = Writer::with_capacity(64 + results.len() * 52);
    out.raw(match durability {
        Durability::Logged => "{\"durability\":\"logged\",\"results\":",
        Durability::Stored => "{\"durability\":\"stored\",\"results\":",
    });
    enqueue_results(&mut out, results);
    out.raw("}");
    out.finish()
}

/// The list of results of an enqueue, in the order of the items.
pub(crate) fn enqueue_results(out: &mut Writer, results: &[EnqueueResult]) {
    out.raw("[");
    for (i, result) in results.iter().enumerate() {
        if i > 0 {
            out.raw(",");
        }
        enqueue_result(out, result, "");
        out.raw("}");
    }
    out.raw("]");
}

/// One result without its closing brace; `before` is JSON that goes first.
pub(crate) fn enqueue_result(out: &mut Writer, result: &EnqueueResult, before: &str) {
    out.raw("{").raw(before);
    match result {
        EnqueueResult::Accepted { id } => out.raw("\"id\":").id(*id).raw(",\"status\":\"accepted\""),
        EnqueueResult::Duplicate { id } => out.raw("\"id\":").id(*id).raw(",\"status\":\"duplicate\""),
        EnqueueResult::Split { ids } => split(out, ids),
        EnqueueResult::Filtered { id, why } => {
            out.raw("\"id\":").id(*id).raw(",\"status\":\"filtered\"");
            hook_reason(out, why)
        }
        EnqueueResult::DeadLettered { id, why } => {
            out.raw("\"id\":").id(*id).raw(",\"status\":\"dead_lettered\"");
            hook_reason(out, why)
        }
        EnqueueResult::HookRejected(why) => {
            out.raw("\"status\":\"rejected\",\"reason\":\"hook_rejected\",\"code\":")
                .string(&why.reason.code)
                .raw(",\"detail\":")
                .string(&why.reason.message);
            hook_name(out, why)
        }
        EnqueueResult::HookFailed { why, retry_after_ms } => {
            out.raw("\"status\":\"rejected\"");
            hook_reason(out, why);
            match retry_after_ms {
                Some(ms) => out.raw(",\"retry_after_ms\":").number(*ms),
                None => out,
            }
        }
        EnqueueResult::Rejected { code, message } => out
            .raw("\"status\":\"rejected\",\"reason\":")
            .string(code)
            .raw(",\"detail\":")
            .string(message),
    };
}

/// The ids of what a hook split an item into; the first one stands for it.
fn split<'a>(out: &'a mut Writer, ids: &[ItemId]) -> &'a mut Writer {
    for (i, id) in ids.iter().enumerate() {
        match i {
            0 => out.raw("\"id\":").id(*id).raw(",\"ids\":[").id(*id),
            _ => out.raw(",").id(*id),
        };
    }
    out.raw("],\"status\":\"accepted\"")
}

/// What a hook said, and which one did.
fn hook_reason<'a>(out: &'a mut Writer, why: &HookReason) -> &'a mut Writer {
    out.raw(",\"reason\":")
        .string(&why.reason.code)
        .raw(",\"detail\":")
        .string(&why.reason.message);
    hook_name(out, why)
}

fn hook_name<'a>(out: &'a mut Writer, why: &HookReason) -> &'a mut Writer {
    out.raw(",\"hook\":").value(&why.by.to_string())
}

/// The answer to a dequeue.
pub(crate) fn delivered(handed_out: &HandedOut) -> Bytes {
    let mut out = Writer::with_capacity(items_bytes(&handed_out.items));
    out.raw("{");
    handed_out_members(&mut out, handed_out);
    out.raw("}");
    out.finish()
}

/// `"items":[…]`, and why there are not more.
fn handed_out_members(out: &mut Writer, handed_out: &HandedOut) {
    delivered_items(out, &handed_out.items);
    if handed_out.out_of_leases {
        out.raw(",\"limited_by\":\"leases\"");
    }
}

fn items_bytes(items: &[Delivered]) -> usize {
    32 + items
        .iter()
        .map(|d| 420 + d.item.payload.len() * 4 / 3)
        .sum::<usize>()
}

/// `"items":[…]`.
pub(crate) fn delivered_items(out: &mut Writer, items: &[Delivered]) {
    out.raw("\"items\":[");
    for (i, delivered) in items.iter().enumerate() {
        if i > 0 {
            out.raw(",");
        }
        delivered_item(out, delivered);
    }
    out.raw("]");
}

fn delivered_item(out: &mut Writer, delivered: &Delivered) {
    let item = &delivered.item;
    out.raw("{\"id\":").id(item.id);
    out.raw(",\"topic\":").string(delivered.topic.topic().as_str());
    out.raw(",\"priority\":").number(item.priority);
    out.raw(",").payload(item);
    if let Some(extra) = &item.extra {
        if let Some(content_type) = &extra.content_type {
            out.raw(",\"content_type\":").string(content_type);
        }
        if !extra.headers.is_empty() {
            out.raw(",\"headers\":").headers(&extra.headers);
        }
        if let Some(hook) = &extra.hook_version {
            out.raw(",\"hook_version\":").string(hook);
        }
    }
    out.raw(",\"attempt\":").number(delivered.attempt);
    out.raw(",\"enqueued_at\":").timestamp(item.enqueued_at);
    out.raw(",\"deliver_after\":").timestamp(delivered.due);
    if let Some(lease) = &delivered.lease {
        // Lease ids are base64url: nothing in them needs an escape.
        out.raw(",\"lease_id\":\"").raw(&lease.id);
        out.raw("\",\"lease_expires_at\":").timestamp(lease.expires_at);
    }
    if let Some(error) = &delivered.last_error {
        out.raw(",\"last_error\":").string(error);
    }
    out.raw("}");
}

/// The answer to ack, nack, extend, release and reject; a lease that nobody holds has no result of its own.
pub(crate) fn settled(results: &[Option<SettleResult>], then: Option<&HandedOut>) -> Bytes {
    let mut out =
        Writer::with_capacity(32 + results.len() * 48 + then.map_or(0, |then| items_bytes(&then.items)));
    out.raw("{\"results\":[");
    for (i, result) in results.iter().enumerate() {
        out.raw(if i == 0 { "{" } else { ",{" });
        if let Some(result) = result {
            out.raw("\"id\":").id(result.id).raw(",");
        }
        out.raw(
            match result.map_or(SettleStatus::LeaseLost, |result| result.status) {
                SettleStatus::Ok => "\"status\":\"ok\"",
                SettleStatus::AlreadyDone => "\"status\":\"already_done\"",
                SettleStatus::LeaseLost => "\"status\":\"lease_lost\"",
            },
        );
        if let Some(expires) = result.and_then(|result| result.lease_expires_at) {
            out.raw(",\"lease_expires_at\":").timestamp(expires);
        }
        out.raw("}");
    }
    out.raw("]");
    if let Some(handed_out) = then {
        out.raw(",");
        handed_out_members(&mut out, handed_out);
    }
    out.raw("}");
    out.finish()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::hooks::Reason;
    use crate::model::{Extra, HookRef, TopicKey};
    use crate::queue::Lease;

    /// A delivery as consumers get it, for tests of its shapes.
    pub(crate) fn delivery(kind: PayloadKind, payload: &[u8]) -> Delivered {
        Delivered {
            topic: TopicKey::parse("default", "orders").unwrap(),
            item: Arc::new(Item {
                id: ItemId(9_007_199_254_740_993),
                priority: 5,
                lease_ms: 30_000,
                max_attempts: 10,
                kind,
                enqueued_at: Timestamp::from_ms(1_704_067_200_123),
                deliver_after: Timestamp::from_ms(1_704_067_200_123),
                expires_at: None,
                payload: payload.into(),
                extra: Some(Box::new(Extra {
                    content_type: Some("text/plain".into()),
                    headers: vec![("a\"b".into(), "c".into())],
                    ..Extra::default()
                })),
            }),
            attempt: 2,
            due: Timestamp::from_ms(1_704_067_201_000),
            lease: Some(Lease {
                id: "lease-1".into(),
                expires_at: Timestamp::from_ms(1_704_067_231_000),
            }),
            last_error: Some("line\nbreak".into()),
        }
    }

    fn parsed(bytes: &Bytes) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    fn handed_out(items: Vec<Delivered>) -> HandedOut {
        HandedOut {
            items,
            out_of_leases: false,
        }
    }

    #[test]
    fn a_delivery_has_the_documented_shape() {
        let got = parsed(&delivered(&handed_out(vec![delivery(PayloadKind::Bytes, b"hi")])));
        assert_eq!(
            got,
            json!({"items": [{
                "id": "9007199254740993", "topic": "orders", "priority": 5, "payload": "aGk=",
                "content_type": "text/plain", "headers": {"a\"b": "c"}, "attempt": 2,
                "enqueued_at": "2024-01-01T00:00:00.123Z", "deliver_after": "2024-01-01T00:00:01.000Z",
                "lease_id": "lease-1", "lease_expires_at": "2024-01-01T00:00:31.000Z",
                "last_error": "line\nbreak",
            }]})
        );
        let both = [
            delivery(PayloadKind::Json, b"{\"a\": 1}"),
            delivery(PayloadKind::Text, "é\"".as_bytes()),
        ];
        let items = parsed(&delivered(&handed_out(both.into())));
        assert_eq!(items["items"][0]["json"], json!({"a": 1}));
        assert_eq!(items["items"][1]["text"], json!("é\""));
        assert_eq!(parsed(&delivered(&HandedOut::default())), json!({"items": []}));
    }

    #[test]
    fn what_hooks_decided_has_the_documented_shape() {
        let why = |code: &str| {
            Box::new(HookReason {
                by: HookRef {
                    hook: "h".parse().unwrap(),
                    version: 3,
                },
                reason: Reason {
                    code: code.into(),
                    message: "why".into(),
                },
            })
        };
        let results = [
            EnqueueResult::Split {
                ids: vec![ItemId(1), ItemId(2)],
            },
            EnqueueResult::Filtered {
                id: ItemId(3),
                why: why("spam"),
            },
            EnqueueResult::DeadLettered {
                id: ItemId(4),
                why: why("poison"),
            },
            EnqueueResult::HookRejected(why("schema")),
            EnqueueResult::HookFailed {
                why: why("hook_overloaded"),
                retry_after_ms: Some(70),
            },
        ];
        let got = parsed(&enqueued(Durability::Logged, &results));
        assert_eq!(
            got["results"],
            json!([
                {"id": "1", "ids": ["1", "2"], "status": "accepted"},
                {"id": "3", "status": "filtered", "reason": "spam", "detail": "why", "hook": "h@3"},
                {"id": "4", "status": "dead_lettered", "reason": "poison", "detail": "why", "hook": "h@3"},
                {"status": "rejected", "reason": "hook_rejected", "code": "schema", "detail": "why", "hook": "h@3"},
                {"status": "rejected", "reason": "hook_overloaded", "detail": "why", "hook": "h@3", "retry_after_ms": 70},
            ])
        );
    }

    #[test]
    fn results_have_the_documented_shape() {
        let got = parsed(&enqueued(
            Durability::Stored,
            &[
                EnqueueResult::Accepted { id: ItemId(1) },
                EnqueueResult::Duplicate { id: ItemId(2) },
                EnqueueResult::Rejected {
                    code: "quota_exceeded",
                    message: "wait".into(),
                },
            ],
        ));
        assert_eq!(
            got,
            json!({"durability": "stored", "results": [
                {"id": "1", "status": "accepted"}, {"id": "2", "status": "duplicate"},
                {"status": "rejected", "reason": "quota_exceeded", "detail": "wait"},
            ]})
        );
        let extended = SettleResult {
            status: SettleStatus::Ok,
            lease_expires_at: Some(Timestamp::from_ms(0)),
            id: ItemId(3),
        };
        assert_eq!(
            parsed(&settled(&[Some(extended), None], Some(&HandedOut::default()))),
            json!({"results": [
                {"id": "3", "status": "ok", "lease_expires_at": "1970-01-01T00:00:00.000Z"},
                {"status": "lease_lost"},
            ], "items": []})
        );
    }

    #[test]
    fn instants_are_written_as_the_date_library_writes_them() {
        // The last day that the library writes in every time zone.
        let last_ms = 253_402_207_200_000;
        let mut instants = vec![
            0,
            951_782_399_999,
            951_782_400_000,
            4_107_542_399_999,
            last_ms - 1,
        ];
        // A step that is prime to a day meets every month, hour and leap rule.
        instants.extend((0..20_000).map(|n| n * 12_345_678_901 % last_ms));
        for ms in instants {
            let text = instant_text(ms);
            assert_eq!(
                std::str::from_utf8(&text).unwrap(),
                Timestamp::from_ms(ms).to_string()
            );
        }
    }
}
