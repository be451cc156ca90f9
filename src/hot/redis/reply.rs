//! What the library replied, taken apart. A reply that does not fit is an error, never a panic.

use redis::Value;

use crate::clock::Timestamp;
use crate::hot::{Counts, HotError};
use crate::model::ItemId;

/// A reply that is read from the front.
#[derive(Debug)]
pub(super) struct Reply(std::vec::IntoIter<Value>);

pub(super) fn unreadable() -> HotError {
    HotError::Unavailable("Redis replied something that this version does not understand".into())
}

impl Reply {
    pub(super) fn of(value: Value) -> Result<Self, HotError> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            // An empty Lua table.
            Value::Nil => Ok(Self(Vec::new().into_iter())),
            _ => Err(unreadable()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn list(&mut self) -> Result<Self, HotError> {
        Self::of(self.0.next().ok_or_else(unreadable)?)
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, HotError> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => Ok(bytes),
            Some(Value::SimpleString(text)) => Ok(text.into_bytes()),
            Some(Value::Nil) => Ok(Vec::new()),
            _ => Err(unreadable()),
        }
    }

    /// A number, also one that Redis tells as text.
    pub(super) fn number(&mut self) -> Result<i64, HotError> {
        match self.0.next() {
            Some(Value::Int(number)) => Ok(number),
            Some(Value::Double(number)) => Ok(number as i64),
            Some(Value::BulkString(text)) => {
                let text = std::str::from_utf8(&text).map_err(|_| unreadable())?;
                text.parse::<f64>()
                    .map(|number| number as i64)
                    .map_err(|_| unreadable())
            }
            _ => Err(unreadable()),
        }
    }

    pub(super) fn id(&mut self) -> Result<ItemId, HotError> {
        let bytes = self.bytes()?;
        let id = bytes.as_slice().try_into().map_err(|_| unreadable())?;
        Ok(ItemId(u64::from_be_bytes(id)))
    }

    /// An instant, or nothing for -1.
    pub(super) fn instant(&mut self) -> Result<Option<Timestamp>, HotError> {
        Ok(instant(self.number()?))
    }

    /// One letter.
    pub(super) fn letter(&mut self) -> Result<u8, HotError> {
        self.bytes()?.first().copied().ok_or_else(unreadable)
    }
}

fn instant(ms: i64) -> Option<Timestamp> {
    (ms >= 0).then_some(Timestamp::from_ms(ms))
}

/// How a topic is, as every call tells.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbers {
    pub(super) counts: Counts,
    pub(super) bytes: usize,
    /// When time has something to do.
    pub(super) next_advance: Option<Timestamp>,
    /// Ready items in Redis.
    pub(super) ready: u64,
    /// Cold items are due.
    has_floor: bool,
    /// When the next cold item is due.
    next_cold: Option<Timestamp>,
    /// Items that only the shard has.
    pub(super) cold: u64,
    /// Which run of the library said so: later ones have larger numbers while Redis keeps its memory.
    pub(super) run: u64,
    /// How many milliseconds Redis' clock is ahead of this node's, and the call took to get there.
    pub(super) ahead_ms: i64,
}

impl Numbers {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, HotError> {
        let number = |n: usize| {
            let bytes = bytes.get(8 * n..8 * n + 8)?;
            Some(i64::from_be_bytes(bytes.try_into().ok()?))
        };
        let read = || {
            let counted = |n| number(n).map(i64::cast_unsigned);
            let next_cold = i64::from_be_bytes(bytes.get(73..81)?.try_into().ok()?);
            Some(Self {
                counts: Counts {
                    ready: counted(0)?,
                    scheduled: counted(1)?,
                    leased: counted(2)?,
                    dead: counted(3)?,
                    oldest_ready_due: instant(number(4)?),
                    leases_expired: counted(5)?,
                },
                bytes: usize::try_from(number(6)?).ok()?,
                next_advance: instant(number(7)?),
                ready: counted(8)?,
                has_floor: *bytes.get(72)? == 1,
                next_cold: instant(next_cold),
                cold: u64::from_be_bytes(bytes.get(81..89)?.try_into().ok()?),
                run: u64::from_be_bytes(bytes.get(89..97)?.try_into().ok()?),
                ahead_ms: i64::from_be_bytes(bytes.get(97..105)?.try_into().ok()?),
            })
        };
        read().ok_or_else(unreadable)
    }

    /// Whether cold items can be brought up.
    pub(super) fn has_cold_due(&self, now: Timestamp) -> bool {
        self.has_floor || self.next_cold.is_some_and(|due| due <= now)
    }
}
