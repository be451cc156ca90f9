//! Pages of a topic in delivery order.

use sea_orm::ConnectionTrait;

use super::row::{Cells, ITEM_FIELDS, decode};
use super::store::{SeaShard, limit_of, of_topic};
use super::{PageOf, ShardError};
use crate::clock::Timestamp;
use crate::model::{ItemId, OrderKey, QueuedItem, TopicKey};

/// Fewest keys a window looks at once a page takes several, so that small pages of sparse topics take few.
const WINDOW_MIN: usize = 64;

/// What a window found, and where the next one begins; nowhere at the topic's end.
struct Window {
    found: Vec<QueuedItem>,
    next: Option<OrderKey>,
}

impl SeaShard {
    /// Reads windows of keys from the order index and the rows of those that belong to the page.
    ///
    /// Live items are ordered by band before time, so items that are due and items that are not alternate
    /// band by band. Inside a band they do not: its rank is the due time. So when a window ends among items
    /// of the other kind, the rest of them is jumped over unread.
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
        if first.next.is_none() || first.found.len() == limit {
            return Ok(first.found);
        }
        // One window is one statement and needs no transaction. Several are read again from the start: an
        // item that moves between them would be missed, or seen twice.
        let transaction = self.database.begin_read().await?;
        let full = limit.max(WINDOW_MIN);
        let mut size = if first.found.is_empty() { WINDOW_MIN } else { full };
        let (mut page, mut next) = (vec![], Some(from));
        while let Some(from) = next.take()
            && page.len() < limit
        {
            let window = self.read_window(&transaction, topic, of, from, size).await?;
            // A window in vain is followed by one that risks little, and the next by ones that double.
            size = match (window.found.is_empty(), size == full) {
                (false, _) => full,
                (true, true) => WINDOW_MIN,
                (true, false) => full.min(size * 2),
            };
            page.extend(window.found);
            next = window.next;
        }
        page.truncate(limit);
        self.database.commit(transaction).await?;
        Ok(page)
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
        let next = match keyed.last() {
            Some((key, item)) if rows.len() == size => after_window(*key, item.is_some(), of),
            _ => None,
        };
        let found = keyed.into_iter().filter_map(|(_, item)| item).collect();
        Ok(Window { found, next })
    }
}

/// Where to go on after `last`, the last key of a full window, which the page `wanted` or passed over.
fn after_window(last: OrderKey, wanted: bool, of: PageOf) -> Option<OrderKey> {
    match of {
        // The rest of the band is later still.
        PageOf::Due(_) if !wanted => last.band.checked_add(1).map(|band| OrderKey {
            band,
            ..OrderKey::MIN
        }),
        // What comes before the instant in this band is due.
        PageOf::Later(instant) if !wanted => Some(OrderKey {
            band: last.band,
            rank: instant.ms().saturating_add(1),
            id: ItemId(0),
        }),
        _ => Some(last.successor()),
    }
}
