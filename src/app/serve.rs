//! Serves a node over HTTP until it is told to stop.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use poem::Route;
use tokio_util::sync::CancellationToken;

use super::shutdown::{Deadline, Signals};
use super::{Node, StartError, assemble, nodes};
use crate::api::accept::{self, ListenOptions, Tls};
use crate::api::{self, ApiLimits, ApiState, HooksState};
use crate::clock::Clock;
use crate::config::{AuthConfig, Config, JwtSecret, Quota, QuotasConfig, ServerConfig};
use crate::console;
use crate::queue::Queue;
use crate::telemetry::metrics::Metrics;
use crate::tenant::{AuthFailures, AuthPolicy, Authenticator, KeySet, Quotas, Rate, RateTable};
use crate::wal::disk::RealDisk;

/// How often quotas that nobody uses are forgotten.
const EVICT_QUOTAS_EVERY: Duration = Duration::from_secs(60);
/// Time kept for storing, however long requests took to finish.
const DRAIN_RESERVE: Duration = Duration::from_secs(2);

/// Runs the node until it is told to stop, and then in good order: not ready, requests in flight finish,
/// everything is stored, the log is closed.
pub async fn run(config: Config) -> Result<(), StartError> {
    let clock = Clock::system();
    let secret = JwtSecret::obtain(&config)?;
    let auth = Authenticator::new(
        keys(&config.live.auth, &secret)?,
        policy(&config.live.auth),
        clock.clone(),
    );
    let server = accept::bind(listen_options(&config.start.server))
        .await
        .map_err(|error| StartError::io("cannot serve", error))?;
    let quotas = Arc::new(Quotas::new(rate_table(&config.live.quotas), clock.clone()));
    let program =
        std::env::current_exe().map_err(|error| StartError::io("cannot find this program", error))?;
    let disk = Arc::new(RealDisk::new());
    let Node { queue, hooks } = assemble(
        &config,
        secret.bytes(),
        clock.clone(),
        disk,
        quotas.clone(),
        &program,
    )
    .await?;
    hooks.keep_up(config.start.hooks.folder.as_deref());
    let observed = (queue.clone(), hooks.clone());
    let metrics = Metrics::new(api::ROUTES, move || observed.1.shown(api::snapshot(&observed.0)))
        .map_err(|error| StartError::io("cannot set up metrics", error))?;
    let state = ApiState {
        queue: queue.clone(),
        hooks: HooksState::new(
            hooks.registry.clone(),
            hooks.engine.clone(),
            usize::try_from(config.start.hooks.module_bytes_max).unwrap_or(usize::MAX),
        ),
        auth: Arc::new(auth),
        failures: AuthFailures::new(clock.clone()),
        quotas: quotas.clone(),
        metrics: Arc::new(metrics),
        clock,
        limits: ApiLimits {
            body_bytes_max: config.live.limits.body_bytes_max,
            body_timeout: config.start.server.body_timeout,
            ..ApiLimits::default()
        },
    };
    tokio::spawn(forget_idle_quotas(quotas));
    let signals = Signals::catch()?;
    announce(&config.start.server, &server);

    let stop = CancellationToken::new();
    let time = config.start.server.shutdown_deadline;
    let serving = tokio::spawn(server.serve(
        api::endpoint(Arc::new(state), console::mount(Route::new())),
        stop.clone(),
        time,
    ));
    let ended = tokio::select! {
        () = signals.requested() => stop_in_order(&queue, &stop, serving, time).await,
        () = queue.displaced() => {
            stop.cancel();
            queue.halt().await;
            Err(nodes::displaced(config.start.node.id))
        }
    };
    hooks.stop().await;
    ended
}

/// Not ready, then no more requests, then nothing left unstored.
async fn stop_in_order(
    queue: &Queue,
    stop: &CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    time: Duration,
) -> Result<(), StartError> {
    let deadline = Deadline::after(time);
    queue.begin_shutdown();
    stop.cancel();
    let requests_end = deadline.left_keeping(DRAIN_RESERVE).saturating_sub(DRAIN_RESERVE);
    if tokio::time::timeout(requests_end, serving).await.is_err() {
        tracing::warn!("requests in flight are cut: the time to stop is nearly over");
    }
    queue.drain(deadline.left_keeping(Duration::ZERO)).await;
    tracing::info!("stopped");
    Ok(())
}

fn announce(server: &ServerConfig, bound: &accept::Server) {
    let scheme = if server.has_tls() { "https" } else { "http" };
    let address = bound.address();
    tracing::info!(%address, "listening on {scheme}://{address}, console at /console, API documentation at /docs");
}

fn listen_options(server: &ServerConfig) -> ListenOptions {
    let tls = match &server.tls {
        Some(files) => Tls::Files {
            cert: files.cert.clone(),
            key: files.key.clone(),
        },
        None if server.tls_self_signed => Tls::SelfSigned,
        None => Tls::Off,
    };
    ListenOptions {
        address: server.listen,
        tls,
        max_connections: server.max_connections,
        max_connections_per_ip: server.max_connections_per_ip,
        header_timeout: server.header_timeout,
        idle_timeout: server.idle_timeout,
    }
}

fn keys(auth: &AuthConfig, secret: &JwtSecret) -> Result<KeySet, StartError> {
    let setting = |key, detail: String| StartError::Setting { key, detail };
    let mut keys = KeySet::default();
    // With public keys configured and no secret, the generated one only authenticates lease ids.
    if secret.generated.is_none() || auth.jwks_file.is_none() {
        keys = keys
            .with_secret(secret.bytes())
            .map_err(|error| setting("auth.jwt_secret", error.to_string()))?;
    }
    if let Some(path) = &auth.jwks_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| setting("auth.jwks_file", format!("cannot be read: {error}")))?;
        keys = keys
            .with_jwks(&text)
            .map_err(|error| setting("auth.jwks_file", error.to_string()))?;
    }
    Ok(keys)
}

fn policy(auth: &AuthConfig) -> AuthPolicy {
    AuthPolicy {
        audience: auth.audience.clone(),
        issuer: auth.issuer.clone(),
        leeway: auth.leeway,
    }
}

fn rate_table(quotas: &QuotasConfig) -> RateTable {
    let per_namespace: HashMap<_, _> = quotas
        .namespaces
        .iter()
        .filter_map(|(namespace, quota)| Some((namespace.clone(), rate(*quota)?)))
        .collect();
    RateTable {
        default: quotas.default.and_then(rate),
        per_namespace,
    }
}

fn rate(quota: Quota) -> Option<Rate> {
    let per_minute = NonZeroU32::new(quota.per_minute)?;
    let burst = quota.burst.and_then(NonZeroU32::new).unwrap_or(per_minute);
    Some(Rate { per_minute, burst })
}

async fn forget_idle_quotas(quotas: Arc<Quotas>) {
    loop {
        tokio::time::sleep(EVICT_QUOTAS_EVERY).await;
        quotas.evict_idle();
    }
}
