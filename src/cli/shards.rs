//! `mqueue shards`: the shards, and moving slots between them.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::CliError;
use super::client::{Client, ClientArgs};
use super::output::{self, OutputArgs, cell, entries};

/// How often `--wait` looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ShardsArgs {
    #[command(subcommand)]
    command: Option<ShardsCommand>,
    #[command(flatten)]
    server: Server,
}

/// The server, and how its answer is shown.
#[derive(Debug, Args)]
struct Server {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum ShardsCommand {
    /// Move slots from one shard to another
    Move {
        /// The shard they are in, by its place in DATABASE_URLS, from 0
        #[arg(long)]
        from: u16,
        /// The shard they go to
        #[arg(long)]
        to: u16,
        /// How many of the 4096
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
        slots: u32,
        #[command(flatten)]
        how: How,
    },
    /// Move as many slots as it takes for every shard to hold the same number
    Balance {
        #[command(flatten)]
        how: How,
    },
}

#[derive(Debug, Args)]
struct How {
    /// Change nothing; tell what would be moved
    #[arg(long)]
    dry_run: bool,
    /// Wait until they have moved
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn run(args: &ShardsArgs) -> Result<(), CliError> {
    match &args.command {
        None => {
            let client = Client::new(&args.server.client)?;
            show(&args.server.output, &client.get("/v1/shards").await?)
        }
        Some(ShardsCommand::Move { from, to, slots, how }) => {
            begin(
                json!({"from": from, "to": to, "slots": slots, "dry_run": how.dry_run}),
                how,
            )
            .await
        }
        Some(ShardsCommand::Balance { how }) => {
            begin(json!({"balance": true, "dry_run": how.dry_run}), how).await
        }
    }
}

async fn begin(request: Value, how: &How) -> Result<(), CliError> {
    let client = Client::new(&how.server.client)?;
    let plan = client.post("/v1/shards/moves", &request).await?;
    if how.wait {
        wait(&client).await?;
    }
    if how.server.output.is_json() {
        return output::json(&plan);
    }
    let moves = entries(&plan, "moves");
    if moves.is_empty() {
        return output::line("there is nothing to move");
    }
    output::line(&table(moves, &["from", "to", "slots"]))
}

/// Waits until no slot is on its way.
async fn wait(client: &Client) -> Result<(), CliError> {
    loop {
        let answer = client.get("/v1/shards").await?;
        if entries(&answer, "moves").is_empty() {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn show(output: &OutputArgs, answer: &Value) -> Result<(), CliError> {
    if output.is_json() {
        return output::json(answer);
    }
    let columns = [
        "shard", "state", "slots", "topics", "items", "openings", "failure",
    ];
    output::line(&table(entries(answer, "shards"), &columns))?;
    let moves = entries(answer, "moves");
    if !moves.is_empty() {
        output::line("")?;
        output::line(&table(moves, &["from", "to", "state", "slots"]))?;
    }
    match answer.get("waits_for").and_then(Value::as_str) {
        Some(what) => output::line(&format!("waiting: {}", output::escaped(what))),
        None => Ok(()),
    }
}

fn table(rows: &[Value], columns: &[&str]) -> String {
    let row = |row: &Value| columns.iter().map(|column| cell(row, column)).collect();
    output::table(columns, rows.iter().map(row))
}
