//! How a log is kept.

use std::path::PathBuf;

use super::frame::FRAME_BYTES_MAX;
use super::segment::FRAMES_START;
use crate::model::NodeId;

const SEGMENT_BYTES_MIN: u64 = 8 << 10;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct WalOptions {
    /// The directory; made when it is not there.
    pub dir: PathBuf,
    /// The node the log belongs to; another node's log is refused.
    pub node: NodeId,
    /// Bytes of a segment, 8 KiB to 1 GiB.
    pub segment_bytes: u64,
    /// Bytes of log above which frames that enqueue are refused; two segments or more.
    pub bytes_max: u64,
    /// Spare segments kept ready. What does not enqueue may still use them when the log or the disk is full.
    pub spare_segments: usize,
    /// Bytes that may wait for the disk; more are refused.
    pub pending_bytes_max: usize,
    /// Free bytes of the disk below which frames that enqueue are refused.
    pub disk_free_bytes_min: u64,
}

impl WalOptions {
    /// The defaults: segments of 64 MiB, 4 GiB of log, two spares, 32 MiB waiting, 512 MiB of disk left free.
    pub fn new(dir: impl Into<PathBuf>, node: NodeId) -> Self {
        Self {
            dir: dir.into(),
            node,
            segment_bytes: 64 << 20,
            bytes_max: 4 << 30,
            spare_segments: 2,
            pending_bytes_max: 32 << 20,
            disk_free_bytes_min: 512 << 20,
        }
    }

    /// What is out of range; nothing when the options are sound.
    pub(super) fn problem(&self) -> Option<&'static str> {
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Some("segment_bytes must be between 8 KiB and 1 GiB");
        }
        if self.bytes_max < 2 * self.segment_bytes {
            return Some("bytes_max must be two segments or more");
        }
        (self.pending_bytes_max == 0).then_some("pending_bytes_max must not be 0")
    }

    /// The largest frame this log takes, in bytes.
    pub(super) fn frame_bytes_max(&self) -> usize {
        let room = (self.segment_bytes - FRAMES_START) as usize;
        FRAME_BYTES_MAX.min(room).min(self.pending_bytes_max)
    }
}
