//! `mqueue stats`: the topics of a namespace and their numbers.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::CliError;
use super::client::{Client, ClientArgs};
use super::output::{self, OutputArgs, cell, entries};
use crate::model::TopicName;

#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    /// Only this topic
    topic: Option<TopicName>,
    /// Show again every 2s, or as often as given
    #[arg(long, short, value_name = "DURATION", num_args = 0..=1, default_missing_value = "2s", value_parser = humantime::parse_duration)]
    watch: Option<Duration>,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: &StatsArgs) -> Result<(), CliError> {
    let client = Client::new(&args.client)?;
    loop {
        let topics = topics(&client, args).await?;
        if args.output.is_json() {
            output::json_line(&json!({ "topics": topics }))?;
        } else {
            // Home and clear to the end: redrawn in place, as watchers expect.
            let home = if args.watch.is_some() && std::io::stdout().is_terminal() {
                "\u{1b}[H\u{1b}[J"
            } else {
                ""
            };
            output::line(&format!("{home}{}", rendered(&topics)))?;
        }
        match args.watch {
            Some(pause) => tokio::time::sleep(pause.max(Duration::from_millis(100))).await,
            None => return Ok(()),
        }
    }
}

async fn topics(client: &Client, args: &StatsArgs) -> Result<Vec<Value>, CliError> {
    if let Some(topic) = &args.topic {
        let mut stats = client.get(&args.client.topic_path(topic, "/stats")).await?;
        stats["topic"] = json!(topic);
        return Ok(vec![stats]);
    }
    let path = format!("/v1/namespaces/{}/topics?limit=1000", args.client.namespace);
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = client.get(&format!("{path}{cursor}")).await?;
        let page = entries(&answer, "topics");
        all.extend_from_slice(page);
        match answer.get("next_cursor").and_then(Value::as_str) {
            Some(next) if !page.is_empty() => cursor = format!("&cursor={next}"),
            _ => return Ok(all),
        }
    }
}

fn rendered(topics: &[Value]) -> String {
    let columns = [
        "topic",
        "paused",
        "ready",
        "scheduled",
        "leased",
        "dead",
        "oldest_ready_age_ms",
    ];
    // The numbers of a single topic come without what only lists tell.
    let told = |column: &&str| *column != "paused" || topics.iter().any(|topic| topic.get(*column).is_some());
    let columns: Vec<_> = columns.into_iter().filter(told).collect();
    let rates = ["enqueued_per_s", "delivered_per_s", "acked_per_s"];
    let header: Vec<_> = columns
        .iter()
        .copied()
        .chain(["in/s", "out/s", "acked/s"])
        .collect();
    let rows = topics.iter().map(|topic| {
        columns
            .iter()
            .chain(&rates)
            .map(|column| cell(topic, column))
            .collect()
    });
    output::table(&header, rows)
}
