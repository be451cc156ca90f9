//! The writer: puts groups of frames into the active segment, one write and one sync each.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::commit::{Shared, Work};
use super::disk::DiskFile;
use super::frame::{self, FRAME_HEADER_BYTES, FrameKind};
use super::replay::{History, Sealed};
use super::segment::{FORMAT_VERSION, FRAMES_START, FileName, SegmentHeader, io_error};
use super::stock::Spare;
use super::{Lsn, WalError, WalOpenError};

/// What the writer's buffer keeps allocated while the log is idle, in bytes.
const IDLE_BATCH_BYTES: usize = 1 << 20;
/// What the disk is written in, in bytes. A file system first reads a block of which only a part is written and that it
/// does not hold; what lies behind the last frame means nothing, so the rest of its block is written with it.
const BLOCK_BYTES: u64 = 4_096;

/// The one that writes frames. It holds the active segment.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    active: Active,
    /// The last durable frame.
    last_lsn: Lsn,
    /// The frames being written; reused, so that nothing is allocated a group.
    batch: Vec<u8>,
    /// Whether the disk says that everything written is durable.
    marked: bool,
    /// How long the last sync took.
    last_sync: Duration,
}

/// The segment that takes frames.
#[derive(Debug)]
struct Active {
    file: Box<dyn DiskFile>,
    number: u64,
    capacity: u64,
    seed: u32,
    /// Where the next frame goes; everything before is durable.
    end: u64,
    /// Of the frames written so far.
    digest: u32,
}

/// Why a segment could not be begun.
#[derive(Debug)]
enum BeginError {
    /// There is no room for one.
    Full,
    Io(&'static str, PathBuf, io::Error),
}

impl Writer {
    /// Begins the segment of a new process, behind `history`.
    pub(super) fn begin(shared: Arc<Shared>, history: &History) -> Result<Self, WalOpenError> {
        let first = Lsn(history.last_lsn.0 + 1);
        let begun = Active::begin(&shared, history.next_number(), first, history.digest);
        let active = begun.map_err(|error| match error {
            BeginError::Full => io_error(
                "make a segment in",
                &shared.options.dir,
                io::ErrorKind::StorageFull.into(),
            ),
            BeginError::Io(action, path, source) => io_error(action, &path, source),
        })?;
        Ok(Self {
            shared,
            active,
            last_lsn: history.last_lsn,
            batch: Vec::new(),
            marked: true,
            last_sync: Duration::ZERO,
        })
    }

    /// Works until the log is closed or fails.
    pub(super) fn run(mut self) {
        loop {
            match self.shared.wait_for_work(self.marked) {
                Work::Commit => {
                    let frames = self.commit();
                    if frames > 1 {
                        // A sync saved is worth a part of a sync.
                        self.shared.let_callers_return(frames, self.last_sync / 4);
                    }
                }
                Work::MarkIdle => {
                    self.batch.shrink_to(IDLE_BATCH_BYTES);
                    self.mark(FrameKind::Idle);
                }
                Work::Roll => self.seal_active(),
                Work::Close => return self.finish(),
                Work::Stop => return,
            }
        }
    }

    /// Writes the frames that wait, if any, tells their callers, and returns how many there were.
    pub(super) fn commit(&mut self) -> usize {
        let Some(group) = self.shared.take(&mut self.batch) else {
            return 0;
        };
        let frames = group.frames();
        let mut batch = std::mem::take(&mut self.batch);
        let outcome = self.write(&mut batch);
        batch.clear();
        self.batch = batch;
        self.marked = false;
        match outcome {
            Ok(()) => self.shared.committed(group, self.last_lsn),
            Err(WalError::Failed(message)) => self.shared.fail_behind(self.last_lsn, message),
            Err(_) => self.shared.refuse(group, self.last_lsn),
        }
        frames
    }

    /// Writes a frame that says that all before it is durable.
    pub(super) fn mark(&mut self, kind: FrameKind) {
        self.marked = true;
        if let Err(error) = self.write_marker(kind) {
            match error {
                WalError::Failed(message) => self.shared.fail_behind(self.last_lsn, message),
                // There is no other segment to be had: the log just stays unmarked.
                _ => self.shared.refuse(Arc::default(), self.last_lsn),
            }
        }
    }

    fn write_marker(&mut self, kind: FrameKind) -> Result<(), WalError> {
        if self.active.room() < FRAME_HEADER_BYTES as u64 {
            self.roll()?;
        }
        let Some(lsn) = self.shared.number_marker() else {
            return Ok(());
        };
        let mut marker = frame::bare(kind, 0).to_vec();
        frame::number(&mut marker, lsn);
        self.write(&mut marker)?;
        self.shared.committed(Arc::default(), lsn);
        Ok(())
    }

    /// Seals the active segment if it holds frames.
    pub(super) fn seal_active(&mut self) {
        if self.active.end > FRAMES_START
            && let Err(WalError::Failed(message)) = self.roll()
        {
            self.shared.fail_behind(self.last_lsn, message);
        }
    }

    /// Writes what waits and the marker of a closed log.
    pub(super) fn finish(mut self) {
        self.commit();
        self.mark(FrameKind::Close);
        self.shared.closed();
    }

    /// Makes the frames in `batch` durable, in as many segments as they need, and fills the last block.
    fn write(&mut self, batch: &mut Vec<u8>) -> Result<(), WalError> {
        let frames_end = batch.len();
        batch.resize(frames_end + BLOCK_BYTES as usize, 0);
        let mut from = 0;
        while from < frames_end {
            let fitting = self.active.seal_fitting(&mut batch[from..frames_end]);
            if fitting.bytes == 0 {
                self.roll()?;
                continue;
            }
            let to = from + fitting.bytes;
            let filled_to = if to == frames_end {
                to + self.active.filling(fitting.bytes)
            } else {
                to
            };
            self.write_and_sync(&batch[from..filled_to])
                .map_err(|error| failed("write to", &self.active.path(&self.shared), &error))?;
            self.active.end += fitting.bytes as u64;
            self.active.digest = fitting.digest;
            self.last_lsn = Lsn(self.last_lsn.0 + fitting.frames);
            self.shared.counters.written(fitting.frames, fitting.bytes as u64);
            self.shared.stock.set_active_bytes(self.active.end);
            from = to;
        }
        Ok(())
    }

    fn write_and_sync(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.active.file.write_all_at(bytes, self.active.end)?;
        let before = self.shared.disk.elapsed();
        self.active.file.sync()?;
        self.last_sync = self.shared.disk.elapsed().saturating_sub(before);
        self.shared.counters.synced(self.last_sync);
        Ok(())
    }

    /// Seals the active segment, everything in which is durable, and begins the next.
    fn roll(&mut self) -> Result<(), WalError> {
        let shared = &self.shared;
        if !shared.stock.may_grow(&shared.options) {
            shared.stock.set_no_room(true);
            return Err(WalError::Full);
        }
        let first = Lsn(self.last_lsn.0 + 1);
        let begun = Active::begin(shared, self.active.number + 1, first, self.active.digest);
        let next = begun.map_err(|error| match error {
            BeginError::Full => {
                shared.stock.set_starved(true);
                shared.stock.set_no_room(true);
                WalError::Full
            }
            BeginError::Io(action, path, source) => failed(action, &path, &source),
        })?;
        let before = std::mem::replace(&mut self.active, next);
        let sealed = Sealed {
            number: before.number,
            last_lsn: self.last_lsn,
            bytes: before.capacity,
        };
        shared.stock.seal(sealed, before.file);
        shared.stock.set_active_bytes(self.active.end);
        self.marked = true;
        Ok(())
    }
}

fn failed(action: &str, path: &std::path::Path, error: &io::Error) -> WalError {
    WalError::Failed(format!("cannot {action} {}: {error}", path.display()).into())
}

/// The frames that the active segment has room for.
struct Fitting {
    bytes: usize,
    frames: u64,
    digest: u32,
}

impl Active {
    /// Turns a spare, or a new file, into segment `number`. The header is durable before the name is, and
    /// the name before this returns.
    fn begin(shared: &Shared, number: u64, first_lsn: Lsn, previous_digest: u32) -> Result<Self, BeginError> {
        let (options, disk) = (&shared.options, &shared.disk);
        let (from, file) = match shared.stock.take_spare() {
            Some(Spare { number, file }) => (FileName::Spare(number).path(&options.dir), file),
            None => new_file(shared)?,
        };
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            node: options.node.number(),
            repaired: false,
            number,
            first_lsn,
            salt: disk.random(),
            id_high_water: shared.id_high_water.load(Ordering::Acquire),
            capacity: options.segment_bytes,
            previous_digest,
        };
        let path = FileName::Segment(number).path(&options.dir);
        header
            .write(&*file)
            .map_err(|error| BeginError::Io("write to", from.clone(), error))?;
        file.sync()
            .map_err(|error| BeginError::Io("sync", from.clone(), error))?;
        disk.rename(&from, &path)
            .map_err(|error| BeginError::Io("rename", from, error))?;
        disk.sync_dir(&options.dir)
            .map_err(|error| BeginError::Io("sync", options.dir.clone(), error))?;
        let seed = header.seed();
        Ok(Self {
            file,
            number,
            capacity: options.segment_bytes,
            seed,
            end: FRAMES_START,
            digest: 0,
        })
    }

    fn room(&self) -> u64 {
        self.capacity - self.end
    }

    /// Zeros that fill the last block behind `bytes` more of frames.
    fn filling(&self, bytes: usize) -> usize {
        let end = self.end + bytes as u64;
        (end.next_multiple_of(BLOCK_BYTES).min(self.capacity) - end) as usize
    }

    fn path(&self, shared: &Shared) -> PathBuf {
        FileName::Segment(self.number).path(&shared.options.dir)
    }

    /// Seals the leading frames of `batch` that there is room for, for the place where they will go.
    fn seal_fitting(&self, batch: &mut [u8]) -> Fitting {
        let mut fitting = Fitting {
            bytes: 0,
            frames: 0,
            digest: self.digest,
        };
        while fitting.bytes < batch.len() {
            let len = frame::encoded_frame_bytes(&batch[fitting.bytes..]);
            if (fitting.bytes + len) as u64 > self.room() {
                break;
            }
            let frame = &mut batch[fitting.bytes..fitting.bytes + len];
            let crc = frame::seal(frame, self.end + fitting.bytes as u64, self.end as u32, self.seed);
            fitting.digest = crc32c::crc32c_append(fitting.digest, &crc.to_le_bytes());
            fitting.bytes += len;
            fitting.frames += 1;
        }
        fitting
    }
}

/// A new file, its space reserved but not written: slower to sync than a spare, but at once.
fn new_file(shared: &Shared) -> Result<(PathBuf, Box<dyn DiskFile>), BeginError> {
    let path = FileName::Unfinished(shared.stock.number_spare()).path(&shared.options.dir);
    let made = shared.disk.create(&path).and_then(|file| {
        file.allocate(shared.options.segment_bytes)?;
        Ok(file)
    });
    match made {
        Ok(file) => Ok((path, file)),
        Err(error) if is_full(&error) => {
            // Half a file is of no use; what cannot be removed now is removed when the log is opened.
            let _ = shared.disk.remove(&path);
            Err(BeginError::Full)
        }
        Err(error) => Err(BeginError::Io("allocate", path, error)),
    }
}

/// Whether the disk says that it has no space.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
