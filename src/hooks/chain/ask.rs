//! One hook asked about many items: by the version each item belongs to, in halves where a call fails.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use smallvec::{SmallVec, smallvec};
use tracing::{Instrument as _, Span};

use super::Chains;
use super::breaker::Verdict;
use super::check::clean;
use super::shadow::Counted;
use crate::hooks::rehearse::{Outcome, VerdictWord};
use crate::hooks::{Bound, Call, Decided, Failure, HookContext, HookItem, Report, Room, Verdicts, Version};
use crate::model::{Policies, Policy, Side};

/// Calls that the search for the items a hook fails on may take.
const CALLS_MAX: usize = 64;
/// How long that search may take, in milliseconds.
const SEARCH_MS: i64 = 1_000;
/// When it makes sense to come again with what a version in quarantine is for: people must act first.
const QUARANTINE_RETRY: Duration = Duration::from_secs(60);

/// What is the same for all questions of one run through a chain.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) context: &'a Arc<HookContext>,
    /// What hooks may still make of the request, where they can make more of an item.
    pub(super) room: Option<&'a Room>,
    /// The largest payload that they may make, in bytes.
    pub(super) payload_bytes_max: usize,
}

/// One of the two ways through the queue, as far as chains differ.
pub(super) trait Direction: Send + Sync + 'static {
    const SIDE: Side;
    /// What a hook says of an item.
    type Verdict: Clone + PartialEq + Send + Sync + 'static;
    /// The same, checked and put in force.
    type Ruling: Send;
    /// What leaves an item as it is.
    const KEPT: Self::Ruling;

    fn open(verdicts: Verdicts) -> Option<Vec<Result<Self::Verdict, String>>>;

    /// The verdict in the form that people are shown.
    fn shown(verdict: &Self::Verdict) -> Outcome;

    /// What `verdict` leads to. What is wrong with it is said for the hook's owner.
    fn rule(
        run: Run<'_>,
        version: &Version,
        item: &HookItem,
        verdict: Self::Verdict,
    ) -> Result<Self::Ruling, String>;
}

/// What became of an item at one hook.
pub(super) struct Answer<'a, D: Direction> {
    /// The version that was asked last. Borrowed: a count of users that all cores write to for every item would cost
    /// more than the rest of the bookkeeping.
    pub(super) by: &'a Version,
    /// What it said.
    pub(super) ruling: Result<D::Ruling, Fault>,
    /// The same as it came, where a shadow is to be compared with it.
    pub(super) said: Option<D::Verdict>,
}

impl<'a, D: Direction> Answer<'a, D> {
    /// `by` let the item be as it is.
    fn kept(by: &'a Version) -> Self {
        Self {
            by,
            ruling: Ok(D::KEPT),
            said: None,
        }
    }
}

/// A hook's failure on an item.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// For producers and in dead letters.
    pub(super) detail: String,
    /// When trying again makes sense, where the hook was not run.
    pub(super) retry_after: Option<Duration>,
}

/// The kinds of failure that policies tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultKind {
    Error,
    Trap,
    Timeout,
    Overload,
}

impl FaultKind {
    /// The policy of `policies` for it, before a version is tried in another's place.
    fn policy(self, policies: &Policies) -> Policy {
        match self {
            Self::Error => policies.error,
            Self::Trap => policies.trap,
            Self::Timeout => policies.timeout,
            Self::Overload => policies.overload,
        }
    }

    /// The word for it.
    pub(super) fn word(self) -> VerdictWord {
        match self {
            Self::Error => VerdictWord::Error,
            Self::Trap => VerdictWord::Trap,
            Self::Timeout => VerdictWord::Timeout,
            Self::Overload => VerdictWord::Overload,
        }
    }

    /// The code of dead letters that it makes.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Error => "hook_error",
            Self::Trap => "hook_trap",
            Self::Timeout => "hook_timeout",
            Self::Overload => "hook_overload",
        }
    }
}

impl Fault {
    pub(super) fn error(detail: &str) -> Self {
        let detail = match detail.trim() {
            "" => "the hook failed and did not say why".to_owned(),
            said => clean(said),
        };
        Self {
            kind: FaultKind::Error,
            detail,
            retry_after: None,
        }
    }

    /// What becomes of the item, once the version before had its chance.
    pub(super) fn policy(&self, bound: &Bound) -> Policy {
        match self.kind.policy(&bound.binding.policies) {
            Policy::RetryPrevious => Policy::Closed,
            policy => policy,
        }
    }
}

impl From<&Failure> for Fault {
    fn from(failure: &Failure) -> Self {
        let (kind, detail, retry_after) = match failure {
            Failure::Invalid(_) => (FaultKind::Error, failure.to_string(), None),
            // The stack is its owner's business.
            Failure::Trap(_) => (FaultKind::Trap, "the hook trapped".to_owned(), None),
            Failure::Timeout(_) => (FaultKind::Timeout, failure.to_string(), None),
            Failure::Overload { retry_after, .. } => {
                (FaultKind::Overload, failure.to_string(), Some(*retry_after))
            }
        };
        Self {
            kind,
            detail: clean(&detail),
            retry_after,
        }
    }
}

/// What one question is about.
struct Question<'a, 'r> {
    bound: &'a Arc<Bound>,
    version: &'a Arc<Version>,
    run: Run<'r>,
    items: Arc<[HookItem]>,
}

impl Chains {
    /// The first hook of `chain` that does not leave all of `items` as they are, and what it says of each; none when all
    /// do. What is left of `chain` comes behind it.
    pub(super) async fn first_change<'a, D: Direction>(
        &self,
        chain: &mut std::slice::Iter<'a, Arc<Bound>>,
        run: Run<'_>,
        items: &Arc<[HookItem]>,
    ) -> Option<(&'a Arc<Bound>, Vec<Answer<'a, D>>)> {
        if items.is_empty() {
            return None;
        }
        for bound in chain {
            if let Decided::Each(answers) = self.ask::<D>(bound, run, items.clone()).await {
                return Some((bound, answers));
            }
        }
        None
    }

    /// Asks the hook of `bound` about `items`.
    pub(super) async fn ask<'a, D: Direction>(
        &self,
        bound: &'a Arc<Bound>,
        run: Run<'_>,
        items: Arc<[HookItem]>,
    ) -> Decided<Answer<'a, D>> {
        let trials = items
            .iter()
            .filter(|item| bound.is_on_trial(item.item.id))
            .count();
        let mut answers = if trials == 0 || trials == items.len() {
            let question = Question {
                bound,
                version: of_trial(bound, trials > 0),
                run,
                items: items.clone(),
            };
            match self.search::<D>(&question).await {
                Decided::Kept => return Decided::Kept,
                Decided::Each(answers) => answers,
            }
        } else {
            Box::pin(self.ask_both::<D>(bound, run, &items)).await
        };
        if let Some(previous) = &bound.previous {
            let retries = |answer: &Answer<'a, D>| {
                let fault = answer.ruling.as_ref().err();
                fault.is_some_and(|fault| fault.kind.policy(&bound.binding.policies) == Policy::RetryPrevious)
                    && answer.by.hook != previous.hook
            };
            let places: Vec<_> = (0..items.len()).filter(|at| retries(&answers[*at])).collect();
            let found = Box::pin(self.ask_some::<D>(bound, previous, run, &items, &places)).await;
            for (at, answer) in places.into_iter().zip(found) {
                answers[at] = answer;
            }
        }
        let sampled = |at: &usize| bound.is_shadowed(items[*at].item.id);
        let sample: Vec<usize> = (0..items.len()).filter(sampled).collect();
        if !sample.is_empty() {
            let counted = sample.iter().map(|at| Counted::of(&answers[*at])).collect();
            let shown = sample.iter().map(|at| items[*at].clone()).collect();
            self.spawn_shadow::<D>(bound, run, shown, counted);
        }
        Decided::Each(answers)
    }

    /// Asks each of the two versions of `bound`, the one in force and the one on trial, about its part of `items`.
    async fn ask_both<'a, D: Direction>(
        &self,
        bound: &'a Arc<Bound>,
        run: Run<'_>,
        items: &Arc<[HookItem]>,
    ) -> Vec<Answer<'a, D>> {
        let mut answers = Vec::with_capacity(items.len());
        for trial in [false, true] {
            let theirs = |at: &usize| bound.is_on_trial(items[*at].item.id) == trial;
            let places: Vec<_> = (0..items.len()).filter(theirs).collect();
            let version = of_trial(bound, trial);
            let found = self.ask_some::<D>(bound, version, run, items, &places).await;
            answers.extend(places.into_iter().zip(found));
        }
        answers.sort_unstable_by_key(|(place, _)| *place);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Asks `version` about the items at `places`.
    async fn ask_some<'a, D: Direction>(
        &self,
        bound: &'a Arc<Bound>,
        version: &'a Arc<Version>,
        run: Run<'_>,
        items: &Arc<[HookItem]>,
        places: &[usize],
    ) -> Vec<Answer<'a, D>> {
        if places.is_empty() {
            return Vec::new();
        }
        let question = Question {
            bound,
            version,
            run,
            items: places.iter().map(|at| items[*at].clone()).collect(),
        };
        match self.search::<D>(&question).await {
            Decided::Kept => places.iter().map(|_| Answer::kept(version)).collect(),
            Decided::Each(answers) => answers,
        }
    }

    /// Makes one call, and where it fails two of half the items, and so on, until what fails is alone: no
    /// item fails for its neighbours. The search is bounded in calls and in time; what it does not reach has
    /// failed like the last call did.
    async fn search<'a, D: Direction>(&self, question: &Question<'a, '_>) -> Decided<Answer<'a, D>> {
        let count = question.items.len();
        let mut answers: Vec<Option<Answer<'a, D>>> = Vec::new();
        let began = self.clock.monotonic();
        let mut calls = 0;
        let mut open: SmallVec<[Range<usize>; 2]> = smallvec![0..count];
        while let Some(range) = open.pop() {
            let probing = match self.admit(question, range.len()) {
                Ok(probing) => probing,
                Err(fault) => {
                    answers.resize_with(count, || None);
                    fill(&mut answers[range], question.version, &fault);
                    continue;
                }
            };
            calls += 1;
            let call = question.call::<D>(range.clone());
            let span = tracing::info_span!(
                target: "mqueue::trace",
                "hook",
                hook = %question.version.hook,
                side = %D::SIDE,
                items = range.len(),
                failure = tracing::field::Empty,
                run_us = tracing::field::Empty,
            );
            let report = self.runner.call(call.clone()).instrument(span.clone()).await;
            describe(&span, &report);
            self.observer.called(&call, &report);
            // What a shadow says is compared with what counts, item by item.
            if report.outcome == Ok(Verdicts::Kept(D::SIDE, count)) && question.bound.shadow.is_none() {
                self.note(question, Verdict::Fine);
                return Decided::Kept;
            }
            answers.resize_with(count, || None);
            let failure = match report.outcome {
                Ok(verdicts) => match D::open(verdicts).filter(|list| list.len() == range.len()) {
                    Some(verdicts) => {
                        let ruled = self.rule_all::<D>(question, &call, verdicts);
                        for (slot, answer) in answers[range].iter_mut().zip(ruled) {
                            *slot = Some(answer);
                        }
                        continue;
                    }
                    None => Failure::Invalid("not one verdict of this side per item".into()),
                },
                Err(failure) => failure,
            };
            let spent = calls >= CALLS_MAX || self.clock.monotonic().0 - began.0 >= SEARCH_MS;
            let is_overload = matches!(failure, Failure::Overload { .. });
            if range.len() > 1 && !is_overload && !spent && !probing {
                let middle = range.start + range.len() / 2;
                open.push(middle..range.end);
                open.push(range.start..middle);
                continue;
            }
            if !is_overload {
                self.observer.failed(&call, call.items(), &failure.to_string());
                self.note(question, Verdict::Broke);
            }
            let fault = Fault::from(&failure);
            fill(&mut answers[range], question.version, &fault);
            if spent {
                for rest in open.drain(..) {
                    fill(&mut answers[rest], question.version, &fault);
                }
            }
        }
        Decided::Each(answers.into_iter().flatten().collect())
    }

    /// Whether the version may be called, and if so whether that is to see if it works again.
    fn admit(&self, question: &Question<'_, '_>, items: usize) -> Result<bool, Fault> {
        if question.version.quarantined {
            self.observer.skipped(question.bound, question.version, items);
            return Err(Fault {
                kind: FaultKind::Overload,
                detail: "the hook was not run: it is in quarantine until its owner acknowledges that"
                    .to_owned(),
                retry_after: Some(QUARANTINE_RETRY),
            });
        }
        let now_ms = self.clock.monotonic().0;
        let admitted = self.breakers.lock().admit(question.version, now_ms);
        admitted.map_err(|wait_ms| {
            self.observer.skipped(question.bound, question.version, items);
            Fault {
                kind: FaultKind::Overload,
                detail: "the hook was not run: it failed too often lately".to_owned(),
                retry_after: Some(Duration::from_millis(wait_ms.unsigned_abs())),
            }
        })
    }

    fn note(&self, question: &Question<'_, '_>, verdict: Verdict) {
        let now_ms = self.clock.monotonic().0;
        let changed = self.breakers.lock().note(question.version, verdict, now_ms);
        if let Some(open) = changed {
            self.observer.breaker(question.bound, question.version, open);
        }
    }

    fn rule_all<'a, D: Direction>(
        &self,
        question: &Question<'a, '_>,
        call: &Call,
        verdicts: Vec<Result<D::Verdict, String>>,
    ) -> Vec<Answer<'a, D>> {
        let (count, mut errors) = (verdicts.len(), 0);
        let mut answers = Vec::with_capacity(count);
        for (item, verdict) in call.items().iter().zip(verdicts) {
            let is_compared = question.bound.is_shadowed(item.item.id);
            let said = verdict.as_ref().ok().filter(|_| is_compared).cloned();
            let ruled = verdict.and_then(|verdict| D::rule(question.run, question.version, item, verdict));
            let ruling = ruled.map_err(|detail| {
                errors += 1;
                self.observer.failed(call, std::slice::from_ref(item), &detail);
                Fault::error(&detail)
            });
            answers.push(Answer {
                by: question.version,
                ruling,
                said,
            });
        }
        let verdict = if 2 * errors >= count {
            Verdict::Errors
        } else {
            Verdict::Fine
        };
        self.note(question, verdict);
        answers
    }
}

/// The version of `bound` that is on trial, or the one that is in force.
fn of_trial(bound: &Bound, trial: bool) -> &Arc<Version> {
    match &bound.canary {
        Some(version) if trial => version,
        _ => &bound.active,
    }
}

impl Question<'_, '_> {
    fn call<D: Direction>(&self, range: Range<usize>) -> Call {
        Call {
            version: self.version.clone(),
            side: D::SIDE,
            context: self.run.context.clone(),
            items: self.items.clone(),
            range,
            rehearsal: false,
        }
    }
}

/// Notes in the span of a call how it went.
fn describe(span: &Span, report: &Report) {
    if span.is_disabled() {
        return;
    }
    let run_us = u64::try_from(report.usage.run.as_micros()).unwrap_or(u64::MAX);
    span.record("run_us", run_us);
    if let Err(failure) = &report.outcome {
        span.record("failure", failure.to_string());
    }
}

fn fill<'a, D: Direction>(answers: &mut [Option<Answer<'a, D>>], by: &'a Version, fault: &Fault) {
    for slot in answers {
        *slot = Some(Answer {
            by,
            ruling: Err(fault.clone()),
            said: None,
        });
    }
}
