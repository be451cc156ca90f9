//! Namespaces: their settings and their end.

use poem::Response;
use serde_json::json;

use super::ApiState;
use super::audit::note;
use super::body::{Incoming, parse};
use super::caller::Caller;
use super::hooks::conditions::{Conditions, failed, tagged};
use super::operations::ordered;
use super::problem::{Code, Problem};
use super::reply::json;
use super::topics::{Paging, check_settings, confirmed, expectation};
use super::views::{NamespaceDetailView, NamespaceListView};
use crate::model::{Namespace, NamespaceSettings, Work};
use crate::queue::Expectation;
use crate::tenant::Scope;

/// `GET /v1/namespaces`: those the token opens that have topics or settings.
pub(crate) fn list(state: &ApiState, caller: &Caller, page: &Paging) -> Result<Response, Problem> {
    let principal = caller.principal(state)?;
    let (limit, after) = (page.limit()?, page.cursor.as_deref().map(cursor).transpose()?);
    let opens = |namespace: &Namespace| principal.authorise_reading(namespace).is_ok();
    let all = state.queue.namespaces().into_iter();
    let mut found: Vec<_> = all
        .filter(|namespace| after.as_ref().is_none_or(|after| namespace > after) && opens(namespace))
        .take(limit + 1)
        .collect();
    let more = found.len() > limit;
    found.truncate(limit);
    json(&NamespaceListView {
        next_cursor: found.last().filter(|_| more).map(|last| encoded(last.as_str())),
        namespaces: found.iter().map(|namespace| detail(state, namespace)).collect(),
    })
}

/// `GET /v1/namespaces/{ns}`.
pub(crate) fn get(state: &ApiState, caller: &Caller, namespace: &str) -> Result<Response, Problem> {
    let authorised = caller.look(state, namespace)?;
    show(state, authorised.namespace())
}

/// `PUT /v1/namespaces/{ns}`.
pub(crate) async fn put(
    state: &ApiState,
    caller: &Caller,
    namespace: &str,
    conditions: &Conditions,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let authorised = caller.enter(state, namespace, Scope::Admin)?;
    let namespace = authorised.namespace();
    let settings: NamespaceSettings = parse(&incoming.json(state.limits.small()).await?)?;
    check_settings(settings.problem())?;
    let before = state.queue.namespace(namespace).settings;
    let expected = expectation(conditions, Some(before.revision()))?;
    state
        .queue
        .put_namespace(namespace, settings.clone(), expected)
        .await?;
    let change = (Some(json!(before)), Some(json!(settings)));
    note(state, (caller, &authorised), "namespace.put", namespace, change).await;
    show(state, namespace)
}

/// `DELETE /v1/namespaces/{ns}`: an operation, since a namespace may hold a great deal.
pub(crate) async fn delete(
    state: &ApiState,
    caller: &Caller,
    namespace: &str,
    confirm: Option<&str>,
    if_match: Option<String>,
) -> Result<Response, Problem> {
    let authorised = caller.enter(state, namespace, Scope::Admin)?;
    let what = "deleting a namespace drops every topic in it with every item, and its settings; its hooks \
                and its log of changes stay";
    confirmed(confirm, authorised.namespace().as_str(), what)?;
    let conditions = Conditions {
        if_match,
        if_none_match: None,
    };
    let revision = state.queue.namespace(authorised.namespace()).settings.revision();
    if let Expectation::Revision(expected) = expectation(&conditions, Some(revision))?
        && expected != revision
    {
        return Err(failed(Some(revision)));
    }
    ordered(state, caller, &authorised, Work::DeleteNamespace, false).await
}

fn show(state: &ApiState, namespace: &Namespace) -> Result<Response, Problem> {
    let revision = state.queue.namespace(namespace).settings.revision();
    Ok(tagged(json(&detail(state, namespace))?, revision))
}

fn detail(state: &ApiState, namespace: &Namespace) -> NamespaceDetailView {
    NamespaceDetailView::new(
        namespace,
        state.queue.namespace(namespace),
        state.queue.quota(namespace),
    )
}

fn encoded(name: &str) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(name)
}

fn cursor(text: &str) -> Result<Namespace, Problem> {
    let read = || {
        let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text).ok()?;
        std::str::from_utf8(&bytes).ok()?.parse().ok()
    };
    let detail = "is not a cursor that this route gave";
    read().ok_or_else(|| Problem::field(Code::InvalidQuery, "cursor", detail))
}
