//! The routes of those who run the servers for many tenants: quotas and configuration.

use std::sync::Arc;

use poem_openapi::OpenApi;
use poem_openapi::param::Path;

use super::body::JsonBody;
use super::caller::Caller;
use super::reply::{Acts, Configures, Guarded, Looks, Takes};
use super::routes::{Audience, JsonAnswer};
use super::{ApiState, configuration, dto, quota};

/// Those who say what tenants may do, and how the servers are set up.
pub(super) struct OperatorApi(pub(super) Arc<ApiState>);

#[OpenApi]
impl OperatorApi {
    /// A namespace's quota and how much of it is used
    #[oai(
        path = "/v1/namespaces/:ns/quota",
        method = "get",
        operation_id = "get_quota",
        tag = "Audience::Namespaces"
    )]
    async fn quota(&self, caller: Caller, ns: Path<String>) -> JsonAnswer<dto::Quota, Looks> {
        Ok(quota::get(&self.0, &caller, &ns)?.into())
    }

    /// Set a namespace's quota over the configuration
    ///
    /// Takes the scope admin and a token that opens every namespace. What the body leaves out comes from the
    /// configuration, 0 is no limit. What was spent stays spent.
    #[oai(
        path = "/v1/namespaces/:ns/quota",
        method = "put",
        operation_id = "put_quota",
        tag = "Audience::Namespaces"
    )]
    async fn put_quota(
        &self,
        caller: Caller,
        ns: Path<String>,
        body: JsonBody<dto::QuotaSettings>,
    ) -> JsonAnswer<dto::Quota, Takes> {
        Ok(quota::put(&self.0, &caller, &ns, body.incoming).await?.into())
    }

    /// Fall back to the configuration's quota
    ///
    /// Takes the scope admin and a token that opens every namespace.
    #[oai(
        path = "/v1/namespaces/:ns/quota",
        method = "delete",
        operation_id = "delete_quota",
        tag = "Audience::Namespaces"
    )]
    async fn delete_quota(&self, caller: Caller, ns: Path<String>) -> JsonAnswer<dto::Quota, Acts> {
        Ok(quota::delete(&self.0, &caller, &ns).await?.into())
    }

    /// The configuration in force
    ///
    /// Every key with its value and where it came from; secrets are masked. Takes the scope admin and a token
    /// that opens every namespace.
    #[oai(
        path = "/v1/config",
        method = "get",
        operation_id = "get_config",
        tag = "Audience::Operations"
    )]
    async fn config(&self, caller: Caller) -> JsonAnswer<dto::Configuration, Guarded> {
        Ok(configuration::get(&self.0, &caller)?.into())
    }

    /// Read the configuration again
    ///
    /// As when a file changes or on SIGHUP. Any error leaves everything as it was. Takes the scope admin and a
    /// token that opens every namespace.
    #[oai(
        path = "/v1/config/reload",
        method = "post",
        operation_id = "reload_config",
        tag = "Audience::Operations"
    )]
    async fn reload(&self, caller: Caller) -> JsonAnswer<dto::Reloads, Configures> {
        Ok(configuration::reload(&self.0, &caller).await?.into())
    }
}
