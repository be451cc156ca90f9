//! Every answer that is not a success: RFC 9457 problems, from one table of codes.

use std::borrow::Cow;
use std::time::Duration;

use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem::{Body, Response};
use serde::Serialize;
use serde_json::value::RawValue;

use super::hooks::conditions::failed;
use crate::queue::QueueError;
use crate::tenant::{AuthError, Denied};

/// The media type of problems.
pub(crate) const CONTENT_TYPE: &str = "application/problem+json";

/// Declares the codes once: name, text, status, title and what a reader should know.
macro_rules! codes {
    ($($name:ident $code:literal $status:ident $title:literal $meaning:literal)*) => {
        /// What kind of problem it is; stable, for programs to tell problems apart.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $(#[doc = $title] $name,)* }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as problems carry it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The status it is answered with.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// One short sentence, the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What it means and what to do about it.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

codes! {
    MalformedBody "malformed_body" BAD_REQUEST "The body does not fit its schema"
        "The body is not JSON or not of the documented shape: a field is unknown, missing, given twice or of the wrong type. Nothing was done. The detail names the place."
    InvalidName "invalid_name" BAD_REQUEST "A name in the path is not allowed"
        "Namespaces and topics are 1 to 128 letters, digits, dots, underscores and hyphens; item ids are decimal numbers."
    InvalidQuery "invalid_query" BAD_REQUEST "A query parameter is not allowed"
        "A parameter after the question mark has a value outside its range. The detail names it."
    ConfirmationRequired "confirmation_required" BAD_REQUEST "Confirm what you delete by its name"
        "What is deleted does not come back. Send the name of what you delete as confirm: after the question mark, or in the body of an operation."
    BadRequest "bad_request" BAD_REQUEST "The request cannot be read"
        "The request is not well-formed HTTP for this route."
    Unauthorized "unauthorized" UNAUTHORIZED "A valid token is needed"
        "Send a current token as Authorization: Bearer <token>. mqueue token mints one for development."
    Forbidden "forbidden" FORBIDDEN "The token does not open this namespace"
        "The namespace is not among the token's namespaces. Whether it exists is not told."
    InsufficientScope "insufficient_scope" FORBIDDEN "The token lacks a scope"
        "The token opens the namespace, but its scope does not cover this operation. The detail names the scope."
    RouteNotFound "route_not_found" NOT_FOUND "There is no such route"
        "See /openapi.json for the routes of this version."
    UnknownTopic "unknown_topic" NOT_FOUND "There is no such topic"
        "Topics appear on their first enqueue and go when they are deleted."
    TopicNotDeclared "topic_not_declared" NOT_FOUND "The topic has not been made"
        "The namespace makes no topics on their first use. An administrator makes the topic by putting its settings, or lets topics appear by themselves with topics_on_first_use."
    UnknownOperation "unknown_operation" NOT_FOUND "There is no such operation"
        "Operations that ended are forgotten when some hundred more have ended. List the namespace's operations."
    UnknownItem "unknown_item" NOT_FOUND "There is no such item"
        "The item was acked, cancelled, discarded, expired, or never was in this topic."
    UnknownHook "unknown_hook" NOT_FOUND "There is no such hook"
        "A hook appears with its first version and goes with its last."
    UnknownHookVersion "unknown_hook_version" NOT_FOUND "The hook has no such version"
        "List the hook's versions; deleted ones do not come back, and their numbers are not used again."
    UnknownBinding "unknown_binding" NOT_FOUND "There is no such binding"
        "List the namespace's bindings, or make one with If-None-Match: *."
    UnknownTest "unknown_test" NOT_FOUND "There is no such test case"
        "List the hook's test cases."
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "The route has no such method"
        "The Allow header lists the methods of the route."
    RequestTimeout "request_timeout" REQUEST_TIMEOUT "The body came too slowly"
        "A body must arrive at 1 KiB per second or more after its first 5 seconds."
    Conflict "conflict" CONFLICT "The state does not allow this"
        "What was asked does not fit the present state. The detail says why."
    NotLeased "not_leased" CONFLICT "The item is not leased"
        "Only an item that is handed out now can be settled by its id. It may have been settled already, or its lease may have ended."
    TooManyTopics "too_many_topics" CONFLICT "The namespace is full"
        "The namespace has as many topics as it may have. Delete some, or use existing ones."
    VersionInUse "version_in_use" CONFLICT "The version is in use"
        "A binding names the version: in force, on trial, as shadow or as the one to go back to. Put other versions there first."
    OwnedByFolder "owned_by_folder" CONFLICT "The plugins folder owns the hook"
        "Hooks from the plugins folder change with their files and are read-only over HTTP."
    HookLimit "hook_limit" CONFLICT "There are as many as there may be"
        "The namespace, or the hook, has as many of these as it may have. The detail names the limit; /v1/hooks/limits lists all."
    PreconditionFailed "precondition_failed" PRECONDITION_FAILED "It has changed meanwhile"
        "The ETag in If-Match is not the present one, or there is something already under If-None-Match. Look at it again and decide again."
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "The body is too large"
        "Split the batch, or keep large payloads elsewhere and enqueue a reference."
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "The body's type is not supported"
        "Send application/json without a content encoding."
    HeadersTooLarge "headers_too_large" REQUEST_HEADER_FIELDS_TOO_LARGE "The request's head is too large"
        "Send fewer or shorter headers."
    InvalidField "invalid_field" UNPROCESSABLE_ENTITY "A field is outside its limits"
        "The body fits its schema, but a value is outside what is allowed. Nothing was done. The detail names the field and its limits."
    IdempotencyConflict "idempotency_conflict" UNPROCESSABLE_ENTITY "The idempotency key was used for another body"
        "A key stands for one body within the topic's window. Use a new key for a new body."
    Rejected "rejected" UNPROCESSABLE_ENTITY "No item was accepted"
        "Every item of the batch was refused for one reason. results has it per item."
    HookRefused "hook_refused" UNPROCESSABLE_ENTITY "The module is no hook"
        "The module is malformed, over a limit, or does not export and import what hooks do. The detail says what to change; /v1/hooks/wit is the contract."
    GateFailed "gate_failed" UNPROCESSABLE_ENTITY "The version may not go into force"
        "The version does not run here, lacks the side, or fails stored test cases. errors says which. A token with admin may force it past its tests."
    ConfigInvalid "config_invalid" UNPROCESSABLE_ENTITY "The configuration is wrong"
        "The node goes on with the configuration it had. errors has every key that is wrong and what to change."
    PreconditionRequired "precondition_required" PRECONDITION_REQUIRED "Say what you change"
        "Send If-Match with the ETag of what you have seen, so that nobody's change is lost, or If-None-Match: * to make something new."
    TooManyOperations "too_many_operations" TOO_MANY_REQUESTS "As many operations are under way as may be"
        "A namespace has at most 16 operations that wait or run. Wait for one to end, or cancel one."
    HooksBusy "hooks_busy" TOO_MANY_REQUESTS "As much is under way as may be"
        "A namespace uploads one module at a time, and has few dry runs and followers of logs at once. Try again when one is done."
    HookRejected "hook_rejected" UNPROCESSABLE_ENTITY "A hook refused the item"
        "A hook of the topic refused every item. results has each hook's name and version in hook and its own code in code."
    HookFailed "hook_failed" UNPROCESSABLE_ENTITY "A hook failed on the item"
        "A hook of the topic failed, and its binding lets nothing through then. Nothing was stored. results names the hook; its owner finds the cause in its log."
    TooManyParts "too_many_parts" UNPROCESSABLE_ENTITY "Hooks make too many items of the batch"
        "Hooks split the items into more than one request may store. Send fewer at once."
    QuotaExceeded "quota_exceeded" TOO_MANY_REQUESTS "The namespace's quota is used up"
        "The namespace enqueued too much of late, or holds as many bytes as it may: the detail says which. Wait for the time in Retry-After. Acks, nacks and extends are never limited."
    TooManyFailures "too_many_failures" TOO_MANY_REQUESTS "Too many refused tokens from this address"
        "Wait for the time in Retry-After and send a valid token; valid tokens are never held back."
    TooManyStreams "too_many_streams" TOO_MANY_REQUESTS "As many event streams are open as may be"
        "The tokens of one set of namespaces have few event streams at once on a node, and all together have so many. Close one, or try again after Retry-After."
    Internal "internal" INTERNAL_SERVER_ERROR "The server failed"
        "The fault is the server's; its log has the request id. The outcome of the request is unknown."
    LogFull "log_full" SERVICE_UNAVAILABLE "The write-ahead log has no room"
        "Enqueues must wait until space is freed; deliveries and acks go on."
    LogFailed "log_failed" SERVICE_UNAVAILABLE "The write-ahead log failed"
        "The outcome of the request is unknown. The node accepts nothing until it is restarted."
    Overloaded "overloaded" SERVICE_UNAVAILABLE "The queue is over its memory budget"
        "Flushing does not keep pace with enqueues. Try again shortly."
    ShardUnavailable "shard_unavailable" SERVICE_UNAVAILABLE "The topic's shard is unavailable"
        "The database that holds the topic does not answer. Topics of other shards are not affected."
    HotTierUnavailable "hot_tier_unavailable" SERVICE_UNAVAILABLE "The hot tier is unavailable"
        "The Redis that the nodes share does not answer, or is being filled again after it lost its memory. Nothing was enqueued or handed out; leases may be settled, and settling them again tells. Try again after Retry-After."
    EngineUnavailable "engine_unavailable" SERVICE_UNAVAILABLE "The hooks' engine cannot work now"
        "The module could not be compiled or run for lack of resources of the node. Try again shortly."
    HookOverloaded "hook_overloaded" SERVICE_UNAVAILABLE "A hook could not be run"
        "A hook of the topic was not run for lack of resources or because it failed too often lately, and its binding lets nothing through then. Nothing was stored; try again after Retry-After."
    ShuttingDown "shutting_down" SERVICE_UNAVAILABLE "The node is shutting down"
        "Try again; another node or the restarted one will answer."
    NotReady "not_ready" SERVICE_UNAVAILABLE "The node does not accept new items"
        "Ask /readyz?verbose with a token which part is not well."
}

impl Code {
    /// The code a framework's bare status stands for.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized,
            StatusCode::FORBIDDEN => Self::Forbidden,
            StatusCode::NOT_FOUND => Self::RouteNotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Self::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::SERVICE_UNAVAILABLE => Self::NotReady,
            status if status.is_client_error() => Self::BadRequest,
            _ => Self::Internal,
        }
    }

    /// Whether it only asks callers to come back, as a node under load or on its way down does.
    pub(crate) fn is_back_pressure(self) -> bool {
        matches!(
            self,
            Self::Overloaded
                | Self::LogFull
                | Self::ShuttingDown
                | Self::NotReady
                | Self::QuotaExceeded
                | Self::HookOverloaded
        )
    }

    /// The code whose text is `text`.
    pub fn find(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

/// A field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field's path: `items[3].ttl_ms`.
    pub field: String,
    /// What to change.
    pub detail: String,
}

/// A request that was not done, and why. Boxed, so that successes do not pay for its size.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: Code,
    status: StatusCode,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    headers: Vec<(HeaderName, HeaderValue)>,
    results: Option<Box<RawValue>>,
    /// For the log alone: callers never see it.
    internal: Option<String>,
}

#[derive(Serialize)]
struct Wire<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<&'a RawValue>,
}

impl Problem {
    /// A problem of kind `code`; `detail` says what to change this time.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            code,
            status: code.status(),
            detail: detail.into(),
            errors: vec![],
            retry_after: None,
            headers: vec![],
            results: None,
            internal: None,
        }))
    }

    /// A problem of kind `code` with one field.
    pub fn field(code: Code, field: impl Into<String>, detail: impl Into<String>) -> Self {
        let (field, detail) = (field.into(), detail.into());
        let mut problem = Self::new(code, format!("{field}: {detail}"));
        problem.0.errors.push(FieldError { field, detail });
        problem
    }

    /// A fault of the server; `internal` goes to the log only.
    pub fn internal(internal: impl Into<String>) -> Self {
        let mut problem = Self::new(Code::Internal, "the server failed; its log has the request id");
        problem.0.internal = Some(internal.into());
        problem
    }

    /// The same with a `Retry-After` header.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// The same with another header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The same with the results per item, which must be JSON.
    #[must_use]
    pub fn with_results(mut self, results: Box<RawValue>) -> Self {
        self.0.results = Some(results);
        self
    }

    /// The same with one more field that is wrong.
    #[must_use]
    pub fn with_error(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.0.errors.push(FieldError {
            field: field.into(),
            detail: detail.into(),
        });
        self
    }

    /// The same with a text for the log only.
    #[must_use]
    pub fn with_internal(mut self, internal: impl Into<String>) -> Self {
        self.0.internal = Some(internal.into());
        self
    }

    /// The same answered with another status than its code's.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    /// Its kind.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What the log should say beside the public text.
    pub fn internal_detail(&self) -> Option<&str> {
        self.0.internal.as_deref()
    }

    /// Its text for the request `request_id`.
    pub(super) fn body(&self, request_id: &str) -> Vec<u8> {
        let wire = Wire {
            kind: format!("/problems/{}", self.0.code.as_str()),
            title: self.0.code.title(),
            status: self.0.status.as_u16(),
            detail: &self.0.detail,
            code: self.0.code.as_str(),
            request_id,
            errors: &self.0.errors,
            results: self.0.results.as_deref(),
        };
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// The answer for the request `request_id`.
    pub fn render(&self, request_id: &str) -> Response {
        let mut response = Response::builder()
            .status(self.0.status)
            .header(header::CONTENT_TYPE, CONTENT_TYPE)
            .body(Body::from_vec(self.body(request_id)));
        let headers = response.headers_mut();
        for (name, value) in &self.0.headers {
            headers.insert(name.clone(), value.clone());
        }
        if self.0.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"mqueue\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        let overloaded = matches!(
            self.0.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        if overloaded || self.0.retry_after.is_some() {
            // Rounded up: a client that comes back on the second must not come too early.
            let wait = self.0.retry_after.unwrap_or(Duration::from_secs(1));
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.code.as_str(), self.0.detail)
    }
}

impl std::error::Error for Problem {}

impl poem::error::ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.0.status
    }

    fn as_response(&self) -> Response {
        self.render("")
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        let text = error.to_string();
        match error {
            QueueError::Invalid { field, detail } => Self::field(Code::InvalidField, field, detail),
            QueueError::UnknownTopic => Self::new(Code::UnknownTopic, text),
            QueueError::UnknownItem(_) => Self::new(Code::UnknownItem, text),
            QueueError::Conflict(_) => Self::new(Code::Conflict, text),
            QueueError::UndeclaredTopic => Self::new(Code::TopicNotDeclared, text),
            QueueError::Stale { current } => failed(current),
            QueueError::UnknownOperation => Self::new(Code::UnknownOperation, text),
            QueueError::TooManyOperations => Self::new(Code::TooManyOperations, text),
            QueueError::TooManyTopics(_) => Self::new(Code::TooManyTopics, text),
            QueueError::LogFull => Self::new(Code::LogFull, text).retry_after(Duration::from_secs(5)),
            QueueError::LogFailed => Self::new(Code::LogFailed, text).retry_after(Duration::from_secs(30)),
            QueueError::Overloaded => Self::new(Code::Overloaded, text),
            QueueError::ShardUnavailable(internal) => {
                let detail = "the shard that holds the topic does not answer";
                let mut problem =
                    Self::new(Code::ShardUnavailable, detail).retry_after(Duration::from_secs(5));
                problem.0.internal = Some(internal);
                problem
            }
            QueueError::HotUnavailable(internal) => {
                let detail = "the hot tier does not answer, or is being filled again";
                let mut problem =
                    Self::new(Code::HotTierUnavailable, detail).retry_after(Duration::from_secs(1));
                problem.0.internal = Some(internal);
                problem
            }
            QueueError::Fenced | QueueError::ShuttingDown => Self::new(Code::ShuttingDown, text),
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        Self::new(Code::Unauthorized, error.to_string())
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let code = match denied {
            Denied::Namespace | Denied::Everything => Code::Forbidden,
            Denied::Scope(_) => Code::InsufficientScope,
        };
        Self::new(code, denied.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ItemId;

    async fn rendered(problem: &Problem) -> (Response, serde_json::Value) {
        let mut response = problem.render("req-1");
        let body = response.take_body().into_vec().await.unwrap();
        (response, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_problem_has_every_member_and_its_headers() {
        let (response, body) = rendered(&QueueError::invalid("items[3].ttl_ms", "too long").into()).await;
        assert_eq!(response.status(), 422);
        assert_eq!(response.headers()["content-type"], CONTENT_TYPE);
        assert_eq!(
            body,
            serde_json::json!({
                "type": "/problems/invalid_field",
                "title": "A field is outside its limits",
                "status": 422,
                "detail": "items[3].ttl_ms: too long",
                "code": "invalid_field",
                "request_id": "req-1",
                "errors": [{"field": "items[3].ttl_ms", "detail": "too long"}],
            })
        );
        let (response, _) = rendered(&AuthError::Expired.into()).await;
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"mqueue\"");
        let late = Problem::new(Code::QuotaExceeded, "wait").retry_after(Duration::from_millis(1_001));
        assert_eq!(rendered(&late).await.0.headers()["retry-after"], "2");
    }

    #[tokio::test]
    async fn what_a_shard_says_stays_inside() {
        let problem = Problem::from(QueueError::ShardUnavailable("password of db-7 expired".into()));
        let (response, body) = rendered(&problem).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (503, &HeaderValue::from(5))
        );
        assert!(!body.to_string().contains("db-7"));
        assert_eq!(problem.internal_detail(), Some("password of db-7 expired"));
    }

    #[test]
    fn every_queue_error_has_its_status() {
        for (error, status) in [
            (QueueError::UnknownTopic, 404),
            (QueueError::UnknownItem(ItemId(1)), 404),
            (QueueError::Conflict("it is leased".into()), 409),
            (QueueError::TooManyTopics(5), 409),
            (QueueError::UndeclaredTopic, 404),
            (QueueError::UnknownOperation, 404),
            (QueueError::TooManyOperations, 429),
            (QueueError::Stale { current: Some(1) }, 412),
            (QueueError::LogFull, 503),
            (QueueError::LogFailed, 503),
            (QueueError::Overloaded, 503),
            (QueueError::HotUnavailable("gone".into()), 503),
            (QueueError::Fenced, 503),
            (QueueError::ShuttingDown, 503),
        ] {
            assert_eq!(Problem::from(error).status(), status);
        }
    }

    #[test]
    fn codes_are_unique_and_found_by_their_text() {
        for &code in Code::ALL {
            assert_eq!(Code::find(code.as_str()), Some(code));
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
    }
}
