//! Nodes and who holds their numbers, what changed in the catalog, for nodes to follow each other, and slots on
//! their way from one shard to another.

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
            "DROP TABLE slot_moves",
            "DELETE FROM counters WHERE name IN ('catalog', 'slots', 'mover')",
            "ALTER TABLE progress DROP COLUMN incarnation",
        ];
        run(manager, &statements.map(str::to_owned)).await
    }
}

fn tables(words: &Words) -> [String; 5] {
    let Words { name, keyed, .. } = words;
    [
        // `holder` is the data that the number belongs to, `incarnation` the process that works on it.
        // Instants are by this database's clock: the nodes' own may differ.
        "CREATE TABLE nodes (
            id BIGINT PRIMARY KEY,
            holder BIGINT NOT NULL,
            incarnation BIGINT NOT NULL,
            address TEXT NOT NULL,
            version TEXT NOT NULL,
            started_at BIGINT NOT NULL,
            heard_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL,
            slots_seen BIGINT NOT NULL DEFAULT 0
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
        // Slots on their way; see the states' own names.
        "CREATE TABLE slot_moves (
            slot BIGINT PRIMARY KEY,
            source BIGINT NOT NULL,
            target BIGINT NOT NULL,
            state BIGINT NOT NULL
        )"
        .to_owned(),
        // `slots` goes up with every step of moving slots and every start of a node; `mover` is the
        // incarnation of the node that moves them.
        "INSERT INTO counters (name, value) VALUES ('catalog', 0), ('slots', 0), ('mover', 0)".to_owned(),
    ]
}
