//! What only a PostgreSQL does: it is replaced by another server, and refuses what would change something.

use sea_orm::{ConnectOptions, ConnectionTrait, SqlxPostgresConnector};

use super::fixture::{empty, open};
use crate::shard::{Shard, ShardError};

/// A database of its own, for what holds for a whole database.
async fn with_database(case: impl AsyncFnOnce(&str, &sea_orm::DatabaseConnection)) {
    let base = super::fixture::server();
    let name = format!("mqueue_test_db_{}", std::process::id());
    let mut options = ConnectOptions::new(&base);
    options.max_connections(1).sqlx_logging(false);
    let server = SqlxPostgresConnector::connect(options).await.unwrap();
    let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    server.execute_unprepared(&drop).await.unwrap();
    server
        .execute_unprepared(&format!("CREATE DATABASE {name}"))
        .await
        .unwrap();
    case(&name, &server).await;
    server.execute_unprepared(&drop).await.unwrap();
}

#[tokio::test]
async fn connections_to_a_server_that_takes_no_writes_are_given_up() {
    with_database(async |name, server| {
        let base = super::fixture::server();
        let (host, _) = base.rsplit_once('/').unwrap();
        let shard = open(&format!("{host}/{name}")).await;
        shard.ping().await.unwrap();
        // As when a standby takes over: connections break, and new ones find a server that only answers.
        let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
        server.execute_unprepared(&read_only).await.unwrap();
        let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        server.execute_unprepared(&cut).await.unwrap();
        let mut said = Vec::new();
        while said.len() < 4 {
            match shard.checkpoint(&empty()).await {
                Err(ShardError::Unavailable(why)) => said.push(why),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(said[3], "the database is read-only", "{said:?}");
        let error = shard.ping().await.unwrap_err();
        assert!(error.to_string().contains("read-only"), "{error}");
        // It takes writes again, but not through the connections there are.
        let writable = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
        server.execute_unprepared(&writable).await.unwrap();
        shard.ping().await.unwrap();
        shard.checkpoint(&empty()).await.unwrap();
        shard.close().await.unwrap();
    })
    .await;
}
