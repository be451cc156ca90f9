//! The catalog: topics, namespaces and the assignment of slots to shards.

use sea_orm_migration::prelude::*;

use crate::{Words, run};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0002_catalog"
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
        run(
            manager,
            &["topics", "namespaces", "slots"].map(|table| format!("DROP TABLE {table}")),
        )
        .await
    }
}

/// Settings are JSON texts: they are read whole and written whole, and gain fields over time.
fn tables(words: &Words) -> [String; 3] {
    let Words { name, keyed, .. } = words;
    [
        format!(
            "CREATE TABLE topics (
                namespace {name} NOT NULL,
                topic {name} NOT NULL,
                settings TEXT NOT NULL,
                paused BOOLEAN NOT NULL,
                PRIMARY KEY (namespace, topic)
            ) {keyed}"
        ),
        format!(
            "CREATE TABLE namespaces (
                namespace {name} PRIMARY KEY,
                settings TEXT NOT NULL
            ) {keyed}"
        ),
        "CREATE TABLE slots (
            slot INTEGER PRIMARY KEY,
            shard INTEGER NOT NULL
        )"
        .to_owned(),
    ]
}
