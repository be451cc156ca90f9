//! Logs of released formats stay readable: `tests/fixtures/wal-v1` was written by the first one.
//!
//! A change of format gets a new fixture and keeps this one. `MQUEUE_WRITE_FIXTURE=1` writes the fixture of
//! the current format anew, which is right only before it is released.

use std::path::Path;

use super::records::encode;
use super::*;
use crate::model::{DeadReason, Death, Extra, Standing};
use crate::wal::disk::RealDisk;
use crate::wal::{DeliverEntry, PatchEntry};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wal-v1")
}

/// One record of every kind, with everything that is optional once present and once not.
fn records() -> Vec<Record> {
    let full = Item {
        priority: -5,
        kind: PayloadKind::Json,
        expires_at: Some(Timestamp::from_ms(9_000)),
        payload: (*b"{\"a\":1}").into(),
        extra: Some(Box::new(Extra {
            content_type: Some("application/json".into()),
            headers: vec![("traceparent".into(), "00-1-2-01".into())],
            idempotency_key: Some("key".into()),
            hook_version: Some("redact@3".into()),
        })),
        ..item(2, 0)
    };
    let at = Timestamp::from_ms(5_000);
    let standing = Standing {
        attempt: 1,
        generation: 2,
        ..Standing::new(at)
    };
    let dead = Standing {
        last_error: Some("no such customer".into()),
        dead: Some(Death {
            reason: DeadReason::Rejected,
            at,
        }),
        ..standing.clone()
    };
    let patch = |id, standing, lease_expires_at| PatchEntry {
        id: ItemId(id),
        standing: Standing {
            lease_expires_at,
            ..standing
        },
    };
    vec![
        Record::Enqueue {
            topic: topic(),
            items: vec![item(1, 40), full],
        },
        Record::Deliver {
            topic: topic(),
            deliveries: vec![DeliverEntry {
                id: ItemId(1),
                generation: 1,
                attempt: 1,
                lease_expires_at: at,
            }],
        },
        Record::Patch {
            topic: topic(),
            patches: vec![patch(1, standing, Some(at)), patch(2, dead, None)],
        },
        Record::Settle {
            topic: topic(),
            cause: SettleCause::Discarded,
            ids: vec![ItemId(2)],
        },
        Record::Purge {
            topic: topic(),
            dead: true,
            up_to: ItemId(2),
        },
    ]
}

fn fixture_options(dir: &Path) -> WalOptions {
    WalOptions {
        spare_segments: 0,
        ..WalOptions {
            dir: dir.to_owned(),
            ..options()
        }
    }
}

fn write_fixture(dir: &Path) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
    let (wal, mut writer, _upkeep) = Wal::open_stopped(
        fixture_options(dir),
        disk,
        Arc::new(AtomicU64::new(2)),
        &mut |_, _| {},
    )
    .unwrap();
    for record in records() {
        let pending = wal.append(encode(&[record])).unwrap();
        writer.commit();
        let lsn = pending.durable_blocking().unwrap().lsn();
        if lsn == Lsn(3) {
            writer.seal_active();
        }
    }
    writer.finish();
    wal.close();
    std::fs::remove_file(dir.join("lock")).unwrap();
}

#[test]
fn a_log_of_format_1_is_read() {
    if std::env::var_os("MQUEUE_WRITE_FIXTURE").is_some() {
        write_fixture(&fixture());
    }
    // Opening a log begins a segment: the fixture itself must stay as it is.
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(fixture()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let mut replayed = Vec::new();
    let high_water = Arc::new(AtomicU64::new(0));
    let wal = Wal::open(
        fixture_options(copy.path()),
        Arc::new(RealDisk::new()),
        high_water,
        &mut |lsn, record| replayed.push((lsn, record)),
    )
    .unwrap();
    let expected: Vec<_> = (1..).map(Lsn).zip(records()).collect();
    assert_eq!(replayed, expected);
    assert_eq!(wal.durable_lsn(), Lsn(6), "five frames and the close marker");
}
