//! `mqueue healthcheck`: for container runtimes and scripts.

use std::time::Duration;

use clap::Args;
use reqwest::Url;

use super::client::{http, unreachable};
use super::{CliError, output};

#[derive(Debug, Args)]
pub(super) struct HealthcheckArgs {
    /// The server
    #[arg(long, env = "MQUEUE_URL", default_value = "http://127.0.0.1:8080")]
    url: Url,
    /// Accept any certificate, as for --tls-self-signed
    #[arg(long)]
    insecure: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Succeeds when the server says it is ready. Every failure has exit code 1, the only one that container
/// runtimes take for "unhealthy".
pub(super) async fn run(args: &HealthcheckArgs) -> Result<(), CliError> {
    let url = args
        .url
        .join("/readyz")
        .map_err(|error| CliError::failed("the URL is wrong", error))?;
    let answer = http(&url, args.insecure, args.timeout)?
        .get(url.clone())
        .send()
        .await;
    match answer {
        Ok(answer) if answer.status().is_success() => output::line("ready"),
        Ok(answer) => Err(CliError::failed("not ready", answer.status())),
        Err(error) => Err(CliError::failed("not ready", unreachable(&url, &error))),
    }
}
