//! What administrators and tenants changed, and who did it.

use sea_orm::DatabaseTransaction;

use super::Catalog;
use super::hooks::column;
use crate::clock::Timestamp;
use crate::model::Namespace;
use crate::shard::ShardError;
use crate::shard::error::corrupt;

/// One change. It is written in the transaction that makes the change, where that is in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// When.
    pub at: Timestamp,
    /// Whose things changed.
    pub namespace: Namespace,
    /// Who did it.
    pub actor: String,
    /// What was done, such as `hook.activate`.
    pub action: &'static str,
    /// To what.
    pub target: String,
    /// What it was before, as JSON text.
    pub before: Option<String>,
    /// What it is now, as JSON text.
    pub after: Option<String>,
}

/// A change as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Goes up with each change.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub target: String,
    /// What it was before, as JSON text.
    pub before: Option<String>,
    /// What it is now, as JSON text.
    pub after: Option<String>,
}

impl Catalog {
    /// Up to `limit` changes of `namespace` with an id above `after`, in the order of their ids.
    pub async fn audit(
        &self,
        namespace: &Namespace,
        after: u64,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, ShardError> {
        let sql = "SELECT id, at, actor, action, target, value_before, value_after FROM audit
            WHERE namespace = $1 AND id > $2 ORDER BY id LIMIT $3";
        let values = [
            namespace.as_str().into(),
            i64::try_from(after).unwrap_or(i64::MAX).into(),
            i64::try_from(limit).unwrap_or(i64::MAX).into(),
        ];
        let rows = self.database.rows(&self.database.reader, sql, values).await?;
        rows.iter()
            .map(|row| {
                Ok(AuditRecord {
                    id: column::<i64>(row, "id")? as u64,
                    at: Timestamp::from_ms(column(row, "at")?),
                    actor: column(row, "actor")?,
                    action: column(row, "action")?,
                    target: column(row, "target")?,
                    before: column(row, "value_before")?,
                    after: column(row, "value_after")?,
                })
            })
            .collect()
    }

    /// Writes `row` within `transaction`. Ids are given out under a row's lock, so that whoever reads up to
    /// an id has seen everything below it.
    pub(super) async fn note(
        &self,
        transaction: &DatabaseTransaction,
        row: &AuditRow,
    ) -> Result<(), ShardError> {
        let sql = "UPDATE counters SET value = value + 1 WHERE name = 'audit' RETURNING value";
        let Some(id) = self.database.row(transaction, sql, []).await? else {
            return Err(corrupt("the catalog has lost count of its changes"));
        };
        let sql = "INSERT INTO audit (id, at, namespace, actor, action, target, value_before, value_after)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let values = [
            column::<i64>(&id, "value")?.into(),
            row.at.ms().into(),
            row.namespace.as_str().into(),
            row.actor.as_str().into(),
            row.action.into(),
            row.target.as_str().into(),
            row.before.clone().into(),
            row.after.clone().into(),
        ];
        self.run(transaction, sql, values).await?;
        Ok(())
    }
}
