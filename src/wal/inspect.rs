//! What is behind `mqueue wal inspect`, `verify` and `repair`: looks at a log that is not open, says what is
//! wrong with it, and saves what is readable.

mod repair;

use std::path::Path;

use serde::Serialize;

use super::codec::Decoder;
use super::disk::Disk;
use super::error::Damage;
use super::record::Record;
use super::replay::{self, Read, Segment};
use super::scan::Frame;
use super::segment::{self, FileName, SegmentHeader, corrupt, io_error};
use super::{FrameKind, Lsn, WalOpenError};

pub use repair::{Loss, RepairReport, RepairStep, repair};

/// A log as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogSummary {
    /// Its segments, oldest first.
    pub segments: Vec<SegmentSummary>,
    /// Spare files.
    pub spares: usize,
    /// The first thing that keeps it from being opened; nothing when it can be.
    pub problem: Option<Problem>,
}

/// Something that keeps a log from being opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file's name.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub reason: Damage,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.offset, self.reason)
    }
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SegmentSummary {
    /// The file's name.
    pub file: String,
    /// The segment's number.
    pub number: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes that hold the header and sound frames.
    pub used_bytes: u64,
    /// The node that wrote it.
    pub node: u16,
    /// The position of its first frame.
    pub first_lsn: Lsn,
    /// The position of its last readable frame; one less than the first when it has none.
    pub last_lsn: Lsn,
    /// Frames of any kind.
    pub frames: u64,
    /// What the frames hold.
    pub records: RecordCounts,
    /// In what condition it is.
    pub state: SegmentState,
}

/// How many records of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RecordCounts {
    /// Enqueues.
    pub enqueue: u64,
    /// Items in them.
    pub items: u64,
    /// Deliveries to consumers.
    pub deliver: u64,
    /// New standings.
    pub patch: u64,
    /// Settlements.
    pub settle: u64,
    /// Purges.
    pub purge: u64,
    /// Records of idempotency keys that hooked items carry.
    pub keys: u64,
    /// Frames that repair put in the place of unreadable ones.
    pub lost: u64,
}

/// In what condition a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentState {
    /// Whole, and another follows.
    Sealed,
    /// Whole, the last, and ended by a close.
    Closed,
    /// The last; its process ended without closing the log, or still runs.
    Open,
    /// As open, and a group behind its end was never durable: it will be left out.
    Torn,
    /// Something in it that was durable is not readable.
    Corrupt,
}

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FrameSummary {
    /// The number of its segment.
    pub segment: u64,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// Its bytes, header included.
    pub bytes: u64,
    /// Its position.
    pub lsn: Lsn,
    /// What it is.
    pub kind: FrameKind,
    /// What it holds.
    pub records: RecordCounts,
}

/// Reads the whole log in `dir` and sums it up, damaged or not.
///
/// # Errors
/// When the disk refuses, or a segment is of a format this version does not know.
pub fn inspect(disk: &dyn Disk, dir: &Path) -> Result<LogSummary, WalOpenError> {
    walk(disk, dir, &mut |_| {})
}

/// As [`inspect`], and hands every readable frame to `visit`.
///
/// # Errors
/// The same.
pub fn inspect_frames(
    disk: &dyn Disk,
    dir: &Path,
    visit: &mut dyn FnMut(FrameSummary),
) -> Result<LogSummary, WalOpenError> {
    walk(disk, dir, visit)
}

/// Says what keeps the log in `dir` from being opened; nothing when it can be.
///
/// # Errors
/// When the disk refuses, or a segment is of a format this version does not know.
pub fn verify(disk: &dyn Disk, dir: &Path) -> Result<Option<Problem>, WalOpenError> {
    inspect(disk, dir).map(|log| log.problem)
}

fn walk(
    disk: &dyn Disk,
    dir: &Path,
    visit: &mut dyn FnMut(FrameSummary),
) -> Result<LogSummary, WalOpenError> {
    let files = segment::list(disk, dir)?;
    let spares = files
        .iter()
        .filter(|file| matches!(file, FileName::Spare(_)))
        .count();
    let mut log = LogSummary {
        segments: Vec::new(),
        spares,
        problem: None,
    };
    note(&mut log.problem, replay::numbers(disk, dir).map(drop))?;
    let numbers: Vec<_> = files
        .iter()
        .filter_map(|file| {
            if let FileName::Segment(n) = file {
                Some(*n)
            } else {
                None
            }
        })
        .collect();
    let mut decoder = Decoder::default();
    let mut previous: Option<Read> = None;
    for (index, &number) in numbers.iter().enumerate() {
        let next = numbers.get(index + 1).copied();
        let mut summary = SegmentSummary::unread(disk, dir, number)?;
        let outcome = read_segment(
            disk,
            dir,
            next,
            &mut summary,
            &mut decoder,
            previous.as_ref(),
            visit,
        );
        previous = note(&mut log.problem, outcome)?;
        log.segments.push(summary);
    }
    Ok(log)
}

/// Keeps the first damage as the log's problem and lets other errors through.
fn note<T>(
    problem: &mut Option<Problem>,
    outcome: Result<T, WalOpenError>,
) -> Result<Option<T>, WalOpenError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(WalOpenError::Corrupt { file, offset, reason }) => {
            let file = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            problem.get_or_insert(Problem { file, offset, reason });
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn read_segment(
    disk: &dyn Disk,
    dir: &Path,
    next: Option<u64>,
    summary: &mut SegmentSummary,
    decoder: &mut Decoder,
    previous: Option<&Read>,
    visit: &mut dyn FnMut(FrameSummary),
) -> Result<Read, WalOpenError> {
    let number = summary.number;
    let (file, header) = segment::open(disk, dir, number)?;
    summary.describe(&header);
    if let Some(previous) = previous {
        replay::check_follows(dir, &header, previous)?;
    }
    let next = match next {
        Some(next) => Some(segment::open(disk, dir, next)?.1),
        None => None,
    };
    let segment = Segment {
        disk_file: &*file,
        dir,
        header: &header,
        next: next.as_ref(),
    };
    let read = segment.read(&mut |frame| {
        let Some(records) = RecordCounts::of(frame, decoder) else {
            return Err(corrupt(
                FileName::Segment(number).path(dir),
                frame.offset,
                Damage::Records,
            ));
        };
        let bytes = frame.header.frame_bytes();
        summary.count(frame, records);
        let (lsn, kind) = (frame.header.lsn, frame.header.kind);
        visit(FrameSummary {
            segment: number,
            offset: frame.offset,
            bytes,
            lsn,
            kind,
            records,
        });
        Ok(())
    })?;
    summary.state = match (&next, read.torn, read.closed) {
        (Some(_), ..) => SegmentState::Sealed,
        (None, true, _) => SegmentState::Torn,
        (None, false, true) => SegmentState::Closed,
        (None, false, false) => SegmentState::Open,
    };
    Ok(read)
}

impl SegmentSummary {
    fn unread(disk: &dyn Disk, dir: &Path, number: u64) -> Result<Self, WalOpenError> {
        let path = FileName::Segment(number).path(dir);
        let bytes = disk
            .open(&path)
            .and_then(|file| file.len())
            .map_err(|e| io_error("open", &path, e))?;
        Ok(Self {
            file: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            number,
            bytes,
            used_bytes: 0,
            node: 0,
            first_lsn: Lsn(0),
            last_lsn: Lsn(0),
            frames: 0,
            records: RecordCounts::default(),
            state: SegmentState::Corrupt,
        })
    }

    fn describe(&mut self, header: &SegmentHeader) {
        self.node = header.node;
        self.first_lsn = header.first_lsn;
        self.last_lsn = Lsn(header.first_lsn.0.saturating_sub(1));
        self.used_bytes = segment::FRAMES_START;
    }

    fn count(&mut self, frame: &Frame<'_>, records: RecordCounts) {
        self.frames += 1;
        self.last_lsn = frame.header.lsn;
        self.used_bytes = frame.offset + frame.header.frame_bytes();
        self.records.add(records);
    }
}

impl RecordCounts {
    /// What a frame holds; nothing when its records cannot be decoded.
    fn of(frame: &Frame<'_>, decoder: &mut Decoder) -> Option<Self> {
        let mut counts = Self {
            lost: u64::from(frame.header.kind == FrameKind::Lost),
            ..Self::default()
        };
        let decoded = decoder.records(frame.body, &mut |record| match record {
            Record::Enqueue { items, .. } => {
                counts.enqueue += 1;
                counts.items += items.len() as u64;
            }
            Record::Deliver { .. } => counts.deliver += 1,
            Record::Patch { .. } => counts.patch += 1,
            Record::Settle { .. } => counts.settle += 1,
            Record::Purge { .. } => counts.purge += 1,
            Record::Keys { .. } => counts.keys += 1,
        });
        decoded.ok().map(|()| counts)
    }

    fn add(&mut self, more: Self) {
        self.enqueue += more.enqueue;
        self.items += more.items;
        self.deliver += more.deliver;
        self.patch += more.patch;
        self.settle += more.settle;
        self.purge += more.purge;
        self.keys += more.keys;
        self.lost += more.lost;
    }
}
