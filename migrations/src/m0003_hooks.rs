//! Hooks: modules by their hash, versions, bindings and test cases; and the log of what administrators did.

use sea_orm_migration::prelude::*;

use crate::{Words, run};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0003_hooks"
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
        let tables = [
            "hook_modules",
            "hook_versions",
            "hook_bindings",
            "hook_tests",
            "audit",
            "counters",
        ];
        run(manager, &tables.map(|table| format!("DROP TABLE {table}"))).await
    }
}

/// Manifests, configurations and bindings are JSON texts: they are read whole, and gain fields over time.
fn tables(words: &Words) -> [String; 9] {
    let Words {
        name,
        bytes,
        keyed,
        row_id,
        ..
    } = words;
    [
        format!(
            "CREATE TABLE hook_modules (
                sha256 {bytes} PRIMARY KEY,
                module {bytes} NOT NULL,
                created_by TEXT NOT NULL,
                created_at BIGINT NOT NULL
            )"
        ),
        format!(
            "CREATE TABLE hook_versions (
                namespace {name} NOT NULL,
                hook {name} NOT NULL,
                version BIGINT NOT NULL,
                sha256 {bytes} NOT NULL,
                module_bytes BIGINT NOT NULL,
                exports TEXT NOT NULL,
                manifest TEXT NOT NULL,
                config TEXT NOT NULL,
                secrets TEXT NOT NULL,
                note TEXT,
                from_folder BOOLEAN NOT NULL,
                created_by TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                PRIMARY KEY (namespace, hook, version)
            ) {keyed}"
        ),
        // Whether a module is still in use is asked when a version goes.
        "CREATE INDEX hook_versions_module ON hook_versions (sha256)".to_owned(),
        format!(
            "CREATE TABLE hook_bindings (
                namespace {name} NOT NULL,
                id {name} NOT NULL,
                binding TEXT NOT NULL,
                PRIMARY KEY (namespace, id)
            ) {keyed}"
        ),
        format!(
            "CREATE TABLE hook_tests (
                namespace {name} NOT NULL,
                hook {name} NOT NULL,
                name {name} NOT NULL,
                test_case TEXT NOT NULL,
                PRIMARY KEY (namespace, hook, name)
            ) {keyed}"
        ),
        format!(
            "CREATE TABLE audit (
                id {row_id},
                at BIGINT NOT NULL,
                namespace {name} NOT NULL,
                actor TEXT NOT NULL,
                action TEXT NOT NULL,
                target TEXT NOT NULL,
                value_before TEXT,
                value_after TEXT
            )"
        ),
        "CREATE INDEX audit_namespace ON audit (namespace, id)".to_owned(),
        // `hooks` goes up with every change of a hook, so that other nodes see that there is one; `audit`
        // is the last id given out.
        format!("CREATE TABLE counters (name {name} PRIMARY KEY, value BIGINT NOT NULL) {keyed}"),
        "INSERT INTO counters (name, value) VALUES ('hooks', 0), ('audit', 0)".to_owned(),
    ]
}
