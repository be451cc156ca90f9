//! Quarantine: a version that ran into the limits of its calls again and again is not run until its owner says
//! that it may be. A breaker closes by itself; this does not.

use std::sync::Arc;

use super::change::Plan;
use super::state::versions_of;
use super::versions::{By, row_name};
use super::{Owner, Registry, RegistryError, Result, VersionView};
use crate::hooks::{LogLevel, Version};
use crate::model::{Author, Binding, Ceiling, HookName, Namespace, Quarantine};
use crate::shard::HookChange;

/// So many calls on one node that ran into their memory, stack or calls of imports put a version in quarantine.
const TRIPS_MAX: u32 = 100;
/// Who puts versions in quarantine.
const SERVER: By<'static> = By {
    actor: "mqueue",
    author: None,
    owner: Owner::Api,
};

impl Registry {
    /// A call of `version` ran into `ceiling`, as `trips` did since it was last let run.
    pub(super) fn tripped(&self, version: &Arc<Version>, ceiling: Ceiling, trips: u32) {
        // Not only the hundredth: the catalog may not have been there to write that down.
        if trips < TRIPS_MAX || !trips.is_multiple_of(TRIPS_MAX) || version.quarantined {
            return;
        }
        let Some(registry) = self.myself.upgrade() else {
            return;
        };
        let version = version.clone();
        let quarantine = Quarantine {
            at: self.clock.now(),
            ceiling,
            trips,
        };
        self.runtime.spawn(async move {
            let (namespace, hook) = (&version.namespace, &version.hook);
            let line = match registry.quarantine(&version, quarantine).await {
                Ok(true) => format!(
                    "{hook} is in quarantine: {trips} calls ran into what they may have, the last into {ceiling}; \
                     its policy is applied without running it until its owner acknowledges that"
                ),
                // Another node was faster, or it has gone.
                Ok(false) => return,
                Err(error) => format!("{hook} could not be put in quarantine: {error}"),
            };
            tracing::warn!(%namespace, "{line}");
            registry
                .activity
                .say(namespace, &hook.hook, LogLevel::Error, &line);
        });
    }

    async fn quarantine(&self, version: &Version, quarantine: Quarantine) -> Result<bool> {
        let (namespace, hook) = (&version.namespace, &version.hook);
        self.change(|state| {
            let stored = state.stored(namespace, &hook.hook, hook.version);
            let Some(stored) = stored.filter(|stored| stored.quarantine.is_none()) else {
                return Ok(Plan::nothing(false));
            };
            let mut plan = Plan::new(true);
            let target = row_name(&stored.row);
            plan.note(quarantine.at, namespace, SERVER, "hook.quarantine", target);
            plan.after(&quarantine);
            plan.changes.push(HookChange::Quarantine {
                namespace: namespace.clone(),
                hook: hook.hook.clone(),
                version: hook.version,
                quarantine: Some(quarantine),
            });
            Ok(plan)
        })
        .await
    }

    /// Lets a version run again that is in quarantine, on all nodes. That is for its owner to say, wherever the hook
    /// comes from.
    pub async fn acknowledge(
        &self,
        namespace: &Namespace,
        hook: &HookName,
        version: u32,
        author: &Author,
    ) -> Result<VersionView> {
        self.change(|state| {
            let known = state.hook(namespace, hook).ok_or(RegistryError::UnknownHook)?;
            let stored = known.versions.get(&version);
            let stored = stored.ok_or(RegistryError::UnknownVersion(version))?;
            let nothing = RegistryError::Nothing("the version is not in quarantine");
            let quarantine = stored.quarantine.ok_or(nothing)?;
            let mut plan = Plan::new(VersionView {
                quarantine: None,
                ..self.view(stored)
            });
            let (now, target) = (self.clock.now(), row_name(&stored.row));
            plan.note(now, namespace, By::api(author), "hook.acknowledge", target);
            plan.before(&quarantine);
            plan.changes.push(HookChange::Quarantine {
                namespace: namespace.clone(),
                hook: hook.clone(),
                version,
                quarantine: None,
            });
            Ok(plan)
        })
        .await
    }

    /// Those of the versions that `binding` names which are in quarantine.
    pub fn quarantined(&self, namespace: &Namespace, binding: &Binding) -> Vec<u32> {
        let state = self.state.read();
        let named = versions_of(binding).map(|(_, version)| version);
        let mut found: Vec<u32> = named
            .filter(|version| state.is_quarantined(namespace, &binding.hook, *version))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}
