//! What rehearsals showed: of test cases and of dry runs.

use serde::Serialize;

use super::micros;
use crate::hooks::rehearse::{CaseResult, Nearness, OutcomeView, Rehearsal};
use crate::hooks::{HookItem, LogLevel, LogLine, Usage};
use crate::model::ItemId;

/// How a stored test went.
#[derive(Serialize)]
pub(in super::super) struct TestRunView<'a> {
    name: &'a str,
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mismatch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageView>,
}

impl<'a> From<&'a CaseResult> for TestRunView<'a> {
    fn from(result: &'a CaseResult) -> Self {
        let rehearsal = result.rehearsal.as_ref();
        Self {
            name: &result.name,
            passed: result.passed(),
            mismatch: result.mismatch.as_deref(),
            verdict: rehearsal.map(|rehearsal| rehearsal.outcome.verdict.as_str()),
            usage: rehearsal.map(|rehearsal| rehearsal.usage.into()),
        }
    }
}

/// What a call used.
#[derive(Serialize)]
pub(in super::super) struct UsageView {
    run_us: u64,
    wait_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<u64>,
    memory_bytes: u64,
    host_calls: u32,
    bytes_in: u64,
    bytes_out: u64,
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        Self {
            run_us: micros(usage.run),
            wait_us: micros(usage.wait),
            instructions: usage.instructions,
            memory_bytes: usage.memory_bytes,
            host_calls: usage.host_calls,
            bytes_in: usage.bytes_in,
            bytes_out: usage.bytes_out,
        }
    }
}

/// One item of a dry run.
#[derive(Serialize)]
pub(crate) struct DryRunItemView {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<ItemId>,
    #[serde(flatten)]
    outcome: OutcomeView,
    usage: UsageView,
    limits: Nearness,
    log: Vec<LogView>,
    log_lines_dropped: u32,
}

/// A line a rehearsed call wrote.
#[derive(Serialize)]
struct LogView {
    level: LogLevel,
    message: Box<str>,
}

impl DryRunItemView {
    /// How `run` of `item` went; with the item's id when it is one that is stored.
    pub(crate) fn new(item: &HookItem, run: &Rehearsal, is_stored: bool) -> Self {
        let line = |line: &LogLine| LogView {
            level: line.level,
            message: line.message.clone(),
        };
        Self {
            id: is_stored.then_some(item.item.id),
            outcome: run.outcome.view(item),
            usage: run.usage.into(),
            limits: run.nearness,
            log: run.log.iter().map(line).collect(),
            log_lines_dropped: run.usage.log_lines_dropped,
        }
    }
}
