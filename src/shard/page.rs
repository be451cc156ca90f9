//! Pages of a topic: in delivery order, and the newest first.

use sea_orm::ConnectionTrait;

use super::row::{Cells, ITEM_FIELDS, decode};
use super::store::{SeaShard, limit_of, of_topic};
use super::{PageOf, ShardError};
use crate::clock::Timestamp;
use crate::model::{ItemId, OrderKey, QueuedItem, TopicKey};

/// Fewest keys a window looks at once a page takes several, so that small pages of sparse topics take few.
const WINDOW_MIN: usize = 64;

/// How a window ended.
enum End {
    /// Nothing follows in the topic.
    Topic,
    /// The page goes on at this key.
    At(OrderKey),
    /// Among items of the other kind, in this band.
    Astray(i64),
}

struct Window {
    found: Vec<QueuedItem>,
    end: End,
}

impl SeaShard {
    /// Reads windows of keys from the order index and the rows of those that belong to the page.
    ///
    /// Live items are ordered by band before time, so items that are due and items that are not alternate
    /// band by band. Inside a band they do not: its rank is the due time. So when a window ends among items
    /// of the other kind, those are jumped over unread, in every band that has no others.
    pub(super) async fn read_page(
        &self,
        topic: &TopicKey,
        of: PageOf,
        from: OrderKey,
        limit: usize,
    ) -> Result<Vec<QueuedItem>, ShardError> {
        if limit == 0 {
            return Ok(vec![]);
        }
        let first = self
            .read_window(&self.database.reader, topic, of, from, limit)
            .await?;
        if matches!(first.end, End::Topic) || first.found.len() == limit {
            return Ok(first.found);
        }
        // One window is one statement and needs no transaction. Several are read again from the start: an
        // item that moves between them would be missed, or seen twice.
        let transaction = self.database.begin_read().await?;
        let (mut page, mut next) = (vec![], Some(from));
        while let Some(from) = next.take()
            && page.len() < limit
        {
            let size = (limit - page.len()).max(WINDOW_MIN);
            let window = self.read_window(&transaction, topic, of, from, size).await?;
            page.extend(window.found);
            next = match window.end {
                End::Topic => None,
                End::At(key) => Some(key),
                End::Astray(band) => self.find_way(&transaction, topic, of, band).await?,
            };
        }
        page.truncate(limit);
        self.database.commit(transaction).await?;
        Ok(page)
    }

    /// See [`super::Shard::newest`].
    pub(super) async fn read_newest(
        &self,
        topic: &TopicKey,
        of: PageOf,
        before: ItemId,
        limit: usize,
    ) -> Result<Vec<QueuedItem>, ShardError> {
        let (state, wanted, instant) = match of {
            PageOf::Due(instant) => (0, "rank <= $5", instant),
            PageOf::Later(instant) => (0, "rank > $5", instant),
            PageOf::Dead => (1, "$5 = $5", Timestamp::ZERO),
        };
        // The sum keeps planners from walking all topics' ids down in search of this one's.
        let sql = format!(
            "WITH w AS (
                SELECT id FROM items
                WHERE namespace = $1 AND topic = $2 AND state = {state} AND id + 0 < $3 AND {wanted}
                ORDER BY id + 0 DESC LIMIT $4
            )
            SELECT {ITEM_FIELDS} FROM w JOIN items i ON i.id = w.id ORDER BY i.id DESC"
        );
        let [namespace, name] = of_topic(topic);
        let values = [
            namespace,
            name,
            before.0.cast_signed().into(),
            limit_of(limit),
            instant.ms().into(),
        ];
        let rows = self.database.rows(&self.database.reader, sql, values).await?;
        rows.iter().map(|row| decode(&mut Cells::new(row))).collect()
    }

    async fn read_window(
        &self,
        on: &impl ConnectionTrait,
        topic: &TopicKey,
        of: PageOf,
        from: OrderKey,
        size: usize,
    ) -> Result<Window, ShardError> {
        let (state, wanted) = match of {
            PageOf::Due(_) => (0, "w.rank <= $7"),
            PageOf::Later(_) => (0, "w.rank > $7"),
            PageOf::Dead => (1, "$7 = $7"),
        };
        // The states are part of the text, so that plans may rely on them.
        let sql = format!(
            "WITH w AS (
                SELECT band, rank, id FROM items
                WHERE namespace = $1 AND topic = $2 AND state = {state} AND (band, rank, id) >= ($3, $4, $5)
                ORDER BY band, rank, id LIMIT $6
            )
            SELECT w.band, w.rank, w.id, {ITEM_FIELDS}
            FROM w LEFT JOIN items i ON i.id = w.id AND {wanted}"
        );
        let instant = match of {
            PageOf::Due(instant) | PageOf::Later(instant) => instant,
            PageOf::Dead => Timestamp::ZERO,
        };
        let [namespace, name] = of_topic(topic);
        let values = [
            namespace,
            name,
            from.band.into(),
            from.rank.into(),
            from.id.0.cast_signed().into(),
            limit_of(size),
            instant.ms().into(),
        ];
        let rows = self.database.rows(on, sql, values).await?;
        let mut keyed = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut cells = Cells::new(row);
            let key = OrderKey {
                band: cells.get()?,
                rank: cells.get()?,
                id: cells.id()?,
            };
            let item = match cells.is_null()? {
                true => None,
                false => Some(decode(&mut cells)?),
            };
            keyed.push((key, item));
        }
        // A join promises no order, though it nearly always keeps the one it was given.
        keyed.sort_unstable_by_key(|&(key, _)| key);
        let end = match keyed.last() {
            Some((key, Some(_))) if rows.len() == size => End::At(key.successor()),
            Some((key, None)) if rows.len() == size => End::Astray(key.band),
            _ => End::Topic,
        };
        let found = keyed.into_iter().filter_map(|(_, item)| item).collect();
        Ok(Window { found, end })
    }

    /// The first key that can belong to the page, after a window that ended astray in `band`.
    async fn find_way(
        &self,
        on: &impl ConnectionTrait,
        topic: &TopicKey,
        of: PageOf,
        band: i64,
    ) -> Result<Option<OrderKey>, ShardError> {
        // Due items come first in a band, so the rest of this one is later; later items come last.
        let (bands, wanted, instant) = match of {
            PageOf::Due(instant) => ("band > $3", "rank <= $4", instant),
            PageOf::Later(instant) => ("band >= $3", "rank > $4", instant),
            PageOf::Dead => return Ok(None),
        };
        // Goes from band to band until it stands in one that has what is wanted.
        let sql = format!(
            "WITH RECURSIVE bands(band) AS (
                SELECT (
                    SELECT band FROM items WHERE namespace = $1 AND topic = $2 AND state = 0 AND {bands}
                    ORDER BY band LIMIT 1
                )
                UNION ALL
                SELECT (
                    SELECT i.band FROM items i
                    WHERE i.namespace = $1 AND i.topic = $2 AND i.state = 0 AND i.band > bands.band
                    ORDER BY i.band LIMIT 1
                )
                FROM bands WHERE bands.band IS NOT NULL AND NOT EXISTS (
                    SELECT 1 FROM items WHERE namespace = $1 AND topic = $2 AND state = 0
                        AND items.band = bands.band AND {wanted}
                )
            )
            SELECT band FROM bands WHERE band IS NOT NULL AND EXISTS (
                SELECT 1 FROM items WHERE namespace = $1 AND topic = $2 AND state = 0
                    AND items.band = bands.band AND {wanted}
            )"
        );
        let [namespace, name] = of_topic(topic);
        let values = [namespace, name, band.into(), instant.ms().into()];
        let Some(row) = self.database.row(on, sql, values).await? else {
            return Ok(None);
        };
        let band = Cells::new(&row).get()?;
        Ok(Some(match of {
            PageOf::Later(_) => OrderKey {
                band,
                rank: instant.ms().saturating_add(1),
                id: ItemId(0),
            },
            _ => OrderKey {
                band,
                ..OrderKey::MIN
            },
        }))
    }
}
