//! Reads a segment's frames in order, in bounded memory, and tells a torn tail from damage.

use std::io;

use super::Lsn;
use super::disk::DiskFile;
use super::error::Damage;
use super::frame::{self, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use super::segment::{FRAMES_START, SegmentHeader};

/// How much is read at once, in bytes.
const WINDOW_BYTES: usize = 1 << 20;

/// One sound frame.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) offset: u64,
    pub(super) header: FrameHeader,
    pub(super) body: &'a [u8],
}

/// What the scanner found at its place.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// The next frame.
    Frame(Frame<'a>),
    /// No sound frame that belongs here, and why not.
    Nothing(Damage),
}

/// What lies behind the first place without a sound frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beyond {
    /// Some frame was written after what is missing here had become durable.
    pub(super) was_durable: bool,
    /// Where the next whole frame begins, and its lsn, which tells how many are missing.
    pub(super) next_frame: Option<(u64, Lsn)>,
    /// The highest lsn of any frame header behind the place.
    pub(super) highest_lsn: Option<Lsn>,
}

/// Reads one segment from its first frame on.
#[derive(Debug)]
pub(super) struct Scanner<'f> {
    file: &'f dyn DiskFile,
    seed: u32,
    /// The end of what may hold frames.
    limit: u64,
    window: Vec<u8>,
    window_at: u64,
    at: u64,
    expected: Lsn,
    digest: u32,
    last_kind: Option<FrameKind>,
}

impl<'f> Scanner<'f> {
    /// A scanner of the segment in `file`, whose header is `header`.
    pub(super) fn new(file: &'f dyn DiskFile, header: &SegmentHeader) -> io::Result<Self> {
        Ok(Self {
            file,
            seed: header.seed(),
            limit: file.len()?.min(header.capacity),
            window: Vec::new(),
            window_at: 0,
            at: FRAMES_START,
            expected: header.first_lsn,
            digest: 0,
            last_kind: None,
        })
    }

    /// Where the next frame would begin.
    pub(super) fn offset(&self) -> u64 {
        self.at
    }

    /// The lsn the next frame must have.
    pub(super) fn expected(&self) -> Lsn {
        self.expected
    }

    /// The digest of the frames read so far.
    pub(super) fn digest(&self) -> u32 {
        self.digest
    }

    /// What the last frame read was.
    pub(super) fn last_kind(&self) -> Option<FrameKind> {
        self.last_kind
    }

    /// Reads the frame at the scanner's place and moves behind it; stays when there is none.
    pub(super) fn next(&mut self) -> io::Result<Found<'_>> {
        let offset = self.at;
        let header = match self.header_at(offset)? {
            Ok(header) => header,
            Err(damage) => return Ok(Found::Nothing(damage)),
        };
        let in_order = match header.kind {
            FrameKind::Lost => header.lsn >= self.expected,
            _ => header.lsn == self.expected,
        };
        if !in_order || u64::from(header.synced_to) > offset {
            return Ok(Found::Nothing(Damage::FrameOrder));
        }
        if !self.body_is_sound(offset, &header)? {
            return Ok(Found::Nothing(Damage::FrameBody));
        }
        self.at = offset + header.frame_bytes();
        self.expected = Lsn(header.lsn.0 + 1);
        self.digest = crc32c::crc32c_append(self.digest, &header.crc.to_le_bytes());
        self.last_kind = Some(header.kind);
        let body = match header.kind {
            FrameKind::Lost => &[],
            _ => self.peek(offset + FRAME_HEADER_BYTES as u64, header.body_bytes as usize)?,
        };
        Ok(Found::Frame(Frame { offset, header, body }))
    }

    /// The length of the body of the frame at the scanner's place, when that frame is sound and in order. The
    /// scanner stays where it is.
    pub(super) fn body_bytes_here(&mut self) -> io::Result<Option<u32>> {
        let offset = self.at;
        let Ok(header) = self.header_at(offset)? else {
            return Ok(None);
        };
        let sound = header.lsn == self.expected && self.body_is_sound(offset, &header)?;
        Ok(sound.then_some(header.body_bytes))
    }

    /// Looks for what was written behind the scanner's place. The scanner stays where it is.
    pub(super) fn beyond(&mut self) -> io::Result<Beyond> {
        let mut beyond = Beyond {
            was_durable: false,
            next_frame: None,
            highest_lsn: None,
        };
        let place = self.at;
        // Every frame takes a header at least, which bounds the lsn that can still follow.
        let lsn_limit = self.expected.0 + self.limit.saturating_sub(place) / FRAME_HEADER_BYTES as u64;
        let mut offset = place;
        while offset + FRAME_HEADER_BYTES as u64 <= self.limit {
            let candidate = self.candidate_from(offset, lsn_limit)?;
            let Some(found) = candidate else { break };
            offset = found + 1;
            let Ok(header) = self.header_at(found)? else {
                continue;
            };
            beyond.was_durable |= u64::from(header.synced_to) > place;
            beyond.highest_lsn = beyond.highest_lsn.max(Some(header.lsn));
            // The frame that is missing took a header's room at least, and an lsn.
            let behind = found >= place + FRAME_HEADER_BYTES as u64 && header.lsn > self.expected;
            if beyond.next_frame.is_none() && behind && self.body_is_sound(found, &header)? {
                beyond.next_frame = Some((found, header.lsn));
            }
        }
        Ok(beyond)
    }

    /// The first offset at or behind `from` where the eight bytes of an lsn say one that could follow.
    fn candidate_from(&mut self, from: u64, lsn_limit: u64) -> io::Result<Option<u64>> {
        let expected = self.expected.0;
        let mut offset = from;
        while offset + FRAME_HEADER_BYTES as u64 <= self.limit {
            let window = self.rest_of_window(offset)?;
            let hit = window.windows(FRAME_HEADER_BYTES).position(|bytes| {
                bytes
                    .first_chunk()
                    .is_some_and(|header| (expected..=lsn_limit).contains(&frame::lsn_at(header).0))
            });
            match hit {
                Some(position) => return Ok(Some(offset + position as u64)),
                None => offset += (window.len() - FRAME_HEADER_BYTES + 1) as u64,
            }
        }
        Ok(None)
    }

    fn header_at(&mut self, offset: u64) -> io::Result<Result<FrameHeader, Damage>> {
        if offset + FRAME_HEADER_BYTES as u64 > self.limit {
            return Ok(Err(Damage::MissingFrames));
        }
        let (seed, limit) = (self.seed, self.limit);
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes.copy_from_slice(self.peek(offset, FRAME_HEADER_BYTES)?);
        if bytes == [0; FRAME_HEADER_BYTES] {
            return Ok(Err(Damage::MissingFrames));
        }
        Ok(match FrameHeader::read(&bytes, offset, seed) {
            Some(header) if offset + header.frame_bytes() <= limit => Ok(header),
            _ => Err(Damage::FrameHeader),
        })
    }

    fn body_is_sound(&mut self, offset: u64, header: &FrameHeader) -> io::Result<bool> {
        if header.kind == FrameKind::Lost {
            return Ok(true);
        }
        if header.frame_bytes() > FRAME_BYTES_MAX as u64 {
            return Ok(false);
        }
        let body = self.peek(offset + FRAME_HEADER_BYTES as u64, header.body_bytes as usize)?;
        Ok(crc32c::crc32c(body) == header.body_crc)
    }

    /// `len` bytes from `offset` on, which the caller has checked against the limit.
    fn peek(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        if !self.window_holds(offset, len) {
            self.fill(offset, len)?;
        }
        let start = (offset - self.window_at) as usize;
        self.window
            .get(start..start + len)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// What is in memory from `offset` on, a frame's header at least.
    fn rest_of_window(&mut self, offset: u64) -> io::Result<&[u8]> {
        if !self.window_holds(offset, FRAME_HEADER_BYTES) {
            self.fill(offset, FRAME_HEADER_BYTES)?;
        }
        Ok(&self.window[(offset - self.window_at) as usize..])
    }

    fn window_holds(&self, offset: u64, len: usize) -> bool {
        offset >= self.window_at && offset + len as u64 <= self.window_at + self.window.len() as u64
    }

    fn fill(&mut self, offset: u64, len: usize) -> io::Result<()> {
        // A frame is read again from its header when its body did not fit: keep the header's bytes too.
        let start = offset.saturating_sub(FRAME_HEADER_BYTES as u64);
        let want = (len + FRAME_HEADER_BYTES)
            .max(WINDOW_BYTES)
            .min((self.limit - start) as usize);
        self.window.resize(want, 0);
        let read = self.file.read_at(&mut self.window, start)?;
        if read < want {
            self.window.clear();
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.window_at = start;
        Ok(())
    }
}
