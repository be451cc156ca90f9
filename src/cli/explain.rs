//! `mqueue explain`: why an item is not delivered.

use clap::Args;

use super::CliError;
use super::client::{Client, ClientArgs};
use super::output::{self, OutputArgs, cell, entries};
use crate::model::TopicName;

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The topic
    topic: TopicName,
    /// The item's id
    id: u64,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: &ExplainArgs) -> Result<(), CliError> {
    let path = args
        .client
        .topic_path(&args.topic, &format!("/items/{}/explain", args.id));
    let answer = Client::new(&args.client)?.get(&path).await?;
    if args.output.is_json() {
        return output::json(&answer);
    }
    let verdict = if answer["deliverable"] == true {
        "it can be delivered now"
    } else {
        "it is not delivered now"
    };
    output::line(&format!(
        "{}, delivery {} of {}: {verdict}",
        cell(&answer, "state"),
        cell(&answer, "attempt"),
        cell(&answer, "max_attempts")
    ))?;
    for reason in entries(&answer, "reasons") {
        output::line(&output::escaped(&format!("- {}", cell(reason, "detail"))))?;
    }
    Ok(())
}
