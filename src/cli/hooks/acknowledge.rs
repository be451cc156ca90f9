//! `mqueue hooks acknowledge`: its owner has seen why a version is in quarantine.

use clap::Args;
use serde_json::json;

use super::super::CliError;
use super::super::client::Client;
use super::super::output::{self, cell, entries};
use super::HookArgs;

#[derive(Debug, Args)]
pub(in crate::cli) struct AcknowledgeArgs {
    #[command(flatten)]
    hook: HookArgs,
    /// The version [default: the newest that is in quarantine]
    #[arg(long, value_name = "N")]
    version: Option<u64>,
}

pub(super) async fn run(args: &AcknowledgeArgs) -> Result<(), CliError> {
    let client = Client::new(&args.hook.client)?;
    let version = match args.version {
        Some(version) => version,
        None => {
            let hook = client.get(&args.hook.path("")).await?;
            let held = entries(&hook, "versions")
                .iter()
                .find(|version| version["quarantine"].is_object());
            let held = held.and_then(|version| version["version"].as_u64());
            held.ok_or_else(|| CliError::Usage("no version of the hook is in quarantine".to_owned()))?
        }
    };
    let path = args.hook.path(&format!("/versions/{version}/acknowledge"));
    let answer = client.post(&path, &json!({})).await?;
    if args.hook.output.is_json() {
        return output::json(&answer);
    }
    let name = output::escaped(&cell(&answer, "hook"));
    output::line(&format!("{name}@{version} is run again"))
}
