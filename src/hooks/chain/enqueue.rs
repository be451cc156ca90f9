//! Items on their way in: each hook sees what the one before made, and every part of what it split.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::{SmallVec, smallvec};

use super::Chains;
use super::ask::{Answer, Direction, Fault, FaultKind, Run};
use super::check::{making, passed_over, reason, shape};
use crate::hooks::rehearse::Outcome;
use crate::hooks::{
    Bound, Chain, Decided, Edit, EnqueueOutcome, EnqueueVerdict, HookContext, HookItem, Reason, Room, Shaped,
    Verdicts, Version,
};
use crate::model::{HookRef, Item, Policy, Side, some};

/// Items on their way in.
pub(super) struct Inward;

/// A checked verdict.
pub(super) enum Ruling {
    Keep,
    Shape(Shaped),
    Split(Vec<Shaped>),
    /// What it would become is more than the request has room for.
    NoRoom,
    Filter(Reason),
    Reject(Reason),
    Bury(Reason),
}

impl Direction for Inward {
    const SIDE: Side = Side::Enqueue;
    type Verdict = EnqueueVerdict;
    type Ruling = Ruling;
    const KEPT: Ruling = Ruling::Keep;

    fn open(verdicts: Verdicts) -> Option<Vec<Result<EnqueueVerdict, String>>> {
        verdicts.into_enqueue()
    }

    fn shown(verdict: &EnqueueVerdict) -> Outcome {
        Outcome::of_enqueue(verdict)
    }

    fn rule(
        run: Run<'_>,
        version: &Version,
        item: &HookItem,
        verdict: EnqueueVerdict,
    ) -> Result<Ruling, String> {
        let most = run.payload_bytes_max;
        let shape = |edit| shape(&item.item, edit, &version.hook, &run.context.topic, most);
        let shape_all = |edits: Vec<Edit>| {
            let making = making(&item.item, &edits);
            if run.room.is_some_and(|room| !room.take(making)) {
                return Ok(None);
            }
            let parts: Result<Vec<_>, String> = edits.into_iter().map(shape).collect();
            if let (Err(_), Some(room)) = (&parts, run.room) {
                room.give_back(making);
            }
            parts.map(Some)
        };
        let limits = &version.limits;
        let is_lost = |shaped: &Shaped| shaped.route.is_some() && item.hops >= limits.hops;
        let lost = || {
            let message = format!("hooks may route an item {}", some(limits.hops, "time")).into();
            Ruling::Bury(Reason {
                code: "too_many_hops".into(),
                message,
            })
        };
        let shape_one = |edit| {
            let shaped = shape_all(vec![edit])?.and_then(|mut parts| parts.pop());
            Ok(match shaped {
                None => Ruling::NoRoom,
                Some(shaped) if is_lost(&shaped) => lost(),
                Some(shaped) => Ruling::Shape(shaped),
            })
        };
        match verdict {
            EnqueueVerdict::Keep => Ok(Ruling::Keep),
            EnqueueVerdict::Replace(payload) => shape_one(Edit {
                payload: Some(payload),
                ..Edit::default()
            }),
            EnqueueVerdict::Edit(edit) => shape_one(edit),
            EnqueueVerdict::Split(edits) if edits.is_empty() => {
                Err("split: give at least one item, or drop".into())
            }
            EnqueueVerdict::Split(edits) if edits.len() > limits.split_items as usize => {
                let (count, most) = (edits.len(), limits.split_items);
                Err(format!(
                    "split: into {}; at most {most} are allowed",
                    some(count, "item")
                ))
            }
            EnqueueVerdict::Split(edits) => Ok(match shape_all(edits)? {
                None => Ruling::NoRoom,
                Some(parts) if parts.iter().any(is_lost) => lost(),
                Some(parts) => Ruling::Split(parts),
            }),
            EnqueueVerdict::Drop(why) => reason(why).map(Ruling::Filter),
            EnqueueVerdict::Reject(why) => reason(why).map(Ruling::Reject),
            EnqueueVerdict::DeadLetter(why) => reason(why).map(Ruling::Bury),
        }
    }
}

/// What is known of an item that was handed in. Most are kept as they are: what only others need is boxed.
#[derive(Default)]
struct Slot {
    /// The item as it was when a hook first split it: all of it, whatever becomes of its parts.
    whole: Option<Arc<Item>>,
    /// What is to be stored of it.
    stored: SmallVec<[Shaped; 1]>,
    /// Who filtered it, or its last part that went that way.
    filtered: Option<Box<(HookRef, Reason)>>,
    /// What became of the whole, whatever became of its parts.
    ended: Option<Box<EnqueueOutcome>>,
}

/// What goes to the next hook of one item.
type Next = SmallVec<[HookItem; 1]>;

impl Chains {
    /// Runs `items` through `chain`. An item is one even when it was split: when a part is refused, buried or fails, the
    /// whole does; parts that are filtered are left out.
    pub(super) async fn run_enqueue(
        &self,
        chain: &Chain,
        context: &Arc<HookContext>,
        items: Arc<[HookItem]>,
        room: &Room,
    ) -> Decided<EnqueueOutcome> {
        let run = Run {
            context,
            room: Some(room),
            payload_bytes_max: self.payload_bytes_max.load(Ordering::Relaxed),
        };
        // Most items are kept by most hooks. What is known of each is only written down when some are not.
        let mut chain = chain.0.iter();
        let Some((first, answers)) = self.first_change::<Inward>(&mut chain, run, &items).await else {
            return Decided::Kept;
        };
        // The future of those that are kept should not be as large as what the others need.
        Box::pin(self.run_each(run, &items, first, answers, chain)).await
    }

    /// Goes on item by item, where the hook of `first` did not keep all of `items`, with the rest of the chain.
    async fn run_each(
        &self,
        run: Run<'_>,
        items: &[HookItem],
        first: &Bound,
        answers: Vec<Answer<'_, Inward>>,
        rest: std::slice::Iter<'_, Arc<Bound>>,
    ) -> Decided<EnqueueOutcome> {
        let mut slots: Vec<Slot> = items.iter().map(|_| Slot::default()).collect();
        let live = items.iter().cloned().enumerate().collect();
        let mut live = turn_all(&mut slots, first, live, answers);
        for bound in rest {
            live.retain(|(place, _)| slots[*place].ended.is_none());
            if live.is_empty() {
                break;
            }
            let asked = live.iter().map(|(_, item)| item.clone()).collect();
            if let Decided::Each(answers) = self.ask::<Inward>(bound, run, asked).await {
                live = turn_all(&mut slots, bound, live, answers);
            }
        }
        for (place, item) in live {
            slots[place].stored.push(Shaped {
                item: item.item,
                route: None,
            });
        }
        Decided::Each(slots.into_iter().filter_map(Slot::outcome).collect())
    }
}

/// Puts what the hook of `bound` said of the items that go through it in force; returns those that go on, each with the
/// place of what was handed in.
fn turn_all(
    slots: &mut [Slot],
    bound: &Bound,
    live: Vec<(usize, HookItem)>,
    answers: Vec<Answer<'_, Inward>>,
) -> Vec<(usize, HookItem)> {
    let mut next = Vec::with_capacity(live.len());
    for ((place, item), answer) in live.into_iter().zip(answers) {
        let goes_on = slots[place].turn(bound, answer.by, item, answer.ruling);
        next.extend(goes_on.into_iter().map(|item| (place, item)));
    }
    next
}

impl Slot {
    /// Puts what a hook said of the item, or of a part of it, in force; returns what goes to the next hook.
    fn turn(&mut self, bound: &Bound, by: &Version, item: HookItem, ruling: Result<Ruling, Fault>) -> Next {
        let hook = || by.hook.clone();
        match ruling {
            Ok(Ruling::Keep) => smallvec![item],
            Ok(Ruling::Shape(shaped)) => self.go_on(&item, [shaped]),
            Ok(Ruling::Split(parts)) => {
                self.whole.get_or_insert_with(|| item.item.clone());
                self.go_on(&item, parts)
            }
            Ok(Ruling::NoRoom) => self.end(EnqueueOutcome::NoRoom),
            Ok(Ruling::Filter(why)) => {
                self.filtered = Some(Box::new((hook(), why)));
                Next::new()
            }
            Ok(Ruling::Reject(why)) => self.end(EnqueueOutcome::Rejected(hook(), why)),
            Ok(Ruling::Bury(why)) => self.bury(item.item, hook(), why),
            Err(fault) => match fault.policy(bound) {
                Policy::Open => smallvec![HookItem {
                    item: passed_over(&item.item, &by.hook),
                    ..item
                }],
                Policy::DeadLetter => {
                    let why = Reason {
                        code: fault.kind.code().into(),
                        message: fault.detail.into(),
                    };
                    self.bury(item.item, hook(), why)
                }
                Policy::Closed | Policy::RetryPrevious => self.end(EnqueueOutcome::Failed {
                    by: hook(),
                    retry_after_ms: (fault.kind == FaultKind::Overload).then(|| {
                        let wait = fault.retry_after.unwrap_or_default();
                        u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
                    }),
                    detail: fault.detail,
                }),
            },
        }
    }

    /// A route ends the chain; everything else goes to the next hook.
    fn go_on(&mut self, from: &HookItem, parts: impl IntoIterator<Item = Shaped>) -> Next {
        let mut next = Next::new();
        for shaped in parts {
            if shaped.route.is_some() {
                self.stored.push(shaped);
            } else {
                next.push(HookItem {
                    item: shaped.item,
                    ..from.clone()
                });
            }
        }
        next
    }

    /// A part that becomes a dead letter takes the whole along, so that nothing of it is lost.
    fn bury(&mut self, item: Arc<Item>, by: HookRef, why: Reason) -> Next {
        let whole = self.whole.clone().unwrap_or(item);
        self.end(EnqueueOutcome::DeadLetter(whole, by, why))
    }

    fn end(&mut self, outcome: EnqueueOutcome) -> Next {
        self.ended.get_or_insert_with(|| Box::new(outcome));
        Next::new()
    }

    /// Nothing is left only of an item whose parts were all filtered.
    fn outcome(mut self) -> Option<EnqueueOutcome> {
        if let Some(ended) = self.ended {
            return Some(*ended);
        }
        if self.stored.is_empty() {
            let (by, why) = *self.filtered?;
            return Some(EnqueueOutcome::Filtered(by, why));
        }
        if let Some(whole) = self.whole {
            return Some(EnqueueOutcome::Split(whole, self.stored.into_vec()));
        }
        self.stored.pop().map(EnqueueOutcome::Store)
    }
}
