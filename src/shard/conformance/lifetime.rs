//! Opening, closing and opening again.

use std::time::Duration;

use super::{Fixture, dead, item, on_both, topic};
use crate::model::{ItemId, NodeId};
use crate::shard::dialect::Dialect;
use crate::shard::{SeaShard, Shard, ShardError, ShardOptions};
use crate::wal::Lsn;

on_both!(
    a_shard_opened_again_has_everything,
    two_may_open_an_empty_database_at_once,
    a_schema_from_the_future_is_refused,
    a_shard_answers_until_it_is_closed,
    a_statement_that_takes_too_long_is_given_up,
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
        "hook_modules",
        "hook_versions",
        "hook_bindings",
        "hook_tests",
        "hook_numbers",
        "hook_quarantines",
        "audit",
        "counters",
        "nodes",
        "changes",
        "slot_moves",
        "quotas",
        "operations",
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

async fn a_statement_that_takes_too_long_is_given_up(fixture: &Fixture) {
    let options = ShardOptions {
        statement_timeout: Duration::from_secs(1),
        sqlite_readers: 1,
        postgres_connections: 1,
        ..ShardOptions::default()
    };
    let shard = SeaShard::open(&fixture.url.as_str().into(), &options)
        .await
        .unwrap();
    let endless = match shard.database.dialect {
        // It is asked for rows, because SQLite notices between two of them that nobody waits any more.
        Dialect::Sqlite => {
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers)
            SELECT n FROM numbers WHERE n % 100000 = 0"
        }
        Dialect::Postgres => "SELECT pg_sleep(60)",
    };
    let error = shard
        .database
        .rows(&shard.database.reader, endless, [])
        .await
        .unwrap_err();
    assert!(matches!(error, ShardError::Unavailable(_)), "{error}");
    // The only connection is free again.
    shard.ping().await.unwrap();
    // What is asked of all there is may take longer.
    let long = match shard.database.dialect {
        Dialect::Sqlite => "SELECT 1",
        Dialect::Postgres => "SELECT 1 FROM pg_sleep(1.5)",
    };
    assert_eq!(shard.database.rows_patiently(long, []).await.unwrap().len(), 1);
    shard.close().await.unwrap();
}
