//! Segments: the files a log is made of, their headers and their names.
//!
//! The first 4,096 bytes of a file hold its header twice, at 0 and at 2,048, each in a disk sector of its
//! own; frames follow. The second copy is for repair only: a log whose first copy is damaged is damaged.
//!
//! ```text
//!  0  magic "MQUEUWAL"
//!  8  format version     u32
//! 12  node               u16
//! 14  flags              u16   1 repaired: the digest in the next header does not speak of this segment
//! 16  segment number     u64   one more than the segment before it
//! 24  first lsn          u64   of its frames; the last of the segment before it is one less
//! 32  salt               u64   random
//! 40  highest item id    u64   used when the header was written
//! 48  capacity           u64   bytes of the file
//! 56  previous digest    u32   CRC32C of all frame header checksums of the segment before it
//! 60  CRC32C of the 60 bytes above
//! ```

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskFile};
use super::error::Damage;
use super::{Lsn, WalOpenError};

/// The format this version writes, and the newest it reads.
pub(super) const FORMAT_VERSION: u32 = 1;
/// Where frames begin.
pub(super) const FRAMES_START: u64 = 4_096;
/// Where the header's second copy begins.
const SECOND_COPY_AT: u64 = 2_048;
const HEADER_BYTES: usize = 64;
const MAGIC: [u8; 8] = *b"MQUEUWAL";
const REPAIRED: u16 = 1;

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) version: u32,
    pub(super) node: u16,
    pub(super) repaired: bool,
    pub(super) number: u64,
    pub(super) first_lsn: Lsn,
    pub(super) salt: u64,
    pub(super) id_high_water: u64,
    pub(super) capacity: u64,
    pub(super) previous_digest: u32,
}

impl SegmentHeader {
    /// What seeds the checksums of the segment's frame headers.
    pub(super) fn seed(&self) -> u32 {
        crc32c::crc32c_append(
            crc32c::crc32c(&self.salt.to_le_bytes()),
            &self.number.to_le_bytes(),
        )
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let flags = if self.repaired { REPAIRED } else { 0 };
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.node.to_le_bytes());
        bytes[14..16].copy_from_slice(&flags.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_lsn.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.salt.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.id_high_water.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.capacity.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.previous_digest.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        if bytes[..8] != MAGIC || u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return None;
        }
        let flags = u16_at(bytes, 14);
        Some(Self {
            version: u32_at(bytes, 8),
            node: u16_at(bytes, 12),
            repaired: flags & REPAIRED != 0,
            number: u64_at(bytes, 16),
            first_lsn: Lsn(u64_at(bytes, 24)),
            salt: u64_at(bytes, 32),
            id_high_water: u64_at(bytes, 40),
            capacity: u64_at(bytes, 48),
            previous_digest: u32_at(bytes, 56),
        })
    }

    /// Writes both copies; they are durable after the next sync of the file.
    pub(super) fn write(&self, file: &dyn DiskFile) -> io::Result<()> {
        let encoded = self.encode();
        let mut block = vec![0; FRAMES_START as usize];
        block[..HEADER_BYTES].copy_from_slice(&encoded);
        let second = SECOND_COPY_AT as usize;
        block[second..second + HEADER_BYTES].copy_from_slice(&encoded);
        file.write_all_at(&block, 0)
    }

    /// Reads the header a log is opened by; nothing when it is damaged.
    pub(super) fn read(file: &dyn DiskFile) -> io::Result<Option<Self>> {
        read_copy(file, 0)
    }

    /// Reads whichever copy is sound.
    pub(super) fn read_either(file: &dyn DiskFile) -> io::Result<Option<Self>> {
        match read_copy(file, 0)? {
            Some(header) => Ok(Some(header)),
            None => read_copy(file, SECOND_COPY_AT),
        }
    }
}

fn read_copy(file: &dyn DiskFile, at: u64) -> io::Result<Option<SegmentHeader>> {
    let mut bytes = [0; HEADER_BYTES];
    let read = file.read_at(&mut bytes, at)?;
    Ok(if read == HEADER_BYTES {
        SegmentHeader::decode(&bytes)
    } else {
        None
    })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// What a file in the log's directory is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FileName {
    /// Part of the log.
    Segment(u64),
    /// Allocated and written, waiting to become a segment.
    Spare(u64),
    /// Being made when the process ended: of no use.
    Unfinished(u64),
}

impl FileName {
    /// Reads a file name; nothing when the file is not the log's.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (stem, extension) = name.split_once('.')?;
        let number = |prefix: &str| {
            let digits = stem.strip_prefix(prefix)?;
            let sound = digits.len() == 16
                && digits
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            u64::from_str_radix(digits, 16).ok().filter(|_| sound)
        };
        match extension {
            "seg" => number("wal-")
                .map(Self::Segment)
                .or_else(|| number("spare-").map(Self::Spare)),
            "tmp" => number("spare-").map(Self::Unfinished),
            _ => None,
        }
    }

    /// The path of the file in the log's directory `dir`.
    pub(super) fn path(self, dir: &Path) -> PathBuf {
        dir.join(match self {
            Self::Segment(number) => format!("wal-{number:016x}.seg"),
            Self::Spare(number) => format!("spare-{number:016x}.seg"),
            Self::Unfinished(number) => format!("spare-{number:016x}.tmp"),
        })
    }
}

/// The log's files in `dir`, ascending within each kind.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<FileName>, WalOpenError> {
    let names = disk.list(dir).map_err(|source| io_error("list", dir, source))?;
    let mut files: Vec<_> = names.iter().filter_map(|name| FileName::parse(name)).collect();
    files.sort_unstable();
    Ok(files)
}

/// Opens segment `number` and checks that its header is whole and its own.
pub(super) fn open(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
) -> Result<(Box<dyn DiskFile>, SegmentHeader), WalOpenError> {
    let path = FileName::Segment(number).path(dir);
    let file = disk
        .open(&path)
        .map_err(|source| io_error("open", &path, source))?;
    let header = SegmentHeader::read(&*file).map_err(|source| io_error("read", &path, source))?;
    let Some(header) = header else {
        return Err(corrupt(path, 0, Damage::SegmentHeader));
    };
    if header.version != FORMAT_VERSION {
        let (found, supported) = (header.version, FORMAT_VERSION);
        return Err(WalOpenError::UnsupportedVersion {
            file: path,
            found,
            supported,
        });
    }
    if header.number != number {
        return Err(corrupt(path, 16, Damage::SegmentNumber));
    }
    Ok((file, header))
}

pub(super) fn corrupt(file: PathBuf, offset: u64, reason: Damage) -> WalOpenError {
    WalOpenError::Corrupt { file, offset, reason }
}

pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> WalOpenError {
    WalOpenError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
