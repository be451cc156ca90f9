//! `mqueue bench`: a load generator that is cheap enough to share a machine with the server it measures.
//!
//! Latency is counted from the instant a request was due, not from when a busy connection got around to
//! sending it: with `--rate` a server that stalls is charged for every request that should have been sent
//! meanwhile. Instants here are the runtime's, in microseconds; the queue's `Clock` counts milliseconds.

mod pace;
mod process;
mod report;
mod requests;
mod scan;
mod tally;
mod wire;
mod worker;

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tokio::time::Instant;

use self::pace::Pace;
use self::process::Usage;
use self::report::Report;
use self::requests::Requests;
use self::tally::{Progress, Tally};
use self::worker::Worker;
use super::CliError;
use super::client::ClientArgs;
use super::output::{self, OutputArgs};
use crate::model::{TopicName, limits, some};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// Hand items in
    Enqueue,
    /// Hand items in, take them out, ack them
    E2e,
    /// Take out and ack what is there, until nothing is left
    Dequeue,
}

/// What is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Target {
    /// A node
    Mqueue,
    /// A server that parses the same requests and does nothing else: answers are only counted
    Bare,
}

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// What to measure
    #[arg(value_enum, default_value = "enqueue")]
    mode: Mode,
    /// Connections, each with one request at a time
    #[arg(long, short, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Items in a request
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=limits::BATCH_ITEMS_MAX as i64))]
    batch: u32,
    /// Size of a payload
    #[arg(long, default_value_t = 256, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=limits::PAYLOAD_BYTES_MAX as i64))]
    payload_bytes: u32,
    /// How long to measure
    #[arg(long, short, default_value = "10s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How long to run before measuring [default: 2s, none with --count and when draining]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    warmup: Option<Duration>,
    /// Stop after this many items instead
    #[arg(long, value_name = "ITEMS", conflicts_with = "rate", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Offer this many items per second, whatever the server does [default: as many as it takes]
    #[arg(long, value_name = "ITEMS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Spread items over this many priorities
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    priorities: u32,
    /// Spread connections over this many topics
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    topics: u32,
    /// Topics are named after this: bench-0, bench-1, ...
    #[arg(long, default_value = "bench")]
    topic_prefix: TopicName,
    /// Threads of the generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Process of the server on this machine, to report its processor time and memory
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// What is being driven
    #[arg(long, value_enum, default_value = "mqueue")]
    target: Target,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &BenchArgs) -> Result<(), CliError> {
    check(args)?;
    let token = match args.target {
        Target::Mqueue => args.client.bearer()?,
        Target::Bare => None,
    };
    let requests = Arc::new(render(args, token.as_ref())?);
    let address = resolve(args)?;
    let epoch = Instant::now();
    let measured_from = epoch + warmup(args);
    let end = measured_from + args.duration;
    let per_second = args.rate.map(|items| f64::from(items) / f64::from(args.batch));
    let pace = Arc::new(Pace::new(
        epoch,
        end,
        per_second,
        args.count.map(|items| (items, args.batch)),
    ));
    let progress = Arc::new(Progress::default());
    let worker = |index: u32| Worker {
        index,
        mode: args.mode,
        // Offered load needs consumers that do not wait for producers; at full speed each connection
        // does all three steps in turn, so that the backlog stays bounded.
        consumes_only: args.rate.is_some() && args.mode == Mode::E2e && index % 2 == 1,
        batch: args.batch as usize,
        address,
        epoch,
        measured_from,
        requests: Arc::clone(&requests),
        pace: Arc::clone(&pace),
        progress: Arc::clone(&progress),
        counts_only: args.target == Target::Bare,
    };
    let mut threads = Vec::new();
    for thread in 0..args.threads.min(args.connections) {
        let own = (thread..args.connections).step_by(args.threads as usize);
        let workers: Vec<_> = own.map(worker).collect();
        threads.push(std::thread::spawn(move || worker::run_all(workers)));
    }
    let pacer = Arc::clone(&pace);
    let pacer = std::thread::spawn(move || pacer.release_turns());
    let (own, server) = watch(args, &progress, measured_from, end, || {
        threads.iter().all(|thread| thread.is_finished())
    });
    let mut tally = Tally::default();
    for thread in threads {
        let part = thread
            .join()
            .map_err(|_| CliError::failed("a generator thread", "panicked"))?;
        tally.merge(part?);
    }
    pacer
        .join()
        .map_err(|_| CliError::failed("the pacing thread", "panicked"))?;
    let report = Report::new(
        args,
        &tally,
        measured_from,
        pace.unsent(),
        own.done(),
        server.map(Watched::done),
    );
    if args.output.is_json() {
        output::json(&report)?;
    } else {
        output::line(&report.rendered())?;
    }
    match report.failures() {
        0 => Ok(()),
        failures => Err(CliError::Partly(format!("{} failed", some(failures, "request")))),
    }
}

fn check(args: &BenchArgs) -> Result<(), CliError> {
    let usage = |text: &str| Err(CliError::Usage(text.to_owned()));
    if args.client.url.scheme() != "http" {
        return usage("the load generator speaks plain HTTP: give an http:// URL");
    }
    if args.target == Target::Bare && args.mode != Mode::Enqueue {
        return usage("a bare server only takes enqueues");
    }
    if args.mode == Mode::E2e && args.payload_bytes < requests::STAMP_BYTES as u32 {
        return usage("e2e needs --payload-bytes of at least 18, for the instant each item carries");
    }
    if args.rate.is_some() && (args.mode == Mode::Dequeue || (args.mode == Mode::E2e && args.connections < 2))
    {
        return usage("--rate is for enqueue, and for e2e with at least 2 connections");
    }
    let body = u64::from(args.batch) * (u64::from(args.payload_bytes) * 4 / 3 + 64);
    if body > limits::BODY_BYTES_MAX as u64 {
        return usage("a batch of such payloads is larger than any server accepts; lower --batch");
    }
    if let Some(pid) = args.server_pid {
        Usage::of(pid).map_err(|error| CliError::failed(format!("cannot watch process {pid}"), error))?;
    }
    Ok(())
}

fn warmup(args: &BenchArgs) -> Duration {
    let default = match (args.count, args.mode) {
        (None, Mode::Enqueue | Mode::E2e) => Duration::from_secs(2),
        _ => Duration::ZERO,
    };
    args.warmup.unwrap_or(default)
}

fn render(args: &BenchArgs, token: Option<&SecretString>) -> Result<Requests, CliError> {
    let url = &args.client.url;
    let port = url.port_or_known_default().unwrap_or(80);
    let topics = (0..args.topics).map(|n| format!("{}-{n}", args.topic_prefix));
    let topics: Result<Vec<TopicName>, _> = topics.map(|name| name.parse()).collect();
    let topics = topics.map_err(|error| CliError::Usage(format!("--topic-prefix: {error}")))?;
    Ok(Requests::render(&requests::Shape {
        host: format!("{}:{port}", url.host_str().unwrap_or_default()),
        token: token.map(|token| token.expose_secret()),
        paths: topics
            .iter()
            .map(|topic| args.client.topic_path(topic, ""))
            .collect(),
        batch: args.batch as usize,
        payload_bytes: args.payload_bytes as usize,
        priorities: args.priorities as usize,
    }))
}

fn resolve(args: &BenchArgs) -> Result<std::net::SocketAddr, CliError> {
    let unreachable = |reason: String| CliError::Unreachable {
        url: args.client.url.to_string(),
        reason,
    };
    let addresses = args.client.url.socket_addrs(|| None);
    let addresses = addresses.map_err(|error| unreachable(error.to_string()))?;
    let reached = addresses
        .iter()
        .find(|address| std::net::TcpStream::connect_timeout(address, Duration::from_secs(5)).is_ok());
    reached
        .copied()
        .ok_or_else(|| unreachable("the connection is refused".to_owned()))
}

/// A process's usage when measuring began, and where to read what it is by now.
struct Watched {
    pid: Option<u32>,
    before: Usage,
}

impl Watched {
    fn begin(pid: Option<u32>) -> Option<Self> {
        let before = Usage::read(pid).ok()?;
        Some(Self { pid, before })
    }

    fn done(self) -> Option<Usage> {
        Some(Usage::read(self.pid).ok()?.since(self.before))
    }
}

trait Done {
    fn done(self) -> Option<Usage>;
}

impl Done for Option<Watched> {
    fn done(self) -> Option<Usage> {
        self.and_then(Watched::done)
    }
}

/// Shows progress until `finished`; notes what the processes had used when the warm-up was over.
fn watch(
    args: &BenchArgs,
    progress: &Progress,
    measured_from: Instant,
    end: Instant,
    finished: impl Fn() -> bool,
) -> (Option<Watched>, Option<Watched>) {
    std::thread::sleep(measured_from.saturating_duration_since(Instant::now()));
    let own = Watched::begin(None);
    let server = args.server_pid.and_then(|pid| Watched::begin(Some(pid)));
    let bar = bar(args);
    while !finished() {
        std::thread::sleep(Duration::from_millis(20));
        let items = progress.items.load(Ordering::Relaxed);
        bar.set_message(some(items, "item"));
        match args.count {
            Some(_) => bar.set_position(items),
            None => {
                let left = end.saturating_duration_since(Instant::now());
                bar.set_position(args.duration.saturating_sub(left).as_millis() as u64);
            }
        }
    }
    bar.finish_and_clear();
    (own, server)
}

fn bar(args: &BenchArgs) -> ProgressBar {
    if args.output.is_json() || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(args.count.unwrap_or(args.duration.as_millis() as u64));
    match ProgressStyle::with_template("{bar:40} {percent}% {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
