//! Checkpoints: one transaction that makes the shard hold what the log says up to a position.

use std::sync::atomic::Ordering;

use hashbrown::HashSet;
use sea_orm::{ConnectionTrait, DatabaseTransaction};

use super::dialect::{KEYS_MAX, ROWS_MAX, Table};
use super::row::{Cells, DEDUP, ITEMS, PLAIN_WIDTH, encode, encode_key, width};
use super::store::{SeaShard, of_topic};
use super::{Checkpoint, DedupRow, Purge, ShardError};
use crate::model::{ItemId, NodeId, QueuedItem, TopicKey};
use crate::wal::Lsn;

/// Most payload bytes in one insert: what a statement keeps in memory beside the items themselves.
const STATEMENT_BYTES_MAX: usize = 16 << 20;

impl SeaShard {
    /// Applies `checkpoint` and commits it.
    pub(super) async fn write(&self, checkpoint: &Checkpoint) -> Result<(), ShardError> {
        let transaction = self.database.begin_write().await?;
        // First, for its row lock: a checkpoint that was given up on while its commit was under way is through,
        // one way or the other, before anything of this one is written.
        let (node, lsn) = checkpoint.progress;
        self.store_progress(&transaction, node, lsn).await?;
        for purge in &checkpoint.purges {
            self.purge(&transaction, purge).await?;
        }
        self.store_items(&transaction, &checkpoint.upserts).await?;
        self.delete(&transaction, &checkpoint.deletes).await?;
        self.store_keys(&transaction, &checkpoint.dedup).await?;
        self.database.commit(transaction).await
    }

    async fn purge(&self, transaction: &DatabaseTransaction, purge: &Purge) -> Result<(), ShardError> {
        let state = u8::from(purge.dead);
        let sql =
            format!("DELETE FROM items WHERE namespace = $1 AND topic = $2 AND state = {state} AND id <= $3");
        let [namespace, name] = of_topic(&purge.topic);
        let values = [namespace, name, purge.up_to.0.cast_signed().into()];
        self.database.patiently(transaction, &sql, values).await?;
        Ok(())
    }

    pub(super) async fn store_items(
        &self,
        transaction: &DatabaseTransaction,
        items: &[(TopicKey, QueuedItem)],
    ) -> Result<(), ShardError> {
        let overtaken = overtaken(items.iter().map(|(_, queued)| queued.item.id));
        let (mut plain, mut full) = (vec![], vec![]);
        let mut bytes = 0;
        for (n, (topic, queued)) in items.iter().enumerate() {
            if overtaken.contains(&n) {
                continue;
            }
            let width = width(queued);
            let cells = if width == PLAIN_WIDTH {
                &mut plain
            } else {
                &mut full
            };
            encode(topic, queued, cells);
            bytes += queued.item.payload.len();
            if cells.len() == ROWS_MAX * width {
                let cells = std::mem::take(cells);
                self.upsert(transaction, &ITEMS, width, cells).await?;
                bytes = 0;
            } else if bytes >= STATEMENT_BYTES_MAX {
                for (width, cells) in [(PLAIN_WIDTH, &mut plain), (ITEMS.columns.len(), &mut full)] {
                    let cells = std::mem::take(cells);
                    self.upsert(transaction, &ITEMS, width, cells).await?;
                }
                bytes = 0;
            }
        }
        self.upsert(transaction, &ITEMS, PLAIN_WIDTH, plain).await?;
        self.upsert(transaction, &ITEMS, ITEMS.columns.len(), full).await
    }

    pub(super) async fn store_keys(
        &self,
        transaction: &DatabaseTransaction,
        keys: &[DedupRow],
    ) -> Result<(), ShardError> {
        let overtaken = overtaken(keys.iter().map(|key| (&key.topic, key.key_hash)));
        let mut cells = vec![];
        for (n, key) in keys.iter().enumerate() {
            if !overtaken.contains(&n) {
                encode_key(key, &mut cells);
            }
            if cells.len() == ROWS_MAX * DEDUP.columns.len() {
                let cells = std::mem::take(&mut cells);
                self.upsert(transaction, &DEDUP, DEDUP.columns.len(), cells)
                    .await?;
            }
        }
        self.upsert(transaction, &DEDUP, DEDUP.columns.len(), cells).await
    }

    async fn upsert(
        &self,
        transaction: &DatabaseTransaction,
        table: &Table,
        width: usize,
        cells: Vec<sea_orm::Value>,
    ) -> Result<(), ShardError> {
        for statement in self.database.dialect.upserts(table, width, cells) {
            self.database.timed(transaction.execute_raw(statement)).await?;
        }
        Ok(())
    }

    async fn delete(&self, transaction: &DatabaseTransaction, ids: &[ItemId]) -> Result<(), ShardError> {
        let dialect = self.database.dialect;
        let sql = format!("DELETE FROM items WHERE {}", dialect.is_one_of("id", 1));
        for ids in ids.chunks(KEYS_MAX) {
            let statement = dialect.statement(&*sql, [dialect.ids(ids)]);
            self.database.timed(transaction.execute_raw(statement)).await?;
        }
        Ok(())
    }

    /// Notes how far the node's log is stored, unless somebody else is the node now.
    async fn store_progress(
        &self,
        transaction: &DatabaseTransaction,
        node: NodeId,
        lsn: Lsn,
    ) -> Result<(), ShardError> {
        let sql = "INSERT INTO progress (node, lsn, incarnation) VALUES ($1, $2, $3)
            ON CONFLICT (node) DO UPDATE SET lsn = excluded.lsn, updated_at = CURRENT_TIMESTAMP
            WHERE excluded.incarnation = 0 OR progress.incarnation = excluded.incarnation";
        let incarnation = self.incarnation.load(Ordering::Acquire);
        let values = [
            i64::from(node.number()).into(),
            lsn.0.cast_signed().into(),
            incarnation.cast_signed().into(),
        ];
        let statement = self.database.dialect.statement(sql, values);
        let done = self.database.timed(transaction.execute_raw(statement)).await?;
        match done.rows_affected() {
            0 => Err(ShardError::Fenced),
            _ => Ok(()),
        }
    }

    /// Makes `incarnation` the one whose checkpoints of `node` are stored; returns the node's progress. The
    /// row's lock waits for a checkpoint that is under way.
    pub(super) async fn fence(&self, node: NodeId, incarnation: u64) -> Result<Lsn, ShardError> {
        let sql = "INSERT INTO progress (node, lsn, incarnation) VALUES ($1, 0, $2)
            ON CONFLICT (node) DO UPDATE SET incarnation = excluded.incarnation RETURNING lsn";
        let values = [i64::from(node.number()).into(), incarnation.cast_signed().into()];
        let row = self.database.row(&self.database.writer, sql, values).await?;
        let lsn = row.map(|row| Cells::new(&row).narrow()).transpose()?;
        Ok(Lsn(lsn.unwrap_or_default()))
    }
}

/// The places of rows whose key comes again later: the last one counts, and PostgreSQL refuses a statement
/// that writes one row twice.
fn overtaken<K: Eq + std::hash::Hash>(
    keys: impl ExactSizeIterator<Item = K> + DoubleEndedIterator,
) -> HashSet<usize> {
    let mut seen = HashSet::with_capacity_and_hasher(keys.len(), foldhash::fast::RandomState::default());
    keys.enumerate()
        .rev()
        .filter_map(|(n, key)| (!seen.insert(key)).then_some(n))
        .collect()
}
