//! `mqueue config`: checks and shows the configuration.

use clap::Subcommand;

use super::CliError;
use super::output::{self, OutputArgs};
use super::settings::ConfigArgs;
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
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

pub(super) fn run(command: &ConfigCommand) -> Result<(), CliError> {
    match command {
        ConfigCommand::Check { config } => check(&config.load(Vec::new())?),
        ConfigCommand::Show { config, output } => show(&config.load(Vec::new())?, output),
    }
}

fn check(config: &Config) -> Result<(), CliError> {
    for warning in &config.warnings {
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
