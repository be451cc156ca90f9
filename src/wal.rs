//! The write-ahead log: makes "accepted" true before the answer leaves.

mod record;

pub use record::{DeliverEntry, PatchEntry, Record};

/// A position in the log: the sequence number of a frame, counted from 1 and never reused; 0 is before
/// everything.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Lsn(pub u64);
