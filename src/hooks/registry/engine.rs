//! What the registry needs of whoever runs modules.

use async_trait::async_trait;

use crate::hooks::rehearse::Rehearser;
use crate::model::{Digest, Namespace, Side};

/// A module that runs.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The SHA-256 of `component`.
    pub digest: Digest,
    /// What to store.
    pub component: Vec<u8>,
    /// The sides it exports; at least one.
    pub exports: Vec<Side>,
    /// What it imports.
    pub imports: Vec<String>,
    /// How long compiling took, in milliseconds.
    pub compile_ms: u64,
    /// What its author may want to know.
    pub warnings: Vec<String>,
}

/// Why an upload was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// It is not a hook, or not within the limits: the text says what to change.
    #[error("{0}")]
    Refused(String),
    /// Another module of this namespace is being compiled.
    #[error("another module of this namespace is being compiled; try again in a moment")]
    Busy,
    /// It could not be compiled here and now, through no fault of its own.
    #[error("the module could not be compiled: {0}")]
    Unavailable(String),
}

/// Compiles modules, and makes calls that are only for show.
#[async_trait]
pub trait Preparer: Rehearser {
    /// Makes a module out of what was uploaded, compiles it and instantiates it once.
    async fn prepare(&self, upload: &[u8], namespace: &Namespace) -> Result<Prepared, UploadError>;

    /// Makes sure a module from the catalog is compiled here.
    async fn ensure(&self, digest: Digest) -> Result<(), UploadError>;

    /// Whether a module is compiled here.
    fn is_ready(&self, digest: Digest) -> bool;
}
