//! The write-ahead log: makes "accepted" true before the answer leaves.
//!
//! Callers encode a request's records into a [`FrameBuilder`], [`append`](Wal::append) copies it into the
//! buffer that all callers share, and [`Pending::durable`] waits. One thread takes whatever gathered while it
//! was syncing the group before, writes it with one write, syncs once, and wakes everyone in the group. There
//! is no timer: a lone caller waits for one sync, many callers share one.
//!
//! # On the disk
//!
//! A log is a directory of segments `wal-<number>.seg`, spare files `spare-<number>.seg` that will become
//! segments, and a lock file. A segment is a fixed-size file that was written with zeros, or with an older
//! segment, before it is used: only such blocks sync without a journal commit. It holds a header
//! (`segment.rs`) and frames (`frame.rs`), which hold records (`codec.rs`).
//!
//! Frames are numbered without gaps ([`Lsn`]); a header says where its segment begins and carries the digest
//! of the segment before it. So the end of every segment but the last is known, and everything before it must
//! be there. A new process always begins a new segment, which is also how a torn tail is cut: the new header
//! says where the old segment ended, and the old file is not touched.
//!
//! # A torn tail, or damage
//!
//! Every frame says up to where its segment was durable before the frame's group was written. A place without
//! a sound frame is *damage* when some frame behind it says that the place was durable, when the segment is
//! not the last, or when the file is shorter than it was made. Otherwise it is a *torn tail*: a group that
//! no one was told about, and it is left out. The last group has no frame behind it; therefore a marker frame
//! follows when the log has been idle for a moment and when it is closed. Damage to the very last group
//! before that cannot be told from a torn write, and only there.
//!
//! On damage the log is not opened and nothing is changed: see [`inspect`](mod@inspect) for what helps.

mod codec;
mod commit;
pub mod disk;
mod error;
mod frame;
mod group;
pub mod inspect;
mod options;
mod record;
mod replay;
mod scan;
mod segment;
mod status;
mod stock;
mod upkeep;
mod writer;

#[cfg(test)]
mod tests;

pub use codec::{decode_item, encode_item};
pub use commit::Wal;
pub use error::{Damage, WalError, WalOpenError};
pub use frame::{FRAME_BYTES_MAX, FrameBuilder, FrameKind};
pub use group::{Applying, Pending};
pub use options::WalOptions;
pub use record::{DeliverEntry, KeyEntry, PatchEntry, Record};
pub use status::{SYNC_BUCKETS_US, WalHealth, WalStatus};

/// A position in the log: the sequence number of a frame, counted from 1 and never reused; 0 is before
/// everything.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Lsn(pub u64);
