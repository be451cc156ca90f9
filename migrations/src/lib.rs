//! The schema of MQueue's shards and catalog, for SQLite and PostgreSQL.
//!
//! Every database gets the same tables; the catalog's stay empty in all but the first shard's database, so
//! that shards can change places without moving tables. A migration that was released is never edited.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{DatabaseBackend, DatabaseTransaction};

mod m0001_items;
mod m0002_catalog;
mod m0003_hooks;
mod m0004_operations;
mod m0005_nodes;
mod m0006_tenancy;
mod m0007_hook_numbers;
mod m0008_hook_quarantines;

/// Brings a database to the schema this version needs.
#[derive(Debug, Clone, Copy)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_items::Migration),
            Box::new(m0002_catalog::Migration),
            Box::new(m0003_hooks::Migration),
            Box::new(m0004_operations::Migration),
            Box::new(m0005_nodes::Migration),
            Box::new(m0006_tenancy::Migration),
            Box::new(m0007_hook_numbers::Migration),
            Box::new(m0008_hook_quarantines::Migration),
        ]
    }

    fn migration_table_name() -> DynIden {
        Alias::new("mqueue_migrations").into_iden()
    }
}

/// Brings the database to the schema this version needs, within `transaction`; does nothing when it is there.
///
/// Fails when the database refuses, or has migrations that this version does not know.
pub async fn migrate(transaction: &DatabaseTransaction) -> Result<(), DbErr> {
    Migrator::up(transaction, None).await
}

/// The words the two dialects spell differently.
struct Words {
    /// A 64-bit key that is the row's own address where the dialect has such a thing.
    row_id: &'static str,
    /// A name, compared byte by byte: the order of keys must not depend on a locale.
    name: &'static str,
    /// Bytes.
    bytes: &'static str,
    /// What ends an index on items, to make its order total; SQLite appends the row's address itself.
    index_tail: &'static str,
    /// What follows a table whose primary key is its only access path.
    keyed: &'static str,
}

const SQLITE: Words = Words {
    row_id: "INTEGER PRIMARY KEY",
    name: "TEXT",
    bytes: "BLOB",
    index_tail: "",
    keyed: "WITHOUT ROWID",
};

const POSTGRES: Words = Words {
    row_id: "BIGINT PRIMARY KEY",
    name: "TEXT COLLATE \"C\"",
    bytes: "BYTEA",
    index_tail: ", id",
    keyed: "",
};

impl Words {
    fn of(manager: &SchemaManager<'_>) -> &'static Self {
        if is_postgres(manager) { &POSTGRES } else { &SQLITE }
    }
}

fn is_postgres(manager: &SchemaManager<'_>) -> bool {
    manager.get_database_backend() == DatabaseBackend::Postgres
}

async fn run(manager: &SchemaManager<'_>, statements: &[String]) -> Result<(), DbErr> {
    for statement in statements {
        manager.get_connection().execute_unprepared(statement).await?;
    }
    Ok(())
}
