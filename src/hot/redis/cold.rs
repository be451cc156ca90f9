//! What is only in the shard, and how it comes up: one reader at a time over all nodes.

use std::time::Duration;

use futures_util::future::join_all;
use redis::Cmd;

use super::reply::unreadable;
use super::state::{id_bytes, order_bytes, order_key};
use super::terms::{entries_of, milliseconds, put_entries};
use super::tier::RedisTier;
use crate::clock::Timestamp;
use crate::hot::{DueCursor, DueSpan, HotError, RefillPage};
use crate::model::{QueuedItem, TopicKey};
use crate::shard::StoredCounts;

/// How often somebody asks for a topic that another node reads cold items of.
const READER_RETRY: Duration = Duration::from_millis(5);
/// How many times: longer than a reader that died keeps the topic.
const READER_RETRIES: usize = 8_000;

impl RedisTier {
    pub(super) async fn adopt_into(&self, topic: &TopicKey, items: Vec<QueuedItem>) -> Result<(), HotError> {
        let cell = self.cell(topic);
        let token = cell.reader.lock().clone().unwrap_or_default();
        let entries = entries_of(&items);
        self.call_with(&cell, "adopt", |call| {
            call.arg(&token);
            put_entries(call, &entries);
        })
        .await?;
        cell.wake();
        Ok(())
    }

    pub(super) async fn tell_stored(&self, counts: &[StoredCounts], now: Timestamp) -> Result<(), HotError> {
        let unknown = |count: &&StoredCounts| !self.slots.get(count.topic.slot()).is_known;
        let calls = counts.iter().filter(unknown).map(async |count| {
            let fresh = u8::from(self.slots.get(count.topic.slot()).is_fresh());
            let fill = |call: &mut Cmd| {
                call.arg(count.due).arg(count.later).arg(count.dead);
                call.arg(fresh).arg(now.ms());
            };
            self.call_with(&self.cell(&count.topic), "set_stored", fill).await
        });
        join_all(calls)
            .await
            .into_iter()
            .try_for_each(|result| result.map(drop))
    }

    pub(super) async fn begin_refill(&self, topic: &TopicKey) -> Result<Option<DueSpan>, HotError> {
        let cell = self.cell(topic);
        // Known before Redis is asked: a reader that does not hear that it may read goes on by its next call.
        let token = cell.reader.lock().get_or_insert_with(|| self.reader()).clone();
        for _ in 0..READER_RETRIES {
            let mut reply = self.call(&cell, "refill_begin", &[&token]).await?;
            let answer = reply.letter()?;
            if answer == b'B' {
                tokio::time::sleep(READER_RETRY).await;
                continue;
            }
            if answer == b'N' {
                return Ok(None);
            }
            let due = reply.instant()?.unwrap_or_default();
            let after = (due, reply.id()?);
            let until = reply.instant()?.unwrap_or_default();
            return Ok(Some(DueSpan { after, until }));
        }
        Err(HotError::Unavailable(
            "another node reads the topic's stored items for too long".into(),
        ))
    }

    /// A new reader of this node.
    fn reader(&self) -> Vec<u8> {
        let mut token = self.node().to_be_bytes().to_vec();
        token.extend(rand::random::<[u8; 16]>());
        token
    }

    pub(super) async fn bring_due(
        &self,
        topic: &TopicKey,
        items: Vec<QueuedItem>,
        passed: DueCursor,
        next_due: Option<Timestamp>,
    ) -> Result<(), HotError> {
        let cell = self.cell(topic);
        let token = cell.reader.lock().clone().unwrap_or_default();
        let entries = entries_of(&items);
        let fill = |call: &mut Cmd| {
            call.arg(&token)
                .arg(passed.0.ms())
                .arg(&id_bytes(passed.1))
                .arg(milliseconds(next_due));
            put_entries(call, &entries);
        };
        self.call_with(&cell, "refill_due", fill).await?;
        Ok(())
    }

    pub(super) async fn next_page(&self, topic: &TopicKey) -> Result<Option<RefillPage>, HotError> {
        let mut reply = self.call(&self.cell(topic), "refill_page", &[]).await?;
        let floor = reply.bytes()?;
        if floor.is_empty() {
            return Ok(None);
        }
        Ok(Some(RefillPage {
            from: order_key(&floor).ok_or_else(unreadable)?,
            due_by: reply.instant()?.unwrap_or_default(),
        }))
    }

    pub(super) async fn end_refill(&self, topic: &TopicKey, page: Option<(Vec<QueuedItem>, bool)>) {
        let cell = self.cell(topic);
        let token = cell.reader.lock().clone().unwrap_or_default();
        let page = page.map(|(items, whole)| {
            let next = items
                .last()
                .map(|last| order_bytes(last.key().successor()).to_vec());
            (entries_of(&items), whole, next.unwrap_or_default())
        });
        let fill = |call: &mut Cmd| {
            call.arg(&token);
            match &page {
                None => {
                    call.arg("");
                }
                Some((entries, whole, next)) => {
                    call.arg(u8::from(*whole)).arg(next);
                    put_entries(call, entries);
                }
            }
        };
        // Not for ever: a reader that does not end goes on, or loses its place, and the page is read again.
        let mut ended = self.call_with(&cell, "refill_end", fill).await;
        if ended.is_err() {
            ended = self.call(&cell, "refill_end", &[&token, b""]).await;
        }
        if ended.is_ok() {
            *cell.reader.lock() = None;
        }
        cell.wake();
    }

    pub(super) async fn drop_hot(
        &self,
        topic: &TopicKey,
        items: Vec<QueuedItem>,
    ) -> Result<Vec<QueuedItem>, HotError> {
        if items.is_empty() {
            return Ok(items);
        }
        let fill = |call: &mut Cmd| {
            for queued in &items {
                call.arg(&id_bytes(queued.item.id))
                    .arg(u8::from(queued.standing.dead.is_some()));
            }
        };
        let mut list = self
            .call_with(&self.cell(topic), "only_cold", fill)
            .await?
            .list()?;
        let mut cold = Vec::new();
        for item in items {
            if list.number()? == 1 {
                cold.push(item);
            }
        }
        Ok(cold)
    }
}
