//! The composition root: the one place that sees adapters and HTTP together.

mod assemble;
mod follow;
mod hooks;
mod nodes;
mod rates;
mod reload;
mod serve;
mod shards;
mod shutdown;
mod tenancy;

pub use assemble::{Node, assemble};
pub use hooks::HookParts;
pub use serve::run;
pub use tenancy::check_keys;

use crate::config::ConfigError;
use crate::hooks::engine::EngineError;
use crate::queue::QueueError;
use crate::shard::{ShardError, SlotError};
use crate::wal::WalOpenError;

/// Why the node did not start, or stopped for a fault.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The configuration asks for something this version does not have, or that cannot be.
    #[error("{key}: {detail}")]
    Setting {
        /// The key.
        key: &'static str,
        /// What to change.
        detail: String,
    },
    /// A shard cannot be used.
    #[error("shard {number}: {error}")]
    Shard {
        /// Its place in `DATABASE_URLS`, from 0.
        number: usize,
        /// Why.
        error: ShardError,
    },
    /// The slots are assigned to shards that are not configured.
    #[error("{0}; list in DATABASE_URLS every shard there was, in the old order")]
    Slots(#[from] SlotError),
    /// Another process has this node's number.
    #[error(
        "node.id {node} is held by {by}; give every node a number of its own: MQUEUE_NODE_ID, --set node.id=N"
    )]
    NodeTaken {
        /// The number.
        node: u16,
        /// By whom.
        by: String,
    },
    /// The write-ahead log cannot be opened.
    #[error("{0}")]
    Wal(#[from] WalOpenError),
    /// Hooks cannot be run.
    #[error("{0}")]
    Hooks(#[from] EngineError),
    /// What the log says could not be brought to the shards.
    #[error("recovery failed: {0}")]
    Recovery(#[from] QueueError),
    /// The node cannot listen, or a file it needs cannot be used.
    #[error("{what}: {reason}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system says.
        reason: String,
    },
}

impl StartError {
    pub(crate) fn io(what: impl Into<String>, error: impl ToString) -> Self {
        Self::Io {
            what: what.into(),
            reason: error.to_string(),
        }
    }

    /// The process's exit code: 78 for what the operator has to change, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Setting { .. }
            | Self::Slots(_)
            | Self::NodeTaken { .. }
            | Self::Wal(_) => 78,
            Self::Shard {
                error: ShardError::Address(_) | ShardError::Corrupt(_),
                ..
            } => 78,
            Self::Shard { .. } | Self::Hooks(_) | Self::Recovery(_) | Self::Io { .. } => 1,
        }
    }
}
