//! Long operations: work on many items that goes on after the request that ordered it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{DeadReason, HookRef, ItemId, ItemState, TopicName, limits};
use crate::clock::Timestamp;

/// What an operation does, within one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// Removes every live item of a topic.
    Purge {
        /// The topic.
        topic: TopicName,
    },
    /// Removes every dead letter of a topic.
    DiscardDead {
        /// The topic.
        topic: TopicName,
    },
    /// Removes items of a topic that nobody holds, one by one.
    Cancel {
        /// The topic.
        topic: TopicName,
        /// Which states are looked through: scheduled, ready, dead.
        states: Vec<ItemState>,
        /// Which items.
        filter: ItemFilter,
        /// At most this many.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
        /// At most this many per second; as fast as possible when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        rate_per_s: Option<u32>,
    },
    /// Brings dead letters of a topic back.
    Redrive {
        /// The topic.
        topic: TopicName,
        /// Which dead letters.
        filter: ItemFilter,
        /// Into another topic; each item gets a new id there.
        #[serde(skip_serializing_if = "Option::is_none")]
        to_topic: Option<TopicName>,
        /// At most this many.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
        /// At most this many per second; as fast as possible when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        rate_per_s: Option<u32>,
        /// Through this version of a hook, as if they were enqueued again.
        #[serde(skip_serializing_if = "Option::is_none")]
        hook: Option<HookRef>,
    },
    /// Removes a topic with everything in it.
    DeleteTopic {
        /// The topic.
        topic: TopicName,
    },
    /// Removes a namespace's topics, with everything in them, and its settings.
    DeleteNamespace,
}

impl Work {
    /// The words for every kind.
    pub const KINDS: [&str; 6] = [
        "purge",
        "discard_dead",
        "cancel",
        "redrive",
        "delete_topic",
        "delete_namespace",
    ];

    /// The word for it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Purge { .. } => "purge",
            Self::DiscardDead { .. } => "discard_dead",
            Self::Cancel { .. } => "cancel",
            Self::Redrive { .. } => "redrive",
            Self::DeleteTopic { .. } => "delete_topic",
            Self::DeleteNamespace => "delete_namespace",
        }
    }

    /// The topic it is about; none for all of a namespace.
    pub const fn topic(&self) -> Option<&TopicName> {
        match self {
            Self::Purge { topic }
            | Self::DiscardDead { topic }
            | Self::Cancel { topic, .. }
            | Self::Redrive { topic, .. }
            | Self::DeleteTopic { topic } => Some(topic),
            Self::DeleteNamespace => None,
        }
    }

    /// Whether it may go on where it was cut off without doing anything that was not asked for. Work that
    /// counts to a limit may not: what it did last is not known. Nor may work that takes all there is: what
    /// came since was not meant.
    pub const fn may_go_on(&self) -> bool {
        match self {
            Self::Cancel { limit, .. } | Self::Redrive { limit, .. } => limit.is_none(),
            Self::DeleteNamespace => true,
            Self::Purge { .. } | Self::DiscardDead { .. } | Self::DeleteTopic { .. } => false,
        }
    }
}

/// Which items; every member that is given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ItemFilter {
    /// Only these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<ItemId>>,
    /// Only those whose priority is this or larger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_min: Option<i32>,
    /// Only those whose priority is this or smaller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_max: Option<i32>,
    /// Only those accepted at or after this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enqueued_after: Option<Timestamp>,
    /// Only those accepted at or before this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enqueued_before: Option<Timestamp>,
    /// Only those accepted at least so long ago, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than_ms: Option<i64>,
    /// Only those with this header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderMatch>,
    /// Only those whose last error contains this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_contains: Option<String>,
    /// Only dead letters that died for this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeadReason>,
    /// Only dead letters that died at or after this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub died_after: Option<Timestamp>,
    /// Only dead letters that died at or before this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub died_before: Option<Timestamp>,
}

/// A header and the value it must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderMatch {
    /// Its name, in any case.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl ItemFilter {
    /// The same filter whatever the time is later: ages become instants, as of `now`.
    pub fn as_of(mut self, now: Timestamp) -> Self {
        if let Some(age_ms) = self.older_than_ms.take() {
            let then = now.plus_ms(-age_ms);
            self.enqueued_before = Some(self.enqueued_before.map_or(then, |before| before.min(then)));
        }
        self
    }

    /// What is out of range, as `field: what to change`; nothing when the filter is sound.
    pub fn problem(&self) -> Option<String> {
        let most = limits::BATCH_ITEMS_MAX;
        if self
            .ids
            .as_ref()
            .is_some_and(|ids| ids.is_empty() || ids.len() > most)
        {
            return Some(format!("filter.ids: must hold 1 to {most} ids"));
        }
        if self
            .older_than_ms
            .is_some_and(|age_ms| !(0..=limits::DURATION_MS_MAX).contains(&age_ms))
        {
            let most = limits::DURATION_MS_MAX;
            return Some(format!("filter.older_than_ms: must be between 0 and {most}"));
        }
        let header = self.header.as_ref();
        let long = |text: &String| text.len() > limits::HEADER_BYTES_MAX;
        if header.is_some_and(|header| header.name.is_empty() || long(&header.name) || long(&header.value)) {
            return Some("filter.header: must be a header that items can have".to_owned());
        }
        (self.error_contains.as_ref()).filter(|text| text.len() > limits::ERROR_BYTES_MAX)?;
        Some(format!(
            "filter.error_contains: must be at most {} bytes",
            limits::ERROR_BYTES_MAX
        ))
    }
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// It waits for its turn.
    Queued,
    /// A node works on it.
    Running,
    /// It did all it was asked for.
    Succeeded,
    /// It met an error; what is done is done.
    Failed,
    /// Somebody cancelled it; what was done before is done.
    Cancelled,
    /// Its node went away in the middle, and it could not go on by itself.
    Stopped,
}

impl OperationState {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Stopped,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Stopped => "stopped",
        }
    }

    /// The state that `word` names.
    pub fn find(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether nothing more happens.
    pub const fn is_end(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

impl fmt::Display for OperationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much an operation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Progress {
    /// How many items there were to look at when it began.
    pub total: u64,
    /// How many it looked at.
    pub looked: u64,
    /// How many it changed.
    pub done: u64,
}

/// What an operation led to, beside its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// How many items it changed, or would.
    pub count: u64,
    /// How many stayed as they were because a hook refused them or failed on them.
    #[serde(default)]
    pub kept: u64,
    /// The first few of the items.
    #[serde(default)]
    pub examples: Vec<OutcomeExample>,
}

/// One of the items an operation is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeExample {
    /// Its id.
    pub id: ItemId,
    /// Its state before.
    pub state: ItemState,
    /// Its priority.
    pub priority: i32,
    /// When it was accepted.
    pub enqueued_at: Timestamp,
    /// Its last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<Box<str>>,
}

/// Who changes something, as the log of changes tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// A token's subject, or `mqueue` for what the server does by itself.
    pub subject: Arc<str>,
    /// The request that asked for it.
    pub request_id: Option<Box<str>>,
    /// The address it came from.
    pub peer: Option<Box<str>>,
}

impl Author {
    /// The server itself.
    pub fn server() -> Self {
        Self {
            subject: "mqueue".into(),
            request_id: None,
            peer: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_survives_its_text() {
        for work in [
            Work::DeleteNamespace,
            Work::Purge {
                topic: "t".parse().unwrap(),
            },
            Work::Redrive {
                topic: "t".parse().unwrap(),
                filter: ItemFilter {
                    ids: Some(vec![ItemId(1 << 60)]),
                    header: Some(HeaderMatch {
                        name: "a".into(),
                        value: "b".into(),
                    }),
                    ..ItemFilter::default()
                },
                to_topic: None,
                limit: Some(3),
                rate_per_s: Some(1),
                hook: Some(HookRef {
                    hook: "h".parse().unwrap(),
                    version: 2,
                }),
            },
        ] {
            let text = serde_json::to_string(&work).unwrap();
            assert_eq!(serde_json::from_str::<Work>(&text).unwrap(), work, "{text}");
            assert!(text.contains(work.kind()), "{text}");
        }
        for state in OperationState::ALL {
            assert_eq!(OperationState::find(state.as_str()), Some(state));
        }
    }

    #[test]
    fn filters_that_cannot_fit_are_told() {
        assert_eq!(ItemFilter::default().problem(), None);
        let none = ItemFilter {
            ids: Some(vec![]),
            ..ItemFilter::default()
        };
        assert!(none.problem().unwrap().starts_with("filter.ids: "));
        let long = ItemFilter {
            error_contains: Some("x".repeat(limits::ERROR_BYTES_MAX + 1)),
            ..ItemFilter::default()
        };
        assert!(long.problem().unwrap().starts_with("filter.error_contains: "));
    }
}
