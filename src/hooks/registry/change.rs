//! How anything changes: planned on what is in memory, made in the catalog, then applied and published.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::state::{State, versions_of};
use super::versions::By;
use super::{Registry, RegistryError, Result};
use crate::clock::Timestamp;
use crate::hooks::Bound;
use crate::hooks::engine::UploadError;
use crate::model::{Author, Binding, Digest, HookLimits, Namespace};
use crate::shard::{AuditRow, HookChange, ShardError};

/// How often a plan is made anew because another node changed something first.
const ATTEMPTS: usize = 8;
/// How long a module that could not be compiled is not waited for again, in milliseconds.
const FAILED_MS: i64 = 10 * 60 * 1_000;
/// Longest actor and JSON text in the log of changes, in bytes; a longer text is left out.
const AUDIT_BYTES_MAX: usize = 64 << 10;
const ACTOR_BYTES_MAX: usize = 256;

/// What is to change, and what the caller gets when it did.
pub(super) struct Plan<T> {
    pub(super) changes: Vec<HookChange>,
    audit: Vec<AuditRow>,
    value: T,
}

impl<T> Plan<T> {
    pub(super) fn new(value: T) -> Self {
        Self {
            changes: vec![],
            audit: vec![],
            value,
        }
    }

    /// Everything is as it should be.
    pub(super) fn nothing(value: T) -> Self {
        Self::new(value)
    }

    /// Begins a line in the log of changes.
    pub(super) fn note(
        &mut self,
        at: Timestamp,
        namespace: &Namespace,
        by: By<'_>,
        action: &'static str,
        target: impl Into<String>,
    ) {
        let actor = by.actor.chars().filter(|c| !c.is_control());
        let mut actor: String = actor.take(ACTOR_BYTES_MAX).collect();
        if actor.is_empty() {
            actor.push('-');
        }
        let origin = |of: fn(&Author) -> &Option<Box<str>>| {
            let text = by.author.and_then(|author| of(author).as_deref());
            text.map(str::to_owned)
        };
        self.audit.push(AuditRow {
            at,
            namespace: Some(namespace.clone()),
            actor,
            action,
            target: target.into(),
            before: None,
            after: None,
            request_id: origin(|author| &author.request_id),
            peer: origin(|author| &author.peer),
        });
    }

    /// What the target of the last line was.
    pub(super) fn before(&mut self, value: &impl Serialize) {
        if let Some(row) = self.audit.last_mut() {
            row.before = text(value);
        }
    }

    /// What the target of the last line will be.
    pub(super) fn after(&mut self, value: &impl Serialize) {
        if let Some(row) = self.audit.last_mut() {
            row.after = text(value);
        }
    }
}

fn text(value: &impl Serialize) -> Option<String> {
    serde_json::to_string(value)
        .ok()
        .filter(|text| text.len() <= AUDIT_BYTES_MAX)
}

impl Registry {
    /// Makes what `plan` says true in the catalog and here. The plan is made anew when another node was
    /// faster, so whatever it checked holds when it is carried out.
    pub(super) async fn change<T>(&self, plan: impl Fn(&State) -> Result<Plan<T>>) -> Result<T> {
        let _writing = self.writing.lock().await;
        for _ in 0..ATTEMPTS {
            let (generation, plan) = {
                let state = self.state.read();
                (state.generation, plan(&state)?)
            };
            if plan.changes.is_empty() {
                return Ok(plan.value);
            }
            match self
                .catalog
                .change_hooks(generation, &plan.changes, &plan.audit)
                .await
            {
                Ok(true) => {
                    self.apply(generation + 1, &plan.changes);
                    return Ok(plan.value);
                }
                Ok(false) => self.reload().await?,
                Err(error) => {
                    // It may have been made all the same.
                    self.reload().await?;
                    return Err(error.into());
                }
            }
        }
        let detail = "other nodes keep changing hooks; try again";
        Err(RegistryError::Store(ShardError::Unavailable(detail.to_owned())))
    }

    fn apply(&self, generation: u64, changes: &[HookChange]) {
        let mut touched = BTreeSet::new();
        {
            let mut state = self.state.write();
            for change in changes {
                state.apply(change, &self.limits.call.load());
                touched.insert(namespace_of(change).clone());
            }
            state.generation = generation;
        }
        for namespace in touched {
            self.publish(&namespace);
        }
    }

    /// Takes over what the catalog has now. The caller holds `writing`.
    pub(super) async fn reload(&self) -> Result<()> {
        let contents = self.catalog.hooks().await?;
        let touched: BTreeSet<Namespace> = {
            let mut state = self.state.write();
            let new = State::load(contents, &state, &self.limits.call.load());
            let touched = new.tenants.keys().chain(state.tenants.keys()).cloned().collect();
            *state = new;
            touched
        };
        for namespace in touched {
            self.publish(&namespace);
        }
        Ok(())
    }

    /// From now on a call may use `limits`, unless its manifest asks for less. Calls under way end as they began.
    pub fn set_call_limits(&self, limits: HookLimits) {
        if **self.limits.call.load() == limits {
            return;
        }
        let namespaces: Vec<Namespace> = {
            // Under the lock: whoever reads the limits and makes versions of them holds it, too.
            let mut state = self.state.write();
            self.limits.call.store(Arc::new(limits));
            state.limit(&limits);
            state.tenants.keys().cloned().collect()
        };
        for namespace in namespaces {
            self.publish(&namespace);
        }
    }

    /// Looks whether another node changed something, and takes it over once the modules it needs are compiled
    /// here: until then what was in force before stays in force. Returns whether there was something.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn catch_up(&self) -> Result<bool> {
        if self.catalog.hooks_generation().await? == self.state.read().generation {
            return Ok(false);
        }
        let contents = self.catalog.hooks().await?;
        let state = State::load(contents, &self.state.read(), &self.limits.call.load());
        for (namespace, tenant) in &state.tenants {
            for binding in tenant.bindings.values().filter(|binding| binding.enabled) {
                for (_, version) in versions_of(binding) {
                    let Some(stored) = state.stored(namespace, &binding.hook, version) else {
                        continue;
                    };
                    if let Err(error) = self.ensure_once(stored.row.digest).await {
                        let hook = &stored.version.hook;
                        tracing::warn!(%namespace, %hook, %error, "a hook from the catalog is not ready here");
                    }
                }
            }
        }
        let _writing = self.writing.lock().await;
        self.reload().await?;
        Ok(true)
    }

    /// Compiles a module that is not ready here, unless that failed lately: one tenant's module must not hold
    /// up the changes of all others time and again. Calls of it have it compiled all the same.
    async fn ensure_once(&self, digest: Digest) -> std::result::Result<(), UploadError> {
        let now = self.clock.monotonic();
        let failed_lately = {
            let mut failed = self.failed.lock();
            failed.retain(|_, at| now.0 - at.0 < FAILED_MS);
            failed.contains_key(&digest)
        };
        if failed_lately || self.preparer.is_ready(digest) {
            return Ok(());
        }
        let ensured = self.preparer.ensure(digest).await;
        if ensured.is_err() {
            self.failed.lock().insert(digest, now);
        }
        ensured
    }

    /// Tells the chains which bindings of `namespace` are in force. Bindings that did not change are the very
    /// same as before.
    pub(super) fn publish(&self, namespace: &Namespace) {
        let Some(sink) = self.sink.get() else { return };
        // Held while the sink is called: two publications must not overtake each other.
        let mut published = self.published.lock();
        let bound: Vec<Arc<Bound>> = {
            let state = self.state.read();
            let old = published.get(namespace).map_or(&[][..], Vec::as_slice);
            let tenant = state.tenants.get(namespace);
            let bindings = tenant.into_iter().flat_map(|tenant| tenant.bindings.values());
            let on = bindings.filter(|binding| binding.enabled);
            on.filter_map(|binding| bind(&state, namespace, binding))
                .map(|bound| match old.iter().find(|old| same(old, &bound)) {
                    Some(old) => old.clone(),
                    None => Arc::new(bound),
                })
                .collect()
        };
        sink(namespace, bound.clone());
        if bound.is_empty() {
            published.remove(namespace);
        } else {
            published.insert(namespace.clone(), bound);
        }
    }
}

/// A binding with its versions; none when the version in force is missing, which the registry never lets be.
fn bind(state: &State, namespace: &Namespace, binding: &Binding) -> Option<Bound> {
    let version = |number: u32| {
        let stored = state.stored(namespace, &binding.hook, number)?;
        Some(stored.version.clone())
    };
    Some(Bound {
        namespace: namespace.clone(),
        binding: binding.clone(),
        active: version(binding.version)?,
        canary: binding.canary.and_then(|canary| version(canary.version)),
        shadow: binding.shadow.and_then(version),
        previous: binding.previous.and_then(version),
    })
}

fn same(one: &Bound, other: &Bound) -> bool {
    // A catalog brought back from a copy may have other versions under the same numbers.
    one.binding == other.binding && Arc::ptr_eq(&one.active, &other.active)
}

fn namespace_of(change: &HookChange) -> &Namespace {
    match change {
        HookChange::AddVersion(row, _) => &row.namespace,
        HookChange::DeleteVersion(namespace, ..)
        | HookChange::PutBinding(namespace, _)
        | HookChange::DeleteBinding(namespace, _)
        | HookChange::PutTest { namespace, .. }
        | HookChange::DeleteTest(namespace, ..) => namespace,
    }
}
