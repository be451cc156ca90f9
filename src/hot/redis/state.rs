//! An entry's state and its item as bytes, as `lua/entry.lua` has them.

use crate::clock::Timestamp;
use crate::hot::{HeldLease, HotError, HotView, item_bytes};
use crate::model::{DeadReason, Death, Item, ItemId, ItemState, OrderKey, QueuedItem, Standing};
use crate::shard::DedupRow;
use crate::wal::{decode_item, encode_item};

/// Where an entry is, as the library numbers places.
const PLACES: [ItemState; 5] = [
    ItemState::Ready,
    ItemState::Scheduled,
    ItemState::Leased,
    ItemState::Dead,
    // Held: to users it is leased.
    ItemState::Leased,
];

const TAIL_ERROR: u8 = 1;
const TAIL_DEAD: u8 = 2;
/// Bytes before the name of who it waits for, which has its length before it and the tail behind it.
const FIXED: usize = 90;
/// Longest name of who an entry waits for, in bytes; what is longer is cut.
const BY_BYTES_MAX: usize = 255;

/// An id as a member of sets: byte order is the order of ids.
pub(super) fn id_bytes(id: ItemId) -> [u8; 8] {
    id.0.to_be_bytes()
}

/// The last error and the death, which the library carries and does not read.
fn put_tail(out: &mut Vec<u8>, standing: &Standing) {
    let flag = |bit, set| if set { bit } else { 0 };
    out.push(flag(TAIL_ERROR, standing.last_error.is_some()) | flag(TAIL_DEAD, standing.dead.is_some()));
    if let Some(death) = standing.dead {
        out.push(death.reason as u8);
        out.extend_from_slice(&death.at.ms().to_be_bytes());
    }
    if let Some(error) = &standing.last_error {
        out.extend_from_slice(error.as_bytes());
    }
}

fn instant(at: Option<Timestamp>) -> [u8; 8] {
    at.map_or(-1, Timestamp::ms).to_be_bytes()
}

fn put_standing(out: &mut Vec<u8>, standing: &Standing) {
    out.extend_from_slice(&standing.due.ms().to_be_bytes());
    out.extend_from_slice(&standing.generation.to_be_bytes());
    out.extend_from_slice(&standing.attempt.to_be_bytes());
    out.extend_from_slice(&instant(standing.lease_expires_at));
    out.extend_from_slice(&instant(standing.leased_at));
    out.push(u8::from(standing.dead.is_some()));
}

/// A standing as the library takes it.
pub(super) fn standing_bytes(standing: &Standing) -> Vec<u8> {
    let mut out = Vec::with_capacity(40);
    put_standing(&mut out, standing);
    put_tail(&mut out, standing);
    out
}

/// An entry's state as the library takes it in; where it goes is the library's to say.
pub(super) fn state_bytes(queued: &QueuedItem) -> Vec<u8> {
    let item = &queued.item;
    let mut out = Vec::with_capacity(FIXED + 2);
    out.extend_from_slice(&item.priority.to_be_bytes());
    out.extend_from_slice(&item.lease_ms.to_be_bytes());
    out.extend_from_slice(&item.max_attempts.to_be_bytes());
    out.extend_from_slice(&u32::try_from(item_bytes(item)).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&instant(item.expires_at));
    put_standing(&mut out, &queued.standing);
    // What the library sets, and that it waits for nobody.
    out.resize(FIXED + 1, 0);
    put_tail(&mut out, &queued.standing);
    out
}

/// Who has an entry or sent it back, as the library keeps it.
pub(super) fn by_bytes(by: &str) -> &[u8] {
    &by.as_bytes()[..by.floor_char_boundary(BY_BYTES_MAX)]
}

/// An item as the library stores it.
pub(super) fn stored_item(item: &Item) -> Vec<u8> {
    encode_item(item)
}

/// An entry's state, read.
struct State<'a> {
    lease_ms: u32,
    max_attempts: u32,
    standing: Standing,
    place: ItemState,
    by: &'a [u8],
}

impl<'a> State<'a> {
    fn read(state: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = state.split_at_checked(FIXED)?;
        let (&by_bytes, rest) = rest.split_first()?;
        let (by, tail) = rest.split_at_checked(by_bytes.into())?;
        let u32_at = |at: usize| Some(u32::from_be_bytes(fixed.get(at..at + 4)?.try_into().ok()?));
        let time_at = |at: usize| Some(i64::from_be_bytes(fixed.get(at..at + 8)?.try_into().ok()?));
        let (&flags, tail) = tail.split_first()?;
        let (dead, error) = read_tail(flags, tail)?;
        let instant_at = |at: usize| time_at(at).map(|ms| (ms >= 0).then_some(Timestamp::from_ms(ms)));
        let place = usize::from(*fixed.get(57)?).checked_sub(1)?;
        Some(Self {
            lease_ms: u32_at(4)?,
            max_attempts: u32_at(8)?,
            standing: Standing {
                due: Timestamp::from_ms(time_at(24)?),
                generation: u32_at(32)?,
                attempt: u32_at(36)?,
                lease_expires_at: instant_at(40)?,
                leased_at: instant_at(48)?,
                last_error: error,
                dead,
            },
            place: *PLACES.get(place)?,
            by,
        })
    }
}

fn not_readable() -> HotError {
    HotError::Unavailable("an entry in Redis is not readable by this version".into())
}

/// The item, its state, and who it waits for, from what the library told.
pub(super) fn read_view(state: &[u8], item: &[u8]) -> Result<HotView, HotError> {
    let parsed = || {
        let State {
            standing, place, by, ..
        } = State::read(state)?;
        let item = std::sync::Arc::new(decode_item(item)?);
        Some(HotView {
            queued: QueuedItem { item, standing },
            state: place,
            by: (!by.is_empty()).then(|| String::from_utf8_lossy(by).into()),
        })
    };
    parsed().ok_or_else(not_readable)
}

/// What is told of an item that is held by its lease.
pub(super) fn read_lease(id: ItemId, state: &[u8]) -> Result<HeldLease, HotError> {
    let state = State::read(state).ok_or_else(not_readable)?;
    Ok(HeldLease {
        id,
        lease_ms: state.lease_ms,
        max_attempts: state.max_attempts,
        standing: state.standing,
    })
}

/// As [`read_view`], for those who only want the item.
pub(super) fn read_entry(state: &[u8], item: &[u8]) -> Result<QueuedItem, HotError> {
    read_view(state, item).map(|view| view.queued)
}

fn read_tail(flags: u8, mut tail: &[u8]) -> Option<(Option<Death>, Option<Box<str>>)> {
    let mut dead = None;
    if flags & TAIL_DEAD != 0 {
        let (death, rest) = tail.split_at_checked(9)?;
        dead = Some(Death {
            reason: DeadReason::from_code(death[0])?,
            at: Timestamp::from_ms(i64::from_be_bytes(death[1..].try_into().ok()?)),
        });
        tail = rest;
    }
    let error = (flags & TAIL_ERROR != 0).then(|| String::from_utf8_lossy(tail).into());
    Some((dead, error))
}

/// A key as a member of sets: byte order is the delivery order.
pub(super) fn order_bytes(key: OrderKey) -> [u8; 20] {
    let mut bytes = [0; 20];
    let band = key.band - i64::from(i32::MIN);
    match u32::try_from(band.max(0)) {
        Ok(band) => bytes[..4].copy_from_slice(&band.to_be_bytes()),
        Err(_) => return [0xff; 20],
    }
    if key.band >= i64::from(i32::MIN) {
        bytes[4..12].copy_from_slice(&key.rank.max(0).to_be_bytes());
        bytes[12..].copy_from_slice(&id_bytes(key.id));
    }
    bytes
}

/// The key that [`order_bytes`] made.
pub(super) fn order_key(bytes: &[u8]) -> Option<OrderKey> {
    if bytes == [0; 20] {
        return Some(OrderKey::MIN);
    }
    let band = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    Some(OrderKey {
        band: i64::from(band) + i64::from(i32::MIN),
        rank: i64::from_be_bytes(bytes.get(4..12)?.try_into().ok()?),
        id: ItemId(u64::from_be_bytes(bytes.get(12..20)?.try_into().ok()?)),
    })
}

/// What is kept of an idempotency key: body, item, expiry.
pub(super) fn key_bytes(row: &DedupRow) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&row.body_hash.to_be_bytes());
    bytes[8..16].copy_from_slice(&id_bytes(row.id));
    bytes[16..].copy_from_slice(&row.expires_at.ms().to_be_bytes());
    bytes
}

/// Body hash, item and expiry of a key; what follows is the library's own.
pub(super) fn read_key(bytes: &[u8]) -> Option<(u64, ItemId, Timestamp)> {
    let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let expires_at = Timestamp::from_ms(number(16)?.cast_signed());
    Some((number(0)?, ItemId(number(8)?), expires_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_key() -> impl Strategy<Value = OrderKey> {
        (any::<i32>(), 0_i64..253_402_207_200_000, any::<u64>())
            .prop_map(|(priority, due, id)| OrderKey::strict(priority, Timestamp::from_ms(due), ItemId(id)))
    }

    proptest! {
        #[test]
        fn bytes_sort_as_keys_do(a in any_key(), b in any_key()) {
            prop_assert_eq!(order_bytes(a).cmp(&order_bytes(b)), a.cmp(&b));
            prop_assert_eq!(order_key(&order_bytes(a)), Some(a));
        }
    }

    #[test]
    fn the_first_key_is_before_every_other() {
        let lowest = OrderKey::strict(i32::MIN, Timestamp::ZERO, ItemId(1));
        assert!(order_bytes(OrderKey::MIN) < order_bytes(lowest));
        assert_eq!(order_key(&order_bytes(OrderKey::MIN)), Some(OrderKey::MIN));
    }
}
