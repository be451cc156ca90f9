//! The log as its users see it, and the buffer in which their frames gather.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::disk::{DirLock, Disk};
use super::frame::{self, FrameBuilder};
use super::group::{Group, Pending, Unapplied};
use super::record::Record;
use super::replay::{self, History};
use super::segment::io_error;
use super::status::{Counters, WalHealth, WalStatus};
use super::stock::Stock;
use super::upkeep::{self, Upkeep};
use super::writer::Writer;
use super::{Lsn, WalError, WalOpenError, WalOptions};

/// How long the log has nothing to do before it says so on the disk.
const IDLE_AFTER: Duration = Duration::from_millis(100);
/// What a buffer keeps allocated while the log is idle, in bytes.
const IDLE_BUFFER_BYTES: usize = 1 << 20;

/// A write-ahead log. Clones are the same log; the last one dropped closes it.
#[derive(Debug, Clone)]
pub struct Wal(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<DirLock>>,
}

impl Wal {
    /// Opens the log in `options.dir`, handing every record it holds to `visit` in order.
    ///
    /// A torn tail is left out. `id_high_water` is raised to the highest item id the log knows of, and read
    /// whenever a segment begins: keep in it the highest id used. Blocks until everything is read.
    ///
    /// # Errors
    /// See [`WalOpenError`]. What `visit` was given before an error is not to be used.
    pub fn open(
        options: WalOptions,
        disk: Arc<dyn Disk>,
        id_high_water: Arc<AtomicU64>,
        visit: &mut dyn FnMut(Lsn, Record),
    ) -> Result<Self, WalOpenError> {
        let dir = options.dir.clone();
        let (wal, writer, upkeep) = Self::open_stopped(options, disk, id_high_water, visit)?;
        wal.spawn("wal-writer", move || writer.run())
            .and_then(|()| wal.spawn("wal-upkeep", move || upkeep.run()))
            .map_err(|source| io_error("start the threads of", &dir, source))?;
        Ok(wal)
    }

    /// Opens the log without threads: whoever holds the writer and the upkeep decides when each takes a
    /// step.
    pub(super) fn open_stopped(
        options: WalOptions,
        disk: Arc<dyn Disk>,
        id_high_water: Arc<AtomicU64>,
        visit: &mut dyn FnMut(Lsn, Record),
    ) -> Result<(Self, Writer, Upkeep), WalOpenError> {
        if let Some(problem) = options.problem() {
            return Err(WalOpenError::Options(problem));
        }
        let dir = options.dir.clone();
        let lock = lock_dir(&*disk, &options)?;
        let history = replay::replay(&*disk, &dir, options.node, &id_high_water, visit)?;
        if history.torn {
            tracing::warn!(
                after = history.last_lsn.0,
                "a group that never became durable was left out of the log"
            );
        }
        let (spares, last_spare) = upkeep::adopt_spares(&*disk, &options)?;
        let shared = Arc::new(Shared {
            stock: Stock::new(&history, spares, last_spare),
            counters: Counters::default(),
            buffer: Mutex::new(Buffer::starting_at(Lsn(history.last_lsn.0 + 1))),
            arrived: Condvar::new(),
            durable: AtomicU64::new(history.last_lsn.0),
            unapplied: Mutex::new(Unapplied::since(history.last_lsn)),
            first_lsn: history.first_lsn,
            torn_at_open: history.torn,
            options,
            disk,
            id_high_water,
        });
        let writer = Writer::begin(shared.clone(), &history)?;
        let upkeep = Upkeep::new(shared.clone());
        upkeep.look_at_space();
        let handle = Handle {
            shared,
            threads: Mutex::new(Vec::new()),
            lock: Mutex::new(Some(lock)),
        };
        Ok((Self(Arc::new(handle)), writer, upkeep))
    }

    fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let shared = self.0.shared.clone();
        let body = move || {
            let _guard = FailOnPanic(shared);
            body();
        };
        let thread = thread::Builder::new().name(name.into()).spawn(body)?;
        self.0.threads.lock().push(thread);
        Ok(())
    }

    /// Puts a frame into the log. Copies it into the buffer and returns; never waits for the disk.
    ///
    /// Frames are in the log in the order of their [`Pending::lsn`].
    ///
    /// # Errors
    /// See [`WalError`]; the frame is certainly not in the log.
    pub fn append(&self, frame: FrameBuilder) -> Result<Pending, WalError> {
        let shared = &*self.0.shared;
        if frame.len() > shared.options.frame_bytes_max() {
            return Err(WalError::FrameTooLarge);
        }
        let growth = frame.is_growth();
        let frame = frame.finish();
        let mut buffer = shared.buffer.lock();
        shared.admit(&buffer, growth, frame.len())?;
        let pending = buffer.push(&frame);
        let writer_waits = buffer.writer_waits;
        drop(buffer);
        if writer_waits {
            shared.arrived.notify_one();
        }
        Ok(pending)
    }

    /// Hands every durable record to `visit` once more, in order, while the log goes on; returns the position up to
    /// which it did. No segment may be freed meanwhile. Blocks until everything is read.
    ///
    /// # Errors
    /// See [`WalOpenError`]. It may be that a segment ended during the reading: then trying again helps. What `visit` was
    /// given before an error is not to be used.
    pub fn read_back(&self, visit: &mut dyn FnMut(Lsn, Record)) -> Result<Lsn, WalOpenError> {
        let shared = &*self.0.shared;
        let end = shared.durable_lsn();
        replay::read_back(&*shared.disk, &shared.options.dir, end, visit)?;
        Ok(end)
    }

    /// The last durable position.
    pub fn durable_lsn(&self) -> Lsn {
        self.0.shared.durable_lsn()
    }

    /// The highest position up to which every frame is durable and applied, that is, its [`Pending`] or
    /// [`Applying`](super::Applying) is dropped. Moves group by group.
    pub fn applied_lsn(&self) -> Lsn {
        self.0.shared.unapplied.lock().applied()
    }

    /// Lets go of sealed segments whose frames are all at or below `lsn`, oldest first, in the background.
    pub fn free_up_to(&self, lsn: Lsn) {
        self.0.shared.stock.free_up_to(lsn);
    }

    /// The last position in the oldest sealed segment: what [`Wal::free_up_to`] needs to free it. Nothing
    /// while only the active segment is left.
    pub fn oldest_segment_end(&self) -> Option<Lsn> {
        self.0.shared.stock.oldest_segment_end()
    }

    /// Asks for the active segment to be sealed, if it holds frames, so that it can be freed. Returns at
    /// once; frames appended from now on go to another segment.
    ///
    /// # Errors
    /// [`WalError::Failed`] and [`WalError::Closed`].
    pub fn roll(&self) -> Result<(), WalError> {
        let shared = &self.0.shared;
        let mut buffer = shared.buffer.lock();
        buffer.state.check()?;
        buffer.roll = true;
        shared.arrived.notify_one();
        Ok(())
    }

    /// How the log is doing.
    pub fn status(&self) -> WalStatus {
        self.0.shared.status()
    }

    /// Takes no more frames, makes those taken durable, marks the log as closed, and releases the directory.
    /// Blocks until that is done; does nothing the second time.
    pub fn close(&self) {
        self.0.close();
    }
}

fn lock_dir(disk: &dyn Disk, options: &WalOptions) -> Result<DirLock, WalOpenError> {
    let dir = &options.dir;
    disk.create_dir(dir)
        .map_err(|source| io_error("make", dir, source))?;
    disk.lock(dir).map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => WalOpenError::InUse { dir: dir.clone() },
        _ => io_error("lock", dir, source),
    })
}

impl Handle {
    fn close(&self) {
        let mut threads = self.threads.lock();
        self.shared.close();
        for thread in threads.drain(..) {
            // A panic in a thread has already failed the log.
            let _ = thread.join();
        }
        *self.lock.lock() = None;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

/// Fails the log when the thread that holds it panics, so that nobody waits for it for ever.
struct FailOnPanic(Arc<Shared>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail("a thread of the log panicked".into());
        }
    }
}

/// What the log's users, its writer and its upkeep share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: WalOptions,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) stock: Stock,
    pub(super) counters: Counters,
    pub(super) id_high_water: Arc<AtomicU64>,
    buffer: Mutex<Buffer>,
    /// Wakes the writer.
    arrived: Condvar,
    durable: AtomicU64,
    unapplied: Mutex<Unapplied>,
    first_lsn: Lsn,
    torn_at_open: bool,
}

/// Frames that wait for the writer.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    group: Arc<Group>,
    /// The group the writer is at.
    in_flight: Option<Arc<Group>>,
    next: Lsn,
    state: State,
    roll: bool,
    writer_waits: bool,
}

#[derive(Debug, Clone)]
enum State {
    Open,
    Closing,
    Closed,
    Failed(Arc<str>),
}

impl State {
    fn check(&self) -> Result<(), WalError> {
        match self {
            Self::Open => Ok(()),
            Self::Closing | Self::Closed => Err(WalError::Closed),
            Self::Failed(message) => Err(WalError::Failed(message.clone())),
        }
    }
}

impl Buffer {
    fn starting_at(next: Lsn) -> Self {
        Self {
            bytes: Vec::new(),
            group: Arc::default(),
            in_flight: None,
            next,
            state: State::Open,
            roll: false,
            writer_waits: false,
        }
    }

    fn push(&mut self, frame: &[u8]) -> Pending {
        let lsn = self.next;
        self.next = Lsn(lsn.0 + 1);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        frame::number(&mut self.bytes[start..], lsn);
        self.group.join(lsn)
    }

    /// Tells those who wait in the buffer, and in the group at the writer, that nothing behind `durable_to`
    /// became durable.
    fn refuse(&mut self, durable_to: Lsn, error: &WalError) {
        self.bytes.clear();
        let waiting = std::mem::take(&mut self.group);
        for group in self.in_flight.take().into_iter().chain([waiting]) {
            group.settle(durable_to, error.clone());
        }
    }
}

/// What the writer is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    Commit,
    MarkIdle,
    Roll,
    Close,
    Stop,
}

impl Shared {
    fn admit(&self, buffer: &Buffer, growth: bool, frame_bytes: usize) -> Result<(), WalError> {
        buffer.state.check()?;
        let pending = buffer.bytes.len() + frame_bytes;
        if pending > self.options.pending_bytes_max || self.stock.has_no_room() {
            return Err(WalError::Full);
        }
        let over = || self.stock.bytes() + pending as u64 > self.options.bytes_max;
        if growth && (self.stock.is_starved() || over()) {
            return Err(WalError::Full);
        }
        Ok(())
    }

    /// Waits until the writer has something to do. `marked` says that the disk already says all is durable.
    pub(super) fn wait_for_work(&self, marked: bool) -> Work {
        let mut buffer = self.buffer.lock();
        loop {
            let (rolls, holds_frames) = (std::mem::take(&mut buffer.roll), !buffer.bytes.is_empty());
            match buffer.state {
                State::Failed(_) | State::Closed => return Work::Stop,
                _ if rolls => return Work::Roll,
                _ if holds_frames => return Work::Commit,
                State::Closing => return Work::Close,
                State::Open => {}
            }
            buffer.writer_waits = true;
            let idle = if marked {
                self.arrived.wait(&mut buffer);
                false
            } else {
                self.arrived.wait_for(&mut buffer, IDLE_AFTER).timed_out()
            };
            buffer.writer_waits = false;
            if idle && buffer.bytes.is_empty() && matches!(buffer.state, State::Open) {
                buffer.bytes.shrink_to(IDLE_BUFFER_BYTES);
                return Work::MarkIdle;
            }
        }
    }

    /// Lets the callers of the group just settled come back, as long as each turn brings one and no longer
    /// than `patience`: without it the first one back would have a sync to itself, and all others would wait
    /// for the one after.
    pub(super) fn let_callers_return(&self, most: usize, patience: Duration) {
        let start = self.disk.elapsed();
        let mut waiting = self.buffer.lock().group.frames();
        while self.disk.elapsed().saturating_sub(start) < patience {
            thread::yield_now();
            let now = self.buffer.lock().group.frames();
            if now == waiting || now >= most {
                return;
            }
            waiting = now;
        }
    }

    /// Swaps the waiting frames for the empty `batch`; nothing when none wait.
    pub(super) fn take(&self, batch: &mut Vec<u8>) -> Option<Arc<Group>> {
        let mut buffer = self.buffer.lock();
        if buffer.bytes.is_empty() {
            return None;
        }
        std::mem::swap(&mut buffer.bytes, batch);
        let group = std::mem::take(&mut buffer.group);
        buffer.in_flight = Some(group.clone());
        Some(group)
    }

    /// A position for a marker, unless frames wait: then there is nothing to mark.
    pub(super) fn number_marker(&self) -> Option<Lsn> {
        let mut buffer = self.buffer.lock();
        if !buffer.bytes.is_empty() || matches!(buffer.state, State::Failed(_)) {
            return None;
        }
        let lsn = buffer.next;
        buffer.next = Lsn(lsn.0 + 1);
        Some(lsn)
    }

    /// Everything up to `last` is durable, the frames of `group` among it.
    pub(super) fn committed(&self, group: Arc<Group>, last: Lsn) {
        self.unapplied.lock().push(last, group.clone());
        self.durable.store(last.0, Ordering::Release);
        self.buffer.lock().in_flight = None;
        group.settle(last, WalError::Closed);
    }

    /// There is no room for what waits behind `durable_to`: takes the positions back and tells the callers.
    pub(super) fn refuse(&self, group: Arc<Group>, durable_to: Lsn) {
        let mut buffer = self.buffer.lock();
        buffer.next = Lsn(durable_to.0 + 1);
        self.unapplied.lock().push(durable_to, group);
        self.durable.store(durable_to.0, Ordering::Release);
        buffer.refuse(durable_to, &WalError::Full);
    }

    /// Ends the log for good: nothing behind `durable_to` is known to be durable.
    pub(super) fn fail_behind(&self, durable_to: Lsn, message: Arc<str>) {
        let mut buffer = self.buffer.lock();
        if !matches!(buffer.state, State::Failed(_)) {
            tracing::error!(%message, "the log failed and takes nothing any more");
            buffer.state = State::Failed(message.clone());
        }
        buffer.refuse(durable_to, &WalError::Failed(message));
        self.arrived.notify_one();
    }

    /// Ends the log for good, for a reason outside the writer.
    pub(super) fn fail(&self, message: Arc<str>) {
        self.fail_behind(self.durable_lsn(), message);
    }

    fn durable_lsn(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    fn close(&self) {
        let mut buffer = self.buffer.lock();
        if matches!(buffer.state, State::Open) {
            buffer.state = State::Closing;
        }
        self.arrived.notify_one();
        drop(buffer);
        self.stock.close();
    }

    /// The writer wrote its last byte.
    pub(super) fn closed(&self) {
        let mut buffer = self.buffer.lock();
        if matches!(buffer.state, State::Closing) {
            buffer.state = State::Closed;
        }
    }

    fn status(&self) -> WalStatus {
        let (state, pending_bytes) = {
            let buffer = self.buffer.lock();
            (buffer.state.clone(), buffer.bytes.len())
        };
        let full = self.stock.is_starved()
            || self.stock.has_no_room()
            || self.stock.bytes() >= self.options.bytes_max;
        let health = match state {
            State::Failed(message) => WalHealth::Failed(message),
            _ if full => WalHealth::Full,
            _ => WalHealth::Healthy,
        };
        let (segments, spares) = self.stock.counts();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WalStatus {
            health,
            segments,
            spares,
            bytes: self.stock.bytes(),
            pending_bytes,
            frames: count(&self.counters.frames),
            written_bytes: count(&self.counters.written_bytes),
            syncs: count(&self.counters.syncs),
            sync_time: Duration::from_micros(count(&self.counters.sync_us)),
            sync_buckets: self.counters.sync_buckets.each_ref().map(count),
            first_lsn: self.first_lsn,
            durable_lsn: self.durable_lsn(),
            torn_at_open: self.torn_at_open,
        }
    }
}

impl History {
    /// The number of the segment a new process begins.
    pub(super) fn next_number(&self) -> u64 {
        self.last_number + 1
    }
}
