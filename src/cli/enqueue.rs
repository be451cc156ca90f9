//! `mqueue enqueue`: hands items in, one or a line each.

use std::io::{BufRead, Read};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use super::CliError;
use super::client::{Client, ClientArgs};
use super::output::{self, OutputArgs, cell, entries};
use crate::model::{TopicName, limits};

/// Items and bytes of payload sent in one request: below the server's default limits with room for the
/// encoding.
const BATCH_ITEMS: usize = 500;
const BATCH_BYTES: usize = 2 << 20;

#[derive(Debug, Args)]
pub(super) struct EnqueueArgs {
    /// The topic
    topic: TopicName,
    /// The payload; `-` reads standard input, `@FILE` a file
    #[arg(default_value = "-")]
    payload: String,
    /// The payload is JSON
    #[arg(long, conflicts_with = "text")]
    json: bool,
    /// The payload is text; without --json and --text it is, when it is valid UTF-8, and bytes otherwise
    #[arg(long)]
    text: bool,
    /// Every line of the payload is an item (with --json: NDJSON)
    #[arg(long, conflicts_with = "key")]
    lines: bool,
    /// Smaller goes first [default: the topic's]
    #[arg(long, short, allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Deliver no earlier than in this time
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    delay: Option<Duration>,
    /// Do not deliver later than in this time
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// How long a delivery is one consumer's
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    lease: Option<Duration>,
    /// Deliveries after which the item is a dead letter
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Idempotency key: the same key within the topic's window is the same item
    #[arg(long)]
    key: Option<String>,
    /// Header of the item; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    header: Vec<String>,
    /// Media type of the payload
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Answer only when the items are committed in their shard, not just in the log
    #[arg(long)]
    stored: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: &EnqueueArgs) -> Result<(), CliError> {
    let template = template(args)?;
    let client = Client::new(&args.client)?;
    let mut sender = Sender {
        args,
        client,
        refused: 0,
    };
    let mut input = open(&args.payload)?;
    if args.lines {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(line) = next_line(&mut input)? {
            bytes += line.len();
            batch.push(item(args, &template, line)?);
            if batch.len() == BATCH_ITEMS || bytes >= BATCH_BYTES {
                sender.send(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            sender.send(batch).await?;
        }
    } else {
        let mut payload = Vec::new();
        let mut limited = input.take(limits::BODY_BYTES_MAX as u64 + 1);
        limited
            .read_to_end(&mut payload)
            .map_err(|error| CliError::failed("cannot read the payload", error))?;
        sender.send(vec![item(args, &template, payload)?]).await?;
    }
    match sender.refused {
        0 => Ok(()),
        1 => Err(CliError::Partly("1 item was not accepted".into())),
        refused => Err(CliError::Partly(format!("{refused} items were not accepted"))),
    }
}

struct Sender<'a> {
    args: &'a EnqueueArgs,
    client: Client,
    refused: usize,
}

impl Sender<'_> {
    async fn send(&mut self, items: Vec<Value>) -> Result<(), CliError> {
        let mut body = json!({ "items": items });
        if self.args.stored {
            body["durability"] = json!("stored");
        }
        let path = self.args.client.topic_path(&self.args.topic, "/enqueue");
        let answer = self.client.post(&path, &body).await?;
        for result in entries(&answer, "results") {
            let status = cell(result, "status");
            if status == "rejected" {
                self.refused += 1;
            }
            if self.args.output.is_json() {
                output::json_line(result)?;
            } else {
                output::line(output::escaped(&summary(result)).trim())?;
            }
        }
        Ok(())
    }
}

/// One result on a line: the id or what a hook split the item into, what became of it, who decided and why.
fn summary(result: &Value) -> String {
    let ids = match result.get("ids").and_then(Value::as_array) {
        Some(ids) => ids.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        None => cell(result, "id"),
    };
    let mut line = format!("{ids} {}", cell(result, "status"));
    for field in ["reason", "code", "detail"] {
        let text = cell(result, field);
        if !text.is_empty() {
            line = format!("{line} {text}");
        }
    }
    match result.get("hook").and_then(Value::as_str) {
        Some(hook) => format!("{line} ({hook})"),
        None => line,
    }
}

/// What all items of the command share.
fn template(args: &EnqueueArgs) -> Result<Map<String, Value>, CliError> {
    let mut item = Map::new();
    let ms = |duration: Duration| json!(duration.as_millis() as u64);
    let fields = [
        ("priority", args.priority.map(Value::from)),
        ("delay_ms", args.delay.map(ms)),
        ("ttl_ms", args.ttl.map(ms)),
        ("lease_ms", args.lease.map(ms)),
        ("max_attempts", args.max_attempts.map(Value::from)),
        ("idempotency_key", args.key.clone().map(Value::from)),
        ("content_type", args.content_type.clone().map(Value::from)),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            item.insert(name.to_owned(), value);
        }
    }
    let mut headers = Map::new();
    for header in &args.header {
        let Some((name, value)) = header.split_once('=') else {
            return Err(CliError::Usage(format!("--header {header} is not name=value")));
        };
        headers.insert(name.to_owned(), value.into());
    }
    if !headers.is_empty() {
        item.insert("headers".to_owned(), headers.into());
    }
    Ok(item)
}

fn item(args: &EnqueueArgs, template: &Map<String, Value>, payload: Vec<u8>) -> Result<Value, CliError> {
    let mut item = template.clone();
    let (field, value) = if args.json {
        let value = serde_json::from_slice(&payload);
        (
            "json",
            value.map_err(|error| CliError::Usage(format!("the payload is not JSON: {error}")))?,
        )
    } else {
        match String::from_utf8(payload) {
            Ok(text) => ("text", text.into()),
            Err(_) if args.text => return Err(CliError::Usage("the payload is not UTF-8 text".to_owned())),
            Err(error) => (
                "payload",
                base64_simd::STANDARD.encode_to_string(error.as_bytes()).into(),
            ),
        }
    };
    item.insert(field.to_owned(), value);
    Ok(item.into())
}

fn open(payload: &str) -> Result<Box<dyn BufRead>, CliError> {
    if payload == "-" {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let Some(path) = payload.strip_prefix('@') else {
        return Ok(Box::new(std::io::Cursor::new(payload.as_bytes().to_vec())));
    };
    let file = std::fs::File::open(Path::new(path));
    let file = file.map_err(|error| CliError::failed(format!("cannot read {path}"), error))?;
    Ok(Box::new(std::io::BufReader::new(file)))
}

/// The next line that is not empty, without its end.
fn next_line(input: &mut dyn BufRead) -> Result<Option<Vec<u8>>, CliError> {
    loop {
        let mut line = Vec::new();
        let limit = limits::BODY_BYTES_MAX as u64;
        let read = input.take(limit).read_until(b'\n', &mut line);
        if read.map_err(|error| CliError::failed("cannot read the payload", error))? == 0 {
            return Ok(None);
        }
        let end = line
            .iter()
            .rposition(|byte| !matches!(byte, b'\n' | b'\r'))
            .map_or(0, |at| at + 1);
        line.truncate(end);
        if !line.is_empty() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: EnqueueArgs,
    }

    fn args(line: &[&str]) -> EnqueueArgs {
        Line::try_parse_from(["enqueue", "orders"].iter().chain(line))
            .unwrap()
            .args
    }

    fn item_of(line: &[&str], payload: &[u8]) -> Result<Value, CliError> {
        let args = args(line);
        item(&args, &template(&args)?, payload.to_vec())
    }

    #[test]
    fn payloads_take_the_form_they_have() {
        assert_eq!(item_of(&[], b"hi").unwrap(), json!({"text": "hi"}));
        assert_eq!(item_of(&[], b"\xff").unwrap(), json!({"payload": "/w=="}));
        assert_eq!(
            item_of(&["--json"], b"{\"a\":1}").unwrap(),
            json!({"json": {"a": 1}})
        );
        assert!(matches!(item_of(&["--json"], b"{"), Err(CliError::Usage(_))));
        assert!(matches!(item_of(&["--text"], b"\xff"), Err(CliError::Usage(_))));
    }

    #[test]
    fn results_say_who_decided() {
        let split = json!({"id": "1", "ids": ["1", "2"], "status": "accepted"});
        assert_eq!(summary(&split), "1,2 accepted");
        let rejected = json!({
            "status": "rejected", "reason": "hook_rejected", "code": "schema", "detail": "no total", "hook": "check@3"
        });
        assert_eq!(
            summary(&rejected).trim(),
            "rejected hook_rejected schema no total (check@3)"
        );
    }

    #[test]
    fn flags_become_fields() {
        let line = [
            "--priority",
            "-5",
            "--delay",
            "1m",
            "--ttl",
            "1h",
            "--key",
            "k",
            "--header",
            "a=b=c",
        ];
        assert_eq!(
            item_of(&line, b"x").unwrap(),
            json!({
                "text": "x", "priority": -5, "delay_ms": 60_000, "ttl_ms": 3_600_000,
                "idempotency_key": "k", "headers": {"a": "b=c"}
            })
        );
    }

    #[test]
    fn lines_are_items_and_blank_ones_are_not() {
        let mut input: Box<dyn BufRead> = Box::new(std::io::Cursor::new(b"one\r\n\n two\nlast".to_vec()));
        let lines: Vec<_> = std::iter::from_fn(|| next_line(&mut *input).unwrap()).collect();
        assert_eq!(lines, [b"one".to_vec(), b" two".to_vec(), b"last".to_vec()]);
    }
}
