//! `mqueue hooks dry-run`: what a version would do to items; nothing is written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::super::CliError;
use super::super::client::Client;
use super::super::output::{self, cell, entries};
use super::HookArgs;
use super::new::SideArg;
use crate::model::{Side, TopicName};

#[derive(Debug, Args)]
#[group(id = "items", required = true, multiple = false, args = ["last", "file", "text"])]
pub(in crate::cli) struct DryRunArgs {
    #[command(flatten)]
    hook: HookArgs,
    /// The version [default: the newest]
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    /// The topic, as the hook sees it and where --last looks
    #[arg(long)]
    topic: Option<TopicName>,
    /// So many items of the topic, the one accepted last first
    #[arg(long, value_name = "N", requires = "topic")]
    last: Option<usize>,
    /// Of which state --last takes items: ready, scheduled, leased or dead
    #[arg(long, value_name = "STATE", default_value = "ready")]
    state: String,
    /// A file with a list of items, as test cases have them: [{"json": {"total": 5}}]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// An item with this payload
    #[arg(long)]
    text: Option<String>,
    /// Which export to run, for hooks with both
    #[arg(long, value_enum)]
    side: Option<SideArg>,
    /// A word in the scope of the token that asks, as the hook sees it; may be repeated
    #[arg(long = "scope", value_name = "WORD")]
    scopes: Vec<String>,
}

pub(super) async fn run(args: &DryRunArgs) -> Result<(), CliError> {
    let client = Client::new(&args.hook.client)?;
    let version = match args.version {
        Some(version) => u64::from(version),
        None => {
            let hook = client.get(&args.hook.path("")).await?;
            hook["latest"]
                .as_u64()
                .ok_or_else(|| CliError::Usage("the hook has no version yet; push one".to_owned()))?
        }
    };
    let path = args.hook.path(&format!("/versions/{version}/dry-run"));
    let answer = client.post(&path, &request(args)?).await?;
    if args.hook.output.is_json() {
        return output::json(&answer);
    }
    let rows = entries(&answer, "items").iter().enumerate().map(row);
    let header = [
        "item",
        "verdict",
        "detail",
        "run µs",
        "instructions",
        "nearest limit",
    ];
    output::line(&output::table(&header, rows))?;
    let counts: BTreeMap<String, u64> =
        serde_json::from_value(answer["verdicts"].clone()).unwrap_or_default();
    let counts: Vec<_> = counts
        .iter()
        .map(|(verdict, count)| format!("{count} {verdict}"))
        .collect();
    output::line(&format!("\n{}: {}", cell(&answer, "version"), counts.join(", ")))?;
    match answer["not_run"].as_u64() {
        None | Some(0) => Ok(()),
        Some(left) => output::line(&format!(
            "{left} were not run: the changes so far are too large to show"
        )),
    }
}

fn request(args: &DryRunArgs) -> Result<Value, CliError> {
    let mut body = json!({ "scopes": args.scopes });
    if let Some(last) = args.last {
        body["last"] = json!(last);
        body["state"] = json!(args.state);
    } else if let Some(file) = &args.file {
        let failed = |error: String| CliError::failed(format!("cannot read {}", file.display()), error);
        let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
        let items: Value = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        body["items"] = match items {
            Value::Array(_) => items,
            item => json!([item]),
        };
    } else {
        body["items"] = json!([{ "text": args.text }]);
    }
    if let Some(topic) = &args.topic {
        body["topic"] = json!(topic);
    }
    if let Some(side) = args.side {
        body["side"] = json!(Side::from(side));
    }
    Ok(body)
}

fn row((at, item): (usize, &Value)) -> Vec<String> {
    let id = match item.get("id") {
        Some(_) => cell(item, "id"),
        None => (at + 1).to_string(),
    };
    let usage = &item["usage"];
    vec![
        id,
        cell(item, "verdict"),
        detail(item),
        cell(usage, "run_us"),
        cell(usage, "instructions"),
        nearest(&item["limits"]),
    ]
}

/// What the verdict carries, in a line; `--output json` has all of it.
fn detail(item: &Value) -> String {
    if let Some(reason) = item.get("reason") {
        return format!("{}: {}", cell(reason, "code"), cell(reason, "message"));
    }
    if item.get("failure").is_some() {
        return cell(item, "failure");
    }
    if let Some(delay) = item["delay_ms"].as_u64() {
        return format!("for {delay} ms");
    }
    let changes = entries(item, "changes").iter().map(change);
    changes.collect::<Vec<_>>().join("; ")
}

fn change(change: &Value) -> String {
    let mut parts = Vec::new();
    match change["diff"]["kind"].as_str() {
        Some("json") => parts.push(change["diff"]["patch"].to_string()),
        Some("bytes") => {
            let diff = &change["diff"];
            let (before, after) = (cell(diff, "before_bytes"), cell(diff, "after_bytes"));
            parts.push(format!("{before} bytes to {after}"));
        }
        _ => {}
    }
    for field in ["topic", "priority", "deliver_after", "headers"] {
        if change.get(field).is_some() {
            parts.push(format!("{field} {}", cell(change, field)));
        }
    }
    parts.join(", ")
}

fn nearest(limits: &Value) -> String {
    let shares = limits.as_object().into_iter().flatten();
    let shares = shares.filter_map(|(name, share)| Some((share.as_u64()?, name)));
    match shares.max() {
        Some((share, name)) => format!("{} {share} %", name.trim_end_matches("_percent")),
        None => String::new(),
    }
}
