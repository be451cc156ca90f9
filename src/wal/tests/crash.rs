//! Power cuts at every step of a long script, and what must hold afterwards.

use super::*;
use crate::wal::disk::Crash;
use crate::wal::frame::FrameKind;

/// Frames the script appends.
const FRAMES: u64 = 200;
/// Random survivors tried at every step, beside the certain ones.
const RANDOM_ROUNDS: u64 = 34;

/// What the script had done when a snapshot was taken.
#[derive(Debug, Clone, Copy)]
struct Progress {
    snapshots: usize,
    /// Frames appended; ids count from 1.
    appended: u64,
    /// Frames whose callers were told that they are durable.
    acknowledged: u64,
    /// Frames in segments that were let go.
    freed: u64,
}

/// Appends, groups, frees, rolls, idles, is killed and restarted, and notes how far it is after each act.
fn run_script(disk: &SimDisk) -> Vec<Progress> {
    let mut log = Stepped::open(disk, options()).unwrap();
    let mut done = Progress {
        snapshots: 0,
        appended: 0,
        acknowledged: 0,
        freed: 0,
    };
    let mut notes = vec![done];
    // The highest id at or below a position, so that freeing can be told in ids.
    let mut id_at: Vec<(Lsn, u64)> = Vec::new();
    while done.appended < FRAMES {
        let group = done.appended % 4 + 1;
        let mut pendings: Vec<Pending> = Vec::new();
        for _ in 0..group {
            done.appended += 1;
            let bytes = (done.appended * 131 % 900) as usize;
            let pending = log.wal.append(enqueue(done.appended, bytes)).unwrap();
            id_at.push((pending.lsn(), done.appended));
            pendings.push(pending);
        }
        notes.push(Progress {
            snapshots: disk.snapshot_count(),
            ..done
        });
        log.writer.commit();
        for pending in pendings {
            drop(pending.durable_blocking().unwrap());
        }
        done.acknowledged = done.appended;
        notes.push(Progress {
            snapshots: disk.snapshot_count(),
            ..done
        });
        match done.appended % 7 {
            0 => log.writer.mark(FrameKind::Idle),
            1 => log.writer.seal_active(),
            2 => {
                let free_to = Lsn(log.wal.applied_lsn().0.saturating_sub(20));
                done.freed = id_at
                    .iter()
                    .filter(|(lsn, _)| *lsn <= free_to)
                    .map(|(_, id)| *id)
                    .max()
                    .unwrap_or(0);
                notes.push(Progress {
                    snapshots: disk.snapshot_count(),
                    ..done
                });
                log.wal.free_up_to(free_to);
                log.upkeep.tick().unwrap();
            }
            3 => log.upkeep.tick().unwrap(),
            4 if done.appended.is_multiple_of(3) => {
                disk.kill();
                log = Stepped::open(disk, options()).unwrap();
            }
            _ => {}
        }
    }
    log.close();
    notes
}

/// What may be replayed: acknowledged frames that were not let go, perhaps some of those that were or that
/// were still on their way, in order and without a gap.
fn check(ids: &[u64], at_most: Progress, at_least: Progress, context: &str) {
    let first = ids.first().copied().unwrap_or(at_least.acknowledged + 1);
    let last = ids.last().copied().unwrap_or(at_least.acknowledged);
    assert!(
        ids.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "{context}: a gap in {ids:?}"
    );
    assert!(
        first <= at_most.freed + 1,
        "{context}: {first} is the first, freed to {}",
        at_most.freed
    );
    assert!(
        last >= at_least.acknowledged,
        "{context}: {last} is the last of {at_least:?}"
    );
    assert!(last <= at_most.appended, "{context}: {last} was never appended");
}

#[test]
fn no_cut_of_power_loses_what_was_acknowledged_or_looks_like_damage() {
    let disk = SimDisk::new(1);
    disk.record_snapshots();
    let notes = run_script(&disk);
    let snapshots = disk.take_snapshots();
    let mut explored = 0_u64;
    for (step, snapshot) in snapshots.iter().enumerate() {
        // A snapshot is the disk after a step: what was noted before it holds, what is noted next may.
        let next = notes.partition_point(|note| note.snapshots <= step);
        let at_least = notes[next.saturating_sub(1)];
        let at_most = *notes.get(next).unwrap_or(&notes[notes.len() - 1]);
        let certain = [
            Crash::LoseAll,
            Crash::KeepAll,
            Crash::TornLastWrite,
            Crash::TornLastWrite,
        ];
        let random = std::iter::repeat_n(Crash::Random, RANDOM_ROUNDS as usize);
        for (round, crash) in certain.into_iter().chain(random).enumerate() {
            let context = format!("step {step}, round {round}, {crash:?}");
            let machine = snapshot.fork(round as u64);
            machine.crash(crash);
            let mut log = Stepped::open(&machine, options()).unwrap_or_else(|e| panic!("{context}: {e}"));
            let first = log.replayed_ids();
            check(&first, at_most, at_least, &context);
            explored += 1;
            if round % 4 != 0 {
                continue;
            }
            // Recovery itself may be cut off, and what it showed must stay.
            let next_id = first.last().copied().unwrap_or(at_least.acknowledged) + 1;
            log.put(enqueue(next_id, 100)).unwrap();
            drop(log);
            machine.crash(Crash::LoseAll);
            let again =
                Stepped::open(&machine, options()).unwrap_or_else(|e| panic!("{context}, again: {e}"));
            let expected: Vec<u64> = first.iter().copied().chain([next_id]).collect();
            assert_eq!(again.replayed_ids(), expected, "{context}, again");
            explored += 1;
        }
    }
    assert!(explored >= 20_000, "only {explored} power cuts explored");
}

#[test]
fn a_power_cut_while_opening_loses_nothing_the_opening_showed() {
    // A killed process leaves frames in the page cache that are not on the disk. Opening replays them, so
    // it must make them durable before anything is built on them.
    let disk = SimDisk::new(2);
    let mut log = Stepped::open(&disk, options()).unwrap();
    log.put(enqueue(1, 10)).unwrap();
    // The sync that would have made the second frame durable never happens.
    let pending = log.wal.append(enqueue(2, 10)).unwrap();
    disk.fail_sync(1);
    disk.record_snapshots();
    log.writer.commit();
    assert!(pending.durable_blocking().is_err());
    let written = disk.take_snapshots().swap_remove(0);

    written.kill();
    let shown = Stepped::open(&written, options()).unwrap().replayed_ids();
    assert_eq!(shown, [1, 2]);
    written.crash(Crash::LoseAll);
    assert_eq!(Stepped::open(&written, options()).unwrap().replayed_ids(), shown);
}
