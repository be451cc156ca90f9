//! The stock: the files beside the active segment, and whether there is room for more.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use super::disk::DiskFile;
use super::replay::{History, Sealed};
use super::{Lsn, WalOptions};

/// A file that is allocated and written, and may become a segment by a new header and a new name.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) number: u64,
    pub(super) file: Box<dyn DiskFile>,
}

#[derive(Debug)]
struct Files {
    /// Oldest first.
    sealed: VecDeque<Sealed>,
    spares: Vec<Spare>,
    next_spare: u64,
    /// Files of segments sealed lately, which the page cache still has.
    cached: Vec<Box<dyn DiskFile>>,
    /// Sealed segments up to here may go.
    free_to: Lsn,
    /// Something is to be done before the next look at the disk.
    work: bool,
    closed: bool,
}

/// Shared by the writer, which takes spares and seals segments, and upkeep, which frees segments and makes
/// spares.
#[derive(Debug)]
pub(super) struct Stock {
    files: Mutex<Files>,
    wanted: Condvar,
    sealed_bytes: AtomicU64,
    active_bytes: AtomicU64,
    /// The disk has no room for the spares there should be, or less than must stay free.
    starved: AtomicBool,
    /// There was no room for the segment the writer needed.
    no_room: AtomicBool,
}

impl Stock {
    /// The stock of a log that begins as `history` says and will number its spares from `next_spare` on.
    pub(super) fn new(history: &History, spares: Vec<Spare>, next_spare: u64) -> Self {
        Self {
            sealed_bytes: AtomicU64::new(history.segments.iter().map(|segment| segment.bytes).sum()),
            active_bytes: AtomicU64::new(0),
            files: Mutex::new(Files {
                sealed: history.segments.iter().copied().collect(),
                spares,
                next_spare,
                cached: Vec::new(),
                free_to: Lsn(0),
                work: true,
                closed: false,
            }),
            wanted: Condvar::new(),
            starved: AtomicBool::new(false),
            no_room: AtomicBool::new(false),
        }
    }

    /// Bytes of log: whole files, of the active segment what is used.
    pub(super) fn bytes(&self) -> u64 {
        self.sealed_bytes.load(Ordering::Relaxed) + self.active_bytes.load(Ordering::Relaxed)
    }

    /// Segments, the active one included, and spares.
    pub(super) fn counts(&self) -> (usize, usize) {
        let files = self.files.lock();
        (files.sealed.len() + 1, files.spares.len())
    }

    /// Whether frames that enqueue are to be refused for want of disk.
    pub(super) fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }

    pub(super) fn set_starved(&self, starved: bool) {
        self.starved.store(starved, Ordering::Relaxed);
    }

    /// Whether every frame is to be refused until there is room for another segment.
    pub(super) fn has_no_room(&self) -> bool {
        self.no_room.load(Ordering::Relaxed)
    }

    pub(super) fn set_no_room(&self, no_room: bool) {
        self.no_room.store(no_room, Ordering::Relaxed);
    }

    /// Whether the log may have one more segment: its largest size, and as many on top as there are spares.
    pub(super) fn may_grow(&self, options: &WalOptions) -> bool {
        let reserve = options.spare_segments as u64 * options.segment_bytes;
        let sealed = self.sealed_bytes.load(Ordering::Relaxed);
        sealed + options.segment_bytes < options.bytes_max.saturating_add(reserve)
    }

    pub(super) fn set_active_bytes(&self, bytes: u64) {
        self.active_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The active segment, which is `file`, became `sealed`, and another takes its place.
    pub(super) fn seal(&self, sealed: Sealed, file: Box<dyn DiskFile>) {
        let mut files = self.files.lock();
        files.sealed.push_back(sealed);
        files.cached.push(file);
        self.sealed_bytes.fetch_add(sealed.bytes, Ordering::Relaxed);
        files.work = true;
        self.wanted.notify_one();
    }

    /// The files of the segments sealed since the last time.
    pub(super) fn take_cached(&self) -> Vec<Box<dyn DiskFile>> {
        std::mem::take(&mut self.files.lock().cached)
    }

    /// A spare, when there is one.
    pub(super) fn take_spare(&self) -> Option<Spare> {
        self.files.lock().spares.pop()
    }

    pub(super) fn add_spare(&self, spare: Spare) {
        self.files.lock().spares.push(spare);
    }

    pub(super) fn spares(&self) -> usize {
        self.files.lock().spares.len()
    }

    /// A number for a spare that no other has.
    pub(super) fn number_spare(&self) -> u64 {
        let mut files = self.files.lock();
        files.next_spare += 1;
        files.next_spare
    }

    /// Lets sealed segments go whose frames are all at or below `lsn`.
    pub(super) fn free_up_to(&self, lsn: Lsn) {
        let mut files = self.files.lock();
        files.free_to = files.free_to.max(lsn);
        if files
            .sealed
            .front()
            .is_some_and(|oldest| oldest.last_lsn <= files.free_to)
        {
            files.work = true;
            self.wanted.notify_one();
        }
    }

    /// The last position of the oldest sealed segment.
    pub(super) fn oldest_segment_end(&self) -> Option<Lsn> {
        self.files.lock().sealed.front().map(|oldest| oldest.last_lsn)
    }

    /// The oldest segment, when it may go. It counts until [`Stock::freed`].
    pub(super) fn next_to_free(&self) -> Option<Sealed> {
        let files = self.files.lock();
        files
            .sealed
            .front()
            .copied()
            .filter(|oldest| oldest.last_lsn <= files.free_to)
    }

    /// The oldest segment is gone.
    pub(super) fn freed(&self) {
        if let Some(freed) = self.files.lock().sealed.pop_front() {
            self.sealed_bytes.fetch_sub(freed.bytes, Ordering::Relaxed);
        }
    }

    /// Waits until something is to be done, or `timeout` passed; false once the log is closed.
    pub(super) fn wait_for_work(&self, timeout: std::time::Duration) -> bool {
        let mut files = self.files.lock();
        if !files.work && !files.closed {
            self.wanted.wait_for(&mut files, timeout);
        }
        files.work = false;
        !files.closed
    }

    pub(super) fn is_closed(&self) -> bool {
        self.files.lock().closed
    }

    pub(super) fn close(&self) {
        self.files.lock().closed = true;
        self.wanted.notify_all();
    }
}
