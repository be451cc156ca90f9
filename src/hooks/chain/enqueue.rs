//! Items on their way in: each hook sees what the one before made, and every part of what it split.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Chains;
use super::ask::{Direction, Fault, FaultKind};
use super::check::{passed_over, reason, shape};
use crate::hooks::{
    Bound, Chain, Edit, EnqueueOutcome, EnqueueVerdict, HookContext, HookItem, Reason, Shaped, Verdicts,
    Version,
};
use crate::model::{HookRef, Policy, Side};

/// Items that those of one run may be split into, all together.
const PARTS_MAX: usize = 10_000;

/// Items on their way in.
pub(super) struct Inward;

/// A checked verdict.
pub(super) enum Ruling {
    Keep,
    Shape(Shaped),
    Split(Vec<Shaped>),
    Filter(Reason),
    Reject(Reason),
    Bury(Reason),
}

impl Direction for Inward {
    const SIDE: Side = Side::Enqueue;
    type Verdict = EnqueueVerdict;
    type Ruling = Ruling;

    fn open(verdicts: Verdicts) -> Option<Vec<Result<EnqueueVerdict, String>>> {
        match verdicts {
            Verdicts::Enqueue(list) => Some(list),
            Verdicts::Dequeue(_) => None,
        }
    }

    fn rule(
        chains: &Chains,
        context: &HookContext,
        version: &Version,
        item: &HookItem,
        verdict: EnqueueVerdict,
    ) -> Result<Ruling, String> {
        let most = chains.payload_bytes_max.load(Ordering::Relaxed);
        let shape = |edit| shape(&item.item, edit, &version.hook, &context.topic, most);
        let limits = &version.limits;
        let is_lost = |shaped: &Shaped| shaped.route.is_some() && item.hops >= limits.hops;
        let lost = || {
            let message = format!("hooks may route an item {} times", limits.hops).into();
            Ruling::Bury(Reason {
                code: "too_many_hops".into(),
                message,
            })
        };
        let shape_one = |edit| {
            let shaped = shape(edit)?;
            Ok(if is_lost(&shaped) {
                lost()
            } else {
                Ruling::Shape(shaped)
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
                Err(format!("split: into {count} items; at most {most} are allowed"))
            }
            EnqueueVerdict::Split(edits) => {
                let parts = edits.into_iter().map(shape).collect::<Result<Vec<_>, _>>()?;
                Ok(if parts.iter().any(is_lost) {
                    lost()
                } else {
                    Ruling::Split(parts)
                })
            }
            EnqueueVerdict::Drop(why) => reason(why).map(Ruling::Filter),
            EnqueueVerdict::Reject(why) => reason(why).map(Ruling::Reject),
            EnqueueVerdict::DeadLetter(why) => reason(why).map(Ruling::Bury),
        }
    }
}

/// What is known of an item that was handed in.
#[derive(Default)]
struct Slot {
    /// A hook split it.
    is_split: bool,
    /// What is to be stored of it.
    stored: Vec<Shaped>,
    /// Who filtered it, or its last part that went that way.
    filtered: Option<(HookRef, Reason)>,
    /// What became of the whole, whatever became of its parts.
    ended: Option<EnqueueOutcome>,
}

impl Chains {
    /// Runs `items` through `chain`; one outcome each, in order. An item is one even when it was split: when
    /// a part is refused, buried or fails, the whole does; parts that are filtered are left out.
    pub(super) async fn run_enqueue(
        &self,
        chain: &Chain,
        context: &Arc<HookContext>,
        items: Vec<HookItem>,
    ) -> Vec<EnqueueOutcome> {
        let mut slots: Vec<Slot> = items.iter().map(|_| Slot::default()).collect();
        let mut room = PARTS_MAX;
        let mut live: Vec<(usize, HookItem)> = items.into_iter().enumerate().collect();
        for bound in chain.0.iter() {
            live.retain(|(place, _)| slots[*place].ended.is_none());
            if live.is_empty() {
                break;
            }
            let asked = live.iter().map(|(_, item)| item.clone()).collect();
            let answers = self.ask::<Inward>(bound, context, asked).await;
            let mut next = Vec::with_capacity(live.len());
            for ((place, item), answer) in live.into_iter().zip(answers) {
                let ruling = answer.ruling.and_then(|ruling| in_room(ruling, &mut room));
                let goes_on = slots[place].turn(bound, &answer.by, item, ruling);
                next.extend(goes_on.into_iter().map(|item| (place, item)));
            }
            live = next;
        }
        for (place, item) in live {
            slots[place].stored.push(Shaped {
                item: item.item,
                route: None,
            });
        }
        slots.into_iter().filter_map(Slot::outcome).collect()
    }
}

fn in_room(ruling: Ruling, room: &mut usize) -> Result<Ruling, Fault> {
    if let Ruling::Split(parts) = &ruling {
        let left = room.checked_sub(parts.len());
        *room = left.ok_or_else(|| {
            Fault::error(&format!(
                "split: one request may become at most {PARTS_MAX} items"
            ))
        })?;
    }
    Ok(ruling)
}

impl Slot {
    /// Puts what a hook said of the item, or of a part of it, in force; returns what goes to the next hook.
    fn turn(
        &mut self,
        bound: &Bound,
        by: &Version,
        item: HookItem,
        ruling: Result<Ruling, Fault>,
    ) -> Vec<HookItem> {
        let hook = by.hook.clone();
        match ruling {
            Ok(Ruling::Keep) => vec![item],
            Ok(Ruling::Shape(shaped)) => self.go_on(&item, vec![shaped]),
            Ok(Ruling::Split(parts)) => {
                self.is_split = true;
                self.go_on(&item, parts)
            }
            Ok(Ruling::Filter(why)) => {
                self.filtered = Some((hook, why));
                Vec::new()
            }
            Ok(Ruling::Reject(why)) => self.end(EnqueueOutcome::Rejected(hook, why)),
            Ok(Ruling::Bury(why)) => self.end(EnqueueOutcome::DeadLetter(item.item, hook, why)),
            Err(fault) => match fault.policy(bound) {
                Policy::Open => vec![HookItem {
                    item: passed_over(&item.item, &hook),
                    ..item
                }],
                Policy::DeadLetter => {
                    let why = Reason {
                        code: fault.kind.code().into(),
                        message: fault.detail.into(),
                    };
                    self.end(EnqueueOutcome::DeadLetter(item.item, hook, why))
                }
                Policy::Closed | Policy::RetryPrevious => self.end(EnqueueOutcome::Failed {
                    by: hook,
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
    fn go_on(&mut self, from: &HookItem, parts: Vec<Shaped>) -> Vec<HookItem> {
        let mut next = Vec::with_capacity(parts.len());
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

    fn end(&mut self, outcome: EnqueueOutcome) -> Vec<HookItem> {
        self.ended.get_or_insert(outcome);
        Vec::new()
    }

    /// Nothing is left only of an item whose parts were all filtered.
    fn outcome(mut self) -> Option<EnqueueOutcome> {
        if let Some(ended) = self.ended {
            return Some(ended);
        }
        if self.stored.is_empty() {
            return self.filtered.map(|(by, why)| EnqueueOutcome::Filtered(by, why));
        }
        if self.is_split {
            return Some(EnqueueOutcome::Split(self.stored));
        }
        self.stored.pop().map(EnqueueOutcome::Store)
    }
}
