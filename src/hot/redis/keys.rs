//! Idempotency keys in Redis.

use redis::Cmd;

use super::reply::unreadable;
use super::state::read_key;
use super::terms::{put_all, put_keys};
use super::tier::RedisTier;
use crate::clock::Timestamp;
use crate::hot::{HotError, KeyProbe, KeyState};
use crate::model::TopicKey;
use crate::shard::DedupRow;
use crate::wal::Lsn;

impl RedisTier {
    pub(super) async fn reserve_in(
        &self,
        topic: &TopicKey,
        probes: &[KeyProbe],
    ) -> Result<Vec<KeyState>, HotError> {
        let cell = self.cell(topic);
        let fill = |call: &mut Cmd| put_all(call, probes.iter().map(|probe| probe.key_hash.to_be_bytes()));
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
            let fill = |call: &mut Cmd| put_all(call, key_hashes.iter().map(|hash| hash.to_be_bytes()));
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
