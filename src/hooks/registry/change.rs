//! How anything changes: planned on what is in memory, made in the catalog, then applied and published.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::state::State;
use super::versions::By;
use super::{Registry, RegistryError, Result};
use crate::clock::Timestamp;
use crate::model::{Author, HookLimits, Namespace};
use crate::shard::{AuditRow, HookChange, ShardError};

/// How often a plan is made anew because another node changed something first.
const ATTEMPTS: usize = 8;
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

    /// Looks whether another node changed something, and takes it over. What names a module that is not compiled here
    /// yet is in force as soon as it is; until then what was in force before stays in force. Returns whether there was
    /// something.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn catch_up(&self) -> Result<bool> {
        if self.catalog.hooks_generation().await? == self.state.read().generation {
            return Ok(false);
        }
        let _writing = self.writing.lock().await;
        self.reload().await?;
        Ok(true)
    }
}

fn namespace_of(change: &HookChange) -> &Namespace {
    match change {
        HookChange::AddVersion(row, _) => &row.namespace,
        HookChange::DeleteVersion(namespace, ..)
        | HookChange::PutBinding(namespace, _)
        | HookChange::DeleteBinding(namespace, _)
        | HookChange::PutTest { namespace, .. }
        | HookChange::Quarantine { namespace, .. }
        | HookChange::DeleteTest(namespace, ..) => namespace,
    }
}
