//! What a hook wrote, held against the limits that items have.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::hooks::contract::{Making, bytes_of};
use crate::hooks::{Edit, Reason, Shaped};
use crate::model::{
    Extra, HookRef, Item, PayloadKind, TopicKey, has_control, header_bytes, header_problem, is_own_header,
};

/// The header that tells of hooks that failed and were passed over.
const SKIPPED: &str = "mq-hook-skipped";
/// Longest text of a reason or a failure, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 10;
/// Longest code of a reason.
const CODE_BYTES_MAX: usize = 64;

/// `item` with `edit` made by `by` in `topic`; the item's limits hold. What is wrong is said for the hook's
/// owner.
pub(super) fn shape(
    item: &Item,
    edit: Edit,
    by: &HookRef,
    topic: &TopicKey,
    payload_bytes_max: usize,
) -> Result<Shaped, String> {
    let mut shaped = item.clone();
    let mut extra = shaped.extra.take().unwrap_or_default();
    if let Some(payload) = edit.payload {
        if payload.len() > payload_bytes_max {
            let bytes = payload.len();
            return Err(format!(
                "payload: has {bytes} bytes; at most {payload_bytes_max} are allowed"
            ));
        }
        shaped.kind = kind_of(item.kind, &payload);
        shaped.payload = payload;
    }
    if let Some(headers) = edit.headers {
        extra.headers = merged(&extra, headers)?;
    }
    if let Some(priority) = edit.priority {
        shaped.priority = priority;
    }
    if let Some(ms) = edit.deliver_after {
        let latest = Timestamp::MAX.ms().unsigned_abs();
        if ms > latest {
            return Err(format!("deliver-after: {ms} ms is after the year 9999"));
        }
        shaped.deliver_after = Timestamp::from_ms(ms.cast_signed());
    }
    let route = match edit.topic {
        None => None,
        Some(name) if *name == *topic.topic().as_str() => None,
        Some(name) => Some(name.parse().map_err(|error| format!("topic: {error}"))?),
    };
    extra.hook_version = Some(by.to_string().into());
    shaped.extra = Some(extra);
    Ok(Shaped {
        item: Arc::new(shaped),
        route,
    })
}

/// What `edits` make of `item`, before they do.
pub(super) fn making(item: &Item, edits: &[Edit]) -> Making {
    let instead = bytes_of(item);
    let old_headers = item
        .extra
        .as_deref()
        .map_or(0, |extra| header_bytes(&extra.headers) as usize);
    let bytes_after = |edit: &Edit| {
        let payload = edit.payload.as_deref().map_or(item.payload.len(), <[u8]>::len);
        let headers = edit
            .headers
            .as_deref()
            .map_or(0, |new| header_bytes(new) as usize);
        // A hook's headers come beside the queue's own.
        instead - item.payload.len() + payload + headers.saturating_sub(old_headers)
    };
    Making {
        parts: edits.len(),
        bytes: edits.iter().map(bytes_after).sum(),
        instead,
    }
}

/// How a new payload is shown: as the old one where it still can be.
fn kind_of(was: PayloadKind, payload: &[u8]) -> PayloadKind {
    let text = std::str::from_utf8(payload);
    match (was, text) {
        (PayloadKind::Json, Ok(text)) if serde_json::from_str::<&RawValue>(text).is_ok() => PayloadKind::Json,
        (PayloadKind::Json | PayloadKind::Text, Ok(_)) => PayloadKind::Text,
        _ => PayloadKind::Bytes,
    }
}

/// Names and values in order.
type Headers = Vec<(Box<str>, Box<str>)>;

/// A hook's headers, beside which the queue's own stay as they were: the hook may give them back or not.
fn merged(extra: &Extra, headers: Headers) -> Result<Headers, String> {
    let own: Vec<_> = extra
        .headers
        .iter()
        .filter(|(name, _)| is_own_header(name))
        .cloned()
        .collect();
    let mut all: Vec<_> = headers
        .into_iter()
        .filter(|header| !own.contains(header))
        .collect();
    if let Some(problem) = header_problem(&all) {
        return Err(format!("headers: {problem}"));
    }
    all.extend(own);
    Ok(all)
}

/// `item` with the mark of a hook that failed on it and was passed over.
pub(super) fn passed_over(item: &Item, by: &HookRef) -> Arc<Item> {
    let mut marked = item.clone();
    let extra = marked.extra.get_or_insert_default();
    extra.headers.push((SKIPPED.into(), by.to_string().into()));
    Arc::new(marked)
}

/// A reason whose code keeps its form; its message is cut and cleaned.
pub(super) fn reason(reason: Reason) -> Result<Reason, String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    let code = &*reason.code;
    if code.is_empty() || code.len() > CODE_BYTES_MAX || !code.bytes().all(allowed) {
        let shown = clean(code);
        return Err(format!(
            "code: {shown:?} is not 1 to {CODE_BYTES_MAX} of a-z, 0-9, _ and -"
        ));
    }
    Ok(Reason {
        message: clean(&reason.message).into(),
        code: reason.code,
    })
}

/// `text` cut to its limit, without control characters.
pub(super) fn clean(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    if !has_control(cut) {
        return cut.to_owned();
    }
    cut.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
