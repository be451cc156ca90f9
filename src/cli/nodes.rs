//! `mqueue nodes`: the nodes and when they were last heard of.

use clap::Args;

use super::CliError;
use super::client::{Client, ClientArgs};
use super::output::{self, OutputArgs, cell, entries};

#[derive(Debug, Args)]
pub(super) struct NodesArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: &NodesArgs) -> Result<(), CliError> {
    let answer = Client::new(&args.client)?.get("/v1/nodes").await?;
    if args.output.is_json() {
        return output::json(&answer);
    }
    let columns = ["node", "state", "address", "version", "started_at", "silent_ms"];
    let rows = entries(&answer, "nodes").iter();
    let rows = rows.map(|node| columns.iter().map(|column| cell(node, column)).collect());
    output::line(&output::table(&columns, rows))
}
