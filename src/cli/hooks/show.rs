//! `mqueue hooks list` and `show`.

use clap::Args;
use serde_json::{Value, json};

use super::super::CliError;
use super::super::client::{Client, ClientArgs};
use super::super::output::{self, OutputArgs, cell, entries};
use super::HookArgs;
use super::bindings::summary;

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn list(args: &ListArgs) -> Result<(), CliError> {
    let client = Client::new(&args.client)?;
    let base = format!("/v1/namespaces/{}", args.client.namespace);
    let hooks = client.get(&format!("{base}/hooks")).await?;
    let bindings = client.get(&format!("{base}/bindings")).await?;
    if args.output.is_json() {
        return output::json(&json!({ "hooks": hooks["hooks"], "bindings": bindings["bindings"] }));
    }
    let rows = entries(&hooks, "hooks").iter().map(|hook| {
        let in_force = entries(&bindings, "bindings").iter();
        let in_force: Vec<_> = in_force
            .filter(|binding| binding["hook"] == hook["hook"])
            .map(summary)
            .collect();
        vec![
            cell(hook, "hook"),
            cell(hook, "latest"),
            words(hook, "exports"),
            cell(hook, "owner"),
            in_force.join("; "),
            cell(hook, "rejected"),
        ]
    });
    let header = ["hook", "newest", "sides", "owner", "in force", "rejected"];
    output::line(&output::table(&header, rows))
}

pub(super) async fn show(args: &HookArgs) -> Result<(), CliError> {
    let client = Client::new(&args.client)?;
    let hook = client.get(&args.path("")).await?;
    if args.output.is_json() {
        return output::json(&hook);
    }
    output::line(&output::escaped(&format!(
        "{}: {}",
        cell(&hook, "hook"),
        cell(&hook, "description")
    )))?;
    for binding in entries(&hook, "bindings") {
        output::line(&output::escaped(&format!("bound as {}", summary(binding))))?;
    }
    for version in entries(&hook, "versions") {
        let Some(quarantine) = version.get("quarantine") else {
            continue;
        };
        output::line(&output::escaped(&format!(
            "version {} is in quarantine since {}: {} calls ran into what they may have, the last into its {}; \
             mqueue hooks acknowledge lets it run again",
            cell(version, "version"),
            cell(quarantine, "at"),
            cell(quarantine, "trips"),
            cell(quarantine, "ceiling").replace('_', " "),
        )))?;
    }
    if hook.get("rejected").is_some() {
        output::line(&output::escaped(&format!(
            "rejected: {}",
            cell(&hook, "rejected")
        )))?;
    }
    let header = [
        "version", "sides", "bytes", "created", "by", "calls", "items", "failed", "p99 µs", "note",
    ];
    let rows = entries(&hook, "versions").iter().map(|version| {
        let stats = entries(&hook, "stats")
            .iter()
            .find(|stats| stats["version"] == version["version"]);
        let stats = stats.unwrap_or(&Value::Null);
        let failed = ["invalid", "traps", "timeouts"].map(|kind| stats[kind].as_u64().unwrap_or(0));
        vec![
            cell(version, "version"),
            words(version, "exports"),
            cell(version, "module_bytes"),
            cell(version, "created_at"),
            cell(version, "created_by"),
            cell(stats, "calls"),
            cell(stats, "items"),
            failed.iter().sum::<u64>().to_string(),
            cell(stats, "run_p99_us"),
            cell(version, "note"),
        ]
    });
    output::line(&output::table(&header, rows))
}

fn words(object: &Value, field: &str) -> String {
    let words = entries(object, field).iter().filter_map(Value::as_str);
    words.collect::<Vec<_>>().join(", ")
}
