//! What hooks did and who changed them; the contract and the limits.

use poem::Response;

use super::super::ApiState;
use super::super::caller::Caller;
use super::super::problem::{Code, Problem};
use super::super::reply::{json, text};
use super::views::{AuditEntryView, AuditView, FailureListView, FailureView, StatsListView, StatsView};
use super::{HookPath, Owner, unknown_hook};
use crate::hooks::WIT;
use crate::tenant::Scope;

/// Entries of the audit log when the request names no number.
const AUDIT_DEFAULT: usize = 50;
/// Most entries of the audit log in one answer.
const AUDIT_MAX: usize = 500;

/// `GET …/hooks/{hook}/stats`.
pub(super) fn stats(state: &ApiState, caller: &Caller, path: HookPath<'_>) -> Result<Response, Problem> {
    let owner = known(state, caller, path)?;
    let stats = state.hooks.registry.stats(owner.namespace(), &owner.hook);
    json(&StatsListView {
        versions: stats.iter().map(StatsView::from).collect(),
    })
}

/// `GET …/hooks/{hook}/failures`.
pub(super) fn failures(state: &ApiState, caller: &Caller, path: HookPath<'_>) -> Result<Response, Problem> {
    let owner = known(state, caller, path)?;
    let failures = state.hooks.registry.failures(owner.namespace(), &owner.hook);
    json(&FailureListView {
        failures: failures.iter().map(FailureView::from).collect(),
    })
}

fn known(state: &ApiState, caller: &Caller, path: HookPath<'_>) -> Result<Owner, Problem> {
    let owner = Owner::of(state, caller, path)?;
    match state.hooks.registry.hook(owner.namespace(), &owner.hook) {
        Some(_) => Ok(owner),
        None => Err(unknown_hook()),
    }
}

/// `GET …/audit`: for those who look after hooks, and for administrators.
pub(super) async fn audit(
    state: &ApiState,
    caller: &Caller,
    namespace: &str,
    after: u64,
    limit: Option<usize>,
) -> Result<Response, Problem> {
    let authorised = match caller.enter(state, namespace, Scope::Admin) {
        Err(problem) if problem.code() == Code::InsufficientScope => {
            caller.enter(state, namespace, Scope::Hooks)?
        }
        entered => entered?,
    };
    let limit = match limit.unwrap_or(AUDIT_DEFAULT) {
        limit @ 1..=AUDIT_MAX => limit,
        _ => {
            let detail = format!("must be between 1 and {AUDIT_MAX}");
            return Err(Problem::field(Code::InvalidQuery, "limit", detail));
        }
    };
    let entries = state
        .hooks
        .registry
        .audit(authorised.namespace(), after, limit)
        .await?;
    json(&AuditView {
        next_after: entries
            .last()
            .filter(|_| entries.len() == limit)
            .map(|entry| entry.id),
        entries: entries.iter().map(AuditEntryView::from).collect(),
    })
}

/// `GET /v1/hooks/wit`.
pub(super) fn wit(state: &ApiState, caller: &Caller) -> Result<Response, Problem> {
    caller.principal(state)?;
    Ok(text("text/plain; charset=utf-8", WIT))
}

/// `GET /v1/hooks/limits`.
pub(super) fn limits(state: &ApiState, caller: &Caller) -> Result<Response, Problem> {
    caller.principal(state)?;
    json(&super::views::LimitsView::new(
        &state.hooks.registry.limits(),
        state.hooks.upload_bytes_max,
    ))
}
