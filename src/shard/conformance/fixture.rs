//! A fresh shard for one test, and the items to put into it.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use sea_orm::{ConnectOptions, ConnectionTrait, DatabaseConnection, SqlxPostgresConnector};
use tempfile::TempDir;

use crate::clock::Timestamp;
use crate::model::{DeadReason, Death, Item, ItemId, NodeId, OrderKey, PayloadKind, QueuedItem, TopicKey};
use crate::shard::{Checkpoint, PageOf, SeaShard, Shard, ShardOptions};
use crate::wal::Lsn;

pub(super) struct Fixture {
    pub(super) shard: SeaShard,
    pub(super) url: String,
    place: Place,
}

enum Place {
    Folder(TempDir),
    Schema {
        name: String,
        server: DatabaseConnection,
    },
}

impl Fixture {
    pub(super) async fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("shard.db").display());
        Self {
            shard: open(&url).await,
            url,
            place: Place::Folder(folder),
        }
    }

    pub(super) async fn postgres() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let base = server();
        let name = format!(
            "mqueue_test_{}_{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let mut options = ConnectOptions::new(&base);
        options.max_connections(1).sqlx_logging(false);
        let server = SqlxPostgresConnector::connect(options)
            .await
            .expect("these tests need a PostgreSQL; set MQUEUE_TEST_POSTGRES");
        let drop = format!("DROP SCHEMA IF EXISTS {name} CASCADE");
        server.execute_unprepared(&drop).await.unwrap();
        let joint = if base.contains('?') { '&' } else { '?' };
        let url = format!("{base}{joint}schema={name}");
        Self {
            shard: open(&url).await,
            url,
            place: Place::Schema { name, server },
        }
    }

    /// Runs `case` and leaves nothing behind, whether it passes or not.
    pub(super) async fn run(&self, case: impl Future<Output = ()>) {
        let outcome = AssertUnwindSafe(case).catch_unwind().await;
        self.shard.close().await.unwrap();
        match &self.place {
            Place::Folder(folder) => assert!(folder.path().exists()),
            Place::Schema { name, server } => {
                let drop = format!("DROP SCHEMA {name} CASCADE");
                server.execute_unprepared(&drop).await.unwrap();
            }
        }
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }

    /// Opens the same database once more.
    pub(super) async fn reopen(&self) -> SeaShard {
        open(&self.url).await
    }

    /// Runs `sql` as an administrator might.
    pub(super) async fn execute(&self, sql: &str) {
        self.shard.database.writer.execute_unprepared(sql).await.unwrap();
    }

    /// Stores `items` in `topic`.
    pub(super) async fn store(&self, topic: &TopicKey, items: impl IntoIterator<Item = QueuedItem>) {
        let upserts = items.into_iter().map(|item| (topic.clone(), item)).collect();
        let checkpoint = Checkpoint { upserts, ..empty() };
        self.shard.checkpoint(&checkpoint).await.unwrap();
    }

    /// The ids of the first page of up to `limit`.
    pub(super) async fn ids(&self, topic: &TopicKey, of: PageOf, limit: usize) -> Vec<u64> {
        let page = self.shard.page(topic, of, OrderKey::MIN, limit).await.unwrap();
        page.iter().map(|queued| queued.item.id.0).collect()
    }

    /// The ids of all live items, due or not.
    pub(super) async fn live(&self, topic: &TopicKey) -> Vec<u64> {
        self.ids(topic, PageOf::Due(Timestamp::MAX), 100_000).await
    }

    /// The ids of all dead letters.
    pub(super) async fn dead(&self, topic: &TopicKey) -> Vec<u64> {
        self.ids(topic, PageOf::Dead, 100_000).await
    }
}

/// The PostgreSQL to test with.
pub(super) fn server() -> String {
    std::env::var("MQUEUE_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

pub(super) async fn open(url: &str) -> SeaShard {
    let options = ShardOptions {
        postgres_connections: 3,
        sqlite_readers: 2,
        statement_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(20),
    };
    SeaShard::open(&url.into(), &options).await.unwrap()
}

/// A checkpoint of node 1 that says nothing yet.
pub(super) fn empty() -> Checkpoint {
    Checkpoint::at(NodeId::new(1).unwrap(), Lsn(1))
}

pub(super) fn topic(namespace: &str, name: &str) -> TopicKey {
    TopicKey::parse(namespace, name).unwrap()
}

/// An item due at 1,000 ms.
pub(super) fn item(id: u64, priority: i32) -> QueuedItem {
    item_due(id, priority, 1_000)
}

pub(super) fn item_due(id: u64, priority: i32, due_ms: i64) -> QueuedItem {
    QueuedItem::accepted(Item {
        id: ItemId(id),
        priority,
        lease_ms: 30_000,
        max_attempts: 10,
        kind: PayloadKind::Text,
        enqueued_at: Timestamp::from_ms(1_000),
        deliver_after: Timestamp::from_ms(due_ms),
        expires_at: None,
        payload: format!("payload {id}").into_bytes().into(),
        extra: None,
    })
}

/// An item that died at `at_ms`.
pub(super) fn dead(id: u64, priority: i32, at_ms: i64) -> QueuedItem {
    let mut queued = item(id, priority);
    queued.standing.dead = Some(Death {
        reason: DeadReason::Rejected,
        at: Timestamp::from_ms(at_ms),
    });
    queued
}
