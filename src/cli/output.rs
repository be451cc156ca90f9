//! What commands print.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::CliError;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// For programs: one JSON value, or one a line for streams of items
    Json,
}

#[derive(Debug, Clone, Args)]
pub(super) struct OutputArgs {
    /// How to print results
    #[arg(long, short, value_enum, default_value = "table", value_name = "FORMAT")]
    pub(super) output: Format,
}

impl OutputArgs {
    pub(super) fn is_json(&self) -> bool {
        self.output == Format::Json
    }
}

/// Prints one line, or several.
pub(super) fn line(text: &str) -> Result<(), CliError> {
    written(writeln!(io::stdout().lock(), "{text}"))
}

pub(super) fn written(result: io::Result<()>) -> Result<(), CliError> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::Closed,
        _ => CliError::failed("cannot print", error),
    })
}

/// Prints a JSON value over several lines.
pub(super) fn json(value: &impl serde::Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value);
    line(&text.map_err(|error| CliError::failed("cannot print", error))?)
}

/// Prints a JSON value on one line.
pub(super) fn json_line(value: &Value) -> Result<(), CliError> {
    line(&value.to_string())
}

/// Renders a table; cells are escaped.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    let mut style = comfy_table::presets::ASCII_NO_BORDERS;
    style.row_separator = comfy_table::LineStyle::none();
    table.load_style(style);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| escaped(cell)));
    }
    table.trim_fmt()
}

/// The text with control characters as escapes, so that what producers wrote cannot speak to a terminal.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A field as a table's cell: text without its quotes, nothing for null or absence.
pub(super) fn cell(object: &Value, field: &str) -> String {
    // Lists of topics may keep the numbers in an object of their own.
    let nested = object.get("stats").and_then(|stats| stats.get(field));
    match object.get(field).or(nested) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(float) if number.is_f64() => format!("{float:.1}"),
            _ => number.to_string(),
        },
        Some(other) => other.to_string(),
    }
}

/// An item's payload for people: as text when it is text.
pub(super) fn payload(item: &Value) -> String {
    if let Some(json) = item.get("json") {
        return json.to_string();
    }
    if let Some(text) = item.get("text").and_then(Value::as_str) {
        return text.to_owned();
    }
    let encoded = item.get("payload").and_then(Value::as_str).unwrap_or_default();
    let bytes = base64_simd::STANDARD.decode_to_vec(encoded).unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => format!("{} bytes, base64 {encoded}", error.as_bytes().len()),
    }
}

/// The array under `field`, empty when there is none.
pub(super) fn entries<'a>(answer: &'a Value, field: &str) -> &'a [Value] {
    answer
        .get(field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn payloads_are_shown_as_given() {
        assert_eq!(payload(&json!({"payload": "aGk="})), "hi");
        assert_eq!(payload(&json!({"text": "hi"})), "hi");
        assert_eq!(payload(&json!({"json": {"a": null}})), r#"{"a":null}"#);
        assert_eq!(payload(&json!({"payload": "/w=="})), "1 bytes, base64 /w==");
    }

    #[test]
    fn cells_are_found_and_escaped() {
        let topic = json!({"topic": "a", "stats": {"ready": 3, "acked_per_s": 0.25}});
        assert_eq!(cell(&topic, "ready"), "3");
        assert_eq!(cell(&topic, "acked_per_s"), "0.2");
        assert_eq!(cell(&topic, "nothing"), "");
        let text = table(&["a"], [vec!["x\u{1b}[2J".to_owned()]]);
        assert!(text.contains(r"x\u{1b}[2J"), "{text}");
    }
}
