//! Hooks in the catalog: read whole but for the modules and test cases, and changed one step at a time.

use std::sync::Arc;

use sea_orm::{DatabaseTransaction, QueryResult, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Catalog;
use crate::clock::Timestamp;
use crate::model::{Binding, Digest, HookConfig, HookName, Manifest, Namespace, Quarantine, Side};
use crate::shard::dialect::Dialect;
use crate::shard::error::corrupt;
use crate::shard::{AuditRow, ShardError};

/// A version of a hook as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookVersionRow {
    /// Whose it is.
    pub namespace: Namespace,
    /// The hook.
    pub hook: HookName,
    /// Its number, from 1.
    pub version: u32,
    /// The hash of its module.
    pub digest: Digest,
    /// Bytes of its module.
    pub module_bytes: u64,
    /// The sides it exports.
    pub exports: Vec<Side>,
    /// How it wants to be run.
    pub manifest: Manifest,
    /// Its configuration.
    pub config: Arc<HookConfig>,
    /// Its secrets.
    pub secrets: Arc<HookConfig>,
    /// A word on why.
    pub note: Option<String>,
    /// Whether it came from the plugins folder.
    pub from_folder: bool,
    /// Who added it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// One step of a change of hooks.
#[derive(Debug, Clone)]
pub enum HookChange {
    /// A version is added, and its module unless it is there. Its number never comes again, not even when it
    /// and its hook are deleted.
    AddVersion(HookVersionRow, Arc<[u8]>),
    /// A version goes, and its module when no other version has it.
    DeleteVersion(Namespace, HookName, u32, Digest),
    /// A binding is stored, whether it is new or not.
    PutBinding(Namespace, Binding),
    /// A binding goes.
    DeleteBinding(Namespace, HookName),
    /// A test case of a hook is stored, whether it is new or not.
    PutTest {
        /// Whose.
        namespace: Namespace,
        /// The hook.
        hook: HookName,
        /// Its name.
        name: HookName,
        /// JSON text.
        case: String,
    },
    /// A test case of a hook goes.
    DeleteTest(Namespace, HookName, HookName),
    /// A version is not to be run any more, or may be again.
    Quarantine {
        /// Whose.
        namespace: Namespace,
        /// The hook.
        hook: HookName,
        /// The version.
        version: u32,
        /// Why; none when it may be run.
        quarantine: Option<Quarantine>,
    },
}

/// All hooks of all namespaces, without modules and test cases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookContents {
    /// Goes up with every change.
    pub generation: u64,
    /// Every version.
    pub versions: Vec<HookVersionRow>,
    /// Every binding.
    pub bindings: Vec<(Namespace, Binding)>,
    /// The names of all test cases.
    pub tests: Vec<(Namespace, HookName, HookName)>,
    /// The greatest number that a version of each hook ever had, of deleted hooks, too.
    pub last_numbers: Vec<(Namespace, HookName, u32)>,
    /// Versions that are not run.
    pub quarantines: Vec<(Namespace, HookName, u32, Quarantine)>,
}

impl Catalog {
    /// Whether other nodes may use this catalog, too.
    pub fn is_shared(&self) -> bool {
        self.database.dialect == Dialect::Postgres
    }

    /// The number of the last change of hooks.
    pub async fn hooks_generation(&self) -> Result<u64, ShardError> {
        let sql = "SELECT value FROM counters WHERE name = 'hooks'";
        match self.database.row(&self.database.reader, sql, []).await? {
            Some(row) => Ok(column::<i64>(&row, "value")? as u64),
            None => Err(corrupt("the catalog has lost count of its changes")),
        }
    }

    /// Everything about hooks, as of one instant.
    pub async fn hooks(&self) -> Result<HookContents, ShardError> {
        let read = self.database.begin_read().await?;
        let rows = async |sql: &str| self.database.rows(&read, sql, []).await;
        let counters = rows("SELECT value FROM counters WHERE name = 'hooks'").await?;
        let generation = match counters.first() {
            Some(row) => column::<i64>(row, "value")? as u64,
            None => return Err(corrupt("the catalog has lost count of its changes")),
        };
        let versions = rows(
            "SELECT namespace, hook, version, sha256, module_bytes, exports, manifest, config, secrets, note,
                from_folder, created_by, created_at FROM hook_versions ORDER BY namespace, hook, version",
        );
        let versions = versions
            .await?
            .iter()
            .map(decode_version)
            .collect::<Result<_, _>>()?;
        let bindings = rows("SELECT namespace, binding FROM hook_bindings ORDER BY namespace, id").await?;
        let bindings = bindings
            .iter()
            .map(|row| Ok((name(row, "namespace")?, json(row, "binding")?)))
            .collect::<Result<_, ShardError>>()?;
        let tests =
            rows("SELECT namespace, hook, name FROM hook_tests ORDER BY namespace, hook, name").await?;
        let tests = tests
            .iter()
            .map(|row| Ok((name(row, "namespace")?, name(row, "hook")?, name(row, "name")?)))
            .collect::<Result<_, ShardError>>()?;
        let numbers = rows("SELECT namespace, hook, last_version FROM hook_numbers").await?;
        let last_numbers = numbers
            .iter()
            .map(|row| {
                Ok((
                    name(row, "namespace")?,
                    name(row, "hook")?,
                    number(row, "last_version")?,
                ))
            })
            .collect::<Result<_, ShardError>>()?;
        let quarantines = rows("SELECT namespace, hook, version, quarantine FROM hook_quarantines").await?;
        let quarantines = quarantines
            .iter()
            .map(|row| {
                Ok((
                    name(row, "namespace")?,
                    name(row, "hook")?,
                    number(row, "version")?,
                    json(row, "quarantine")?,
                ))
            })
            .collect::<Result<_, ShardError>>()?;
        self.database.commit(read).await?;
        Ok(HookContents {
            generation,
            versions,
            bindings,
            tests,
            last_numbers,
            quarantines,
        })
    }

    /// Applies `changes` in order and notes them, in one transaction, if `generation` is still the number of
    /// the last change; then it goes up by one. False when another node was faster: nothing is changed.
    pub async fn change_hooks(
        &self,
        generation: u64,
        changes: &[HookChange],
        audit: &[AuditRow],
    ) -> Result<bool, ShardError> {
        let transaction = self.database.begin_write().await?;
        // The row's lock is what makes changes of several nodes follow each other.
        let sql = "UPDATE counters SET value = value + 1 WHERE name = 'hooks' AND value = $1";
        let moved = self.run(&transaction, sql, [(generation as i64).into()]).await? == 0;
        if moved {
            return Ok(false);
        }
        for change in changes {
            self.apply(&transaction, change).await?;
        }
        self.note(&transaction, audit).await?;
        self.database.commit(transaction).await?;
        Ok(true)
    }

    /// A module by its hash.
    pub async fn module(&self, digest: Digest) -> Result<Option<Vec<u8>>, ShardError> {
        let sql = "SELECT module FROM hook_modules WHERE sha256 = $1";
        let row = self
            .database
            .row(&self.database.reader, sql, [bytes(digest)])
            .await?;
        row.map(|row| column(&row, "module")).transpose()
    }

    /// The test cases of a hook, by name, as JSON texts.
    pub async fn hook_tests(
        &self,
        namespace: &Namespace,
        hook: &HookName,
    ) -> Result<Vec<(HookName, String)>, ShardError> {
        let sql = "SELECT name, test_case FROM hook_tests WHERE namespace = $1 AND hook = $2 ORDER BY name";
        let values = [namespace.as_str().into(), hook.as_str().into()];
        let rows = self.database.rows(&self.database.reader, sql, values).await?;
        rows.iter()
            .map(|row| Ok((name(row, "name")?, column(row, "test_case")?)))
            .collect()
    }

    pub(super) async fn run(
        &self,
        transaction: &DatabaseTransaction,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<u64, ShardError> {
        use sea_orm::ConnectionTrait;
        let statement = self.database.dialect.statement(sql, values);
        let done = self.database.timed(transaction.execute_raw(statement)).await?;
        Ok(done.rows_affected())
    }

    async fn apply(&self, transaction: &DatabaseTransaction, change: &HookChange) -> Result<(), ShardError> {
        match change {
            HookChange::AddVersion(row, module) => self.add_version(transaction, row, module).await?,
            HookChange::DeleteVersion(namespace, hook, version, digest) => {
                let sql = "DELETE FROM hook_versions WHERE namespace = $1 AND hook = $2 AND version = $3";
                let values = version_key(namespace, hook, *version);
                self.run(transaction, sql, values.clone()).await?;
                self.run(transaction, RELEASE, values).await?;
                let sql = "DELETE FROM hook_modules WHERE sha256 = $1
                    AND NOT EXISTS (SELECT 1 FROM hook_versions WHERE sha256 = $1)";
                self.run(transaction, sql, [bytes(*digest)]).await?;
            }
            HookChange::PutBinding(namespace, binding) => {
                let sql = "INSERT INTO hook_bindings (namespace, id, binding) VALUES ($1, $2, $3)
                    ON CONFLICT (namespace, id) DO UPDATE SET binding = excluded.binding";
                let values = [
                    namespace.as_str().into(),
                    binding.id.as_str().into(),
                    text(binding)?,
                ];
                self.run(transaction, sql, values).await?;
            }
            HookChange::DeleteBinding(namespace, id) => {
                let sql = "DELETE FROM hook_bindings WHERE namespace = $1 AND id = $2";
                let values = [namespace.as_str().into(), id.as_str().into()];
                self.run(transaction, sql, values).await?;
            }
            HookChange::PutTest {
                namespace,
                hook,
                name,
                case,
            } => {
                let sql = "INSERT INTO hook_tests (namespace, hook, name, test_case) VALUES ($1, $2, $3, $4)
                    ON CONFLICT (namespace, hook, name) DO UPDATE SET test_case = excluded.test_case";
                let values = [namespace.as_str(), hook.as_str(), name.as_str(), case];
                self.run(transaction, sql, values.map(Value::from)).await?;
            }
            HookChange::DeleteTest(namespace, hook, name) => {
                let sql = "DELETE FROM hook_tests WHERE namespace = $1 AND hook = $2 AND name = $3";
                let values = [namespace.as_str(), hook.as_str(), name.as_str()];
                self.run(transaction, sql, values.map(Value::from)).await?;
            }
            HookChange::Quarantine {
                namespace,
                hook,
                version,
                quarantine: None,
            } => {
                let values = version_key(namespace, hook, *version);
                self.run(transaction, RELEASE, values).await?;
            }
            HookChange::Quarantine {
                namespace,
                hook,
                version,
                quarantine: Some(quarantine),
            } => {
                let sql = "INSERT INTO hook_quarantines (namespace, hook, version, quarantine)
                    VALUES ($1, $2, $3, $4)
                    ON CONFLICT (namespace, hook, version) DO UPDATE SET quarantine = excluded.quarantine";
                let [namespace, hook, version] = version_key(namespace, hook, *version);
                let values = [namespace, hook, version, text(quarantine)?];
                self.run(transaction, sql, values).await?;
            }
        }
        Ok(())
    }

    async fn add_version(
        &self,
        transaction: &DatabaseTransaction,
        row: &HookVersionRow,
        module: &[u8],
    ) -> Result<(), ShardError> {
        let sql = "INSERT INTO hook_modules (sha256, module, created_by, created_at)
            VALUES ($1, $2, $3, $4) ON CONFLICT (sha256) DO NOTHING";
        let values = [
            bytes(row.digest),
            module.to_vec().into(),
            row.created_by.as_str().into(),
            row.created_at.ms().into(),
        ];
        self.run(transaction, sql, values).await?;
        let sql = "INSERT INTO hook_versions (namespace, hook, version, sha256, module_bytes, exports,
            manifest, config, secrets, note, from_folder, created_by, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        let values = [
            row.namespace.as_str().into(),
            row.hook.as_str().into(),
            i64::from(row.version).into(),
            bytes(row.digest),
            (row.module_bytes as i64).into(),
            text(&row.exports)?,
            text(&row.manifest)?,
            text(&*row.config)?,
            text(&*row.secrets)?,
            row.note.clone().into(),
            row.from_folder.into(),
            row.created_by.as_str().into(),
            row.created_at.ms().into(),
        ];
        self.run(transaction, sql, values).await?;
        let sql = "INSERT INTO hook_numbers (namespace, hook, last_version) VALUES ($1, $2, $3)
            ON CONFLICT (namespace, hook) DO UPDATE SET last_version = excluded.last_version
            WHERE hook_numbers.last_version < excluded.last_version";
        let values = [
            row.namespace.as_str().into(),
            row.hook.as_str().into(),
            i64::from(row.version).into(),
        ];
        self.run(transaction, sql, values).await?;
        Ok(())
    }
}

/// Lets a version run again.
const RELEASE: &str = "DELETE FROM hook_quarantines WHERE namespace = $1 AND hook = $2 AND version = $3";

fn version_key(namespace: &Namespace, hook: &HookName, version: u32) -> [Value; 3] {
    [
        namespace.as_str().into(),
        hook.as_str().into(),
        i64::from(version).into(),
    ]
}

fn decode_version(row: &QueryResult) -> Result<HookVersionRow, ShardError> {
    let digest: Vec<u8> = column(row, "sha256")?;
    let digest = digest
        .try_into()
        .map_err(|_| corrupt("a module's hash has the wrong length"))?;
    Ok(HookVersionRow {
        namespace: name(row, "namespace")?,
        hook: name(row, "hook")?,
        version: number(row, "version")?,
        digest: Digest(digest),
        module_bytes: column::<i64>(row, "module_bytes")? as u64,
        exports: json(row, "exports")?,
        manifest: json(row, "manifest")?,
        config: Arc::new(json(row, "config")?),
        secrets: Arc::new(json(row, "secrets")?),
        note: column(row, "note")?,
        from_folder: column(row, "from_folder")?,
        created_by: column(row, "created_by")?,
        created_at: Timestamp::from_ms(column(row, "created_at")?),
    })
}

fn number(row: &QueryResult, of: &str) -> Result<u32, ShardError> {
    u32::try_from(column::<i64>(row, of)?).map_err(|_| corrupt("a hook's version is out of range"))
}

fn bytes(digest: Digest) -> Value {
    digest.0.to_vec().into()
}

fn text(value: &impl Serialize) -> Result<Value, ShardError> {
    let text = serde_json::to_string(value).map_err(|_| corrupt("a hook cannot be written as JSON"))?;
    Ok(text.into())
}

pub(super) fn column<T: sea_orm::TryGetable>(row: &QueryResult, of: &str) -> Result<T, ShardError> {
    row.try_get("", of).map_err(ShardError::from)
}

pub(super) fn name<T: std::str::FromStr>(row: &QueryResult, of: &str) -> Result<T, ShardError> {
    let text: String = column(row, of)?;
    text.parse()
        .map_err(|_| corrupt(format!("a hook's {of} in the catalog is an impossible name")))
}

fn json<T: DeserializeOwned>(row: &QueryResult, of: &str) -> Result<T, ShardError> {
    let text: String = column(row, of)?;
    serde_json::from_str(&text).map_err(|_| corrupt(format!("a hook's {of} in the catalog is not readable")))
}
