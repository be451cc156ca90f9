//! `GET /v1/events`: what a token may see of the node, twice a second, as server-sent events.
//!
//! Every event stands alone, so that a reader that missed some needs nothing of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use poem::http::{HeaderValue, header};
use poem::{Body, Response};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ApiState;
use super::caller::Caller;
use super::configuration::Reloads;
use super::ops;
use super::problem::{Code, Problem};
use super::reply;
use super::views::StatsView;
use crate::clock::Timestamp;
use crate::model::{Namespace, TopicName};
use crate::queue::{Health, ShardView};
use crate::telemetry::metrics::RouteLatency;
use crate::tenant::{Principal, Scope};

/// Time from one event to the next: with what a browser needs to read on, what was just enqueued is seen within
/// a second.
const EVERY: Duration = Duration::from_millis(500);
/// Most streams that are open at a time.
pub(crate) const STREAMS_MAX: usize = 64;
/// Most topics in an event, the first by namespace and name.
const TOPICS_MAX: usize = 1_000;

/// One event's data.
#[derive(Serialize)]
struct EventView<'a> {
    at: Timestamp,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespaces: Option<&'a [Namespace]>,
    scopes: Vec<&'static str>,
    #[serde(flatten)]
    health: Health,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<NodeView>,
    topics: Vec<TopicEventView>,
    topics_left_out: usize,
}

#[derive(Serialize)]
struct NodeView {
    log_segments: usize,
    log_bytes: u64,
    log_pending_bytes: usize,
    log_written_bytes: u64,
    log_syncs: u64,
    log_sync_us: u64,
    flush_lag_records: u64,
    config: Reloads,
    latencies: Vec<RouteLatency>,
    shards: Vec<ShardView>,
}

#[derive(Serialize)]
struct TopicEventView {
    namespace: Namespace,
    topic: TopicName,
    paused: bool,
    stats: StatsView,
}

/// `GET /v1/events`.
///
/// # Errors
/// As [`Caller::principal`]; 503 when too many streams are open or the node is shutting down.
pub(crate) fn events(
    state: &Arc<ApiState>,
    caller: Caller,
    seats: &Arc<Semaphore>,
) -> Result<Response, Problem> {
    caller.principal(state)?;
    if state.queue.is_draining() {
        return Err(Problem::new(Code::ShuttingDown, "the node is shutting down"));
    }
    let seat = seats.clone().try_acquire_owned().map_err(|_| {
        let detail = format!("{STREAMS_MAX} event streams are open, and no more are served; close one");
        Problem::new(Code::Overloaded, detail).retry_after(Duration::from_secs(5))
    })?;
    let watch = Watch {
        state: state.clone(),
        caller,
        number: 0,
        _seat: seat,
    };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<_, std::io::Error>(event), watch))
    });
    let mut response = reply::text("text/event-stream", Body::from_bytes_stream(events));
    // Proxies that gather answers would hold events back.
    response
        .headers_mut()
        .insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// One open stream.
struct Watch {
    state: Arc<ApiState>,
    caller: Caller,
    number: u64,
    _seat: OwnedSemaphorePermit,
}

impl Watch {
    /// The next event, or nothing once the token is not accepted any more or the node shuts down.
    async fn next(&mut self) -> Option<Bytes> {
        if self.number > 0 {
            tokio::time::sleep(EVERY).await;
        }
        if self.state.queue.is_draining() {
            return None;
        }
        let principal = self.caller.principal(&self.state).ok()?;
        let data = serde_json::to_string(&view(&self.state, &principal)).ok()?;
        self.number += 1;
        Some(Bytes::from(format!(
            "event: snapshot\nid: {}\ndata: {data}\n\n",
            self.number
        )))
    }
}

fn view<'a>(state: &ApiState, principal: &'a Principal) -> EventView<'a> {
    let looks = [Scope::Enqueue, Scope::Dequeue, Scope::Admin];
    let may_look = looks.into_iter().any(|scope| principal.has(scope));
    let mut topics = state.queue.all_stats();
    topics.retain(|(key, ..)| may_look && principal.opens(key.namespace()));
    topics.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    let topics_left_out = topics.len().saturating_sub(TOPICS_MAX);
    topics.truncate(TOPICS_MAX);
    let topic =
        |(key, paused, stats): (crate::model::TopicKey, bool, crate::queue::TopicStats)| TopicEventView {
            namespace: key.namespace().clone(),
            topic: key.topic().clone(),
            paused,
            stats: StatsView::from(&stats),
        };
    EventView {
        at: state.clock.now(),
        subject: &principal.subject,
        namespaces: principal.listed(),
        scopes: Scope::ALL
            .into_iter()
            .filter(|scope| principal.has(*scope))
            .map(Scope::as_str)
            .collect(),
        health: ops::health_of(state),
        node: principal.opens_everything().then(|| node(state)),
        topics: topics.into_iter().map(topic).collect(),
        topics_left_out,
    }
}

/// What is of all tenants together, as `/metrics` shows it to the same tokens.
fn node(state: &ApiState) -> NodeView {
    let log = state.queue.wal_status();
    NodeView {
        log_segments: log.segments,
        log_bytes: log.bytes,
        log_pending_bytes: log.pending_bytes,
        log_written_bytes: log.written_bytes,
        log_syncs: log.syncs,
        log_sync_us: u64::try_from(log.sync_time.as_micros()).unwrap_or(u64::MAX),
        flush_lag_records: state.queue.activity().flush_lag_records,
        config: state.config.reloads(),
        latencies: state.metrics.latencies(),
        shards: state.queue.shards(),
    }
}
