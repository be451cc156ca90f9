//! The outer layer around every route: request ids, problems for every failure, headers, metrics.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, Request, Response};
use tokio::time::Instant;

use super::ApiState;
use super::fast::Hot;
use super::problem::{CONTENT_TYPE, Code, Problem};
use super::routes;
use crate::telemetry::traces::{self, TraceContext};

/// The header of request ids; requests have it from here on inwards.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken over from a caller, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// The route labels of `/metrics`, in the order of their numbers.
pub const ROUTES: &[&str] = &[
    "enqueue",
    "dequeue",
    "settle",
    "classic",
    "namespaces",
    "operations",
    "other",
];

/// The number of the label in [`ROUTES`] that a request counts under.
fn route_number(method: &Method, path: &str) -> usize {
    match path {
        _ if method == Method::POST && path.starts_with("/v1/") => match Hot::of(path) {
            Some(Hot::Enqueue(..)) => 0,
            Some(Hot::Dequeue(..) | Hot::DequeueMany(_)) => 1,
            Some(Hot::Settle(_)) => 2,
            None => 4,
        },
        "/enqueue" | "/dequeue" | "/ack" | "/nack" => 3,
        "/health" | "/livez" | "/readyz" | "/metrics" | "/openapi.json" | "/v1/events" => 5,
        _ if path.starts_with("/v1/") => 4,
        _ => 6,
    }
}

/// Wraps the whole API.
pub(crate) struct Outer<E> {
    state: Arc<ApiState>,
    inner: E,
}

impl<E> Outer<E> {
    /// The outer layer around `inner`.
    pub(crate) fn new(state: Arc<ApiState>, inner: E) -> Self {
        Self { state, inner }
    }
}

impl<E: Endpoint<Output = Response>> Endpoint for Outer<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let started = Instant::now();
        let route = route_number(request.method(), request.uri().path());
        let request_id = request_id(request.headers());
        let trace = TraceContext::of_request(request.headers());
        let span = traces::request_span(
            ROUTES[route],
            request_id.to_str().unwrap_or_default(),
            trace.as_ref(),
        );
        if let Some(trace) = trace.clone() {
            request.extensions_mut().insert(trace);
        }
        request.headers_mut().insert(REQUEST_ID, request_id.clone());
        // Only failures need the path again, and only 405 needs it whole.
        let method = request.method().clone();
        let uri = request.uri().clone();
        // Polled where it is: these futures are large, and moving one costs more than the span.
        let mut answered = pin!(AssertUnwindSafe(self.inner.call(request)).catch_unwind());
        let outcome = poll_fn(|context| span.in_scope(|| answered.as_mut().poll(context))).await;
        let id_text = request_id.to_str().unwrap_or_default();
        let mut response = span.in_scope(|| match outcome {
            Ok(Ok(response)) if !is_bare_failure(&response) => response,
            Ok(Ok(response)) => {
                let mut problem = of_bare(&response, uri.path());
                for (name, value) in kept_headers(response.headers()) {
                    problem = problem.with_header(name, value);
                }
                answer(&problem, (id_text, trace.as_ref()), &method, uri.path())
            }
            Ok(Err(error)) => answer(
                &of_error(error, uri.path()),
                (id_text, trace.as_ref()),
                &method,
                uri.path(),
            ),
            Err(panic) => {
                let problem = Problem::internal(format!("panic: {}", panic_text(&*panic)));
                answer(&problem, (id_text, trace.as_ref()), &method, uri.path())
            }
        });
        finish(&mut response, request_id, uri.path());
        traces::ended(&span, response.status().as_u16());
        self.state
            .metrics
            .request(route, response.status().as_u16(), started.elapsed());
        Ok(response)
    }
}

fn answer(
    problem: &Problem,
    (request_id, trace): (&str, Option<&TraceContext>),
    method: &Method,
    path: &str,
) -> Response {
    // With a collector the node's own span belongs to the same trace.
    let trace_id = trace.map(TraceContext::trace_id);
    let trace_id = trace_id.as_deref();
    let path = path.get(..256).unwrap_or(path);
    let (code, reason) = (
        problem.code().as_str(),
        problem.internal_detail().unwrap_or_default(),
    );
    if problem.code().is_back_pressure() {
        // It comes with every request while it lasts: /readyz and /metrics tell it once.
        tracing::debug!(request_id, trace_id, %method, path, code, "request refused");
    } else if problem.status().is_server_error() {
        tracing::error!(request_id, trace_id, %method, path, code, reason, "request failed");
    }
    problem.render(request_id)
}

/// A failure that some part of the framework answered by itself.
fn is_bare_failure(response: &Response) -> bool {
    let status = response.status();
    (status.is_client_error() || status.is_server_error())
        && response.headers().get(header::CONTENT_TYPE) != Some(&HeaderValue::from_static(CONTENT_TYPE))
}

fn of_bare(response: &Response, path: &str) -> Problem {
    of_status(response.status(), None, path)
}

fn kept_headers(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    [header::ALLOW, header::RETRY_AFTER, header::WWW_AUTHENTICATE]
        .into_iter()
        .filter_map(|name| headers.get(&name).cloned().map(|value| (name, value)))
        .collect()
}

fn of_error(error: poem::Error, path: &str) -> Problem {
    let error = match error.downcast::<Problem>() {
        Ok(problem) => return problem,
        Err(error) => error,
    };
    if let Some(param) = error.downcast_ref::<poem_openapi::error::ParseParamError>() {
        return Problem::field(Code::InvalidQuery, param.name, param.reason.clone());
    }
    if error.is::<poem_openapi::error::ParsePathError>() {
        return Problem::new(Code::InvalidName, error.to_string());
    }
    of_status(error.status(), Some(error.to_string()), path)
}

fn of_status(status: StatusCode, text: Option<String>, path: &str) -> Problem {
    let code = Code::of_status(status);
    match code {
        Code::Internal => Problem::internal(text.unwrap_or_else(|| status.to_string())),
        Code::RouteNotFound => Problem::new(code, "there is no such route; /openapi.json lists them"),
        Code::MethodNotAllowed => {
            let allowed = routes::allowed(path);
            let problem = Problem::new(code, format!("the route answers {allowed}"));
            match HeaderValue::try_from(allowed) {
                Ok(value) => problem.with_header(header::ALLOW, value),
                Err(_) => problem,
            }
        }
        _ => Problem::new(code, text.unwrap_or_else(|| code.title().to_owned())).with_status(status),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("of another type than text")
}

/// The caller's request id where it is harmless text, else a new one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let harmless = |value: &&HeaderValue| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&value.len())
            && value
                .as_bytes()
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    if let Some(given) = headers.get(REQUEST_ID).filter(harmless) {
        return given.clone();
    }
    let mut text = [0_u8; 16];
    let mut random: u64 = rand::random();
    for digit in &mut text {
        *digit = b"0123456789abcdef"[(random & 15) as usize];
        random >>= 4;
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0"))
}

/// Headers that every answer carries. Pages set their own caching and content policy.
pub(super) fn finish(response: &mut Response, request_id: HeaderValue, path: &str) {
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, request_id);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if !path.starts_with("/docs") && !path.starts_with("/console") {
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_taken_over_only_when_harmless() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("abc-1.2_3"));
        assert_eq!(request_id(&headers), "abc-1.2_3");
        for bad in ["", "a b", "<script>", "a\"b"] {
            headers.insert(REQUEST_ID, HeaderValue::from_static(bad));
            let made = request_id(&headers);
            assert!(made != bad && made.len() == 16, "{bad}");
        }
        headers.insert(REQUEST_ID, HeaderValue::from_str(&"a".repeat(65)).unwrap());
        assert_eq!(request_id(&headers).len(), 16);
        assert_ne!(request_id(&headers), request_id(&headers));
    }

    #[test]
    fn requests_count_under_few_routes() {
        let name = |method: Method, path: &str| ROUTES[route_number(&method, path)];
        assert_eq!(name(Method::POST, "/v1/namespaces/a/topics/b/enqueue"), "enqueue");
        assert_eq!(name(Method::POST, "/v1/namespaces/a/dequeue"), "dequeue");
        assert_eq!(name(Method::POST, "/v1/extend"), "settle");
        assert_eq!(name(Method::GET, "/v1/namespaces/a/topics"), "namespaces");
        assert_eq!(
            name(Method::POST, "/v1/namespaces/a/topics/b/pause"),
            "namespaces"
        );
        assert_eq!(name(Method::GET, "/dequeue"), "classic");
        assert_eq!(name(Method::GET, "/health"), "operations");
        assert_eq!(name(Method::GET, "/nowhere"), "other");
    }
}
