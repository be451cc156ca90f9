//! Standing in for nodes that went away: what only their logs and Redis have is stored by the others.
//!
//! Nodes say every second that they are there. What the shards lack of the log of one that has not been heard of
//! for a while is planned with what they lack of this node's own. Only who was there all that while may say so: after
//! a Redis was away, everybody was silent. How far the shards hold the other log is not
//! touched: when its node comes back, Redis knows which of its frames were applied.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Cmd, cmd};

use super::cell::Cell;
use super::flush::reach;
use super::reply::Reply;
use super::state::id_bytes;
use super::tier::RedisTier;
use crate::clock::Timestamp;
use crate::hot::{FlushPlan, HotError};
use crate::model::{ItemId, NodeId};
use crate::shard::{DedupRow, Purge};
use crate::wal::Lsn;

/// A node that did not say for so long that it is there, or for half of what makes others miss it, was away itself.
const GAP: Duration = Duration::from_secs(3);

/// After every position of every log, and exact in a number of Redis.
const END: Lsn = Lsn(1 << 52);

/// When this node began to say that it is there, and when it said so last.
#[derive(Debug, Default)]
pub(super) struct Presence {
    since: Timestamp,
    last: Timestamp,
}

impl Presence {
    /// It said so now; others may be missed when it did for all of `silence`.
    fn note(&mut self, now: Timestamp, silence: Duration) {
        if now.since_ms(self.last) > ms(GAP.max(silence / 2)) {
            self.since = now;
        }
        self.last = now;
    }

    fn has_lasted(&self, silence: Duration) -> bool {
        self.last.since_ms(self.since) >= ms(silence)
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A topic of which a node that went away left something unstored.
#[derive(Debug, Clone)]
pub(super) struct Orphan {
    pub(super) cell: Arc<Cell>,
    pub(super) of: u16,
}

/// What a plan holds of another node's log.
#[derive(Debug)]
pub(super) struct StandIn {
    orphan: Orphan,
    deletes: Vec<ItemId>,
    purges: Vec<(Lsn, Purge)>,
    keys: Vec<DedupRow>,
}

impl RedisTier {
    fn alive_key(&self) -> String {
        format!("{}:alive", self.options.prefix)
    }

    /// Says that this node is there, wherever it can: who never said so is never missed.
    pub(super) async fn say_hello(&self) -> Result<(), HotError> {
        let now = self.options.clock.now();
        let mut said = Ok(());
        for link in self.links() {
            // Nothing comes after a goodbye.
            if self.is_closed() {
                break;
            }
            let mut hello = cmd("HSET");
            hello.arg(self.alive_key()).arg(self.node()).arg(now.ms());
            if let Err(error) = link.send(&hello).await {
                said = Err(error);
            }
        }
        if said.is_ok() {
            self.presence.lock().note(now, self.options.silence);
        }
        said
    }

    /// Takes that back: it has left nothing.
    pub(super) async fn say_goodbye(&self) {
        self.say_goodbye_of(self.node()).await;
    }

    async fn say_goodbye_of(&self, node: u16) {
        for link in self.links() {
            let mut goodbye = cmd("HDEL");
            goodbye.arg(self.alive_key()).arg(node);
            // Who is missed for nothing costs the others a look at each topic.
            let _ = link.send(&goodbye).await;
        }
    }

    /// Says that this node is there, and looks for what those that are not left behind.
    pub(super) async fn look_for_orphans(&self) -> Result<(), HotError> {
        self.say_hello().await?;
        if !self.presence.lock().has_lasted(self.options.silence) {
            self.orphans.lock().clear();
            return Ok(());
        }
        let now = self.options.clock.now().ms();
        let silence_ms = ms(self.options.silence);
        let mut silent = Vec::new();
        for link in self.links() {
            let mut heard = Reply::of(link.send(cmd("HGETALL").arg(self.alive_key())).await?)?;
            while !heard.is_empty() {
                let (node, at) = (heard.number()?, heard.number()?);
                let node = u16::try_from(node).ok().and_then(NodeId::new);
                if let Some(node) = node
                    && node != self.options.node
                    && now - at > silence_ms
                    && !silent.contains(&node.number())
                {
                    silent.push(node.number());
                }
            }
        }
        let mut orphans = Vec::new();
        if !silent.is_empty() {
            let cells = self.cells();
            for of in silent {
                let (looks, before) = (cells.iter().map(|cell| self.need_of(cell, of)), orphans.len());
                let needs = join_all(looks).await;
                for (cell, need) in cells.iter().zip(needs) {
                    if need?.is_some() {
                        let cell = cell.clone();
                        orphans.push(Orphan { cell, of });
                    }
                }
                // All it left is stored: it need not be looked for any more. Back again, it says so within a second.
                if orphans.len() == before {
                    self.say_goodbye_of(of).await;
                }
            }
        }
        *self.orphans.lock() = orphans;
        Ok(())
    }

    async fn need_of(&self, cell: &Cell, of: u16) -> Result<Option<Lsn>, HotError> {
        let fill = |call: &mut Cmd| {
            call.arg(of);
        };
        let first = self.call_with(cell, "first_need", fill).await?.number()?;
        Ok(u64::try_from(first).ok().map(Lsn))
    }

    /// What nodes that went away left unstored in `shard`.
    pub(super) fn orphans_in(&self, shard: u16) -> Vec<Orphan> {
        let orphans = self.orphans.lock();
        let here = orphans
            .iter()
            .filter(|orphan| (self.options.shard_of)(orphan.cell.slot) == shard);
        here.cloned().collect()
    }

    /// Adds what others left to a plan: about `limit` items of each topic.
    pub(super) async fn stand_in(&self, plan: &mut FlushPlan, limit: usize) {
        for orphan in self.orphans_in(plan.shard) {
            match self.plan_orphan(&orphan, plan, limit).await {
                Ok(part) => self.stand_ins.lock().push(part),
                // Somebody else stands in, or Redis is away: the next look tells.
                Err(error) => {
                    tracing::debug!(topic = %orphan.cell.key, node = orphan.of, %error, "no standing in");
                    self.stand_down(&orphan).await;
                }
            }
        }
    }

    async fn plan_orphan(
        &self,
        orphan: &Orphan,
        plan: &mut FlushPlan,
        limit: usize,
    ) -> Result<StandIn, HotError> {
        let Orphan { cell, of } = orphan;
        let lacking = self.lacking(cell.clone(), *of, END, 4 * limit, limit).await?;
        let reached = reach(lacking.needs.iter().copied(), END, limit);
        let (items, keys) = self.begin_flush(cell, *of, reached).await?;
        let deletes: Vec<_> = lacking.deletes.iter().map(|(id, _)| *id).collect();
        let key = &cell.key;
        plan.upserts
            .extend(items.into_iter().map(|item| (key.clone(), item)));
        plan.deletes.extend(deletes.iter().map(|id| (key.clone(), *id)));
        plan.purges.extend(lacking.purges.iter().cloned());
        plan.dedup.extend(keys.iter().cloned());
        Ok(StandIn {
            orphan: orphan.clone(),
            deletes,
            purges: lacking.purges,
            keys,
        })
    }

    /// Ends the parts of a plan for `shard` that stood in for others.
    pub(super) async fn end_stand_ins(&self, shard: u16, stored: bool) {
        let mine = |part: &mut StandIn| (self.options.shard_of)(part.orphan.cell.slot) == shard;
        let parts: Vec<_> = self.stand_ins.lock().extract_if(.., mine).collect();
        for part in parts {
            let Orphan { cell, of } = &part.orphan;
            if stored {
                let deletes: Vec<_> = part.deletes.iter().map(|id| id_bytes(*id)).collect();
                self.end_deletes(&cell.key, *of, &deletes).await;
                self.end_purges(&cell.key, *of, &part.purges).await;
                let keys: Vec<_> = part.keys.iter().collect();
                self.end_keys(&cell.key, *of, &keys).await;
            }
            self.stand_down(&part.orphan).await;
        }
    }

    async fn stand_down(&self, orphan: &Orphan) {
        let same = |other: &Orphan| other.of == orphan.of && other.cell.key == orphan.cell.key;
        self.orphans.lock().retain(|other| !same(other));
        self.tell(&orphan.cell.key, orphan.of, "stand_down", |_| {}).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_away_himself_misses_nobody() {
        let silence = Duration::from_secs(30);
        let mut presence = Presence::default();
        let mut now = Timestamp::from_ms(1_800_000_000_000);
        let says_for = |presence: &mut Presence, now: &mut Timestamp, seconds| {
            for _ in 0..seconds {
                *now = now.plus_ms(1_000);
                presence.note(*now, silence);
            }
        };
        says_for(&mut presence, &mut now, 30);
        assert!(!presence.has_lasted(silence));
        says_for(&mut presence, &mut now, 1);
        assert!(presence.has_lasted(silence));
        // Redis was away, for everybody.
        now = now.plus_ms(16_000);
        says_for(&mut presence, &mut now, 30);
        assert!(!presence.has_lasted(silence));
        // Some slow turns are no absence.
        now = now.plus_ms(10_000);
        says_for(&mut presence, &mut now, 1);
        assert!(presence.has_lasted(silence));
    }
}
