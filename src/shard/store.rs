//! One shard on SQLite or PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use sea_orm::{EntityTrait, Value};
use secrecy::SecretString;

use super::catalog::Catalog;
use super::connection::{Database, ShardOptions};
use super::dialect::KEYS_MAX;
use super::error::corrupt;
use super::row::{Cells, ITEM_FIELDS, decode, decode_with_topic, fields_with_topic, key_of};
use super::{Checkpoint, DedupRow, PageOf, Shard, ShardError, StoredCounts, entity};
use crate::clock::Timestamp;
use crate::model::{ITEM_BYTES, ItemId, NodeId, OrderKey, QueuedItem, TopicKey};
use crate::wal::Lsn;

/// Items of a topic that are looked at for what they take: some milliseconds' worth.
const MEASURED_ITEMS: i64 = 5_000;

/// The shard behind one address in `DATABASE_URLS`.
#[derive(Debug, Clone)]
pub struct SeaShard {
    pub(super) database: Database,
    /// Who makes checkpoints here; 0 for anybody.
    pub(super) incarnation: Arc<AtomicU64>,
}

impl SeaShard {
    /// Connects to `url` and brings its schema up to date: `sqlite://path?mode=rwc`, or `postgres://…`
    /// with an optional parameter `schema`, which is created when it is missing.
    ///
    /// Fails with [`ShardError::Address`] when the address itself is wrong, [`ShardError::Unavailable`]
    /// when nothing usable answers there, and [`ShardError::Corrupt`] when a newer version was there.
    pub async fn open(url: &SecretString, options: &ShardOptions) -> Result<Self, ShardError> {
        let database = Database::open(url, options).await?;
        Ok(Self {
            database,
            incarnation: Arc::default(),
        })
    }

    /// The catalog in this shard's database; it is used in the first shard only.
    pub fn catalog(&self) -> Catalog {
        Catalog::new(self.database.clone())
    }
}

/// The values `$1` and `$2` that every question about one topic begins with.
pub(super) fn of_topic(topic: &TopicKey) -> [Value; 2] {
    [topic.namespace().as_str().into(), topic.topic().as_str().into()]
}

/// A limit as a value; nobody asks for more rows than 63 bits count.
pub(super) fn limit_of(limit: usize) -> Value {
    i64::try_from(limit).unwrap_or(i64::MAX).into()
}

#[async_trait]
impl Shard for SeaShard {
    async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), ShardError> {
        self.write(checkpoint).await
    }

    async fn progress(&self, node: NodeId) -> Result<Lsn, ShardError> {
        let find = entity::progress::Entity::find_by_id(i64::from(node.number()));
        match self.database.timed(find.one(&self.database.reader)).await? {
            Some(row) => Ok(Lsn(
                u64::try_from(row.lsn).map_err(|_| corrupt("a log position is negative"))?
            )),
            None => Ok(Lsn(0)),
        }
    }

    async fn highest_id(&self) -> Result<ItemId, ShardError> {
        let sql = "SELECT COALESCE(MAX(id), 0) FROM items";
        match self.database.row(&self.database.reader, sql, []).await? {
            Some(row) => Cells::new(&row).id(),
            None => Ok(ItemId(0)),
        }
    }

    async fn counts(&self, now: Timestamp) -> Result<Vec<StoredCounts>, ShardError> {
        // The counts are read from two indexes, without touching a row. The casts are for PostgreSQL, which
        // sums 64-bit numbers into decimals.
        let sql = "SELECT namespace, topic, CAST(SUM(due_count) AS BIGINT),
                CAST(SUM(later_count) AS BIGINT), CAST(SUM(dead_count) AS BIGINT)
            FROM (
                SELECT namespace, topic, COUNT(CASE WHEN due <= $1 THEN 1 END) AS due_count,
                    COUNT(CASE WHEN due > $1 THEN 1 END) AS later_count, 0 AS dead_count
                FROM items WHERE state = 0 GROUP BY namespace, topic
                UNION ALL
                SELECT namespace, topic, 0, 0, COUNT(*) FROM items WHERE state = 1 GROUP BY namespace, topic
            ) AS counted GROUP BY namespace, topic";
        let rows = self.database.rows_patiently(sql, [now.ms().into()]).await?;
        rows.iter()
            .map(|row| {
                let mut cells = Cells::new(row);
                Ok(StoredCounts {
                    topic: cells.topic()?,
                    due: cells.narrow()?,
                    later: cells.narrow()?,
                    dead: cells.narrow()?,
                })
            })
            .collect()
    }

    async fn item_bytes(&self, topic: &TopicKey) -> Result<u64, ShardError> {
        // The cast is for PostgreSQL, which averages whole numbers into decimals.
        let sql = "SELECT CAST(COALESCE(AVG($3 + OCTET_LENGTH(payload) + COALESCE(OCTET_LENGTH(headers), 0)), 0) AS BIGINT)
            FROM (SELECT payload, headers FROM items WHERE namespace = $1 AND topic = $2 LIMIT $4) AS some_items";
        let [namespace, name] = of_topic(topic);
        let values = [
            namespace,
            name,
            ITEM_BYTES.cast_signed().into(),
            MEASURED_ITEMS.into(),
        ];
        match self.database.row(&self.database.reader, sql, values).await? {
            Some(row) => Cells::new(&row).narrow(),
            None => Ok(0),
        }
    }

    async fn page(
        &self,
        topic: &TopicKey,
        of: PageOf,
        from: OrderKey,
        limit: usize,
    ) -> Result<Vec<QueuedItem>, ShardError> {
        self.read_page(topic, of, from, limit).await
    }

    async fn newest(
        &self,
        topic: &TopicKey,
        of: PageOf,
        before: ItemId,
        limit: usize,
    ) -> Result<Vec<QueuedItem>, ShardError> {
        self.read_newest(topic, of, before, limit).await
    }

    async fn newly_due(
        &self,
        topic: &TopicKey,
        after: (Timestamp, ItemId),
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<QueuedItem>, ShardError> {
        let sql = format!(
            "SELECT {ITEM_FIELDS} FROM items i
            WHERE i.namespace = $1 AND i.topic = $2 AND i.state = 0 AND (i.due, i.id) > ($3, $4) AND i.due <= $5
            ORDER BY i.due, i.id LIMIT $6"
        );
        let [namespace, name] = of_topic(topic);
        let values = [
            namespace,
            name,
            after.0.ms().into(),
            after.1.0.cast_signed().into(),
            until.ms().into(),
            limit_of(limit),
        ];
        let rows = self.database.rows(&self.database.reader, sql, values).await?;
        rows.iter().map(|row| decode(&mut Cells::new(row))).collect()
    }

    async fn next_due(&self, topic: &TopicKey, after: Timestamp) -> Result<Option<Timestamp>, ShardError> {
        // Not asked for as a minimum, for which PostgreSQL reads the topic before the table's first ANALYZE.
        let sql = "SELECT due FROM items WHERE namespace = $1 AND topic = $2 AND state = 0 AND due > $3
            ORDER BY due LIMIT 1";
        let [namespace, name] = of_topic(topic);
        let values = [namespace, name, after.ms().into()];
        match self.database.row(&self.database.reader, sql, values).await? {
            Some(row) => Cells::new(&row).instant().map(Some),
            None => Ok(None),
        }
    }

    async fn leased(&self, now: Timestamp) -> Result<Vec<(TopicKey, QueuedItem)>, ShardError> {
        let sql = format!(
            "SELECT {} FROM items i
            WHERE i.state = 0 AND i.lease_expires_at IS NOT NULL AND i.lease_expires_at > $1",
            fields_with_topic()
        );
        let rows = self.database.rows_patiently(sql, [now.ms().into()]).await?;
        rows.iter().map(decode_with_topic).collect()
    }

    async fn fetch(&self, ids: &[ItemId]) -> Result<Vec<(TopicKey, QueuedItem)>, ShardError> {
        let database = &self.database;
        let sql = format!(
            "SELECT {} FROM items i WHERE {}",
            fields_with_topic(),
            database.dialect.is_one_of("i.id", 1)
        );
        let mut found = vec![];
        for ids in ids.chunks(KEYS_MAX) {
            let rows = database
                .rows(&database.reader, &*sql, [database.dialect.ids(ids)])
                .await?;
            for row in &rows {
                found.push(decode_with_topic(row)?);
            }
        }
        Ok(found)
    }

    async fn expired(&self, now: Timestamp, limit: usize) -> Result<Vec<(TopicKey, ItemId)>, ShardError> {
        let sql = "SELECT namespace, topic, id FROM items
            WHERE state = 0 AND expires_at IS NOT NULL AND expires_at <= $1 ORDER BY expires_at LIMIT $2";
        let values = [now.ms().into(), limit_of(limit)];
        let rows = self.database.rows(&self.database.reader, sql, values).await?;
        let expired = rows.iter().map(|row| {
            let mut cells = Cells::new(row);
            Ok((cells.topic()?, cells.id()?))
        });
        expired.collect()
    }

    async fn forget_keys(&self, now: Timestamp) -> Result<u64, ShardError> {
        let transaction = self.database.begin_write().await?;
        let sql = "DELETE FROM dedup WHERE expires_at <= $1";
        let count = self
            .database
            .patiently(&transaction, sql, [now.ms().into()])
            .await?;
        self.database.commit(transaction).await?;
        Ok(count)
    }

    async fn find_keys(
        &self,
        topic: &TopicKey,
        key_hashes: &[u128],
        now: Timestamp,
    ) -> Result<Vec<DedupRow>, ShardError> {
        let database = &self.database;
        let sql = format!(
            "SELECT key_hash, body_hash, id, expires_at FROM dedup
            WHERE namespace = $1 AND topic = $2 AND expires_at > $3 AND {}",
            database.dialect.is_hash_of("key_hash", 4)
        );
        let mut found = vec![];
        for hashes in key_hashes.chunks(KEYS_MAX) {
            let [namespace, name] = of_topic(topic);
            let values = [namespace, name, now.ms().into(), database.dialect.hashes(hashes)];
            for row in &database.rows(&database.reader, &*sql, values).await? {
                found.push(key_of(topic, &mut Cells::new(row))?);
            }
        }
        Ok(found)
    }

    async fn dead_before(
        &self,
        topic: &TopicKey,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<ItemId>, ShardError> {
        let sql = "SELECT id FROM items
            WHERE namespace = $1 AND topic = $2 AND state = 1 AND dead_at <= $3 ORDER BY dead_at LIMIT $4";
        let [namespace, name] = of_topic(topic);
        let values = [namespace, name, before.ms().into(), limit_of(limit)];
        let rows = self.database.rows(&self.database.reader, sql, values).await?;
        rows.iter().map(|row| Cells::new(row).id()).collect()
    }

    async fn keys_after(
        &self,
        topic: &TopicKey,
        after: Option<u128>,
        limit: usize,
    ) -> Result<Vec<DedupRow>, ShardError> {
        self.read_keys(topic, after, limit).await
    }

    async fn store_copies(
        &self,
        items: &[(TopicKey, QueuedItem)],
        keys: &[DedupRow],
    ) -> Result<(), ShardError> {
        self.copy_in(items, keys).await
    }

    async fn remove_topic(&self, topic: &TopicKey) -> Result<(), ShardError> {
        self.clear_topic(topic).await
    }

    async fn take_over(&self, node: NodeId, incarnation: u64) -> Result<Lsn, ShardError> {
        let progress = self.fence(node, incarnation).await?;
        self.incarnation.store(incarnation, Ordering::Release);
        Ok(progress)
    }

    async fn ping(&self) -> Result<(), ShardError> {
        self.database.ping().await
    }

    async fn close(&self) -> Result<(), ShardError> {
        self.database.close().await
    }
}
