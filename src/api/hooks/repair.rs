//! Dead letters and a hook: which version is meant to repair them, and what it would make of them.

use std::sync::Arc;

use super::super::ApiState;
use super::super::caller::requester;
use super::super::problem::{Code, Problem};
use super::views::DryRunItemView;
use super::{name, unknown_hook, unknown_version};
use crate::hooks::rehearse::rehearse_item;
use crate::hooks::{HookContext, HookItem};
use crate::model::{HookRef, Namespace, Side, TopicKey};
use crate::queue::ItemView;
use crate::tenant::Authorised;

/// The version that `text` names: `name@version`, or a name alone for its newest one.
///
/// # Errors
/// 404 when there is none, 422 when it has no enqueue side, which is the way back into a topic.
pub(crate) fn hook_version(state: &ApiState, namespace: &Namespace, text: &str) -> Result<HookRef, Problem> {
    let (hook, version) = match text.split_once('@') {
        Some((hook, version)) => (hook, Some(version)),
        None => (text, None),
    };
    let hook = name("hook", hook)?;
    let registry = &state.hooks.registry;
    let known = registry.hook(namespace, &hook).ok_or_else(unknown_hook)?;
    let number = match version {
        None => known.versions.first().map(|newest| newest.version),
        Some(text) => Some(text.parse().map_err(|_| {
            let detail = "must be a hook's name, or name@version";
            Problem::field(Code::InvalidField, "hook", detail)
        })?),
    };
    let number = number.ok_or_else(unknown_hook)?;
    let view = registry.version_view(namespace, &hook, number);
    let view = view.ok_or_else(|| unknown_version(number))?;
    if !view.exports.contains(&Side::Enqueue) {
        let detail = "the version has no enqueue side, which dead letters pass on their way back";
        return Err(Problem::field(Code::InvalidField, "hook", detail));
    }
    Ok(HookRef {
        hook,
        version: number,
    })
}

/// What `hook` would make of `dead` letters on their way to `home`. Nothing is written.
///
/// # Errors
/// 404 when the version went meanwhile, 429 when too many dry runs are under way.
pub(crate) async fn rehearse_dead(
    state: &ApiState,
    authorised: &Authorised,
    home: &TopicKey,
    hook: &HookRef,
    dead: &[ItemView],
) -> Result<Vec<DryRunItemView>, Problem> {
    let namespace = authorised.namespace();
    let version = state.hooks.registry.version(namespace, &hook.hook, hook.version);
    let version = version.ok_or_else(|| unknown_version(hook.version))?;
    let _place = state.hooks.rehearsal(namespace)?;
    let by = requester(authorised);
    let context = Arc::new(HookContext {
        topic: home.clone(),
        now: state.clock.now(),
        principal: by.subject,
        scopes: by.scopes,
    });
    let mut views = Vec::with_capacity(dead.len());
    for view in dead {
        let item = HookItem {
            item: view.item.clone(),
            attempt: 0,
            hops: 0,
        };
        let rehearser = &*state.hooks.rehearser;
        let run = rehearse_item(rehearser, &version, Side::Enqueue, context.clone(), item.clone()).await;
        views.push(DryRunItemView::new(&item, &run, true));
    }
    Ok(views)
}
