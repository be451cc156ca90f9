//! Items as rows, and rows as items.

use std::borrow::Cow;
use std::sync::Arc;

use sea_orm::{QueryResult, TryGetable, Value};

use super::dialect::{Kind, Table};
use super::error::corrupt;
use super::{DedupRow, ShardError};
use crate::clock::Timestamp;
use crate::model::{DeadReason, Death, Extra, Item, ItemId, PayloadKind, QueuedItem, Standing, TopicKey};

/// The columns every item fills come first: most items fill no other, and then the rest is not sent.
pub(super) const ITEMS: Table = Table {
    name: "items",
    columns: &[
        ("id", Kind::Int),
        ("namespace", Kind::Text),
        ("topic", Kind::Text),
        ("slot", Kind::Int),
        ("state", Kind::Int),
        ("band", Kind::Int),
        ("rank", Kind::Int),
        ("priority", Kind::Int),
        ("lease_ms", Kind::Int),
        ("max_attempts", Kind::Int),
        ("kind", Kind::Int),
        ("enqueued_at", Kind::Int),
        ("deliver_after", Kind::Int),
        ("due", Kind::Int),
        ("expires_at", Kind::IntOrNull),
        ("generation", Kind::Int),
        ("attempt", Kind::Int),
        ("payload", Kind::Bytes),
        ("content_type", Kind::TextOrNull),
        ("headers", Kind::TextOrNull),
        ("idempotency_key", Kind::TextOrNull),
        ("hook_version", Kind::TextOrNull),
        ("last_error", Kind::TextOrNull),
        ("lease_expires_at", Kind::IntOrNull),
        ("dead_reason", Kind::IntOrNull),
        ("dead_at", Kind::IntOrNull),
    ],
    key_width: 1,
};

/// How many columns an item without extras, errors, leases and death fills.
pub(super) const PLAIN_WIDTH: usize = 18;

/// The columns [`decode`] reads, in its order.
pub(super) const ITEM_FIELDS: &str = "i.id, i.priority, i.lease_ms, i.max_attempts, i.kind, i.enqueued_at, \
     i.deliver_after, i.due, i.expires_at, i.generation, i.attempt, i.content_type, i.headers, \
     i.idempotency_key, i.hook_version, i.last_error, i.lease_expires_at, i.dead_reason, i.dead_at, i.payload";

/// The columns [`decode_with_topic`] reads, in its order.
pub(super) fn fields_with_topic() -> String {
    format!("i.namespace, i.topic, {ITEM_FIELDS}")
}

pub(super) const DEDUP: Table = Table {
    name: "dedup",
    columns: &[
        ("namespace", Kind::Text),
        ("topic", Kind::Text),
        ("key_hash", Kind::Bytes),
        ("body_hash", Kind::Int),
        ("id", Kind::Int),
        ("expires_at", Kind::Int),
    ],
    key_width: 3,
};

/// How many columns `item` fills.
pub(super) fn width(item: &QueuedItem) -> usize {
    let standing = &item.standing;
    if item.item.extra.is_none()
        && standing.last_error.is_none()
        && standing.lease_expires_at.is_none()
        && standing.dead.is_none()
    {
        PLAIN_WIDTH
    } else {
        ITEMS.columns.len()
    }
}

/// Appends the cells of `item`'s row, [`width`] of them.
pub(super) fn encode(topic: &TopicKey, queued: &QueuedItem, cells: &mut Vec<Value>) {
    let (item, standing, key) = (&*queued.item, &queued.standing, queued.key());
    cells.extend([
        int(item.id.0),
        topic.namespace().as_str().into(),
        topic.topic().as_str().into(),
        int(topic.slot().0),
        int(u8::from(standing.dead.is_some())),
        key.band.into(),
        key.rank.into(),
        i64::from(item.priority).into(),
        int(item.lease_ms),
        int(item.max_attempts),
        int(item.kind as u8),
        item.enqueued_at.ms().into(),
        item.deliver_after.ms().into(),
        standing.due.ms().into(),
        item.expires_at.map(Timestamp::ms).into(),
        int(standing.generation),
        int(standing.attempt),
        item.payload[..].into(),
    ]);
    if width(queued) > PLAIN_WIDTH {
        let extra = item.extra.as_deref();
        let headers = extra.filter(|extra| !extra.headers.is_empty());
        cells.extend([
            text(extra.and_then(|extra| extra.content_type.as_deref())),
            // Pairs of strings always have a JSON text.
            headers
                .and_then(|extra| serde_json::to_string(&extra.headers).ok())
                .into(),
            text(extra.and_then(|extra| extra.idempotency_key.as_deref())),
            text(extra.and_then(|extra| extra.hook_version.as_deref())),
            text(standing.last_error.as_deref()),
            standing.lease_expires_at.map(Timestamp::ms).into(),
            standing.dead.map(|death| death.reason as i64).into(),
            standing.dead.map(|death| death.at.ms()).into(),
        ]);
    }
}

/// Appends the cells of one remembered key.
pub(super) fn encode_key(row: &DedupRow, cells: &mut Vec<Value>) {
    cells.extend([
        row.topic.namespace().as_str().into(),
        row.topic.topic().as_str().into(),
        row.key_hash.to_be_bytes().to_vec().into(),
        row.body_hash.cast_signed().into(),
        int(row.id.0),
        row.expires_at.ms().into(),
    ]);
}

/// Ids are below 2^63 and everything else is narrower.
fn int(number: impl Into<u64>) -> Value {
    number.into().cast_signed().into()
}

/// PostgreSQL has no text with U+0000 in it. A consumer's error message may have one, and a row that can
/// never be stored would hold up the log for ever.
fn text(text: Option<&str>) -> Value {
    let storable = |text: &str| match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}"),
        false => text.to_owned(),
    };
    text.map(storable).into()
}

/// Reads the columns of a row one after the other.
pub(super) struct Cells<'a> {
    row: &'a QueryResult,
    next: usize,
}

impl<'a> Cells<'a> {
    pub(super) fn new(row: &'a QueryResult) -> Self {
        Self { row, next: 0 }
    }

    /// The next column's value.
    pub(super) fn get<T: TryGetable>(&mut self) -> Result<T, ShardError> {
        let value = self.row.try_get_by_index(self.next)?;
        self.next += 1;
        Ok(value)
    }

    /// The next column's value, narrower than the column.
    pub(super) fn narrow<T: TryFrom<i64>>(&mut self) -> Result<T, ShardError> {
        let wide: i64 = self.get()?;
        T::try_from(wide).map_err(|_| corrupt("a number is out of range"))
    }

    /// The next column's value as an id.
    pub(super) fn id(&mut self) -> Result<ItemId, ShardError> {
        self.narrow().map(ItemId)
    }

    /// The next column's value as an instant.
    pub(super) fn instant(&mut self) -> Result<Timestamp, ShardError> {
        self.get().map(Timestamp::from_ms)
    }

    /// The next column's value as an instant, if there is one.
    pub(super) fn instant_or_null(&mut self) -> Result<Option<Timestamp>, ShardError> {
        Ok(self.get::<Option<i64>>()?.map(Timestamp::from_ms))
    }

    fn text(&mut self) -> Result<Option<Box<str>>, ShardError> {
        Ok(self.get::<Option<String>>()?.map(Into::into))
    }

    /// The next two columns as a topic.
    pub(super) fn topic(&mut self) -> Result<TopicKey, ShardError> {
        let (namespace, topic): (String, String) = (self.get()?, self.get()?);
        TopicKey::parse(&namespace, &topic).map_err(|_| corrupt("a topic has an impossible name"))
    }

    /// Whether the next column is null, without moving on.
    pub(super) fn is_null(&self) -> Result<bool, ShardError> {
        Ok(self.row.try_get_by_index::<Option<i64>>(self.next)?.is_none())
    }
}

/// The item in the next [`ITEM_FIELDS`] of a row.
pub(super) fn decode(cells: &mut Cells<'_>) -> Result<QueuedItem, ShardError> {
    let id = cells.id()?;
    let priority = cells.narrow()?;
    let lease_ms = cells.narrow()?;
    let max_attempts = cells.narrow()?;
    let kind =
        PayloadKind::from_code(cells.narrow()?).ok_or_else(|| corrupt("a payload's kind is unknown"))?;
    let enqueued_at = cells.instant()?;
    let deliver_after = cells.instant()?;
    let due = cells.instant()?;
    let expires_at = cells.instant_or_null()?;
    let generation = cells.narrow()?;
    let attempt = cells.narrow()?;
    let extra = decode_extra(cells)?;
    let last_error = cells.text()?;
    let lease_expires_at = cells.instant_or_null()?;
    let dead = decode_death(cells)?;
    let payload: Vec<u8> = cells.get()?;
    Ok(QueuedItem {
        item: Arc::new(Item {
            id,
            priority,
            lease_ms,
            max_attempts,
            kind,
            enqueued_at,
            deliver_after,
            expires_at,
            payload: payload.into(),
            extra,
        }),
        standing: Standing {
            due,
            generation,
            attempt,
            lease_expires_at,
            leased_at: None,
            last_error,
            dead,
        },
    })
}

fn decode_extra(cells: &mut Cells<'_>) -> Result<Option<Box<Extra>>, ShardError> {
    let content_type = cells.text()?;
    let headers = match cells.get::<Option<String>>()? {
        Some(json) => serde_json::from_str::<Vec<(Cow<'_, str>, Cow<'_, str>)>>(&json)
            .map_err(|_| corrupt("an item's headers are not readable"))?
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        None => vec![],
    };
    let extra = Extra {
        content_type,
        headers,
        idempotency_key: cells.text()?,
        hook_version: cells.text()?,
    };
    Ok((extra != Extra::default()).then(|| Box::new(extra)))
}

fn decode_death(cells: &mut Cells<'_>) -> Result<Option<Death>, ShardError> {
    let reason: Option<i64> = cells.get()?;
    let at = cells.instant_or_null()?;
    let (Some(reason), Some(at)) = (reason, at) else {
        return Ok(None);
    };
    let reason = u8::try_from(reason)
        .ok()
        .and_then(DeadReason::from_code)
        .ok_or_else(|| corrupt("a reason for death is unknown"))?;
    Ok(Some(Death { reason, at }))
}

/// The topic and item in a row of [`fields_with_topic`].
pub(super) fn decode_with_topic(row: &QueryResult) -> Result<(TopicKey, QueuedItem), ShardError> {
    let mut cells = Cells::new(row);
    Ok((cells.topic()?, decode(&mut cells)?))
}

/// The remembered key of `topic` in a row of its hash, its body's hash, its item and its end.
pub(super) fn key_of(topic: &TopicKey, cells: &mut Cells<'_>) -> Result<DedupRow, ShardError> {
    let hash: Vec<u8> = cells.get()?;
    let hash = <[u8; 16]>::try_from(hash).map_err(|_| corrupt("a key's hash has a wrong length"))?;
    Ok(DedupRow {
        topic: topic.clone(),
        key_hash: u128::from_be_bytes(hash),
        body_hash: cells.get::<i64>()?.cast_unsigned(),
        id: cells.id()?,
        expires_at: cells.instant()?,
    })
}
