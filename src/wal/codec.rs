//! Records as bytes.
//!
//! A frame's body is its records one after the other. Integers are little-endian, `len` and `count` are
//! LEB128, texts are `len` bytes of UTF-8:
//!
//! ```text
//! record   kind:u8 namespace:text topic:text rest
//! enqueue  1  count (id:u64 priority:i32 lease_ms:u32 max_attempts:u32 payload_kind:u8 flags:u8
//!             enqueued_at:i64 deliver_after:i64 [expires_at:i64] len payload [extra])*
//!   extra  flags:u8 [content_type:text] [idempotency_key:text] [hook_version:text]
//!          count (name:text value:text)*
//! deliver  2  count (id:u64 generation:u32 attempt:u32 lease_expires_at:i64)*
//! patch    3  count (id:u64 due:i64 generation:u32 attempt:u32 flags:u8 [last_error:text]
//!             [reason:u8 at:i64] [lease_expires_at:i64])*
//! settle   4  cause:u8 count (id:u64)*
//! purge    5  dead:u8 up_to:u64
//! keys     6  count (key_hash:u128 body_hash:u64 id:u64 expires_at:i64)*
//! ```

use hashbrown::HashMap;

use super::record::{DeliverEntry, KeyEntry, PatchEntry, Record};
use crate::clock::Timestamp;
use crate::model::{DeadReason, Death, Extra, Item, ItemId, PayloadKind, SettleCause, Standing, TopicKey};

const ENQUEUE: u8 = 1;
const DELIVER: u8 = 2;
const PATCH: u8 = 3;
const SETTLE: u8 = 4;
const PURGE: u8 = 5;
const KEYS: u8 = 6;

const ITEM_EXPIRES: u8 = 1;
const ITEM_EXTRA: u8 = 2;

const EXTRA_CONTENT_TYPE: u8 = 1;
const EXTRA_IDEMPOTENCY_KEY: u8 = 2;
const EXTRA_HOOK_VERSION: u8 = 4;

const PATCH_ERROR: u8 = 1;
const PATCH_DEAD: u8 = 2;
const PATCH_LEASE: u8 = 4;

/// The fixed part of an item, its flags and lengths: what to reserve beside its payload.
const ITEM_BYTES: usize = 64;
/// Topics a decoder remembers; more than that and it starts afresh, so that its memory is bounded.
const TOPICS_MAX: usize = 4_096;

pub(super) fn put_enqueue<'a>(
    out: &mut Vec<u8>,
    topic: &TopicKey,
    items: impl ExactSizeIterator<Item = &'a Item>,
) {
    put_head(out, ENQUEUE, topic);
    put_len(out, items.len());
    for item in items {
        put_item(out, item);
    }
}

pub(super) fn put_deliver(out: &mut Vec<u8>, topic: &TopicKey, deliveries: &[DeliverEntry]) {
    put_head(out, DELIVER, topic);
    put_len(out, deliveries.len());
    for entry in deliveries {
        out.extend_from_slice(&entry.id.0.to_le_bytes());
        out.extend_from_slice(&entry.generation.to_le_bytes());
        out.extend_from_slice(&entry.attempt.to_le_bytes());
        put_time(out, entry.lease_expires_at);
    }
}

pub(super) fn put_patch(out: &mut Vec<u8>, topic: &TopicKey, patches: &[PatchEntry]) {
    put_head(out, PATCH, topic);
    put_len(out, patches.len());
    for patch in patches {
        let standing = &patch.standing;
        out.extend_from_slice(&patch.id.0.to_le_bytes());
        put_time(out, standing.due);
        out.extend_from_slice(&standing.generation.to_le_bytes());
        out.extend_from_slice(&standing.attempt.to_le_bytes());
        out.push(
            flag(PATCH_ERROR, standing.last_error.is_some())
                | flag(PATCH_DEAD, standing.dead.is_some())
                | flag(PATCH_LEASE, patch.standing.lease_expires_at.is_some()),
        );
        if let Some(error) = &standing.last_error {
            put_bytes(out, error.as_bytes());
        }
        if let Some(death) = standing.dead {
            out.push(death.reason as u8);
            put_time(out, death.at);
        }
        if let Some(expires_at) = patch.standing.lease_expires_at {
            put_time(out, expires_at);
        }
    }
}

pub(super) fn put_settle(out: &mut Vec<u8>, topic: &TopicKey, cause: SettleCause, ids: &[ItemId]) {
    put_head(out, SETTLE, topic);
    out.push(cause as u8);
    put_len(out, ids.len());
    for id in ids {
        out.extend_from_slice(&id.0.to_le_bytes());
    }
}

pub(super) fn put_purge(out: &mut Vec<u8>, topic: &TopicKey, dead: bool, up_to: ItemId) {
    put_head(out, PURGE, topic);
    out.push(u8::from(dead));
    out.extend_from_slice(&up_to.0.to_le_bytes());
}

pub(super) fn put_keys(out: &mut Vec<u8>, topic: &TopicKey, keys: &[KeyEntry]) {
    put_head(out, KEYS, topic);
    put_len(out, keys.len());
    for entry in keys {
        out.extend_from_slice(&entry.key_hash.to_le_bytes());
        out.extend_from_slice(&entry.body_hash.to_le_bytes());
        out.extend_from_slice(&entry.id.0.to_le_bytes());
        put_time(out, entry.expires_at);
    }
}

/// An item alone, as an enqueue record has it.
pub fn encode_item(item: &Item) -> Vec<u8> {
    let mut out = Vec::new();
    put_item(&mut out, item);
    out
}

/// The item that [`encode_item`] encoded; nothing when the bytes are something else.
pub fn decode_item(bytes: &[u8]) -> Option<Item> {
    let mut input = Input(bytes);
    let item = input.item().ok()?;
    input.0.is_empty().then_some(item)
}

fn put_item(out: &mut Vec<u8>, item: &Item) {
    out.reserve(ITEM_BYTES + item.payload.len());
    out.extend_from_slice(&item.id.0.to_le_bytes());
    out.extend_from_slice(&item.priority.to_le_bytes());
    out.extend_from_slice(&item.lease_ms.to_le_bytes());
    out.extend_from_slice(&item.max_attempts.to_le_bytes());
    out.push(item.kind as u8);
    out.push(flag(ITEM_EXPIRES, item.expires_at.is_some()) | flag(ITEM_EXTRA, item.extra.is_some()));
    put_time(out, item.enqueued_at);
    put_time(out, item.deliver_after);
    if let Some(expires_at) = item.expires_at {
        put_time(out, expires_at);
    }
    put_bytes(out, &item.payload);
    if let Some(extra) = &item.extra {
        put_extra(out, extra);
    }
}

fn put_extra(out: &mut Vec<u8>, extra: &Extra) {
    let texts = [
        (EXTRA_CONTENT_TYPE, &extra.content_type),
        (EXTRA_IDEMPOTENCY_KEY, &extra.idempotency_key),
        (EXTRA_HOOK_VERSION, &extra.hook_version),
    ];
    out.push(
        texts
            .iter()
            .fold(0, |flags, (bit, text)| flags | flag(*bit, text.is_some())),
    );
    for text in texts.into_iter().filter_map(|(_, text)| text.as_deref()) {
        put_bytes(out, text.as_bytes());
    }
    put_len(out, extra.headers.len());
    for (name, value) in &extra.headers {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

fn put_head(out: &mut Vec<u8>, kind: u8, topic: &TopicKey) {
    out.push(kind);
    put_bytes(out, topic.namespace().as_str().as_bytes());
    put_bytes(out, topic.topic().as_str().as_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_len(out: &mut Vec<u8>, mut len: usize) {
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&time.ms().to_le_bytes());
}

const fn flag(bit: u8, set: bool) -> u8 {
    if set { bit } else { 0 }
}

/// The bytes are not records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undecodable;

type Decoded<T> = Result<T, Undecodable>;

/// Turns bodies back into records. Keep one for a whole log: it remembers the topics it saw, so that a
/// topic is hashed once and not once a frame.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    topics: HashMap<Box<[u8]>, TopicKey, foldhash::fast::RandomState>,
}

impl Decoder {
    /// Hands every record of a frame's `body` to `visit`, in order.
    pub(super) fn records(&mut self, body: &[u8], visit: &mut dyn FnMut(Record)) -> Decoded<()> {
        let mut input = Input(body);
        while !input.0.is_empty() {
            visit(self.record(&mut input)?);
        }
        Ok(())
    }

    fn record(&mut self, input: &mut Input<'_>) -> Decoded<Record> {
        let kind = input.u8()?;
        let topic = self.topic(input)?;
        match kind {
            ENQUEUE => Ok(Record::Enqueue {
                topic,
                items: input.list(ITEM_BYTES_MIN, Input::item)?,
            }),
            DELIVER => Ok(Record::Deliver {
                topic,
                deliveries: input.list(24, Input::delivery)?,
            }),
            PATCH => Ok(Record::Patch {
                topic,
                patches: input.list(25, Input::patch)?,
            }),
            SETTLE => Ok(Record::Settle {
                topic,
                cause: SettleCause::from_code(input.u8()?).ok_or(Undecodable)?,
                ids: input.list(8, Input::id)?,
            }),
            KEYS => Ok(Record::Keys {
                topic,
                keys: input.list(40, Input::key)?,
            }),
            PURGE => Ok(Record::Purge {
                topic,
                dead: input.bool()?,
                up_to: input.id()?,
            }),
            _ => Err(Undecodable),
        }
    }

    fn topic(&mut self, input: &mut Input<'_>) -> Decoded<TopicKey> {
        let whole = input.0;
        let namespace = input.text()?;
        let topic = input.text()?;
        let encoded = &whole[..whole.len() - input.0.len()];
        if let Some(key) = self.topics.get(encoded) {
            return Ok(key.clone());
        }
        let key = TopicKey::parse(namespace, topic).map_err(|_| Undecodable)?;
        if self.topics.len() == TOPICS_MAX {
            self.topics.clear();
        }
        self.topics.insert(encoded.into(), key.clone());
        Ok(key)
    }
}

/// The smallest encoded item: what bounds a count before anything is allocated for it.
const ITEM_BYTES_MIN: usize = 39;

/// What is left to decode.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Undecodable)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Undecodable)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Decoded<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Decoded<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn bool(&mut self) -> Decoded<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Undecodable),
        }
    }

    fn flags(&mut self, known: u8) -> Decoded<u8> {
        self.u8().and_then(|flags| {
            if flags & !known == 0 {
                Ok(flags)
            } else {
                Err(Undecodable)
            }
        })
    }

    fn id(&mut self) -> Decoded<ItemId> {
        self.array().map(u64::from_le_bytes).map(ItemId)
    }

    fn time(&mut self) -> Decoded<Timestamp> {
        self.array().map(i64::from_le_bytes).map(Timestamp::from_ms)
    }

    fn len(&mut self) -> Decoded<usize> {
        let mut len = 0_usize;
        // Five groups of seven bits are enough: a body is far below 2^32 bytes.
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            len |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(len);
            }
        }
        Err(Undecodable)
    }

    fn bytes(&mut self) -> Decoded<&'a [u8]> {
        let len = self.len()?;
        self.take(len)
    }

    fn text(&mut self) -> Decoded<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Undecodable)
    }

    /// A list whose elements take `bytes_min` bytes or more, so that a wrong count allocates nothing.
    fn list<T>(
        &mut self,
        bytes_min: usize,
        mut element: impl FnMut(&mut Self) -> Decoded<T>,
    ) -> Decoded<Vec<T>> {
        let count = self.len()?;
        if count > self.0.len() / bytes_min {
            return Err(Undecodable);
        }
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(list)
    }

    fn item(&mut self) -> Decoded<Item> {
        let id = self.id()?;
        let priority = self.array().map(i32::from_le_bytes)?;
        let lease_ms = self.u32()?;
        let max_attempts = self.u32()?;
        let kind = PayloadKind::from_code(self.u8()?).ok_or(Undecodable)?;
        let flags = self.flags(ITEM_EXPIRES | ITEM_EXTRA)?;
        Ok(Item {
            id,
            priority,
            lease_ms,
            max_attempts,
            kind,
            enqueued_at: self.time()?,
            deliver_after: self.time()?,
            expires_at: self.when(flags & ITEM_EXPIRES, Self::time)?,
            payload: self.bytes()?.into(),
            extra: self.when(flags & ITEM_EXTRA, |input| input.extra().map(Box::new))?,
        })
    }

    fn extra(&mut self) -> Decoded<Extra> {
        let flags = self.flags(EXTRA_CONTENT_TYPE | EXTRA_IDEMPOTENCY_KEY | EXTRA_HOOK_VERSION)?;
        let text = |input: &mut Self| input.text().map(Box::from);
        Ok(Extra {
            content_type: self.when(flags & EXTRA_CONTENT_TYPE, text)?,
            idempotency_key: self.when(flags & EXTRA_IDEMPOTENCY_KEY, text)?,
            hook_version: self.when(flags & EXTRA_HOOK_VERSION, text)?,
            headers: self.list(2, |input| Ok((text(input)?, text(input)?)))?,
        })
    }

    fn delivery(&mut self) -> Decoded<DeliverEntry> {
        Ok(DeliverEntry {
            id: self.id()?,
            generation: self.u32()?,
            attempt: self.u32()?,
            lease_expires_at: self.time()?,
        })
    }

    fn key(&mut self) -> Decoded<KeyEntry> {
        Ok(KeyEntry {
            key_hash: self.array().map(u128::from_le_bytes)?,
            body_hash: self.array().map(u64::from_le_bytes)?,
            id: self.id()?,
            expires_at: self.time()?,
        })
    }

    fn patch(&mut self) -> Decoded<PatchEntry> {
        let id = self.id()?;
        let due = self.time()?;
        let generation = self.u32()?;
        let attempt = self.u32()?;
        let flags = self.flags(PATCH_ERROR | PATCH_DEAD | PATCH_LEASE)?;
        let last_error = self.when(flags & PATCH_ERROR, |input| input.text().map(Box::from))?;
        let dead = self.when(flags & PATCH_DEAD, |input| {
            let reason = DeadReason::from_code(input.u8()?).ok_or(Undecodable)?;
            Ok(Death {
                reason,
                at: input.time()?,
            })
        })?;
        let lease_expires_at = self.when(flags & PATCH_LEASE, Self::time)?;
        Ok(PatchEntry {
            id,
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

    fn when<T>(&mut self, present: u8, read: impl FnOnce(&mut Self) -> Decoded<T>) -> Decoded<Option<T>> {
        if present == 0 {
            Ok(None)
        } else {
            read(self).map(Some)
        }
    }
}
