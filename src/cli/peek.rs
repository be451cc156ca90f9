//! `mqueue peek`: looks at items without leasing them.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::CliError;
use super::client::{Client, ClientArgs};
use super::output::{self, OutputArgs, cell, entries};
use crate::model::TopicName;

/// Items asked for at once.
const PAGE: usize = 100;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Ready,
    Scheduled,
    Leased,
    Dead,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Scheduled => "scheduled",
            Self::Leased => "leased",
            Self::Dead => "dead",
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct PeekArgs {
    /// The topic
    topic: TopicName,
    /// Which items
    #[arg(long, value_enum, default_value = "ready")]
    state: State,
    /// Most items
    #[arg(long, short, default_value_t = 10, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: &PeekArgs) -> Result<(), CliError> {
    let client = Client::new(&args.client)?;
    let path = args.client.topic_path(&args.topic, "/items");
    let query = format!("state={}", args.state.word());
    list(&client, &path, &query, args.limit, &args.output).await
}

/// Prints up to `limit` items of a list, page after page.
pub(super) async fn list(
    client: &Client,
    path: &str,
    query: &str,
    limit: usize,
    output: &OutputArgs,
) -> Result<(), CliError> {
    let columns = [
        "id",
        "priority",
        "state",
        "attempt",
        "deliver_after",
        "last_error",
    ];
    let mut rows = Vec::new();
    let mut cursor = String::new();
    let mut left = limit;
    while left > 0 {
        let answer = client
            .get(&format!("{path}?{query}&limit={}{cursor}", left.min(PAGE)))
            .await?;
        let items = entries(&answer, "items");
        for item in items.iter().take(left) {
            if output.is_json() {
                output::json_line(item)?;
            } else {
                let mut row: Vec<_> = columns.iter().map(|column| cell(item, column)).collect();
                row.push(shortened(&output::payload(item)));
                rows.push(row);
            }
        }
        left = left.saturating_sub(items.len());
        match answer.get("next_cursor").and_then(Value::as_str) {
            Some(next) if !items.is_empty() => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    if output.is_json() {
        return Ok(());
    }
    let header: Vec<_> = columns.into_iter().chain(["payload"]).collect();
    output::line(&output::table(&header, rows))
}

fn shortened(text: &str) -> String {
    const CHARACTERS: usize = 60;
    match text.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
