//! Serves a node over HTTP until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use poem::Route;

use super::reload::{LiveParts, Reloader};
use super::shutdown::{Deadline, Signals};
use super::{HookParts, Node, StartError, assemble, nodes, tenancy};
use crate::api::accept::{self, ListenOptions, Refusal, Stop, Tls};
use crate::api::{self, ApiLimits, ApiState, HooksState};
use crate::clock::Clock;
use crate::config::{Config, JwtSecret, Origin, ServerConfig};
use crate::console;
use crate::queue::Queue;
use crate::telemetry::logs::LevelHandle;
use crate::telemetry::metrics::Metrics;
use crate::tenant::{AuthFailures, Authenticator, Quotas};
use crate::wal::disk::RealDisk;

/// How often quotas that nobody uses are forgotten.
const EVICT_QUOTAS_EVERY: Duration = Duration::from_secs(60);
/// How often stored quotas are read, which another node may have set.
const READ_QUOTAS_EVERY: Duration = Duration::from_secs(2);
/// Time kept for storing, however long requests took to finish.
const DRAIN_RESERVE: Duration = Duration::from_secs(2);

/// Runs the node until it is told to stop, and then in good order: not ready, requests in flight finish,
/// everything is stored, the log is closed.
///
/// `origin` is where `config` was read and is read again; `log_level` changes with it.
pub async fn run(config: Config, origin: Origin, log_level: LevelHandle) -> Result<(), StartError> {
    let clock = Clock::system();
    let secret = JwtSecret::obtain(&config)?;
    let keys = tenancy::keys(&config.live.auth, &secret)?;
    tenancy::tell_of_ignored(&keys);
    let auth = Arc::new(Authenticator::new(
        keys,
        tenancy::policy(&config.live.auth),
        clock.clone(),
    ));
    let server = accept::bind(listen_options(&config.start.server))
        .await
        .map_err(|error| StartError::io("cannot serve", error))?;
    let quotas = Arc::new(Quotas::new(
        tenancy::quota_table(&config.live.quotas),
        clock.clone(),
    ));
    let program =
        std::env::current_exe().map_err(|error| StartError::io("cannot find this program", error))?;
    let disk = Arc::new(RealDisk::new());
    let Node { queue, hooks } = assemble(
        &config,
        secret.oldest(),
        clock.clone(),
        disk,
        quotas.clone(),
        &program,
    )
    .await?;
    hooks.keep_up(config.start.hooks.folder.as_deref());
    let limits = ApiLimits {
        body_bytes_max: Arc::new(AtomicUsize::new(config.live.limits.body_bytes_max)),
        body_timeout: config.start.server.body_timeout,
        ..ApiLimits::default()
    };
    let parts = LiveParts {
        auth: auth.clone(),
        quotas: quotas.clone(),
        queue: queue.clone(),
        hooks: hooks.clone(),
        body_bytes_max: limits.body_bytes_max.clone(),
        log_level,
    };
    let reloader = Arc::new(Reloader::new(origin, config.clone(), parts, clock.clone()));
    let metrics = Arc::new(metrics(queue.clone(), hooks.clone(), reloader.clone())?);
    let server = counting(server, metrics.clone());
    let state = ApiState {
        queue: queue.clone(),
        hooks: HooksState::new(
            hooks.registry.clone(),
            hooks.engine.clone(),
            usize::try_from(config.start.hooks.module_bytes_max).unwrap_or(usize::MAX),
        ),
        auth,
        failures: AuthFailures::new(clock.clone()),
        quotas: quotas.clone(),
        metrics,
        clock,
        limits,
        config: reloader.clone(),
    };
    tokio::spawn(keep_quotas(queue.clone(), quotas));
    let signals = Signals::catch()?;
    reloader.keep_up()?;
    announce(&config.start.server, &server);

    let stop = Stop::default();
    let serving = tokio::spawn(server.serve(
        api::endpoint(Arc::new(state), console::mount(Route::new())),
        stop.clone(),
        config.start.server.shutdown_deadline,
    ));
    let ended = tokio::select! {
        () = signals.requested() => stop_in_order(&queue, &stop, serving, &config.start.server).await,
        () = queue.displaced() => {
            stop.now.cancel();
            queue.halt().await;
            Err(nodes::displaced(config.start.node.id))
        }
    };
    hooks.stop().await;
    ended
}

/// Metrics of everything that runs.
fn metrics(queue: Queue, hooks: HookParts, reloader: Arc<Reloader>) -> Result<Metrics, StartError> {
    Metrics::new(api::ROUTES, move || {
        let mut snapshot = hooks.shown(api::snapshot(&queue));
        snapshot.node.extend(reloader.numbers());
        snapshot
    })
    .map_err(|error| StartError::io("cannot set up metrics", error))
}

/// `server`, whose refusals count.
fn counting(server: accept::Server, metrics: Arc<Metrics>) -> accept::Server {
    metrics.show_refusals(Refusal::ALL.map(Refusal::as_str));
    server.telling(move |refusal| metrics.connection_refused(refusal.as_str()))
}

/// Not ready, then no more connections and requests, then nothing left unstored.
async fn stop_in_order(
    queue: &Queue,
    stop: &Stop,
    serving: tokio::task::JoinHandle<()>,
    server: &ServerConfig,
) -> Result<(), StartError> {
    let deadline = Deadline::after(server.shutdown_deadline);
    queue.announce_shutdown();
    stop.announced.cancel();
    // Whoever spreads the load sends requests until it has noticed.
    tokio::time::sleep(server.shutdown_grace).await;
    queue.begin_shutdown();
    stop.now.cancel();
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

/// Keeps up with quotas that other nodes set, and forgets who does nothing.
async fn keep_quotas(queue: Queue, quotas: Arc<Quotas>) {
    let rounds = EVICT_QUOTAS_EVERY.as_secs() / READ_QUOTAS_EVERY.as_secs();
    let mut round = 0;
    loop {
        tokio::time::sleep(READ_QUOTAS_EVERY).await;
        if let Err(error) = queue.refresh_quotas().await {
            tracing::debug!(%error, "stored quotas could not be read; those of before stay in force");
        }
        round = (round + 1) % rounds;
        if round == 0 {
            quotas.evict_idle();
        }
    }
}
