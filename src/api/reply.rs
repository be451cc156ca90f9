//! Successful answers, documented by type.

use std::marker::PhantomData;

use bytes::Bytes;
use poem::http::{StatusCode, header};
use poem::{Body, IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{
    MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
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
    /// Of routes that change something only when it is as their caller has seen it, and take no body.
    ActsOn = 400 401 403 404 409 412 428 429 500 503;
    /// Of routes that change something only when it is as their caller has seen it.
    TakesOn = 400 401 403 404 408 409 412 413 415 422 428 429 500 503;
    /// Of routes that change something, when it is as their caller has seen it where that is asked for, and
    /// take no body.
    ActsIf = 400 401 403 404 409 412 429 500 503;
    /// The same of routes that take a body.
    TakesIf = 400 401 403 404 408 409 412 413 415 422 429 500 503;
    /// Of routes that need any token.
    Known = 401 429 500;
    /// Of routes that need no token.
    Open = 500;
    /// Of the readiness check.
    Ready = 401 403 429 500 503;
    /// Of streams.
    Streams = 401 429 500 503;
    /// Of routes that need a token that opens everything.
    Guarded = 401 403 429 500;
    /// Of routes for those who look after the whole of it.
    Governs = 401 403 429 500 503;
    /// Of the reload of the configuration.
    Configures = 401 403 422 429 500;
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

/// A success with the media types and schemas it can have.
fn success(
    status: u16,
    content: Vec<(&'static str, MetaSchemaRef)>,
    headers: Vec<MetaHeader>,
) -> MetaResponse {
    let media = |(content_type, schema)| MetaMediaType { content_type, schema };
    MetaResponse {
        description: match status {
            201 => "Made",
            202 => "Ordered",
            304 => "Not changed",
            _ => "Done",
        },
        status: Some(status),
        status_range: None,
        content: content.into_iter().map(media).collect(),
        headers,
    }
}

/// The entity tag of what is answered.
fn etag() -> MetaHeader {
    MetaHeader {
        name: "ETag".to_owned(),
        description: Some("Stands for what the answer shows; for If-Match.".to_owned()),
        required: false,
        deprecated: false,
        schema: String::schema_ref(),
    }
}

/// Where what was ordered is looked at.
fn location() -> MetaHeader {
    MetaHeader {
        name: "Location".to_owned(),
        description: Some("The path of the operation.".to_owned()),
        required: false,
        deprecated: false,
        schema: String::schema_ref(),
    }
}

/// Declares an answer by its successes: a newtype around the response that handlers make.
macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident<$($shape:ident)?> = $successes:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name<$($shape,)? P>(Response, PhantomData<fn() -> ($($shape,)? P,)>);

        impl<$($shape,)? P> From<Response> for $name<$($shape,)? P> {
            fn from(response: Response) -> Self {
                Self(response, PhantomData)
            }
        }

        impl<$($shape,)? P> IntoResponse for $name<$($shape,)? P> {
            fn into_response(self) -> Response {
                self.0
            }
        }

        impl<$($shape: Type,)? P: Problems> ApiResponse for $name<$($shape,)? P> {
            fn meta() -> MetaResponses {
                let mut responses: Vec<MetaResponse> = $successes;
                responses.extend(problem_responses(P::STATUSES));
                MetaResponses { responses }
            }

            fn register(registry: &mut Registry) {
                $($shape::register(registry);)?
                ProblemBody::register(registry);
            }
        }
    )*};
}

const JSON: &str = "application/json";

answers! {
    /// A JSON answer of the documented shape `T`, or one of the problems `P`.
    Answer<T> = vec![success(200, vec![(JSON, T::schema_ref())], vec![])];
    /// As [`Answer`], with an entity tag.
    Tagged<T> = vec![success(200, vec![(JSON, T::schema_ref())], vec![etag()])];
    /// As [`Answer`], of something that goes on after the request.
    Ordered<T> = vec![success(202, vec![(JSON, T::schema_ref())], vec![location()])];
    /// As [`Answer`]; 201 when something new was made.
    Saved<T> = vec![
        success(200, vec![(JSON, T::schema_ref())], vec![]),
        success(201, vec![(JSON, T::schema_ref())], vec![]),
    ];
    /// As [`Saved`], with an entity tag.
    SavedTagged<T> = vec![
        success(200, vec![(JSON, T::schema_ref())], vec![etag()]),
        success(201, vec![(JSON, T::schema_ref())], vec![etag()]),
    ];
    /// As [`Answer`], or server-sent events when the caller asks for them.
    Stream<T> = vec![success(
        200,
        vec![(JSON, T::schema_ref()), ("text/event-stream", String::schema_ref())],
        vec![],
    )];
    /// Server-sent events whose data is of the documented shape `T`, until the token expires or the node stops.
    Events<T> = vec![success(200, vec![("text/event-stream", T::schema_ref())], vec![])];
    /// A text answer, or one of the problems `P`.
    TextAnswer<> = vec![success(200, vec![("text/plain", String::schema_ref())], vec![])];
    /// A text answer, or JSON of the documented shape `T` when the caller asks for more.
    TextOrJson<T> = vec![success(
        200,
        vec![(JSON, T::schema_ref()), ("text/plain", String::schema_ref())],
        vec![],
    )];
    /// A WebAssembly module, or one of the problems `P`.
    Module<> = vec![
        success(200, vec![("application/wasm", binary())], vec![etag()]),
        success(304, vec![], vec![etag()]),
    ];
}

/// The schema of bytes as they are.
pub(crate) fn binary() -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "binary")))
}
