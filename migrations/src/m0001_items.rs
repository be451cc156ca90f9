//! Items, idempotency keys and how far each node's log is stored.

use sea_orm_migration::prelude::*;

use crate::{Words, is_postgres, run};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0001_items"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let words = Words::of(manager);
        run(manager, &[items(words)]).await?;
        run(manager, &item_indexes(words)).await?;
        run(manager, &dedup(words)).await?;
        run(manager, &[progress()]).await?;
        if is_postgres(manager) {
            run(manager, &vacuum()).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &["items", "dedup", "progress"].map(|table| format!("DROP TABLE {table}")),
        )
        .await
    }
}

/// Every number is 64 bits wide, so that both dialects read and write one type. Instants are milliseconds
/// since the Unix epoch. `state` is 0 for live items and 1 for dead letters.
/// `band` and `rank` are the order key: today the priority and the due time. The payload comes last, so
/// that SQLite finds every other column on the row's first page.
fn items(words: &Words) -> String {
    let Words {
        row_id, name, bytes, ..
    } = words;
    format!(
        "CREATE TABLE items (
            id {row_id},
            namespace {name} NOT NULL,
            topic {name} NOT NULL,
            slot BIGINT NOT NULL,
            state BIGINT NOT NULL,
            band BIGINT NOT NULL,
            rank BIGINT NOT NULL,
            priority BIGINT NOT NULL,
            lease_ms BIGINT NOT NULL,
            max_attempts BIGINT NOT NULL,
            kind BIGINT NOT NULL,
            enqueued_at BIGINT NOT NULL,
            deliver_after BIGINT NOT NULL,
            due BIGINT NOT NULL,
            expires_at BIGINT,
            generation BIGINT NOT NULL,
            attempt BIGINT NOT NULL,
            content_type TEXT,
            headers TEXT,
            idempotency_key TEXT,
            hook_version TEXT,
            last_error TEXT,
            lease_expires_at BIGINT,
            dead_reason BIGINT,
            dead_at BIGINT,
            payload {bytes} NOT NULL
        )"
    )
}

/// Every index is paid for by every insert and delete it covers; each of these serves a question that
/// would otherwise read a whole topic.
fn item_indexes(words: &Words) -> [String; 5] {
    let tail = words.index_tail;
    [
        // Pages in delivery order, of live items and of dead letters, and purges. The only full index.
        format!("CREATE INDEX items_order ON items (namespace, topic, state, band, rank{tail})"),
        // What became due, and when the next item is: the order index has the priority before the time,
        // so a topic with as many priorities as items would be read whole for each question. Live items
        // arrive in about this order, which keeps the inserts at the right edge of each topic.
        format!("CREATE INDEX items_due ON items (namespace, topic, due{tail}) WHERE state = 0"),
        // Only items with a time to live are in it.
        "CREATE INDEX items_expiry ON items (expires_at) WHERE state = 0 AND expires_at IS NOT NULL"
            .to_owned(),
        // Only items that were stored while a consumer held them are in it: leases outlive a restart.
        "CREATE INDEX items_leased ON items (lease_expires_at)
            WHERE state = 0 AND lease_expires_at IS NOT NULL"
            .to_owned(),
        // Only dead letters are in it: retention, and counts without reading their rows.
        "CREATE INDEX items_dead ON items (namespace, topic, dead_at) WHERE state = 1".to_owned(),
    ]
}

fn dedup(words: &Words) -> [String; 2] {
    let Words {
        name, bytes, keyed, ..
    } = words;
    [
        format!(
            "CREATE TABLE dedup (
                namespace {name} NOT NULL,
                topic {name} NOT NULL,
                key_hash {bytes} NOT NULL,
                body_hash BIGINT NOT NULL,
                id BIGINT NOT NULL,
                expires_at BIGINT NOT NULL,
                PRIMARY KEY (namespace, topic, key_hash)
            ) {keyed}"
        ),
        "CREATE INDEX dedup_expiry ON dedup (expires_at)".to_owned(),
    ]
}

/// `updated_at` is for people who look: nothing reads it.
fn progress() -> String {
    "CREATE TABLE progress (
        node BIGINT PRIMARY KEY,
        lsn BIGINT NOT NULL,
        updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
    )"
    .to_owned()
}

/// A backlog that is filled and emptied leaves dead rows at the front of its indexes, where every page
/// starts. The default settings wait for a fifth of the table to be dead; these follow the churn.
fn vacuum() -> [String; 2] {
    ["items", "dedup"].map(|table| {
        format!(
            "ALTER TABLE {table} SET (
                autovacuum_vacuum_scale_factor = 0.02,
                autovacuum_vacuum_threshold = 5000,
                autovacuum_vacuum_insert_scale_factor = 0.1,
                autovacuum_analyze_scale_factor = 0.05,
                autovacuum_vacuum_cost_delay = 0
            )"
        )
    })
}
