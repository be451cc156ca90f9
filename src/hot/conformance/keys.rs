//! Idempotency keys.

use std::time::Duration;

use futures_util::poll;

use super::{Fixture, on_every_tier};
use crate::hot::{KeyProbe, KeyState};
use crate::model::ItemId;
use crate::shard::DedupRow;
use crate::wal::Lsn;

on_every_tier!(
    a_key_is_reserved_once_and_then_used,
    a_key_in_flight_is_told_when_it_is_decided,
    a_key_is_forgotten_after_its_window,
    keys_are_stored_in_the_order_of_the_log,
    a_key_used_again_is_stored_again,
    recalled_keys_never_overrule_memory,
);

fn probe(key_hash: u128, body_hash: u64) -> KeyProbe {
    KeyProbe { key_hash, body_hash }
}

impl Fixture {
    async fn reserve(&self, probe: KeyProbe) -> KeyState {
        self.tier
            .reserve_keys(&self.topic, &[probe])
            .await
            .unwrap()
            .remove(0)
    }

    fn row(&self, key_hash: u128, id: u64) -> DedupRow {
        DedupRow {
            topic: self.topic.clone(),
            key_hash,
            body_hash: 7,
            id: ItemId(id),
            expires_at: self.clock.now().plus_ms(1_000),
        }
    }

    async fn confirm(&self, lsn: u64, row: DedupRow) {
        self.tier.confirm_keys(&self.topic, Lsn(lsn), vec![row]).await;
    }
}

async fn a_key_is_reserved_once_and_then_used(f: Fixture) {
    assert!(matches!(f.reserve(probe(1, 7)).await, KeyState::Reserved));
    assert!(matches!(f.reserve(probe(1, 7)).await, KeyState::InFlight(_)));
    f.confirm(1, f.row(1, 10)).await;
    for (body, same) in [(7, true), (8, false)] {
        let state = f.reserve(probe(1, body)).await;
        assert!(matches!(state, KeyState::Used { id: ItemId(10), same_body } if same_body == same));
    }
}

async fn a_key_in_flight_is_told_when_it_is_decided(f: Fixture) {
    f.reserve(probe(1, 7)).await;
    for confirm in [false, true] {
        let KeyState::InFlight(decided) = f.reserve(probe(1, 7)).await else {
            panic!("reserved twice")
        };
        let waiting = decided.notified();
        tokio::pin!(waiting);
        assert!(poll!(&mut waiting).is_pending());
        if confirm {
            f.confirm(1, f.row(1, 10)).await;
        } else {
            f.tier.release_keys(&f.topic, &[1]).await;
        }
        assert!(poll!(&mut waiting).is_ready());
        assert_eq!(
            matches!(f.reserve(probe(1, 7)).await, KeyState::Reserved),
            !confirm
        );
    }
    // A used key is not given back.
    f.tier.release_keys(&f.topic, &[1]).await;
    assert!(matches!(f.reserve(probe(1, 7)).await, KeyState::Used { .. }));
}

/// A caller may go while its call is under way: then Redis reserves, and nobody hears of it.
#[tokio::test]
async fn what_redis_reserved_for_nobody_is_free_again() {
    let f = Fixture::redis().await;
    let probes = [probe(1, 7)];
    for polls in 0..8 {
        {
            let mut asking = f.tier.reserve_keys(&f.topic, &probes);
            for _ in 0..polls {
                if poll!(asking.as_mut()).is_ready() {
                    f.tier.release_keys(&f.topic, &[1]).await;
                    break;
                }
                // Redis answers this after the request, if that was sent.
                f.tier.has_cold_keys(&f.topic).await.unwrap();
            }
        }
        let free = async {
            while !matches!(f.reserve(probe(1, 7)).await, KeyState::Reserved) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), free).await.unwrap();
        f.tier.release_keys(&f.topic, &[1]).await;
    }
}

async fn a_key_is_forgotten_after_its_window(f: Fixture) {
    f.confirm(1, f.row(1, 10)).await;
    f.clock.advance(999);
    assert!(matches!(f.reserve(probe(1, 7)).await, KeyState::Used { .. }));
    f.clock.advance(1);
    assert!(matches!(f.reserve(probe(1, 7)).await, KeyState::Reserved));
}

async fn keys_are_stored_in_the_order_of_the_log(f: Fixture) {
    for (lsn, key) in [(3, 30), (1, 10), (2, 20)] {
        f.confirm(lsn, f.row(key, lsn)).await;
    }
    assert_eq!(f.first_need().await, Some(1));
    assert!(!f.tier.forget(&f.topic).await.unwrap());
    for (up_to, stored, keys, need) in [
        (2, false, vec![10, 20], Some(1)),
        (2, true, vec![10, 20], Some(3)),
        (9, true, vec![30], None),
    ] {
        let plan = f.tier.flush_plan(0, Lsn(up_to), 9).await.unwrap();
        let planned: Vec<_> = plan.dedup.iter().map(|row| row.key_hash).collect();
        assert_eq!(planned, keys);
        f.tier.flushed(plan, stored).await;
        assert_eq!(f.first_need().await, need);
    }
}

async fn a_key_used_again_is_stored_again(f: Fixture) {
    f.confirm(1, f.row(1, 10)).await;
    let plan = f.tier.flush_plan(0, Lsn(1), 9).await.unwrap();
    f.clock.advance(1_000);
    f.reserve(probe(1, 7)).await;
    f.confirm(2, f.row(1, 11)).await;
    f.tier.flushed(plan, true).await;
    let plan = f.tier.flush_plan(0, Lsn(2), 9).await.unwrap();
    assert_eq!((plan.dedup.len(), plan.dedup[0].id), (1, ItemId(11)));
    f.tier.flushed(plan, true).await;
}

async fn recalled_keys_never_overrule_memory(f: Fixture) {
    assert!(!f.tier.has_cold_keys(&f.topic).await.unwrap());
    f.tier
        .set_cold_keys(&f.topic, f.clock.now().plus_ms(500))
        .await
        .unwrap();
    assert!(f.tier.has_cold_keys(&f.topic).await.unwrap());
    f.confirm(1, f.row(1, 10)).await;
    f.tier
        .recall_keys(&f.topic, vec![f.row(1, 99), f.row(2, 20)])
        .await
        .unwrap();
    for (key, expected) in [(1, 10), (2, 20)] {
        let state = f.reserve(probe(key, 7)).await;
        assert!(matches!(state, KeyState::Used { id, .. } if id.0 == expected));
    }
    f.clock.advance(500);
    assert!(!f.tier.has_cold_keys(&f.topic).await.unwrap());
}
