//! `mqueue dequeue`: takes items out.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::CliError;
use super::client::{Client, ClientArgs};
use super::output::{self, OutputArgs, cell, entries};
use crate::model::{TopicName, limits};

#[derive(Debug, Args)]
pub(super) struct DequeueArgs {
    /// The topics; earlier ones are served first
    #[arg(required = true)]
    topics: Vec<TopicName>,
    /// Most items
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    max: u32,
    /// How long to wait for the first item, at most 20s
    #[arg(long, short, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// How long the items are yours [default: each item's own]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    lease: Option<Duration>,
    /// Ack the items once they are printed
    #[arg(long)]
    ack: bool,
    /// Go on until interrupted
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: &DequeueArgs) -> Result<(), CliError> {
    let longest = Duration::from_millis(limits::WAIT_MS_MAX.into());
    if args.wait > longest {
        return Err(CliError::Usage(
            "--wait must be at most 20s; --follow waits for ever".to_owned(),
        ));
    }
    let wait = if args.follow { longest } else { args.wait };
    let client = Client::new(&args.client)?;
    let (path, body) = request(args, wait);
    loop {
        let answer = client.post(&path, &body).await?;
        let items = entries(&answer, "items");
        for item in items {
            print(item, args.output.is_json())?;
        }
        let leases: Vec<_> = items
            .iter()
            .filter_map(|item| item.get("lease_id")?.as_str())
            .collect();
        if args.ack && !leases.is_empty() {
            super::settle::ack_printed(&client, &leases).await?;
        }
        if !args.follow {
            return Ok(());
        }
    }
}

fn request(args: &DequeueArgs, wait: Duration) -> (String, Value) {
    let wait_ms = wait.as_millis() as u64;
    let (path, mut body) = match args.topics.as_slice() {
        [topic] => {
            let path = args.client.topic_path(topic, "/dequeue");
            (path, json!({ "max": args.max, "wait_ms": wait_ms }))
        }
        topics => {
            let topics: Vec<_> = topics
                .iter()
                .map(|topic| json!({ "topic": topic, "max": args.max }))
                .collect();
            let path = format!("/v1/namespaces/{}/dequeue", args.client.namespace);
            (
                path,
                json!({ "topics": topics, "max_total": args.max, "wait_ms": wait_ms }),
            )
        }
    };
    if let Some(lease) = args.lease {
        body["lease_ms"] = json!(lease.as_millis() as u64);
    }
    (path, body)
}

fn print(item: &Value, as_json: bool) -> Result<(), CliError> {
    if as_json {
        return output::json_line(item);
    }
    let head = format!(
        "{} topic={} priority={} attempt={} lease={}",
        cell(item, "id"),
        cell(item, "topic"),
        cell(item, "priority"),
        cell(item, "attempt"),
        cell(item, "lease_id"),
    );
    let head = match item.get("hook_version").and_then(Value::as_str) {
        Some(hook) => format!("{head} hook={hook}"),
        None => head,
    };
    output::line(&format!(
        "{}\n  {}",
        output::escaped(&head),
        output::escaped(&output::payload(item))
    ))
}
