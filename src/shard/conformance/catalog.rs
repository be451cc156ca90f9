//! The catalog.

use super::{Fixture, on_both, topic};
use crate::model::{NamespaceSettings, SettingsPatch, TopicKey};
use crate::shard::{Catalog, Replaced, ShardError, SlotMap, TopicRow};

on_both!(
    the_catalog_begins_empty,
    topics_are_put_and_deleted,
    topics_that_exist_are_left_alone,
    no_more_topics_are_made_than_there_may_be,
    namespaces_are_put,
    only_what_was_expected_is_replaced,
    slots_are_put_whole,
    settings_that_cannot_be_read_are_named,
    every_change_is_announced_once,
    who_missed_too_much_reads_everything,
);

/// Stores both parts of a topic's row.
async fn put(catalog: &Catalog, topic: &TopicKey, row: &TopicRow) {
    catalog.put_settings(topic, &row.settings, None).await.unwrap();
    catalog.put_paused(topic, row.paused).await.unwrap();
}

fn paused(priority: i32) -> TopicRow {
    TopicRow {
        settings: SettingsPatch {
            priority: Some(priority),
            ..SettingsPatch::default()
        },
        paused: true,
    }
}

async fn the_catalog_begins_empty(fixture: &Fixture) {
    let contents = fixture.shard.catalog().load().await.unwrap();
    assert!(contents.topics.is_empty() && contents.namespaces.is_empty() && contents.slots.is_empty());
}

async fn topics_are_put_and_deleted(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let (one, two) = (topic("ab", "c"), topic("a", "bc"));
    for _ in 0..2 {
        put(&catalog, &one, &paused(1)).await;
        put(&catalog, &two, &TopicRow::default()).await;
    }
    catalog
        .put_settings(&one, &paused(2).settings, None)
        .await
        .unwrap();
    let mut topics = catalog.load().await.unwrap().topics;
    topics.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        topics,
        [(two.clone(), TopicRow::default()), (one.clone(), paused(2))]
    );
    for _ in 0..2 {
        catalog.delete_topic(&one).await.unwrap();
    }
    assert_eq!(catalog.load().await.unwrap().topics, [(two, TopicRow::default())]);
}

async fn topics_that_exist_are_left_alone(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let known = topic("ns", "known");
    put(&catalog, &known, &paused(1)).await;
    let mut topics = vec![known.clone(), known.clone()];
    topics.extend((0..5_000).map(|n| topic("ns", &format!("t{n}"))));
    for _ in 0..2 {
        catalog.ensure_topics(&topics).await.unwrap();
    }
    catalog.ensure_topics(&[]).await.unwrap();
    let topics = catalog.load().await.unwrap().topics;
    assert_eq!(topics.len(), 5_001);
    assert!(topics.contains(&(known, paused(1))));
    assert!(topics.contains(&(topic("ns", "t4999"), TopicRow::default())));
}

async fn no_more_topics_are_made_than_there_may_be(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    put(&catalog, &topic("other", "t"), &TopicRow::default()).await;
    let makes = (0..12).map(|n| {
        let catalog = catalog.clone();
        // Each is asked for twice, as by two nodes.
        let topic = topic("ns", &format!("t{}", n / 2));
        async move { catalog.make_topic(&topic, 4).await.unwrap() }
    });
    let made = futures_util::future::join_all(makes).await;
    assert_eq!(made.iter().filter(|made| **made).count(), 8, "{made:?}");
    let topics = catalog.load().await.unwrap().topics;
    assert_eq!(topics.len(), 5);
    // What is there is no news, and needs no room.
    let seen = catalog.generations().await.unwrap().catalog;
    let known = topics.iter().find(|(key, _)| key.namespace().as_str() == "ns");
    assert!(catalog.make_topic(&known.unwrap().0, 0).await.unwrap());
    assert_eq!(catalog.generations().await.unwrap().catalog, seen);
}

async fn namespaces_are_put(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let namespace = topic("tenant-a", "t").namespace().clone();
    for ttl_ms in [5, 6] {
        let settings = NamespaceSettings {
            topics: SettingsPatch {
                ttl_ms: Some(ttl_ms),
                ..SettingsPatch::default()
            },
            topics_on_first_use: Some(false),
            topics_max: None,
        };
        catalog.put_namespace(&namespace, &settings, None).await.unwrap();
        let namespaces = catalog.load().await.unwrap().namespaces;
        assert_eq!(namespaces, [(namespace.clone(), settings)]);
    }
    for _ in 0..2 {
        catalog.delete_namespace(&namespace).await.unwrap();
        assert!(catalog.load().await.unwrap().namespaces.is_empty());
    }
}

async fn only_what_was_expected_is_replaced(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let key = topic("ns", "t");
    let of = |priority: i32| paused(priority).settings;
    let empty = SettingsPatch::default().revision();
    let stale = Replaced::No { current: empty };
    let put = catalog.put_settings(&key, &of(1), Some(of(9).revision())).await;
    assert_eq!(put.unwrap(), stale);
    assert!(catalog.load().await.unwrap().topics.is_empty());
    // A new topic has empty settings.
    for (before, priority) in [(empty, 1), (of(1).revision(), 2)] {
        let put = catalog.put_settings(&key, &of(priority), Some(before)).await;
        assert_eq!(put.unwrap(), Replaced::Yes);
    }
    let seen = catalog.generations().await.unwrap().catalog;
    let put = catalog.put_settings(&key, &of(3), Some(of(1).revision())).await;
    let current = of(2).revision();
    assert_eq!(put.unwrap(), Replaced::No { current });
    assert_eq!(catalog.load().await.unwrap().topics[0].1.settings, of(2));

    let limited = |topics_max: u32| NamespaceSettings {
        topics_max: Some(topics_max),
        ..NamespaceSettings::default()
    };
    let namespace = key.namespace();
    for expected in [limited(7).revision(), limited(8).revision()] {
        let put = catalog
            .put_namespace(namespace, &limited(1), Some(expected))
            .await;
        let current = NamespaceSettings::default().revision();
        assert_eq!(put.unwrap(), Replaced::No { current });
    }
    // What was not done was not announced either.
    assert_eq!(catalog.generations().await.unwrap().catalog, seen);
    for (before, topics_max) in [(NamespaceSettings::default(), 1), (limited(1), 2)] {
        let settings = limited(topics_max);
        let put = catalog
            .put_namespace(namespace, &settings, Some(before.revision()))
            .await;
        assert_eq!(put.unwrap(), Replaced::Yes);
    }
    assert_eq!(
        catalog.load().await.unwrap().namespaces,
        [(namespace.clone(), limited(2))]
    );
}

async fn slots_are_put_whole(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    for shard_count in [3, 1] {
        let map = SlotMap::initial(shard_count).unwrap();
        catalog.put_slots(map.owners()).await.unwrap();
        let owners = catalog.load().await.unwrap().slots;
        assert_eq!(SlotMap::persisted(owners, shard_count).unwrap(), map);
    }
    catalog.put_slots(&[7, 8]).await.unwrap();
    assert_eq!(catalog.load().await.unwrap().slots, [7, 8]);
    fixture.execute("DELETE FROM slots WHERE slot = 0").await;
    let error = catalog.load().await.unwrap_err();
    assert!(error.to_string().contains("slot 0"), "{error}");
}

async fn settings_that_cannot_be_read_are_named(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    put(&catalog, &topic("ns", "odd"), &TopicRow::default()).await;
    fixture
        .execute("UPDATE topics SET settings = '{\"from_the_future\":1}'")
        .await;
    let error = catalog.load().await.unwrap_err();
    assert!(matches!(error, ShardError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("ns/odd"), "{error}");
}

async fn every_change_is_announced_once(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let (one, two) = (topic("ns", "one"), topic("ns", "two"));
    catalog.ensure_topics(std::slice::from_ref(&one)).await.unwrap();
    let seen = catalog.load().await.unwrap().generation;
    assert_eq!(catalog.generations().await.unwrap().catalog, seen);
    // What is there already is no news.
    catalog.ensure_topics(std::slice::from_ref(&one)).await.unwrap();
    assert_eq!(catalog.generations().await.unwrap().catalog, seen);
    put(&catalog, &two, &paused(3)).await;
    catalog.delete_topic(&one).await.unwrap();
    let namespace = one.namespace().clone();
    let settings = NamespaceSettings {
        topics_max: Some(4),
        ..NamespaceSettings::default()
    };
    catalog.put_namespace(&namespace, &settings, None).await.unwrap();
    let changes = catalog.changes(seen).await.unwrap();
    let mut topics = changes.topics;
    topics.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(topics, [(one, None), (two, Some(paused(3)))]);
    assert_eq!(changes.namespaces, [(namespace.clone(), Some(settings))]);
    assert!(changes.everything.is_none());
    assert_eq!(changes.generation, catalog.generations().await.unwrap().catalog);
    catalog.delete_namespace(&namespace).await.unwrap();
    let deleted = catalog.changes(changes.generation).await.unwrap();
    assert_eq!(deleted.namespaces, [(namespace, None)]);
    let none = catalog.changes(deleted.generation).await.unwrap();
    assert!(none.topics.is_empty() && none.namespaces.is_empty() && none.everything.is_none());
}

async fn who_missed_too_much_reads_everything(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let topics = [topic("ns", "one"), topic("ns", "two")];
    catalog.ensure_topics(&topics).await.unwrap();
    catalog.put_paused(&topics[0], true).await.unwrap();
    let changes = catalog.changes(0).await.unwrap();
    assert_eq!(changes.everything.unwrap().topics.len(), 2);
    assert!(changes.topics.is_empty());
    // A backup was restored, and the numbers went back.
    assert!(catalog.changes(100).await.unwrap().everything.is_some());
    fixture.execute("DELETE FROM changes").await;
    assert!(catalog.changes(1).await.unwrap().everything.is_some());
}
