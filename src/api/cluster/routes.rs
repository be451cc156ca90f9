//! The routes about nodes. As in the table of all routes, a method names the path, documents it and calls one
//! handler.

use std::sync::Arc;

use poem_openapi::OpenApi;

use super::super::ApiState;
use super::super::caller::Caller;
use super::super::reply::Governs;
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
}
