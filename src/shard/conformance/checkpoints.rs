//! What a checkpoint makes true.

use std::sync::Arc;

use super::fixture::empty;
use super::{Fixture, dead, item, item_due, on_both, topic};
use crate::clock::Timestamp;
use crate::model::{DeadReason, Death, Extra, ItemId, NodeId, PayloadKind, QueuedItem};
use crate::shard::{Checkpoint, DedupRow, PageOf, Purge, Shard, ShardError};
use crate::wal::Lsn;

on_both!(
    every_field_survives,
    a_character_postgres_cannot_store_is_replaced,
    an_item_stored_again_is_overwritten,
    the_last_of_two_upserts_counts,
    an_item_that_is_gone_stays_gone,
    purges_stop_at_their_id,
    a_purge_spares_what_its_checkpoint_stores,
    empty_parts_change_nothing,
    ten_thousand_rows_in_one_checkpoint,
    large_payloads_are_split_over_statements,
    a_failed_checkpoint_leaves_nothing,
    progress_is_per_node,
    the_highest_id_counts_dead_letters,
    readers_see_whole_checkpoints,
);

fn elaborate() -> QueuedItem {
    let mut queued = item_due(i64::MAX as u64, i32::MIN, 0);
    let item = Arc::make_mut(&mut queued.item);
    item.lease_ms = u32::MAX;
    item.max_attempts = u32::MAX;
    item.kind = PayloadKind::Bytes;
    item.enqueued_at = Timestamp::MAX;
    item.expires_at = Some(Timestamp::ZERO);
    item.payload = (0..=255).collect();
    item.extra = Some(Box::new(Extra {
        content_type: Some("".into()),
        headers: vec![
            ("b".into(), "\"quoted\" \\ \0 \n".into()),
            ("a".into(), "ünï 😀".into()),
            ("b".into(), "".into()),
        ],
        idempotency_key: Some("'; DROP TABLE items; --".into()),
        hook_version: Some("=fix@3".into()),
    }));
    queued.standing.generation = u32::MAX;
    queued.standing.attempt = 12;
    queued.standing.last_error = Some("名前 %s $1 ?".into());
    queued.standing.dead = Some(Death {
        reason: DeadReason::Hook,
        at: Timestamp::MAX,
    });
    queued
}

async fn stored(fixture: &Fixture, id: u64) -> QueuedItem {
    let mut found = fixture.shard.fetch(&[ItemId(id)]).await.unwrap();
    assert_eq!(found.len(), 1);
    found.remove(0).1
}

async fn every_field_survives(fixture: &Fixture) {
    let topic = topic("ns", "t");
    let mut blank = item(1, 0);
    Arc::make_mut(&mut blank.item).payload = [].into();
    let mut failed = item(2, 0);
    failed.standing.last_error = Some("".into());
    let mut headed = item(3, 0);
    Arc::make_mut(&mut headed.item).extra = Some(Box::new(Extra {
        headers: vec![("traceparent".into(), "00-1-2-01".into())],
        ..Extra::default()
    }));
    let items = [blank, failed, headed, elaborate()];
    fixture.store(&topic, items.clone()).await;
    for expected in items {
        assert_eq!(stored(fixture, expected.item.id.0).await, expected);
    }
}

async fn a_character_postgres_cannot_store_is_replaced(fixture: &Fixture) {
    let mut queued = item(1, 0);
    queued.standing.last_error = Some("broke\0off".into());
    fixture.store(&topic("ns", "t"), [queued]).await;
    let error = stored(fixture, 1).await.standing.last_error;
    assert_eq!(error.as_deref(), Some("broke\u{fffd}off"));
}

async fn an_item_stored_again_is_overwritten(fixture: &Fixture) {
    let topic = topic("ns", "t");
    let full = elaborate();
    let id = full.item.id.0;
    fixture.store(&topic, [full]).await;
    assert_eq!(fixture.dead(&topic).await, [id]);
    // Back to life, and without any of the rarely filled columns.
    fixture.store(&topic, [item(id, 3)]).await;
    assert_eq!(stored(fixture, id).await, item(id, 3));
    assert_eq!(
        (fixture.dead(&topic).await, fixture.live(&topic).await),
        (vec![], vec![id])
    );
    let counts = fixture.shard.counts(Timestamp::MAX).await.unwrap();
    assert_eq!((counts.len(), counts[0].due, counts[0].dead), (1, 1, 0));
}

async fn the_last_of_two_upserts_counts(fixture: &Fixture) {
    let topic = topic("ns", "t");
    fixture
        .store(&topic, [item(1, 5), item(2, 0), item(1, 6), dead(1, 7, 9)])
        .await;
    assert_eq!(stored(fixture, 1).await, dead(1, 7, 9));
    assert_eq!(fixture.live(&topic).await, [2]);
}

async fn an_item_that_is_gone_stays_gone(fixture: &Fixture) {
    let topic = topic("ns", "t");
    fixture
        .store(&topic, [item(1, 0), item(2, 0), dead(3, 0, 1)])
        .await;
    let checkpoint = Checkpoint {
        upserts: vec![(topic.clone(), item(4, 0)), (topic.clone(), item(5, 0))],
        deletes: [1, 3, 4, 99, 1].map(ItemId).to_vec(),
        ..empty()
    };
    // A crash between the commit and its report repeats the checkpoint.
    for _ in 0..2 {
        fixture.shard.checkpoint(&checkpoint).await.unwrap();
        assert_eq!(
            (fixture.live(&topic).await, fixture.dead(&topic).await),
            (vec![2, 5], vec![])
        );
    }
}

async fn purges_stop_at_their_id(fixture: &Fixture) {
    let (one, two) = (topic("ns", "one"), topic("ns", "two"));
    fixture
        .store(
            &one,
            [item(1, 9), item(2, 0), item(3, 5), dead(4, 0, 1), dead(5, 0, 1)],
        )
        .await;
    fixture.store(&two, [item(6, 0), dead(7, 0, 1)]).await;
    fixture.store(&topic("other", "one"), [item(8, 0)]).await;
    let purge = |dead, up_to| Purge {
        topic: one.clone(),
        dead,
        up_to: ItemId(up_to),
    };
    let checkpoint = Checkpoint {
        purges: vec![purge(false, 2), purge(true, 4)],
        ..empty()
    };
    fixture.shard.checkpoint(&checkpoint).await.unwrap();
    assert_eq!(
        (fixture.live(&one).await, fixture.dead(&one).await),
        (vec![3], vec![5])
    );
    assert_eq!(
        (fixture.live(&two).await, fixture.dead(&two).await),
        (vec![6], vec![7])
    );
    assert_eq!(fixture.live(&topic("other", "one")).await, [8]);
}

async fn a_purge_spares_what_its_checkpoint_stores(fixture: &Fixture) {
    // Dead letters up to 9 were purged, then item 1 died: it is a dead letter now.
    let topic = topic("ns", "t");
    fixture.store(&topic, [item(1, 0), dead(2, 0, 1)]).await;
    let checkpoint = Checkpoint {
        upserts: vec![(topic.clone(), dead(1, 0, 5))],
        purges: vec![Purge {
            topic: topic.clone(),
            dead: true,
            up_to: ItemId(9),
        }],
        ..empty()
    };
    fixture.shard.checkpoint(&checkpoint).await.unwrap();
    assert_eq!(
        (fixture.live(&topic).await, fixture.dead(&topic).await),
        (vec![], vec![1])
    );
}

async fn empty_parts_change_nothing(fixture: &Fixture) {
    let node = NodeId::new(9).unwrap();
    fixture
        .shard
        .checkpoint(&Checkpoint::at(node, Lsn(5)))
        .await
        .unwrap();
    assert_eq!(fixture.shard.progress(node).await.unwrap(), Lsn(5));
    assert_eq!(fixture.shard.fetch(&[]).await.unwrap(), []);
    let keys = fixture
        .shard
        .find_keys(&topic("ns", "t"), &[], Timestamp::ZERO)
        .await;
    assert_eq!(keys.unwrap(), []);
    assert_eq!(fixture.shard.counts(Timestamp::MAX).await.unwrap(), []);
    assert_eq!(fixture.shard.highest_id().await.unwrap(), ItemId(0));
}

async fn ten_thousand_rows_in_one_checkpoint(fixture: &Fixture) {
    let topic = topic("ns", "t");
    let ids = 1..=10_007u64;
    let items = ids.clone().map(|id| match id % 3 {
        0 => dead(id, 0, id as i64),
        _ => item(id, (id % 7) as i32),
    });
    fixture.store(&topic, items).await;
    let all: Vec<_> = ids.map(ItemId).collect();
    assert_eq!(fixture.shard.fetch(&all).await.unwrap().len(), 10_007);
    assert_eq!(fixture.dead(&topic).await.len(), 10_007 / 3);
    let checkpoint = Checkpoint {
        deletes: all[1..].to_vec(),
        ..empty()
    };
    fixture.shard.checkpoint(&checkpoint).await.unwrap();
    assert_eq!(
        (fixture.live(&topic).await, fixture.dead(&topic).await),
        (vec![1], vec![])
    );
}

async fn large_payloads_are_split_over_statements(fixture: &Fixture) {
    let topic = topic("ns", "t");
    let large = |id: u64| {
        let mut queued = if id.is_multiple_of(2) {
            item(id, 0)
        } else {
            dead(id, 0, 1)
        };
        Arc::make_mut(&mut queued.item).payload = vec![id as u8; 1 << 20].into();
        queued
    };
    fixture.store(&topic, (1..=40).map(large)).await;
    for id in [1, 20, 33, 40] {
        assert_eq!(stored(fixture, id).await, large(id));
    }
    assert_eq!(
        (fixture.live(&topic).await.len(), fixture.dead(&topic).await.len()),
        (20, 20)
    );
}

async fn a_failed_checkpoint_leaves_nothing(fixture: &Fixture) {
    let topic = topic("ns", "t");
    fixture.store(&topic, [item(1, 0), item(2, 0)]).await;
    // The last part of a checkpoint is the one that fails.
    fixture.execute("ALTER TABLE progress RENAME TO hidden").await;
    let checkpoint = Checkpoint {
        upserts: vec![(topic.clone(), item(3, 0))],
        deletes: vec![ItemId(1)],
        purges: vec![Purge {
            topic: topic.clone(),
            dead: false,
            up_to: ItemId(2),
        }],
        dedup: vec![DedupRow {
            topic: topic.clone(),
            key_hash: 1,
            body_hash: 2,
            id: ItemId(3),
            expires_at: Timestamp::MAX,
        }],
        progress: (NodeId::new(1).unwrap(), Lsn(77)),
    };
    let error = fixture.shard.checkpoint(&checkpoint).await.unwrap_err();
    assert!(!error.to_string().contains("INSERT"), "{error}");
    fixture.execute("ALTER TABLE hidden RENAME TO progress").await;
    assert_eq!(fixture.live(&topic).await, [1, 2]);
    let keys = fixture.shard.find_keys(&topic, &[1], Timestamp::ZERO).await;
    assert_eq!(keys.unwrap(), []);
    assert_eq!(
        fixture.shard.progress(checkpoint.progress.0).await.unwrap(),
        Lsn(1)
    );
    // The connection that failed works on.
    fixture.shard.checkpoint(&checkpoint).await.unwrap();
    assert_eq!(fixture.live(&topic).await, [3]);
    // Closed connections are an error, not a wait.
    fixture.shard.close().await.unwrap();
    let closed = fixture.shard.checkpoint(&checkpoint).await.unwrap_err();
    assert!(matches!(closed, ShardError::Unavailable(_)), "{closed}");
}

async fn progress_is_per_node(fixture: &Fixture) {
    let node = |number| NodeId::new(number).unwrap();
    let shard = &fixture.shard;
    shard.checkpoint(&Checkpoint::at(node(0), Lsn(10))).await.unwrap();
    shard
        .checkpoint(&Checkpoint::at(node(NodeId::MAX), Lsn(i64::MAX as u64)))
        .await
        .unwrap();
    shard.checkpoint(&Checkpoint::at(node(0), Lsn(20))).await.unwrap();
    assert_eq!(shard.progress(node(0)).await.unwrap(), Lsn(20));
    assert_eq!(
        shard.progress(node(NodeId::MAX)).await.unwrap(),
        Lsn(i64::MAX as u64)
    );
    assert_eq!(shard.progress(node(5)).await.unwrap(), Lsn(0));
}

async fn the_highest_id_counts_dead_letters(fixture: &Fixture) {
    fixture.store(&topic("ns", "one"), [item(5, 0)]).await;
    fixture
        .store(&topic("ns", "two"), [dead(7, 0, 1), item(6, 0)])
        .await;
    assert_eq!(fixture.shard.highest_id().await.unwrap(), ItemId(7));
}

async fn readers_see_whole_checkpoints(fixture: &Fixture) {
    const BATCH: u64 = 500;
    let topic = topic("ns", "t");
    let writing = async {
        for batch in 0..10 {
            let items = (0..BATCH).map(|n| item(batch * BATCH + n + 1, n as i32 % 5));
            fixture.store(&topic, items).await;
        }
    };
    let reading = async {
        loop {
            let page = fixture
                .ids(&topic, PageOf::Due(Timestamp::MAX), 100_000)
                .await
                .len() as u64;
            assert_eq!(page % BATCH, 0);
            let counts = fixture.shard.counts(Timestamp::MAX).await.unwrap();
            let due = counts.first().map_or(0, |counts| counts.due);
            assert_eq!(due % BATCH, 0);
            if page == 10 * BATCH {
                break;
            }
        }
    };
    tokio::join!(writing, reading);
}
