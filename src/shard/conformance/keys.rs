//! Idempotency keys.

use super::fixture::empty;
use super::{Fixture, on_both, topic};
use crate::clock::Timestamp;
use crate::model::{ItemId, TopicKey};
use crate::shard::{Checkpoint, DedupRow, Shard};

on_both!(
    keys_are_found_until_they_expire,
    one_key_in_two_topics_is_two_keys,
    a_key_remembered_again_is_overwritten,
    expired_keys_are_forgotten,
    many_keys_at_once,
);

fn key(topic: &TopicKey, key_hash: u128, id: u64, expires_ms: i64) -> DedupRow {
    DedupRow {
        topic: topic.clone(),
        key_hash,
        body_hash: u64::MAX - id,
        id: ItemId(id),
        expires_at: Timestamp::from_ms(expires_ms),
    }
}

async fn remember(fixture: &Fixture, dedup: Vec<DedupRow>) {
    let checkpoint = Checkpoint { dedup, ..empty() };
    fixture.shard.checkpoint(&checkpoint).await.unwrap();
}

async fn find(fixture: &Fixture, topic: &TopicKey, hashes: &[u128], now_ms: i64) -> Vec<DedupRow> {
    let now = Timestamp::from_ms(now_ms);
    let mut found = fixture.shard.find_keys(topic, hashes, now).await.unwrap();
    found.sort_by_key(|row| row.key_hash);
    found
}

async fn keys_are_found_until_they_expire(fixture: &Fixture) {
    let topic = topic("ns", "t");
    let rows = vec![
        key(&topic, 0, 1, 1_000),
        key(&topic, 1, 2, 2_000),
        key(&topic, u128::MAX, 3, 3_000),
    ];
    remember(fixture, rows.clone()).await;
    let all = [u128::MAX, 0, 1, 7];
    assert_eq!(find(fixture, &topic, &all, 999).await, rows);
    assert_eq!(find(fixture, &topic, &all, 1_000).await, rows[1..]);
    assert_eq!(find(fixture, &topic, &[0, 1], 0).await, rows[..2]);
    assert_eq!(find(fixture, &topic, &all, 3_000).await, []);
}

async fn one_key_in_two_topics_is_two_keys(fixture: &Fixture) {
    let (one, two) = (topic("ab", "c"), topic("a", "bc"));
    remember(fixture, vec![key(&one, 5, 1, 9_000), key(&two, 5, 2, 9_000)]).await;
    assert_eq!(find(fixture, &one, &[5], 0).await, [key(&one, 5, 1, 9_000)]);
    assert_eq!(find(fixture, &two, &[5], 0).await, [key(&two, 5, 2, 9_000)]);
}

async fn a_key_remembered_again_is_overwritten(fixture: &Fixture) {
    let topic = topic("ns", "t");
    remember(fixture, vec![key(&topic, 5, 1, 1_000), key(&topic, 5, 2, 2_000)]).await;
    assert_eq!(find(fixture, &topic, &[5], 0).await, [key(&topic, 5, 2, 2_000)]);
    remember(fixture, vec![key(&topic, 5, 3, 3_000)]).await;
    assert_eq!(find(fixture, &topic, &[5], 0).await, [key(&topic, 5, 3, 3_000)]);
}

async fn expired_keys_are_forgotten(fixture: &Fixture) {
    let topic = topic("ns", "t");
    let rows = (0..100).map(|n| key(&topic, n.into(), n, n as i64)).collect();
    remember(fixture, rows).await;
    assert_eq!(
        fixture.shard.forget_keys(Timestamp::from_ms(49)).await.unwrap(),
        50
    );
    assert_eq!(
        fixture.shard.forget_keys(Timestamp::from_ms(49)).await.unwrap(),
        0
    );
    let hashes: Vec<_> = (0..100).collect();
    assert_eq!(find(fixture, &topic, &hashes, -1).await.len(), 50);
}

async fn many_keys_at_once(fixture: &Fixture) {
    let topic = topic("ns", "t");
    let hash = |n: u64| u128::from(n) << 64 | u128::from(!n);
    let rows = (1..=3_000).map(|n| key(&topic, hash(n), n, 9_000)).collect();
    remember(fixture, rows).await;
    let hashes: Vec<_> = (1..=3_001).map(hash).collect();
    let found = find(fixture, &topic, &hashes, 0).await;
    assert_eq!(found.len(), 3_000);
    assert_eq!(found[2_999], key(&topic, hash(3_000), 3_000, 9_000));
}
