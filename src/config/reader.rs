//! Reads single values out of the merged layers, and notes every value that is wrong.

use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use figment::Figment;
use figment::value::Value;
use secrecy::SecretString;
use serde::Serialize;

use super::variables::{is_live, is_secret};
use super::{ByteSize, Problem};

/// One key as `mqueue config show` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// `section.key`.
    pub key: String,
    /// The value as text; secrets are masked.
    pub value: String,
    /// Where it came from.
    pub source: String,
    /// Tells values apart, those of secrets too.
    #[serde(skip)]
    pub(super) digest: u64,
}

impl Entry {
    /// Whether a change of the key counts while the process runs.
    pub fn is_live(&self) -> bool {
        is_live(&self.key)
    }
}

/// Reads values by key. A wrong value is noted and a placeholder returned, so that one pass finds every
/// problem; the caller throws the result away when there are any.
pub(super) struct Reader<'a> {
    layers: &'a Figment,
    pub(super) entries: Vec<Entry>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Figment) -> Self {
        Self {
            layers,
            entries: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Reads `key` with `parse`, which returns what to change when the value is wrong.
    pub(super) fn value<T>(
        &mut self,
        key: &str,
        placeholder: T,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> T {
        let source = self.source(key);
        let Ok(value) = self.layers.find_value(key) else {
            self.problems.push(Problem {
                key: key.to_owned(),
                value: None,
                source,
                detail: "has no value".to_owned(),
            });
            return placeholder;
        };
        let shown = match key {
            "storage.database_urls" => masked_urls(&value),
            _ if is_secret(key) => masked(&value),
            _ => text_of(&value),
        };
        self.entries.push(Entry {
            key: key.to_owned(),
            value: shown.clone(),
            source: source.clone(),
            digest: digest(&value),
        });
        parse(&value).unwrap_or_else(|detail| {
            self.problems.push(Problem {
                key: key.to_owned(),
                value: Some(shown),
                source,
                detail,
            });
            placeholder
        })
    }

    /// Notes that the value of `key`, sound by itself, does not go with the others.
    pub(super) fn problem(&mut self, key: &str, detail: impl Into<String>) {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let (value, source) = match entry {
            Some(entry) => (Some(entry.value.clone()), entry.source.clone()),
            None => (None, self.source(key)),
        };
        self.problems.push(Problem {
            key: key.to_owned(),
            value,
            source,
            detail: detail.into(),
        });
    }

    fn source(&self, key: &str) -> String {
        let metadata = self.layers.find_metadata(key);
        metadata.map_or_else(|| "default".to_owned(), |found| found.name.to_string())
    }

    /// A whole number within `range`.
    pub(super) fn integer<T>(&mut self, key: &str, range: RangeInclusive<T>) -> T
    where
        T: Copy + PartialOrd + std::fmt::Display + TryFrom<i128>,
    {
        self.value(key, *range.start(), |value| {
            let number = match value {
                Value::String(_, text) => text.trim().replace('_', "").parse().ok(),
                other => other.to_i128().or_else(|| other.to_u128()?.try_into().ok()),
            };
            let number: i128 = number.ok_or_else(|| "not a whole number".to_owned())?;
            let fits = T::try_from(number).ok().filter(|number| range.contains(number));
            fits.ok_or_else(|| format!("must be between {} and {}", range.start(), range.end()))
        })
    }

    /// A number within `range`.
    pub(super) fn number(&mut self, key: &str, range: RangeInclusive<f64>) -> f64 {
        self.value(key, *range.start(), |value| {
            let number = match value {
                Value::String(_, text) => text.trim().parse().ok(),
                Value::Num(_, number) => number.to_f64().or_else(|| Some(value.to_i128()? as f64)),
                _ => None,
            };
            let number: f64 = number.ok_or_else(|| "not a number".to_owned())?;
            if range.contains(&number) {
                Ok(number)
            } else {
                Err(format!("must be between {} and {}", range.start(), range.end()))
            }
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str) -> bool {
        self.value(key, false, |value| match value {
            Value::Bool(_, flag) => Ok(*flag),
            Value::String(_, text) if matches!(text.trim(), "true" | "1") => Ok(true),
            Value::String(_, text) if matches!(text.trim(), "false" | "0") => Ok(false),
            _ => Err("must be true or false".to_owned()),
        })
    }

    /// A size within `range`, in bytes.
    pub(super) fn bytes(&mut self, key: &str, range: RangeInclusive<u64>) -> u64 {
        self.value(key, *range.start(), |value| {
            let ByteSize(bytes) = text_of(value).trim().parse().map_err(str::to_owned)?;
            if range.contains(&bytes) {
                return Ok(bytes);
            }
            let (least, most) = (ByteSize(*range.start()), ByteSize(*range.end()));
            Err(format!("must be between {least} and {most}"))
        })
    }

    /// A duration within `range`.
    pub(super) fn duration(&mut self, key: &str, range: RangeInclusive<Duration>) -> Duration {
        self.value(key, *range.start(), |value| duration(&text_of(value), &range))
    }

    /// A duration within `range`, or none for an empty string.
    pub(super) fn optional_duration(
        &mut self,
        key: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.value(key, None, |value| match text_of(value).trim() {
            "" => Ok(None),
            text => duration(text, &range).map(Some),
        })
    }

    /// A text, or none when it is empty.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.value(key, None, |value| match value {
            Value::Dict(..) | Value::Array(..) => Err("must be a text".to_owned()),
            other => Ok(Some(text_of(other)).filter(|text| !text.is_empty())),
        })
    }

    /// A path, or none when it is empty.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// A secret, or none when it is empty.
    pub(super) fn secret(&mut self, key: &str) -> Option<SecretString> {
        self.text(key).map(SecretString::from)
    }

    /// Secrets, given as a list or as a comma-separated text; blank ones are dropped.
    pub(super) fn secrets(&mut self, key: &str) -> Vec<SecretString> {
        self.value(key, Vec::new(), |value| match value {
            Value::Dict(..) => Err("must be a list or a comma-separated text".to_owned()),
            // In a list a comma is part of a secret.
            Value::Array(_, items) => Ok(items.iter().map(text_of).collect()),
            other => Ok(list_of(other)),
        })
        .into_iter()
        .filter(|secret| !secret.is_empty())
        .map(SecretString::from)
        .collect()
    }

    /// A list, given as such or as a comma-separated text; blank entries are dropped.
    pub(super) fn list(&mut self, key: &str) -> Vec<String> {
        self.value(key, Vec::new(), |value| match value {
            Value::Dict(..) => Err("must be a list or a comma-separated text".to_owned()),
            other => Ok(list_of(other)),
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: FromStr<Err = String>>(&mut self, key: &str, placeholder: T) -> T {
        self.value(key, placeholder, |value| text_of(value).trim().parse())
    }
}

fn digest(value: &Value) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    text_of(value).hash(&mut hasher);
    hasher.finish()
}

fn duration(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    const SYNTAX: &str = "not a duration with its unit, such as 500ms, 30s, 1m or 14days";
    let text = text.trim();
    let duration = humantime::parse_duration(text).map_err(|_| SYNTAX.to_owned())?;
    if range.contains(&duration) {
        return Ok(duration);
    }
    let [least, most] = [*range.start(), *range.end()].map(humantime::format_duration);
    Err(format!("must be between {least} and {most}"))
}

fn list_of(value: &Value) -> Vec<String> {
    match value {
        Value::Array(_, items) => items.iter().flat_map(list_of).collect(),
        other => {
            let text = text_of(other);
            let parts = text.split(',').map(str::trim);
            parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
        }
    }
}

/// The value as a person would write it.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(_, text) => text.clone(),
        Value::Char(_, c) => c.to_string(),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, number) => match (value.to_i128(), value.to_u128(), number.to_f64()) {
            (Some(number), ..) => number.to_string(),
            (_, Some(number), _) => number.to_string(),
            (.., Some(number)) => number.to_string(),
            _ => String::new(),
        },
        Value::Empty(..) => String::new(),
        Value::Array(_, items) => items.iter().map(text_of).collect::<Vec<_>>().join(","),
        Value::Dict(_, dict) => {
            let pairs = dict.iter().map(|(name, value)| match value {
                Value::Dict(..) => format!("{name}:{{{}}}", text_of(value)),
                _ => format!("{name}:{}", text_of(value)),
            });
            pairs.collect::<Vec<_>>().join(",")
        }
    }
}

/// What may be shown of a secret: that it is there.
fn masked(value: &Value) -> String {
    if text_of(value).is_empty() {
        String::new()
    } else {
        "****".to_owned()
    }
}

/// What may be shown of database URLs: where they lead.
fn masked_urls(value: &Value) -> String {
    let shown = list_of(value).into_iter().map(|url| match url.split_once("://") {
        Some((scheme, rest)) => {
            // Everything before the last '@' may be credentials, everything after '?' may hold a password.
            let place = rest.rsplit('@').next().unwrap_or_default();
            let place = place.split('?').next().unwrap_or_default();
            let hidden = if rest.contains('@') { "****@" } else { "" };
            format!("{scheme}://{hidden}{place}")
        }
        None => "****".to_owned(),
    });
    shown.collect::<Vec<_>>().join(",")
}
