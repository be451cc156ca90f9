//! Traces: W3C trace contexts that come with requests and travel in items' headers, and the spans of requests
//! and hook calls, which go to an OTLP collector when one is configured.
//!
//! Without a collector no span is made: contexts are handed through from producer to consumer, and that is all.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The target of the spans that are exported.
pub const TARGET: &str = "mqueue::trace";
/// The header that carries a trace context, of requests as of items.
pub const TRACEPARENT: &str = "traceparent";
/// The header that carries what vendors add to it.
pub const TRACESTATE: &str = "tracestate";

/// Bytes of a `traceparent` of version 00; later versions may only be longer.
const TRACEPARENT_BYTES: usize = 55;
/// How long the collector may take for a batch of spans.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most producers that one delivery is linked to.
const LINKS_MAX: usize = 128;

/// Where spans go.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceOptions {
    /// The collector's base URL for OTLP over HTTP, such as `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// The share of traces that are recorded when the caller has not decided it, from 0 to 1.
    pub sample_ratio: f64,
    /// The number of this node.
    pub node: u16,
}

/// Sends spans to the collector until it is shut down.
pub struct Exporter(SdkTracerProvider);

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}

impl Exporter {
    /// An exporter; it must be made within the runtime that it is to run on.
    ///
    /// # Errors
    /// When the endpoint is no URL.
    pub fn start(options: &TraceOptions) -> Result<Self, String> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(traces_url(&options.endpoint))
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| error.to_string())?;
        let resource = Resource::builder()
            .with_service_name("mqueue")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", options.node.to_string()),
            ])
            .build();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(options.sample_ratio)));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter, Tokio).build())
            .with_sampler(sampler)
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    pub(super) fn tracer(&self) -> opentelemetry_sdk::trace::SdkTracer {
        self.0.tracer("mqueue")
    }

    /// Sends what was not sent yet. It blocks, and needs the runtime it was started on.
    pub fn shut_down(self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

/// As the specification has it, spans go to `/v1/traces` below the base URL.
fn traces_url(endpoint: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    if base.ends_with("/v1/traces") {
        base.to_owned()
    } else {
        format!("{base}/v1/traces")
    }
}

/// A valid W3C trace context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext(SpanContext);

impl TraceContext {
    /// The context that the headers of a request carry.
    pub fn of_request(headers: &HeaderMap) -> Option<Self> {
        let parent = headers.get(TRACEPARENT)?.to_str().ok()?;
        Self::read(
            parent,
            headers.get(TRACESTATE).and_then(|state| state.to_str().ok()),
        )
    }

    /// The context that an item's headers carry.
    pub fn of_item<'h>(headers: impl IntoIterator<Item = (&'h str, &'h str)>) -> Option<Self> {
        let (mut parent, mut state) = (None, None);
        for (name, value) in headers {
            if name.eq_ignore_ascii_case(TRACEPARENT) {
                parent = Some(value);
            } else if name.eq_ignore_ascii_case(TRACESTATE) {
                state = Some(value);
            }
        }
        Self::read(parent?, state)
    }

    /// The context of the span that the caller is in, when spans are recorded.
    pub fn current() -> Option<Self> {
        let span = Span::current();
        if span.is_disabled() {
            return None;
        }
        let context = span.context().span().span_context().clone();
        context.is_valid().then_some(Self(context))
    }

    /// Its headers: `traceparent`, and `tracestate` where there is one.
    pub fn headers(&self) -> Vec<(Box<str>, Box<str>)> {
        let mut written = Written(Vec::with_capacity(2));
        let context = Context::new().with_remote_span_context(self.0.clone());
        TraceContextPropagator::new().inject_context(&context, &mut written);
        written.0.retain(|(_, value)| !value.is_empty());
        written.0
    }

    /// The id of the trace, in hexadecimal digits.
    pub fn trace_id(&self) -> String {
        self.0.trace_id().to_string()
    }

    fn read(parent: &str, state: Option<&str>) -> Option<Self> {
        // The propagator takes flags of one digit as well.
        if parent.len() < TRACEPARENT_BYTES {
            return None;
        }
        let context =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &Read { parent, state });
        let span = context.span().span_context().clone();
        span.is_valid().then_some(Self(span))
    }
}

struct Read<'a> {
    parent: &'a str,
    state: Option<&'a str>,
}

impl Extractor for Read<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => Some(self.parent),
            TRACESTATE => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

struct Written(Vec<(Box<str>, Box<str>)>);

impl Injector for Written {
    fn set(&mut self, key: &str, value: String) {
        self.0.push((key.into(), value.into()));
    }
}

/// The span of a request to `route`, below the caller's own span where it named one; disabled while spans are
/// not recorded.
pub fn request_span(route: &'static str, request_id: &str, parent: Option<&TraceContext>) -> Span {
    let kind = match route {
        "enqueue" => "producer",
        "dequeue" => "consumer",
        _ => "server",
    };
    let span = tracing::info_span!(
        target: TARGET,
        "request",
        otel.name = route,
        otel.kind = kind,
        otel.status_code = tracing::field::Empty,
        messaging.system = "mqueue",
        messaging.destination.name = tracing::field::Empty,
        messaging.batch.message_count = tracing::field::Empty,
        mqueue.namespace = tracing::field::Empty,
        http.response.status_code = tracing::field::Empty,
        request_id,
        trace_id = tracing::field::Empty,
    );
    if span.is_disabled() {
        return span;
    }
    if let Some(TraceContext(parent)) = parent
        && let Err(error) = span.set_parent(Context::new().with_remote_span_context(parent.clone()))
    {
        tracing::debug!(%error, "a span could not be put below its caller's");
    }
    let trace_id = span.context().span().span_context().trace_id().to_string();
    span.record("trace_id", trace_id);
    span
}

/// Says in the span of a request what it is about.
pub fn describe(namespace: &str, topic: &str, items: usize) {
    let span = Span::current();
    if !span.is_disabled() {
        span.record("mqueue.namespace", namespace);
        span.record("messaging.destination.name", topic);
        span.record("messaging.batch.message_count", items as u64);
    }
}

/// Links the span of a delivery to those of the items' producers.
pub fn link(producers: impl Iterator<Item = TraceContext>) {
    let span = Span::current();
    if !span.is_disabled() {
        producers
            .take(LINKS_MAX)
            .for_each(|TraceContext(producer)| span.add_link(producer));
    }
}

/// Notes in a request's span how it ended.
pub fn ended(span: &Span, status: u16) {
    if !span.is_disabled() {
        span.record("http.response.status_code", status);
        if status >= 500 {
            span.record("otel.status_code", "ERROR");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_survives_its_way_through_an_item() {
        let context = TraceContext::read(PARENT, Some("vendor=1")).unwrap();
        let headers = context.headers();
        let pairs = headers.iter().map(|(name, value)| (&**name, &**value));
        assert_eq!(TraceContext::of_item(pairs), Some(context.clone()));
        assert_eq!(&*headers[0].1, PARENT);
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(TraceContext::read(PARENT, None).unwrap().headers().len(), 1);
    }

    #[test]
    fn what_is_no_context_is_passed_over() {
        let zero = PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32));
        for bad in ["", "00", "x", &PARENT[..54], &zero, &PARENT.replace("00-", "ff-")] {
            assert_eq!(TraceContext::read(bad, None), None, "{bad}");
        }
    }

    #[test]
    fn spans_go_below_the_collectors_base_url() {
        for endpoint in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"] {
            assert_eq!(traces_url(endpoint), "http://c:4318/v1/traces");
        }
    }
}
