//! One call of one version: what chains ask of the engine and what they tell about it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use super::rehearse::Outcome;
use super::{HookContext, HookItem, Reason};
use crate::model::{
    Binding, Ceiling, Digest, HookConfig, HookLimits, HookRef, ItemId, Manifest, Namespace, Policy, Side,
};

/// A version of a hook, ready to run: immutable.
#[derive(Debug)]
pub struct Version {
    /// Whose it is.
    pub namespace: Namespace,
    /// Its name and number.
    pub hook: HookRef,
    /// Which module it runs; the engine knows modules by this.
    pub digest: Digest,
    /// How it wants to be run.
    pub manifest: Manifest,
    /// The limits in force for it.
    pub limits: HookLimits,
    /// Its configuration.
    pub config: Arc<HookConfig>,
    /// Its secrets: never logged, never shown.
    pub secrets: Arc<HookConfig>,
    /// Whether it is not run until its owner says that it may be. It can be rehearsed all the same.
    pub quarantined: bool,
}

/// A binding with its versions at hand.
#[derive(Debug)]
pub struct Bound {
    /// Whose it is.
    pub namespace: Namespace,
    /// The binding.
    pub binding: Binding,
    /// The version in force.
    pub active: Arc<Version>,
    /// The version on trial.
    pub canary: Option<Arc<Version>>,
    /// The version that runs on copies.
    pub shadow: Option<Arc<Version>>,
    /// The version before.
    pub previous: Option<Arc<Version>>,
}

impl Bound {
    /// Every version it names, once or more often.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<Version>> {
        let others = [&self.canary, &self.shadow, &self.previous];
        std::iter::once(&self.active).chain(others.into_iter().flatten())
    }

    /// The versions that items are shown to and that count.
    pub fn runs(&self) -> impl Iterator<Item = &Arc<Version>> {
        std::iter::once(&self.active).chain(&self.canary)
    }

    /// Whether the item `id` goes to the version on trial: by its id, so that it stays with one version.
    pub fn is_on_trial(&self, id: ItemId) -> bool {
        /// 2^64 divided by the golden ratio: ids that differ little land far apart.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let canary = self.binding.canary.filter(|_| self.canary.is_some());
        canary.is_some_and(|canary| (id.0.wrapping_mul(SPREAD) >> 32) % 100 < u64::from(canary.percent))
    }

    /// Whether the shadow runs on the item `id`: one of a sample.
    pub fn is_shadowed(&self, id: ItemId) -> bool {
        /// Other than for trials: a sample of all items, not of those on trial.
        const SPREAD: u64 = 0xd1b5_4a32_d192_ed03;
        let runs = self.shadow.as_ref().is_some_and(|shadow| !shadow.quarantined);
        runs && (id.0.wrapping_mul(SPREAD) >> 32) % 100 < u64::from(self.binding.shadow_percent)
    }

    /// The version that the item `id` goes to.
    pub fn version_for(&self, id: ItemId) -> &Arc<Version> {
        match &self.canary {
            Some(version) if self.is_on_trial(id) => version,
            _ => &self.active,
        }
    }

    /// The version that keeps the item `id` from passing, because it is in quarantine and its policy lets nothing by.
    pub fn withheld_by(&self, id: ItemId) -> Option<&Arc<Version>> {
        let version = self.version_for(id);
        let stops = match self.binding.policies.overload {
            Policy::Closed => true,
            Policy::Open | Policy::DeadLetter => false,
            Policy::RetryPrevious => self
                .previous
                .as_ref()
                .is_none_or(|previous| previous.quarantined || previous.hook == version.hook),
        };
        (version.quarantined && stops).then_some(version)
    }
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// What to run.
    pub version: Arc<Version>,
    /// Which export.
    pub side: Side,
    /// Context.
    pub context: Arc<HookContext>,
    /// Items, of which those in `range` are for this call.
    pub items: Arc<[HookItem]>,
    /// The part of `items` that is for this call; not empty.
    pub range: Range<usize>,
    /// A dry run, a test or a shadow: it counts against nobody's breaker.
    pub rehearsal: bool,
}

impl Call {
    /// The items of the call.
    pub fn items(&self) -> &[HookItem] {
        &self.items[self.range.clone()]
    }
}

/// Changes to an item, as a hook wrote them: unchecked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edit {
    /// A new payload.
    pub payload: Option<Box<[u8]>>,
    /// All headers anew.
    pub headers: Option<Vec<(Box<str>, Box<str>)>>,
    /// A new priority.
    pub priority: Option<i32>,
    /// A new earliest delivery, in milliseconds since the Unix epoch.
    pub deliver_after: Option<u64>,
    /// Another topic.
    pub topic: Option<Box<str>>,
}

/// What an enqueue hook says of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnqueueVerdict {
    /// Store it as it is.
    Keep,
    /// Store it with this payload.
    Replace(Box<[u8]>),
    /// Store it changed.
    Edit(Edit),
    /// Store these in its place.
    Split(Vec<Edit>),
    /// Say yes and store nothing.
    Drop(Reason),
    /// Refuse it.
    Reject(Reason),
    /// Store it as a dead letter.
    DeadLetter(Reason),
}

/// What a dequeue hook says of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DequeueVerdict {
    /// Hand it out as it is.
    Deliver,
    /// Hand out this payload.
    DeliverAs(Box<[u8]>),
    /// Hand it out with this payload and these headers.
    DeliverEdited(Edit),
    /// Not now, but after so many milliseconds.
    Defer(u32),
    /// Acknowledge it, unseen.
    Drop(Reason),
    /// Make it a dead letter.
    DeadLetter(Reason),
}

/// One verdict per item of a call, in order; `Err` where the hook says that it failed on the item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdicts {
    /// Of a call of this side: so many items, all of them as they are.
    Kept(Side, usize),
    /// Of an enqueue call.
    Enqueue(Vec<Result<EnqueueVerdict, String>>),
    /// Of a dequeue call.
    Dequeue(Vec<Result<DequeueVerdict, String>>),
}

impl Verdicts {
    /// One by one; none when they are not of an enqueue call.
    pub fn into_enqueue(self) -> Option<Vec<Result<EnqueueVerdict, String>>> {
        match self {
            Self::Kept(Side::Enqueue, count) => Some(vec![Ok(EnqueueVerdict::Keep); count]),
            Self::Enqueue(verdicts) => Some(verdicts),
            Self::Kept(Side::Dequeue, _) | Self::Dequeue(_) => None,
        }
    }

    /// One by one; none when they are not of a dequeue call.
    pub fn into_dequeue(self) -> Option<Vec<Result<DequeueVerdict, String>>> {
        match self {
            Self::Kept(Side::Dequeue, count) => Some(vec![Ok(DequeueVerdict::Deliver); count]),
            Self::Dequeue(verdicts) => Some(verdicts),
            Self::Kept(Side::Enqueue, _) | Self::Enqueue(_) => None,
        }
    }

    /// How many there are: always as many as the call had items.
    pub fn len(&self) -> usize {
        match self {
            Self::Kept(_, count) => *count,
            Self::Enqueue(verdicts) => verdicts.len(),
            Self::Dequeue(verdicts) => verdicts.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a whole call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// What it gave back is not valid, or too large, or not one verdict per item.
    #[error("the hook's answer is not valid: {0}")]
    Invalid(String),
    /// It trapped, with a stack of function names where the module has them; its memory, stack and host-call
    /// limits are traps too.
    #[error("the hook trapped: {0}")]
    Trap(String),
    /// It ran out of time.
    #[error("the hook ran longer than {0:?}")]
    Timeout(Duration),
    /// It was not run.
    #[error("the hook was not run: {detail}")]
    Overload {
        /// Why.
        detail: String,
        /// When trying again makes sense.
        retry_after: Duration,
    },
}

/// What a call used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Usage {
    /// Time on its thread.
    pub run: Duration,
    /// Time in the queue for a thread.
    pub wait: Duration,
    /// Most linear memory, in bytes.
    pub memory_bytes: u64,
    /// Calls of imports.
    pub host_calls: u32,
    /// Bytes given in.
    pub bytes_in: u64,
    /// Bytes given back.
    pub bytes_out: u64,
    /// Instructions, where they were counted: in rehearsals on the counting engine.
    pub instructions: Option<u64>,
    /// Log lines beyond the limit.
    pub log_lines_dropped: u32,
    /// The limit that a call which failed ran into, beside its time.
    #[serde(skip)]
    pub ceiling: Option<Ceiling>,
}

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Finest.
    Trace,
    /// For debugging.
    Debug,
    /// Normal.
    Info,
    /// Odd.
    Warn,
    /// Broken.
    Error,
}

/// One line of a hook's log: at most 1 KiB, without control characters, secrets masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How loud.
    pub level: LogLevel,
    /// The line.
    pub message: Box<str>,
}

/// What became of a call.
#[derive(Debug, Clone)]
pub struct Report {
    /// The verdicts.
    pub outcome: Result<Verdicts, Failure>,
    /// What it used.
    pub usage: Usage,
    /// What it logged.
    pub log: Vec<LogLine>,
}

/// Makes calls.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Makes `call` within the limits of its version, when its namespace's turn comes. Returns in bounded time
    /// whatever the hook does. A dropped future does not stop the call, which ends on its thread.
    async fn call(&self, call: Call) -> Report;
}

/// What comparing a shadow with what counted showed, per item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ShadowOutcome {
    /// The same verdict.
    Same,
    /// Another one.
    Different,
    /// The shadow failed.
    Failed,
}

/// An item that a shadow ran on.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// Context.
    pub context: &'a HookContext,
    /// Which way it went.
    pub side: Side,
    /// The item, as both were shown it.
    pub item: &'a HookItem,
    /// The version that counted.
    pub version: u32,
    /// How the two compare.
    pub outcome: ShadowOutcome,
    /// What counted, and what the shadow said, where that is not the same.
    pub said: Option<[Outcome; 2]>,
}

/// Is told of everything hooks do.
pub trait Observer: Send + Sync + 'static {
    /// A call ended.
    fn called(&self, call: &Call, report: &Report);

    /// A hook failed on these items of a call, which has just been reported; `detail` is for the hook's owner.
    fn failed(&self, call: &Call, items: &[HookItem], detail: &str);

    /// A binding's policy was applied without running its hook, because the breaker of the version is open or it is
    /// in quarantine.
    fn skipped(&self, bound: &Bound, version: &Version, items: usize);

    /// A shadow was compared with what counted.
    fn compared(&self, bound: &Bound, comparison: &Comparison<'_>);

    /// The breaker of `version` under `bound` opened (or closed again): whoever owns bindings may roll back.
    fn breaker(&self, bound: &Arc<Bound>, version: &Arc<Version>, open: bool);

    /// A version whose breaker was open is bound no more, and its breaker is forgotten.
    fn breaker_gone(&self, namespace: &Namespace, hook: &HookRef);
}
