//! Namespaces: their settings.

use poem::Response;

use super::ApiState;
use super::body::{Incoming, parse};
use super::caller::Caller;
use super::problem::Problem;
use super::reply::json;
use super::topics::check_settings;
use super::views::NamespaceDetailView;
use crate::model::{Namespace, SettingsPatch};
use crate::tenant::Scope;

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
    incoming: Incoming,
) -> Result<Response, Problem> {
    let authorised = caller.enter(state, namespace, Scope::Admin)?;
    let settings: SettingsPatch = parse(&incoming.json(state.limits.small()).await?)?;
    check_settings(&settings)?;
    state
        .queue
        .put_namespace(authorised.namespace(), settings)
        .await?;
    show(state, authorised.namespace())
}

fn show(state: &ApiState, namespace: &Namespace) -> Result<Response, Problem> {
    let (settings, effective) = state.queue.namespace(namespace);
    json(&NamespaceDetailView {
        namespace: namespace.to_string(),
        settings,
        effective,
    })
}
