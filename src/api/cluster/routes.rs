//! The routes about nodes and shards. As in the table of all routes, a method names the path, documents it and calls one
//! handler.

use std::sync::Arc;

use poem_openapi::OpenApi;
use poem_openapi::param::Path;

use super::super::ApiState;
use super::super::body::JsonBody;
use super::super::caller::Caller;
use super::super::dto::Count;
use super::super::reply::{Acts, Governs, Takes};
use super::super::routes::{Audience, JsonAnswer};
use super::dto;

/// Those who look after the whole of it.
pub(in super::super) struct ClusterApi(pub(in super::super) Arc<ApiState>);

#[OpenApi(tag = "Audience::Operations")]
impl ClusterApi {
    /// List the nodes
    ///
    /// Needs a token with the scope `admin` that opens every namespace.
    #[oai(path = "/v1/nodes", method = "get", operation_id = "list_nodes")]
    async fn nodes(&self, caller: Caller) -> JsonAnswer<dto::NodeList, Governs> {
        Ok(super::nodes(&self.0, &caller).await?.into())
    }

    /// Forget a node that is away for good
    ///
    /// What only its log has is lost. Slots are not moved while a node is away, because of what its log may have.
    #[oai(path = "/v1/nodes/:node", method = "delete", operation_id = "forget_node")]
    async fn forget(&self, caller: Caller, node: Path<String>) -> JsonAnswer<Count, Acts> {
        Ok(super::forget(&self.0, &caller, &node).await?.into())
    }

    /// List the shards
    ///
    /// With the slots on their way between them. Needs a token with the scope `admin` that opens every namespace.
    #[oai(path = "/v1/shards", method = "get", operation_id = "list_shards")]
    async fn shards(&self, caller: Caller) -> JsonAnswer<dto::ShardList, Governs> {
        Ok(super::shards(&self.0, &caller).await?.into())
    }

    /// Move slots between shards
    ///
    /// They move a few at a time while everything goes on; `GET /v1/shards` shows how far they are.
    #[oai(path = "/v1/shards/moves", method = "post", operation_id = "move_slots")]
    async fn move_slots(
        &self,
        caller: Caller,
        body: JsonBody<dto::MoveRequest>,
    ) -> JsonAnswer<dto::MovePlan, Takes> {
        Ok(super::move_slots(&self.0, &caller, body.incoming).await?.into())
    }
}
