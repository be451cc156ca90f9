//! A topic's rows as a whole: read from one shard, stored in another, removed from where they were.

use sea_orm::ConnectionTrait;

use super::row::{Cells, key_of};
use super::store::{SeaShard, limit_of, of_topic};
use super::{DedupRow, ShardError};
use crate::model::{QueuedItem, TopicKey};

/// Most rows that one statement removes.
const STEP: i64 = 10_000;

impl SeaShard {
    /// Up to `limit` remembered keys of `topic` after `after`, by their hash.
    pub(super) async fn read_keys(
        &self,
        topic: &TopicKey,
        after: Option<u128>,
        limit: usize,
    ) -> Result<Vec<DedupRow>, ShardError> {
        let sql = "SELECT key_hash, body_hash, id, expires_at FROM dedup
            WHERE namespace = $1 AND topic = $2 AND key_hash > $3 ORDER BY key_hash LIMIT $4";
        let [namespace, name] = of_topic(topic);
        // Shorter than every hash, so that it comes before the first.
        let after = after.map_or_else(Vec::new, |hash| hash.to_be_bytes().to_vec());
        let values = [namespace, name, after.into(), limit_of(limit)];
        let rows = self.database.rows(&self.database.reader, sql, values).await?;
        rows.iter()
            .map(|row| key_of(topic, &mut Cells::new(row)))
            .collect()
    }

    /// Stores items and keys as they stand, whatever is there under their names.
    pub(super) async fn copy_in(
        &self,
        items: &[(TopicKey, QueuedItem)],
        keys: &[DedupRow],
    ) -> Result<(), ShardError> {
        let transaction = self.database.begin_write().await?;
        self.store_items(&transaction, items).await?;
        self.store_keys(&transaction, keys).await?;
        self.database.commit(transaction).await
    }

    /// Removes all of a topic, a step at a time.
    pub(super) async fn clear_topic(&self, topic: &TopicKey) -> Result<(), ShardError> {
        let steps = [
            "DELETE FROM items WHERE id IN
                (SELECT id FROM items WHERE namespace = $1 AND topic = $2 LIMIT $3)",
            "DELETE FROM dedup WHERE namespace = $1 AND topic = $2 AND key_hash IN
                (SELECT key_hash FROM dedup WHERE namespace = $1 AND topic = $2 LIMIT $3)",
        ];
        for sql in steps {
            loop {
                let [namespace, name] = of_topic(topic);
                let statement = self
                    .database
                    .dialect
                    .statement(sql, [namespace, name, STEP.into()]);
                let removed = self
                    .database
                    .timed(self.database.writer.execute_raw(statement))
                    .await?;
                if removed.rows_affected() < STEP.unsigned_abs() {
                    break;
                }
            }
        }
        Ok(())
    }
}
