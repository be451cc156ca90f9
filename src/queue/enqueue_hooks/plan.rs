//! What becomes of the items of a request, while hooks are asked.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::hooks::Reason;
use crate::model::{DeadReason, HookRef, Item, ItemId, QueuedItem, Standing, limits};
use crate::queue::request::{EnqueueResult, HookReason};
use crate::queue::topics::TopicHandle;
use crate::queue::transition::died;
use crate::wal::FRAME_BYTES_MAX;

/// What becomes of one item of the request.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) id: ItemId,
    /// The item as it was when a hook first split it, and where.
    pub(super) whole: Option<(Arc<TopicHandle>, Arc<Item>)>,
    pub(super) stored: Vec<(Arc<TopicHandle>, QueuedItem)>,
    /// The last part that was filtered, when one was.
    pub(super) filtered: Option<Box<HookReason>>,
    /// The item is a dead letter, whatever became of its parts.
    pub(super) buried: Option<Box<HookReason>>,
    /// The answer, when nothing is stored.
    pub(super) refused: Option<EnqueueResult>,
}

impl Plan {
    /// Whether more may come of the item.
    pub(super) fn is_open(&self) -> bool {
        self.refused.is_none() && self.buried.is_none()
    }

    pub(super) fn store(&mut self, handle: &Arc<TopicHandle>, item: Arc<Item>) {
        let standing = Standing::new(item.deliver_after);
        self.stored.push((handle.clone(), QueuedItem { item, standing }));
    }

    pub(super) fn bury(
        &mut self,
        handle: &Arc<TopicHandle>,
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
        self.stored = vec![(handle.clone(), QueuedItem { item, standing })];
        self.buried = Some(Box::new(HookReason { by, reason: why }));
    }

    pub(super) fn refuse(&mut self, code: &'static str, message: &str) {
        self.stored.clear();
        self.refused = Some(EnqueueResult::Rejected {
            code,
            message: message.to_owned(),
        });
    }

    pub(super) fn refuse_parts(&mut self) {
        let (items, mib) = (limits::BATCH_ITEMS_MAX, FRAME_BYTES_MAX >> 20);
        let text =
            format!("hooks make more than {items} items or {mib} MiB of the batch; send fewer at once");
        self.refuse("too_many_parts", &text);
    }

    /// The items to store; none of one that was refused.
    pub(super) fn kept(&self) -> &[(Arc<TopicHandle>, QueuedItem)] {
        if self.refused.is_some() { &[] } else { &self.stored }
    }

    pub(super) fn result(&self) -> EnqueueResult {
        if let Some(refused) = &self.refused {
            return refused.clone();
        }
        let mut ids: Vec<_> = self.stored.iter().map(|(_, queued)| queued.item.id).collect();
        match (&self.buried, &self.filtered, &ids[..]) {
            (Some(why), _, [id]) => EnqueueResult::DeadLettered {
                id: *id,
                why: why.clone(),
            },
            (_, Some(why), []) => EnqueueResult::Filtered {
                id: self.id,
                why: why.clone(),
            },
            (_, _, [id]) if self.whole.is_none() => EnqueueResult::Accepted { id: *id },
            _ => {
                // The id that the item had names it; parts that came by other ways come after it.
                ids.sort_unstable();
                EnqueueResult::Split { ids }
            }
        }
    }
}
