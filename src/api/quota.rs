//! Quotas of namespaces: what they may do, how much of it they did, and the ones set while the servers run.

use std::time::Duration;

use poem::Response;
use poem::http::{HeaderName, HeaderValue};
use serde::Serialize;

use super::ApiState;
use super::body::{Incoming, parse};
use super::caller::{Caller, namespace_name};
use super::items::QuotaLeft;
use super::problem::Problem;
use super::reply::json;
use crate::model::{Namespace, QuotaPatch};
use crate::queue::QuotaState;
use crate::tenant::Usage;

/// A namespace's quota and how much of it is used; a limit that there is not is absent.
#[derive(Serialize)]
pub(crate) struct QuotaView {
    limited: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_minute: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_bytes_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leases_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leases: Option<u64>,
    hook_cpu_ms_per_s: u64,
    hook_cpu_burst_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    own: Option<QuotaPatch>,
}

impl From<QuotaState> for QuotaView {
    fn from(state: QuotaState) -> Self {
        let QuotaState {
            quota,
            stored,
            rate,
            held,
        } = state;
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            limited: rate.is_some(),
            per_minute: rate.map(|usage| usage.rate.per_minute.get()),
            burst: rate.map(|usage| usage.rate.at_once().get()),
            remaining: rate.map(|usage| usage.remaining),
            reset_ms: rate.map(|usage| ms(usage.reset)),
            stored_bytes_max: quota.stored_bytes,
            stored_bytes: held.map(|held| held.bytes),
            leases_max: quota.leases,
            leases: held.map(|held| held.leased),
            hook_cpu_ms_per_s: ms(quota.hook_cpu.per_second),
            hook_cpu_burst_ms: ms(quota.hook_cpu.burst),
            own: stored,
        }
    }
}

/// `GET /v1/namespaces/{ns}/quota`.
pub(crate) fn get(state: &ApiState, caller: &Caller, namespace: &str) -> Result<Response, Problem> {
    let authorised = caller.look(state, namespace)?;
    show(state, authorised.namespace())
}

/// `PUT /v1/namespaces/{ns}/quota`. A tenant must not lift its own limits, so it takes who runs the servers.
pub(crate) async fn put(
    state: &ApiState,
    caller: &Caller,
    namespace: &str,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let operator = caller.operator(state)?;
    let namespace = namespace_name(namespace)?;
    let quota: QuotaPatch = parse(&incoming.json(state.limits.small()).await?)?;
    state
        .queue
        .put_quota(&namespace, Some(quota), &caller.author_of(&operator.subject))
        .await?;
    show(state, &namespace)
}

/// `DELETE /v1/namespaces/{ns}/quota`: the configuration's counts again.
pub(crate) async fn delete(state: &ApiState, caller: &Caller, namespace: &str) -> Result<Response, Problem> {
    let operator = caller.operator(state)?;
    let namespace = namespace_name(namespace)?;
    state
        .queue
        .put_quota(&namespace, None, &caller.author_of(&operator.subject))
        .await?;
    show(state, &namespace)
}

fn show(state: &ApiState, namespace: &Namespace) -> Result<Response, Problem> {
    json(&QuotaView::from(state.queue.quota(namespace)))
}

/// `RateLimit-Policy` and `RateLimit` of an answer to an enqueue, which left `usage` of the rate; none without
/// limits on enqueues.
pub(crate) fn rate_limit_headers(
    state: &ApiState,
    namespace: &Namespace,
    usage: Option<Usage>,
) -> Vec<(HeaderName, HeaderValue)> {
    let quota = state.quotas.of(namespace);
    if quota.rate.is_none() && quota.stored_bytes.is_none() {
        return Vec::new();
    }
    let mut now = state.queue.quota(namespace);
    now.rate = usage.or(now.rate);
    headers_of(&now)
}

/// `problem` with when to come back and what the limits are.
pub(crate) fn over_quota(
    state: &ApiState,
    namespace: &Namespace,
    problem: Problem,
    limit: QuotaLeft,
) -> Problem {
    let problem = problem.retry_after(limit.retry_after.unwrap_or(Duration::from_secs(1)));
    rate_limit_headers(state, namespace, limit.usage)
        .into_iter()
        .fold(problem, |problem, (name, value)| problem.with_header(name, value))
}

/// The header fields as the IETF draft of the HTTP API working group writes them.
fn headers_of(state: &QuotaState) -> Vec<(HeaderName, HeaderValue)> {
    let (mut policies, mut limits) = (Vec::new(), Vec::new());
    if let Some(usage) = state.rate {
        let reset_s = usage.reset.as_secs() + u64::from(usage.reset.subsec_nanos() > 0);
        policies.push(format!(
            "\"enqueue\";q={};w={}",
            usage.rate.at_once(),
            usage.rate.window_s()
        ));
        limits.push(format!("\"enqueue\";r={};t={reset_s}", usage.remaining));
    }
    if let (Some(most), Some(held)) = (state.quota.stored_bytes, state.held) {
        policies.push(format!("\"stored\";q={most};qu=\"content-bytes\""));
        limits.push(format!("\"stored\";r={}", most.saturating_sub(held.bytes)));
    }
    [("ratelimit-policy", policies), ("ratelimit", limits)]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .filter_map(|(name, list)| {
            let value = HeaderValue::try_from(list.join(", ")).ok()?;
            Some((HeaderName::from_static(name), value))
        })
        .collect()
}
