//! Frames: one request's records, written and found again as a whole.
//!
//! ```text
//!  0  body bytes   u32
//!  4  body CRC32C  u32   computed by the caller, outside the log's lock
//!  8  lsn          u64   one more than the frame before it
//! 16  synced to    u32   end of what was durable in this segment before this frame's group was written
//! 20  kind         u8    1 records, 2 idle marker, 3 close marker, 4 lost
//! 21  zero         3 x u8
//! 24  header CRC32C of the 24 bytes above and the frame's offset (u64), seeded with the segment's salt
//! 28  body
//! ```
//!
//! The salt and the offset make the bytes of a recycled file, and frames moved from elsewhere, fail their
//! check; the sequence number catches what is missing or doubled. A lost frame stands where repair found
//! unreadable ones: it accounts for every lsn up to its own, and its body is filling.

use super::Lsn;
use super::codec;
use super::record::{DeliverEntry, KeyEntry, PatchEntry};
use crate::model::{Item, ItemId, SettleCause, TopicKey};

/// Bytes of a frame's header.
pub(super) const FRAME_HEADER_BYTES: usize = 28;
/// The largest frame, header included, in bytes. It bounds what a reader allocates.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

const LSN_AT: usize = 8;
const SYNCED_TO_AT: usize = 16;
const KIND_AT: usize = 20;
const CRC_AT: usize = 24;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// It holds records.
    Records = 1,
    /// It says that everything before it is durable: written when the log falls idle.
    Idle = 2,
    /// The same, written when the log is closed.
    Close = 3,
    /// It stands for frames that repair found unreadable.
    Lost = 4,
}

impl FrameKind {
    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Records),
            2 => Some(Self::Idle),
            3 => Some(Self::Close),
            4 => Some(Self::Lost),
            _ => None,
        }
    }
}

/// A frame's header, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) body_bytes: u32,
    pub(super) body_crc: u32,
    pub(super) lsn: Lsn,
    pub(super) synced_to: u32,
    pub(super) kind: FrameKind,
    pub(super) crc: u32,
}

impl FrameHeader {
    /// Reads the header at `offset` of the segment salted with `seed`; nothing when it fails its check.
    pub(super) fn read(bytes: &[u8; FRAME_HEADER_BYTES], offset: u64, seed: u32) -> Option<Self> {
        let crc = u32_at(bytes, CRC_AT);
        if crc != header_crc(bytes, offset, seed) || bytes[21..24] != [0; 3] {
            return None;
        }
        Some(Self {
            body_bytes: u32_at(bytes, 0),
            body_crc: u32_at(bytes, 4),
            lsn: lsn_at(bytes),
            synced_to: u32_at(bytes, SYNCED_TO_AT),
            kind: FrameKind::from_code(bytes[KIND_AT])?,
            crc,
        })
    }

    /// Bytes of the whole frame.
    pub(super) fn frame_bytes(&self) -> u64 {
        FRAME_HEADER_BYTES as u64 + u64::from(self.body_bytes)
    }
}

/// The lsn in a header that may not have been checked yet.
pub(super) fn lsn_at(bytes: &[u8; FRAME_HEADER_BYTES]) -> Lsn {
    let mut lsn = [0; 8];
    lsn.copy_from_slice(&bytes[LSN_AT..LSN_AT + 8]);
    Lsn(u64::from_le_bytes(lsn))
}

/// Bytes of the frame whose header begins `bytes`, which this process encoded itself.
pub(super) fn encoded_frame_bytes(bytes: &[u8]) -> usize {
    FRAME_HEADER_BYTES + u32_at(bytes, 0) as usize
}

/// Writes the lsn into a frame that will become part of a group.
pub(super) fn number(frame: &mut [u8], lsn: Lsn) {
    frame[LSN_AT..LSN_AT + 8].copy_from_slice(&lsn.0.to_le_bytes());
}

/// Completes a frame's header for its place in a segment and returns the header's checksum.
pub(super) fn seal(frame: &mut [u8], offset: u64, synced_to: u32, seed: u32) -> u32 {
    frame[SYNCED_TO_AT..SYNCED_TO_AT + 4].copy_from_slice(&synced_to.to_le_bytes());
    let crc = header_crc(frame, offset, seed);
    frame[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// A frame without records: a marker, or the header of a lost frame of `body_bytes` bytes of filling.
pub(super) fn bare(kind: FrameKind, body_bytes: u32) -> [u8; FRAME_HEADER_BYTES] {
    let mut frame = [0; FRAME_HEADER_BYTES];
    frame[..4].copy_from_slice(&body_bytes.to_le_bytes());
    frame[KIND_AT] = kind as u8;
    frame
}

fn header_crc(header: &[u8], offset: u64, seed: u32) -> u32 {
    let mut checked = [0; CRC_AT + 8];
    checked[..CRC_AT].copy_from_slice(&header[..CRC_AT]);
    checked[CRC_AT..].copy_from_slice(&offset.to_le_bytes());
    crc32c::crc32c_append(seed, &checked)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// One request's records on their way into the log: all of them become durable, or none.
#[derive(Debug)]
pub struct FrameBuilder {
    /// The frame's bytes, its header still blank.
    bytes: Vec<u8>,
    growth: bool,
}

impl Default for FrameBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameBuilder {
    /// A frame without records.
    pub fn new() -> Self {
        Self {
            bytes: bare(FrameKind::Records, 0).to_vec(),
            growth: false,
        }
    }

    /// A frame without records yet, with room for `bytes` of them.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + bytes);
        frame.extend_from_slice(&bare(FrameKind::Records, 0));
        Self {
            bytes: frame,
            growth: false,
        }
    }

    /// Says that `items`, in their final form, were accepted into `topic`. The frame counts as growth: a
    /// full log refuses it.
    pub fn enqueue<'a>(&mut self, topic: &TopicKey, items: impl ExactSizeIterator<Item = &'a Item>) {
        self.growth = true;
        codec::put_enqueue(&mut self.bytes, topic, items);
    }

    /// Says that items of `topic` were handed to consumers.
    pub fn deliver(&mut self, topic: &TopicKey, deliveries: &[DeliverEntry]) {
        codec::put_deliver(&mut self.bytes, topic, deliveries);
    }

    /// Says how items of `topic` stand now.
    pub fn patch(&mut self, topic: &TopicKey, patches: &[PatchEntry]) {
        codec::put_patch(&mut self.bytes, topic, patches);
    }

    /// Says that items of `topic` are gone.
    pub fn settle(&mut self, topic: &TopicKey, cause: SettleCause, ids: &[ItemId]) {
        codec::put_settle(&mut self.bytes, topic, cause, ids);
    }

    /// Says which items idempotency keys of `topic` name.
    pub fn keys(&mut self, topic: &TopicKey, keys: &[KeyEntry]) {
        codec::put_keys(&mut self.bytes, topic, keys);
    }

    /// Says that of what was logged before, everything of `topic` up to `up_to` is gone: its dead letters,
    /// or its live items.
    pub fn purge(&mut self, topic: &TopicKey, dead: bool, up_to: ItemId) {
        codec::put_purge(&mut self.bytes, topic, dead, up_to);
    }

    /// Whether the frame has no records.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == FRAME_HEADER_BYTES
    }

    /// Whether a full log refuses the frame.
    pub(super) fn is_growth(&self) -> bool {
        self.growth
    }

    /// Bytes of the frame, header included.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The frame with its length and its body's checksum filled in. The caller has checked that it is not
    /// above [`FRAME_BYTES_MAX`].
    pub(super) fn finish(mut self) -> Vec<u8> {
        let body_bytes = (self.bytes.len() - FRAME_HEADER_BYTES) as u32;
        let body_crc = crc32c::crc32c(&self.bytes[FRAME_HEADER_BYTES..]);
        self.bytes[..4].copy_from_slice(&body_bytes.to_le_bytes());
        self.bytes[4..8].copy_from_slice(&body_crc.to_le_bytes());
        self.bytes
    }
}
