//! What can go wrong with the log, while it runs and when it is opened.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why the log did not take a frame, or cannot say that it is durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// The log, its buffer or the disk has no room; the frame is certainly not in the log and trying again
    /// later may succeed.
    #[error("the log has no room")]
    Full,
    /// A write or a sync failed. The log takes nothing more, and whether the frame is on the disk is
    /// unknown.
    #[error("the log failed: {0}")]
    Failed(Arc<str>),
    /// The log is closed; the frame is certainly not in it.
    #[error("the log is closed")]
    Closed,
    /// The frame is larger than [`FRAME_BYTES_MAX`](super::FRAME_BYTES_MAX), a segment or the buffer holds.
    #[error("the frame is too large for the log")]
    FrameTooLarge,
}

/// Why a log was not opened. Nothing on the disk was changed.
#[derive(Debug, thiserror::Error)]
pub enum WalOpenError {
    /// An option is out of its range.
    #[error("the log's options are wrong: {0}")]
    Options(&'static str),
    /// Another process holds the log.
    #[error("the log in {} is in use by another process", dir.display())]
    InUse {
        /// The log's directory.
        dir: PathBuf,
    },
    /// Something that was durable is not readable any more.
    #[error(
        "the log is damaged: {} at byte {offset}: {reason}; nothing was changed; look at it with \
         `mqueue wal inspect`, check it with `mqueue wal verify`, save what is readable with \
         `mqueue wal repair`, or start with `--quarantine`, which repairs first",
        file.display()
    )]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where the damage begins, in bytes from the start of the file.
        offset: u64,
        /// What is wrong there.
        reason: Damage,
    },
    /// The log belongs to another node.
    #[error("{} was written by node {found}, this is node {expected}", file.display())]
    WrongNode {
        /// The file that says so.
        file: PathBuf,
        /// The node that wrote it.
        found: u16,
        /// The node that opens it.
        expected: u16,
    },
    /// The log was written in a format this version does not know.
    #[error("{} has format version {found}, this version reads up to {supported}", file.display())]
    UnsupportedVersion {
        /// The file that says so.
        file: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest version that can be read.
        supported: u32,
    },
    /// The disk refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

/// What is wrong at a place of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// A segment's header does not match its checksum.
    #[error("the segment's header is damaged")]
    SegmentHeader,
    /// A segment's header says another number than the file's name.
    #[error("the segment is not the one its name says")]
    SegmentNumber,
    /// A segment between two others is not there.
    #[error("a segment is missing")]
    MissingSegment,
    /// A segment does not go on where the one before it ends.
    #[error("the segment does not continue the one before it")]
    SegmentChain,
    /// The file is shorter than its header says.
    #[error("the file is cut short")]
    Truncated,
    /// Nothing was written here, yet something durable follows or must be here.
    #[error("frames are missing")]
    MissingFrames,
    /// A frame's header does not match its checksum.
    #[error("a frame's header is damaged")]
    FrameHeader,
    /// A frame is not the one that belongs here.
    #[error("a frame is out of order")]
    FrameOrder,
    /// A frame's body does not match its checksum.
    #[error("a frame's body is damaged")]
    FrameBody,
    /// A frame is intact and its records make no sense.
    #[error("a frame's records cannot be decoded")]
    Records,
}
