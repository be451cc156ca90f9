//! What administrators and tenants changed, and who did it.

use std::collections::BTreeSet;

use sea_orm::{DatabaseTransaction, Value};

use super::Catalog;
use super::hooks::column;
use crate::clock::Timestamp;
use crate::model::Namespace;
use crate::shard::ShardError;
use crate::shard::error::corrupt;

/// Changes that are kept of each namespace, and of the node as a whole: the oldest go first, so that no
/// tenant pushes out what another one did.
const KEPT: u64 = 10_000;

/// One change. It is written in the transaction that makes the change, where that is in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// When.
    pub at: Timestamp,
    /// Whose things changed; none for the node's own.
    pub namespace: Option<Namespace>,
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
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// The address it came from.
    pub peer: Option<String>,
}

/// A change as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Goes up with each change.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// Whose things changed; none for the node's own.
    pub namespace: Option<Namespace>,
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
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// The address it came from.
    pub peer: Option<String>,
}

/// Which changes, and in which order; every member that is given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only of this namespace; of all of them, and of the node, when absent.
    pub namespace: Option<Namespace>,
    /// Only those that come after the one numbered so, in the order asked for.
    pub after: Option<u64>,
    /// The newest first.
    pub newest_first: bool,
    /// Only by this actor.
    pub actor: Option<String>,
    /// Only this action, or those that begin with it when it ends with a dot.
    pub action: Option<String>,
    /// Only to this.
    pub target: Option<String>,
    /// Only at or after this instant.
    pub since: Option<Timestamp>,
    /// Only before this instant.
    pub until: Option<Timestamp>,
    /// At most this many.
    pub limit: usize,
}

/// The text of a query that grows by conditions, and its values.
struct Conditions {
    text: String,
    values: Vec<Value>,
}

impl Conditions {
    /// Adds `condition`, in which `?` stands for `value`.
    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        let place = format!("${}", self.values.len());
        let word = if self.values.len() == 1 {
            " WHERE "
        } else {
            " AND "
        };
        self.text.push_str(word);
        self.text.push_str(&condition.replace('?', &place));
    }
}

impl Catalog {
    /// The changes that `query` asks for.
    pub async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, ShardError> {
        let mut sql = Conditions {
            text:
                "SELECT id, at, namespace, actor, action, target, value_before, value_after, request_id, peer
                FROM audit"
                    .to_owned(),
            values: Vec::new(),
        };
        if let Some(namespace) = &query.namespace {
            sql.and("namespace = ?", namespace.as_str());
        }
        if let Some(after) = query.after {
            let condition = if query.newest_first { "id < ?" } else { "id > ?" };
            sql.and(condition, i64::try_from(after).unwrap_or(i64::MAX));
        }
        if let Some(actor) = &query.actor {
            sql.and("actor = ?", actor.as_str());
        }
        match &query.action {
            Some(prefix) if prefix.ends_with('.') => {
                // A prefix, compared as text: no character of it means anything.
                sql.and(
                    &format!("substr(action, 1, {}) = ?", prefix.chars().count()),
                    prefix.as_str(),
                );
            }
            Some(action) => sql.and("action = ?", action.as_str()),
            None => {}
        }
        if let Some(target) = &query.target {
            sql.and("target = ?", target.as_str());
        }
        if let Some(since) = query.since {
            sql.and("at >= ?", since.ms());
        }
        if let Some(until) = query.until {
            sql.and("at < ?", until.ms());
        }
        let order = if query.newest_first { "DESC" } else { "ASC" };
        let Conditions { mut text, mut values } = sql;
        values.push(i64::try_from(query.limit).unwrap_or(i64::MAX).into());
        text.push_str(&format!(" ORDER BY id {order} LIMIT ${}", values.len()));
        let rows = self.database.rows(&self.database.reader, text, values).await?;
        rows.iter()
            .map(|row| {
                let namespace: String = column(row, "namespace")?;
                let impossible = |_| corrupt("the log of changes has an impossible name");
                Ok(AuditRecord {
                    id: column::<i64>(row, "id")? as u64,
                    at: Timestamp::from_ms(column(row, "at")?),
                    namespace: match namespace.as_str() {
                        "" => None,
                        name => Some(name.parse().map_err(impossible)?),
                    },
                    actor: column(row, "actor")?,
                    action: column(row, "action")?,
                    target: column(row, "target")?,
                    before: column(row, "value_before")?,
                    after: column(row, "value_after")?,
                    request_id: column(row, "request_id")?,
                    peer: column(row, "peer")?,
                })
            })
            .collect()
    }

    /// Writes `rows`, of changes that are made elsewhere.
    pub async fn record(&self, rows: &[AuditRow]) -> Result<(), ShardError> {
        let transaction = self.database.begin_write().await?;
        self.note(&transaction, rows).await?;
        self.database.commit(transaction).await
    }

    /// Writes `rows` within `transaction` and drops what is too old. Ids are given out under a row's lock, so
    /// that whoever reads up to an id has seen everything below it.
    pub(super) async fn note(
        &self,
        transaction: &DatabaseTransaction,
        rows: &[AuditRow],
    ) -> Result<(), ShardError> {
        let mut touched = BTreeSet::new();
        for row in rows {
            let id = self.next(transaction, "audit").await?;
            let namespace = row.namespace.as_ref().map_or("", Namespace::as_str);
            let sql = "INSERT INTO audit
                (id, at, namespace, actor, action, target, value_before, value_after, request_id, peer)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
            let values = [
                id.into(),
                row.at.ms().into(),
                namespace.into(),
                row.actor.as_str().into(),
                row.action.into(),
                row.target.as_str().into(),
                row.before.clone().into(),
                row.after.clone().into(),
                row.request_id.clone().into(),
                row.peer.clone().into(),
            ];
            self.run(transaction, sql, values).await?;
            touched.insert(namespace);
        }
        for namespace in touched {
            let sql = "DELETE FROM audit WHERE namespace = $1 AND id <= (SELECT id FROM audit
                WHERE namespace = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)";
            let values = [namespace.into(), (KEPT as i64).into()];
            self.run(transaction, sql, values).await?;
        }
        Ok(())
    }

    /// The next number of `counter`, given out under its row's lock.
    pub(super) async fn next(
        &self,
        transaction: &DatabaseTransaction,
        counter: &str,
    ) -> Result<i64, ShardError> {
        let sql = "UPDATE counters SET value = value + 1 WHERE name = $1 RETURNING value";
        match self.database.row(transaction, sql, [counter.into()]).await? {
            Some(row) => column(&row, "value"),
            None => Err(corrupt("the catalog has lost count of its changes")),
        }
    }
}
