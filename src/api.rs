//! The HTTP API: parse, authorise, call the queue, answer. Decisions are made elsewhere.
//!
//! A request passes, in this order: the accept loop ([`accept`]), the outer layer (request id, problems,
//! headers, metrics), the root endpoint, which serves the hot routes itself and hands every other one to
//! the routes that poem-openapi documents, and there one handler.

pub mod accept;
mod audit;
mod body;
mod caller;
mod classic;
mod cluster;
mod configuration;
mod docs;
mod dto;
mod events;
mod fast;
mod hooks;
mod items;
mod layers;
mod namespaces;
pub mod openapi;
mod operations;
mod operator_routes;
mod ops;
pub mod problem;
mod quota;
mod read_items;
mod reply;
mod routes;
mod seats;
mod settle;
mod topics;
mod views;
mod write_items;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use poem::{Endpoint, Response, Route};

pub use configuration::{ConfigChange, ConfigEntry, ConfigFault, Configuration, Reload, Reloads};
pub use hooks::HooksState;
pub use layers::ROUTES;
pub use ops::snapshot;

use crate::clock::Clock;
use crate::model::limits;
use crate::queue::Queue;
use crate::telemetry::metrics::Metrics;
use crate::tenant::{AuthFailures, Authenticator, Quotas};

/// What the API needs of the rest of the node. It holds no state of its own.
pub struct ApiState {
    /// The use cases.
    pub queue: Queue,
    /// Who a token speaks for.
    pub auth: Arc<Authenticator>,
    /// The brake on refused tokens.
    pub failures: AuthFailures,
    /// The hooks.
    pub hooks: HooksState,
    /// What namespaces may enqueue.
    pub quotas: Arc<Quotas>,
    /// Counters of requests, and the text of `/metrics`.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
    /// The configurable limits.
    pub limits: ApiLimits,
    /// The configuration and its reloads.
    pub config: Arc<dyn Configuration>,
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Limits of the API that configuration may set.
#[derive(Debug, Clone)]
pub struct ApiLimits {
    /// Largest body of an enqueue, in bytes; at most [`limits::BODY_BYTES_MAX`]. It may change at any time.
    pub body_bytes_max: Arc<AtomicUsize>,
    /// Longest time for a body to arrive.
    pub body_timeout: Duration,
    /// Whether `/metrics` needs no token when asked from the node's own machine.
    pub metrics_open_on_loopback: bool,
    /// Whether `/docs` is served.
    pub docs: bool,
}

/// Largest body of every other request, in bytes: a thousand leases of the longest names fit.
const SMALL_BODY_BYTES_MAX: usize = 1 << 20;

impl ApiLimits {
    fn bytes_max(&self) -> usize {
        self.body_bytes_max.load(Ordering::Relaxed)
    }

    /// What the body of an enqueue must keep to.
    fn batch(&self) -> body::BodyRule {
        body::BodyRule {
            bytes_max: self.bytes_max(),
            time_max: self.body_timeout,
        }
    }

    /// What every other body must keep to.
    fn small(&self) -> body::BodyRule {
        body::BodyRule {
            bytes_max: SMALL_BODY_BYTES_MAX.min(self.bytes_max()),
            time_max: self.body_timeout,
        }
    }
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            body_bytes_max: Arc::new(AtomicUsize::new(limits::BODY_BYTES_MAX)),
            body_timeout: Duration::from_secs(60),
            metrics_open_on_loopback: true,
            docs: true,
        }
    }
}

/// The whole API over `state`; `beside` holds the routes of others, such as the console, which get the
/// same outer layer.
pub fn endpoint(state: Arc<ApiState>, beside: Route) -> impl Endpoint<Output = Response> + 'static {
    let slow = routes::mount(beside, &state);
    layers::Outer::new(state.clone(), fast::Root::new(state, slow))
}

#[cfg(test)]
mod tests;
