//! Shadows: a version that runs on copies of some items, to compare what it says with what counted.

use std::sync::Arc;

use super::Chains;
use super::ask::{Answer, Direction, Run};
use crate::hooks::rehearse::{Outcome, VerdictWord};
use crate::hooks::{Bound, Call, Comparison, Failure, HookItem, Report, ShadowOutcome, Version};

/// What counted for an item.
pub(super) struct Counted<D: Direction> {
    version: u32,
    /// The verdict, or how the hook failed.
    said: Result<D::Verdict, Outcome>,
}

impl<D: Direction> Counted<D> {
    pub(super) fn of(answer: &Answer<'_, D>) -> Self {
        let said = match (&answer.ruling, &answer.said) {
            (Ok(_), Some(verdict)) => Ok(verdict.clone()),
            (Err(fault), _) => Err(Outcome::failed(fault.kind.word(), fault.detail.clone())),
            (Ok(_), None) => Err(Outcome::failed(VerdictWord::Invalid, String::new())),
        };
        Self {
            version: answer.by.hook.version,
            said,
        }
    }
}

impl Chains {
    /// Runs the shadow of `bound` on `items`, which its hook was just asked about, beside everything else. Items on
    /// which the hook failed count as different from whatever the shadow says.
    pub(super) fn spawn_shadow<D: Direction>(
        &self,
        bound: &Arc<Bound>,
        run: Run<'_>,
        items: Arc<[HookItem]>,
        counted: Vec<Counted<D>>,
    ) {
        let (Some(version), Ok(permit)) = (&bound.shadow, self.shadows.clone().try_acquire_owned()) else {
            return;
        };
        let call = Call {
            version: version.clone(),
            side: D::SIDE,
            context: run.context.clone(),
            range: 0..items.len(),
            items,
            rehearsal: true,
        };
        let (runner, observer, bound) = (self.runner.clone(), self.observer.clone(), bound.clone());
        let payload_bytes_max = run.payload_bytes_max;
        tokio::spawn(async move {
            let report = runner.call(call.clone()).await;
            observer.called(&call, &report);
            // It was not run: there is nothing to compare.
            if matches!(report.outcome, Err(Failure::Overload { .. })) {
                return;
            }
            let run = Run {
                context: &call.context,
                room: None,
                payload_bytes_max,
            };
            let said = said::<D>(&call.version, run, &report, call.items());
            for ((item, counted), shadow) in call.items().iter().zip(counted).zip(said) {
                let outcome = match (&shadow, &counted.said) {
                    (Ok(shadow), Ok(counted)) if shadow == counted => ShadowOutcome::Same,
                    (Ok(_), _) => ShadowOutcome::Different,
                    (Err(_), _) => ShadowOutcome::Failed,
                };
                let shown = |said: Result<D::Verdict, Outcome>| match said {
                    Ok(verdict) => D::shown(&verdict),
                    Err(failure) => failure,
                };
                let version = counted.version;
                observer.compared(
                    &bound,
                    &Comparison {
                        context: &call.context,
                        side: D::SIDE,
                        item,
                        version,
                        outcome,
                        said: (outcome != ShadowOutcome::Same).then(|| [shown(counted.said), shown(shadow)]),
                    },
                );
            }
            drop(permit);
        });
    }
}

/// What a shadow said of each of `items`, held to what counts: a verdict that the queue would refuse is a failure.
fn said<D: Direction>(
    version: &Version,
    run: Run<'_>,
    report: &Report,
    items: &[HookItem],
) -> Vec<Result<D::Verdict, Outcome>> {
    let failed = |detail: String| Outcome::failed(VerdictWord::Error, detail);
    let opened = report.outcome.as_ref().ok().cloned().and_then(D::open);
    let Some(verdicts) = opened.filter(|list| list.len() == items.len()) else {
        return items.iter().map(|_| Err(Outcome::of(report))).collect();
    };
    let judged = items.iter().zip(verdicts).map(|(item, verdict)| {
        let verdict = verdict.map_err(failed)?;
        let ruled = D::rule(run, version, item, verdict.clone());
        ruled.map(|_| verdict).map_err(failed)
    });
    judged.collect()
}
