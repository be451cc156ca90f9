//! What an upload can be refused for, and why an engine does not start.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refuses its configuration, or there is not enough address space for the pool.
    #[error("the hook engine cannot be set up: {0}")]
    Setup(String),
    /// A thread could not be started.
    #[error("a thread for hooks could not be started: {0}")]
    Thread(#[from] std::io::Error),
    /// It was not started within a runtime.
    #[error("the hook engine needs a tokio runtime")]
    Runtime,
}

/// Why a module is not taken; the text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum UploadError {
    /// It is no WebAssembly, neither binary nor text, or it is broken.
    #[error("not a valid WebAssembly component, module or text: {0}")]
    Malformed(String),
    /// It is larger than allowed in some way.
    #[error("{what}: {found}, and {limit} are allowed")]
    TooLarge {
        /// What is.
        what: String,
        /// How large it is.
        found: u64,
        /// How large it may be.
        limit: u64,
    },
    /// It uses something that hooks may not use.
    #[error("{0}")]
    Forbidden(String),
    /// It does not keep the contract with guests.
    #[error("{0}")]
    Contract(String),
    /// Compiling it took more time or memory than allowed, or failed.
    #[error("the module could not be compiled: {0}")]
    Compile(String),
    /// It could not be instantiated within the limits of a call.
    #[error("the module could not be instantiated: {0}")]
    Start(String),
    /// Another upload of the namespace is being compiled.
    #[error("uploads of the namespace are already being compiled; try again in {}s", .0.as_secs().max(1))]
    Busy(Duration),
    /// No module of this digest is known.
    #[error("no module of this digest is stored")]
    Unknown,
    /// Something went wrong that is not the module's fault.
    #[error("the module could not be prepared: {0}")]
    Internal(String),
}

impl UploadError {
    /// A stable word for it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "hook_malformed",
            Self::TooLarge { .. } => "hook_too_large",
            Self::Forbidden(_) => "hook_forbidden",
            Self::Contract(_) => "hook_contract",
            Self::Compile(_) => "hook_compile",
            Self::Start(_) => "hook_start",
            Self::Busy(_) => "hook_busy",
            Self::Unknown => "hook_unknown",
            Self::Internal(_) => "hook_internal",
        }
    }

    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }
}
