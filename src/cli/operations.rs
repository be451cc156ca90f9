//! `mqueue operations`: work on many items that goes on after its order.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::CliError;
use super::client::{Client, ClientArgs};
use super::output::{self, OutputArgs, cell, entries};
use super::topic::confirmed;
use crate::model::{TopicName, some};

/// How often an operation that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(super) enum OperationsCommand {
    /// List operations, the newest first
    List {
        /// Only those in this state: queued, running, succeeded, failed, cancelled or stopped
        #[arg(long)]
        state: Option<String>,
        /// Most operations
        #[arg(long, short, default_value_t = 20, value_name = "N")]
        limit: usize,
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show an operation
    Show(OneArgs),
    /// Cancel an operation; what it did stays done
    Cancel(OneArgs),
    /// Order an operation
    Order(Box<OrderArgs>),
}

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    /// The operation's number
    id: u64,
    /// Wait until it has ended
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Delete every item that waits or is leased
    Purge,
    /// Delete every dead letter
    DiscardDead,
    /// Delete items that nobody holds and that fit
    Cancel,
    /// Bring dead letters back that fit
    Redrive,
    /// Delete the topic with everything in it
    DeleteTopic,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Purge => "purge",
            Self::DiscardDead => "discard_dead",
            Self::Cancel => "cancel",
            Self::Redrive => "redrive",
            Self::DeleteTopic => "delete_topic",
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct OrderArgs {
    /// What to do
    #[arg(value_enum)]
    kind: Kind,
    /// The topic
    topic: TopicName,
    /// Where cancel looks: ready, scheduled, dead; may be repeated
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<String>,
    /// Only these items; may be repeated
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
    /// Only items accepted at least so long ago
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Only items of this priority or a larger one
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority_min: Option<i32>,
    /// Only items of this priority or a smaller one
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority_max: Option<i32>,
    /// Only items with this header
    #[arg(long, value_name = "NAME=VALUE")]
    header: Option<String>,
    /// Only items whose last error contains this text
    #[arg(long, value_name = "TEXT")]
    error_contains: Option<String>,
    /// Only dead letters that died for this reason: attempts_exhausted, rejected, expired or hook
    #[arg(long)]
    reason: Option<String>,
    /// Redrive into another topic of the namespace
    #[arg(long = "to", value_name = "TOPIC")]
    to_topic: Option<TopicName>,
    /// Redrive through a hook: NAME for its newest version, or NAME@VERSION
    #[arg(long)]
    hook: Option<String>,
    /// At most this many items
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// At most this many items per second
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Change nothing; tell what would be done
    #[arg(long)]
    dry_run: bool,
    /// Yes, delete them
    #[arg(long)]
    yes: bool,
    /// Wait until it has ended
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(command: &OperationsCommand) -> Result<(), CliError> {
    match command {
        OperationsCommand::List {
            state,
            limit,
            client,
            output,
        } => {
            let state = state
                .as_ref()
                .map_or(String::new(), |state| format!("&state={state}"));
            let path = format!("{}?limit={limit}{state}", base(client));
            let answer = Client::new(client)?.get(&path).await?;
            list(&answer, output)
        }
        OperationsCommand::Show(args) => {
            let http = Client::new(&args.client)?;
            let path = format!("{}/{}", base(&args.client), args.id);
            let answer = http.get(&path).await?;
            finish(&http, &args.client, answer, args.wait, &args.output).await
        }
        OperationsCommand::Cancel(args) => {
            let http = Client::new(&args.client)?;
            let path = format!("{}/{}", base(&args.client), args.id);
            let answer = http.delete(&path).await?;
            finish(&http, &args.client, answer, args.wait, &args.output).await
        }
        OperationsCommand::Order(args) => order(args).await,
    }
}

fn base(client: &ClientArgs) -> String {
    format!("/v1/namespaces/{}/operations", client.namespace)
}

async fn order(args: &OrderArgs) -> Result<(), CliError> {
    if args.kind != Kind::Redrive && !args.dry_run {
        confirmed(args.yes, "this deletes items, which do not come back")?;
    }
    let http = Client::new(&args.client)?;
    let answer = http.post(&base(&args.client), &request(args)?).await?;
    finish(&http, &args.client, answer, args.wait, &args.output).await
}

fn request(args: &OrderArgs) -> Result<Value, CliError> {
    let mut filter = Map::new();
    let mut add = |name: &str, value: Value| {
        if !value.is_null() {
            filter.insert(name.to_owned(), value);
        }
    };
    if !args.ids.is_empty() {
        add("ids", json!(args.ids));
    }
    add(
        "older_than_ms",
        json!(args.older_than.map(|age| age.as_millis() as u64)),
    );
    add("priority_min", json!(args.priority_min));
    add("priority_max", json!(args.priority_max));
    add("error_contains", json!(args.error_contains));
    add("reason", json!(args.reason));
    if let Some(header) = &args.header {
        let Some((name, value)) = header.split_once('=') else {
            return Err(CliError::Usage(format!("--header {header}: must be NAME=VALUE")));
        };
        add("header", json!({"name": name, "value": value}));
    }
    let mut body = json!({"kind": args.kind.word(), "topic": args.topic, "dry_run": args.dry_run});
    if !filter.is_empty() {
        body["filter"] = filter.into();
    }
    if !args.states.is_empty() {
        body["states"] = json!(args.states);
    }
    if args.kind == Kind::DeleteTopic {
        body["confirm"] = json!(args.topic);
    }
    let optional = [
        ("to_topic", json!(args.to_topic)),
        ("hook", json!(args.hook)),
        ("limit", json!(args.limit)),
        ("rate_per_s", json!(args.rate)),
    ];
    for (name, value) in optional {
        if !value.is_null() {
            body[name] = value;
        }
    }
    Ok(body)
}

/// Prints an operation, once it has ended where that is waited for.
async fn finish(
    http: &Client,
    client: &ClientArgs,
    mut answer: Value,
    wait: bool,
    output: &OutputArgs,
) -> Result<(), CliError> {
    let path = format!("{}/{}", base(client), cell(&answer, "id"));
    while wait && matches!(cell(&answer, "state").as_str(), "queued" | "running") {
        tokio::time::sleep(LOOK_EVERY).await;
        answer = http.get(&path).await?;
    }
    if output.is_json() {
        output::json(&answer)?;
    } else {
        show(&answer)?;
    }
    match cell(&answer, "state").as_str() {
        "failed" | "stopped" if wait => Err(CliError::Partly("the operation did not succeed".to_owned())),
        _ => Ok(()),
    }
}

fn list(answer: &Value, output: &OutputArgs) -> Result<(), CliError> {
    if output.is_json() {
        return output::json(&answer["operations"]);
    }
    let rows = entries(answer, "operations").iter().map(|operation| {
        vec![
            cell(operation, "id"),
            cell(&operation["work"], "kind"),
            cell(&operation["work"], "topic"),
            cell(operation, "state"),
            cell(operation, "done"),
            cell(operation, "total"),
            cell(operation, "created_by"),
            cell(operation, "created_at"),
            cell(operation, "error"),
        ]
    });
    let header = [
        "id", "kind", "topic", "state", "done", "total", "by", "ordered", "error",
    ];
    output::line(&output::table(&header, rows))
}

fn show(operation: &Value) -> Result<(), CliError> {
    let work = &operation["work"];
    output::line(&output::escaped(&format!(
        "operation {}: {} {} is {}, {} of {} done",
        cell(operation, "id"),
        cell(work, "kind"),
        cell(work, "topic"),
        cell(operation, "state"),
        cell(operation, "done"),
        cell(operation, "total"),
    )))?;
    if operation["dry_run"] == true && !operation["outcome"].is_null() {
        output::line(&format!(
            "it would change {}",
            some(operation["outcome"]["count"].as_u64().unwrap_or_default(), "item")
        ))?;
    }
    match cell(operation, "error").as_str() {
        "" => Ok(()),
        error => output::line(&output::escaped(error)),
    }
}
