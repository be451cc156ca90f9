//! What a shard is asked.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Fixture, dead, item, item_due, on_both, topic};
use crate::clock::Timestamp;
use crate::model::{ItemId, OrderKey, QueuedItem};
use crate::shard::{PageOf, Shard, StoredCounts};

on_both!(
    pages_are_in_delivery_order,
    pages_resume_at_the_successor,
    dead_letters_are_apart,
    a_page_passes_over_what_is_not_asked_for,
    pages_agree_with_a_model,
    the_newest_come_first,
    newly_due_goes_from_after_to_until_in_due_order,
    leases_outlive_the_process,
    counts_are_per_topic,
    items_are_measured_on_average,
    expired_items_come_with_their_topics,
    dead_before_includes_the_instant,
    fetch_finds_live_and_dead,
    names_do_not_run_together,
    names_are_no_patterns,
);

const NOW: Timestamp = Timestamp::from_ms(5_000);

async fn pages_are_in_delivery_order(fixture: &Fixture) {
    let topic = topic("ns", "t");
    let items = [
        item(9, 0),
        item(3, i32::MAX),
        item(4, i32::MIN),
        item(8, 0),
        item_due(1, 0, 2_000),
        item_due(2, 0, 500),
        item(7, -1),
        item(6, 1),
    ];
    fixture.store(&topic, items).await;
    assert_eq!(fixture.live(&topic).await, [4, 7, 2, 8, 9, 1, 6, 3]);
    assert_eq!(fixture.ids(&topic, PageOf::Due(NOW), 3).await, [4, 7, 2]);
    assert_eq!(fixture.ids(&topic, PageOf::Due(NOW), 0).await, [0u64; 0]);
}

async fn pages_resume_at_the_successor(fixture: &Fixture) {
    let topic = topic("ns", "t");
    let items = (1..=100).map(|id| item_due(id, (id % 3) as i32, 1_000 + (id % 2) as i64));
    fixture.store(&topic, items).await;
    let (mut from, mut seen) = (OrderKey::MIN, vec![]);
    loop {
        let page = fixture
            .shard
            .page(&topic, PageOf::Due(NOW), from, 7)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 7);
        from = last.key().successor();
        seen.extend(page.iter().map(QueuedItem::key));
    }
    assert_eq!(seen.len(), 100);
    assert!(seen.is_sorted_by(|a, b| a < b));
    // The key itself is part of the page that begins at it.
    let page = fixture
        .shard
        .page(&topic, PageOf::Due(NOW), seen[50], 1)
        .await
        .unwrap();
    assert_eq!(page[0].key(), seen[50]);
}

async fn dead_letters_are_apart(fixture: &Fixture) {
    let topic = topic("ns", "t");
    fixture
        .store(
            &topic,
            [item(1, 5), dead(2, 5, 3_000), dead(3, 1, 4_000), item(4, 1)],
        )
        .await;
    assert_eq!(fixture.live(&topic).await, [4, 1]);
    assert_eq!(fixture.dead(&topic).await, [3, 2]);
    assert_eq!(
        fixture.ids(&topic, PageOf::Later(Timestamp::ZERO), 9).await,
        [4, 1]
    );
}

async fn a_page_passes_over_what_is_not_asked_for(fixture: &Fixture) {
    // Every band has more later items than a window holds, and the due ones are behind them.
    let topic = topic("ns", "t");
    let later = (0..600).map(|n| item_due(1_000 + n, (n / 200) as i32, 9_000 + n as i64));
    let due = (0..4).map(|n| item_due(n + 1, n as i32, 100));
    fixture.store(&topic, later.chain(due)).await;
    assert_eq!(fixture.ids(&topic, PageOf::Due(NOW), 10).await, [1, 2, 3, 4]);
    assert_eq!(fixture.ids(&topic, PageOf::Due(NOW), 3).await, [1, 2, 3]);
    assert_eq!(fixture.ids(&topic, PageOf::Later(NOW), 1_000).await.len(), 600);
    assert_eq!(fixture.ids(&topic, PageOf::Later(NOW), 2).await, [1_000, 1_001]);
}

async fn the_newest_come_first(fixture: &Fixture) {
    let topic = topic("ns", "t");
    let items = [
        item(1, 0),
        item(4, i32::MIN),
        item_due(6, 3, 9_000),
        item(3, 9),
        dead(5, 0, 3_000),
        dead(2, 1, 4_000),
    ];
    fixture.store(&topic, items).await;
    fixture.store(&super::topic("ns", "other"), [item(9, 0)]).await;
    let newest = async |of, before, limit| {
        let found = fixture.shard.newest(&topic, of, ItemId(before), limit).await;
        let ids = found.unwrap().into_iter().map(|queued| queued.item.id.0);
        ids.collect::<Vec<_>>()
    };
    assert_eq!(newest(PageOf::Due(NOW), 99, 9).await, [4, 3, 1]);
    assert_eq!(newest(PageOf::Due(NOW), 99, 2).await, [4, 3]);
    assert_eq!(newest(PageOf::Due(NOW), 4, 2).await, [3, 1]);
    assert_eq!(newest(PageOf::Later(NOW), 99, 9).await, [6]);
    assert_eq!(newest(PageOf::Dead, 99, 9).await, [5, 2]);
}

async fn pages_agree_with_a_model(fixture: &Fixture) {
    let topic = topic("ns", "t");
    let mut random = StdRng::seed_from_u64(7);
    let mut model: Vec<QueuedItem> = (1..=2_000)
        .map(|id| item_due(id, random.random_range(-4..4), random.random_range(0..10) * 1_000))
        .collect();
    fixture.store(&topic, model.clone()).await;
    model.sort_by_key(QueuedItem::key);
    for _ in 0..60 {
        let instant = Timestamp::from_ms(random.random_range(-1..10) * 1_000);
        let from = model[random.random_range(0..model.len())].key();
        let limit = random.random_range(1..300);
        for (of, later) in [(PageOf::Due(instant), false), (PageOf::Later(instant), true)] {
            let expected: Vec<_> = model
                .iter()
                .filter(|queued| queued.key() >= from && (queued.standing.due > instant) == later)
                .take(limit)
                .cloned()
                .collect();
            let page = fixture.shard.page(&topic, of, from, limit).await.unwrap();
            assert_eq!(page, expected, "{of:?} from {from:?}, {limit} at most");
        }
    }
}

async fn newly_due_goes_from_after_to_until_in_due_order(fixture: &Fixture) {
    let topic = topic("ns", "t");
    let items = [
        item_due(1, 0, 1_000),
        item_due(2, 9, 2_000),
        item_due(3, 7, 3_000),
        item_due(4, -7, 3_000),
        item_due(5, 0, 3_001),
        item_due(6, -1, 4_000),
    ];
    fixture.store(&topic, items).await;
    fixture.store(&topic, [dead(7, -5, 2_500)]).await;
    let ask = async |after: (i64, u64), until, limit| {
        let after = (Timestamp::from_ms(after.0), ItemId(after.1));
        let found = fixture
            .shard
            .newly_due(&topic, after, Timestamp::from_ms(until), limit)
            .await
            .unwrap();
        found.iter().map(|item| item.item.id.0).collect::<Vec<_>>()
    };
    assert_eq!(ask((1_000, u64::from(u32::MAX)), 3_000, 10).await, [2, 3, 4]);
    assert_eq!(ask((1_000, 0), 3_000, 2).await, [1, 2]);
    assert_eq!(ask((3_000, 3), 9_000, 10).await, [4, 5, 6]);
    assert_eq!(ask((1_500, 0), 1_999, 10).await, [0_u64; 0]);
    let next = async |after| {
        fixture
            .shard
            .next_due(&topic, Timestamp::from_ms(after))
            .await
            .unwrap()
    };
    assert_eq!(next(3_000).await, Some(Timestamp::from_ms(3_001)));
    assert_eq!(next(4_000).await, None);
}

async fn leases_outlive_the_process(fixture: &Fixture) {
    let topic = topic("ns", "t");
    let leased = |id, until_ms| {
        let mut queued = item(id, 0);
        queued.standing.lease_expires_at = Some(Timestamp::from_ms(until_ms));
        queued
    };
    fixture
        .store(&topic, [leased(1, 1_000), leased(2, 1_001), item(3, 0)])
        .await;
    let found = fixture.shard.leased(Timestamp::from_ms(1_000)).await.unwrap();
    assert_eq!(found, [(topic, leased(2, 1_001))]);
}

async fn counts_are_per_topic(fixture: &Fixture) {
    let (one, two) = (topic("ns", "one"), topic("ns", "two"));
    fixture
        .store(
            &one,
            [
                item_due(1, 0, 5_000),
                item_due(2, 0, 5_001),
                item_due(3, 1, 9_000),
            ],
        )
        .await;
    fixture.store(&two, [dead(4, 0, 1), dead(5, 0, 2)]).await;
    let mut counts = fixture.shard.counts(NOW).await.unwrap();
    counts.sort_by(|a, b| a.topic.cmp(&b.topic));
    let expected = [(one, 1, 2, 0), (two, 0, 0, 2)].map(|(topic, due, later, dead)| StoredCounts {
        topic,
        due,
        later,
        dead,
    });
    assert_eq!(counts, expected);
}

async fn items_are_measured_on_average(fixture: &Fixture) {
    let topic = topic("ns", "t");
    assert_eq!(fixture.shard.item_bytes(&topic).await.unwrap(), 0);
    let stored = item(1, 0).item.stored_bytes();
    let mut long = item(3, 0);
    Arc::make_mut(&mut long.item).payload = vec![0; 3_000].into();
    let sum = 2 * stored + long.item.stored_bytes();
    fixture.store(&topic, [item(1, 0), dead(2, 0, 1), long]).await;
    let average = fixture.shard.item_bytes(&topic).await.unwrap();
    assert!(
        average.abs_diff(sum / 3) <= 1,
        "{average} is not about {}",
        sum / 3
    );
}

async fn expired_items_come_with_their_topics(fixture: &Fixture) {
    let (one, two) = (topic("ns", "one"), topic("other", "two"));
    let expiring = |id, at_ms| {
        let mut queued = item(id, 0);
        Arc::make_mut(&mut queued.item).expires_at = Some(Timestamp::from_ms(at_ms));
        queued
    };
    let mut buried = expiring(5, 1_000);
    buried.standing.dead = dead(5, 0, 900).standing.dead;
    fixture
        .store(&one, [expiring(1, 5_000), expiring(2, 5_001), item(3, 0), buried])
        .await;
    fixture.store(&two, [expiring(4, 0)]).await;
    let expired = fixture.shard.expired(NOW, 10).await.unwrap();
    assert_eq!(expired, [(two, ItemId(4)), (one, ItemId(1))]);
    assert_eq!(fixture.shard.expired(NOW, 1).await.unwrap().len(), 1);
}

async fn dead_before_includes_the_instant(fixture: &Fixture) {
    let (one, two) = (topic("ns", "one"), topic("ns", "two"));
    fixture
        .store(
            &one,
            [
                dead(1, 9, 1_000),
                dead(2, 1, 2_000),
                dead(3, 1, 2_001),
                item(4, 0),
            ],
        )
        .await;
    fixture.store(&two, [dead(5, 0, 1_000)]).await;
    let ask = |before, limit| fixture.shard.dead_before(&one, Timestamp::from_ms(before), limit);
    assert_eq!(ask(2_000, 10).await.unwrap(), [ItemId(1), ItemId(2)]);
    assert_eq!(ask(2_000, 1).await.unwrap(), [ItemId(1)]);
    assert_eq!(ask(999, 10).await.unwrap(), []);
}

async fn fetch_finds_live_and_dead(fixture: &Fixture) {
    let (one, two) = (topic("ns", "one"), topic("ns", "two"));
    fixture.store(&one, [item(1, 0), item(2, 0)]).await;
    fixture.store(&two, [dead(3, 0, 7)]).await;
    let ids = [ItemId(3), ItemId(1), ItemId(77), ItemId(1)];
    let mut found = fixture.shard.fetch(&ids).await.unwrap();
    found.sort_by_key(|(_, queued)| queued.item.id);
    assert_eq!(found, [(one, item(1, 0)), (two, dead(3, 0, 7))]);
}

async fn names_do_not_run_together(fixture: &Fixture) {
    let (one, two) = (topic("ab", "c"), topic("a", "bc"));
    fixture.store(&one, [item(1, 0)]).await;
    fixture.store(&two, [item(2, 0)]).await;
    assert_eq!(
        (fixture.live(&one).await, fixture.live(&two).await),
        (vec![1], vec![2])
    );
}

async fn names_are_no_patterns(fixture: &Fixture) {
    let names = ["a_b", "axb", "A_b", "a.b", "a-b", "a"];
    for (id, name) in (1..).zip(names) {
        fixture.store(&topic("ns", name), [item(id, 0)]).await;
    }
    for (id, name) in (1..).zip(names) {
        assert_eq!(fixture.live(&topic("ns", name)).await, [id], "{name}");
    }
    assert_eq!(fixture.shard.counts(NOW).await.unwrap().len(), names.len());
}
