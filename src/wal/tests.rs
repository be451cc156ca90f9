//! Tests of the log as a whole, each on a simulated disk unless it says otherwise.

mod corruption;
mod crash;
mod fixture;
mod limits;
mod records;
mod run;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::disk::{Disk, SimDisk};
use super::upkeep::Upkeep;
use super::writer::Writer;
use super::{Applying, FrameBuilder, Lsn, Pending, Record, Wal, WalError, WalOpenError, WalOptions};
use crate::clock::Timestamp;
use crate::model::{Item, ItemId, NodeId, PayloadKind, SettleCause, TopicKey};

const DIR: &str = "/log";

fn options() -> WalOptions {
    WalOptions {
        segment_bytes: 8 << 10,
        bytes_max: 1 << 20,
        spare_segments: 1,
        pending_bytes_max: 64 << 10,
        disk_free_bytes_min: 0,
        ..WalOptions::new(DIR, NodeId::new(7).unwrap())
    }
}

fn topic() -> TopicKey {
    TopicKey::parse("tenant-a", "orders").unwrap()
}

fn item(id: u64, payload_bytes: usize) -> Item {
    Item {
        id: ItemId(id),
        priority: 100,
        lease_ms: 30_000,
        max_attempts: 10,
        kind: PayloadKind::Bytes,
        enqueued_at: Timestamp::from_ms(1),
        deliver_after: Timestamp::from_ms(2),
        expires_at: None,
        payload: (0..payload_bytes).map(|i| (i as u64 * 7 + id) as u8).collect(),
        extra: None,
    }
}

fn enqueue(id: u64, payload_bytes: usize) -> FrameBuilder {
    let mut frame = FrameBuilder::new();
    frame.enqueue(&topic(), [item(id, payload_bytes)].iter());
    frame
}

fn settle(id: u64) -> FrameBuilder {
    let mut frame = FrameBuilder::new();
    frame.settle(&topic(), SettleCause::Acked, &[ItemId(id)]);
    frame
}

/// A log whose threads are the test itself, so that every step happens when the test says so.
struct Stepped {
    wal: Wal,
    writer: Writer,
    upkeep: Upkeep,
    replayed: Vec<(Lsn, Record)>,
}

impl Stepped {
    fn open(disk: &SimDisk, options: WalOptions) -> Result<Self, WalOpenError> {
        let mut replayed = Vec::new();
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let (wal, writer, upkeep) =
            Wal::open_stopped(options, disk, Arc::new(AtomicU64::new(0)), &mut |lsn, record| {
                replayed.push((lsn, record));
            })?;
        Ok(Self {
            wal,
            writer,
            upkeep,
            replayed,
        })
    }

    /// Appends, writes, waits and keeps the token.
    fn hold(&mut self, frame: FrameBuilder) -> Result<Applying, WalError> {
        let pending = self.wal.append(frame)?;
        self.writer.commit();
        pending.durable_blocking()
    }

    /// Appends, writes, waits and lets go of the token.
    fn put(&mut self, frame: FrameBuilder) -> Result<Lsn, WalError> {
        self.hold(frame).map(|applying| applying.lsn())
    }

    fn close(self) {
        self.writer.finish();
        self.wal.close();
    }

    /// The ids enqueued, in the order of replay.
    fn replayed_ids(&self) -> Vec<u64> {
        ids(&self.replayed)
    }
}

fn ids(records: &[(Lsn, Record)]) -> Vec<u64> {
    let items = records.iter().filter_map(|(_, record)| match record {
        Record::Enqueue { items, .. } => Some(items.iter().map(|item| item.id.0)),
        _ => None,
    });
    items.flatten().collect()
}

fn segment_path(number: u64) -> PathBuf {
    super::segment::FileName::Segment(number).path(DIR.as_ref())
}
