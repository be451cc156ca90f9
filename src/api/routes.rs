//! The route table, grouped by audience. Handlers are elsewhere; a method here names the path, documents
//! it and calls one.

mod tenants;

use std::sync::Arc;

use poem::endpoint::BoxEndpoint;
use poem::{EndpointExt, Response, Result, Route};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::registry::{MetaApi, Registry};
use poem_openapi::{OpenApi, OpenApiService, Tags};

use super::body::{JsonBody, OptionalBody};
use super::caller::Caller;
use super::cluster::routes::ClusterApi;
use super::hooks::conditions::Conditions;
use super::hooks::routes::{BindingsApi, HooksApi};
use super::operator_routes::OperatorApi;
use super::reply::{
    Acts, ActsIf, Answer, Events, Guarded, Looks, Lookup, Open, Ready, Streams, Tagged, Takes, TakesIf,
    TextAnswer, TextOrJson,
};
use super::seats::Seats;
use super::settle::Settle;
use super::topics::Paging;
use super::{ApiState, classic, docs, dto, events, items, openapi, ops, settle, topics};
use tenants::{NamespacesApi, OperationsApi};

/// Who the routes are for.
#[derive(Tags)]
pub(super) enum Audience {
    /// Handing items in.
    Producers,
    /// Taking items out and settling them.
    Consumers,
    /// Looking at topics and changing how they behave.
    Topics,
    /// Settings and quotas of tenants.
    Namespaces,
    /// Versions, tests and bindings of hooks, and what hooks did.
    Hooks,
    /// Running a node.
    Operations,
    /// The routes of the first version.
    Classic,
}

/// A JSON answer of the documented shape `T`, or one of the problems `P`.
pub(super) type JsonAnswer<T, P> = Result<Answer<T, P>>;

/// Producers and consumers.
struct ItemsApi(Arc<ApiState>);

#[OpenApi]
impl ItemsApi {
    /// Enqueue items
    ///
    /// 200 when at least one item was accepted or is a duplicate; look at `results`. When all items are
    /// refused for one reason the answer is that reason's problem, with `results` in it.
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic/enqueue",
        method = "post",
        operation_id = "enqueue",
        tag = "Audience::Producers"
    )]
    async fn enqueue(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
        body: JsonBody<dto::EnqueueRequest>,
    ) -> JsonAnswer<dto::EnqueueResponse, Takes> {
        Ok(items::enqueue(&self.0, &caller, (&ns, &topic), body.incoming)
            .await?
            .into())
    }

    /// Dequeue items of one topic
    ///
    /// Hands out the most urgent items that are due and leases each to the caller.
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic/dequeue",
        method = "post",
        operation_id = "dequeue",
        tag = "Audience::Consumers"
    )]
    async fn dequeue(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
        body: OptionalBody<dto::DequeueRequest>,
    ) -> JsonAnswer<dto::DequeueResponse, Takes> {
        Ok(items::dequeue(&self.0, &caller, (&ns, &topic), body.incoming)
            .await?
            .into())
    }

    /// Dequeue items of several topics
    #[oai(
        path = "/v1/namespaces/:ns/dequeue",
        method = "post",
        operation_id = "dequeue_many",
        tag = "Audience::Consumers"
    )]
    async fn dequeue_many(
        &self,
        caller: Caller,
        ns: Path<String>,
        body: JsonBody<dto::DequeueManyRequest>,
    ) -> JsonAnswer<dto::DequeueResponse, Takes> {
        Ok(items::dequeue_many(&self.0, &caller, &ns, body.incoming)
            .await?
            .into())
    }

    /// Ack: the items are done
    #[oai(
        path = "/v1/ack",
        method = "post",
        operation_id = "ack",
        tag = "Audience::Consumers"
    )]
    async fn ack(
        &self,
        caller: Caller,
        body: JsonBody<dto::AckRequest>,
    ) -> JsonAnswer<dto::SettleResponse, Takes> {
        Ok(settle::settle(&self.0, &caller, Settle::Ack, body.incoming)
            .await?
            .into())
    }

    /// Nack: the items failed and are delivered again
    #[oai(
        path = "/v1/nack",
        method = "post",
        operation_id = "nack",
        tag = "Audience::Consumers"
    )]
    async fn nack(
        &self,
        caller: Caller,
        body: JsonBody<dto::NackRequest>,
    ) -> JsonAnswer<dto::SettleResponse, Takes> {
        Ok(settle::settle(&self.0, &caller, Settle::Nack, body.incoming)
            .await?
            .into())
    }

    /// Extend: the leases last longer
    #[oai(
        path = "/v1/extend",
        method = "post",
        operation_id = "extend",
        tag = "Audience::Consumers"
    )]
    async fn extend(
        &self,
        caller: Caller,
        body: JsonBody<dto::ExtendRequest>,
    ) -> JsonAnswer<dto::SettleResponse, Takes> {
        Ok(settle::settle(&self.0, &caller, Settle::Extend, body.incoming)
            .await?
            .into())
    }

    /// Release: the items go back and the delivery does not count
    #[oai(
        path = "/v1/release",
        method = "post",
        operation_id = "release",
        tag = "Audience::Consumers"
    )]
    async fn release(
        &self,
        caller: Caller,
        body: JsonBody<dto::ReleaseRequest>,
    ) -> JsonAnswer<dto::SettleResponse, Takes> {
        Ok(settle::settle(&self.0, &caller, Settle::Release, body.incoming)
            .await?
            .into())
    }

    /// Reject: the items become dead letters
    #[oai(
        path = "/v1/reject",
        method = "post",
        operation_id = "reject",
        tag = "Audience::Consumers"
    )]
    async fn reject(
        &self,
        caller: Caller,
        body: JsonBody<dto::RejectRequest>,
    ) -> JsonAnswer<dto::SettleResponse, Takes> {
        Ok(settle::settle(&self.0, &caller, Settle::Reject, body.incoming)
            .await?
            .into())
    }
}

/// Those who look after topics.
struct TopicsApi(Arc<ApiState>);

#[OpenApi(tag = "Audience::Topics")]
impl TopicsApi {
    /// List topics
    #[oai(
        path = "/v1/namespaces/:ns/topics",
        method = "get",
        operation_id = "list_topics"
    )]
    async fn list(
        &self,
        caller: Caller,
        ns: Path<String>,
        /// The most topics, 1 to 1000; 50 when absent.
        limit: Query<Option<u32>>,
        /// Where an earlier page ended.
        cursor: Query<Option<String>>,
    ) -> JsonAnswer<dto::TopicList, Looks> {
        let page = paging(limit, cursor);
        Ok(topics::list(&self.0, &caller, &ns, &page)?.into())
    }

    /// Show a topic
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic",
        method = "get",
        operation_id = "get_topic"
    )]
    async fn get(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
    ) -> Result<Tagged<dto::TopicDetail, Looks>> {
        Ok(topics::get(&self.0, &caller, (&ns, &topic))?.into())
    }

    /// Replace a topic's own settings
    ///
    /// Makes the topic when there is none. What the body leaves out comes from the namespace.
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic",
        method = "put",
        operation_id = "put_topic"
    )]
    async fn put(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
        /// Only if the settings are those of this ETag.
        #[oai(name = "If-Match")]
        if_match: Header<Option<String>>,
        /// `*`: only if there is no such topic.
        #[oai(name = "If-None-Match")]
        if_none_match: Header<Option<String>>,
        body: JsonBody<dto::Settings>,
    ) -> Result<Tagged<dto::TopicDetail, TakesIf>> {
        let conditions = Conditions {
            if_match: if_match.0,
            if_none_match: if_none_match.0,
        };
        Ok(
            topics::put(&self.0, &caller, (&ns, &topic), &conditions, body.incoming)
                .await?
                .into(),
        )
    }

    /// Delete a topic with everything in it
    ///
    /// Every item goes, leased ones and dead letters too, and so do the topic's settings.
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic",
        method = "delete",
        operation_id = "delete_topic"
    )]
    async fn delete(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
        /// The topic's name once more.
        confirm: Query<Option<String>>,
        /// Only if the settings are those of this ETag.
        #[oai(name = "If-Match")]
        if_match: Header<Option<String>>,
    ) -> JsonAnswer<dto::Count, ActsIf> {
        let confirm = confirm.0.as_deref();
        Ok(
            topics::delete(&self.0, &caller, (&ns, &topic), confirm, if_match.0)
                .await?
                .into(),
        )
    }

    /// A topic's numbers
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic/stats",
        method = "get",
        operation_id = "topic_stats"
    )]
    async fn stats(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
    ) -> JsonAnswer<dto::TopicStats, Looks> {
        Ok(topics::stats(&self.0, &caller, (&ns, &topic))?.into())
    }

    /// A topic's last hour on this node
    ///
    /// A moment every ten seconds, for charts. Nodes that share a Redis each tell what went through themselves, and all
    /// of what is held.
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic/history",
        method = "get",
        operation_id = "topic_history"
    )]
    async fn history(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
    ) -> JsonAnswer<dto::TopicHistory, Looks> {
        Ok(topics::history(&self.0, &caller, (&ns, &topic))?.into())
    }

    /// Stop deliveries
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic/pause",
        method = "post",
        operation_id = "pause_topic"
    )]
    async fn pause(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
    ) -> JsonAnswer<dto::TopicDetail, Acts> {
        Ok(topics::pause(&self.0, &caller, (&ns, &topic), true).await?.into())
    }

    /// Let deliveries go on
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic/resume",
        method = "post",
        operation_id = "resume_topic"
    )]
    async fn resume(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
    ) -> JsonAnswer<dto::TopicDetail, Acts> {
        Ok(topics::pause(&self.0, &caller, (&ns, &topic), false)
            .await?
            .into())
    }

    /// Drop every item that waits or is leased
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic/purge",
        method = "post",
        operation_id = "purge_topic"
    )]
    async fn purge(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
    ) -> JsonAnswer<dto::Count, Acts> {
        Ok(topics::purge(&self.0, &caller, (&ns, &topic)).await?.into())
    }

    /// Browse items in delivery order without leasing them
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic/items",
        method = "get",
        operation_id = "browse_items"
    )]
    async fn browse(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
        /// ready, scheduled, leased or dead; ready when absent.
        state: Query<Option<String>>,
        /// The most items, 1 to 1000; 50 when absent.
        limit: Query<Option<u32>>,
        /// Where an earlier page ended.
        cursor: Query<Option<String>>,
    ) -> JsonAnswer<dto::ItemList, Looks> {
        let page = paging(limit, cursor);
        Ok(topics::browse(&self.0, &caller, (&ns, &topic), state.0, &page)
            .await?
            .into())
    }

    /// Show an item
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic/items/:id",
        method = "get",
        operation_id = "get_item"
    )]
    async fn item(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
        id: Path<String>,
    ) -> JsonAnswer<dto::ItemDetail, Looks> {
        Ok(topics::item(&self.0, &caller, (&ns, &topic), &id).await?.into())
    }

    /// Cancel an item that waits
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic/items/:id",
        method = "delete",
        operation_id = "cancel_item"
    )]
    async fn cancel(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
        id: Path<String>,
    ) -> JsonAnswer<dto::Count, Acts> {
        Ok(topics::cancel(&self.0, &caller, (&ns, &topic), &id).await?.into())
    }

    /// Why an item is or is not delivered
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic/items/:id/explain",
        method = "get",
        operation_id = "explain_item"
    )]
    async fn explain(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
        id: Path<String>,
    ) -> JsonAnswer<dto::Explanation, Looks> {
        Ok(topics::explain(&self.0, &caller, (&ns, &topic), &id)
            .await?
            .into())
    }

    /// Browse dead letters
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic/dead",
        method = "get",
        operation_id = "browse_dead"
    )]
    async fn dead(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
        /// The most items, 1 to 1000; 50 when absent.
        limit: Query<Option<u32>>,
        /// Where an earlier page ended.
        cursor: Query<Option<String>>,
    ) -> JsonAnswer<dto::ItemList, Looks> {
        let page = paging(limit, cursor);
        Ok(topics::dead(&self.0, &caller, (&ns, &topic), &page).await?.into())
    }

    /// Discard every dead letter
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic/dead",
        method = "delete",
        operation_id = "discard_dead"
    )]
    async fn discard_dead(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
    ) -> JsonAnswer<dto::Count, Acts> {
        Ok(topics::discard_dead(&self.0, &caller, (&ns, &topic))
            .await?
            .into())
    }

    /// Bring dead letters back
    #[oai(
        path = "/v1/namespaces/:ns/topics/:topic/dead/redrive",
        method = "post",
        operation_id = "redrive_dead"
    )]
    async fn redrive(
        &self,
        caller: Caller,
        ns: Path<String>,
        topic: Path<String>,
        body: OptionalBody<dto::RedriveRequest>,
    ) -> JsonAnswer<dto::RedriveResponse, Takes> {
        Ok(topics::redrive(&self.0, &caller, (&ns, &topic), body.incoming)
            .await?
            .into())
    }
}

/// Those who run nodes.
struct OpsApi(Arc<ApiState>);

#[OpenApi(tag = "Audience::Operations")]
impl OpsApi {
    /// OK while the process answers
    #[oai(path = "/health", method = "get", operation_id = "health")]
    async fn health(&self) -> TextAnswer<Open> {
        ops::health().into()
    }

    /// Whether the process can go on, or has to be restarted
    #[oai(path = "/livez", method = "get", operation_id = "livez")]
    async fn live(&self) -> Result<TextAnswer<Ready>> {
        Ok(ops::live(&self.0)?.into())
    }

    /// Whether the node accepts items
    ///
    /// With `verbose` the answer has each part in words and needs a token; without it a bare text and none.
    #[oai(path = "/readyz", method = "get", operation_id = "readyz")]
    async fn ready(
        &self,
        request: &poem::Request,
        /// Present, with or without a value: show each part.
        verbose: Query<Option<String>>,
    ) -> Result<TextOrJson<dto::Readiness, Ready>> {
        let verbose = verbose.0.is_some_and(|value| value != "false");
        Ok(ops::ready(&self.0, &Caller::of(request), verbose)?.into())
    }

    /// Prometheus metrics
    ///
    /// Open to the node's own machine; from elsewhere, or through a proxy, it needs a token that opens every
    /// namespace.
    #[oai(path = "/metrics", method = "get", operation_id = "metrics")]
    async fn metrics(&self, caller: Caller) -> Result<TextAnswer<Guarded>> {
        Ok(ops::metrics(&self.0, &caller)?.into())
    }

    /// What a problem means
    #[oai(path = "/problems/:code", method = "get", operation_id = "get_problem")]
    async fn problem(&self, code: Path<String>) -> Result<TextAnswer<Lookup>> {
        Ok(ops::problem_page(&code)?.into())
    }
}

/// Those who watch.
struct EventsApi {
    state: Arc<ApiState>,
    seats: Seats,
}

#[OpenApi(tag = "Audience::Operations")]
impl EventsApi {
    /// What the token may see, twice a second
    ///
    /// Server-sent events named `snapshot`, each whole by itself, the first at once. The stream ends when
    /// the token expires and when the node stops.
    #[oai(path = "/v1/events", method = "get", operation_id = "events")]
    async fn events(&self, caller: Caller) -> Result<Events<dto::Snapshot, Streams>> {
        Ok(events::events(&self.state, caller, &self.seats)?.into())
    }
}

/// Clients of the first version.
struct ClassicApi(Arc<ApiState>);

#[OpenApi(tag = "Audience::Classic")]
impl ClassicApi {
    /// Enqueue items of any namespaces and topics
    ///
    /// 200 only when every item was accepted or is a duplicate; else the problem of the first refusal, with
    /// the result of each item in `results`.
    #[oai(path = "/enqueue", method = "post", operation_id = "classic_enqueue")]
    async fn enqueue(
        &self,
        caller: Caller,
        body: JsonBody<Vec<dto::ClassicItem>>,
    ) -> JsonAnswer<Vec<dto::ClassicResult>, Takes> {
        Ok(classic::enqueue(&self.0, &caller, body.incoming).await?.into())
    }

    /// Dequeue items of one topic
    ///
    /// Leases what it hands out, as the newer route does, and answers a bare list. The header `X-Limited-By: leases`
    /// says that there are fewer items because the namespace has as many with its consumers as its quota allows.
    #[oai(path = "/dequeue", method = "get", operation_id = "classic_dequeue")]
    async fn dequeue(
        &self,
        caller: Caller,
        /// The namespace.
        namespace: Query<String>,
        /// The topic.
        topic: Query<String>,
        /// The most items, 1 to 1000; 10 when absent.
        limit: Query<Option<u32>>,
        /// How long to wait for the first item, in milliseconds, up to 20000.
        wait_ms: Query<Option<u32>>,
        /// Lease length, in milliseconds.
        lease_ms: Query<Option<u32>>,
    ) -> JsonAnswer<Vec<dto::ClassicDelivery>, Takes> {
        let query = classic::ClassicDequeue {
            namespace: namespace.0,
            topic: topic.0,
            limit: limit.0,
            wait_ms: wait_ms.0,
            lease_ms: lease_ms.0,
        };
        Ok(classic::dequeue(&self.0, &caller, query).await?.into())
    }

    /// Ack an item by its id
    ///
    /// Acts on the item's current lease, whoever holds it, unless `lease_id` is given. The body is read as
    /// JSON whatever its content type says.
    #[oai(path = "/ack", method = "post", operation_id = "classic_ack")]
    async fn ack(
        &self,
        caller: Caller,
        body: JsonBody<dto::ClassicSettle>,
    ) -> JsonAnswer<dto::ClassicSettled, Takes> {
        Ok(classic::settle(&self.0, &caller, false, body.incoming)
            .await?
            .into())
    }

    /// Nack an item by its id
    ///
    /// Acts on the item's current lease, whoever holds it, unless `lease_id` is given. The body is read as
    /// JSON whatever its content type says.
    #[oai(path = "/nack", method = "post", operation_id = "classic_nack")]
    async fn nack(
        &self,
        caller: Caller,
        body: JsonBody<dto::ClassicSettle>,
    ) -> JsonAnswer<dto::ClassicSettled, Takes> {
        Ok(classic::settle(&self.0, &caller, true, body.incoming)
            .await?
            .into())
    }
}

fn paging(limit: Query<Option<u32>>, cursor: Query<Option<String>>) -> Paging {
    Paging {
        limit: limit.0,
        cursor: cursor.0,
    }
}

type Apis = (
    ItemsApi,
    TopicsApi,
    NamespacesApi,
    OperatorApi,
    OperationsApi,
    HooksApi,
    BindingsApi,
    OpsApi,
    ClusterApi,
    EventsApi,
    ClassicApi,
);

/// The documentation of every route, without the state that serving them needs.
pub(super) struct Table;

impl OpenApi for Table {
    fn meta() -> Vec<MetaApi> {
        Apis::meta()
    }

    fn register(registry: &mut Registry) {
        Apis::register(registry);
    }

    fn add_routes(
        self,
        _: &mut std::collections::HashMap<
            String,
            std::collections::HashMap<poem::http::Method, BoxEndpoint<'static>>,
        >,
    ) {
    }
}

/// The page that poem-openapi renders for Swagger UI, with all its assets inline.
pub(super) fn swagger_ui_html() -> String {
    OpenApiService::new(Table, "", "").swagger_ui_html()
}

/// Every documented route, `/openapi.json` and `/docs`, beside the routes of `beside`.
pub(super) fn mount(beside: Route, state: &Arc<ApiState>) -> BoxEndpoint<'static, Response> {
    let state = || state.clone();
    let apis: Apis = (
        ItemsApi(state()),
        TopicsApi(state()),
        NamespacesApi(state()),
        OperatorApi(state()),
        OperationsApi(state()),
        HooksApi(state()),
        BindingsApi(state()),
        OpsApi(state()),
        ClusterApi(state()),
        EventsApi {
            state: state(),
            seats: Seats::default(),
        },
        ClassicApi(state()),
    );
    let service = OpenApiService::new(apis, openapi::TITLE, openapi::VERSION);
    let document = openapi::document();
    let document =
        poem::endpoint::make_sync(move |_| super::reply::text("application/json", document.clone()));
    let mut route = beside.at("/openapi.json", poem::get(document));
    if state().limits.docs {
        route = docs::mount(route, &swagger_ui_html());
    }
    route.nest("/", service).map_to_response().boxed()
}

/// The methods that the documented route at `path` answers, as an `Allow` header lists them.
pub(super) fn allowed(path: &str) -> String {
    let fits = |template: &str| {
        let mut given = path.split('/');
        let mut parts = template.split('/');
        loop {
            match (parts.next(), given.next()) {
                (None, None) => return true,
                (Some(part), Some(text)) if part.starts_with('{') || part == text => {}
                _ => return false,
            }
        }
    };
    let mut methods: Vec<String> = Apis::meta()
        .into_iter()
        .flat_map(|api| api.paths)
        .filter(|documented| fits(&documented.path))
        .flat_map(|documented| documented.operations)
        .map(|operation| operation.method.to_string())
        .collect();
    if methods.is_empty() || methods.iter().any(|method| method == "GET") {
        methods.push("GET".to_owned());
        methods.push("HEAD".to_owned());
    }
    methods.sort();
    methods.dedup();
    methods.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_knows_its_methods() {
        assert_eq!(allowed("/v1/namespaces/a/topics/b"), "DELETE, GET, HEAD, PUT");
        assert_eq!(allowed("/v1/ack"), "POST");
        assert_eq!(allowed("/docs"), "GET, HEAD");
    }
}
