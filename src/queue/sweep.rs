//! Sweeps: many items of a topic, group by group, each group one bounded step. Between two steps whoever
//! sweeps may stop, rest, or say how far it is; nothing waits for a sweep.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::error::QueueError;
use super::request::{ItemView, Requester};
use super::topics::TopicHandle;
use crate::hooks::{Bound, Chain};
use crate::hot::item_bytes;
use crate::model::{ItemFilter, ItemState, OrderKey, SettleCause, limits};

/// Most items of one step.
const STEP: usize = 500;
/// Most bytes that one step brings back in one frame of the log.
const GROUP_BYTES: usize = 512 << 10;
/// How many items of a sweep are shown.
const SAMPLE: usize = 10;

/// What becomes of the items that fit.
#[derive(Clone)]
pub(super) enum Deed {
    /// Nothing: they are counted.
    Count,
    /// They are removed.
    Discard(SettleCause),
    /// They are dead and come back.
    Revive {
        /// Into another topic.
        target: Option<Arc<TopicHandle>>,
        /// Through hooks, on whose behalf.
        through: Option<(Chain, Requester)>,
    },
}

/// A sweep through the items of a topic in one state.
pub(super) struct Sweep {
    pub(super) handle: Arc<TopicHandle>,
    pub(super) state: ItemState,
    pub(super) filter: ItemFilter,
    pub(super) limit: Option<u64>,
    pub(super) rate_per_s: Option<u32>,
    pub(super) deed: Deed,
}

/// How far a sweep is.
#[derive(Default)]
pub(super) struct Swept {
    /// How many items were dealt with, those that did not fit included.
    pub(super) looked: u64,
    /// How many were changed, or would have been.
    pub(super) done: u64,
    /// How many a hook did not let back.
    pub(super) kept: u64,
    /// The first few of those that fit.
    pub(super) sample: Vec<ItemView>,
}

/// A sweep under way.
pub(super) struct Sweeper {
    sweep: Sweep,
    from: Option<OrderKey>,
    found: VecDeque<ItemView>,
    pub(super) swept: Swept,
}

impl Sweeper {
    /// A sweep from the first item on; `done` of an earlier part of it count towards its limit.
    pub(super) fn new(sweep: Sweep, done: u64) -> Self {
        Self {
            sweep,
            from: Some(OrderKey::MIN),
            found: VecDeque::new(),
            swept: Swept {
                done,
                ..Swept::default()
            },
        }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.left() == 0 || (self.found.is_empty() && self.from.is_none())
    }

    /// Whether more may fit than was done.
    pub(super) fn has_more(&self) -> bool {
        !self.found.is_empty() || self.from.is_some()
    }

    fn left(&self) -> u64 {
        let limit = self.sweep.limit.unwrap_or(u64::MAX);
        limit.saturating_sub(self.swept.done)
    }

    /// Deals with the next group; returns how long to rest so that the rate is kept.
    pub(super) async fn step(&mut self, core: &Arc<Core>) -> Result<Duration, QueueError> {
        if self.found.is_empty() {
            self.look(core).await?;
        }
        let group = self.next_group();
        if group.is_empty() {
            return Ok(Duration::ZERO);
        }
        let room = SAMPLE.saturating_sub(self.swept.sample.len());
        self.swept.sample.extend(group.iter().take(room).cloned());
        let looked = group.len() as u64;
        let handle = &self.sweep.handle;
        let (done, kept) = match &self.sweep.deed {
            Deed::Count => (group.len(), 0),
            Deed::Discard(cause) => {
                let ids: Vec<_> = group.iter().map(|view| view.item.id).collect();
                (core.discard(handle, &ids, *cause).await?, 0)
            }
            Deed::Revive { target, through } => {
                core.clone()
                    .revive(handle, target.as_ref(), through.as_ref(), &group)
                    .await?
            }
        };
        self.swept.looked += looked;
        self.swept.done += done as u64;
        self.swept.kept += kept as u64;
        if matches!(self.sweep.deed, Deed::Count) {
            return Ok(Duration::ZERO);
        }
        let rate = self.sweep.rate_per_s.map_or(f64::INFINITY, f64::from).max(1.0);
        Ok(Duration::from_secs_f64((done + kept) as f64 / rate))
    }

    /// Reads the next page and keeps what fits.
    async fn look(&mut self, core: &Arc<Core>) -> Result<(), QueueError> {
        let Some(from) = self.from else { return Ok(()) };
        let (topic, state) = (&self.sweep.handle.key, self.sweep.state);
        let page = core.browse(topic, state, Some(from), STEP).await?;
        self.from = page.next;
        let filter = &self.sweep.filter;
        let seen = page.entries.len();
        let fitting = page.entries.into_iter().filter(|view| fits(filter, view));
        self.found.extend(fitting);
        self.swept.looked += (seen - self.found.len()) as u64;
        Ok(())
    }

    /// What one step deals with: few enough items for the limit and the rate.
    fn next_group(&mut self) -> Vec<ItemView> {
        let rate = self.sweep.rate_per_s.map_or(STEP, |rate| rate as usize);
        let left = usize::try_from(self.left()).unwrap_or(usize::MAX);
        let most = rate.clamp(1, self.step_max()).min(left);
        take_group(&mut self.found, most)
    }

    /// Most items of one step: so few that all their parts have room in a frame where hooks split them.
    fn step_max(&self) -> usize {
        let Deed::Revive {
            through: Some((chain, _)),
            ..
        } = &self.sweep.deed
        else {
            return STEP;
        };
        let parts = |most: usize, bound: &Arc<Bound>| {
            most.saturating_mul(bound.active.limits.split_items.max(1) as usize)
        };
        let parts = chain.0.iter().fold(1, parts);
        (limits::BATCH_ITEMS_MAX / parts).clamp(1, STEP)
    }
}

/// Takes up to `most` items, and few enough bytes for a frame of the log, from the front of `found`.
fn take_group(found: &mut VecDeque<ItemView>, most: usize) -> Vec<ItemView> {
    let mut group = Vec::new();
    let mut bytes = 0;
    while group.len() < most
        && let Some(view) = found.front()
    {
        bytes += item_bytes(&view.item);
        if bytes > GROUP_BYTES && !group.is_empty() {
            break;
        }
        group.extend(found.pop_front());
    }
    group
}

/// Whether `filter` means an item.
pub(super) fn fits(filter: &ItemFilter, view: &ItemView) -> bool {
    let item = &view.item;
    let died = view.dead;
    let error = view.last_error.as_deref().unwrap_or_default();
    let has_header = |wanted: &crate::model::HeaderMatch| {
        let headers = item.extra.as_ref().map_or(&[][..], |extra| &extra.headers);
        headers
            .iter()
            .any(|(name, value)| name.eq_ignore_ascii_case(&wanted.name) && **value == *wanted.value)
    };
    filter.ids.as_ref().is_none_or(|ids| ids.contains(&item.id))
        && filter.priority_min.is_none_or(|min| item.priority >= min)
        && filter.priority_max.is_none_or(|max| item.priority <= max)
        && filter
            .enqueued_after
            .is_none_or(|after| item.enqueued_at >= after)
        && filter
            .enqueued_before
            .is_none_or(|before| item.enqueued_at <= before)
        && filter.header.as_ref().is_none_or(has_header)
        && filter
            .error_contains
            .as_ref()
            .is_none_or(|text| error.contains(text.as_str()))
        && filter
            .reason
            .is_none_or(|reason| died.is_some_and(|death| death.reason == reason))
        && filter
            .died_after
            .is_none_or(|after| died.is_some_and(|death| death.at >= after))
        && filter
            .died_before
            .is_none_or(|before| died.is_some_and(|death| death.at <= before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::model::{DeadReason, Death, Extra, HeaderMatch, Item, ItemId, PayloadKind};

    fn view(id: u64, payload: usize) -> ItemView {
        ItemView {
            item: Arc::new(Item {
                id: ItemId(id),
                priority: 5,
                lease_ms: 1,
                max_attempts: 1,
                kind: PayloadKind::Bytes,
                enqueued_at: Timestamp::from_ms(100),
                deliver_after: Timestamp::ZERO,
                expires_at: None,
                payload: vec![0; payload].into(),
                extra: Some(Box::new(Extra {
                    headers: vec![("Kind".into(), "a".into())],
                    ..Extra::default()
                })),
            }),
            state: ItemState::Dead,
            due: Timestamp::ZERO,
            attempt: 1,
            lease_expires_at: None,
            last_error: Some("it broke".into()),
            dead: Some(Death {
                reason: DeadReason::Rejected,
                at: Timestamp::from_ms(200),
            }),
        }
    }

    #[test]
    fn groups_are_bounded_in_items_and_in_bytes() {
        let sizes = |payloads: &[usize]| {
            let views = payloads.iter().map(|payload| view(1, *payload));
            let mut found: VecDeque<_> = views.collect();
            let mut sizes = Vec::new();
            while !found.is_empty() {
                sizes.push(take_group(&mut found, 3).len());
            }
            sizes
        };
        assert_eq!(sizes(&[1; 7]), [3, 3, 1]);
        let large = GROUP_BYTES / 2;
        assert_eq!(sizes(&[large, large, 1, 1, 2 * GROUP_BYTES, 1]), [1, 3, 1, 1]);
    }

    #[test]
    fn every_member_of_a_filter_counts() {
        let item = view(7, 0);
        let header = |value: &str| HeaderMatch {
            name: "kind".into(),
            value: value.into(),
        };
        let at = |ms: i64| Some(Timestamp::from_ms(ms));
        let none = ItemFilter::default;
        let yes = [
            none(),
            ItemFilter {
                ids: Some(vec![ItemId(1), ItemId(7)]),
                priority_min: Some(5),
                priority_max: Some(5),
                enqueued_after: at(100),
                enqueued_before: at(100),
                older_than_ms: None,
                header: Some(header("a")),
                error_contains: Some("broke".into()),
                reason: Some(DeadReason::Rejected),
                died_after: at(200),
                died_before: at(200),
            },
        ];
        assert!(yes.iter().all(|filter| fits(filter, &item)));
        let no = [
            ItemFilter {
                ids: Some(vec![ItemId(1)]),
                ..none()
            },
            ItemFilter {
                priority_min: Some(6),
                ..none()
            },
            ItemFilter {
                priority_max: Some(4),
                ..none()
            },
            ItemFilter {
                enqueued_after: at(101),
                ..none()
            },
            ItemFilter {
                enqueued_before: at(99),
                ..none()
            },
            ItemFilter {
                header: Some(header("b")),
                ..none()
            },
            ItemFilter {
                error_contains: Some("bent".into()),
                ..none()
            },
            ItemFilter {
                reason: Some(DeadReason::Hook),
                ..none()
            },
            ItemFilter {
                died_after: at(201),
                ..none()
            },
            ItemFilter {
                died_before: at(199),
                ..none()
            },
        ];
        for filter in no {
            assert!(!fits(&filter, &item), "{filter:?}");
        }
        let mut alive = view(7, 0);
        alive.dead = None;
        assert!(!fits(
            &ItemFilter {
                died_before: at(999),
                ..none()
            },
            &alive
        ));
    }
}
