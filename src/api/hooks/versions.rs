//! Hooks and their versions.

use poem::Response;
use poem::http::{HeaderValue, StatusCode, header};

use super::super::ApiState;
use super::super::caller::Caller;
use super::super::problem::Problem;
use super::super::reply::json;
use super::super::views::CountView;
use super::upload::{self, UploadBody};
use super::views::{AddedView, HookDetailView, HookListView, HookSummaryView, VersionListView, VersionView};
use super::{HookPath, Owner, unknown_hook, unknown_version};
use crate::tenant::Scope;

/// `GET …/hooks`.
pub(super) fn list(state: &ApiState, caller: &Caller, namespace: &str) -> Result<Response, Problem> {
    let authorised = caller.enter(state, namespace, Scope::Hooks)?;
    let hooks = state.hooks.registry.list(authorised.namespace());
    json(&HookListView {
        hooks: hooks.iter().map(HookSummaryView::from).collect(),
    })
}

/// `GET …/hooks/{hook}`.
pub(super) fn get(state: &ApiState, caller: &Caller, path: HookPath<'_>) -> Result<Response, Problem> {
    let owner = Owner::of(state, caller, path)?;
    let registry = &state.hooks.registry;
    let view = registry
        .hook(owner.namespace(), &owner.hook)
        .ok_or_else(unknown_hook)?;
    let stats = registry.stats(owner.namespace(), &owner.hook);
    json(&HookDetailView::new(&view, owner.namespace(), registry, &stats))
}

/// `GET …/hooks/{hook}/versions`.
pub(super) fn versions(state: &ApiState, caller: &Caller, path: HookPath<'_>) -> Result<Response, Problem> {
    let owner = Owner::of(state, caller, path)?;
    let view = state.hooks.registry.hook(owner.namespace(), &owner.hook);
    let view = view.ok_or_else(unknown_hook)?;
    json(&VersionListView {
        versions: view.versions.iter().map(VersionView::from).collect(),
    })
}

/// `POST` and `PUT …/hooks/{hook}/versions`: 201 for a new version, 200 when the newest is just this.
pub(super) async fn add(
    state: &ApiState,
    caller: &Caller,
    path: HookPath<'_>,
    note: Option<String>,
    body: UploadBody,
) -> Result<Response, Problem> {
    let owner = Owner::of(state, caller, path)?;
    // Before the body is read: what waits for a turn must not wait in memory.
    let place = state.hooks.uploads.take(owner.namespace(), "uploads")?;
    let version = upload::read(state, &owner, note, body).await?;
    let added = state
        .hooks
        .registry
        .add_version(owner.namespace(), &owner.hook, version, &owner.author)
        .await?;
    drop(place);
    let mut response = json(&AddedView::from(&added))?;
    if added.created {
        response.set_status(StatusCode::CREATED);
    }
    Ok(response)
}

/// `GET …/versions/{version}`.
pub(super) fn version(
    state: &ApiState,
    caller: &Caller,
    path: HookPath<'_>,
    version: u32,
) -> Result<Response, Problem> {
    let owner = Owner::of(state, caller, path)?;
    let view = known_version(state, &owner, version)?;
    json(&VersionView::from(&view))
}

fn known_version(
    state: &ApiState,
    owner: &Owner,
    version: u32,
) -> Result<crate::hooks::registry::VersionView, Problem> {
    let registry = &state.hooks.registry;
    match registry.version_view(owner.namespace(), &owner.hook, version) {
        Some(view) => Ok(view),
        None if registry.hook(owner.namespace(), &owner.hook).is_some() => Err(unknown_version(version)),
        None => Err(unknown_hook()),
    }
}

/// `GET …/versions/{version}/module`: the component as it is stored, with its digest as entity tag.
pub(super) async fn module(
    state: &ApiState,
    caller: &Caller,
    path: HookPath<'_>,
    version: u32,
    if_none_match: Option<String>,
) -> Result<Response, Problem> {
    let owner = Owner::of(state, caller, path)?;
    let view = known_version(state, &owner, version)?;
    let tag = format!("\"{}\"", view.digest);
    let etag = HeaderValue::try_from(&tag).map_err(|e| Problem::internal(e.to_string()))?;
    let builder = Response::builder().header(header::ETAG, etag);
    if if_none_match.is_some_and(|known| known.split(',').any(|known| known.trim() == tag)) {
        return Ok(builder.status(StatusCode::NOT_MODIFIED).finish());
    }
    let bytes = state.hooks.registry.module(view.digest).await?;
    let bytes = bytes.ok_or_else(|| unknown_version(version))?;
    let name = format!("attachment; filename=\"{}-{version}.wasm\"", owner.hook);
    Ok(builder
        .header(header::CONTENT_TYPE, "application/wasm")
        .header(header::CONTENT_DISPOSITION, name)
        .body(bytes))
}

/// `POST …/versions/{version}/acknowledge`.
pub(super) async fn acknowledge(
    state: &ApiState,
    caller: &Caller,
    path: HookPath<'_>,
    version: u32,
) -> Result<Response, Problem> {
    let owner = Owner::of(state, caller, path)?;
    let view = state
        .hooks
        .registry
        .acknowledge(owner.namespace(), &owner.hook, version, &owner.author)
        .await?;
    json(&VersionView::from(&view))
}

/// `DELETE …/versions/{version}`.
pub(super) async fn delete(
    state: &ApiState,
    caller: &Caller,
    path: HookPath<'_>,
    version: u32,
) -> Result<Response, Problem> {
    let owner = Owner::of(state, caller, path)?;
    state
        .hooks
        .registry
        .delete_version(owner.namespace(), &owner.hook, version, &owner.author)
        .await?;
    json(&CountView { count: 1 })
}
