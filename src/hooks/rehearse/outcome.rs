//! What a hook said of one item, in one form for both sides.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::diff::PayloadDiff;
use crate::clock::Timestamp;
use crate::hooks::{DequeueVerdict, Edit, EnqueueVerdict, Failure, HookItem, Reason, Report, Verdicts};
use crate::model::{PayloadKind, Side};

/// A verdict or a failure, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictWord {
    /// Enqueue: store it as it is.
    Keep,
    /// Enqueue: store it with another payload.
    Replace,
    /// Enqueue: store it changed.
    Edit,
    /// Enqueue: store several in its place.
    Split,
    /// Enqueue: refuse it.
    Reject,
    /// Dequeue: hand it out as it is.
    Deliver,
    /// Dequeue: hand out another payload.
    DeliverAs,
    /// Dequeue: hand it out changed.
    DeliverEdited,
    /// Dequeue: not now.
    Defer,
    /// Both: say yes and forget it.
    Drop,
    /// Both: make it a dead letter.
    DeadLetter,
    /// The hook said that it failed on the item.
    Error,
    /// What it gave back is not valid.
    Invalid,
    /// It trapped.
    Trap,
    /// It ran out of time.
    Timeout,
    /// It was not run.
    Overload,
}

impl VerdictWord {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Replace => "replace",
            Self::Edit => "edit",
            Self::Split => "split",
            Self::Reject => "reject",
            Self::Deliver => "deliver",
            Self::DeliverAs => "deliver_as",
            Self::DeliverEdited => "deliver_edited",
            Self::Defer => "defer",
            Self::Drop => "drop",
            Self::DeadLetter => "dead_letter",
            Self::Error => "error",
            Self::Invalid => "invalid",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Overload => "overload",
        }
    }

    /// Whether a call on `side` can end so.
    pub const fn belongs_to(self, side: Side) -> bool {
        match self {
            Self::Keep | Self::Replace | Self::Edit | Self::Split | Self::Reject => {
                matches!(side, Side::Enqueue)
            }
            Self::Deliver | Self::DeliverAs | Self::DeliverEdited | Self::Defer => {
                matches!(side, Side::Dequeue)
            }
            _ => true,
        }
    }
}

impl fmt::Display for VerdictWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a hook said of one item, or how it failed on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict.
    pub verdict: VerdictWord,
    /// Why, where verdicts have a reason.
    pub reason: Option<Reason>,
    /// How it failed.
    pub failure: Option<String>,
    /// How long it is deferred, in milliseconds.
    pub delay_ms: Option<u32>,
    /// The changes: one for an edit of any kind, one per part of a split.
    pub edits: Vec<Edit>,
}

impl Outcome {
    fn new(verdict: VerdictWord) -> Self {
        Self {
            verdict,
            reason: None,
            failure: None,
            delay_ms: None,
            edits: vec![],
        }
    }

    fn because(verdict: VerdictWord, reason: &Reason) -> Self {
        Self {
            reason: Some(reason.clone()),
            ..Self::new(verdict)
        }
    }

    /// A failure.
    pub(in crate::hooks) fn failed(verdict: VerdictWord, failure: String) -> Self {
        Self {
            failure: Some(failure),
            ..Self::new(verdict)
        }
    }

    fn changed(verdict: VerdictWord, edits: Vec<Edit>) -> Self {
        Self {
            edits,
            ..Self::new(verdict)
        }
    }

    /// What `report`, of a call with one item, says of it.
    pub fn of(report: &Report) -> Self {
        let said = match &report.outcome {
            Err(failure) => {
                let word = match failure {
                    Failure::Invalid(_) => VerdictWord::Invalid,
                    Failure::Trap(_) => VerdictWord::Trap,
                    Failure::Timeout(_) => VerdictWord::Timeout,
                    Failure::Overload { .. } => VerdictWord::Overload,
                };
                return Self::failed(word, failure.to_string());
            }
            Ok(Verdicts::Kept(side, _)) => {
                return Self::new(match side {
                    Side::Enqueue => VerdictWord::Keep,
                    Side::Dequeue => VerdictWord::Deliver,
                });
            }
            Ok(Verdicts::Enqueue(verdicts)) => {
                verdicts.first().map(|said| said.as_ref().map(Self::of_enqueue))
            }
            Ok(Verdicts::Dequeue(verdicts)) => {
                verdicts.first().map(|said| said.as_ref().map(Self::of_dequeue))
            }
        };
        match said {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => Self::failed(VerdictWord::Error, error.clone()),
            None => Self::failed(VerdictWord::Invalid, "the hook gave no verdict".to_owned()),
        }
    }

    /// What an enqueue hook said.
    pub(in crate::hooks) fn of_enqueue(verdict: &EnqueueVerdict) -> Self {
        match verdict {
            EnqueueVerdict::Keep => Self::new(VerdictWord::Keep),
            EnqueueVerdict::Replace(payload) => Self::changed(VerdictWord::Replace, vec![replacing(payload)]),
            EnqueueVerdict::Edit(edit) => Self::changed(VerdictWord::Edit, vec![edit.clone()]),
            EnqueueVerdict::Split(edits) => Self::changed(VerdictWord::Split, edits.clone()),
            EnqueueVerdict::Drop(reason) => Self::because(VerdictWord::Drop, reason),
            EnqueueVerdict::Reject(reason) => Self::because(VerdictWord::Reject, reason),
            EnqueueVerdict::DeadLetter(reason) => Self::because(VerdictWord::DeadLetter, reason),
        }
    }

    /// What a dequeue hook said.
    pub(in crate::hooks) fn of_dequeue(verdict: &DequeueVerdict) -> Self {
        match verdict {
            DequeueVerdict::Deliver => Self::new(VerdictWord::Deliver),
            DequeueVerdict::DeliverAs(payload) => {
                Self::changed(VerdictWord::DeliverAs, vec![replacing(payload)])
            }
            DequeueVerdict::DeliverEdited(edit) => {
                Self::changed(VerdictWord::DeliverEdited, vec![edit.clone()])
            }
            DequeueVerdict::Defer(delay_ms) => Self {
                delay_ms: Some(*delay_ms),
                ..Self::new(VerdictWord::Defer)
            },
            DequeueVerdict::Drop(reason) => Self::because(VerdictWord::Drop, reason),
            DequeueVerdict::DeadLetter(reason) => Self::because(VerdictWord::DeadLetter, reason),
        }
    }

    /// The outcome as users see it, beside the item it is about.
    pub fn view(&self, original: &HookItem) -> OutcomeView {
        OutcomeView {
            verdict: self.verdict,
            reason: self.reason.as_ref().map(|reason| ReasonView {
                code: reason.code.clone(),
                message: reason.message.clone(),
            }),
            failure: self.failure.clone(),
            delay_ms: self.delay_ms,
            changes: self
                .edits
                .iter()
                .map(|edit| ChangeView::new(edit, original))
                .collect(),
        }
    }
}

fn replacing(payload: &[u8]) -> Edit {
    Edit {
        payload: Some(payload.into()),
        ..Edit::default()
    }
}

/// An outcome as users see it.
#[derive(Debug, Clone, Serialize)]
pub struct OutcomeView {
    /// The verdict.
    pub verdict: VerdictWord,
    /// Why, where verdicts have a reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<ReasonView>,
    /// How it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How long it is deferred, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u32>,
    /// What changes: one entry per item that would be stored or handed out in its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ChangeView>,
}

/// A reason as users see it.
#[derive(Debug, Clone, Serialize)]
pub struct ReasonView {
    /// For machines.
    pub code: Box<str>,
    /// For people.
    pub message: Box<str>,
}

/// What a hook would change about an item; what is absent stays. A new payload is shown in the form the
/// item's own has, or as base64 where it does not fit it.
#[derive(Debug, Clone, Serialize)]
pub struct ChangeView {
    /// The new payload, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Box<RawValue>>,
    /// The new payload, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The new payload, as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// How it differs from the item's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<PayloadDiff>,
    /// All headers anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<Box<str>, Box<str>>>,
    /// The new priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The new earliest delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_after: Option<Timestamp>,
    /// The topic it goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<Box<str>>,
}

impl ChangeView {
    fn new(edit: &Edit, original: &HookItem) -> Self {
        let payload = edit.payload.as_deref();
        let kind = original.item.kind;
        let unicode = payload.and_then(|bytes| std::str::from_utf8(bytes).ok());
        let json: Option<Box<RawValue>> = unicode
            .filter(|_| kind == PayloadKind::Json)
            .and_then(|text| serde_json::from_str(text).ok());
        let text = unicode.filter(|_| json.is_none() && kind != PayloadKind::Bytes);
        let shown = json.is_some() || text.is_some();
        Self {
            text: text.map(str::to_owned),
            json,
            payload: payload
                .filter(|_| !shown)
                .map(|bytes| base64_simd::STANDARD.encode_to_string(bytes)),
            diff: payload.map(|after| PayloadDiff::between(&original.item.payload, after)),
            headers: edit
                .headers
                .as_ref()
                .map(|headers| headers.iter().cloned().collect()),
            priority: edit.priority,
            deliver_after: edit.deliver_after.map(instant),
            topic: edit.topic.clone(),
        }
    }
}

/// Milliseconds as guests give them, kept within what an instant can be.
pub(super) fn instant(ms: u64) -> Timestamp {
    Timestamp::from_ms(i64::try_from(ms).unwrap_or(i64::MAX)).min(Timestamp::MAX)
}
