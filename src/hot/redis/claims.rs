//! Claims: learning which incarnation slots have, and saying that one is ready.

use futures_util::stream::{StreamExt, TryStreamExt, iter};
use hashbrown::HashSet;
use redis::cmd;

use super::library::LIBRARY;
use super::link::Link;
use super::reply::Reply;
use super::slots::SlotState;
use super::tier::RedisTier;
use crate::hot::HotError;
use crate::model::{NodeId, SLOT_COUNT, Slot};

/// Calls under way at a time.
const CALLS_AT_ONCE: usize = 64;

impl RedisTier {
    /// Learns the incarnation of every slot, and makes it where there is none.
    pub(super) async fn claim_slots(&self) -> Result<(), HotError> {
        let all = (0..SLOT_COUNT).map(Slot).collect();
        for (slots, mut reply) in self.ask_for(all, "claim").await? {
            let remembers = reply.number()? == 1;
            let incarnation = Some(reply.bytes()?);
            for slot in slots {
                let incarnation = incarnation.clone();
                let before = self.slots().get(slot);
                // What this process read back itself counts, not what an earlier one did.
                let is_known = if self.has_run() {
                    before.is_known && before.incarnation == incarnation
                } else {
                    remembers
                };
                let has_all_keys = before.has_all_keys && before.incarnation == incarnation;
                self.slots().set(
                    slot,
                    SlotState {
                        incarnation,
                        is_known,
                        has_all_keys,
                    },
                );
            }
        }
        Ok(())
    }

    /// Says that what is cold of every fresh slot has been told.
    pub(super) async fn make_ready(&self) -> Result<(), HotError> {
        let fresh = self.slots().which(SlotState::is_fresh);
        for (slots, mut reply) in self.ask_for(fresh, "ready").await? {
            let incarnation = Some(reply.bytes()?);
            for slot in slots {
                let incarnation = incarnation.clone();
                let is_known = self.slots().get(slot).is_known;
                self.slots().set(
                    slot,
                    SlotState {
                        incarnation,
                        is_known,
                        has_all_keys: false,
                    },
                );
            }
        }
        Ok(())
    }

    /// Notes that this node's log is read back into every slot.
    pub(super) async fn make_known(&self) -> Result<(), HotError> {
        let unknown = self
            .slots()
            .which(|state| !state.is_known && state.incarnation.is_some());
        for (slots, mut reply) in self.ask_for(unknown, "known").await? {
            let incarnation = reply.bytes()?;
            for slot in slots {
                let state = self.slots().get(slot);
                if state.incarnation.as_ref() == Some(&incarnation) {
                    let is_known = true;
                    self.slots().set(slot, SlotState { is_known, ..state });
                }
            }
        }
        Ok(())
    }

    /// Whether the logs of all `nodes` were read back into what has `slot`.
    pub(super) async fn have_read_back(&self, slot: Slot, nodes: &[NodeId]) -> Result<bool, HotError> {
        let Some(incarnation) = self.slots().incarnation(slot, false) else {
            return Ok(false);
        };
        let asked = self.ask(self.link(slot), vec![slot], "who".to_owned()).await?;
        let (_, mut reply) = asked;
        if reply.bytes()? != incarnation {
            return Ok(false);
        }
        let mut told = reply.list()?;
        let mut there = HashSet::with_capacity(told.len());
        while !told.is_empty() {
            there.insert(told.number()?);
        }
        let all = nodes.iter().all(|node| there.contains(&i64::from(node.number())));
        if all {
            self.slots().note_all_keys(&incarnation);
        }
        Ok(all)
    }

    /// Calls the slots' function once for `slots` that share an incarnation; returns which, and the replies.
    async fn ask_for(&self, slots: Vec<Slot>, operation: &str) -> Result<Vec<(Vec<Slot>, Reply)>, HotError> {
        let mut calls = Vec::new();
        for (number, link) in self.links().iter().enumerate() {
            let here = slots.iter().copied();
            let here: Vec<_> = here.filter(|slot| self.link_number(*slot) == number).collect();
            let together = if link.is_cluster() { 1 } else { here.len().max(1) };
            for slots in here.chunks(together) {
                calls.push(self.ask(link, slots.to_vec(), operation.to_owned()));
            }
        }
        iter(calls).buffer_unordered(CALLS_AT_ONCE).try_collect().await
    }

    async fn ask(
        &self,
        link: &Link,
        slots: Vec<Slot>,
        operation: String,
    ) -> Result<(Vec<Slot>, Reply), HotError> {
        let mut call = cmd("FCALL");
        call.arg(&LIBRARY.name_slots).arg(1);
        call.arg(self.incarnation_key(slots[0]))
            .arg(&operation)
            .arg(self.node());
        if operation == "claim" {
            call.arg(format!("{:016x}", rand::random::<u64>()));
        } else {
            call.arg(self.slots().get(slots[0]).incarnation.unwrap_or_default());
        }
        let reply = Reply::of(link.send(&call).await?)?;
        Ok((slots, reply))
    }
}
