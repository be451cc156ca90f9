//! Idempotency keys in Redis.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use redis::Cmd;

use super::cell::Cell;
use super::reply::unreadable;
use super::state::read_key;
use super::terms::{put_all, put_keys};
use super::tier::RedisTier;
use crate::clock::Timestamp;
use crate::hot::{HotError, KeyProbe, KeyState};
use crate::model::TopicKey;
use crate::shard::DedupRow;
use crate::wal::Lsn;

/// Of so many requests at once that did not hear what they reserved the reservations are given up; others end by
/// themselves.
const UNHEARD_MAX: usize = 1_024;

/// What one request reserved: its token, and the keys' hashes.
type Reserved = ([u8; 8], Vec<[u8; 16]>);

/// Requests of one topic that may have reserved keys and did not hear of it.
#[derive(Debug, Default)]
pub(super) struct Unheard(Mutex<(Vec<Reserved>, bool)>);

impl Unheard {
    /// Whether somebody has to begin to give them up.
    fn add(&self, reserved: Reserved) -> bool {
        let (all, is_under_way) = &mut *self.0.lock();
        if all.len() < UNHEARD_MAX {
            all.push(reserved);
        }
        !std::mem::replace(is_under_way, true)
    }

    /// The next one; when there is none, nobody gives any up from now on.
    fn next(&self) -> Option<Reserved> {
        let (all, is_under_way) = &mut *self.0.lock();
        let next = all.pop();
        *is_under_way = next.is_some();
        next
    }
}

/// A request for keys under way. Dropped unheard, what it reserved is given up.
struct Asking {
    tier: Weak<RedisTier>,
    cell: Arc<Cell>,
    reserved: Option<Reserved>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let begins = self.reserved.take().is_some_and(|it| self.cell.unheard.add(it));
        if begins
            && let (Some(tier), Ok(runtime)) = (self.tier.upgrade(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(tier.give_up(self.cell.clone()));
        }
    }
}

impl RedisTier {
    /// Gives up what was reserved for requests that did not hear of it.
    async fn give_up(self: Arc<Self>, cell: Arc<Cell>) {
        while let Some((token, hashes)) = cell.unheard.next() {
            let fill = |call: &mut Cmd| {
                call.arg(&token);
                put_all(call, &hashes);
            };
            if self.surely(&cell, "release_keys", fill).await.is_none() {
                return;
            }
            cell.decided.notify_waiters();
        }
    }

    pub(super) async fn reserve_in(
        &self,
        topic: &TopicKey,
        probes: &[KeyProbe],
    ) -> Result<Vec<KeyState>, HotError> {
        let cell = self.cell(topic);
        let token: [u8; 8] = rand::random();
        let hashes: Vec<_> = probes.iter().map(|probe| probe.key_hash.to_be_bytes()).collect();
        let fill = |call: &mut Cmd| {
            call.arg(&token);
            put_all(call, &hashes);
        };
        let mut asking = Asking {
            tier: self.me.clone(),
            cell: cell.clone(),
            reserved: Some((token, hashes.clone())),
        };
        let mut list = self.call_with(&cell, "reserve_keys", fill).await?.list()?;
        let mut states = Vec::with_capacity(probes.len());
        for probe in probes {
            let row = list.bytes()?;
            states.push(match row.as_slice() {
                b"R" => KeyState::Reserved,
                b"B" => KeyState::InFlight(cell.decided.clone()),
                row => {
                    let (body_hash, id, _) = read_key(row).ok_or_else(unreadable)?;
                    let same_body = body_hash == probe.body_hash;
                    KeyState::Used { id, same_body }
                }
            });
        }
        asking.reserved = None;
        Ok(states)
    }

    pub(super) async fn confirm_in(&self, topic: &TopicKey, lsn: Lsn, rows: Vec<DedupRow>) {
        let cell = self.cell(topic);
        let fill = |call: &mut Cmd| {
            call.arg(lsn.0);
            put_keys(call, &rows);
        };
        self.surely_changed(&cell, "confirm_keys", fill).await;
        cell.decided.notify_waiters();
    }

    pub(super) async fn recall_in(&self, topic: &TopicKey, rows: Vec<DedupRow>) -> Result<(), HotError> {
        let cell = self.cell(topic);
        self.call_with(&cell, "recall_keys", |call| put_keys(call, &rows))
            .await?;
        Ok(())
    }

    pub(super) async fn release_in(&self, topic: &TopicKey, key_hashes: &[u128]) {
        let cell = self.cell(topic);
        if !key_hashes.is_empty() {
            let fill = |call: &mut Cmd| {
                call.arg("");
                put_all(call, key_hashes.iter().map(|hash| hash.to_be_bytes()));
            };
            // Not for ever: a reservation ends by itself.
            let _ = self.call_with(&cell, "release_keys", fill).await;
        }
        cell.decided.notify_waiters();
    }

    pub(super) async fn may_have_cold_keys(&self, topic: &TopicKey) -> Result<bool, HotError> {
        let mut reply = self.call(&self.cell(topic), "cold_keys", &[]).await?;
        let until = reply.instant()?;
        Ok(until.is_some_and(|until| until > self.options.clock.now()))
    }

    pub(super) async fn set_cold_until(&self, topic: &TopicKey, until: Timestamp) -> Result<(), HotError> {
        let fill = |call: &mut Cmd| {
            call.arg(until.ms());
        };
        self.call_with(&self.cell(topic), "set_cold_keys", fill).await?;
        Ok(())
    }
}
