//! Successful answers, documented by type.

use std::marker::PhantomData;

use bytes::Bytes;
use poem::http::{StatusCode, header};
use poem::{Body, IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type;
use serde::Serialize;

use super::dto::ProblemBody;
use super::problem::{CONTENT_TYPE, Problem};

/// A JSON answer from its bytes.
pub(crate) fn json_bytes(body: Bytes) -> Response {
    Response::builder()
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from_bytes(body))
}

/// A JSON answer from anything serde can write.
///
/// # Errors
/// 500 when serde cannot write it.
pub(crate) fn json(value: &impl Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_vec(value).map_err(|e| Problem::internal(format!("answer: {e}")))?;
    Ok(json_bytes(Bytes::from(body)))
}

/// A text answer.
pub(crate) fn text(content_type: &'static str, body: impl Into<Body>) -> Response {
    Response::builder()
        .header(header::CONTENT_TYPE, content_type)
        .body(body)
}

/// Which problems a route can answer, for its documentation.
pub(crate) trait Problems {
    /// Their statuses in ascending order.
    const STATUSES: &'static [u16];
}

macro_rules! problem_sets {
    ($($(#[$doc:meta])* $name:ident = $($status:literal)*;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;
        impl Problems for $name {
            const STATUSES: &'static [u16] = &[$($status,)*];
        }
    )*};
}

problem_sets! {
    /// Of routes that only look.
    Looks = 400 401 403 404 429 500 503;
    /// Of routes that change something and take no body.
    Acts = 400 401 403 404 409 429 500 503;
    /// Of routes that take a body.
    Takes = 400 401 403 404 408 409 413 415 422 429 500 503;
    /// Of routes that need no token.
    Open = 500;
    /// Of the readiness check.
    Ready = 401 403 429 500 503;
    /// Of streams.
    Streams = 401 429 500 503;
    /// Of routes that need a token that opens everything.
    Guarded = 401 403 429 500;
    /// Of the page about a problem.
    Lookup = 404 500;
}

fn describe(status: u16) -> &'static str {
    StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Problem")
}

/// The problem answers of a route.
fn problem_responses(statuses: &[u16]) -> impl Iterator<Item = MetaResponse> {
    statuses.iter().map(|&status| MetaResponse {
        description: describe(status),
        status: Some(status),
        status_range: None,
        content: vec![MetaMediaType {
            content_type: CONTENT_TYPE,
            schema: ProblemBody::schema_ref(),
        }],
        headers: vec![],
    })
}

/// A JSON answer of the documented shape `T`, or one of the problems `P`.
pub(crate) struct Answer<T, P>(Response, PhantomData<fn() -> (T, P)>);

impl<T, P> From<Response> for Answer<T, P> {
    fn from(response: Response) -> Self {
        Self(response, PhantomData)
    }
}

impl<T, P> IntoResponse for Answer<T, P> {
    fn into_response(self) -> Response {
        self.0
    }
}

impl<T: Type, P: Problems> ApiResponse for Answer<T, P> {
    fn meta() -> MetaResponses {
        let mut responses = vec![MetaResponse {
            description: "Done",
            status: Some(200),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: "application/json",
                schema: T::schema_ref(),
            }],
            headers: vec![],
        }];
        responses.extend(problem_responses(P::STATUSES));
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
        ProblemBody::register(registry);
    }
}

/// Server-sent events whose data is of the documented shape `T`, or one of the problems `P`.
pub(crate) struct Events<T, P>(Response, PhantomData<fn() -> (T, P)>);

impl<T, P> From<Response> for Events<T, P> {
    fn from(response: Response) -> Self {
        Self(response, PhantomData)
    }
}

impl<T, P> IntoResponse for Events<T, P> {
    fn into_response(self) -> Response {
        self.0
    }
}

impl<T: Type, P: Problems> ApiResponse for Events<T, P> {
    fn meta() -> MetaResponses {
        let mut responses = vec![MetaResponse {
            description: "Events until the token expires or the node stops",
            status: Some(200),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: "text/event-stream",
                schema: T::schema_ref(),
            }],
            headers: vec![],
        }];
        responses.extend(problem_responses(P::STATUSES));
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
        ProblemBody::register(registry);
    }
}

/// A text answer, or one of the problems `P`.
pub(crate) struct TextAnswer<P>(Response, PhantomData<fn() -> P>);

impl<P> From<Response> for TextAnswer<P> {
    fn from(response: Response) -> Self {
        Self(response, PhantomData)
    }
}

impl<P> IntoResponse for TextAnswer<P> {
    fn into_response(self) -> Response {
        self.0
    }
}

impl<P: Problems> ApiResponse for TextAnswer<P> {
    fn meta() -> MetaResponses {
        let mut responses = vec![MetaResponse {
            description: "Done",
            status: Some(200),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: "text/plain",
                schema: String::schema_ref(),
            }],
            headers: vec![],
        }];
        responses.extend(problem_responses(P::STATUSES));
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        ProblemBody::register(registry);
    }
}
