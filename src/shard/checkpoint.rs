//! Checkpoints: one transaction that makes the shard hold what the log says up to a position.

use hashbrown::HashSet;
use sea_orm::{ConnectionTrait, DatabaseTransaction, EntityTrait, sea_query};

use super::dialect::{KEYS_MAX, ROWS_MAX, Table};
use super::row::{DEDUP, ITEMS, PLAIN_WIDTH, encode, encode_key, width};
use super::store::{SeaShard, of_topic};
use super::{Checkpoint, DedupRow, Purge, ShardError, entity};
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

    async fn store_items(
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

    async fn store_keys(
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

    async fn store_progress(
        &self,
        transaction: &DatabaseTransaction,
        node: NodeId,
        lsn: Lsn,
    ) -> Result<(), ShardError> {
        let row = entity::progress::ActiveModel {
            node: sea_orm::Set(i64::from(node.number())),
            lsn: sea_orm::Set(lsn.0.cast_signed()),
        };
        let overwrite = sea_query::OnConflict::column(entity::progress::Column::Node)
            .update_column(entity::progress::Column::Lsn)
            .value("updated_at", sea_query::Expr::current_timestamp())
            .to_owned();
        let insert = entity::progress::Entity::insert(row).on_conflict(overwrite);
        self.database
            .timed(insert.exec_without_returning(transaction))
            .await?;
        Ok(())
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
