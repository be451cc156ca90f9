//! What the shards lack of this node's log, over all topics, and what may leave Redis.

use std::sync::Arc;

use futures_util::future::join_all;
use hashbrown::HashMap;
use redis::Cmd;

use super::cell::Cell;
use super::link::Link;
use super::reply::{Reply, unreadable};
use super::state::{id_bytes, read_entry, read_key};
use super::terms::put_all;
use super::tier::RedisTier;
use crate::hot::{FlushPlan, HotError};
use crate::model::{ItemId, QueuedItem, TopicKey, limits};
use crate::shard::{DedupRow, Purge};
use crate::wal::Lsn;

/// Ids in one call.
const IDS_AT_ONCE: usize = 2_000;
/// An item weighs as many as this goes into its bytes, and one: a plan is as long as its limit says, of large items
/// shorter. They are in this node's memory until they are stored.
const WEIGHT_BYTES: usize = 64 << 10;

/// What a topic's shard lacks, before it is decided how much of it is stored at once.
pub(super) struct Lacking {
    pub(super) cell: Arc<Cell>,
    pub(super) deletes: Vec<(ItemId, Lsn)>,
    pub(super) purges: Vec<(Lsn, Purge)>,
    /// Positions, in order, and what each weighs.
    pub(super) needs: Vec<(Lsn, usize)>,
    /// Where the first delete is that has to wait: another node may be storing its item.
    pub(super) waiting: Option<Lsn>,
}

impl RedisTier {
    /// The first position that `cell` still needs of this node's log, and how many deletes it has.
    pub(super) async fn needs_of(&self, cell: &Cell) -> Result<(Option<Lsn>, usize), HotError> {
        let changes = cell.changes();
        let fill = |call: &mut Cmd| {
            call.arg(self.node());
        };
        let mut reply = self.call_with(cell, "first_need", fill).await?;
        let first = u64::try_from(reply.number()?).ok().map(Lsn);
        let deletes = usize::try_from(reply.number()?).unwrap_or(0);
        if first.is_none() {
            cell.set_clean(changes);
        }
        Ok((first, deletes))
    }

    /// The same over all topics of a shard.
    pub(super) async fn needs(&self, shard: u16) -> Result<(Option<Lsn>, usize), HotError> {
        let cells = self.needed_cells(shard);
        let all = join_all(cells.iter().map(|cell| self.needs_of(cell))).await;
        let (mut first, mut deletes) = (None, 0);
        for needs in all {
            let (need, count) = needs?;
            first = [first, need].into_iter().flatten().min();
            deletes += count;
        }
        Ok((first, deletes))
    }

    /// What `shard` has to store so that it holds all this node's log says up to `up_to`.
    pub(super) async fn plan(&self, shard: u16, up_to: Lsn, limit: usize) -> Result<FlushPlan, HotError> {
        let cells = self.needed_cells(shard);
        let kept = limit + limits::BATCH_ITEMS_MAX;
        let looks = join_all(
            cells
                .into_iter()
                .map(|cell| self.lacking(cell, self.node(), up_to, 4 * limit, kept)),
        )
        .await;
        let mut lacking = looks.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut plan = FlushPlan {
            shard,
            reached: up_to,
            ..FlushPlan::default()
        };
        // Deletes come first: how far they reach bounds what else may be told with them.
        for topic in &mut lacking {
            let room = (4 * limit).saturating_sub(plan.deletes.len());
            if let Some((_, rest)) = topic.deletes.get(room) {
                plan.reached = plan.reached.min(Lsn(rest.0 - 1));
            }
            let deletes = topic.deletes.drain(..).take(room);
            plan.deletes
                .extend(deletes.map(|(id, _)| (topic.cell.key.clone(), id)));
            plan.purges.append(&mut topic.purges);
            if let Some(waiting) = topic.waiting {
                plan.reached = plan.reached.min(Lsn(waiting.0 - 1));
            }
        }
        let needs = lacking.iter().flat_map(|topic| topic.needs.iter().copied());
        plan.reached = reach(needs, plan.reached, limit);
        let begun = join_all(
            lacking
                .iter()
                .map(|topic| self.begin_flush(&topic.cell, self.node(), plan.reached)),
        )
        .await;
        for (topic, begun) in lacking.iter().zip(begun) {
            let key = &topic.cell.key;
            match begun {
                Ok((items, keys)) => {
                    plan.upserts
                        .extend(items.into_iter().map(|item| (key.clone(), item)));
                    plan.dedup.extend(keys);
                }
                Err(error) => {
                    // What was begun elsewhere must not stay so.
                    self.end_plan(plan, false).await;
                    return Err(error);
                }
            }
        }
        self.stand_in(&mut plan, limit).await;
        Ok(plan)
    }

    pub(super) async fn lacking(
        &self,
        cell: Arc<Cell>,
        of: u16,
        up_to: Lsn,
        deletes_max: usize,
        needs_max: usize,
    ) -> Result<Lacking, HotError> {
        let fill = |call: &mut Cmd| {
            call.arg(of).arg(up_to.0).arg(deletes_max + 1).arg(needs_max + 1);
        };
        let mut reply = self.call_with(&cell, "plan", fill).await?;
        if reply.number()? == 0 {
            let text = "another node stores what this one left behind";
            return Err(HotError::Unavailable(text.into()));
        }
        let mut list = reply.list()?;
        let mut deletes = Vec::with_capacity(list.len() / 2);
        while !list.is_empty() {
            deletes.push((list.id()?, lsn(&mut list)?));
        }
        let mut list = reply.list()?;
        let mut purges = Vec::with_capacity(list.len());
        while !list.is_empty() {
            purges.push(read_purge(&cell.key, &list.bytes()?).ok_or_else(unreadable)?);
        }
        let mut list = reply.list()?;
        let mut needs = Vec::with_capacity(list.len());
        while !list.is_empty() {
            let at = lsn(&mut list)?;
            let bytes = usize::try_from(list.number()?).unwrap_or(0);
            needs.push((at, 1 + bytes / WEIGHT_BYTES));
        }
        let waiting = u64::try_from(reply.number()?).ok().map(Lsn);
        Ok(Lacking {
            cell,
            deletes,
            purges,
            needs,
            waiting,
        })
    }

    /// Marks what the log of `of` needs of a topic up to `up_to` as being stored, and reads it, as much at a time as
    /// one reply takes. What changes between two parts is in the later one as in what comes behind the plan.
    pub(super) async fn begin_flush(
        &self,
        cell: &Cell,
        of: u16,
        up_to: Lsn,
    ) -> Result<(Vec<QueuedItem>, Vec<DedupRow>), HotError> {
        let (mut from, mut last) = (b"-inf".to_vec(), Vec::new());
        let mut items = Vec::new();
        loop {
            let fill = |call: &mut Cmd| {
                call.arg(of).arg(up_to.0).arg(&from).arg(&last);
            };
            let mut reply = self.call_with(cell, "begin_flush", fill).await?;
            let mut list = reply.list()?;
            while !list.is_empty() {
                let _id = list.bytes()?;
                items.push(read_entry(&list.bytes()?, &list.bytes()?)?);
            }
            (from, last) = (reply.bytes()?, reply.bytes()?);
            if from.is_empty() {
                return Ok((items, read_keys(&cell.key, reply.list()?)?));
            }
        }
    }

    /// Says whether a plan was stored; see [`crate::hot::HotTier::flushed`].
    pub(super) async fn end_plan(&self, plan: FlushPlan, stored: bool) {
        let mut upserts: HashMap<TopicKey, Vec<[u8; 8]>> = HashMap::new();
        for (topic, queued) in &plan.upserts {
            upserts
                .entry(topic.clone())
                .or_default()
                .push(id_bytes(queued.item.id));
        }
        let told = u8::from(stored);
        for (topic, ids) in &upserts {
            for ids in ids.chunks(IDS_AT_ONCE) {
                let fill = |call: &mut Cmd| {
                    call.arg(told);
                    put_all(call, ids);
                };
                self.tell(topic, self.node(), "end_flush", fill).await;
            }
        }
        if stored {
            self.end_rest(&plan).await;
        }
        self.end_stand_ins(plan.shard, stored).await;
    }

    async fn end_rest(&self, plan: &FlushPlan) {
        let mut deletes: HashMap<TopicKey, Vec<[u8; 8]>> = HashMap::new();
        for (topic, id) in &plan.deletes {
            deletes.entry(topic.clone()).or_default().push(id_bytes(*id));
        }
        for (topic, ids) in &deletes {
            self.end_deletes(topic, self.node(), ids).await;
        }
        for purge in &plan.purges {
            self.end_purges(&purge.1.topic, self.node(), std::slice::from_ref(purge))
                .await;
        }
        let mut keys: HashMap<TopicKey, Vec<&DedupRow>> = HashMap::new();
        for row in &plan.dedup {
            keys.entry(row.topic.clone()).or_default().push(row);
        }
        for (topic, rows) in &keys {
            self.end_keys(topic, self.node(), rows).await;
        }
    }

    pub(super) async fn end_deletes(&self, topic: &TopicKey, of: u16, ids: &[[u8; 8]]) {
        for ids in ids.chunks(IDS_AT_ONCE) {
            self.tell(topic, of, "end_deletes", |call| put_all(call, ids))
                .await;
        }
    }

    pub(super) async fn end_purges(&self, topic: &TopicKey, of: u16, purges: &[(Lsn, Purge)]) {
        if !purges.is_empty() {
            let told: Vec<_> = purges
                .iter()
                .map(|(lsn, purge)| purge_bytes(*lsn, purge))
                .collect();
            self.tell(topic, of, "end_purges", |call| put_all(call, &told))
                .await;
        }
    }

    pub(super) async fn end_keys(&self, topic: &TopicKey, of: u16, rows: &[&DedupRow]) {
        for rows in rows.chunks(IDS_AT_ONCE) {
            let fill = |call: &mut Cmd| {
                for row in rows {
                    call.arg(&row.key_hash.to_be_bytes()).arg(&id_bytes(row.id));
                }
            };
            self.tell(topic, of, "end_keys", fill).await;
        }
    }

    /// Tells a topic what became of its part of a plan for the log of `of`. When Redis is away or has lost its
    /// memory, the part is planned again or brought back otherwise: what is stored twice is stored once.
    pub(super) async fn tell(&self, topic: &TopicKey, of: u16, operation: &str, fill: impl Fn(&mut Cmd)) {
        let fill = |call: &mut Cmd| {
            call.arg(of);
            fill(call);
        };
        let _ = self.call_with(&self.cell(topic), operation, fill).await;
    }

    /// Drops stored items, the largest topics' first, until about `bytes` are free.
    pub(super) async fn evict_bytes(&self, bytes: usize) -> usize {
        let mut cells = self.cells();
        // A Redis that is full says only that something must go.
        let bytes = if self.links().iter().any(Link::is_full) {
            let held: usize = cells.iter().map(|cell| cell.numbers().bytes).sum();
            bytes.min(held / 4 + 1)
        } else {
            bytes
        };
        cells.sort_by_cached_key(|cell| std::cmp::Reverse(cell.numbers().bytes));
        let mut freed = 0;
        for cell in cells {
            while freed < bytes {
                let fill = |call: &mut Cmd| {
                    // More is never asked for than a number in Redis can hold.
                    call.arg((bytes - freed).min(1 << 50));
                };
                let Ok(mut reply) = self.call_with(&cell, "evict", fill).await else {
                    break;
                };
                let (Ok(some), Ok(more)) = (reply.number(), reply.number()) else {
                    break;
                };
                freed += usize::try_from(some).unwrap_or(0);
                if more == 0 {
                    break;
                }
            }
        }
        freed
    }
}

/// How far a plan reaches that stores items of about the weight `limit`. A frame is stored whole or not at all, so
/// that one number says what the shard holds.
pub(super) fn reach(needs: impl Iterator<Item = (Lsn, usize)>, up_to: Lsn, limit: usize) -> Lsn {
    let mut needs: Vec<_> = needs.filter(|(need, _)| *need <= up_to).collect();
    needs.sort_unstable();
    let mut weight = 0;
    let over = needs.iter().position(|(_, more)| {
        weight += more;
        weight > limit
    });
    match over.map(|over| needs[over].0) {
        None => up_to,
        Some(cut) if needs[0].0 < cut => Lsn(cut.0 - 1),
        Some(cut) => cut,
    }
}

fn read_keys(topic: &TopicKey, mut list: Reply) -> Result<Vec<DedupRow>, HotError> {
    let mut keys = Vec::with_capacity(list.len() / 2);
    while !list.is_empty() {
        let hash = list.bytes()?.as_slice().try_into().map_err(|_| unreadable())?;
        let (body_hash, id, expires_at) = read_key(&list.bytes()?).ok_or_else(unreadable)?;
        keys.push(DedupRow {
            topic: topic.clone(),
            key_hash: u128::from_be_bytes(hash),
            body_hash,
            id,
            expires_at,
        });
    }
    Ok(keys)
}

fn lsn(list: &mut Reply) -> Result<Lsn, HotError> {
    u64::try_from(list.number()?).map(Lsn).map_err(|_| unreadable())
}

fn purge_bytes(lsn: Lsn, purge: &Purge) -> [u8; 17] {
    let mut bytes = [0; 17];
    bytes[0] = u8::from(purge.dead);
    bytes[1..9].copy_from_slice(&lsn.0.to_be_bytes());
    bytes[9..].copy_from_slice(&id_bytes(purge.up_to));
    bytes
}

fn read_purge(topic: &TopicKey, bytes: &[u8]) -> Option<(Lsn, Purge)> {
    let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let purge = Purge {
        topic: topic.clone(),
        dead: *bytes.first()? == 1,
        up_to: ItemId(number(9)?),
    };
    Some((Lsn(number(1)?), purge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_ends_with_a_whole_frame_before_it_weighs_too_much() {
        let needs = [(3, 1), (1, 5), (1, 5), (2, 1), (4, 9)].map(|(at, weight)| (Lsn(at), weight));
        let reach = |limit| reach(needs.into_iter(), Lsn(9), limit).0;
        // One frame alone may weigh more.
        assert_eq!([1, 9].map(reach), [1, 1]);
        assert_eq!([10, 11, 12, 20].map(reach), [1, 2, 3, 3]);
        assert_eq!(reach(21), 9);
    }
}
