//! What hooks did and who changed them; the contract and the limits.

use poem::Response;

use super::super::ApiState;
use super::super::caller::Caller;
use super::super::problem::Problem;
use super::super::reply::{json, text};
use super::views::{DifferenceListView, FailureListView, FailureView, StatsListView, StatsView};
use super::{HookPath, Owner, unknown_hook};
use crate::hooks::WIT;

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

/// `GET …/hooks/{hook}/differences`.
pub(super) fn differences(
    state: &ApiState,
    caller: &Caller,
    path: HookPath<'_>,
) -> Result<Response, Problem> {
    let owner = known(state, caller, path)?;
    let registry = &state.hooks.registry;
    json(&DifferenceListView {
        differences: registry.differences(owner.namespace(), &owner.hook),
    })
}

fn known(state: &ApiState, caller: &Caller, path: HookPath<'_>) -> Result<Owner, Problem> {
    let owner = Owner::of(state, caller, path)?;
    match state.hooks.registry.hook(owner.namespace(), &owner.hook) {
        Some(_) => Ok(owner),
        None => Err(unknown_hook()),
    }
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
