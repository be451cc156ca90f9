//! What the registry shows and takes: plain data.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::hooks::{LogLevel, ShadowOutcome};
use crate::model::{
    Binding, Canary, Digest, HookConfig, HookLimits, HookName, ItemId, Manifest, Policies, Quarantine, Side,
    TopicName, TopicPattern,
};

/// A version to be added.
#[derive(Debug, Clone, Default)]
pub struct NewVersion {
    /// A component, a core module, or the text of either.
    pub module: Vec<u8>,
    /// How it wants to be run.
    pub manifest: Manifest,
    /// What the hook reads as its configuration.
    pub config: HookConfig,
    /// What only the hook reads.
    pub secrets: HookConfig,
    /// A word on why.
    pub note: Option<String>,
}

/// What became of [`NewVersion`].
#[derive(Debug, Clone, Serialize)]
pub struct AddedVersion {
    /// The version.
    pub version: VersionView,
    /// False when the newest version was already exactly this.
    pub created: bool,
    /// What the module imports.
    pub imports: Vec<String>,
    /// What its author may want to know.
    pub warnings: Vec<String>,
    /// How long compiling took, in milliseconds; 0 when it was compiled before.
    pub compile_ms: u64,
}

/// Who may change a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// The API.
    Api,
    /// The plugins folder: read-only over the API.
    Folder,
}

/// A hook in a list.
#[derive(Debug, Clone, Serialize)]
pub struct HookSummary {
    /// Its name.
    pub name: HookName,
    /// What its newest version says it is.
    pub description: String,
    /// The number of its newest version; none while its folder has had no valid one.
    pub latest: Option<u32>,
    /// How many versions are kept.
    pub versions: usize,
    /// The sides its newest version exports.
    pub exports: Vec<Side>,
    /// The bindings that name it.
    pub bindings: Vec<HookName>,
    /// Who may change it.
    pub owner: Owner,
    /// Why its folder was not taken over, as it is now; what was in force before stays in force.
    pub rejected: Option<String>,
}

/// A hook, whole.
#[derive(Debug, Clone, Serialize)]
pub struct HookView {
    /// What lists show.
    pub summary: HookSummary,
    /// Its versions, the newest first.
    pub versions: Vec<VersionView>,
    /// Its bindings, by id.
    pub bindings: Vec<Binding>,
}

/// A version as its owner sees it: secrets by name only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VersionView {
    /// The hook.
    pub hook: HookName,
    /// Its number, from 1.
    pub version: u32,
    /// The SHA-256 of its module as it is stored.
    pub digest: Digest,
    /// Bytes of the module.
    pub module_bytes: u64,
    /// The sides it exports.
    pub exports: Vec<Side>,
    /// How it wants to be run.
    pub manifest: Manifest,
    /// Its configuration.
    pub config: HookConfig,
    /// The names of its secrets.
    pub secrets: Vec<Box<str>>,
    /// A word on why.
    pub note: Option<String>,
    /// Who added it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// Whether this node has it compiled.
    pub ready: bool,
    /// Why it is not run, until its owner acknowledges that.
    pub quarantine: Option<Quarantine>,
}

/// A binding as its owner asks for it.
#[derive(Debug, Clone)]
pub struct BindingDraft {
    /// Its name within the namespace.
    pub id: HookName,
    /// The topics it is for.
    pub topic: TopicPattern,
    /// Which way it stands in.
    pub side: Side,
    /// Where it stands in the chain: smaller runs first.
    pub position: u16,
    /// The hook.
    pub hook: HookName,
    /// The version in force.
    pub version: u32,
    /// A version on trial.
    pub canary: Option<Canary>,
    /// A version that runs on copies.
    pub shadow: Option<u32>,
    /// Of this share of the items, 1 to 100.
    pub shadow_percent: u8,
    /// What becomes of items the hook fails on.
    pub policies: Policies,
    /// Whether failures soon after an activation bring the version before back.
    pub auto_rollback: bool,
    /// A binding that is off does nothing.
    pub enabled: bool,
}

/// What a change expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever there is, or nothing.
    Anything,
    /// Nothing.
    Absent,
    /// This revision.
    Revision(u64),
}

/// A test case kept with a hook: all of them must pass before a version is activated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredTest {
    /// Its name within the hook.
    pub name: HookName,
    /// The case, as JSON text.
    pub case: String,
}

/// A line in the log of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// Goes up by at least one with each line of the hook on this node.
    pub seq: u64,
    /// When the call that wrote it ended.
    pub at: Timestamp,
    /// Which version wrote it; 0 for lines about the hook by the server.
    pub version: u32,
    /// How loud.
    pub level: LogLevel,
    /// The line.
    pub message: Box<str>,
}

/// What a version did on this node since it started.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionStats {
    /// The version.
    pub version: u32,
    /// Calls made.
    pub calls: u64,
    /// Items given to it.
    pub items: u64,
    /// Verdicts by their name, `keep` or `dead_letter`, and `error` where it failed on an item.
    pub verdicts: Vec<(&'static str, u64)>,
    /// Calls with an answer that was not valid.
    pub invalid: u64,
    /// Calls that trapped.
    pub traps: u64,
    /// Calls that ran out of time.
    pub timeouts: u64,
    /// Calls that were not run for lack of resources.
    pub overloads: u64,
    /// Items the policy was applied to while the breaker was open.
    pub skipped: u64,
    /// Items a shadow said the same of, something else of, and failed on.
    pub shadow: [u64; 3],
    /// Calls that ran into the memory, the stack or the calls of imports they may have.
    pub ceiling_trips: u64,
    /// Whether the breaker is open.
    pub breaker_open: bool,
    /// Whether it is in quarantine.
    pub quarantined: bool,
    /// Time its calls ran, in all.
    pub run: Duration,
    /// Half of its calls ran no longer than this, to the next power of two of a microsecond.
    pub run_p50: Duration,
    /// 99 of 100 calls ran no longer than this, to the next power of two of a microsecond.
    pub run_p99: Duration,
    /// Most linear memory a call had, in bytes.
    pub memory_bytes_max: u64,
    /// Calls of imports.
    pub host_calls: u64,
    /// Log lines that were dropped.
    pub log_lines_dropped: u64,
}

/// An item a hook failed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptFailure {
    /// When.
    pub at: Timestamp,
    /// Which version failed.
    pub version: u32,
    /// Which way.
    pub side: Side,
    /// The topic.
    pub topic: TopicName,
    /// The item's id.
    pub id: ItemId,
    /// Its priority.
    pub priority: i32,
    /// Its headers.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Its content type.
    pub content_type: Option<Box<str>>,
    /// Its payload; none when it was larger than 64 KiB.
    #[serde(skip)]
    pub payload: Option<Box<[u8]>>,
    /// Which delivery it was; 0 on enqueue.
    pub attempt: u32,
    /// What happened.
    pub detail: Box<str>,
}

/// An item that a shadow said something else of than counted, or failed on.
#[derive(Debug, Clone, Serialize)]
pub struct ShadowDifference {
    /// When.
    pub at: Timestamp,
    /// Which way the item went.
    pub side: Side,
    /// Its topic.
    pub topic: TopicName,
    /// Its id.
    pub id: ItemId,
    /// The version that counted.
    pub version: u32,
    /// The version that ran on a copy.
    pub shadow: u32,
    /// How the two compare.
    pub outcome: ShadowOutcome,
    /// What counted, an [`OutcomeView`](crate::hooks::rehearse::OutcomeView).
    pub counted: Arc<RawValue>,
    /// What the shadow said, likewise.
    pub said: Arc<RawValue>,
    /// How the payload that the shadow makes differs from the one that counts, where each makes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<Arc<RawValue>>,
    /// Whether the changes were left out, because they are large.
    pub cut: bool,
}

/// How many of everything a namespace may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NamespaceHookLimits {
    /// Hooks.
    pub hooks: usize,
    /// Versions kept of each hook.
    pub versions_per_hook: usize,
    /// Bindings that are on and could meet in one topic on one side.
    pub bindings_per_topic: usize,
    /// Test cases of each hook.
    pub tests_per_hook: usize,
    /// Bytes of a test case.
    pub test_bytes: usize,
    /// Bytes of a configuration, keys and values.
    pub config_bytes: usize,
    /// Secrets of a version.
    pub secrets: usize,
    /// Bytes of a secret.
    pub secret_bytes: usize,
    /// Bytes of the configurations and secrets of all its versions.
    pub settings_bytes_in_all: u64,
    /// Bytes of the modules of all its versions.
    pub module_bytes_in_all: u64,
}

impl Default for NamespaceHookLimits {
    fn default() -> Self {
        Self {
            hooks: 100,
            versions_per_hook: 100,
            bindings_per_topic: 4,
            tests_per_hook: 1_000,
            test_bytes: 64 << 10,
            config_bytes: 64 << 10,
            secrets: 32,
            secret_bytes: 4 << 10,
            settings_bytes_in_all: 16 << 20,
            module_bytes_in_all: 2 << 30,
        }
    }
}

/// What `GET /v1/hooks/limits` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LimitsView {
    /// What one call may use, unless its manifest asks for less.
    pub call: HookLimits,
    /// How many of everything a namespace may have.
    pub namespace: NamespaceHookLimits,
}

/// Which version [`Registry::activate`](super::Registry::activate) is to put in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activation {
    /// The version.
    pub version: u32,
    /// As a trial with this share of the items, 1 to 99; else for all of them.
    pub canary_percent: Option<u8>,
    /// Passes over failed test cases.
    pub force: bool,
}
