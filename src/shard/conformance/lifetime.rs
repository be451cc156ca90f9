//! Opening, closing and opening again.

use super::{Fixture, dead, item, on_both, topic};
use crate::model::{ItemId, NodeId};
use crate::shard::{SeaShard, Shard, ShardError, ShardOptions};
use crate::wal::Lsn;

on_both!(
    a_shard_opened_again_has_everything,
    two_may_open_an_empty_database_at_once,
    a_schema_from_the_future_is_refused,
    a_shard_answers_until_it_is_closed,
);

async fn a_shard_opened_again_has_everything(fixture: &Fixture) {
    let topic = topic("ns", "t");
    fixture.store(&topic, [item(1, 0), dead(2, 0, 1)]).await;
    fixture.shard.close().await.unwrap();
    let again = fixture.reopen().await;
    let mut found = again.fetch(&[ItemId(1), ItemId(2)]).await.unwrap();
    found.sort_by_key(|(_, queued)| queued.item.id);
    assert_eq!(found, [(topic.clone(), item(1, 0)), (topic, dead(2, 0, 1))]);
    assert_eq!(again.progress(NodeId::new(1).unwrap()).await.unwrap(), Lsn(1));
    again.close().await.unwrap();
}

async fn two_may_open_an_empty_database_at_once(fixture: &Fixture) {
    let tables = [
        "items",
        "dedup",
        "progress",
        "topics",
        "namespaces",
        "slots",
        "mqueue_migrations",
    ];
    for table in tables {
        fixture.execute(&format!("DROP TABLE {table}")).await;
    }
    let (one, two) = tokio::join!(fixture.reopen(), fixture.reopen());
    assert_eq!(one.highest_id().await.unwrap(), ItemId(0));
    one.close().await.unwrap();
    two.close().await.unwrap();
}

async fn a_schema_from_the_future_is_refused(fixture: &Fixture) {
    let newer = "INSERT INTO mqueue_migrations (version, applied_at) VALUES ('m9999_newer', 0)";
    fixture.execute(newer).await;
    let error = SeaShard::open(&fixture.url.as_str().into(), &ShardOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, ShardError::Corrupt(_)), "{error}");
}

async fn a_shard_answers_until_it_is_closed(fixture: &Fixture) {
    fixture.shard.ping().await.unwrap();
    fixture.shard.close().await.unwrap();
    let error = fixture.shard.ping().await.unwrap_err();
    assert!(matches!(error, ShardError::Unavailable(_)), "{error}");
}
