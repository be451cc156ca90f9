//! Request bodies: collected with a counted limit and a minimum rate, then read as JSON.

mod by_name;

use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use poem::http::{HeaderMap, HeaderValue, header};
use poem::{Body, Request};
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::problem::{Code, Problem};
use by_name::ByName;

/// How long a body may take before its rate is looked at.
const GRACE: Duration = Duration::from_secs(5);
/// The least a body must bring in each further second, in bytes.
const RATE_BYTES_PER_S: u64 = 1 << 10;

/// What a body must keep to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyRule {
    /// Its largest size, in bytes.
    pub(crate) bytes_max: usize,
    /// The longest time for it to arrive.
    pub(crate) time_max: Duration,
}

/// A body that has not been read yet, and what its request says of it.
pub(crate) struct Incoming {
    body: Body,
    content_type: Option<HeaderValue>,
    content_encoding: Option<HeaderValue>,
    content_length: Option<u64>,
}

impl Incoming {
    /// The body of a request with these headers.
    pub(crate) fn new(headers: &HeaderMap, body: Body) -> Self {
        let length = headers.get(header::CONTENT_LENGTH);
        Self {
            body,
            content_type: headers.get(header::CONTENT_TYPE).cloned(),
            content_encoding: headers.get(header::CONTENT_ENCODING).cloned(),
            content_length: length.and_then(|value| value.to_str().ok()?.parse().ok()),
        }
    }

    /// The bytes of a JSON body that keeps to `rule`.
    ///
    /// # Errors
    /// 415 for another type or an encoding, 413 over the limit, 408 when it comes too slowly.
    pub(crate) async fn json(self, rule: BodyRule) -> Result<Bytes, Problem> {
        if let Some(value) = &self.content_type
            && !is_json(value.as_bytes())
        {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "send the body as Content-Type: application/json",
            ));
        }
        self.any(rule).await
    }

    /// The bytes of a body of whatever type that keeps to `rule`.
    ///
    /// # Errors
    /// As [`Incoming::json`], but for the type.
    pub(crate) async fn any(self, rule: BodyRule) -> Result<Bytes, Problem> {
        let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
        if !self.content_encoding.as_ref().is_none_or(plain) {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "send the body without Content-Encoding",
            ));
        }
        if self
            .content_length
            .is_some_and(|length| length > rule.bytes_max as u64)
        {
            return Err(too_large(rule.bytes_max));
        }
        collect(self.body, self.content_length, rule, GRACE).await
    }
}

async fn collect(body: Body, length: Option<u64>, rule: BodyRule, grace: Duration) -> Result<Bytes, Problem> {
    let mut body: http_body_util::combinators::BoxBody<Bytes, std::io::Error> = body.into();
    let started = Instant::now();
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut received = 0;
    loop {
        let allowed = grace + Duration::from_secs(received as u64 / RATE_BYTES_PER_S);
        let frame = timeout_at(started + allowed.min(rule.time_max), body.frame())
            .await
            .map_err(|_| Problem::new(Code::RequestTimeout, "the body came too slowly"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Problem::new(Code::BadRequest, "the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        received += data.len();
        if received > rule.bytes_max {
            return Err(too_large(rule.bytes_max));
        }
        // Most bodies are one frame: they are never copied.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                let expected = length.map_or(64 << 10, |length| length as usize);
                rest.reserve(expected.max(received).min(rule.bytes_max));
                rest.extend_from_slice(&first);
                first.clear();
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        Code::BodyTooLarge,
        format!("the body must be at most {limit} bytes; split the batch"),
    )
}

/// Whether a content type is JSON, or JSON of a certain kind.
pub(crate) fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|&b| b == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii().to_ascii_lowercase();
    essence == b"application/json" || (essence.starts_with(b"application/") && essence.ends_with(b"+json"))
}

/// Reads `bytes` as JSON, structs by the names of their fields alone, and names the place of what does not fit.
///
/// # Errors
/// 400 with the field when the text says one.
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    let mut text = serde_json::Deserializer::from_slice(bytes);
    let read = T::deserialize(ByName(&mut text)).and_then(|read| text.end().map(|()| read));
    read.map_err(|error| malformed(&error))
}

/// As [`parse`], but an empty body stands for an empty object.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_or_default<'a, T: Deserialize<'a> + Default>(bytes: &'a [u8]) -> Result<T, Problem> {
    if bytes.is_empty() {
        Ok(T::default())
    } else {
        parse(bytes)
    }
}

fn malformed(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    // A path such as `items[3].payload` before the first colon is the field.
    let path = |field: &str| {
        field
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'[' | b']'))
    };
    match text.split_once(": ") {
        Some((field, detail)) if path(field) => Problem::field(Code::MalformedBody, field, detail),
        _ => Problem::new(Code::MalformedBody, format!("the body does not fit: {text}")),
    }
}

/// A JSON body of the documented shape `T` that may be left out: it stands for an empty object then.
pub(crate) type OptionalBody<T> = JsonBody<T, false>;

/// A JSON body of the documented shape `T`, read by the handler once the caller is known.
pub(crate) struct JsonBody<T, const REQUIRED: bool = true> {
    /// The body.
    pub(crate) incoming: Incoming,
    shape: PhantomData<fn() -> T>,
}

impl<'a, T: Type, const REQUIRED: bool> ApiExtractor<'a> for JsonBody<T, REQUIRED> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: "application/json",
                schema: T::schema_ref(),
            }],
            required: REQUIRED,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut poem::RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self {
            incoming: Incoming::new(request.headers(), body.take()?),
            shape: PhantomData,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(bytes_max: usize) -> BodyRule {
        BodyRule {
            bytes_max,
            time_max: Duration::from_secs(60),
        }
    }

    fn incoming(headers: &[(&'static str, &'static str)], body: Body) -> Incoming {
        let headers = headers.iter().map(|&(name, value)| {
            (
                poem::http::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        Incoming::new(&headers.collect(), body)
    }

    fn chunks(count: usize, taken: std::sync::Arc<std::sync::atomic::AtomicUsize>) -> Body {
        let stream = futures_util::stream::iter((0..count).map(move |_| {
            taken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1_000]))
        }));
        Body::from_bytes_stream(stream)
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_counted_while_it_comes() {
        let taken = std::sync::Arc::default();
        let body = incoming(&[], chunks(1_000, std::sync::Arc::clone(&taken)));
        assert_eq!(
            body.json(rule(10_000)).await.unwrap_err().code(),
            Code::BodyTooLarge
        );
        let taken = taken.load(std::sync::atomic::Ordering::Relaxed);
        assert!(taken <= 12, "{taken} chunks were read for a limit of 10");
        let body = incoming(&[], chunks(10, std::sync::Arc::default()));
        assert_eq!(body.json(rule(10_000)).await.unwrap().len(), 10_000);
    }

    #[tokio::test]
    async fn a_body_that_says_it_is_too_large_is_not_read_at_all() {
        let taken = std::sync::Arc::default();
        let body = incoming(
            &[("content-length", "10001")],
            chunks(1, std::sync::Arc::clone(&taken)),
        );
        assert_eq!(
            body.json(rule(10_000)).await.unwrap_err().code(),
            Code::BodyTooLarge
        );
        assert_eq!(taken.load(std::sync::atomic::Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_body_that_stops_is_given_up() {
        let stream = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let result = collect(
            Body::from_bytes_stream(stream),
            None,
            rule(10),
            Duration::from_millis(1),
        )
        .await;
        assert_eq!(result.unwrap_err().code(), Code::RequestTimeout);
    }

    #[test]
    fn no_struct_is_read_from_a_list_at_any_depth() {
        #[derive(Debug, Default, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Inner {
            a: u32,
            b: Option<Box<Inner>>,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Outer {
            list: Vec<Inner>,
            pair: (u8, Inner),
        }
        let good = br#"{"list":[{"a":1,"b":{"a":2}}],"pair":[7,{"a":3}]}"#;
        let read: Outer = parse(good).unwrap();
        assert_eq!((read.list[0].b.as_ref().unwrap().a, read.pair.1.a), (2, 3));
        for bad in [
            r#"[[{"a":1}],[7,{}]]"#,
            r#"{"list":[[1,null]],"pair":[7,{}]}"#,
            r#"{"list":[{"b":[2,null]}],"pair":[7,{}]}"#,
            r#"{"list":[],"pair":[7,[3,null]]}"#,
            r#"{"list":[],"pair":[7,{}]} x"#,
        ] {
            let problem = parse::<Outer>(bad.as_bytes()).unwrap_err();
            assert_eq!(problem.code(), Code::MalformedBody, "{bad}");
        }
    }

    #[tokio::test]
    async fn other_types_and_encodings_are_refused() {
        for (name, value) in [
            ("content-type", "application/x-www-form-urlencoded"),
            ("content-type", "text/json"),
            ("content-encoding", "gzip"),
        ] {
            let body = incoming(&[(name, value)], Body::from("{}"));
            assert_eq!(body.json(rule(10)).await.unwrap_err().status(), 415, "{value}");
        }
        for value in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/x+json",
        ] {
            assert!(
                incoming(&[("content-type", value)], Body::from("{}"))
                    .json(rule(10))
                    .await
                    .is_ok()
            );
        }
    }
}
