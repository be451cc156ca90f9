//! What hooks did on this node: logs, counts and kept failures. All of it is in memory and bounded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::broadcast;

use super::differences::Differences;
use super::log::{BYTES_MAX, HookLog};
use super::stats::Counts;
use super::{KeptFailure, LogEntry, Registry, ShadowDifference, VersionStats};
use crate::clock::{Clock, Timestamp};
use crate::hooks::{Bound, Call, Comparison, HookItem, LogLevel, Observer, Report, Version};
use crate::model::{HookName, HookRef, Namespace};

/// Versions of each hook that metrics show.
const VERSIONS_SHOWN: usize = 2;
/// Failures kept of a hook.
const FAILURES_MAX: usize = 100;
/// How long they are kept, in milliseconds.
const FAILURES_KEPT_MS: i64 = 24 * 3_600 * 1_000;
/// Bytes of kept failures of all hooks together; beyond it a hook keeps nothing new but in place of its own.
const FAILURES_BYTES_MAX: usize = 64 << 20;
/// Largest payload that is kept, in bytes.
const PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// Longest line of a log, in bytes.
const LINE_BYTES_MAX: usize = 1 << 10;
/// Most bytes kept of what happened.
const DETAIL_BYTES_MAX: usize = 2 << 10;

/// What all hooks did.
#[derive(Debug)]
pub(super) struct Activity {
    hooks: RwLock<HashMap<Namespace, HashMap<HookName, Arc<HookActivity>>>>,
    clock: Clock,
    log_bytes: AtomicUsize,
    failure_bytes: AtomicUsize,
    difference_bytes: AtomicUsize,
}

/// What one hook did.
#[derive(Debug)]
struct HookActivity {
    log: HookLog,
    counts: Mutex<BTreeMap<u32, Counts>>,
    failures: Mutex<VecDeque<KeptFailure>>,
    differences: Differences,
}

impl Activity {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            hooks: RwLock::default(),
            clock,
            log_bytes: AtomicUsize::new(0),
            failure_bytes: AtomicUsize::new(0),
            difference_bytes: AtomicUsize::new(0),
        }
    }

    /// Writes a line about a hook into its log.
    pub(super) fn say(&self, namespace: &Namespace, hook: &HookName, level: LogLevel, message: &str) {
        let activity = self.of(namespace, hook);
        // It may quote what was uploaded, and keeps to what every line of a log keeps to.
        let line: String = message
            .split(char::is_control)
            .filter(|part| !part.trim().is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        let line = cut(&line, LINE_BYTES_MAX);
        activity.log.say(level, line, self.clock.now(), &self.log_bytes);
        self.shrink();
    }

    pub(super) fn log(
        &self,
        namespace: &Namespace,
        hook: &HookName,
        after: u64,
        limit: usize,
    ) -> Vec<LogEntry> {
        let found = self.find(namespace, hook);
        found.map_or_else(Vec::new, |activity| activity.log.after(after, limit))
    }

    pub(super) fn follow(&self, namespace: &Namespace, hook: &HookName) -> broadcast::Receiver<LogEntry> {
        self.of(namespace, hook).log.follow()
    }

    pub(super) fn stats(&self, namespace: &Namespace, hook: &HookName) -> Vec<VersionStats> {
        let Some(activity) = self.find(namespace, hook) else {
            return vec![];
        };
        let counts = activity.counts.lock();
        counts
            .iter()
            .rev()
            .map(|(version, counts)| counts.view(*version))
            .collect()
    }

    pub(super) fn all_stats(&self) -> Vec<(Namespace, HookName, VersionStats)> {
        let mut all = Vec::new();
        for (namespace, hooks) in &*self.hooks.read() {
            for (hook, activity) in hooks {
                let counts = activity.counts.lock();
                let newest = counts.iter().rev().take(VERSIONS_SHOWN);
                let views = newest.map(|(version, counts)| counts.view(*version));
                all.extend(views.map(|view| (namespace.clone(), hook.clone(), view)));
            }
        }
        all
    }

    pub(super) fn failures(&self, namespace: &Namespace, hook: &HookName) -> Vec<KeptFailure> {
        let Some(activity) = self.find(namespace, hook) else {
            return vec![];
        };
        let now = self.clock.now();
        let kept = activity.failures.lock();
        kept.iter()
            .rev()
            .filter(|failure| is_fresh(failure, now))
            .cloned()
            .collect()
    }

    pub(super) fn differences(&self, namespace: &Namespace, hook: &HookName) -> Vec<ShadowDifference> {
        let found = self.find(namespace, hook);
        found.map_or_else(Vec::new, |activity| activity.differences.list())
    }

    /// Forgets hooks and versions that are gone, and failures that are too old.
    pub(super) fn tidy(
        &self,
        is_there: impl Fn(&Namespace, &HookName) -> bool,
        has_version: impl Fn(&Namespace, &HookName, u32) -> bool,
    ) {
        let now = self.clock.now();
        let mut hooks = self.hooks.write();
        hooks.retain(|namespace, hooks| {
            hooks.retain(|hook, activity| {
                let there = is_there(namespace, hook);
                let mut counts = activity.counts.lock();
                counts.retain(|version, _| has_version(namespace, hook, *version));
                drop(counts);
                let mut failures = activity.failures.lock();
                let stale = |failure: &KeptFailure| !there || !is_fresh(failure, now);
                while failures.front().is_some_and(stale) {
                    self.forget_failure(&mut failures);
                }
                drop(failures);
                if !there {
                    activity.differences.clear(&self.difference_bytes);
                    while activity.log.bytes() > 0 {
                        activity.log.halve(&self.log_bytes);
                    }
                }
                there
            });
            !hooks.is_empty()
        });
    }

    fn find(&self, namespace: &Namespace, hook: &HookName) -> Option<Arc<HookActivity>> {
        self.hooks.read().get(namespace)?.get(hook).cloned()
    }

    fn of(&self, namespace: &Namespace, hook: &HookName) -> Arc<HookActivity> {
        if let Some(found) = self.find(namespace, hook) {
            return found;
        }
        let mut hooks = self.hooks.write();
        let of_namespace = hooks.entry(namespace.clone()).or_default();
        let new = || {
            Arc::new(HookActivity {
                log: HookLog::new(self.clock.monotonic()),
                counts: Mutex::default(),
                failures: Mutex::default(),
                differences: Differences::default(),
            })
        };
        of_namespace.entry(hook.clone()).or_insert_with(new).clone()
    }

    /// Begins to count anew what `version` is quarantined for.
    pub(super) fn forgive(&self, version: &Version) {
        if let Some(activity) = self.find(&version.namespace, &version.hook.hook)
            && let Some(counts) = activity.counts.lock().get_mut(&version.hook.version)
        {
            counts.forgive();
        }
    }

    fn count(&self, version: &Version, count: impl FnOnce(&mut Counts)) {
        let activity = self.of(&version.namespace, &version.hook.hook);
        count(activity.counts.lock().entry(version.hook.version).or_default());
    }

    /// Keeps all logs together within their bound, at the cost of whoever has logged most.
    fn shrink(&self) {
        while self.log_bytes.load(Ordering::Relaxed) > BYTES_MAX {
            let hooks = self.hooks.read();
            let all = hooks.values().flat_map(|hooks| hooks.values());
            let Some(largest) = all.max_by_key(|activity| activity.log.bytes()) else {
                return;
            };
            largest.log.halve(&self.log_bytes);
        }
    }

    /// Counts a call; where it ran into a limit, how many did since the version was last let run.
    fn called(&self, call: &Call, report: &Report) -> Option<u32> {
        let HookVersion {
            namespace,
            hook,
            number,
        } = HookVersion::of(&call.version);
        let activity = self.of(namespace, hook);
        let mut dropped = 0;
        if !report.log.is_empty() {
            let at = (self.clock.now(), self.clock.monotonic());
            dropped = activity.log.add(number, &report.log, at, &self.log_bytes);
            self.shrink();
        }
        let mut counts = activity.counts.lock();
        let counts = counts.entry(number).or_default();
        counts.log_lines_dropped += dropped;
        if !call.rehearsal {
            counts.called(call.range.len(), report);
        }
        report.usage.ceiling.map(|_| counts.tripped())
    }

    fn keep(&self, call: &Call, items: &[HookItem], detail: &str) {
        let HookVersion {
            namespace,
            hook,
            number,
        } = HookVersion::of(&call.version);
        let activity = self.of(namespace, hook);
        let mut failures = activity.failures.lock();
        for HookItem { item, attempt, .. } in items {
            let extra = item.extra.as_deref();
            let payload = (item.payload.len() <= PAYLOAD_BYTES_MAX).then(|| item.payload.clone());
            let failure = KeptFailure {
                at: self.clock.now(),
                version: number,
                side: call.side,
                topic: call.context.topic.topic().clone(),
                id: item.id,
                priority: item.priority,
                headers: extra.map_or_else(Vec::new, |extra| extra.headers.clone()),
                content_type: extra.and_then(|extra| extra.content_type.clone()),
                payload,
                attempt: *attempt,
                detail: cut(detail, DETAIL_BYTES_MAX).into(),
            };
            let bytes = failure_bytes(&failure);
            if failures.len() == FAILURES_MAX {
                self.forget_failure(&mut failures);
            }
            while self.failure_bytes.load(Ordering::Relaxed) + bytes > FAILURES_BYTES_MAX {
                if failures.is_empty() {
                    return;
                }
                self.forget_failure(&mut failures);
            }
            self.failure_bytes.fetch_add(bytes, Ordering::Relaxed);
            failures.push_back(failure);
        }
    }

    fn forget_failure(&self, failures: &mut VecDeque<KeptFailure>) {
        if let Some(failure) = failures.pop_front() {
            self.failure_bytes
                .fetch_sub(failure_bytes(&failure), Ordering::Relaxed);
        }
    }
}

struct HookVersion<'a> {
    namespace: &'a Namespace,
    hook: &'a HookName,
    number: u32,
}

impl<'a> HookVersion<'a> {
    fn of(version: &'a Version) -> Self {
        Self {
            namespace: &version.namespace,
            hook: &version.hook.hook,
            number: version.hook.version,
        }
    }
}

fn is_fresh(failure: &KeptFailure, now: Timestamp) -> bool {
    now.since_ms(failure.at) < FAILURES_KEPT_MS
}

fn failure_bytes(failure: &KeptFailure) -> usize {
    let headers = failure
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len());
    let payload = failure.payload.as_ref().map_or(0, |payload| payload.len());
    size_of::<KeptFailure>() + headers.sum::<usize>() + payload + failure.detail.len()
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl Observer for Registry {
    fn called(&self, call: &Call, report: &Report) {
        let trips = self.activity.called(call, report);
        if let (Some(trips), Some(ceiling)) = (trips, report.usage.ceiling) {
            self.tripped(&call.version, ceiling, trips);
        }
    }

    fn failed(&self, call: &Call, items: &[HookItem], detail: &str) {
        if call.version.manifest.keep_failures && !call.rehearsal {
            self.activity.keep(call, items, detail);
        }
    }

    fn skipped(&self, _bound: &Bound, version: &Version, items: usize) {
        self.activity
            .count(version, |counts| counts.skipped += items as u64);
    }

    fn compared(&self, bound: &Bound, comparison: &Comparison<'_>) {
        let Some(shadow) = &bound.shadow else { return };
        let activity = self.activity.of(&shadow.namespace, &shadow.hook.hook);
        activity
            .counts
            .lock()
            .entry(shadow.hook.version)
            .or_default()
            .compared(comparison.outcome);
        let (now, bytes) = (self.activity.clock.now(), &self.activity.difference_bytes);
        activity
            .differences
            .add(comparison, shadow.hook.version, now, bytes);
    }

    fn breaker(&self, bound: &Arc<Bound>, version: &Arc<Version>, open: bool) {
        self.activity.count(version, |counts| counts.breaker_open = open);
        let hook = &version.hook;
        let (level, state) = match open {
            true => (
                LogLevel::Error,
                "opened: its policy is applied without running it",
            ),
            false => (LogLevel::Info, "closed: it runs again"),
        };
        let line = format!("the breaker of {hook} under `{}` {state}", bound.binding.id);
        self.activity.say(&version.namespace, &hook.hook, level, &line);
        if open && Self::on_probation(bound, hook.version, self.clock.now()) {
            self.roll_back_soon(bound.clone());
        }
    }

    fn breaker_gone(&self, namespace: &Namespace, hook: &HookRef) {
        if let Some(activity) = self.activity.find(namespace, &hook.hook)
            && let Some(counts) = activity.counts.lock().get_mut(&hook.version)
        {
            counts.breaker_open = false;
        }
    }
}
