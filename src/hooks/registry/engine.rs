//! What the registry needs of whoever runs modules.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::hooks::engine::{Engine, ModuleSource, Prepared, UploadError};
use crate::hooks::rehearse::Rehearser;
use crate::hooks::{Call, Report, Version};
use crate::model::{Digest, Namespace};
use crate::shard::Catalog;

/// Compiles modules, and makes calls that are only for show.
#[async_trait]
pub trait Preparer: Rehearser {
    /// Makes a module out of what was uploaded, compiles it and instantiates it once.
    async fn prepare(&self, upload: &[u8], namespace: &Namespace) -> Result<Prepared, UploadError>;

    /// Makes sure a module of `namespace` from the catalog is compiled here.
    async fn ensure(&self, digest: Digest, namespace: &Namespace) -> Result<(), UploadError>;

    /// Whether a module is compiled here.
    fn is_ready(&self, digest: Digest) -> bool;

    /// Makes an instance of `version`, whose module is compiled here, within its own limits.
    async fn try_out(&self, _version: Arc<Version>) -> Result<(), UploadError> {
        Ok(())
    }
}

#[async_trait]
impl Rehearser for Engine {
    async fn rehearse(&self, call: Call) -> Report {
        Self::rehearse(self, call).await
    }

    fn may_rehearse(&self, namespace: &Namespace) -> Result<(), Duration> {
        Self::may_rehearse(self, namespace)
    }

    fn payload_bytes_max(&self) -> usize {
        Self::payload_bytes_max(self)
    }
}

#[async_trait]
impl Preparer for Engine {
    async fn prepare(&self, upload: &[u8], namespace: &Namespace) -> Result<Prepared, UploadError> {
        Self::prepare(self, upload, namespace).await
    }

    async fn ensure(&self, digest: Digest, namespace: &Namespace) -> Result<(), UploadError> {
        Self::ensure(self, digest, namespace).await
    }

    fn is_ready(&self, digest: Digest) -> bool {
        Self::is_ready(self, digest)
    }

    async fn try_out(&self, version: Arc<Version>) -> Result<(), UploadError> {
        Self::try_out(self, version).await
    }
}

/// The catalog, for the engine to compile anew what was uploaded before.
#[derive(Debug, Clone)]
pub struct CatalogModules(pub Catalog);

#[async_trait]
impl ModuleSource for CatalogModules {
    async fn module(&self, digest: Digest) -> Option<Vec<u8>> {
        match self.0.module(digest).await {
            Ok(module) => module,
            Err(error) => {
                tracing::warn!(%digest, %error, "a module cannot be read from the catalog");
                None
            }
        }
    }
}

/// What compiled modules on this node's disk are authenticated with, made of the node's `secret`.
pub fn artefact_key(secret: &[u8]) -> [u8; 32] {
    blake3::derive_key("mqueue 2026 compiled hooks", secret)
}
