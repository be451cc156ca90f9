//! What administrators of every namespace see of the nodes.

pub(super) mod dto;
pub(super) mod routes;

use poem::Response;
use serde::Serialize;

use super::ApiState;
use super::caller::Caller;
use super::problem::Problem;
use super::reply::json;
use crate::queue::NodeView;
use crate::tenant::{Denied, Scope};

#[derive(Serialize)]
struct NodeListView {
    nodes: Vec<NodeView>,
}

/// Refuses whoever may not look after the whole of it.
fn rules(state: &ApiState, caller: &Caller) -> Result<(), Problem> {
    let principal = caller.principal(state)?;
    if !principal.opens_everything() {
        return Err(Denied::Namespace.into());
    }
    if !principal.has(Scope::Admin) {
        return Err(Denied::Scope(Scope::Admin.as_str()).into());
    }
    Ok(())
}

/// `GET /v1/nodes`.
pub(super) async fn nodes(state: &ApiState, caller: &Caller) -> Result<Response, Problem> {
    rules(state, caller)?;
    json(&NodeListView {
        nodes: state.queue.nodes().await?,
    })
}
