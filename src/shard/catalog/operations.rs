//! Long operations in the catalog: ordered, claimed by one node at a time, told how far they are, ended.
//!
//! Who claims one gets a fence, a number that goes up with each claim. Whatever is said of an operation
//! later is heard only under the newest fence, so a node that was taken for dead cannot speak for it again.

use sea_orm::{DatabaseTransaction, QueryResult, Value};
use serde::de::DeserializeOwned;

use super::Catalog;
use super::hooks::{column, name};
use crate::clock::Timestamp;
use crate::model::{Namespace, NodeId, OperationState, Outcome, Progress, Work};
use crate::shard::error::corrupt;
use crate::shard::{AuditRow, ShardError};

/// Operations of a namespace that may wait or run at once.
const OPEN_MAX: i64 = 16;
/// Ended operations that are kept of a namespace.
const ENDED_KEPT: i64 = 500;

const COLUMNS: &str = "id, namespace, work, dry_run, state, created_by, created_at, started_at, ended_at,
    total, looked, done, cancelling, error, outcome, fence";

/// An operation to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationOrder {
    /// In which namespace.
    pub namespace: Namespace,
    /// What it does.
    pub work: Work,
    /// It changes nothing, and tells what it would.
    pub dry_run: bool,
    /// Who ordered it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

impl OperationOrder {
    /// The work as JSON text, for the log of changes.
    pub fn text(&self) -> String {
        serde_json::json!({"work": self.work, "dry_run": self.dry_run}).to_string()
    }
}

/// An operation as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRow {
    /// Its number.
    pub id: u64,
    /// What was ordered.
    pub order: OperationOrder,
    /// How far it is.
    pub state: OperationState,
    /// When a node first began with it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How much it did.
    pub progress: Progress,
    /// Somebody asked for it to end.
    pub cancelling: bool,
    /// What went wrong.
    pub error: Option<String>,
    /// What it led to.
    pub outcome: Option<Outcome>,
}

/// An operation that this node is to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The operation.
    pub row: OperationRow,
    /// The right to speak for it.
    pub fence: u64,
}

/// What whoever works on an operation is told when it says how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Go on.
    GoOn,
    /// Somebody asked for it to end.
    Cancel,
    /// Another node has it now.
    Lost,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// One of the last states.
    pub state: OperationState,
    /// How much it did.
    pub progress: Progress,
    /// What went wrong.
    pub error: Option<String>,
    /// What it led to.
    pub outcome: Option<Outcome>,
}

impl Catalog {
    /// Stores an operation; none when its namespace has as many open ones as it may have.
    pub async fn order(
        &self,
        order: &OperationOrder,
        audit: &[AuditRow],
    ) -> Result<Option<OperationRow>, ShardError> {
        let transaction = self.database.begin_write().await?;
        // The counter's row is locked from here on: two orders cannot both take the last place.
        let id = self.next(&transaction, "operations").await?;
        let namespace = order.namespace.as_str();
        let sql = "SELECT COUNT(*) AS open FROM operations
            WHERE namespace = $1 AND state IN ('queued', 'running')";
        let open = match self.database.row(&transaction, sql, [namespace.into()]).await? {
            Some(row) => column::<i64>(&row, "open")?,
            None => 0,
        };
        if open >= OPEN_MAX {
            return Ok(None);
        }
        let sql = "INSERT INTO operations (id, namespace, work, dry_run, state, created_by, created_at,
            total, looked, done, cancelling, fence, alive_until)
            VALUES ($1, $2, $3, $4, 'queued', $5, $6, 0, 0, 0, FALSE, 0, 0)";
        let values = [
            id.into(),
            namespace.into(),
            text(&order.work)?.into(),
            order.dry_run.into(),
            order.created_by.as_str().into(),
            order.created_at.ms().into(),
        ];
        self.run(&transaction, sql, values).await?;
        let sql = "DELETE FROM operations WHERE namespace = $1 AND state NOT IN ('queued', 'running')
            AND id <= (SELECT id FROM operations WHERE namespace = $1
                AND state NOT IN ('queued', 'running') ORDER BY id DESC LIMIT 1 OFFSET $2)";
        self.run(&transaction, sql, [namespace.into(), ENDED_KEPT.into()])
            .await?;
        self.note(&transaction, audit).await?;
        self.database.commit(transaction).await?;
        Ok(Some(OperationRow {
            id: id as u64,
            order: order.clone(),
            state: OperationState::Queued,
            started_at: None,
            ended_at: None,
            progress: Progress::default(),
            cancelling: false,
            error: None,
            outcome: None,
        }))
    }

    /// An operation of a namespace.
    pub async fn operation(
        &self,
        namespace: &Namespace,
        id: u64,
    ) -> Result<Option<OperationRow>, ShardError> {
        let sql = format!("SELECT {COLUMNS} FROM operations WHERE namespace = $1 AND id = $2");
        let values = [namespace.as_str().into(), number(id)];
        let row = self.database.row(&self.database.reader, sql, values).await?;
        row.as_ref().map(decode).transpose()
    }

    /// Up to `limit` operations of a namespace, the newest first, those below `before` alone, and those in
    /// `state` alone where one is given.
    pub async fn operations(
        &self,
        namespace: &Namespace,
        state: Option<OperationState>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<OperationRow>, ShardError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM operations WHERE namespace = $1 AND id < $2 AND ($3 = '' OR state = $3)
                ORDER BY id DESC LIMIT $4"
        );
        let values = [
            namespace.as_str().into(),
            number(before.unwrap_or(u64::MAX)),
            state.map_or("", OperationState::as_str).into(),
            number(limit as u64),
        ];
        let rows = self.database.rows(&self.database.reader, sql, values).await?;
        rows.iter().map(decode).collect()
    }

    /// Ends an operation that waits, and asks for the end of one that runs; returns it as it is then. One that
    /// has ended stays as it is.
    pub async fn cancel_operation(
        &self,
        namespace: &Namespace,
        id: u64,
        now: Timestamp,
        audit: &[AuditRow],
    ) -> Result<Option<OperationRow>, ShardError> {
        let transaction = self.database.begin_write().await?;
        let sql = format!(
            "UPDATE operations SET cancelling = TRUE,
                ended_at = CASE WHEN state = 'queued' THEN $3 ELSE ended_at END,
                state = CASE WHEN state = 'queued' THEN 'cancelled' ELSE state END
            WHERE namespace = $1 AND id = $2 AND state IN ('queued', 'running') RETURNING {COLUMNS}"
        );
        let values = [namespace.as_str().into(), number(id), now.ms().into()];
        let Some(row) = self.database.row(&transaction, sql, values).await? else {
            drop(transaction);
            return self.operation(namespace, id).await;
        };
        let row = decode(&row)?;
        self.note(&transaction, audit).await?;
        self.database.commit(transaction).await?;
        Ok(Some(row))
    }

    /// Claims the first operation that waits, or whose node is silent since before `now`, for `node` until
    /// `alive_until`. One of a namespace runs at a time.
    pub async fn claim_operation(
        &self,
        node: NodeId,
        now: Timestamp,
        alive_until: Timestamp,
    ) -> Result<Option<Claimed>, ShardError> {
        let transaction = self.database.begin_write().await?;
        let sql = "SELECT id FROM operations o
            WHERE (state = 'queued' OR (state = 'running' AND alive_until < $1))
            AND NOT EXISTS (SELECT 1 FROM operations busy WHERE busy.namespace = o.namespace
                AND busy.state = 'running' AND busy.alive_until >= $1)
            ORDER BY id LIMIT 1";
        let Some(found) = self.database.row(&transaction, sql, [now.ms().into()]).await? else {
            return Ok(None);
        };
        // Another node may have been faster: then its row is no longer as it was.
        let sql = format!(
            "UPDATE operations SET state = 'running', node = $2, fence = fence + 1, alive_until = $4
            WHERE id = $1 AND (state = 'queued' OR (state = 'running' AND alive_until < $3))
            RETURNING {COLUMNS}"
        );
        let values = [
            column::<i64>(&found, "id")?.into(),
            node_number(node),
            now.ms().into(),
            alive_until.ms().into(),
        ];
        let Some(row) = self.database.row(&transaction, sql, values).await? else {
            return Ok(None);
        };
        let claimed = Claimed {
            fence: column::<i64>(&row, "fence")? as u64,
            row: decode(&row)?,
        };
        let sql = "UPDATE operations SET started_at = $2 WHERE id = $1 AND started_at IS NULL";
        self.run(&transaction, sql, [number(claimed.row.id), now.ms().into()])
            .await?;
        self.database.commit(transaction).await?;
        Ok(Some(claimed))
    }

    /// Says how far an operation is, and holds it until `alive_until`.
    pub async fn report_operation(
        &self,
        (id, fence): (u64, u64),
        progress: Progress,
        alive_until: Timestamp,
    ) -> Result<Told, ShardError> {
        let sql = "UPDATE operations SET total = $3, looked = $4, done = $5, alive_until = $6
            WHERE id = $1 AND fence = $2 AND state = 'running' RETURNING cancelling";
        let values = [
            number(id),
            number(fence),
            number(progress.total),
            number(progress.looked),
            number(progress.done),
            alive_until.ms().into(),
        ];
        match self.database.row(&self.database.writer, sql, values).await? {
            None => Ok(Told::Lost),
            Some(row) if column::<bool>(&row, "cancelling")? => Ok(Told::Cancel),
            Some(_) => Ok(Told::GoOn),
        }
    }

    /// Ends an operation, unless another node has it now; returns whether it did.
    pub async fn end_operation(
        &self,
        (id, fence): (u64, u64),
        ending: &Ending,
        now: Timestamp,
    ) -> Result<bool, ShardError> {
        let sql = "UPDATE operations SET state = $3, total = $4, looked = $5, done = $6, error = $7,
            outcome = $8, ended_at = $9 WHERE id = $1 AND fence = $2 AND state = 'running' RETURNING id";
        let outcome = ending.outcome.as_ref().map(text).transpose()?;
        let values = [
            number(id),
            number(fence),
            ending.state.as_str().into(),
            number(ending.progress.total),
            number(ending.progress.looked),
            number(ending.progress.done),
            ending.error.clone().into(),
            outcome.into(),
            now.ms().into(),
        ];
        let row = self.database.row(&self.database.writer, sql, values).await?;
        Ok(row.is_some())
    }

    /// Lets go of everything that `node` works on, so that any node may go on with it at once: it begins anew,
    /// or it goes away.
    pub async fn release_operations(&self, node: NodeId) -> Result<(), ShardError> {
        let transaction: DatabaseTransaction = self.database.begin_write().await?;
        let sql = "UPDATE operations SET alive_until = 0 WHERE node = $1 AND state = 'running'";
        self.run(&transaction, sql, [node_number(node)]).await?;
        self.database.commit(transaction).await
    }

    /// Forgets the operations of a namespace that have ended.
    pub async fn forget_operations(&self, namespace: &Namespace) -> Result<(), ShardError> {
        let transaction = self.database.begin_write().await?;
        let sql = "DELETE FROM operations WHERE namespace = $1 AND state NOT IN ('queued', 'running')";
        self.run(&transaction, sql, [namespace.as_str().into()]).await?;
        self.database.commit(transaction).await
    }
}

fn number(number: u64) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

fn node_number(node: NodeId) -> Value {
    i64::from(node.number()).into()
}

fn text(value: &impl serde::Serialize) -> Result<String, ShardError> {
    serde_json::to_string(value).map_err(|_| corrupt("an operation cannot be written as JSON"))
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, ShardError> {
    serde_json::from_str(text).map_err(|_| corrupt("an operation in the catalog is not readable"))
}

fn instant(row: &QueryResult, of: &str) -> Result<Option<Timestamp>, ShardError> {
    Ok(column::<Option<i64>>(row, of)?.map(Timestamp::from_ms))
}

fn decode(row: &QueryResult) -> Result<OperationRow, ShardError> {
    let count = |of: &str| Ok::<_, ShardError>(column::<i64>(row, of)? as u64);
    let state: String = column(row, "state")?;
    let outcome: Option<String> = column(row, "outcome")?;
    Ok(OperationRow {
        id: count("id")?,
        order: OperationOrder {
            namespace: name(row, "namespace")?,
            work: json(&column::<String>(row, "work")?)?,
            dry_run: column(row, "dry_run")?,
            created_by: column(row, "created_by")?,
            created_at: Timestamp::from_ms(column(row, "created_at")?),
        },
        state: OperationState::find(&state)
            .ok_or_else(|| corrupt("an operation in the catalog is in an unknown state"))?,
        started_at: instant(row, "started_at")?,
        ended_at: instant(row, "ended_at")?,
        progress: Progress {
            total: count("total")?,
            looked: count("looked")?,
            done: count("done")?,
        },
        cancelling: column(row, "cancelling")?,
        error: column(row, "error")?,
        outcome: outcome.as_deref().map(json).transpose()?,
    })
}
