//! Trace contexts on their way from producer to consumer, and spans on theirs to a collector.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::client::{Client, list};
use crate::guests::{Guest, UPPER};
use crate::hook_client::{Hooks, Side};
use crate::server::Server;

const PRODUCER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const CONSUMER: &str = "00-1111111111111111222222222222222a-333333333333333b-01";

/// A collector that takes OTLP over HTTP.
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
        let taken = spans.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let taken = taken.clone();
                let serve = service_fn(move |request| take(request, taken.clone()));
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve);
                tokio::spawn(connection);
            }
        });
        Self { url, spans }
    }
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| &*span.name).collect()
}

async fn take(
    request: Request<Incoming>,
    spans: Arc<Mutex<Vec<Span>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri().path(), "/v1/traces");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let export = ExportTraceServiceRequest::decode(body).unwrap();
    let found = export
        .resource_spans
        .into_iter()
        .flat_map(|resource| resource.scope_spans);
    spans.lock().extend(found.flat_map(|scope| scope.spans));
    Ok(Response::new(Full::default()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Trace and span as `traceparent` names them.
fn parts(traceparent: &str) -> (String, String) {
    let parts: Vec<_> = traceparent.split('-').collect();
    (parts[1].to_owned(), parts[2].to_owned())
}

async fn enqueue(client: &Client, items: Value) {
    let request = client.request(Method::POST, "/v1/namespaces/default/topics/t/enqueue");
    let request = request
        .header("traceparent", PRODUCER)
        .json(&json!({ "items": items }));
    client.send(request).await.ok();
}

async fn dequeue(client: &Client) -> Vec<Value> {
    let request = client.request(Method::POST, "/v1/namespaces/default/topics/t/dequeue");
    let reply = client
        .send(request.header("traceparent", CONSUMER).json(&json!({})))
        .await;
    list(&reply.ok()["items"]).to_vec()
}

#[tokio::test]
async fn a_context_travels_with_its_items_without_a_collector() {
    let server = Server::start().await;
    let client = server.client();
    let full: serde_json::Map<String, Value> = (0..64).map(|n| (format!("h{n}"), json!("x"))).collect();
    enqueue(
        &client,
        json!([
            {"text": "follows"},
            {"text": "has its own", "headers": {"Traceparent": CONSUMER}},
            {"text": "has no room", "headers": full},
        ]),
    )
    .await;
    let items = dequeue(&client).await;
    assert_eq!(items[0]["headers"], json!({"traceparent": PRODUCER}));
    assert_eq!(items[1]["headers"], json!({"Traceparent": CONSUMER}));
    assert_eq!(items[2]["headers"].as_object().unwrap().len(), 64);
}

#[tokio::test]
async fn spans_of_producer_hook_and_consumer_hang_together() {
    let collector = Collector::start().await;
    let mut server = Server::setup()
        .set("tracing.otlp_endpoint", &collector.url)
        .set("log.level", "debug")
        .set("quotas.namespaces", "default:2")
        .start()
        .await;
    let client = server.client();
    let hooks = Hooks::of(&client, "default");
    let upper = Guest {
        item: UPPER,
        ..Guest::default()
    };
    hooks.put("upper", Side::Enqueue, upper, json!({})).await;
    enqueue(&client, json!([{"text": "x"}])).await;
    let items = dequeue(&client).await;
    // A line of the log that a request leads to names the trace and the request.
    let request = client.request(Method::POST, "/v1/namespaces/default/topics/other/enqueue");
    let request = request
        .header("traceparent", CONSUMER)
        .header("x-request-id", "over-quota")
        .json(&json!({"items": [{"text": "a"}, {"text": "b"}]}));
    client.send(request).await.ok();
    let refused = client.request(Method::POST, "/v1/namespaces/default/topics/other/enqueue");
    let refused = refused
        .header("traceparent", CONSUMER)
        .header("x-request-id", "over-quota-2")
        .json(&json!({"items": [{"text": "a"}]}));
    assert_eq!(client.send(refused).await.status, 429);
    let log = server.log();
    let line = log
        .wait_for(|line| (line["request_id"] == "over-quota-2").then(|| line.clone()))
        .await;
    assert_eq!(line["span"]["trace_id"], parts(CONSUMER).0, "{line}");
    // What was not sent yet is sent before the process ends.
    assert!(server.terminate().await.success());

    let (trace, caller) = parts(PRODUCER);
    let spans = collector.spans.lock().clone();
    let enqueued = spans
        .iter()
        .find(|span| span.name == "enqueue" && hex(&span.trace_id) == trace)
        .unwrap_or_else(|| panic!("no span of the enqueue: {:?}", names(&spans)));
    assert_eq!(hex(&enqueued.parent_span_id), caller);
    let below = |span: &&Span| span.parent_span_id == enqueued.span_id;
    let inner: Vec<_> = spans.iter().filter(below).collect();
    assert_eq!((inner.len(), &*inner[0].name), (1, "hook"));
    assert_eq!(inner[0].trace_id, enqueued.trace_id);
    let carried = items[0]["headers"]["traceparent"].as_str().unwrap();
    assert_eq!(parts(carried), (trace, hex(&enqueued.span_id)));
    let delivered = spans.iter().find(|span| span.name == "dequeue").unwrap();
    assert_eq!(hex(&delivered.trace_id), parts(CONSUMER).0);
    assert_eq!(delivered.links.len(), 1);
    assert_eq!(
        (&delivered.links[0].trace_id, &delivered.links[0].span_id),
        (&enqueued.trace_id, &enqueued.span_id)
    );
}
