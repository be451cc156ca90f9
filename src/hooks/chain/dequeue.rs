//! Items on their way out: each hook sees the view that the one before made.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Chains;
use super::ask::{Answer, Direction, Fault, FaultKind, Run};
use super::check::{passed_over, reason, shape};
use crate::hooks::rehearse::Outcome;
use crate::hooks::{
    Bound, Chain, Decided, DequeueOutcome, DequeueVerdict, Edit, HookContext, HookItem, Reason, Verdicts,
    Version,
};
use crate::model::{Item, Policy, Side};

/// Items on their way out.
pub(super) struct Outward;

/// A checked verdict.
pub(super) enum Ruling {
    Deliver,
    View(Arc<Item>),
    Defer(u32),
    Filter(Reason),
    Bury(Reason),
}

impl Direction for Outward {
    const SIDE: Side = Side::Dequeue;
    type Verdict = DequeueVerdict;
    type Ruling = Ruling;
    const KEPT: Ruling = Ruling::Deliver;

    fn open(verdicts: Verdicts) -> Option<Vec<Result<DequeueVerdict, String>>> {
        verdicts.into_dequeue()
    }

    fn shown(verdict: &DequeueVerdict) -> Outcome {
        Outcome::of_dequeue(verdict)
    }

    fn rule(
        run: Run<'_>,
        version: &Version,
        item: &HookItem,
        verdict: DequeueVerdict,
    ) -> Result<Ruling, String> {
        let view = |edit| {
            let most = run.payload_bytes_max;
            let shaped = shape(&item.item, edit, &version.hook, &run.context.topic, most)?;
            Ok(Ruling::View(shaped.item))
        };
        match verdict {
            DequeueVerdict::Deliver => Ok(Ruling::Deliver),
            DequeueVerdict::DeliverAs(payload) => view(Edit {
                payload: Some(payload),
                ..Edit::default()
            }),
            DequeueVerdict::DeliverEdited(edit) => {
                if edit.priority.is_some() || edit.deliver_after.is_some() || edit.topic.is_some() {
                    return Err(
                        "deliver-edited: only payload and headers can be changed on the way out".into(),
                    );
                }
                view(edit)
            }
            DequeueVerdict::Defer(ms) => Ok(Ruling::Defer(ms)),
            DequeueVerdict::Drop(why) => reason(why).map(Ruling::Filter),
            DequeueVerdict::DeadLetter(why) => reason(why).map(Ruling::Bury),
        }
    }
}

impl Chains {
    /// Runs `items` through `chain`.
    pub(super) async fn run_dequeue(
        &self,
        chain: &Chain,
        context: &Arc<HookContext>,
        items: Arc<[HookItem]>,
    ) -> Decided<DequeueOutcome> {
        let run = Run {
            context,
            room: None,
            payload_bytes_max: self.payload_bytes_max.load(Ordering::Relaxed),
        };
        // As on the way in, most items are left as they are by most hooks.
        let mut chain = chain.0.iter();
        let Some((first, answers)) = self.first_change::<Outward>(&mut chain, run, &items).await else {
            return Decided::Kept;
        };
        let mut outcomes: Vec<Option<DequeueOutcome>> = vec![None; items.len()];
        let live = items.iter().cloned().enumerate().collect();
        let mut live = turn_all(&mut outcomes, first, live, answers);
        for bound in chain {
            if live.is_empty() {
                break;
            }
            let asked = live.iter().map(|(_, item)| item.clone()).collect();
            if let Decided::Each(answers) = self.ask::<Outward>(bound, run, asked).await {
                live = turn_all(&mut outcomes, bound, live, answers);
            }
        }
        for (place, item) in live {
            outcomes[place] = Some(DequeueOutcome::Deliver(item.item));
        }
        Decided::Each(outcomes.into_iter().flatten().collect())
    }
}

/// Puts what the hook of `bound` said of the items that go through it in force; returns those that go on, each with its
/// place.
fn turn_all(
    outcomes: &mut [Option<DequeueOutcome>],
    bound: &Bound,
    live: Vec<(usize, HookItem)>,
    answers: Vec<Answer<'_, Outward>>,
) -> Vec<(usize, HookItem)> {
    let mut next = Vec::with_capacity(live.len());
    for ((place, mut item), answer) in live.into_iter().zip(answers) {
        let by = || answer.by.hook.clone();
        let end = match answer.ruling {
            Ok(Ruling::Deliver) => None,
            Ok(Ruling::View(view)) => {
                item.item = view;
                None
            }
            Ok(Ruling::Defer(ms)) => Some(DequeueOutcome::Defer(by(), ms)),
            Ok(Ruling::Filter(why)) => Some(DequeueOutcome::Filtered(by(), why)),
            Ok(Ruling::Bury(why)) => Some(DequeueOutcome::DeadLetter(by(), why)),
            Err(fault) => failed(bound, answer.by, fault, &mut item),
        };
        match end {
            Some(outcome) => outcomes[place] = Some(outcome),
            None => next.push((place, item)),
        }
    }
    next
}

/// What the binding's policy makes of a failure; nothing lets the item pass.
fn failed(bound: &Bound, by: &Version, fault: Fault, item: &mut HookItem) -> Option<DequeueOutcome> {
    let hook = by.hook.clone();
    match fault.policy(bound) {
        Policy::Open => {
            item.item = passed_over(&item.item, &hook);
            None
        }
        Policy::DeadLetter => {
            let why = Reason {
                code: fault.kind.code().into(),
                message: fault.detail.into(),
            };
            Some(DequeueOutcome::DeadLetter(hook, why))
        }
        Policy::Closed | Policy::RetryPrevious => Some(DequeueOutcome::Failed {
            by: hook,
            overloaded: fault.kind == FaultKind::Overload,
            detail: fault.detail,
        }),
    }
}
