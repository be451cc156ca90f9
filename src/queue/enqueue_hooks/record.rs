//! What the plans of a request come to: its answer, its keys and its frame.

use std::sync::Arc;

use super::plan::Plan;
use crate::clock::Timestamp;
use crate::model::{ItemId, QueuedItem};
use crate::queue::idempotency::{KeyedBatch, repeat_of};
use crate::queue::request::EnqueueResult;
use crate::queue::topics::TopicHandle;
use crate::shard::DedupRow;
use crate::wal::{FrameBuilder, KeyEntry, PatchEntry};

/// What one frame brings to one topic.
pub(super) struct Group {
    pub(super) handle: Arc<TopicHandle>,
    pub(super) items: Vec<QueuedItem>,
}

pub(super) fn results(keyed: &KeyedBatch, plans: &[Plan]) -> Vec<EnqueueResult> {
    let mut results: Vec<EnqueueResult> = Vec::with_capacity(plans.len());
    for (index, plan) in plans.iter().enumerate() {
        results.push(match (keyed.answer(index), keyed.repeated(index)) {
            (Some(answer), _) => answer.clone(),
            (None, Some(first)) => repeat_of(&results[first]),
            (None, None) => plan.result(),
        });
    }
    results
}

/// The keys of the items of which something is stored, each for the first of what is.
pub(super) fn key_rows(
    handle: &TopicHandle,
    keyed: &KeyedBatch,
    plans: &[Plan],
    now: Timestamp,
) -> Vec<DedupRow> {
    let expires_at = now.plus_ms(handle.settings().dedup_window_ms);
    let row = |(index, plan): (usize, &Plan)| {
        let probe = keyed.key(index)?;
        let id = plan.kept().iter().map(|(_, queued)| queued.item.id).min()?;
        Some(DedupRow {
            topic: handle.key.clone(),
            key_hash: probe.key_hash,
            body_hash: probe.body_hash,
            id,
            expires_at,
        })
    };
    plans.iter().enumerate().filter_map(row).collect()
}

/// Those of `rows` that replay cannot tell from the items themselves.
pub(super) fn key_entries(rows: &[DedupRow], plans: &[Plan]) -> Vec<KeyEntry> {
    let is_shaped = |id: ItemId| {
        let mut stored = plans.iter().flat_map(Plan::kept);
        let item = stored.find(|(_, queued)| queued.item.id == id);
        let extra = item.and_then(|(_, queued)| queued.item.extra.as_deref());
        extra.is_some_and(|extra| extra.hook_version.is_some())
    };
    let entry = |row: &DedupRow| KeyEntry {
        key_hash: row.key_hash,
        body_hash: row.body_hash,
        id: row.id,
        expires_at: row.expires_at,
    };
    rows.iter().filter(|row| is_shaped(row.id)).map(entry).collect()
}

pub(super) fn groups(topics: Vec<Arc<TopicHandle>>, plans: Vec<Plan>) -> Vec<Group> {
    let group = |handle| Group {
        handle,
        items: Vec::new(),
    };
    let mut groups: Vec<Group> = topics.into_iter().map(group).collect();
    let count = plans.len();
    for plan in plans.into_iter().filter(|plan| plan.refused.is_none()) {
        for (topic, queued) in plan.stored {
            let items = &mut groups[topic.0].items;
            if items.is_empty() {
                items.reserve(count);
            }
            items.push(queued);
        }
    }
    groups.retain(|group| !group.items.is_empty());
    groups
}

/// One frame says all of it, so that an item's parts and its key stand or fall together.
pub(super) fn frame(groups: &[Group], handle: &TopicHandle, keys: &[KeyEntry]) -> FrameBuilder {
    let all = groups.iter().flat_map(|group| &group.items);
    let bytes: usize = all.map(|queued| queued.item.payload.len() + 96).sum();
    let mut frame = FrameBuilder::with_capacity(bytes + 256);
    for group in groups {
        let topic = &group.handle.key;
        frame.enqueue(topic, group.items.iter().map(|queued| &*queued.item));
        let dead = group.items.iter().filter(|queued| queued.standing.dead.is_some());
        let patches: Vec<_> = dead
            .map(|queued| PatchEntry {
                id: queued.item.id,
                standing: queued.standing.clone(),
            })
            .collect();
        if !patches.is_empty() {
            frame.patch(topic, &patches);
        }
    }
    if !keys.is_empty() {
        frame.keys(&handle.key, keys);
    }
    frame
}
