//! Long operations, and where a change came from in the log of changes.

use sea_orm_migration::prelude::*;

use crate::{Words, run};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0004_operations"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &tables(Words::of(manager))).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let statements = [
            "DROP TABLE operations",
            "DELETE FROM counters WHERE name = 'operations'",
            "ALTER TABLE audit DROP COLUMN request_id",
            "ALTER TABLE audit DROP COLUMN peer",
        ];
        run(manager, &statements.map(str::to_owned)).await
    }
}

/// Work and its outcome are JSON texts: they are read whole and gain fields over time. Whoever runs an
/// operation holds it by `fence` until `alive_until`, and says in between that it is still at it.
fn tables(words: &Words) -> [String; 6] {
    let Words { row_id, name, .. } = words;
    [
        format!(
            "CREATE TABLE operations (
                id {row_id},
                namespace {name} NOT NULL,
                work TEXT NOT NULL,
                dry_run BOOLEAN NOT NULL,
                state TEXT NOT NULL,
                created_by TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                started_at BIGINT,
                ended_at BIGINT,
                total BIGINT NOT NULL,
                looked BIGINT NOT NULL,
                done BIGINT NOT NULL,
                cancelling BOOLEAN NOT NULL,
                error TEXT,
                outcome TEXT,
                node BIGINT,
                fence BIGINT NOT NULL,
                alive_until BIGINT NOT NULL
            )"
        ),
        "CREATE INDEX operations_namespace ON operations (namespace, id)".to_owned(),
        // What a free worker asks for: few rows, however many operations have ended.
        "CREATE INDEX operations_open ON operations (id) WHERE state IN ('queued', 'running')".to_owned(),
        "INSERT INTO counters (name, value) VALUES ('operations', 0)".to_owned(),
        "ALTER TABLE audit ADD COLUMN request_id TEXT".to_owned(),
        "ALTER TABLE audit ADD COLUMN peer TEXT".to_owned(),
    ]
}
