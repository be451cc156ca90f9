//! Nodes and who holds their numbers, and what changed in the catalog, for nodes to follow each other.

use sea_orm_migration::prelude::*;

use crate::{Words, run};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0005_nodes"
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
            "DROP TABLE nodes",
            "DROP TABLE changes",
            "DELETE FROM counters WHERE name = 'catalog'",
            "ALTER TABLE progress DROP COLUMN incarnation",
        ];
        run(manager, &statements.map(str::to_owned)).await
    }
}

fn tables(words: &Words) -> [String; 4] {
    let Words { name, keyed, .. } = words;
    [
        // `holder` is the log that the number belongs to, `incarnation` the process that has opened it.
        // Instants are by this database's clock: the nodes' own may differ.
        "CREATE TABLE nodes (
            id BIGINT PRIMARY KEY,
            holder BIGINT NOT NULL,
            incarnation BIGINT NOT NULL,
            address TEXT NOT NULL,
            version TEXT NOT NULL,
            started_at BIGINT NOT NULL,
            heard_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL
        )"
        .to_owned(),
        // Checkpoints of a node are made by one process: 0 until one has said which.
        "ALTER TABLE progress ADD COLUMN incarnation BIGINT NOT NULL DEFAULT 0".to_owned(),
        // A row for each change of the catalog, numbered without gaps; an empty topic stands for the
        // namespace's own settings, an empty namespace for all there is.
        format!(
            "CREATE TABLE changes (
                id BIGINT PRIMARY KEY,
                namespace {name} NOT NULL,
                topic {name} NOT NULL
            ) {keyed}"
        ),
        "INSERT INTO counters (name, value) VALUES ('catalog', 0)".to_owned(),
    ]
}
