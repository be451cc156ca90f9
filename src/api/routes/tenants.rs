//! Routes of those who look after tenants: namespaces, operations, and the log of changes.

use std::sync::Arc;

use poem::Result;
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Path, Query};

use super::super::audit::AuditFilter;
use super::super::body::JsonBody;
use super::super::caller::Caller;
use super::super::hooks::conditions::Conditions;
use super::super::reply::{Acts, ActsIf, Looks, Ordered, Tagged, Takes, TakesIf};
use super::super::{ApiState, audit, dto, namespaces, operations};
use super::{Audience, JsonAnswer, paging};

/// Those who look after tenants.
pub(super) struct NamespacesApi(pub(super) Arc<ApiState>);

#[OpenApi(tag = "Audience::Namespaces")]
impl NamespacesApi {
    /// List namespaces
    ///
    /// Those the token opens that have topics or settings of their own.
    #[oai(path = "/v1/namespaces", method = "get", operation_id = "list_namespaces")]
    async fn list(
        &self,
        caller: Caller,
        /// The most namespaces, 1 to 1000; 50 when absent.
        limit: Query<Option<u32>>,
        /// Where an earlier page ended.
        cursor: Query<Option<String>>,
    ) -> JsonAnswer<dto::NamespaceList, Looks> {
        Ok(namespaces::list(&self.0, &caller, &paging(limit, cursor))?.into())
    }

    /// Show a namespace
    #[oai(path = "/v1/namespaces/:ns", method = "get", operation_id = "get_namespace")]
    async fn get(&self, caller: Caller, ns: Path<String>) -> Result<Tagged<dto::NamespaceDetail, Looks>> {
        Ok(namespaces::get(&self.0, &caller, &ns)?.into())
    }

    /// Replace a namespace's own settings
    #[oai(path = "/v1/namespaces/:ns", method = "put", operation_id = "put_namespace")]
    async fn put(
        &self,
        caller: Caller,
        ns: Path<String>,
        /// Only if the settings are those of this ETag.
        #[oai(name = "If-Match")]
        if_match: Header<Option<String>>,
        body: JsonBody<dto::NamespaceSettings>,
    ) -> Result<Tagged<dto::NamespaceDetail, TakesIf>> {
        let conditions = Conditions {
            if_match: if_match.0,
            if_none_match: None,
        };
        Ok(namespaces::put(&self.0, &caller, &ns, &conditions, body.incoming)
            .await?
            .into())
    }

    /// Delete a namespace
    ///
    /// An operation that drops every topic with every item in it, and the namespace's settings. Its hooks and
    /// its log of changes stay. What is enqueued meanwhile makes topics appear again.
    #[oai(
        path = "/v1/namespaces/:ns",
        method = "delete",
        operation_id = "delete_namespace"
    )]
    async fn delete(
        &self,
        caller: Caller,
        ns: Path<String>,
        /// The namespace's name once more.
        confirm: Query<Option<String>>,
        /// Only if the settings are those of this ETag.
        #[oai(name = "If-Match")]
        if_match: Header<Option<String>>,
    ) -> Result<Ordered<dto::Operation, ActsIf>> {
        let confirm = confirm.0.as_deref();
        Ok(namespaces::delete(&self.0, &caller, &ns, confirm, if_match.0)
            .await?
            .into())
    }
}

/// Those who order long work, and who look at what was done.
pub(super) struct OperationsApi(pub(super) Arc<ApiState>);

#[OpenApi(tag = "Audience::Namespaces")]
impl OperationsApi {
    /// Order an operation
    ///
    /// Work on many items that goes on after the answer, at most 16 operations of a namespace at once. They
    /// are stored and survive a restart: what can go on goes on, what cannot is `stopped` and says why.
    #[oai(
        path = "/v1/namespaces/:ns/operations",
        method = "post",
        operation_id = "order_operation"
    )]
    async fn order(
        &self,
        caller: Caller,
        ns: Path<String>,
        body: JsonBody<dto::OperationRequest>,
    ) -> Result<Ordered<dto::Operation, Takes>> {
        Ok(operations::order(&self.0, &caller, &ns, body.incoming)
            .await?
            .into())
    }

    /// List operations, the newest first
    #[oai(
        path = "/v1/namespaces/:ns/operations",
        method = "get",
        operation_id = "list_operations"
    )]
    async fn list(
        &self,
        caller: Caller,
        ns: Path<String>,
        /// queued, running, succeeded, failed, cancelled or stopped; all when absent.
        state: Query<Option<String>>,
        /// The most operations, 1 to 1000; 50 when absent.
        limit: Query<Option<u32>>,
        /// Where an earlier page ended.
        cursor: Query<Option<String>>,
    ) -> JsonAnswer<dto::OperationList, Looks> {
        let page = paging(limit, cursor);
        Ok(operations::list(&self.0, &caller, &ns, state.0, &page)
            .await?
            .into())
    }

    /// Show an operation
    #[oai(
        path = "/v1/namespaces/:ns/operations/:id",
        method = "get",
        operation_id = "get_operation"
    )]
    async fn get(
        &self,
        caller: Caller,
        ns: Path<String>,
        id: Path<String>,
    ) -> JsonAnswer<dto::Operation, Looks> {
        Ok(operations::get(&self.0, &caller, &ns, &id).await?.into())
    }

    /// Cancel an operation
    ///
    /// At once when it waits; after the step under way when it runs. What it did stays done.
    #[oai(
        path = "/v1/namespaces/:ns/operations/:id",
        method = "delete",
        operation_id = "cancel_operation"
    )]
    async fn cancel(
        &self,
        caller: Caller,
        ns: Path<String>,
        id: Path<String>,
    ) -> JsonAnswer<dto::Operation, Acts> {
        Ok(operations::cancel(&self.0, &caller, &ns, &id).await?.into())
    }

    /// Who changed what in a namespace
    #[oai(path = "/v1/namespaces/:ns/audit", method = "get", operation_id = "get_audit")]
    #[expect(
        clippy::too_many_arguments,
        reason = "a parameter of the query is a parameter of the function"
    )]
    async fn audit(
        &self,
        caller: Caller,
        ns: Path<String>,
        /// Changes after this one, in the order asked for; from the beginning when absent.
        after: Query<Option<u64>>,
        /// The most changes, 1 to 500; 50 when absent.
        limit: Query<Option<u32>>,
        /// oldest or newest first; oldest when absent.
        order: Query<Option<String>>,
        /// Only by this actor.
        actor: Query<Option<String>>,
        /// Only this action; `topic.`, with the dot, is every action that begins so.
        action: Query<Option<String>>,
        /// Only to this target.
        target: Query<Option<String>>,
        /// Only at or after this instant.
        since: Query<Option<String>>,
        /// Only before this instant.
        until: Query<Option<String>>,
    ) -> JsonAnswer<dto::AuditLog, Looks> {
        let filter = AuditFilter {
            after: after.0,
            limit: limit.0,
            order: order.0,
            actor: actor.0,
            action: action.0,
            target: target.0,
            since: since.0,
            until: until.0,
        };
        Ok(audit::of_namespace(&self.0, &caller, &ns, filter).await?.into())
    }

    /// Who changed what anywhere
    ///
    /// For tokens with `admin` that open every namespace.
    #[oai(path = "/v1/audit", method = "get", operation_id = "get_all_audit")]
    #[expect(
        clippy::too_many_arguments,
        reason = "a parameter of the query is a parameter of the function"
    )]
    async fn all_audit(
        &self,
        caller: Caller,
        /// Changes after this one, in the order asked for; from the beginning when absent.
        after: Query<Option<u64>>,
        /// The most changes, 1 to 500; 50 when absent.
        limit: Query<Option<u32>>,
        /// oldest or newest first; oldest when absent.
        order: Query<Option<String>>,
        /// Only by this actor.
        actor: Query<Option<String>>,
        /// Only this action; `topic.`, with the dot, is every action that begins so.
        action: Query<Option<String>>,
        /// Only to this target.
        target: Query<Option<String>>,
        /// Only at or after this instant.
        since: Query<Option<String>>,
        /// Only before this instant.
        until: Query<Option<String>>,
    ) -> JsonAnswer<dto::AuditLog, Looks> {
        let filter = AuditFilter {
            after: after.0,
            limit: limit.0,
            order: order.0,
            actor: actor.0,
            action: action.0,
            target: target.0,
            since: since.0,
            until: until.0,
        };
        Ok(audit::of_all(&self.0, &caller, filter).await?.into())
    }
}
