//! Makes a damaged log readable again without touching a sound frame.
//!
//! One problem at a time, in the order in which opening would meet them: the file is copied aside, then what
//! is unreadable is covered by a lost frame, which accounts for the positions it took. Positions are never
//! used again, since a shard may already have been told of them.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::disk::{Disk, DiskFile};
use super::super::error::Damage;
use super::super::frame::{self, FRAME_HEADER_BYTES};
use super::super::scan::{Beyond, Found, Scanner};
use super::super::segment::{FORMAT_VERSION, FRAMES_START, FileName, SegmentHeader, io_error};
use super::super::{FrameKind, Lsn, WalOpenError};
use super::{Problem, verify};

/// Bytes of a segment that holds nothing but a lost frame.
const LOST_SEGMENT_BYTES: u64 = 2 * FRAMES_START;
/// How much is copied at once, in bytes.
const COPY_BYTES: usize = 1 << 20;

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// The folder, below the log's, that holds the damaged files as they were.
    pub backup: Option<String>,
    /// What was repaired, in order; empty when nothing was wrong.
    pub steps: Vec<RepairStep>,
    /// What still keeps the log from being opened, when the repair could go no further.
    pub left: Option<Problem>,
}

/// One thing that was repaired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairStep {
    /// What was wrong.
    pub problem: Problem,
    /// What could not be saved; nothing when nothing was lost.
    pub lost: Option<Loss>,
}

/// Frames that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The first position lost.
    pub first_lsn: Lsn,
    /// The last position lost, or, when that cannot be known, the last that may have been.
    pub last_lsn: Lsn,
    /// Whether `last_lsn` is known.
    pub exact: bool,
    /// Bytes of the file given up.
    pub bytes: u64,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let about = if self.exact { "" } else { "at most " };
        let (first, last, bytes) = (self.first_lsn.0, self.last_lsn.0, self.bytes);
        write!(f, "{about}frames {first} to {last} ({bytes} bytes)")
    }
}

/// Repairs the log in `dir`, which must not be open.
///
/// # Errors
/// [`WalOpenError::InUse`] when a process has the log open; when the disk refuses. Every step leaves the log
/// no more damaged than it was, so a repair can be run again.
pub fn repair(disk: &dyn Disk, dir: &Path) -> Result<RepairReport, WalOpenError> {
    let _lock = disk.lock(dir).map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => WalOpenError::InUse { dir: dir.to_owned() },
        _ => io_error("lock", dir, source),
    })?;
    let mut repair = Repair {
        disk,
        dir,
        backup: None,
        copied: Vec::new(),
    };
    let mut report = RepairReport::default();
    while let Some(problem) = verify(disk, dir)? {
        // A step that changed nothing would change nothing the next time either.
        let stuck = report.steps.last().is_some_and(|step| step.problem == problem);
        let number = match FileName::parse(&problem.file) {
            Some(FileName::Segment(number)) if !stuck => number,
            _ => {
                report.left = Some(problem);
                break;
            }
        };
        repair.copy_aside(number)?;
        match repair.step(number, &problem)? {
            Some(lost) => report.steps.push(RepairStep { problem, lost }),
            None => {
                report.left = Some(problem);
                break;
            }
        }
    }
    report.backup = repair
        .backup
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    Ok(report)
}

struct Repair<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    backup: Option<PathBuf>,
    copied: Vec<u64>,
}

/// A segment's neighbourhood, as far as it is readable.
struct Place {
    before: Option<SegmentHeader>,
    after: Option<SegmentHeader>,
}

impl Repair<'_> {
    /// Repairs one problem of segment `number` and says what was lost; nothing at all when it cannot.
    fn step(&mut self, number: u64, problem: &Problem) -> Result<Option<Option<Loss>>, WalOpenError> {
        match problem.reason {
            Damage::SegmentHeader => match self.own_header(number)? {
                Some(header) => self.rewrite_header(&header).map(|()| Some(None)),
                None => self.replace_segment(number),
            },
            Damage::SegmentNumber | Damage::MissingSegment => self.replace_segment(number),
            Damage::SegmentChain => self.reconnect(number),
            Damage::Truncated
            | Damage::MissingFrames
            | Damage::FrameHeader
            | Damage::FrameOrder
            | Damage::FrameBody
            | Damage::Records => self.cover(number, problem),
        }
    }

    /// Covers an unreadable place inside a segment.
    fn cover(&mut self, number: u64, problem: &Problem) -> Result<Option<Option<Loss>>, WalOpenError> {
        let Some(header) = self.own_header(number)? else {
            return Ok(None);
        };
        let path = self.path(number);
        let file = self.open(number)?;
        let after = self.own_header(number + 1)?;
        // A file that was cut short gets its length back, so that a lost frame has a place.
        self.io("extend", &path, file.allocate(header.capacity))?;
        let mut scanner = self.io("read", &path, Scanner::new(&*file, &header))?;
        let unread = self.io("read", &path, read_up_to(&mut scanner, problem.offset))?;
        let (place, first) = (scanner.offset(), scanner.expected());
        if let Some(body_bytes) = unread {
            // The frame is whole and means nothing: it is lost alone.
            let lost = Loss {
                first_lsn: first,
                last_lsn: first,
                exact: true,
                bytes: body_bytes.into(),
            };
            self.write_lost(&*file, &header, place, first, body_bytes)?;
            return Ok(Some(Some(lost)));
        }
        let beyond = self.io("read", &path, scanner.beyond())?;
        let next = beyond
            .next_frame
            .filter(|(_, lsn)| after.as_ref().is_none_or(|after| *lsn < after.first_lsn));
        let digest = scanner.digest();
        match (next, after) {
            (Some((offset, lsn)), _) => {
                let bytes = offset - place;
                let last = Lsn(lsn.0 - 1);
                self.write_lost(
                    &*file,
                    &header,
                    place,
                    last,
                    (bytes - FRAME_HEADER_BYTES as u64) as u32,
                )?;
                Ok(Some(Some(Loss {
                    first_lsn: first,
                    last_lsn: last,
                    exact: true,
                    bytes,
                })))
            }
            (None, Some(after)) if place + FRAME_HEADER_BYTES as u64 <= header.capacity => {
                let last = Lsn(after.first_lsn.0 - 1);
                self.write_lost(&*file, &header, place, last, 0)?;
                let bytes = header.capacity - place;
                Ok(Some(Some(Loss {
                    first_lsn: first,
                    last_lsn: last,
                    exact: true,
                    bytes,
                })))
            }
            (None, Some(_)) => Ok(None),
            (None, None) => {
                let loss = self.lose_tail(&header, place, first, beyond, digest)?;
                Ok(Some(Some(loss)))
            }
        }
    }

    /// Gives up everything behind `place` in the last segment: a segment behind it says where it ends.
    fn lose_tail(
        &self,
        header: &SegmentHeader,
        place: u64,
        first: Lsn,
        beyond: Beyond,
        digest: u32,
    ) -> Result<Loss, WalOpenError> {
        let bytes = header.capacity.saturating_sub(place);
        let bound = Lsn(first.0 + bytes / FRAME_HEADER_BYTES as u64);
        let last = bound.max(beyond.highest_lsn.unwrap_or(first));
        let lost = SegmentHeader {
            number: header.number + 1,
            previous_digest: digest,
            ..header.clone()
        };
        self.make_lost_segment(lost, first, Some(last))?;
        Ok(Loss {
            first_lsn: first,
            last_lsn: last,
            exact: false,
            bytes,
        })
    }

    /// Writes a lost frame over what is unreadable, and takes the segment out of the next header's digest.
    fn write_lost(
        &self,
        file: &dyn DiskFile,
        header: &SegmentHeader,
        place: u64,
        last: Lsn,
        body_bytes: u32,
    ) -> Result<(), WalOpenError> {
        // First the flag: a crash in between must not leave a digest that fails.
        self.rewrite_header(&SegmentHeader {
            repaired: true,
            ..header.clone()
        })?;
        let path = self.path(header.number);
        let lost = lost_frame(header, place, last, body_bytes);
        self.io("write to", &path, file.write_all_at(&lost, place))?;
        self.io("sync", &path, file.sync())
    }

    /// Takes a segment that cannot be read at all out of the log.
    fn replace_segment(&self, number: u64) -> Result<Option<Option<Loss>>, WalOpenError> {
        let before = match number.checked_sub(1) {
            Some(before) => self.own_header(before)?,
            None => None,
        };
        let place = Place {
            before,
            after: self.own_header(number + 1)?,
        };
        let bytes = self
            .open(number)
            .and_then(|file| self.io("read", &self.path(number), file.len()))
            .unwrap_or(0);
        let Some(before) = place.before else {
            if place.after.is_none() {
                return Ok(None);
            }
            // The oldest segment: without it the log begins at the next.
            let path = self.path(number);
            self.io("remove", &path, self.disk.remove(&path))?;
            self.io("sync", self.dir, self.disk.sync_dir(self.dir))?;
            let last_lsn = place
                .after
                .map_or(Lsn(0), |after| Lsn(after.first_lsn.0.saturating_sub(1)));
            return Ok(Some(Some(Loss {
                first_lsn: Lsn(0),
                last_lsn,
                exact: false,
                bytes,
            })));
        };
        let (first, digest) = self.end_of(&before)?;
        let bound = Lsn(first.0 + before.capacity / FRAME_HEADER_BYTES as u64);
        let (last, exact) = match &place.after {
            Some(after) if after.first_lsn > first => (Some(Lsn(after.first_lsn.0 - 1)), true),
            Some(after) if after.first_lsn == first => (None, true),
            Some(_) => return Ok(None),
            None => (Some(bound), false),
        };
        let lost = SegmentHeader {
            number,
            previous_digest: digest,
            ..before
        };
        self.make_lost_segment(lost, first, last)?;
        Ok(Some(last.map(|last_lsn| Loss {
            first_lsn: first,
            last_lsn,
            exact,
            bytes,
        })))
    }

    /// Connects a segment to the one before it.
    fn reconnect(&mut self, number: u64) -> Result<Option<Option<Loss>>, WalOpenError> {
        let (Some(header), Some(before)) = (self.own_header(number)?, self.own_header(number - 1)?) else {
            return Ok(None);
        };
        if header.first_lsn > before.first_lsn || header.first_lsn == self.end_of(&before)?.0 {
            // The positions fit and the digest does not: every frame there is sound by itself.
            self.copy_aside(number - 1)?;
            let unchecked = SegmentHeader {
                repaired: true,
                ..before
            };
            return self.rewrite_header(&unchecked).map(|()| Some(None));
        }
        self.replace_segment(number)
    }

    /// The first position that cannot have been used in the segment of `header`, and its digest.
    fn end_of(&self, header: &SegmentHeader) -> Result<(Lsn, u32), WalOpenError> {
        let path = self.path(header.number);
        let file = self.open(header.number)?;
        let mut scanner = self.io("read", &path, Scanner::new(&*file, header))?;
        self.io("read", &path, read_up_to(&mut scanner, u64::MAX))?;
        let beyond = self.io("read", &path, scanner.beyond())?;
        let end = beyond
            .highest_lsn
            .map_or(Lsn(0), |lsn| Lsn(lsn.0 + 1))
            .max(scanner.expected());
        Ok((end, scanner.digest()))
    }

    /// Makes a segment like `like` that holds nothing but a lost frame from `first` to `last`.
    fn make_lost_segment(
        &self,
        like: SegmentHeader,
        first: Lsn,
        last: Option<Lsn>,
    ) -> Result<(), WalOpenError> {
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            repaired: true,
            first_lsn: first,
            salt: self.disk.random(),
            capacity: LOST_SEGMENT_BYTES,
            ..like
        };
        let unfinished = FileName::Unfinished(header.number).path(self.dir);
        let made = self.disk.create(&unfinished).and_then(|file| {
            file.allocate(LOST_SEGMENT_BYTES)?;
            header.write(&*file)?;
            if let Some(last) = last {
                file.write_all_at(&lost_frame(&header, FRAMES_START, last, 0), FRAMES_START)?;
            }
            file.sync()
        });
        self.io("write to", &unfinished, made)?;
        let path = self.path(header.number);
        self.io("rename", &unfinished, self.disk.rename(&unfinished, &path))?;
        self.io("sync", self.dir, self.disk.sync_dir(self.dir))
    }

    fn rewrite_header(&self, header: &SegmentHeader) -> Result<(), WalOpenError> {
        let path = self.path(header.number);
        let file = self.open(header.number)?;
        self.io("write to", &path, header.write(&*file))?;
        self.io("sync", &path, file.sync())
    }

    /// Copies a segment into the backup folder, once.
    fn copy_aside(&mut self, number: u64) -> Result<(), WalOpenError> {
        let from = self.path(number);
        let source = match self.disk.open(&from) {
            Ok(file) if !self.copied.contains(&number) => file,
            // A segment that is missing cannot be copied.
            _ => return Ok(()),
        };
        let backup = match &self.backup {
            Some(backup) => backup.clone(),
            None => self.make_backup()?,
        };
        let to = FileName::Segment(number).path(&backup);
        let copied = self.disk.create(&to).and_then(|copy| copy_file(&*source, &*copy));
        self.io("copy to", &to, copied)?;
        self.io("sync", &backup, self.disk.sync_dir(&backup))?;
        self.copied.push(number);
        Ok(())
    }

    fn make_backup(&mut self) -> Result<PathBuf, WalOpenError> {
        let mut number = 1;
        let backup = loop {
            let candidate = self.dir.join(format!("damaged-{number}"));
            match self.disk.list(&candidate) {
                Ok(files) if !files.is_empty() => number += 1,
                _ => break candidate,
            }
        };
        self.io("make", &backup, self.disk.create_dir(&backup))?;
        self.backup = Some(backup.clone());
        Ok(backup)
    }

    /// The header of segment `number`, from whichever copy is sound; nothing when it is not there or says
    /// another number.
    fn own_header(&self, number: u64) -> Result<Option<SegmentHeader>, WalOpenError> {
        let path = self.path(number);
        let Ok(file) = self.disk.open(&path) else {
            return Ok(None);
        };
        let header = self.io("read", &path, SegmentHeader::read_either(&*file))?;
        Ok(header.filter(|header| header.number == number))
    }

    fn path(&self, number: u64) -> PathBuf {
        FileName::Segment(number).path(self.dir)
    }

    fn open(&self, number: u64) -> Result<Box<dyn DiskFile>, WalOpenError> {
        let path = self.path(number);
        self.io("open", &path, self.disk.open(&path))
    }

    fn io<T>(
        &self,
        action: &'static str,
        path: &Path,
        result: std::io::Result<T>,
    ) -> Result<T, WalOpenError> {
        result.map_err(|source| io_error(action, path, source))
    }
}

/// Reads frames until `offset` or the first place without one. When the frame at `offset` is sound, the
/// length of its body.
fn read_up_to(scanner: &mut Scanner<'_>, offset: u64) -> std::io::Result<Option<u32>> {
    loop {
        if scanner.offset() == offset {
            return scanner.body_bytes_here();
        }
        if let Found::Nothing(_) = scanner.next()? {
            return Ok(None);
        }
    }
}

fn lost_frame(header: &SegmentHeader, place: u64, last: Lsn, body_bytes: u32) -> [u8; FRAME_HEADER_BYTES] {
    let mut lost = frame::bare(FrameKind::Lost, body_bytes);
    frame::number(&mut lost, last);
    frame::seal(&mut lost, place, place as u32, header.seed());
    lost
}

fn copy_file(from: &dyn DiskFile, to: &dyn DiskFile) -> std::io::Result<()> {
    let mut chunk = vec![0; COPY_BYTES];
    let mut at = 0;
    loop {
        let read = from.read_at(&mut chunk, at)?;
        if read == 0 {
            return to.sync();
        }
        to.write_all_at(&chunk[..read], at)?;
        at += read as u64;
    }
}
