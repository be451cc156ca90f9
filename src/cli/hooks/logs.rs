//! `mqueue hooks logs`: what a hook logged.

use clap::Args;
use serde_json::Value;

use super::super::CliError;
use super::super::client::Client;
use super::super::output::{self, OutputArgs, cell, entries};
use super::HookArgs;

#[derive(Debug, Args)]
pub(in crate::cli) struct LogsArgs {
    #[command(flatten)]
    hook: HookArgs,
    /// Go on with the lines to come
    #[arg(long, short)]
    follow: bool,
    /// Most lines
    #[arg(
        long,
        short,
        default_value_t = 100,
        value_name = "N",
        conflicts_with = "follow"
    )]
    limit: usize,
}

pub(super) async fn run(args: &LogsArgs) -> Result<(), CliError> {
    let client = Client::new(&args.hook.client)?;
    if !args.follow {
        let answer = client
            .get(&args.hook.path(&format!("/logs?limit={}", args.limit)))
            .await?;
        return entries(&answer, "lines")
            .iter()
            .try_for_each(|line| print(line, &args.hook.output));
    }
    // The server ends streams after a while: a follower comes back for what it has not seen.
    let mut seen = None;
    loop {
        let after = seen.map_or(String::new(), |seq: u64| format!("&after={seq}"));
        let path = args.hook.path(&format!("/logs?follow=true{after}"));
        client
            .follow(&path, |data| {
                // Other events than lines have no data of theirs.
                let Ok(line) = serde_json::from_str::<Value>(data) else {
                    return Ok(());
                };
                seen = line["seq"].as_u64().or(seen);
                print(&line, &args.hook.output)
            })
            .await?;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

fn print(line: &Value, output: &OutputArgs) -> Result<(), CliError> {
    if output.is_json() {
        return output::json_line(line);
    }
    let text = format!(
        "{} {:5} version {}: {}",
        cell(line, "at"),
        cell(line, "level"),
        cell(line, "version"),
        cell(line, "message"),
    );
    output::line(&output::escaped(&text))
}
