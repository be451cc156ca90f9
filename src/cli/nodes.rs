//! `mqueue nodes`: the nodes and when they were last heard of.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::CliError;
use super::client::{Client, ClientArgs};
use super::output::{self, OutputArgs, cell, entries};
use super::topic::confirmed;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct NodesArgs {
    #[command(subcommand)]
    command: Option<NodesCommand>,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum NodesCommand {
    /// Forget a node that is away for good; what only its log has is lost
    Forget {
        /// Its number
        node: u16,
        /// Yes, forget it
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
}

pub(super) async fn run(args: &NodesArgs) -> Result<(), CliError> {
    if let Some(NodesCommand::Forget { node, yes, client }) = &args.command {
        confirmed(*yes, "what only this node's log has is lost")?;
        let client = Client::new(client)?;
        client.delete(&format!("/v1/nodes/{node}")).await?;
        return output::line(&format!("node {node} is forgotten"));
    }
    let answer = Client::new(&args.client)?.get("/v1/nodes").await?;
    if args.output.is_json() {
        return output::json(&answer);
    }
    output::line(&rendered(&answer))
}

fn rendered(answer: &Value) -> String {
    let columns = ["node", "state", "address", "version", "started_at", "silent_ms"];
    let rows = entries(answer, "nodes").iter();
    let rows = rows.map(|node| columns.iter().map(|column| cell(node, column)).collect());
    output::table(&columns, rows)
}
