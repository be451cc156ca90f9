//! Full disks, full logs, failing disks.

use super::*;
use crate::wal::WalHealth;
use crate::wal::disk::Crash;

/// Fills the log with enqueues until it refuses one; returns how many it took.
fn fill(log: &mut Stepped) -> u64 {
    for id in 1..10_000 {
        match log.put(enqueue(id, 500)) {
            Ok(_) => {}
            Err(WalError::Full) => return id - 1,
            Err(error) => panic!("{error}"),
        }
        log.upkeep.tick().unwrap();
    }
    panic!("the log never filled");
}

#[test]
fn a_full_disk_refuses_enqueues_takes_settles_and_recovers() {
    let disk = SimDisk::new(10);
    disk.set_space(6 * options().segment_bytes);
    let options = WalOptions {
        spare_segments: 2,
        disk_free_bytes_min: 8 << 10,
        ..options()
    };
    let mut log = Stepped::open(&disk, options.clone()).unwrap();
    let taken = fill(&mut log);
    assert_eq!(log.wal.status().health, WalHealth::Full);
    for id in 1..=taken {
        log.put(settle(id)).unwrap();
        log.upkeep.tick().unwrap();
    }
    assert_eq!(log.put(enqueue(taken + 1, 10)).unwrap_err(), WalError::Full);

    // Freed segments become the spares that were used up, and growth is taken again, without a restart.
    log.wal.free_up_to(log.wal.applied_lsn());
    log.upkeep.tick().unwrap();
    assert_eq!(log.wal.status().health, WalHealth::Healthy);
    log.put(enqueue(taken + 1, 10)).unwrap();
    disk.crash(Crash::LoseAll);
    let log = Stepped::open(&disk, options).unwrap();
    assert_eq!(log.replayed_ids().last(), Some(&(taken + 1)));
}

#[test]
fn a_disk_without_any_room_refuses_all_and_takes_positions_back() {
    let disk = SimDisk::new(11);
    let options = WalOptions {
        spare_segments: 0,
        ..options()
    };
    let mut log = Stepped::open(&disk, options.clone()).unwrap();
    disk.set_space(disk.used_bytes());
    let mut id = 0;
    let refused = loop {
        id += 1;
        // Two in a group: when it is refused, both are.
        let pair = [enqueue(id, 700), settle(id)].map(|frame| log.wal.append(frame).unwrap());
        log.writer.commit();
        let lsns = pair.each_ref().map(Pending::lsn);
        let outcomes = pair.map(|pending| pending.durable_blocking().map(drop));
        if outcomes[0].is_err() {
            assert_eq!(outcomes, [Err(WalError::Full), Err(WalError::Full)]);
            break lsns[0];
        }
        assert!(outcomes[1].is_ok() || outcomes[1] == Err(WalError::Full));
    };
    assert_eq!(log.wal.append(settle(1)).unwrap_err(), WalError::Full);
    assert_eq!(log.wal.durable_lsn(), Lsn(refused.0 - 1));
    assert_eq!(log.wal.applied_lsn(), Lsn(refused.0 - 1));

    disk.set_space(u64::MAX);
    log.upkeep.tick().unwrap();
    assert_eq!(
        log.put(enqueue(id, 700)).unwrap(),
        refused,
        "the position was given again"
    );
    drop(log);
    let log = Stepped::open(&disk, options).unwrap();
    assert_eq!(log.replayed_ids(), (1..=id).collect::<Vec<_>>());
}

#[test]
fn a_log_of_the_largest_size_refuses_enqueues_and_takes_settles_within_its_reserve() {
    let disk = SimDisk::new(12);
    let options = WalOptions {
        bytes_max: 4 * options().segment_bytes,
        ..options()
    };
    let mut log = Stepped::open(&disk, options).unwrap();
    let taken = fill(&mut log);
    assert_eq!(
        log.wal.status().health,
        WalHealth::Healthy,
        "a smaller one would still fit"
    );
    let mut settled = 0;
    while log.put(settle(settled)).is_ok() {
        settled += 1;
        log.upkeep.tick().unwrap();
    }
    assert!(settled >= taken, "{settled} settles for {taken} items");
    assert_eq!(log.wal.status().health, WalHealth::Full);
    log.wal.free_up_to(log.wal.oldest_segment_end().unwrap());
    log.upkeep.tick().unwrap();
    log.put(settle(1)).unwrap();
}

#[test]
fn a_failed_sync_ends_the_log_and_loses_nothing_that_was_acknowledged() {
    for failing in 1..=20 {
        let disk = SimDisk::new(13);
        let mut log = Stepped::open(&disk, options()).unwrap();
        disk.fail_sync(failing);
        let mut acknowledged = 0;
        let error = loop {
            match log.put(enqueue(acknowledged + 1, 700)) {
                Ok(_) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, WalError::Failed(_)), "{error}");
        assert!(matches!(log.wal.append(settle(1)), Err(WalError::Failed(_))));
        assert!(matches!(log.wal.roll(), Err(WalError::Failed(_))));
        assert!(matches!(log.wal.status().health, WalHealth::Failed(_)));
        log.writer.mark(super::super::FrameKind::Idle);
        assert_eq!(
            log.wal.durable_lsn(),
            Lsn(acknowledged),
            "nothing is written after a failure"
        );
        disk.crash(Crash::LoseAll);
        let log = Stepped::open(&disk, options()).unwrap();
        assert_eq!(
            log.replayed_ids(),
            (1..=acknowledged).collect::<Vec<_>>(),
            "sync {failing}"
        );
    }
}

#[test]
fn a_failed_write_ends_the_log() {
    let disk = SimDisk::new(14);
    let mut log = Stepped::open(&disk, options()).unwrap();
    log.put(enqueue(1, 10)).unwrap();
    disk.fail_write(1);
    let waiting = log.wal.append(enqueue(2, 10)).unwrap();
    log.writer.commit();
    assert!(matches!(waiting.durable_blocking(), Err(WalError::Failed(_))));
    assert!(matches!(log.wal.append(enqueue(3, 10)), Err(WalError::Failed(_))));
}

#[test]
fn a_directory_that_cannot_be_synced_ends_the_log() {
    let disk = SimDisk::new(15);
    let log = Stepped::open(&disk, options()).unwrap();
    // A spare is synced once itself, then its directory is.
    disk.fail_sync(2);
    assert!(log.upkeep.tick().is_err());
}

#[test]
fn what_is_too_large_or_too_much_is_refused() {
    let disk = SimDisk::new(16);
    let log = Stepped::open(&disk, options()).unwrap();
    assert_eq!(
        log.wal.append(enqueue(1, 5_000)).unwrap_err(),
        WalError::FrameTooLarge
    );
    let mut pendings = Vec::new();
    let error = loop {
        match log.wal.append(enqueue(1, 1_000)) {
            Ok(pending) => pendings.push(pending),
            Err(error) => break error,
        }
    };
    assert_eq!((error, pendings.len()), (WalError::Full, 60));
    let odd = WalOptions {
        segment_bytes: 1,
        ..options()
    };
    assert!(matches!(
        Stepped::open(&SimDisk::new(0), odd),
        Err(WalOpenError::Options(_))
    ));
}
