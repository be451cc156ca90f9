//! What can go wrong with a whole request. Closed and free of HTTP: one file of the API maps it.

use crate::hot::HotError;
use crate::model::ItemId;
use crate::shard::ShardError;
use crate::wal::WalError;

/// Why a request as a whole failed; nothing of it was done unless the variant says otherwise.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueueError {
    /// The request asks for something that is not allowed; the text says what to change.
    #[error("{field}: {detail}")]
    Invalid {
        /// The field, as a path: `items[3].ttl_ms`.
        field: String,
        /// What to change.
        detail: String,
    },
    /// No such topic was ever used, or it was deleted.
    #[error("the topic does not exist; topics appear on their first enqueue")]
    UnknownTopic,
    /// No such item waits, is leased or is dead in this topic.
    #[error("item {0} is not in this topic; it was acked, cancelled, expired or never existed")]
    UnknownItem(ItemId),
    /// The item is not in a state that allows what was asked.
    #[error("{0}")]
    Conflict(String),
    /// The namespace has as many topics as it may have.
    #[error("the namespace has {0} topics, which is its limit; delete some or use existing ones")]
    TooManyTopics(usize),
    /// The namespace makes no topics on their first use, and nobody has made this one.
    #[error("the namespace makes no topics by itself; put the topic's settings first to make it")]
    UndeclaredTopic,
    /// What was to be changed is not as its changer has seen it.
    #[error("somebody changed it meanwhile")]
    Stale {
        /// The revision there is; none when there is nothing.
        current: Option<u64>,
    },
    /// There is no such operation.
    #[error("there is no such operation in this namespace; ended ones are forgotten after some hundred more")]
    UnknownOperation,
    /// The namespace has as many operations under way as it may have.
    #[error("as many operations of the namespace wait or run as may; wait for one to end, or cancel one")]
    TooManyOperations,
    /// The log has no room: acceptance has stopped until space is freed.
    #[error("the write-ahead log has no room; acks and deliveries go on, enqueues must wait")]
    LogFull,
    /// The log failed. What this request asked for may or may not be on disk: its outcome is unknown.
    #[error("the write-ahead log failed; the outcome of this request is unknown")]
    LogFailed,
    /// Memory for waiting items is used up and flushing does not keep pace.
    #[error("the queue is over its memory budget; try again shortly")]
    Overloaded,
    /// The shard that holds the topic does not answer.
    #[error("the topic's shard is unavailable: {0}")]
    ShardUnavailable(String),
    /// The hot tier that nodes share does not answer, or is just being filled again.
    #[error("the hot tier is unavailable: {0}")]
    HotUnavailable(String),
    /// Another node has this node's number now: this one must stop.
    #[error("another node took over this node's number; this one is stopping")]
    Fenced,
    /// The node is shutting down.
    #[error("the node is shutting down")]
    ShuttingDown,
}

impl QueueError {
    /// Whether nothing that the request brought is stored: of an enqueue, and of everything that is logged whole.
    pub fn stored_nothing(&self) -> bool {
        !matches!(self, Self::LogFailed)
    }

    /// An [`QueueError::Invalid`] for `field`.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            detail: detail.into(),
        }
    }
}

impl From<WalError> for QueueError {
    fn from(error: WalError) -> Self {
        match error {
            WalError::Full => Self::LogFull,
            WalError::FrameTooLarge => Self::invalid("items", "the batch is too large for the log; split it"),
            WalError::Closed => Self::ShuttingDown,
            WalError::Failed(_) => Self::LogFailed,
        }
    }
}

impl From<ShardError> for QueueError {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::Fenced => Self::Fenced,
            error => Self::ShardUnavailable(error.to_string()),
        }
    }
}

impl From<HotError> for QueueError {
    fn from(error: HotError) -> Self {
        match error {
            HotError::Unavailable(why) => Self::HotUnavailable(why),
            HotError::Full => Self::Overloaded,
        }
    }
}
