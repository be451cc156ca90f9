//! What becomes of the items of a request, while hooks are asked.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::hooks::Reason;
use crate::model::{DeadReason, HookRef, Item, ItemId, QueuedItem, Standing, limits};
use crate::queue::request::{EnqueueResult, HookReason};
use crate::queue::transition::died;
use crate::wal::FRAME_BYTES_MAX;

/// A topic that the request reaches, by its place among them: handles are shared by all requests, and a count of
/// users for every item would be written to by all cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TopicPlace(pub(super) usize);

/// What becomes of one item of the request. Most are stored as they are: what only others need is boxed.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) id: ItemId,
    /// The item as it was when a hook first split it, and where.
    pub(super) whole: Option<(TopicPlace, Arc<Item>)>,
    pub(super) stored: SmallVec<[(TopicPlace, QueuedItem); 1]>,
    /// The last part that was filtered, when one was.
    pub(super) filtered: Option<Box<HookReason>>,
    /// The item is a dead letter, whatever became of its parts.
    pub(super) buried: Option<Box<HookReason>>,
    /// The answer, when nothing is stored.
    pub(super) refused: Option<Box<EnqueueResult>>,
}

impl Plan {
    /// Whether more may come of the item.
    pub(super) fn is_open(&self) -> bool {
        self.refused.is_none() && self.buried.is_none()
    }

    pub(super) fn store(&mut self, topic: TopicPlace, item: Arc<Item>) {
        let standing = Standing::new(item.deliver_after);
        self.stored.push((topic, QueuedItem { item, standing }));
    }

    pub(super) fn bury(
        &mut self,
        topic: TopicPlace,
        mut item: Arc<Item>,
        by: HookRef,
        why: Reason,
        at: Timestamp,
    ) {
        if item.id != self.id {
            Arc::make_mut(&mut item).id = self.id;
        }
        let error = format!("{}: {}", why.code, why.message);
        let alive = Standing::new(item.deliver_after);
        let standing = died(&alive, DeadReason::Hook, at, Some(error.into()));
        self.stored.clear();
        self.stored.push((topic, QueuedItem { item, standing }));
        self.buried = Some(Box::new(HookReason { by, reason: why }));
    }

    pub(super) fn refuse(&mut self, code: &'static str, message: &str) {
        self.stored.clear();
        self.refused = Some(Box::new(EnqueueResult::Rejected {
            code,
            message: message.to_owned(),
        }));
    }

    pub(super) fn refuse_parts(&mut self) {
        let (items, mib) = (limits::BATCH_ITEMS_MAX, FRAME_BYTES_MAX >> 20);
        let text =
            format!("hooks make more than {items} items or {mib} MiB of the batch; send fewer at once");
        self.refuse("too_many_parts", &text);
    }

    /// The items to store; none of one that was refused.
    pub(super) fn kept(&self) -> &[(TopicPlace, QueuedItem)] {
        if self.refused.is_some() { &[] } else { &self.stored }
    }

    pub(super) fn result(&self) -> EnqueueResult {
        if let Some(refused) = &self.refused {
            return (**refused).clone();
        }
        match (&self.buried, &self.filtered, &self.stored[..]) {
            (Some(why), _, [(_, queued)]) => EnqueueResult::DeadLettered {
                id: queued.item.id,
                why: why.clone(),
            },
            (_, Some(why), []) => EnqueueResult::Filtered {
                id: self.id,
                why: why.clone(),
            },
            (_, _, [(_, queued)]) if self.whole.is_none() => EnqueueResult::Accepted { id: queued.item.id },
            (_, _, stored) => {
                // The id that the item had names it; parts that came by other ways come after it.
                let mut ids: Vec<_> = stored.iter().map(|(_, queued)| queued.item.id).collect();
                ids.sort_unstable();
                EnqueueResult::Split { ids }
            }
        }
    }
}
