//! `mqueue serve`: runs a node.

use clap::Args;

use super::CliError;
use super::settings::{ConfigArgs, assignment};
use crate::app;
use crate::config::{Assignment, Config, JwtSecret};
use crate::hooks::engine;
use crate::telemetry::logs;
use crate::telemetry::traces::{Exporter, TraceOptions};

/// Flags of a node: the most used keys by name, every other one through `--set`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Address to listen on; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// PEM file of the certificate chain
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// PEM file of the certificate's key
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// TLS with a certificate made at start-up
    #[arg(long)]
    tls_self_signed: bool,
    /// Comma-separated URLs of the shards
    #[arg(long, value_name = "URLS")]
    database_urls: Option<String>,
    /// Folder of the write-ahead log
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<String>,
    /// Start on a damaged log, too: what cannot be read is set aside, kept, and left out
    #[arg(long)]
    quarantine: bool,
    /// trace, debug, info, warn or error
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// json or console
    #[arg(long, value_name = "ENCODING")]
    log_encoding: Option<String>,
}

impl ServeArgs {
    /// What these flags set.
    pub(super) fn assignments(&self) -> Result<Vec<Assignment>, CliError> {
        let self_signed = self.tls_self_signed.then(|| "true".to_owned());
        let quarantine = self.quarantine.then(|| "true".to_owned());
        let named = [
            ("server.listen", "--listen", &self.listen),
            ("server.tls_cert", "--tls-cert", &self.tls_cert),
            ("server.tls_key", "--tls-key", &self.tls_key),
            ("server.tls_self_signed", "--tls-self-signed", &self_signed),
            ("storage.database_urls", "--database-urls", &self.database_urls),
            ("wal.dir", "--wal-dir", &self.wal_dir),
            ("wal.quarantine", "--quarantine", &quarantine),
            ("log.level", "--log-level", &self.log_level),
            ("log.encoding", "--log-encoding", &self.log_encoding),
        ];
        let set = named.iter().filter_map(|(key, flag, value)| {
            let value = value.as_ref()?;
            Some(assignment(key, value, flag))
        });
        Ok(set.collect())
    }
}

/// Runs a node until it is told to stop.
pub(super) fn run(args: ServeArgs) -> Result<(), CliError> {
    let origin = args.config.origin(args.assignments()?)?;
    let config = origin.read()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .thread_name("mqueue")
        .thread_stack_size(engine::STACK_BYTES)
        .on_thread_start(engine::allow_passing)
        .enable_all()
        .build()
        .map_err(|error| CliError::failed("cannot start worker threads", error))?;
    let exporter = {
        let _within = runtime.enter();
        trace_options(&config)
            .map(|options| Exporter::start(&options))
            .transpose()
            .map_err(|error| CliError::failed("cannot export traces", error))?
    };
    let log_level = logs::start(
        config.start.log_encoding,
        config.live.log_level,
        exporter.as_ref(),
    )
    .map_err(|error| CliError::failed("cannot start the log", error))?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(path) = JwtSecret::obtain(&config)?.generated {
        let path = path.display();
        tracing::info!(
            "tokens are checked with the generated secret in {path}; `mqueue token` mints one, and client \
             commands on this machine do so by themselves"
        );
    }
    let ended = runtime.block_on(app::run(config, origin, log_level));
    if let Some(exporter) = exporter {
        exporter.shut_down();
    }
    Ok(ended?)
}

fn trace_options(config: &Config) -> Option<TraceOptions> {
    let endpoint = config.start.tracing.otlp_endpoint.clone()?;
    Some(TraceOptions {
        endpoint,
        sample_ratio: config.start.tracing.sample_ratio,
        node: config.start.node.id.number(),
    })
}
