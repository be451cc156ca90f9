//! Quotas of namespaces that are set while the servers run.

use sea_orm_migration::prelude::*;

use crate::{Words, run};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0006_tenancy"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let Words { name, keyed, .. } = Words::of(manager);
        // A quota is a JSON text: it is read whole and written whole, and gains fields over time.
        let quotas =
            format!("CREATE TABLE quotas (namespace {name} PRIMARY KEY, quota TEXT NOT NULL) {keyed}");
        run(manager, &[quotas]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &["DROP TABLE quotas".to_owned()]).await
    }
}
