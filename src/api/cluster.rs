//! What administrators of every namespace see of nodes and shards, and do to them.

pub(super) mod dto;
pub(super) mod routes;

use std::sync::Arc;

use poem::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ApiState;
use super::audit::note_of_all;
use super::body::{Incoming, parse};
use super::caller::Caller;
use super::problem::{Code, Problem};
use super::reply;
use super::views::CountView;
use crate::model::NodeId;
use crate::queue::{MoveRequest, MovesView, NodeView, PlannedMove, ShardView};
use crate::tenant::{Denied, Principal, Scope};

#[derive(Serialize)]
struct NodeListView {
    nodes: Vec<NodeView>,
}

/// Refuses whoever may not look after the whole of it.
fn rules(state: &ApiState, caller: &Caller) -> Result<Arc<Principal>, Problem> {
    let principal = caller.principal(state)?;
    if !principal.opens_everything() {
        return Err(Denied::Everything.into());
    }
    if !principal.has(Scope::Admin) {
        return Err(Denied::Scope(Scope::Admin.as_str()).into());
    }
    Ok(principal)
}

/// `GET /v1/nodes`.
pub(super) async fn nodes(state: &ApiState, caller: &Caller) -> Result<Response, Problem> {
    rules(state, caller)?;
    reply::json(&NodeListView {
        nodes: state.queue.nodes().await?,
    })
}

/// `DELETE /v1/nodes/{node}`.
pub(super) async fn forget(state: &ApiState, caller: &Caller, node: &str) -> Result<Response, Problem> {
    let operator = rules(state, caller)?;
    let node = node.parse().ok().and_then(NodeId::new).ok_or_else(|| {
        let detail = format!("must be a number from 0 to {}", NodeId::MAX);
        Problem::field(Code::InvalidName, "node", detail)
    })?;
    state.queue.forget_node(node).await?;
    let target = format!("node {}", node.number());
    note_of_all(state, (caller, &operator), "node.forget", target, None).await;
    reply::json(&CountView { count: 1 })
}

#[derive(Serialize)]
struct ShardListView {
    shards: Vec<ShardView>,
    #[serde(flatten)]
    moves: MovesView,
}

/// `GET /v1/shards`.
pub(super) async fn shards(state: &ApiState, caller: &Caller) -> Result<Response, Problem> {
    rules(state, caller)?;
    reply::json(&ShardListView {
        shards: state.queue.shards(),
        moves: state.queue.moves().await?,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveBody {
    from: Option<u16>,
    to: Option<u16>,
    slots: Option<u32>,
    #[serde(default)]
    balance: bool,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Serialize)]
struct PlanView {
    dry_run: bool,
    moves: Vec<PlannedMove>,
}

/// `POST /v1/shards/moves`.
pub(super) async fn move_slots(
    state: &ApiState,
    caller: &Caller,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let operator = rules(state, caller)?;
    let body: MoveBody = parse(&incoming.json(state.limits.small()).await?)?;
    let request = match (body.balance, body.from, body.to, body.slots) {
        (true, None, None, None) => MoveRequest::Balance,
        (false, Some(from), Some(to), Some(slots)) => MoveRequest::Some { from, to, slots },
        _ => {
            let detail = "give either `balance: true`, or all of `from`, `to` and `slots`";
            return Err(Problem::field(Code::InvalidField, "balance", detail));
        }
    };
    let moves = state.queue.move_slots(request, body.dry_run).await?;
    if !body.dry_run && !moves.is_empty() {
        let after = Some(json!({ "moves": moves }));
        note_of_all(
            state,
            (caller, &operator),
            "slots.move",
            "shards".to_owned(),
            after,
        )
        .await;
    }
    reply::json(&PlanView {
        dry_run: body.dry_run,
        moves,
    })
}
