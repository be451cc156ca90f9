//! Damage of every kind, found and called by its name.

use super::*;
use crate::wal::disk::Crash;
use crate::wal::frame::FrameKind;
use crate::wal::inspect::{FrameSummary, SegmentState, inspect, inspect_frames, repair, verify};
use crate::wal::segment::FRAMES_START;
use crate::wal::{Damage, inspect};

const FRAMES: u64 = 100;

/// Segments that hold half of the frames with room to spare.
fn options() -> WalOptions {
    WalOptions {
        segment_bytes: 16 << 10,
        ..super::options()
    }
}

/// A log of [`FRAMES`] frames, a group each, whose process was killed.
fn killed_log() -> SimDisk {
    let disk = SimDisk::new(3);
    let mut log = Stepped::open(&disk, options()).unwrap();
    for id in 1..=FRAMES {
        log.put(enqueue(id, 20)).unwrap();
        if id == FRAMES / 2 {
            log.writer.seal_active();
        }
    }
    disk.crash(Crash::LoseAll);
    disk
}

fn frames(disk: &SimDisk) -> Vec<FrameSummary> {
    let mut frames = Vec::new();
    inspect_frames(disk, DIR.as_ref(), &mut |frame| frames.push(frame)).unwrap();
    frames
}

/// What opening a copy of `disk` says after `change` to segment `number`.
fn opened_after(
    disk: &SimDisk,
    number: u64,
    change: impl FnOnce(&mut Vec<u8>),
) -> Result<Vec<u64>, (u64, Damage)> {
    let copy = disk.fork(0);
    copy.tamper(&segment_path(number), change).unwrap();
    match Stepped::open(&copy, options()) {
        Ok(log) => Ok(log.replayed_ids()),
        Err(WalOpenError::Corrupt { offset, reason, .. }) => Err((offset, reason)),
        Err(WalOpenError::UnsupportedVersion { .. }) => panic!("a flipped bit passed for another version"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn every_flipped_bit_is_found_where_it_is() {
    let disk = killed_log();
    let all: Vec<u64> = (1..=FRAMES).collect();
    let frames = frames(&disk);
    let last = frames.last().unwrap();
    for number in [1, 2] {
        let end = frames
            .iter()
            .filter(|f| f.segment == number)
            .map(|f| f.offset + f.bytes)
            .max()
            .unwrap();
        for bit in (0..64 * 8).chain(FRAMES_START * 8..end * 8) {
            let byte = bit / 8;
            let outcome = opened_after(&disk, number, |bytes| bytes[byte as usize] ^= 1 << (bit % 8));
            let in_last = number == last.segment && byte >= last.offset;
            if in_last {
                // The last group, which nothing marks: damage passes for a torn write, and only here.
                assert_eq!(
                    outcome.as_deref(),
                    Ok(&all[..all.len() - 1]),
                    "segment {number}, bit {bit}"
                );
                continue;
            }
            let (offset, _) = outcome.expect_err("a flipped bit went unnoticed");
            let here = frames
                .iter()
                .find(|f| f.segment == number && (f.offset..f.offset + f.bytes).contains(&byte));
            assert_eq!(
                offset,
                here.map_or(0, |frame| frame.offset),
                "segment {number}, bit {bit}"
            );
        }
    }
}

#[test]
fn a_marker_covers_the_last_group_as_well() {
    for closing in [false, true] {
        let disk = SimDisk::new(4);
        let mut log = Stepped::open(&disk, options()).unwrap();
        for id in 1..=3 {
            log.put(enqueue(id, 20)).unwrap();
        }
        if closing {
            log.close();
        } else {
            log.writer.mark(FrameKind::Idle);
            drop(log);
        }
        let frames = frames(&disk);
        let third = frames[2];
        let outcome = opened_after(&disk, 1, |bytes| bytes[third.offset as usize + 40] ^= 1);
        assert_eq!(outcome, Err((third.offset, Damage::FrameBody)));
        let marker = frames[3];
        assert_ne!(marker.kind, FrameKind::Records);
        let outcome = opened_after(&disk, 1, |bytes| bytes[marker.offset as usize] ^= 1);
        assert_eq!(outcome, Ok(vec![1, 2, 3]), "a damaged marker costs nothing");
    }
}

#[test]
fn every_truncation_is_found() {
    let disk = killed_log();
    let frames = frames(&disk);
    let first_end = frames
        .iter()
        .filter(|f| f.segment == 1)
        .map(|f| f.offset + f.bytes)
        .max()
        .unwrap();
    let capacity = options().segment_bytes;
    for number in [1, 2] {
        for len in 0..capacity {
            let outcome = opened_after(&disk, number, |bytes| bytes.truncate(len as usize));
            if number == 1 && len >= first_end {
                // A sealed segment needs no more than its frames.
                assert!(outcome.is_ok(), "segment 1 cut at {len}");
            } else {
                assert!(outcome.is_err(), "segment {number} cut at {len}");
            }
        }
    }
}

#[test]
fn swapped_doubled_and_foreign_frames_are_found() {
    let disk = killed_log();
    let frames = frames(&disk);
    let same_size: Vec<_> = frames
        .iter()
        .filter(|f| f.segment == 2 && f.bytes == frames[60].bytes)
        .collect();
    let bytes_of = |bytes: &[u8], f: &FrameSummary| bytes[f.offset as usize..][..f.bytes as usize].to_vec();
    let mut tried = 0;
    // Without the last frame, which nothing marks.
    let marked = &same_size[..same_size.len() - 1];
    for (index, one) in marked.iter().enumerate() {
        for other in &marked[index + 1..] {
            let swap = |bytes: &mut Vec<u8>| {
                let (a, b) = (bytes_of(bytes, one), bytes_of(bytes, other));
                bytes[one.offset as usize..][..a.len()].copy_from_slice(&b);
                bytes[other.offset as usize..][..b.len()].copy_from_slice(&a);
            };
            assert_eq!(
                opened_after(&disk, 2, swap),
                Err((one.offset, Damage::FrameHeader))
            );
            let double = |bytes: &mut Vec<u8>| {
                let a = bytes_of(bytes, one);
                bytes[other.offset as usize..][..a.len()].copy_from_slice(&a);
            };
            assert_eq!(
                opened_after(&disk, 2, double),
                Err((other.offset, Damage::FrameHeader))
            );
            tried += 2;
        }
    }
    assert!(tried >= 1_000, "only {tried} tried");
    // The other segment's frames, at the very offsets where frames are expected.
    let other_segment = disk.contents(&segment_path(1)).unwrap();
    let foreign = |bytes: &mut Vec<u8>| {
        let start = FRAMES_START as usize;
        bytes[start..].copy_from_slice(&other_segment[start..]);
    };
    let outcome = opened_after(&disk, 2, foreign);
    assert_eq!(
        outcome,
        Ok((1..=FRAMES / 2).collect()),
        "frames of another segment were read"
    );
    // One segment in the place of the other.
    let outcome = opened_after(&disk, 2, |bytes| bytes.copy_from_slice(&other_segment));
    assert_eq!(outcome, Err((16, Damage::SegmentNumber)));
}

#[test]
fn what_a_recycled_file_held_is_never_read_again() {
    let disk = SimDisk::new(5);
    // More than one block: a write fills the one it ends in.
    let options = || WalOptions {
        segment_bytes: 16 << 10,
        ..options()
    };
    let mut log = Stepped::open(&disk, options()).unwrap();
    for id in 1..=80 {
        log.put(enqueue(id, 20)).unwrap();
    }
    log.writer.seal_active();
    log.wal.free_up_to(Lsn(80));
    log.upkeep.tick().unwrap();
    assert_eq!(log.wal.status().spares, 1, "the freed segment became a spare");
    log.put(enqueue(81, 20)).unwrap();
    log.writer.seal_active();
    log.put(enqueue(82, 20)).unwrap();
    drop(log);
    let recycled = disk.contents(&segment_path(3)).unwrap();
    let stale = item(79, 20).payload;
    assert!(
        recycled.windows(20).any(|bytes| bytes == &*stale),
        "the old frames lie behind the new ones"
    );
    let log = Stepped::open(&disk, options()).unwrap();
    assert_eq!(log.replayed_ids(), [81, 82]);
    assert!(!log.wal.status().torn_at_open);
}

#[test]
fn a_missing_segment_and_another_nodes_log_are_refused() {
    let disk = SimDisk::new(6);
    let mut log = Stepped::open(&disk, options()).unwrap();
    for id in 1..=3 {
        log.put(enqueue(id, 20)).unwrap();
        log.writer.seal_active();
    }
    drop(log);
    let copy = disk.fork(0);
    copy.remove(&segment_path(2)).unwrap();
    let missing = Stepped::open(&copy, options()).err().unwrap();
    assert!(
        matches!(
            missing,
            WalOpenError::Corrupt {
                reason: Damage::MissingSegment,
                ..
            }
        ),
        "{missing}"
    );
    assert!(missing.to_string().contains("`mqueue wal repair`"), "{missing}");

    let foreign = WalOptions {
        node: NodeId::new(8).unwrap(),
        ..options()
    };
    let error = Stepped::open(&disk, foreign).err().unwrap();
    assert!(
        matches!(
            error,
            WalOpenError::WrongNode {
                found: 7,
                expected: 8,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn inspect_tells_what_a_log_holds() {
    let disk = killed_log();
    let log = inspect(&disk, DIR.as_ref()).unwrap();
    assert_eq!(log.problem, None);
    let states: Vec<_> = log.segments.iter().map(|segment| segment.state).collect();
    assert_eq!(states, [SegmentState::Sealed, SegmentState::Open]);
    assert_eq!(log.segments[0].records.items, FRAMES / 2);
    assert_eq!(
        (log.segments[1].first_lsn, log.segments[1].last_lsn),
        (Lsn(51), Lsn(100))
    );
    Stepped::open(&disk, options()).unwrap().close();
    let state = inspect(&disk, DIR.as_ref()).unwrap().segments[2].state;
    assert_eq!(state, SegmentState::Closed);
}

/// Repairs a copy of the killed log after `change` to it, and returns the report and what can be read then.
fn repaired_after(change: impl FnOnce(&SimDisk)) -> (inspect::RepairReport, Vec<u64>) {
    let disk = killed_log();
    change(&disk);
    assert!(
        verify(&disk, DIR.as_ref()).unwrap().is_some(),
        "there is something to repair"
    );
    let report = repair(&disk, DIR.as_ref()).unwrap();
    assert_eq!(report.left, None);
    assert_eq!(verify(&disk, DIR.as_ref()).unwrap(), None);
    let mut log = Stepped::open(&disk, options()).unwrap();
    let ids = log.replayed_ids();
    // Positions that may have been told to a shard are never used again.
    let next = log.put(enqueue(FRAMES + 1, 20)).unwrap();
    assert!(next > Lsn(FRAMES), "{next:?}");
    (report, ids)
}

#[test]
fn repair_drops_what_is_unreadable_and_nothing_else() {
    let frames = frames(&killed_log());
    for lost in [0, 1, 48, 49, 50, 70, 98] {
        let frame = frames[lost];
        for at in [3, 10, 24, 45] {
            let (report, ids) = repaired_after(|disk| {
                let damage = |bytes: &mut Vec<u8>| bytes[frame.offset as usize + at] ^= 0x10;
                disk.tamper(&segment_path(frame.segment), damage).unwrap();
            });
            let id = lost as u64 + 1;
            assert_eq!(ids, (1..=FRAMES).filter(|&other| other != id).collect::<Vec<_>>());
            let loss = report.steps[0].lost.unwrap();
            assert_eq!(
                (loss.first_lsn, loss.last_lsn, loss.exact),
                (Lsn(id), Lsn(id), true)
            );
            assert_eq!(report.steps.len(), 1);
        }
    }
}

#[test]
fn repair_keeps_the_damaged_files_aside() {
    let disk = killed_log();
    disk.tamper(&segment_path(1), |bytes| bytes[FRAMES_START as usize + 50] ^= 1)
        .unwrap();
    let damaged = disk.contents(&segment_path(1)).unwrap();
    let report = repair(&disk, DIR.as_ref()).unwrap();
    let backup = PathBuf::from(DIR)
        .join(report.backup.unwrap())
        .join(segment_path(1).file_name().unwrap());
    assert_eq!(disk.contents(&backup).unwrap(), damaged);
}

#[test]
fn repair_saves_a_segment_whose_header_is_damaged() {
    let (report, ids) = repaired_after(|disk| {
        disk.tamper(&segment_path(2), |bytes| bytes[..512].fill(0xff))
            .unwrap();
    });
    assert_eq!(ids, (1..=FRAMES).collect::<Vec<_>>());
    assert_eq!(report.steps[0].lost, None);
}

#[test]
fn repair_gives_up_only_the_segment_that_is_gone() {
    let half = FRAMES / 2;
    // Both copies of a header, of the last and of the first segment.
    let (_, ids) = repaired_after(|disk| {
        disk.tamper(&segment_path(2), |bytes| bytes[..4_096].fill(0))
            .unwrap();
    });
    assert_eq!(ids, (1..=half).collect::<Vec<_>>());
    let (report, ids) = repaired_after(|disk| {
        disk.tamper(&segment_path(1), |bytes| bytes[..4_096].fill(0))
            .unwrap();
    });
    assert_eq!(ids, (half + 1..=FRAMES).collect::<Vec<_>>());
    assert_eq!(report.steps[0].lost.unwrap().last_lsn, Lsn(half));
}

#[test]
fn repair_saves_what_precedes_a_cut() {
    let frames = frames(&killed_log());
    let cut = frames[79].offset as usize + 5;
    let (report, ids) = repaired_after(|disk| {
        disk.tamper(&segment_path(2), |bytes| bytes.truncate(cut))
            .unwrap();
    });
    assert_eq!(ids, (1..=79).collect::<Vec<_>>());
    let loss = report.steps[0].lost.unwrap();
    assert!(
        !loss.exact && loss.first_lsn == Lsn(80) && loss.last_lsn >= Lsn(FRAMES),
        "{loss:?}"
    );
    let (_, ids) = repaired_after(|disk| {
        disk.tamper(&segment_path(1), |bytes| {
            bytes.truncate(FRAMES_START as usize + 300)
        })
        .unwrap();
    });
    assert_eq!(ids.last(), Some(&FRAMES));
    assert!(ids.len() > FRAMES as usize / 2);
}
