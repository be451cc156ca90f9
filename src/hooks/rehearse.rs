//! Rehearsals: running a version on given items without storing, delivering or counting anything.
//!
//! Stored test cases, dry runs and offline tests share this: one item a call, the verdict in words, what it
//! would change, and how near each limit came.

mod case;
mod diff;
mod expect;
mod nearness;
mod outcome;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use case::{TestCase, TestItem, parse_cases};
pub use diff::PayloadDiff;
pub use expect::{Expected, ExpectedItem};
pub use nearness::Nearness;
pub use outcome::{ChangeView, Outcome, OutcomeView, ReasonView, VerdictWord};

use super::{Call, HookContext, HookItem, LogLine, Report, Usage, Version, chain};
use crate::model::{Namespace, Side, limits};

/// Makes calls that count for nothing: against no breaker, no statistics and no quota but processor time.
#[async_trait]
pub trait Rehearser: Send + Sync + 'static {
    /// Makes `call` within the limits of its version and counts its instructions where the engine can.
    async fn rehearse(&self, call: Call) -> Report;

    /// Whether `namespace` has processor time left for rehearsals; else when it will have.
    fn may_rehearse(&self, _namespace: &Namespace) -> Result<(), Duration> {
        Ok(())
    }

    /// The largest payload that a hook may make, in bytes.
    fn payload_bytes_max(&self) -> usize {
        limits::PAYLOAD_BYTES_MAX
    }
}

/// What a rehearsal of one item showed.
#[derive(Debug, Clone)]
pub struct Rehearsal {
    /// What the hook said of the item.
    pub outcome: Outcome,
    /// What the call used.
    pub usage: Usage,
    /// How near that came to the version's limits.
    pub nearness: Nearness,
    /// What the call logged.
    pub log: Vec<LogLine>,
}

/// How a test case went.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// The case's name.
    pub name: Box<str>,
    /// Why it failed; `None` when it passed.
    pub mismatch: Option<String>,
    /// What ran; `None` when the case itself is not valid.
    pub rehearsal: Option<Rehearsal>,
}

impl CaseResult {
    /// Whether the hook did what the case expects.
    pub fn passed(&self) -> bool {
        self.mismatch.is_none()
    }
}

/// Runs `version` on `item` alone.
pub async fn rehearse_item(
    rehearser: &dyn Rehearser,
    version: &Arc<Version>,
    side: Side,
    context: Arc<HookContext>,
    item: HookItem,
) -> Rehearsal {
    let call = Call {
        version: version.clone(),
        side,
        context: context.clone(),
        items: Arc::new([item.clone()]),
        range: 0..1,
        rehearsal: true,
    };
    let report = rehearser.rehearse(call).await;
    let said = report.outcome.as_ref().ok();
    let payload_bytes_max = rehearser.payload_bytes_max();
    let wrong = said.and_then(|said| chain::problem(said, &item, version, &context, payload_bytes_max));
    Rehearsal {
        outcome: match wrong {
            Some(detail) => Outcome::failed(VerdictWord::Error, detail),
            None => Outcome::of(&report),
        },
        nearness: Nearness::of(&report, &version.limits),
        usage: report.usage,
        log: report.log,
    }
}

/// Runs `version` on every case, one after the other, and compares.
pub async fn run_cases(
    rehearser: &dyn Rehearser,
    version: &Arc<Version>,
    cases: &[TestCase],
) -> Vec<CaseResult> {
    let mut results = Vec::with_capacity(cases.len());
    for case in cases {
        results.push(run_case(rehearser, version, case).await);
    }
    results
}

async fn run_case(rehearser: &dyn Rehearser, version: &Arc<Version>, case: &TestCase) -> CaseResult {
    let name = case.name.clone();
    let prepared = case.prepare(version);
    let (version, context, item) = match prepared {
        Ok(prepared) => prepared,
        Err(problem) => {
            return CaseResult {
                name,
                mismatch: Some(problem),
                rehearsal: None,
            };
        }
    };
    let rehearsal = rehearse_item(rehearser, &version, case.side, context, item).await;
    CaseResult {
        name,
        mismatch: case.expect.mismatch(&rehearsal.outcome),
        rehearsal: Some(rehearsal),
    }
}

#[cfg(test)]
mod tests;
