//! What a test expects of a hook, and the words for what is different.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::case::{Content, content};
use super::outcome::{Outcome, VerdictWord, instant};
use crate::clock::Timestamp;
use crate::hooks::Edit;
use crate::model::{PayloadKind, Side};

/// Longest excerpt of a payload in a message, in characters.
const EXCERPT_CHARS: usize = 160;

/// What a hook must say of an item; members that are absent are not looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The verdict; also `error`, `invalid`, `trap` and `timeout`, for hooks that must fail.
    pub verdict: VerdictWord,
    /// The code of its reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Box<str>>,
    /// The message of its reason, or a part of how it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Box<str>>,
    /// How long it defers the item, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u32>,
    /// The new payload, equal as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Box<RawValue>>,
    /// The new payload as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Box<str>>,
    /// The new payload as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<str>>,
    /// All headers, whatever their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<Box<str>, Box<str>>>,
    /// The new priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The new earliest delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_after: Option<Timestamp>,
    /// The topic it is sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<Box<str>>,
    /// The parts of a split, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<ExpectedItem>>,
}

/// One part of a split.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpectedItem {
    /// Its payload, equal as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Box<RawValue>>,
    /// Its payload as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Box<str>>,
    /// Its payload as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<str>>,
    /// All headers, whatever their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<Box<str>, Box<str>>>,
    /// Its priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Its earliest delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_after: Option<Timestamp>,
    /// The topic it is sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<Box<str>>,
}

impl Expected {
    /// Checks that a call on `side` can end so.
    ///
    /// # Errors
    /// The field and what to change.
    pub fn check(&self, side: Side) -> Result<(), String> {
        if !self.verdict.belongs_to(side) {
            return Err(format!(
                "verdict: `{}` is no verdict of {side} hooks",
                self.verdict
            ));
        }
        let whole = self.whole();
        whole.check()?;
        if self.items.is_some() && self.verdict != VerdictWord::Split {
            return Err("items: only a split has parts".to_owned());
        }
        if !whole.is_empty() && self.verdict == VerdictWord::Split {
            return Err("items: say what is expected of each part of the split here".to_owned());
        }
        for (at, item) in self.items.iter().flatten().enumerate() {
            item.check().map_err(|detail| format!("items[{at}].{detail}"))?;
        }
        Ok(())
    }

    /// What is different about `got`; nothing when it is as expected.
    pub fn mismatch(&self, got: &Outcome) -> Option<String> {
        if self.verdict != got.verdict {
            return Some(format!("expected {}, got {}", self.describe(), describe(got)));
        }
        let differs = |what: &str, expected: &str, got: Option<&str>| match got {
            Some(got) => format!("expected {what} `{}`, got `{}`", excerpt(expected), excerpt(got)),
            None => format!("expected {what} `{}`, got none", excerpt(expected)),
        };
        let reason = got.reason.as_ref();
        if let Some(code) = &self.code {
            let found = reason.map(|reason| &*reason.code);
            if found != Some(code) {
                let what = format!("{} with code", self.verdict);
                return Some(differs(&what, code, found));
            }
        }
        if let Some(message) = &self.message {
            let found = reason.map(|reason| &*reason.message).or(got.failure.as_deref());
            let fits = match reason {
                Some(reason) => reason.message == *message,
                None => found.is_some_and(|found| found.contains(&**message)),
            };
            if !fits {
                return Some(differs("the message", message, found));
            }
        }
        if let Some(delay_ms) = self.delay_ms
            && got.delay_ms != Some(delay_ms)
        {
            let found = got.delay_ms.map(|found| found.to_string());
            return Some(differs("delay_ms", &delay_ms.to_string(), found.as_deref()));
        }
        self.mismatch_in_parts(got)
    }

    fn mismatch_in_parts(&self, got: &Outcome) -> Option<String> {
        let Some(items) = &self.items else {
            let nothing = Edit::default();
            return self.whole().mismatch(got.edits.first().unwrap_or(&nothing));
        };
        if items.len() != got.edits.len() {
            let (expected, found) = (items.len(), got.edits.len());
            return Some(format!("expected a split into {expected}, got one into {found}"));
        }
        let mut parts = items.iter().zip(&got.edits).enumerate();
        parts.find_map(|(at, (item, edit))| {
            let mismatch = item.mismatch(edit)?;
            Some(format!("part {} of the split: {mismatch}", at + 1))
        })
    }

    fn whole(&self) -> ExpectedItem {
        ExpectedItem {
            json: self.json.clone(),
            text: self.text.clone(),
            payload: self.payload.clone(),
            headers: self.headers.clone(),
            priority: self.priority,
            deliver_after: self.deliver_after,
            topic: self.topic.clone(),
        }
    }

    fn describe(&self) -> String {
        match &self.code {
            Some(code) => format!("{} with code `{}`", self.verdict, excerpt(code)),
            None => self.verdict.to_string(),
        }
    }
}

impl ExpectedItem {
    fn content(&self) -> Result<Option<Content>, String> {
        content(
            self.json.as_deref(),
            self.text.as_deref(),
            self.payload.as_deref(),
        )
    }

    fn check(&self) -> Result<(), String> {
        self.content().map(|_| ())
    }

    fn is_empty(&self) -> bool {
        let has_payload = self.json.is_some() || self.text.is_some() || self.payload.is_some();
        let has_place = self.priority.is_some() || self.deliver_after.is_some() || self.topic.is_some();
        !has_payload && !has_place && self.headers.is_none()
    }

    fn mismatch(&self, got: &Edit) -> Option<String> {
        if let Err(detail) = self.check() {
            return Some(detail);
        }
        if let Ok(Some((kind, expected))) = self.content() {
            let found = got.payload.as_deref();
            if !found.is_some_and(|found| same_payload(kind, &expected, found)) {
                return Some(differs("the payload", &expected, found));
            }
        }
        if let Some(expected) = &self.headers {
            let found = got.headers.as_ref();
            let found: Option<BTreeMap<_, _>> = found.map(|found| found.iter().cloned().collect());
            if found.as_ref() != Some(expected) {
                let text =
                    |headers: &BTreeMap<Box<str>, Box<str>>| serde_json::to_vec(headers).unwrap_or_default();
                let found = found.as_ref().map(text);
                return Some(differs("the headers", &text(expected), found.as_deref()));
            }
        }
        let number = |what: &str, expected: Option<String>, found: Option<String>| {
            let expected = expected?;
            (Some(&expected) != found.as_ref())
                .then(|| differs(what, expected.as_bytes(), found.as_deref().map(str::as_bytes)))
        };
        let text = |priority: i32| priority.to_string();
        number("the priority", self.priority.map(text), got.priority.map(text))
            .or_else(|| {
                let expected = self.deliver_after.map(|at| at.to_string());
                let found = got.deliver_after.map(|ms| instant(ms).to_string());
                number("deliver_after", expected, found)
            })
            .or_else(|| {
                let text = |topic: &Option<Box<str>>| topic.as_deref().map(str::to_owned);
                number("the topic", text(&self.topic), text(&got.topic))
            })
    }
}

fn differs(what: &str, expected: &[u8], found: Option<&[u8]>) -> String {
    let expected = excerpt(&String::from_utf8_lossy(expected));
    match found {
        Some(found) => {
            let found = excerpt(&String::from_utf8_lossy(found));
            format!("expected {what} to be `{expected}`, got `{found}`")
        }
        None => format!("expected {what} to be `{expected}`, but the hook leaves it as it is"),
    }
}

fn same_payload(kind: PayloadKind, expected: &[u8], found: &[u8]) -> bool {
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    match kind {
        PayloadKind::Json => json(expected).is_some_and(|expected| json(found) == Some(expected)),
        PayloadKind::Bytes | PayloadKind::Text => expected == found,
    }
}

/// `reject with code `no-email``, `trap (unreachable)`.
fn describe(got: &Outcome) -> String {
    match (&got.reason, &got.failure) {
        (Some(reason), _) => format!("{} with code `{}`", got.verdict, excerpt(&reason.code)),
        (None, Some(failure)) => format!("{} ({})", got.verdict, excerpt(failure)),
        (None, None) => got.verdict.to_string(),
    }
}

/// The beginning of `text`, fit for one line.
fn excerpt(text: &str) -> String {
    let harmless = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(EXCERPT_CHARS).map(harmless).collect();
    if short.len() < text.len() && text.chars().nth(EXCERPT_CHARS).is_some() {
        short.push('…');
    }
    short
}
