//! `mqueue pause`, `resume` and `purge`: what an administrator does to a topic.

use clap::Args;
use serde_json::{Value, json};

use super::CliError;
use super::client::{Client, ClientArgs};
use super::output::{self, OutputArgs};
use crate::model::TopicName;

#[derive(Debug, Args)]
pub(super) struct TopicArgs {
    /// The topic
    topic: TopicName,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(super) struct PurgeArgs {
    #[command(flatten)]
    topic: TopicArgs,
    /// Yes, delete them
    #[arg(long)]
    yes: bool,
}

pub(super) async fn pause(args: &TopicArgs) -> Result<(), CliError> {
    post(args, "/pause", "paused").await
}

pub(super) async fn resume(args: &TopicArgs) -> Result<(), CliError> {
    post(args, "/resume", "resumed").await
}

pub(super) async fn purge(args: &PurgeArgs) -> Result<(), CliError> {
    confirmed(args.yes, "this deletes every waiting item of the topic")?;
    post(&args.topic, "/purge", "purged").await
}

async fn post(args: &TopicArgs, verb: &str, done: &str) -> Result<(), CliError> {
    let client = Client::new(&args.client)?;
    let answer = client
        .post(&args.client.topic_path(&args.topic, verb), &json!({}))
        .await?;
    report(&answer, &args.output, &format!("{} {done}", args.topic))
}

/// Refuses what cannot be taken back unless `--yes` was given.
pub(super) fn confirmed(yes: bool, what: &str) -> Result<(), CliError> {
    if yes {
        Ok(())
    } else {
        Err(CliError::Usage(format!("{what}; repeat with --yes")))
    }
}

/// Prints what the server said of an administrator's act.
pub(super) fn report(answer: &Value, output: &OutputArgs, done: &str) -> Result<(), CliError> {
    if output.is_json() {
        return output::json(answer);
    }
    let numbers = answer
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.is_number());
    let numbers: Vec<_> = numbers.map(|(name, value)| format!("{name} {value}")).collect();
    if numbers.is_empty() {
        output::line(done)
    } else {
        output::line(&format!("{done}: {}", numbers.join(", ")))
    }
}
