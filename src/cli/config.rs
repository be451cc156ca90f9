//! `mqueue config`: checks and shows the configuration, of this machine's files or of a running server.

use clap::Subcommand;
use serde_json::{Value, json};

use super::CliError;
use super::client::{Client, ClientArgs};
use super::output::{self, OutputArgs};
use super::settings::ConfigArgs;
use crate::app::check_keys;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say everything that is wrong with the configuration; exit code 78 when something is
    Check {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Print every key with its value and where it came from; secrets are masked
    Show {
        /// Ask the server what is in force there, instead of reading the files here
        #[arg(long)]
        server: bool,
        #[command(flatten)]
        client: Box<ClientArgs>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Have the server read its configuration again
    Reload {
        #[command(flatten)]
        client: Box<ClientArgs>,
        #[command(flatten)]
        output: OutputArgs,
    },
}

pub(super) async fn run(command: &ConfigCommand) -> Result<(), CliError> {
    match command {
        ConfigCommand::Check { config } => check(&config.load(Vec::new())?),
        ConfigCommand::Show {
            server: false,
            client,
            output,
        } => show(&client.config.load(Vec::new())?, output),
        ConfigCommand::Show { client, output, .. } => show_server(&Client::new(client)?, output).await,
        ConfigCommand::Reload { client, output } => reload(&Client::new(client)?, output).await,
    }
}

fn check(config: &Config) -> Result<(), CliError> {
    let of_keys = check_keys(config)?;
    for warning in config.warnings.iter().chain(&of_keys) {
        eprintln!("warning: {warning}");
    }
    output::line("the configuration is valid")
}

fn show(config: &Config, output: &OutputArgs) -> Result<(), CliError> {
    if output.is_json() {
        return output::json(&config.entries);
    }
    let rows = config
        .entries
        .iter()
        .map(|entry| vec![entry.key.clone(), entry.value.clone(), entry.source.clone()]);
    output::line(&output::table(&["key", "value", "source"], rows))
}

async fn show_server(client: &Client, output: &OutputArgs) -> Result<(), CliError> {
    let config = client.get("/v1/config").await?;
    if output.is_json() {
        return output::json(&config);
    }
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let entries = config["entries"].as_array().into_iter().flatten();
    let rows = entries.map(|entry| {
        ["key", "value", "source"]
            .map(|field| text(entry, field))
            .to_vec()
    });
    output::line(&output::table(&["key", "value", "source"], rows))?;
    tell(&config["reloads"])
}

async fn reload(client: &Client, output: &OutputArgs) -> Result<(), CliError> {
    let reloads = client.post("/v1/config/reload", &json!({})).await?;
    if output.is_json() {
        return output::json(&reloads);
    }
    tell(&reloads)
}

/// The last reload in words.
fn tell(reloads: &Value) -> Result<(), CliError> {
    let words = |list: &Value| {
        let words = list.as_array().into_iter().flatten().filter_map(Value::as_str);
        words.collect::<Vec<_>>().join(", ")
    };
    output::line(&format!(
        "read at {}",
        reloads["loaded_at"].as_str().unwrap_or("?")
    ))?;
    let last = &reloads["last"];
    if last["ok"] == true {
        let changed = words(&last["changed"]);
        let changed = if changed.is_empty() { "nothing" } else { &changed };
        output::line(&format!("the last reload changed {changed}"))?;
    }
    for fault in last["faults"].as_array().into_iter().flatten() {
        output::line(&format!(
            "the last reload failed: {}",
            fault["detail"].as_str().unwrap_or_default()
        ))?;
    }
    match words(&reloads["restart_needed"]) {
        none if none.is_empty() => Ok(()),
        keys => output::line(&format!("a restart is needed for {keys}")),
    }
}
