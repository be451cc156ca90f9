//! Hooks as users name them: versions, bindings, failure policies, limits.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{HookName, NameError, TopicName};
use crate::clock::Timestamp;

/// Which way through the queue a hook stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Items on their way in.
    Enqueue,
    /// Items on their way out.
    Dequeue,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Enqueue, Self::Dequeue];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Dequeue => "dequeue",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The SHA-256 of an uploaded module: its address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const PROBLEM: &str = "a digest is 64 hexadecimal digits";
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(PROBLEM);
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| PROBLEM)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A hook's name and one of its versions, shown as `name@version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HookRef {
    /// The hook.
    pub hook: HookName,
    /// The version, from 1.
    pub version: u32,
}

impl fmt::Display for HookRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.hook, self.version)
    }
}

impl HookRef {
    /// The hook and version that `text` names, when it is one that was shown.
    pub fn parse(text: &str) -> Option<Self> {
        let (hook, version) = text.split_once('@')?;
        Some(Self {
            hook: hook.parse().ok()?,
            version: version.parse().ok()?,
        })
    }
}

/// How long an instance of a module lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceMode {
    /// For one call.
    #[default]
    Fresh,
    /// For many calls of the same version, until it is used up, traps, or holds too much memory.
    Warm,
}

/// How much of an item a hook is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputMode {
    /// All of it.
    #[default]
    Full,
    /// Everything but the payload.
    Meta,
}

/// How a version wants to be run; stored with it, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Manifest {
    /// What it is, in a sentence.
    pub description: String,
    /// How long its instances live.
    pub instance: InstanceMode,
    /// How much of an item it is given.
    pub input: InputMode,
    /// Limits below the namespace's.
    pub limits: HookLimitsPatch,
    /// Keeps the inputs it failed on for a day, for its owner to look at.
    pub keep_failures: bool,
}

/// What one call of a hook may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookLimits {
    /// Time for a call with one item, in milliseconds.
    pub item_ms: u32,
    /// Time for a call with several items, in milliseconds.
    pub batch_ms: u32,
    /// Linear memory, in bytes.
    pub memory_bytes: u64,
    /// Elements of each table.
    pub table_elements: u32,
    /// Stack, in bytes.
    pub stack_bytes: u32,
    /// Bytes a call may give back.
    pub output_bytes: u64,
    /// Calls of imports.
    pub host_calls: u32,
    /// Log lines of a call.
    pub log_lines: u32,
    /// Bytes of a log line.
    pub log_line_bytes: u32,
    /// Items one item may be split into.
    pub split_items: u32,
    /// Times an item may be routed.
    pub hops: u32,
}

impl Default for HookLimits {
    fn default() -> Self {
        Self {
            item_ms: 20,
            batch_ms: 100,
            memory_bytes: 64 << 20,
            table_elements: 100_000,
            stack_bytes: 512 << 10,
            output_bytes: 4 << 20,
            host_calls: 1_000,
            log_lines: 64,
            log_line_bytes: 1 << 10,
            split_items: 16,
            hops: 4,
        }
    }
}

/// Limits a version sets itself; each counts only where it is below what it would get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HookLimitsPatch {
    /// See [`HookLimits::item_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_ms: Option<u32>,
    /// See [`HookLimits::batch_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_ms: Option<u32>,
    /// See [`HookLimits::memory_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// See [`HookLimits::output_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// See [`HookLimits::host_calls`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_calls: Option<u32>,
    /// See [`HookLimits::log_lines`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_lines: Option<u32>,
    /// See [`HookLimits::split_items`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_items: Option<u32>,
}

impl HookLimits {
    /// These limits, lowered to what `patch` asks for.
    pub fn lowered(&self, patch: &HookLimitsPatch) -> Self {
        fn low<T: Ord + Copy>(limit: T, wish: Option<T>) -> T {
            wish.map_or(limit, |wish| wish.min(limit))
        }
        Self {
            item_ms: low(self.item_ms, patch.item_ms),
            batch_ms: low(self.batch_ms, patch.batch_ms),
            memory_bytes: low(self.memory_bytes, patch.memory_bytes),
            output_bytes: low(self.output_bytes, patch.output_bytes),
            host_calls: low(self.host_calls, patch.host_calls),
            log_lines: low(self.log_lines, patch.log_lines),
            split_items: low(self.split_items, patch.split_items),
            ..*self
        }
    }
}

/// A limit of a call that guests run into by what they do, not by how long they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ceiling {
    /// Linear memory, or the elements of a table.
    Memory,
    /// The stack.
    Stack,
    /// Calls of imports.
    HostCalls,
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "its memory",
            Self::Stack => "its stack",
            Self::HostCalls => "its calls of imports",
        })
    }
}

/// Why a version is not run until its owner says that it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Since when.
    pub at: Timestamp,
    /// The limit it ran into last.
    pub ceiling: Ceiling,
    /// How often it ran into one.
    pub trips: u32,
}

/// What becomes of an item whose hook failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// It does not pass: refused on enqueue, deferred on dequeue and dead after five failures.
    Closed,
    /// It passes as it is, marked with the header `mq-hook-skipped`.
    Open,
    /// It becomes a dead letter.
    DeadLetter,
    /// The version that was active before runs instead, once; where that fails too, `closed`.
    RetryPrevious,
}

/// The policy for each kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policies {
    /// The hook said `err`, or gave back something invalid.
    pub error: Policy,
    /// It trapped.
    pub trap: Policy,
    /// It ran out of time.
    pub timeout: Policy,
    /// It could not be run: no thread free, processor time used up, its breaker open, or in quarantine.
    pub overload: Policy,
}

impl Default for Policies {
    fn default() -> Self {
        Self::all(Policy::Closed)
    }
}

impl Policies {
    /// Whether the version before runs on some failure.
    pub fn retries(&self) -> bool {
        [self.error, self.trap, self.timeout, self.overload].contains(&Policy::RetryPrevious)
    }

    /// The same policy for everything.
    pub const fn all(policy: Policy) -> Self {
        Self {
            error: policy,
            trap: policy,
            timeout: policy,
            overload: policy,
        }
    }
}

/// Which topics of its namespace a binding is for: a name, or a prefix and `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicPattern {
    /// This topic.
    Exact(TopicName),
    /// Topics that begin with this; all of them when it is empty.
    Prefix(Box<str>),
}

impl TopicPattern {
    /// Whether `topic` is meant.
    pub fn matches(&self, topic: &TopicName) -> bool {
        match self {
            Self::Exact(name) => name == topic,
            Self::Prefix(prefix) => topic.as_str().starts_with(&**prefix),
        }
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl FromStr for TopicPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_suffix('*') {
            Some("") => Ok(Self::Prefix("".into())),
            Some(prefix) => prefix.parse::<TopicName>().map(|_| Self::Prefix(prefix.into())),
            None => text.parse().map(Self::Exact),
        }
    }
}

impl Serialize for TopicPattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TopicPattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A version that gets a share of the items, to be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The version.
    pub version: u32,
    /// Its share of the items, in percent; an item stays with one version by the hash of its id.
    pub percent: u8,
}

/// The share of the items that a shadow runs on unless its owner says otherwise, in percent.
pub const SHADOW_PERCENT: u8 = 1;

const fn shadow_percent_default() -> u8 {
    SHADOW_PERCENT
}

/// A hook in force for some topics: the one thing about hooks that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Its name within the namespace.
    pub id: HookName,
    /// The topics it is for.
    pub topic: TopicPattern,
    /// Which way it stands in.
    pub side: Side,
    /// Where it stands in the chain: smaller runs first; equal ones by name.
    pub position: u16,
    /// The hook.
    pub hook: HookName,
    /// The version in force.
    pub version: u32,
    /// The version in force before, for a rollback and for [`Policy::RetryPrevious`].
    pub previous: Option<u32>,
    /// A version on trial with a share of the items.
    pub canary: Option<Canary>,
    /// A version that runs on copies, to compare what it says.
    pub shadow: Option<u32>,
    /// The share of the items that it runs on, in percent.
    #[serde(default = "shadow_percent_default")]
    pub shadow_percent: u8,
    /// What becomes of items the hook fails on.
    pub policies: Policies,
    /// Whether failures soon after an activation bring the version before back.
    pub auto_rollback: bool,
    /// A binding that is off does nothing.
    pub enabled: bool,
    /// When the version in force was activated.
    pub activated_at: Timestamp,
    /// Goes up with each change: the `ETag`.
    pub revision: u64,
}

/// A version's configuration as its hook reads it: top-level keys and their JSON text.
pub type HookConfig = BTreeMap<Box<str>, Box<str>>;
