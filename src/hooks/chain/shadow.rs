//! Shadows: a version that runs on copies, to compare what it says with what counted.

use std::sync::Arc;

use super::Chains;
use super::ask::Direction;
use crate::hooks::{Bound, Call, HookContext, HookItem, ShadowOutcome};

impl Chains {
    /// Runs the shadow of `bound` on what its hook was just asked about, beside everything else. `said` is
    /// what counted; items on which the hook failed count as different from whatever the shadow says.
    pub(super) fn spawn_shadow<D: Direction>(
        &self,
        bound: &Arc<Bound>,
        context: &Arc<HookContext>,
        items: Arc<[HookItem]>,
        said: Vec<Option<D::Verdict>>,
    ) {
        let (Some(version), Ok(permit)) = (&bound.shadow, self.shadows.clone().try_acquire_owned()) else {
            return;
        };
        let call = Call {
            version: version.clone(),
            side: D::SIDE,
            context: context.clone(),
            range: 0..items.len(),
            items,
            rehearsal: true,
        };
        let (runner, observer, bound) = (self.runner.clone(), self.observer.clone(), bound.clone());
        tokio::spawn(async move {
            let report = runner.call(call.clone()).await;
            observer.called(&call, &report);
            let verdicts = report.outcome.ok().and_then(D::open).unwrap_or_default();
            let mut tally = [0_usize; 3];
            for (at, said) in said.iter().enumerate() {
                let outcome = match (verdicts.get(at), said) {
                    (Some(Ok(verdict)), Some(said)) if verdict == said => ShadowOutcome::Same,
                    (Some(Ok(_)), _) => ShadowOutcome::Different,
                    _ => ShadowOutcome::Failed,
                };
                tally[outcome as usize] += 1;
            }
            for outcome in [
                ShadowOutcome::Same,
                ShadowOutcome::Different,
                ShadowOutcome::Failed,
            ] {
                let items = tally[outcome as usize];
                if items > 0 {
                    observer.compared(&bound, outcome, items);
                }
            }
            drop(permit);
        });
    }
}
