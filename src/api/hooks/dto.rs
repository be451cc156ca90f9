//! The documented shapes of the bodies of hooks. They describe; reading and writing happens elsewhere.

mod observed;
mod rehearsal;

use std::collections::HashMap;

use poem_openapi::types::{Any, Base64};
use poem_openapi::{Enum, Object};
use serde_json::Value;

use super::super::dto::Instant;

pub(super) use observed::{DifferenceList, FailureList, HookLimits, HookStats, HookStatsList, LogList};
pub(crate) use rehearsal::DryRunItem;
pub(super) use rehearsal::{DryRun, DryRunRequest, StoredTest, TestCase, TestList, TestsRun};

type Json = Any<Value>;
type Bytes = Base64<Vec<u8>>;

/// Everything a version has. What is left out is taken over from the hook's newest version.
#[derive(Object)]
pub(super) struct VersionUpload {
    /// A component or core module, as base64; excludes `wat`.
    module: Option<Bytes>,
    /// The text of a component or core module; excludes `module`.
    wat: Option<String>,
    /// How it wants to be run.
    manifest: Option<Manifest>,
    /// What the hook reads as its configuration: any JSON value per key.
    config: Option<HashMap<String, Json>>,
    /// What only the hook reads; never shown again.
    secrets: Option<HashMap<String, String>>,
    /// A word on why.
    note: Option<String>,
}

/// Which way through the queue a hook stands in.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(super) enum Side {
    /// Items on their way in.
    Enqueue,
    /// Items on their way out.
    Dequeue,
}

/// How a version wants to be run.
#[derive(Object)]
#[oai(rename = "HookManifest")]
pub(super) struct Manifest {
    /// What it is, in a sentence.
    description: Option<String>,
    /// How long its instances live.
    instance: Option<InstanceMode>,
    /// How much of an item it is given.
    input: Option<InputMode>,
    /// Limits below the namespace's.
    limits: Option<LimitsPatch>,
    /// Keeps the inputs it failed on for a day, for its owner to look at.
    keep_failures: Option<bool>,
}

/// How long an instance of a module lives.
#[derive(Enum)]
#[oai(rename_all = "snake_case", rename = "HookInstance")]
pub(super) enum InstanceMode {
    /// For one call.
    Fresh,
    /// For many calls of the same version.
    Warm,
}

/// How much of an item a hook is given.
#[derive(Enum)]
#[oai(rename_all = "snake_case", rename = "HookInput")]
pub(super) enum InputMode {
    /// All of it.
    Full,
    /// Everything but the payload.
    Meta,
}

/// Limits a version sets itself; each counts only where it is below what it would get.
#[derive(Object)]
#[oai(rename = "HookLimitsPatch")]
pub(super) struct LimitsPatch {
    /// Time for a call with one item, in milliseconds.
    item_ms: Option<u32>,
    /// Time for a call with several items, in milliseconds.
    batch_ms: Option<u32>,
    /// Linear memory, in bytes.
    memory_bytes: Option<u64>,
    /// Bytes a call may give back.
    output_bytes: Option<u64>,
    /// Calls of imports.
    host_calls: Option<u32>,
    /// Log lines of a call.
    log_lines: Option<u32>,
    /// Items one item may be split into.
    split_items: Option<u32>,
}

/// The hooks of a namespace, by name.
#[derive(Object)]
pub(super) struct HookList {
    /// The hooks.
    hooks: Vec<HookSummary>,
}

/// Who may change a hook.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(super) enum HookOwner {
    /// The API.
    Api,
    /// The plugins folder: read-only over the API.
    Folder,
}

/// A hook in a list.
#[derive(Object)]
pub(super) struct HookSummary {
    /// Its name.
    hook: String,
    /// What its newest version says it is.
    description: String,
    /// The number of its newest version.
    latest: Option<u32>,
    /// How many versions are kept.
    version_count: u64,
    /// The sides its newest version exports.
    exports: Vec<Side>,
    /// The bindings that name it.
    bound_by: Vec<String>,
    /// Who may change it.
    owner: HookOwner,
    /// Why its folder was not taken over, as it is now; what was in force before stays in force.
    rejected: Option<String>,
}

/// A hook with its versions, its bindings and what it did.
#[derive(Object)]
pub(super) struct HookDetail {
    /// Its name.
    hook: String,
    /// What its newest version says it is.
    description: String,
    /// The number of its newest version.
    latest: Option<u32>,
    /// How many versions are kept.
    version_count: u64,
    /// The sides its newest version exports.
    exports: Vec<Side>,
    /// The bindings that name it.
    bound_by: Vec<String>,
    /// Who may change it.
    owner: HookOwner,
    /// Why its folder was not taken over, as it is now; what was in force before stays in force.
    rejected: Option<String>,
    /// Its versions, the newest first.
    versions: Vec<HookVersion>,
    /// Its bindings, by id.
    bindings: Vec<Binding>,
    /// What each version did on this node, the newest first.
    stats: Vec<HookStats>,
}

/// The versions of a hook.
#[derive(Object)]
pub(super) struct HookVersionList {
    /// The versions, the newest first.
    versions: Vec<HookVersion>,
}

/// A version of a hook; it never changes.
#[derive(Object)]
pub(super) struct HookVersion {
    /// The hook.
    hook: String,
    /// Its number, from 1.
    version: u32,
    /// The SHA-256 of its module as it is stored, in hexadecimal.
    digest: String,
    /// Bytes of the module.
    module_bytes: u64,
    /// The sides it exports.
    exports: Vec<Side>,
    /// How it wants to be run.
    manifest: Manifest,
    /// Its configuration.
    config: HashMap<String, Json>,
    /// The names of its secrets.
    secrets: Vec<String>,
    /// A word on why.
    note: Option<String>,
    /// Who added it.
    created_by: String,
    /// When.
    created_at: Instant,
    /// Whether this node has it compiled.
    ready: bool,
    /// Why it is not run, until that is acknowledged.
    quarantine: Option<Quarantine>,
}

/// Why a version is not run until its owner acknowledges that.
#[derive(Object)]
#[oai(rename = "HookQuarantine")]
pub(super) struct Quarantine {
    /// Since when.
    at: Instant,
    /// What its calls ran into last.
    ceiling: Ceiling,
    /// How many did on one node.
    trips: u32,
}

/// What a call ran into.
#[derive(Enum)]
#[oai(rename_all = "snake_case", rename = "HookCeiling")]
pub(super) enum Ceiling {
    /// Its memory, or the elements of a table.
    Memory,
    /// Its stack.
    Stack,
    /// Its calls of imports.
    HostCalls,
}

/// A version that was uploaded.
#[derive(Object)]
pub(super) struct AddedVersion {
    /// The hook.
    hook: String,
    /// Its number, from 1.
    version: u32,
    /// The SHA-256 of its module as it is stored, in hexadecimal.
    digest: String,
    /// Bytes of the module.
    module_bytes: u64,
    /// The sides it exports.
    exports: Vec<Side>,
    /// How it wants to be run.
    manifest: Manifest,
    /// Its configuration.
    config: HashMap<String, Json>,
    /// The names of its secrets.
    secrets: Vec<String>,
    /// A word on why.
    note: Option<String>,
    /// Who added it.
    created_by: String,
    /// When.
    created_at: Instant,
    /// Whether this node has it compiled.
    ready: bool,
    /// Why it is not run, until that is acknowledged.
    quarantine: Option<Quarantine>,
    /// False when the newest version was already exactly this.
    created: bool,
    /// What the module imports.
    imports: Vec<String>,
    /// What its author may want to know.
    warnings: Vec<String>,
    /// How long compiling took, in milliseconds; 0 when it was compiled before.
    compile_ms: u64,
}

/// What becomes of an item whose hook failed.
#[derive(Enum)]
#[oai(rename_all = "snake_case", rename = "HookPolicy")]
pub(super) enum Policy {
    /// It does not pass: refused on enqueue, deferred on dequeue and dead after five failures.
    Closed,
    /// It passes as it is, marked with the header `mq-hook-skipped`.
    Open,
    /// It becomes a dead letter.
    DeadLetter,
    /// The version that was active before runs instead, once; where that fails too, `closed`.
    RetryPrevious,
}

/// The policy for each kind of failure; `closed` when absent.
#[derive(Object)]
#[oai(rename = "HookPolicies")]
pub(super) struct Policies {
    /// The hook said that it failed, or gave back something invalid.
    error: Option<Policy>,
    /// It trapped.
    trap: Option<Policy>,
    /// It ran out of time.
    timeout: Option<Policy>,
    /// It could not be run.
    overload: Option<Policy>,
}

/// A version that gets a share of the items.
#[derive(Object)]
#[oai(rename = "HookCanary")]
pub(super) struct Canary {
    /// The version.
    version: u32,
    /// Its share of the items, in percent; an item stays with one version.
    percent: u8,
}

/// A hook in force for some topics, as its owner asks for it.
#[derive(Object)]
pub(super) struct BindingDraft {
    /// The topics it is for: a name, or a prefix and `*`.
    topic: String,
    /// Which way it stands in.
    side: Side,
    /// Where it stands in the chain: smaller runs first; 100 when absent.
    position: Option<u16>,
    /// The hook.
    hook: String,
    /// The version in force.
    version: u32,
    /// A version on trial.
    canary: Option<Canary>,
    /// A version that runs on copies, to compare what it says.
    shadow: Option<u32>,
    /// The share of the items that it runs on, in percent; 1 when absent.
    #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
    shadow_percent: Option<u8>,
    /// What becomes of items the hook fails on.
    policies: Option<Policies>,
    /// Whether failures soon after an activation bring the version before back.
    auto_rollback: Option<bool>,
    /// A binding that is off does nothing; on when absent.
    enabled: Option<bool>,
}

/// A hook in force for some topics.
#[derive(Object)]
pub(super) struct Binding {
    /// Its name within the namespace.
    id: String,
    /// The topics it is for: a name, or a prefix and `*`.
    topic: String,
    /// Which way it stands in.
    side: Side,
    /// Where it stands in the chain: smaller runs first; equal ones by name.
    position: u16,
    /// The hook.
    hook: String,
    /// The version in force.
    version: u32,
    /// The version in force before, for a rollback.
    previous: Option<u32>,
    /// A version on trial.
    canary: Option<Canary>,
    /// A version that runs on copies.
    shadow: Option<u32>,
    /// The share of the items that it runs on, in percent.
    shadow_percent: Option<u8>,
    /// What becomes of items the hook fails on.
    policies: Policies,
    /// Whether failures soon after an activation bring the version before back.
    auto_rollback: bool,
    /// A binding that is off does nothing.
    enabled: bool,
    /// When the version in force was activated.
    activated_at: Instant,
    /// Goes up with each change; the ETag has it too.
    revision: u64,
    /// Whether it is in force on this node as it is, and what it runs is compiled.
    ready: bool,
    /// Those of its versions that are in quarantine.
    quarantined: Option<Vec<u32>>,
}

/// The bindings of a namespace, by id.
#[derive(Object)]
pub(super) struct BindingList {
    /// The bindings.
    bindings: Vec<Binding>,
}

/// Which version is to be in force.
#[derive(Object)]
pub(super) struct Activation {
    /// The version.
    version: u32,
    /// As a trial with this share of the items, 1 to 99; else for all of them.
    #[oai(validator(minimum(value = "1"), maximum(value = "99")))]
    canary_percent: Option<u8>,
    /// Passes over failed test cases; needs the scope `admin` too.
    force: Option<bool>,
}
