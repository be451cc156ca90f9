//! The log with its threads, on the machine's disk.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::*;
use crate::wal::WalHealth;
use crate::wal::disk::RealDisk;

fn real_options(dir: &Path) -> WalOptions {
    WalOptions {
        dir: dir.join("wal"),
        segment_bytes: 64 << 10,
        ..options()
    }
}

fn open(options: WalOptions) -> Result<(Wal, Vec<(Lsn, Record)>), WalOpenError> {
    let mut replayed = Vec::new();
    let high_water = Arc::new(AtomicU64::new(0));
    let wal = Wal::open(
        options,
        Arc::new(RealDisk::new()),
        high_water,
        &mut |lsn, record| {
            replayed.push((lsn, record));
        },
    )?;
    Ok((wal, replayed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_frames_become_durable_in_the_order_of_their_positions() {
    const TASKS: u64 = 16;
    const EACH: u64 = 100;
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(real_options(dir.path())).unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let wal = wal.clone();
            tokio::spawn(async move {
                let mut positions = Vec::new();
                for n in 0..EACH {
                    let id = task * EACH + n + 1;
                    let pending = wal.append(enqueue(id, 200)).unwrap();
                    let applying = pending.durable().await.unwrap();
                    assert!(wal.durable_lsn() >= applying.lsn());
                    assert!(wal.applied_lsn() < applying.lsn(), "nobody applied it yet");
                    positions.push((applying.lsn(), id));
                }
                positions
            })
        })
        .collect();
    let mut written = Vec::new();
    for task in tasks {
        written.extend(task.await.unwrap());
    }
    written.sort_unstable();
    let status = wal.status();
    assert_eq!(wal.applied_lsn(), wal.durable_lsn());
    assert_eq!(status.sync_buckets.iter().sum::<u64>(), status.syncs);
    assert!(
        status.segments > 1 && status.health == WalHealth::Healthy,
        "{status:?}"
    );
    wal.close();
    assert!(matches!(wal.append(settle(1)), Err(WalError::Closed)));
    wal.close();

    let (wal, replayed) = open(real_options(dir.path())).unwrap();
    let read: Vec<_> = replayed.iter().map(|(lsn, _)| *lsn).zip(ids(&replayed)).collect();
    assert_eq!(read, written);
    assert!(
        wal.durable_lsn() > written.last().unwrap().0,
        "the close marker has a position too"
    );
}

#[test]
fn a_second_process_is_refused_until_the_first_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(real_options(dir.path())).unwrap();
    let error = open(real_options(dir.path())).unwrap_err();
    assert!(matches!(error, WalOpenError::InUse { .. }), "{error}");
    wal.close();
    open(real_options(dir.path())).unwrap();
}

#[test]
fn the_highest_id_is_known_when_every_item_is_gone() {
    let disk = SimDisk::new(20);
    let high_water = Arc::new(AtomicU64::new(0));
    let open = |high_water: &Arc<AtomicU64>| {
        Wal::open_stopped(
            options(),
            Arc::new(disk.clone()),
            high_water.clone(),
            &mut |_, _| {},
        )
        .unwrap()
    };
    let (wal, mut writer, upkeep) = open(&high_water);
    let pending = wal.append(enqueue(77, 10)).unwrap();
    high_water.store(99, Ordering::Release);
    writer.commit();
    drop(pending.durable_blocking().unwrap());
    writer.seal_active();
    wal.free_up_to(Lsn(1));
    upkeep.tick().unwrap();
    assert_eq!(wal.oldest_segment_end(), None);
    drop((wal, writer, upkeep));
    let after = Arc::new(AtomicU64::new(0));
    drop(open(&after));
    assert_eq!(after.load(Ordering::Acquire), 99);
}

#[test]
fn a_frame_is_applied_when_its_token_and_all_before_it_are_dropped() {
    let disk = SimDisk::new(21);
    let mut log = Stepped::open(&disk, options()).unwrap();
    let first = log.hold(enqueue(1, 10)).unwrap();
    let second = log.wal.append(enqueue(2, 10)).unwrap();
    let third = log.wal.append(enqueue(3, 10)).unwrap();
    assert_eq!(log.wal.durable_lsn(), Lsn(1));
    drop(third);
    log.writer.commit();
    assert_eq!(
        log.wal.durable_lsn(),
        Lsn(3),
        "giving up waiting does not take the frame back"
    );
    let second = second.durable_blocking().unwrap();
    assert_eq!(log.wal.applied_lsn(), Lsn(0));
    drop(first);
    assert_eq!(
        log.wal.applied_lsn(),
        Lsn(1),
        "a token of the second group is held"
    );
    drop(second);
    assert_eq!(log.wal.applied_lsn(), Lsn(3));
}

#[test]
fn segments_go_whole_and_oldest_first() {
    let disk = SimDisk::new(22);
    let mut log = Stepped::open(
        &disk,
        WalOptions {
            spare_segments: 0,
            ..options()
        },
    )
    .unwrap();
    for id in 1..=3 {
        log.put(enqueue(2 * id - 1, 10)).unwrap();
        log.put(enqueue(2 * id, 10)).unwrap();
        log.writer.seal_active();
    }
    assert_eq!(log.wal.oldest_segment_end(), Some(Lsn(2)));
    log.wal.free_up_to(Lsn(1));
    log.upkeep.tick().unwrap();
    assert_eq!(
        log.wal.oldest_segment_end(),
        Some(Lsn(2)),
        "its last frame is still needed"
    );
    log.wal.free_up_to(Lsn(5));
    log.upkeep.tick().unwrap();
    assert_eq!(log.wal.oldest_segment_end(), Some(Lsn(6)));
    log.wal.free_up_to(Lsn(6));
    log.upkeep.tick().unwrap();
    drop(log);
    let log = Stepped::open(&disk, options()).unwrap();
    assert!(log.replayed.is_empty());
    assert_eq!(
        log.wal.durable_lsn(),
        Lsn(6),
        "positions go on though no frame is left"
    );
    assert_eq!(log.wal.status().first_lsn, Lsn(7));
}

#[test]
fn an_idle_log_marks_itself_once() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(real_options(dir.path())).unwrap();
    let applying = wal.append(enqueue(1, 10)).unwrap().durable_blocking().unwrap();
    // The marker is the next frame; a frame of ours behind it shows that it was written.
    let marked = std::iter::repeat_with(|| {
        std::thread::yield_now();
        wal.durable_lsn()
    })
    .find(|lsn| *lsn > applying.lsn())
    .unwrap();
    assert_eq!(marked, Lsn(2));
    let next = wal.append(enqueue(2, 10)).unwrap().durable_blocking().unwrap();
    assert_eq!(next.lsn(), Lsn(3), "no second marker before it");
}
