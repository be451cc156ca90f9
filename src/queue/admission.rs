//! From what a producer handed in to the item that is stored: defaults filled in, limits held.

use super::error::QueueError;
use super::request::NewItem;
use crate::clock::Timestamp;
use crate::model::limits::{
    ATTEMPTS_MAX, CONTENT_TYPE_BYTES_MAX, DURATION_MS_MAX, IDEMPOTENCY_KEY_BYTES_MAX, LEASE_MS_MAX,
    LEASE_MS_MIN,
};
use crate::model::{Extra, Item, ItemId, PayloadKind, Settings, has_control, header_problem, some};

/// The limits an operator sets on items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemLimits {
    /// Largest payload, in bytes.
    pub payload_bytes_max: usize,
    /// Most items in one request.
    pub batch_items_max: usize,
}

/// Checks a whole batch; the first problem refuses it, by the item's index and field.
pub(super) fn check_batch(items: &[NewItem], limits: ItemLimits) -> Result<(), QueueError> {
    if items.is_empty() {
        return Err(QueueError::invalid("items", "send at least one item"));
    }
    if items.len() > limits.batch_items_max {
        let detail = format!(
            "send at most {} in one request",
            some(limits.batch_items_max, "item")
        );
        return Err(QueueError::invalid("items", detail));
    }
    for (index, item) in items.iter().enumerate() {
        if let Err((field, detail)) = check(item, limits) {
            return Err(QueueError::invalid(format!("items[{index}].{field}"), detail));
        }
    }
    Ok(())
}

fn check(item: &NewItem, limits: ItemLimits) -> Result<(), (&'static str, String)> {
    let refuse = |field, detail: String| Err((field, detail));
    let outside = |value: Option<i64>, min: i64, max: i64| value.is_some_and(|v| v < min || v > max);
    if item.payload.len() > limits.payload_bytes_max {
        let detail = format!(
            "has {} bytes; at most {} are allowed",
            item.payload.len(),
            limits.payload_bytes_max
        );
        return refuse("payload", detail);
    }
    if item.deliver_after.is_some() && item.delay_ms.is_some() {
        return refuse("delay_ms", "give deliver_after or delay_ms, not both".into());
    }
    for (field, value, min) in [("delay_ms", item.delay_ms, 0), ("ttl_ms", item.ttl_ms, 1)] {
        if outside(value, min, DURATION_MS_MAX) {
            return refuse(field, format!("must be between {min} and {DURATION_MS_MAX}"));
        }
    }
    if outside(
        item.lease_ms.map(i64::from),
        LEASE_MS_MIN.into(),
        LEASE_MS_MAX.into(),
    ) {
        return refuse(
            "lease_ms",
            format!("must be between {LEASE_MS_MIN} and {LEASE_MS_MAX}"),
        );
    }
    if outside(item.max_attempts.map(i64::from), 1, ATTEMPTS_MAX.into()) {
        return refuse("max_attempts", format!("must be between 1 and {ATTEMPTS_MAX}"));
    }
    check_extra(item)
}

fn check_extra(item: &NewItem) -> Result<(), (&'static str, String)> {
    if let Some(key) = &item.idempotency_key
        && (key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX || has_control(key))
    {
        let detail = format!("must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes without control characters");
        return Err(("idempotency_key", detail));
    }
    if let Some(content_type) = &item.content_type
        && (content_type.len() > CONTENT_TYPE_BYTES_MAX || has_control(content_type))
    {
        let detail = format!("must be at most {CONTENT_TYPE_BYTES_MAX} bytes without control characters");
        return Err(("content_type", detail));
    }
    match header_problem(&item.headers) {
        Some(problem) => Err(("headers", problem)),
        None => Ok(()),
    }
}

/// The item to be stored under `id`, from a checked `item`.
pub(super) fn complete(item: NewItem, id: ItemId, settings: &Settings, now: Timestamp) -> Item {
    let deliver_after = match (item.deliver_after, item.delay_ms) {
        (Some(instant), _) => instant,
        (None, Some(delay_ms)) => now.plus_ms(delay_ms),
        (None, None) => now,
    };
    let has_extra = item.content_type.is_some() || !item.headers.is_empty() || item.idempotency_key.is_some();
    let extra = has_extra.then(|| {
        Box::new(Extra {
            content_type: item.content_type,
            headers: item.headers,
            idempotency_key: item.idempotency_key,
            hook_version: None,
        })
    });
    Item {
        id,
        priority: item.priority.unwrap_or(settings.priority),
        lease_ms: item.lease_ms.unwrap_or(settings.lease_ms),
        max_attempts: item.max_attempts.unwrap_or(settings.max_attempts),
        kind: item.kind.unwrap_or(PayloadKind::Bytes),
        enqueued_at: now,
        deliver_after,
        expires_at: item.ttl_ms.or(settings.ttl_ms).map(|ttl_ms| now.plus_ms(ttl_ms)),
        payload: item.payload,
        extra,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ItemLimits = ItemLimits {
        payload_bytes_max: 8,
        batch_items_max: 2,
    };

    fn problem(item: NewItem) -> String {
        check_batch(&[NewItem::default(), item], LIMITS)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn problems_name_the_item_and_the_field() {
        let big = NewItem {
            payload: vec![0; 9].into(),
            ..NewItem::default()
        };
        assert_eq!(
            problem(big),
            "items[1].payload: has 9 bytes; at most 8 are allowed"
        );
        let both = NewItem {
            deliver_after: Some(Timestamp::ZERO),
            delay_ms: Some(1),
            ..NewItem::default()
        };
        assert!(problem(both).starts_with("items[1].delay_ms"));
        let control = NewItem {
            idempotency_key: Some("a\0b".into()),
            ..NewItem::default()
        };
        assert!(problem(control).starts_with("items[1].idempotency_key"));
        let own = NewItem {
            headers: vec![("MQ-Hook".into(), "x".into())],
            ..NewItem::default()
        };
        assert!(problem(own).contains("queue's own"));
        let lease = NewItem {
            lease_ms: Some(1),
            ..NewItem::default()
        };
        assert!(problem(lease).starts_with("items[1].lease_ms"));
    }

    #[test]
    fn batches_are_bounded() {
        assert!(check_batch(&[], LIMITS).is_err());
        assert!(check_batch(&vec![NewItem::default(); 3], LIMITS).is_err());
        assert!(check_batch(&vec![NewItem::default(); 2], LIMITS).is_ok());
    }

    #[test]
    fn settings_fill_what_is_absent() {
        let now = Timestamp::from_ms(1_000);
        let settings = Settings {
            ttl_ms: Some(50),
            ..Settings::default()
        };
        let item = complete(
            NewItem {
                delay_ms: Some(5),
                ..NewItem::default()
            },
            ItemId(1),
            &settings,
            now,
        );
        assert_eq!(
            (item.priority, item.lease_ms, item.max_attempts),
            (100, 30_000, 10)
        );
        assert_eq!(
            (item.deliver_after, item.expires_at),
            (now.plus_ms(5), Some(now.plus_ms(50)))
        );
    }
}
