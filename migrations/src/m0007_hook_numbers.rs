//! The last number each hook gave to a version: it outlives the version and the hook.

use sea_orm_migration::prelude::*;

use crate::{Words, run};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0007_hook_numbers"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let Words { name, keyed, .. } = Words::of(manager);
        // Items say which version of which hook handled them: a number that came again would make that a lie.
        let table = format!(
            "CREATE TABLE hook_numbers (
                namespace {name} NOT NULL,
                hook {name} NOT NULL,
                last_version BIGINT NOT NULL,
                PRIMARY KEY (namespace, hook)
            ) {keyed}"
        );
        let known = "INSERT INTO hook_numbers (namespace, hook, last_version)
            SELECT namespace, hook, MAX(version) FROM hook_versions GROUP BY namespace, hook";
        run(manager, &[table, known.to_owned()]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &["DROP TABLE hook_numbers".to_owned()]).await
    }
}
