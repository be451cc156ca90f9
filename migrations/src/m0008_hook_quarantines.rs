//! Versions of hooks that are not run until their owner says that they may be.

use sea_orm_migration::prelude::*;

use crate::{Words, run};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0008_hook_quarantines"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let Words { name, keyed, .. } = Words::of(manager);
        // Beside the versions, which never change.
        let table = format!(
            "CREATE TABLE hook_quarantines (
                namespace {name} NOT NULL,
                hook {name} NOT NULL,
                version BIGINT NOT NULL,
                quarantine TEXT NOT NULL,
                PRIMARY KEY (namespace, hook, version)
            ) {keyed}"
        );
        run(manager, &[table]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &["DROP TABLE hook_quarantines".to_owned()]).await
    }
}
