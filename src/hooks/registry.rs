//! The registry: which hooks there are, which versions are in force where, and what they did.
//!
//! The catalog is the truth. The registry holds all of it but modules and test cases in memory, changes it
//! one transaction at a time, and publishes each namespace's bindings to the chains. What hooks did is known
//! to each node for itself and does not outlive it.

mod activity;
mod bindings;
mod change;
mod engine;
mod error;
mod folders;
mod from_folder;
mod log;
mod state;
mod stats;
mod test_cases;
#[cfg(test)]
pub(super) mod tests;
mod versions;
mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::broadcast;

use self::activity::Activity;
use self::folders::Folders;
use self::state::{State, versions_of};
use super::{Bound, LogLevel};
use crate::clock::{Clock, Monotonic};
use crate::model::{Digest, HookLimits, HookName, Namespace, some};
use crate::shard::{Catalog, ShardError};

pub use engine::{CatalogModules, Preparer, artefact_key};
pub use error::RegistryError;
pub use view::{
    Activation, AddedVersion, BindingDraft, Expected, HookSummary, HookView, KeptFailure, LimitsView,
    LogEntry, NamespaceHookLimits, NewVersion, Owner, StoredTest, VersionStats, VersionView,
};

/// How often what hooks did is tidied.
const TIDY_EVERY: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, RegistryError>;

/// Takes the bindings of a namespace that are in force now, all of them.
pub type Sink = Box<dyn Fn(&Namespace, Vec<Arc<Bound>>) + Send + Sync>;

/// All hooks of all namespaces. Reads are as fresh as the last change made here, or about a second behind a
/// change made on another node.
pub struct Registry {
    catalog: Catalog,
    preparer: Arc<dyn Preparer>,
    clock: Clock,
    limits: Limits,
    state: RwLock<State>,
    /// Held from planning a change to its end.
    writing: tokio::sync::Mutex<()>,
    activity: Activity,
    folders: Folders,
    sink: OnceLock<Sink>,
    published: Mutex<BTreeMap<Namespace, Vec<Arc<Bound>>>>,
    /// Modules that could not be compiled here, and when.
    failed: Mutex<HashMap<Digest, Monotonic>>,
    runtime: Handle,
    myself: Weak<Self>,
}

struct Limits {
    /// What one call may use, unless its manifest asks for less.
    call: ArcSwap<HookLimits>,
    namespace: NamespaceHookLimits,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry(at change {})", self.state.read().generation)
    }
}

impl Registry {
    /// Reads the catalog. `call_limits` is what a call may use unless its manifest asks for less. Must be
    /// called within the runtime that rollbacks are to run on.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn open(
        catalog: Catalog,
        preparer: Arc<dyn Preparer>,
        clock: Clock,
        call_limits: HookLimits,
    ) -> std::result::Result<Arc<Self>, ShardError> {
        let contents = catalog.hooks().await?;
        let state = State::load(contents, &State::default(), &call_limits);
        Ok(Arc::new_cyclic(|myself| Self {
            catalog,
            preparer,
            activity: Activity::new(clock.clone()),
            clock,
            limits: Limits {
                call: ArcSwap::from_pointee(call_limits),
                namespace: NamespaceHookLimits::default(),
            },
            state: RwLock::new(state),
            writing: tokio::sync::Mutex::new(()),
            folders: Folders::default(),
            sink: OnceLock::new(),
            published: Mutex::default(),
            failed: Mutex::default(),
            runtime: Handle::current(),
            myself: myself.clone(),
        }))
    }

    /// Publishes the bindings of all namespaces to `sink`, now and whenever they change. Only the first sink
    /// counts.
    pub fn publish_to(&self, sink: Sink) {
        if self.sink.set(sink).is_ok() {
            let namespaces: Vec<Namespace> = self.state.read().tenants.keys().cloned().collect();
            for namespace in namespaces {
                self.publish(&namespace);
            }
        }
    }

    /// Compiles what is bound and not compiled here yet. Until a module is, calls of it are overloads.
    pub async fn warm_up(&self) {
        let mut needed = Vec::new();
        {
            let state = self.state.read();
            for (namespace, tenant) in &state.tenants {
                for binding in tenant.bindings.values().filter(|binding| binding.enabled) {
                    let stored = versions_of(binding)
                        .filter_map(|(_, version)| state.stored(namespace, &binding.hook, version));
                    needed.extend(stored.map(|stored| stored.version.clone()));
                }
            }
        }
        for version in needed {
            if !self.preparer.is_ready(version.digest)
                && let Err(error) = self.preparer.ensure(version.digest).await
            {
                let (namespace, hook) = (&version.namespace, &version.hook);
                tracing::error!(%namespace, %hook, %error, "a bound hook cannot be compiled");
                let line = format!("{hook} cannot be compiled on this node: {error}");
                self.activity.say(namespace, &hook.hook, LogLevel::Error, &line);
            }
        }
    }

    /// The number of the last change that is known here.
    pub fn generation(&self) -> u64 {
        self.state.read().generation
    }

    /// Compiles what is bound, and tidies for as long as the process runs.
    pub async fn keep_up(self: Arc<Self>) {
        self.warm_up().await;
        loop {
            tokio::time::sleep(TIDY_EVERY).await;
            self.tidy();
        }
    }

    fn tidy(&self) {
        let state = self.state.read();
        self.activity.tidy(
            |namespace, hook| state.hook(namespace, hook).is_some() || self.folders.has(namespace, hook),
            |namespace, hook, version| state.stored(namespace, hook, version).is_some(),
        );
    }

    fn roll_back_soon(&self, bound: Arc<Bound>) {
        let Some(registry) = self.myself.upgrade() else {
            return;
        };
        self.runtime.spawn(async move {
            let (namespace, id) = (&bound.namespace, &bound.binding.id);
            let line = match registry.roll_back_by_itself(&bound).await {
                Ok(binding) => format!("`{id}` was rolled back to version {}", binding.version),
                // Somebody was faster, which is as good.
                Err(RegistryError::Stale { .. }) => return,
                Err(error) => format!("`{id}` could not be rolled back: {error}"),
            };
            tracing::warn!(%namespace, "{line}");
            registry
                .activity
                .say(namespace, &bound.binding.hook, LogLevel::Error, &line);
        });
    }

    /// Up to `limit` of the lines a hook logged on this node after the one numbered `after`, the oldest first.
    pub fn log(&self, namespace: &Namespace, hook: &HookName, after: u64, limit: usize) -> Vec<LogEntry> {
        self.activity.log(namespace, hook, after, limit)
    }

    /// The lines a hook logs on this node from now on. Who reads too slowly misses some. Ask it only of hooks
    /// that exist.
    pub fn follow(&self, namespace: &Namespace, hook: &HookName) -> broadcast::Receiver<LogEntry> {
        self.activity.follow(namespace, hook)
    }

    /// What each version of a hook did on this node, the newest first; versions that did nothing are left out.
    pub fn stats(&self, namespace: &Namespace, hook: &HookName) -> Vec<VersionStats> {
        self.activity.stats(namespace, hook)
    }

    /// What the two newest versions of each hook that did something did on this node.
    pub fn all_stats(&self) -> Vec<(Namespace, HookName, VersionStats)> {
        self.activity.all_stats()
    }

    /// The items a hook failed on within a day on this node, the newest first, when its manifest has them
    /// kept.
    pub fn failures(&self, namespace: &Namespace, hook: &HookName) -> Vec<KeptFailure> {
        self.activity.failures(namespace, hook)
    }

    /// Whether everything in the plugins folder is in force, and in words how hooks are.
    pub fn health(&self) -> (bool, String) {
        let hooks: usize = self
            .state
            .read()
            .tenants
            .values()
            .map(|tenant| tenant.hooks.len())
            .sum();
        let refused = self.folders.rejected_count();
        let open = self
            .all_stats()
            .iter()
            .filter(|(.., stats)| stats.breaker_open)
            .count();
        let text = format!(
            "{}, {} paused by a breaker, {} refused",
            some(hooks, "hook"),
            some(open, "version"),
            some(refused, "folder")
        );
        (refused == 0, text)
    }

    /// The limits in force.
    pub fn limits(&self) -> LimitsView {
        LimitsView {
            call: **self.limits.call.load(),
            namespace: self.limits.namespace,
        }
    }
}
