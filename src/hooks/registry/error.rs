//! Why the registry refused.

use std::time::Duration;

use crate::hooks::engine::UploadError;
use crate::model::HookName;
use crate::shard::ShardError;

/// Why the registry did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// There is no such hook.
    #[error("there is no such hook")]
    UnknownHook,
    /// The hook has no such version.
    #[error("the hook has no version {0}")]
    UnknownVersion(u32),
    /// There is no such binding.
    #[error("there is no such binding")]
    UnknownBinding,
    /// There is no such test case.
    #[error("there is no such test case")]
    UnknownTest,
    /// There is no version to go back to, or none on trial to promote.
    #[error("{0}")]
    Nothing(&'static str),
    /// The module cannot be used.
    #[error("{0}")]
    Upload(#[from] UploadError),
    /// The version may not go into force: each line says why.
    #[error("the version may not be activated: {}", .0.join("; "))]
    Gate(Vec<String>),
    /// The namespace's rehearsals have used up their processor time.
    #[error("the namespace has used up its processor time for trying hooks out")]
    Busy(Duration),
    /// The binding is not at the revision that the change was made for.
    #[error("the binding has changed")]
    Stale {
        /// The revision it is at; none when there is no such binding.
        current: Option<u64>,
    },
    /// The version is in use by these bindings.
    #[error("the version is bound by {}", names(.0))]
    Bound(Vec<HookName>),
    /// The plugins folder owns the hook.
    #[error("the plugins folder owns this hook; change its files instead")]
    OwnedByFolder,
    /// The API owns the hook.
    #[error("the hook was made over the API; delete it there or give the folder another name")]
    OwnedByApi,
    /// There are as many as there may be.
    #[error("there may be at most {1} {0}")]
    Limit(&'static str, usize),
    /// Something given is not valid.
    #[error("{field}: {detail}")]
    Invalid {
        /// What.
        field: &'static str,
        /// What to change.
        detail: String,
    },
    /// The catalog could not be read or written.
    #[error(transparent)]
    Store(#[from] ShardError),
}

fn names(names: &[HookName]) -> String {
    names.iter().map(HookName::as_str).collect::<Vec<_>>().join(", ")
}
