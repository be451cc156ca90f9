//! What the routes of hooks show, as serde writes it. [`super::dto`] documents the same shapes.

mod rehearsal;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::test_cases::raw;
use crate::clock::Timestamp;
use crate::hooks::LogLevel;
use crate::hooks::registry::{self, AddedVersion, KeptFailure, LogEntry, Owner, Registry, StoredTest};
use crate::model::{
    Binding, Canary, Digest, HookConfig, HookLimits, HookName, ItemId, Manifest, Namespace, Policies,
    Quarantine, Side, TopicName, TopicPattern,
};

pub(crate) use rehearsal::DryRunItemView;
pub(super) use rehearsal::TestRunView;

/// Declares views whose members are always there.
macro_rules! views {
    ($($(#[$doc:meta])* struct $name:ident $(<$life:lifetime>)? { $($field:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Serialize)]
        pub(super) struct $name $(<$life>)? { $(pub(super) $field: $kind,)* }
    )*};
}

views! {
    /// The hooks of a namespace.
    struct HookListView<'a> {
        hooks: Vec<HookSummaryView<'a>>,
    }
    /// The versions of a hook.
    struct VersionListView<'a> {
        versions: Vec<VersionView<'a>>,
    }
    /// The bindings of a namespace.
    struct BindingListView<'a> {
        bindings: Vec<BindingView<'a>>,
    }
    /// The test cases of a hook.
    struct TestListView<'a> {
        tests: Vec<TestView<'a>>,
    }
    /// How the stored tests went.
    struct TestsRunView<'a> {
        passed: usize,
        failed: usize,
        results: Vec<TestRunView<'a>>,
    }
    /// Lines of a log.
    struct LogListView<'a> {
        lines: Vec<LogLineView<'a>>,
    }
    /// What each version did.
    struct StatsListView {
        versions: Vec<StatsView>,
    }
    /// Items a hook failed on.
    struct FailureListView<'a> {
        failures: Vec<FailureView<'a>>,
    }
    /// Items that shadows said something else of.
    struct DifferenceListView {
        differences: Vec<registry::ShadowDifference>,
    }
    /// What a version would do.
    struct DryRunView {
        version: String,
        side: Side,
        topic: TopicName,
        verdicts: BTreeMap<&'static str, u64>,
        not_run: usize,
        items: Vec<DryRunItemView>,
    }
}

/// A hook in a list.
#[derive(Serialize)]
pub(super) struct HookSummaryView<'a> {
    hook: &'a HookName,
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    latest: Option<u32>,
    version_count: usize,
    exports: &'a [Side],
    bound_by: &'a [HookName],
    owner: Owner,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<&'a str>,
}

impl<'a> From<&'a registry::HookSummary> for HookSummaryView<'a> {
    fn from(summary: &'a registry::HookSummary) -> Self {
        Self {
            hook: &summary.name,
            description: &summary.description,
            latest: summary.latest,
            version_count: summary.versions,
            exports: &summary.exports,
            bound_by: &summary.bindings,
            owner: summary.owner,
            rejected: summary.rejected.as_deref(),
        }
    }
}

/// A hook, whole.
#[derive(Serialize)]
pub(super) struct HookDetailView<'a> {
    #[serde(flatten)]
    summary: HookSummaryView<'a>,
    versions: Vec<VersionView<'a>>,
    bindings: Vec<BindingView<'a>>,
    stats: Vec<StatsView>,
}

impl<'a> HookDetailView<'a> {
    /// The hook of `view`.
    pub(super) fn new(
        view: &'a registry::HookView,
        namespace: &Namespace,
        registry: &Registry,
        stats: &[registry::VersionStats],
    ) -> Self {
        let bindings = view.bindings.iter();
        Self {
            summary: (&view.summary).into(),
            versions: view.versions.iter().map(Into::into).collect(),
            bindings: bindings
                .map(|binding| BindingView::new(binding, namespace, registry))
                .collect(),
            stats: stats.iter().map(Into::into).collect(),
        }
    }
}

/// A version.
#[derive(Serialize)]
pub(super) struct VersionView<'a> {
    hook: &'a HookName,
    version: u32,
    digest: Digest,
    module_bytes: u64,
    exports: &'a [Side],
    manifest: &'a Manifest,
    config: BTreeMap<&'a str, &'a RawValue>,
    secrets: &'a [Box<str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    created_by: &'a str,
    created_at: Timestamp,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantine: Option<Quarantine>,
}

impl<'a> From<&'a registry::VersionView> for VersionView<'a> {
    fn from(view: &'a registry::VersionView) -> Self {
        Self {
            hook: &view.hook,
            version: view.version,
            digest: view.digest,
            module_bytes: view.module_bytes,
            exports: &view.exports,
            manifest: &view.manifest,
            config: config(&view.config),
            secrets: &view.secrets,
            note: view.note.as_deref(),
            created_by: &view.created_by,
            created_at: view.created_at,
            ready: view.ready,
            quarantine: view.quarantine,
        }
    }
}

fn config(config: &HookConfig) -> BTreeMap<&str, &RawValue> {
    config
        .iter()
        .filter_map(|(key, text)| Some((&**key, raw(text)?)))
        .collect()
}

/// A version that was uploaded.
#[derive(Serialize)]
pub(super) struct AddedView<'a> {
    #[serde(flatten)]
    version: VersionView<'a>,
    created: bool,
    imports: &'a [String],
    warnings: &'a [String],
    compile_ms: u64,
}

impl<'a> From<&'a AddedVersion> for AddedView<'a> {
    fn from(added: &'a AddedVersion) -> Self {
        Self {
            version: (&added.version).into(),
            created: added.created,
            imports: &added.imports,
            warnings: &added.warnings,
            compile_ms: added.compile_ms,
        }
    }
}

/// A binding.
#[derive(Serialize)]
pub(super) struct BindingView<'a> {
    id: &'a HookName,
    topic: &'a TopicPattern,
    side: Side,
    position: u16,
    hook: &'a HookName,
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<Canary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow_percent: Option<u8>,
    policies: Policies,
    auto_rollback: bool,
    enabled: bool,
    activated_at: Timestamp,
    revision: u64,
    ready: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quarantined: Vec<u32>,
}

impl<'a> BindingView<'a> {
    /// A binding of `namespace`, as `registry` has it in force.
    pub(super) fn new(binding: &'a Binding, namespace: &Namespace, registry: &Registry) -> Self {
        Self {
            id: &binding.id,
            topic: &binding.topic,
            side: binding.side,
            position: binding.position,
            hook: &binding.hook,
            version: binding.version,
            previous: binding.previous,
            canary: binding.canary,
            shadow: binding.shadow,
            shadow_percent: binding.shadow.map(|_| binding.shadow_percent),
            policies: binding.policies,
            auto_rollback: binding.auto_rollback,
            enabled: binding.enabled,
            activated_at: binding.activated_at,
            revision: binding.revision,
            ready: registry.is_ready(namespace, binding),
            quarantined: registry.quarantined(namespace, binding),
        }
    }
}

/// A stored test case.
#[derive(Serialize)]
pub(super) struct TestView<'a> {
    name: &'a HookName,
    #[serde(skip_serializing_if = "Option::is_none")]
    case: Option<&'a RawValue>,
}

impl<'a> From<&'a StoredTest> for TestView<'a> {
    fn from(stored: &'a StoredTest) -> Self {
        Self {
            name: &stored.name,
            case: raw(&stored.case),
        }
    }
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A line of a log.
#[derive(Serialize)]
pub(super) struct LogLineView<'a> {
    seq: u64,
    at: Timestamp,
    version: u32,
    level: LogLevel,
    message: &'a str,
}

impl<'a> From<&'a LogEntry> for LogLineView<'a> {
    fn from(line: &'a LogEntry) -> Self {
        Self {
            seq: line.seq,
            at: line.at,
            version: line.version,
            level: line.level,
            message: &line.message,
        }
    }
}

/// What a version did on this node.
#[derive(Serialize)]
pub(super) struct StatsView {
    version: u32,
    calls: u64,
    items: u64,
    verdicts: BTreeMap<&'static str, u64>,
    invalid: u64,
    traps: u64,
    timeouts: u64,
    overloads: u64,
    skipped: u64,
    shadow_same: u64,
    shadow_different: u64,
    shadow_failed: u64,
    ceiling_trips: u64,
    breaker_open: bool,
    quarantined: bool,
    run_us: u64,
    run_p50_us: u64,
    run_p99_us: u64,
    memory_bytes_max: u64,
    host_calls: u64,
    log_lines_dropped: u64,
}

impl From<&registry::VersionStats> for StatsView {
    fn from(stats: &registry::VersionStats) -> Self {
        let [shadow_same, shadow_different, shadow_failed] = stats.shadow;
        Self {
            version: stats.version,
            calls: stats.calls,
            items: stats.items,
            verdicts: stats.verdicts.iter().copied().collect(),
            invalid: stats.invalid,
            traps: stats.traps,
            timeouts: stats.timeouts,
            overloads: stats.overloads,
            skipped: stats.skipped,
            shadow_same,
            shadow_different,
            shadow_failed,
            ceiling_trips: stats.ceiling_trips,
            breaker_open: stats.breaker_open,
            quarantined: stats.quarantined,
            run_us: micros(stats.run),
            run_p50_us: micros(stats.run_p50),
            run_p99_us: micros(stats.run_p99),
            memory_bytes_max: stats.memory_bytes_max,
            host_calls: stats.host_calls,
            log_lines_dropped: stats.log_lines_dropped,
        }
    }
}

/// An item a hook failed on.
#[derive(Serialize)]
pub(super) struct FailureView<'a> {
    at: Timestamp,
    version: u32,
    side: Side,
    topic: &'a TopicName,
    id: ItemId,
    priority: i32,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    attempt: u32,
    detail: &'a str,
}

impl<'a> From<&'a KeptFailure> for FailureView<'a> {
    fn from(failure: &'a KeptFailure) -> Self {
        let headers = failure.headers.iter();
        let payload = failure.payload.as_deref();
        Self {
            at: failure.at,
            version: failure.version,
            side: failure.side,
            topic: &failure.topic,
            id: failure.id,
            priority: failure.priority,
            headers: headers.map(|(name, value)| (&**name, &**value)).collect(),
            content_type: failure.content_type.as_deref(),
            payload: payload.map(|payload| base64_simd::STANDARD.encode_to_string(payload)),
            attempt: failure.attempt,
            detail: &failure.detail,
        }
    }
}

/// The limits in force.
#[derive(Serialize)]
pub(super) struct LimitsView {
    upload_bytes: usize,
    call: HookLimits,
    namespace: registry::NamespaceHookLimits,
}

impl LimitsView {
    /// `limits`, and the largest upload.
    pub(super) fn new(limits: &registry::LimitsView, upload_bytes: usize) -> Self {
        Self {
            upload_bytes,
            call: limits.call,
            namespace: limits.namespace,
        }
    }
}
