//! Section `[wal]`.

use std::path::PathBuf;

use super::StorageConfig;
use super::reader::Reader;

/// The write-ahead log of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalConfig {
    /// Folder of the log; none means `wal` in the data directory. Ask [`WalConfig::folder`].
    pub dir: Option<PathBuf>,
    /// Size of one log file, in bytes.
    pub segment_bytes: u64,
    /// Size of the log above which enqueues are refused, in bytes.
    pub bytes_max: u64,
    /// Log files prepared in advance.
    pub spare_segments: usize,
    /// Most bytes of records waiting for the disk.
    pub pending_bytes_max: usize,
    /// Free bytes of the disk below which enqueues are refused.
    pub disk_free_bytes_min: u64,
    /// A damaged log is repaired before it is opened, instead of refused.
    pub quarantine: bool,
}

impl WalConfig {
    /// The folder of the log.
    pub fn folder(&self, storage: &StorageConfig) -> PathBuf {
        match &self.dir {
            Some(dir) => dir.clone(),
            None => storage.data_dir.join("wal"),
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        // A segment must hold the largest request, a pending buffer a few of them.
        let config = Self {
            dir: reader.path("wal.dir"),
            segment_bytes: reader.bytes("wal.segment_bytes", 1 << 20..=1 << 30),
            bytes_max: reader.bytes("wal.bytes_max", 2 << 20..=16 << 40),
            spare_segments: reader.integer("wal.spare_segments", 0..=64),
            pending_bytes_max: reader.bytes("wal.pending_bytes_max", 16 << 20..=1 << 30) as usize,
            disk_free_bytes_min: reader.bytes("wal.disk_free_bytes_min", 0..=1 << 40),
            quarantine: reader.flag("wal.quarantine"),
        };
        if config.bytes_max < 2 * config.segment_bytes {
            reader.problem("wal.bytes_max", "must be at least twice wal.segment_bytes");
        }
        config
    }
}
