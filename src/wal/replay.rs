//! Reads a log back: every record in order, the torn tail left out, damage refused.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::codec::Decoder;
use super::disk::{Disk, DiskFile};
use super::error::Damage;
use super::record::Record;
use super::scan::{Found, Frame, Scanner};
use super::segment::{self, FileName, SegmentHeader, corrupt, io_error};
use super::{Lsn, WalOpenError};
use crate::model::NodeId;

/// A segment that takes no more frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) number: u64,
    /// Its last frame, or the last before it when it has none.
    pub(super) last_lsn: Lsn,
    /// Bytes of its file.
    pub(super) bytes: u64,
}

/// What an existing log says.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) segments: Vec<Sealed>,
    /// The first position the log still holds, or would hold.
    pub(super) first_lsn: Lsn,
    /// The last sound frame.
    pub(super) last_lsn: Lsn,
    /// The number of the newest segment.
    pub(super) last_number: u64,
    /// The digest of the newest segment's frames.
    pub(super) digest: u32,
    /// Whether a group that never became durable was left out.
    pub(super) torn: bool,
}

/// Opens every segment of `dir`, checks that they follow on each other, and hands all records to `visit`.
/// Leaves the files as they are, but makes what it read durable.
pub(super) fn replay(
    disk: &dyn Disk,
    dir: &Path,
    node: NodeId,
    id_high_water: &AtomicU64,
    visit: &mut dyn FnMut(Lsn, Record),
) -> Result<History, WalOpenError> {
    let mut history = History {
        first_lsn: Lsn(1),
        ..History::default()
    };
    let mut decoder = Decoder::default();
    let mut previous: Option<Read> = None;
    let numbers = numbers(disk, dir)?;
    for (index, &number) in numbers.iter().enumerate() {
        let (file, header) = segment::open(disk, dir, number)?;
        check_node(dir, &header, node)?;
        if let Some(previous) = &previous {
            check_follows(dir, &header, previous)?;
        } else {
            history.first_lsn = header.first_lsn;
        }
        id_high_water.fetch_max(header.id_high_water, Ordering::AcqRel);
        let next = match numbers.get(index + 1) {
            Some(&next) => Some(segment::open(disk, dir, next)?.1),
            None => None,
        };
        let read = Segment {
            disk_file: &*file,
            dir,
            header: &header,
            next: next.as_ref(),
        }
        .read(&mut |frame| {
            let decoded = decoder.records(frame.body, &mut |record| {
                raise(id_high_water, &record);
                visit(frame.header.lsn, record);
            });
            decoded.map_err(|_| damage(dir, number, frame.offset, Damage::Records))
        })?;
        history.segments.push(Sealed {
            number,
            last_lsn: read.last_lsn,
            bytes: read.file_bytes,
        });
        history.last_lsn = read.last_lsn;
        history.last_number = number;
        history.digest = read.digest;
        history.torn |= read.torn;
        previous = Some(read);
    }
    Ok(history)
}

/// Hands every record of a log in use to `visit`, up to `end`, which is durable.
pub(super) fn read_back(
    disk: &dyn Disk,
    dir: &Path,
    end: Lsn,
    visit: &mut dyn FnMut(Lsn, Record),
) -> Result<(), WalOpenError> {
    let mut decoder = Decoder::default();
    let numbers = numbers(disk, dir)?;
    let mut last = None;
    for (index, &number) in numbers.iter().enumerate() {
        let (file, header) = segment::open(disk, dir, number)?;
        let mut reached = Lsn(header.first_lsn.0 - 1);
        let next = match numbers.get(index + 1) {
            Some(&next) => Some(segment::open(disk, dir, next)?.1),
            None => None,
        };
        let segment = Segment {
            disk_file: &*file,
            dir,
            header: &header,
            next: next.as_ref(),
        };
        let read = segment.read(&mut |frame| {
            reached = frame.header.lsn;
            if reached > end {
                return Ok(());
            }
            let decoded = decoder.records(frame.body, &mut |record| visit(reached, record));
            decoded.map_err(|_| damage(dir, number, frame.offset, Damage::Records))
        });
        // Behind the end the log is being written: what is found there is no damage.
        if reached >= end {
            return Ok(());
        }
        read?;
        last = Some(number);
    }
    match last {
        Some(number) => Err(damage(dir, number, 0, Damage::MissingSegment)),
        None => Ok(()),
    }
}

/// The numbers of the log's segments, ascending and without a gap.
pub(super) fn numbers(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, WalOpenError> {
    let files = segment::list(disk, dir)?.into_iter();
    let numbers: Vec<_> = files
        .filter_map(|file| {
            if let FileName::Segment(number) = file {
                Some(number)
            } else {
                None
            }
        })
        .collect();
    for pair in numbers.windows(2) {
        if pair[0] + 1 != pair[1] {
            return Err(damage(dir, pair[0] + 1, 0, Damage::MissingSegment));
        }
    }
    Ok(numbers)
}

fn raise(id_high_water: &AtomicU64, record: &Record) {
    if let Record::Enqueue { items, .. } = record
        && let Some(highest) = items.iter().map(|item| item.id.0).max()
    {
        id_high_water.fetch_max(highest, Ordering::AcqRel);
    }
}

fn check_node(dir: &Path, header: &SegmentHeader, node: NodeId) -> Result<(), WalOpenError> {
    if header.node == node.number() {
        return Ok(());
    }
    let file = FileName::Segment(header.number).path(dir);
    Err(WalOpenError::WrongNode {
        file,
        found: header.node,
        expected: node.number(),
    })
}

pub(super) fn check_follows(dir: &Path, header: &SegmentHeader, previous: &Read) -> Result<(), WalOpenError> {
    let digest_matches = previous.repaired || header.previous_digest == previous.digest;
    if header.first_lsn.0 == previous.last_lsn.0 + 1 && digest_matches {
        Ok(())
    } else {
        Err(damage(dir, header.number, 0, Damage::SegmentChain))
    }
}

fn damage(dir: &Path, number: u64, offset: u64, reason: Damage) -> WalOpenError {
    corrupt(FileName::Segment(number).path(dir), offset, reason)
}

/// What reading one segment to its end told.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) last_lsn: Lsn,
    pub(super) digest: u32,
    pub(super) repaired: bool,
    pub(super) torn: bool,
    /// Whether the last frame is the one a closed log ends with.
    pub(super) closed: bool,
    pub(super) file_bytes: u64,
}

/// A segment to read, and the header of the one behind it, which says where this one ends.
pub(super) struct Segment<'a> {
    pub(super) disk_file: &'a dyn DiskFile,
    pub(super) dir: &'a Path,
    pub(super) header: &'a SegmentHeader,
    pub(super) next: Option<&'a SegmentHeader>,
}

impl Segment<'_> {
    /// Hands every frame to `visit`, markers included.
    pub(super) fn read(
        &self,
        visit: &mut dyn FnMut(&Frame<'_>) -> Result<(), WalOpenError>,
    ) -> Result<Read, WalOpenError> {
        let file_bytes = self.io("read", self.disk_file.len())?;
        let mut scanner = self.io("read", Scanner::new(self.disk_file, self.header))?;
        let ends_before = self.next.map(|next| next.first_lsn);
        let mut torn = false;
        while ends_before.is_none_or(|end| scanner.expected() < end) {
            match self.io("read", scanner.next())? {
                Found::Frame(frame) => visit(&frame)?,
                // The next segment was begun only after everything here was durable.
                Found::Nothing(reason) if self.next.is_some() => return Err(self.damage(&scanner, reason)),
                Found::Nothing(reason) => {
                    torn = self.end_is_torn(&mut scanner, reason)?;
                    break;
                }
            }
        }
        if self.next.is_none() {
            if file_bytes < self.header.capacity {
                return Err(damage(
                    self.dir,
                    self.header.number,
                    file_bytes,
                    Damage::Truncated,
                ));
            }
            // What a killed process wrote but did not sync is about to be acted upon.
            self.io("sync", self.disk_file.sync())?;
        }
        Ok(Read {
            last_lsn: Lsn(scanner.expected().0 - 1),
            digest: scanner.digest(),
            repaired: self.header.repaired,
            torn,
            closed: scanner.last_kind() == Some(super::FrameKind::Close),
            file_bytes,
        })
    }

    /// Decides what the last segment's end is: nothing more, or a group that was cut (true). Damage when
    /// what is missing had been durable.
    fn end_is_torn(&self, scanner: &mut Scanner<'_>, reason: Damage) -> Result<bool, WalOpenError> {
        let beyond = self.io("read", scanner.beyond())?;
        if beyond.was_durable {
            return Err(self.damage(scanner, reason));
        }
        Ok(beyond.highest_lsn.is_some())
    }

    fn damage(&self, scanner: &Scanner<'_>, reason: Damage) -> WalOpenError {
        damage(self.dir, self.header.number, scanner.offset(), reason)
    }

    fn io<T>(&self, action: &'static str, result: std::io::Result<T>) -> Result<T, WalOpenError> {
        result.map_err(|source| {
            io_error(
                action,
                &FileName::Segment(self.header.number).path(self.dir),
                source,
            )
        })
    }
}
