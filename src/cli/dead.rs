//! `mqueue dead`: dead letters.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{Client, ClientArgs};
use super::output::OutputArgs;
use super::topic::{confirmed, report};
use super::{CliError, peek};
use crate::model::TopicName;

#[derive(Debug, Subcommand)]
pub(super) enum DeadCommand {
    /// List the dead letters of a topic
    List {
        /// The topic
        topic: TopicName,
        /// Most items
        #[arg(long, short, default_value_t = 100, value_name = "N")]
        limit: usize,
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Bring dead letters back
    Redrive(RedriveArgs),
    /// Delete the dead letters of a topic
    Discard {
        /// The topic
        topic: TopicName,
        /// Yes, delete them
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct RedriveArgs {
    /// The topic
    topic: TopicName,
    /// Only these items
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
    /// Only those that died for this reason: attempts_exhausted, rejected, expired or hook
    #[arg(long)]
    reason: Option<String>,
    /// Only those whose last error contains this text
    #[arg(long, value_name = "TEXT")]
    error_contains: Option<String>,
    /// Into another topic of the namespace
    #[arg(long = "to", value_name = "TOPIC")]
    to_topic: Option<TopicName>,
    /// Through a hook, as if they were enqueued again: NAME for its newest version, or NAME@VERSION
    #[arg(long)]
    hook: Option<String>,
    /// At most this many per second
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Change nothing; tell what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(command: &DeadCommand) -> Result<(), CliError> {
    match command {
        DeadCommand::List {
            topic,
            limit,
            client,
            output,
        } => {
            let path = client.topic_path(topic, "/items");
            peek::list(&Client::new(client)?, &path, "state=dead", *limit, output).await
        }
        DeadCommand::Redrive(args) => {
            let path = args.client.topic_path(&args.topic, "/dead/redrive");
            let answer = Client::new(&args.client)?.post(&path, &redrive(args)).await?;
            let done = if args.dry_run {
                "would bring back"
            } else {
                "brought back"
            };
            report(&answer, &args.output, done)
        }
        DeadCommand::Discard {
            topic,
            yes,
            client,
            output,
        } => {
            confirmed(*yes, "this deletes every dead letter of the topic")?;
            let answer = Client::new(client)?
                .delete(&client.topic_path(topic, "/dead"))
                .await?;
            report(&answer, output, "discarded")
        }
    }
}

fn redrive(args: &RedriveArgs) -> Value {
    let mut filter = Map::new();
    if !args.ids.is_empty() {
        filter.insert("ids".to_owned(), json!(args.ids));
    }
    for (name, value) in [("reason", &args.reason), ("error_contains", &args.error_contains)] {
        if let Some(value) = value {
            filter.insert(name.to_owned(), json!(value));
        }
    }
    let mut body = json!({ "dry_run": args.dry_run });
    if !filter.is_empty() {
        body["filter"] = filter.into();
    }
    if let Some(topic) = &args.to_topic {
        body["to_topic"] = json!(topic);
    }
    if let Some(hook) = &args.hook {
        body["hook"] = json!(hook);
    }
    if let Some(rate) = args.rate {
        body["rate_per_s"] = json!(rate);
    }
    body
}
