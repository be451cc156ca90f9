//! `mqueue ack`, `nack`, `extend`, `release` and `reject`: what becomes of leased items.

use std::io::BufRead;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use super::CliError;
use super::client::{Client, ClientArgs};
use super::output::{self, OutputArgs, cell, entries};
use crate::model::limits;

#[derive(Debug, Args)]
pub(super) struct Leases {
    /// Lease ids, as `mqueue dequeue` prints them; `-` reads them from standard input, one a line
    #[arg(required = true)]
    leases: Vec<String>,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(super) struct AckArgs {
    #[command(flatten)]
    leases: Leases,
}

#[derive(Debug, Args)]
pub(super) struct NackArgs {
    #[command(flatten)]
    leases: Leases,
    /// Deliver again after this time [default: the topic's backoff]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    delay: Option<Duration>,
    /// What went wrong
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ExtendArgs {
    #[command(flatten)]
    leases: Leases,
    /// How long from now [default: each item's own lease]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    lease: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    leases: Leases,
    /// Deliver again after this time [default: at once]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    delay: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct RejectArgs {
    #[command(flatten)]
    leases: Leases,
    /// What went wrong
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
}

pub(super) async fn ack(args: &AckArgs) -> Result<(), CliError> {
    settle(&args.leases, "/v1/ack", &[]).await
}

pub(super) async fn nack(args: &NackArgs) -> Result<(), CliError> {
    settle(
        &args.leases,
        "/v1/nack",
        &[
            ("delay_ms", ms(args.delay)),
            ("error", text(args.error.as_deref())),
        ],
    )
    .await
}

pub(super) async fn extend(args: &ExtendArgs) -> Result<(), CliError> {
    settle(&args.leases, "/v1/extend", &[("lease_ms", ms(args.lease))]).await
}

pub(super) async fn release(args: &ReleaseArgs) -> Result<(), CliError> {
    settle(&args.leases, "/v1/release", &[("delay_ms", ms(args.delay))]).await
}

pub(super) async fn reject(args: &RejectArgs) -> Result<(), CliError> {
    settle(
        &args.leases,
        "/v1/reject",
        &[("error", text(args.error.as_deref()))],
    )
    .await
}

fn ms(duration: Option<Duration>) -> Option<Value> {
    duration.map(|duration| json!(duration.as_millis() as u64))
}

fn text(text: Option<&str>) -> Option<Value> {
    text.map(Value::from)
}

/// Acks what `mqueue dequeue --ack` has printed.
pub(super) async fn ack_printed(client: &Client, leases: &[&str]) -> Result<(), CliError> {
    let answer = client.post("/v1/ack", &body(leases, &[])).await?;
    lost(entries(&answer, "results"))
}

async fn settle(args: &Leases, path: &str, fields: &[(&str, Option<Value>)]) -> Result<(), CliError> {
    let leases = given(&args.leases)?;
    let client = Client::new(&args.client)?;
    let mut all = Vec::new();
    for part in leases.chunks(limits::BATCH_ITEMS_MAX) {
        let answer = client.post(path, &body(part, fields)).await?;
        all.extend_from_slice(entries(&answer, "results"));
    }
    if args.output.is_json() {
        output::json(&all)?;
    } else {
        let columns = ["id", "status", "lease_expires_at"];
        let rows = all
            .iter()
            .map(|result| columns.iter().map(|column| cell(result, column)).collect());
        output::line(&output::table(&columns, rows))?;
    }
    lost(&all)
}

fn given(leases: &[String]) -> Result<Vec<String>, CliError> {
    if leases != ["-"] {
        return Ok(leases.to_vec());
    }
    let lines: Result<Vec<_>, _> = std::io::stdin().lock().lines().collect();
    let lines = lines.map_err(|error| CliError::failed("cannot read the lease ids", error))?;
    Ok(lines
        .into_iter()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect())
}

fn body<S: AsRef<str>>(leases: &[S], fields: &[(&str, Option<Value>)]) -> Value {
    let entry = |lease: &S| {
        let mut entry = Map::new();
        entry.insert("lease_id".to_owned(), lease.as_ref().into());
        for (name, value) in fields {
            if let Some(value) = value {
                entry.insert((*name).to_owned(), value.clone());
            }
        }
        Value::from(entry)
    };
    json!({ "leases": leases.iter().map(entry).collect::<Vec<_>>() })
}

/// Fails when a lease was lost: the work done under it may be done again.
fn lost(results: &[Value]) -> Result<(), CliError> {
    let lost = results
        .iter()
        .filter(|result| cell(result, "status") == "lease_lost")
        .count();
    match lost {
        0 => Ok(()),
        1 => Err(CliError::Partly(
            "1 lease was lost: its item is someone else's, or gone".into(),
        )),
        lost => Err(CliError::Partly(format!(
            "{lost} leases were lost: their items are someone else's, or gone"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_go_with_every_lease() {
        let fields = [("delay_ms", ms(Some(Duration::from_secs(5)))), ("error", None)];
        assert_eq!(
            body(&["a", "b"], &fields),
            json!({"leases": [{"lease_id": "a", "delay_ms": 5000}, {"lease_id": "b", "delay_ms": 5000}]})
        );
    }

    #[test]
    fn a_lost_lease_is_a_failure_and_a_repeated_ack_is_not() {
        assert!(lost(&[json!({"status": "ok"}), json!({"status": "already_done"})]).is_ok());
        assert_eq!(
            lost(&[json!({"status": "lease_lost"})]).unwrap_err().exit_code(),
            1
        );
    }
}
