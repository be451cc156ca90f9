//! The registry: which hooks there are, which versions are in force where, and what they did.
//!
//! The catalog is the truth; the registry holds all of it but the modules in memory and publishes each
//! namespace's bindings to the chains.

mod engine;
mod error;
mod view;

use std::sync::Arc;

use tokio::sync::broadcast;

use super::Version;
use crate::model::{Binding, Digest, HookName, Namespace};

pub use engine::{Prepared, Preparer, UploadError};
pub use error::RegistryError;
pub use view::{
    AddedVersion, AuditEntry, BindingDraft, Expected, HookSummary, HookView, KeptFailure, LimitsView,
    LogEntry, NamespaceHookLimits, NewVersion, Owner, StoredTest, VersionStats, VersionView,
};

/// All hooks of all namespaces. Reads come from memory and are as fresh as the last change made here, or two
/// seconds behind a change made on another node.
pub struct Registry {
    lines: broadcast::Sender<LogEntry>,
}

type Result<T> = std::result::Result<T, RegistryError>;

fn missing<T>() -> Result<T> {
    Err(RegistryError::UnknownHook)
}

impl Registry {
    /// The hooks of a namespace, by name.
    pub fn list(&self, _namespace: &Namespace) -> Vec<HookSummary> {
        vec![]
    }

    /// A hook with its versions and bindings.
    pub fn hook(&self, _namespace: &Namespace, _hook: &HookName) -> Option<HookView> {
        None
    }

    /// Compiles and stores a version. One that equals the newest in module, manifest, configuration and secrets is not stored again.
    pub async fn add_version(
        &self,
        _namespace: &Namespace,
        _hook: &HookName,
        _version: NewVersion,
        _actor: &str,
    ) -> Result<AddedVersion> {
        missing()
    }

    /// A version, ready to be called.
    pub fn version(&self, _namespace: &Namespace, _hook: &HookName, _version: u32) -> Option<Arc<Version>> {
        None
    }

    /// A version as its owner sees it.
    pub fn version_view(
        &self,
        _namespace: &Namespace,
        _hook: &HookName,
        _version: u32,
    ) -> Option<VersionView> {
        None
    }

    /// The bytes of a module, from the catalog.
    pub async fn module(&self, _digest: Digest) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Deletes a version that no binding names, and its module when no other version has it. The hook goes with its last version.
    pub async fn delete_version(
        &self,
        _namespace: &Namespace,
        _hook: &HookName,
        _version: u32,
        _actor: &str,
    ) -> Result<()> {
        missing()
    }

    /// The bindings of a namespace, by id.
    pub fn bindings(&self, _namespace: &Namespace) -> Vec<Binding> {
        vec![]
    }

    /// A binding.
    pub fn binding(&self, _namespace: &Namespace, _id: &HookName) -> Option<Binding> {
        None
    }

    /// Makes or changes a binding; a version that was not in force before must pass the gate.
    pub async fn put_binding(
        &self,
        _namespace: &Namespace,
        _draft: BindingDraft,
        _expected: Expected,
        _actor: &str,
    ) -> Result<Binding> {
        missing()
    }

    /// Deletes a binding.
    pub async fn delete_binding(
        &self,
        _namespace: &Namespace,
        _id: &HookName,
        _expected: Expected,
        _actor: &str,
    ) -> Result<()> {
        missing()
    }

    /// Puts a version in force, or on trial with a share of the items, once it passed the gate; `force` passes over failed test cases.
    pub async fn activate(
        &self,
        _namespace: &Namespace,
        _id: &HookName,
        _expected: Expected,
        _activation: Activation,
        _actor: &str,
    ) -> Result<Binding> {
        missing()
    }

    /// Puts the version on trial in force.
    pub async fn promote(
        &self,
        _namespace: &Namespace,
        _id: &HookName,
        _expected: Expected,
        _actor: &str,
    ) -> Result<Binding> {
        missing()
    }

    /// Takes the version on trial away, or else puts the version before back in force.
    pub async fn rollback(
        &self,
        _namespace: &Namespace,
        _id: &HookName,
        _expected: Expected,
        _actor: &str,
    ) -> Result<Binding> {
        missing()
    }

    /// The test cases of a hook, by name.
    pub fn tests(&self, _namespace: &Namespace, _hook: &HookName) -> Vec<StoredTest> {
        vec![]
    }

    /// Stores a test case, whether it is new or not; true when it is new. The hook must exist.
    pub async fn put_test(
        &self,
        _namespace: &Namespace,
        _hook: &HookName,
        _test: StoredTest,
        _actor: &str,
    ) -> Result<bool> {
        missing()
    }

    /// Deletes a test case.
    pub async fn delete_test(
        &self,
        _namespace: &Namespace,
        _hook: &HookName,
        _name: &HookName,
        _actor: &str,
    ) -> Result<()> {
        missing()
    }

    /// Up to `limit` of the lines a hook logged on this node after `after`, the oldest first.
    pub fn log(&self, _namespace: &Namespace, _hook: &HookName, _after: u64, _limit: usize) -> Vec<LogEntry> {
        vec![]
    }

    /// The lines a hook logs on this node from now on.
    pub fn follow(&self, _namespace: &Namespace, _hook: &HookName) -> broadcast::Receiver<LogEntry> {
        self.lines.subscribe()
    }

    /// What each version of a hook did on this node, the newest first.
    pub fn stats(&self, _namespace: &Namespace, _hook: &HookName) -> Vec<VersionStats> {
        vec![]
    }

    /// The items a hook failed on within a day on this node, the newest first, when its manifest has them kept.
    pub fn failures(&self, _namespace: &Namespace, _hook: &HookName) -> Vec<KeptFailure> {
        vec![]
    }

    /// Up to `limit` changes of a namespace after the one numbered `after`, the oldest first.
    pub async fn audit(&self, _namespace: &Namespace, _after: u64, _limit: usize) -> Result<Vec<AuditEntry>> {
        Ok(vec![])
    }

    /// The limits in force.
    pub fn limits(&self) -> LimitsView {
        LimitsView {
            call: crate::model::HookLimits::default(),
            namespace: NamespaceHookLimits::default(),
        }
    }
}

/// Which version [`Registry::activate`] is to put in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activation {
    /// The version.
    pub version: u32,
    /// As a trial with this share of the items, 1 to 99; else for all of them.
    pub canary_percent: Option<u8>,
    /// Passes over failed test cases.
    pub force: bool,
}
