//! What the registry holds in memory: the catalog without modules and test cases.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::VersionStats;
use crate::hooks::Version;
use crate::model::{Binding, HookLimits, HookName, HookRef, Namespace, Quarantine, Side, TopicPattern};
use crate::shard::{HookChange, HookContents, HookVersionRow};

/// All hooks as of one change.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The number of the change.
    pub(super) generation: u64,
    pub(super) tenants: BTreeMap<Namespace, Tenant>,
    /// The greatest number that a version of each hook ever had; it stays when the hook goes.
    last_numbers: HashMap<(Namespace, HookName), u32>,
}

/// The hooks of a namespace.
#[derive(Debug, Default)]
pub(super) struct Tenant {
    pub(super) hooks: BTreeMap<HookName, Hook>,
    pub(super) bindings: BTreeMap<HookName, Binding>,
}

/// A hook.
#[derive(Debug, Default)]
pub(super) struct Hook {
    pub(super) versions: BTreeMap<u32, Stored>,
    pub(super) tests: BTreeSet<HookName>,
}

/// A version, as it is stored and as it is run.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) row: HookVersionRow,
    pub(super) version: Arc<Version>,
    /// Why it is not run.
    pub(super) quarantine: Option<Quarantine>,
}

impl State {
    /// What `contents` says; versions that `old` has, too, are the very same.
    pub(super) fn load(contents: HookContents, old: &Self, limits: &HookLimits) -> Self {
        let mut state = Self {
            generation: contents.generation,
            ..Self::default()
        };
        let quarantines: HashMap<_, _> = contents
            .quarantines
            .into_iter()
            .map(|(namespace, hook, version, why)| ((namespace, hook, version), why))
            .collect();
        for row in contents.versions {
            let key = (row.namespace.clone(), row.hook.clone(), row.version);
            let quarantine = quarantines.get(&key).copied();
            let known = old.stored(&row.namespace, &row.hook, row.version);
            let known = known
                .filter(|known| known.row == row && known.quarantine == quarantine)
                .map(|known| known.version.clone());
            state.add(row, quarantine, known, limits);
        }
        for (namespace, binding) in contents.bindings {
            let tenant = state.tenants.entry(namespace).or_default();
            tenant.bindings.insert(binding.id.clone(), binding);
        }
        for (namespace, hook, name) in contents.tests {
            if let Some(hook) = state.hook_mut(&namespace, &hook) {
                hook.tests.insert(name);
            }
        }
        for (namespace, hook, number) in contents.last_numbers {
            state.note_number(namespace, hook, number);
        }
        state
    }

    /// Does in memory what the catalog did.
    pub(super) fn apply(&mut self, change: &HookChange, limits: &HookLimits) {
        match change {
            HookChange::AddVersion(row, _) => self.add(row.clone(), None, None, limits),
            HookChange::DeleteVersion(namespace, hook, version, _) => {
                let Some(tenant) = self.tenants.get_mut(namespace) else {
                    return;
                };
                let Some(found) = tenant.hooks.get_mut(hook) else {
                    return;
                };
                found.versions.remove(version);
                if found.versions.is_empty() {
                    tenant.hooks.remove(hook);
                }
            }
            HookChange::PutBinding(namespace, binding) => {
                let tenant = self.tenants.entry(namespace.clone()).or_default();
                tenant.bindings.insert(binding.id.clone(), binding.clone());
            }
            HookChange::DeleteBinding(namespace, id) => {
                if let Some(tenant) = self.tenants.get_mut(namespace) {
                    tenant.bindings.remove(id);
                }
            }
            HookChange::PutTest {
                namespace,
                hook,
                name,
                ..
            } => {
                if let Some(hook) = self.hook_mut(namespace, hook) {
                    hook.tests.insert(name.clone());
                }
            }
            HookChange::DeleteTest(namespace, hook, name) => {
                if let Some(hook) = self.hook_mut(namespace, hook) {
                    hook.tests.remove(name);
                }
            }
            HookChange::Quarantine {
                namespace,
                hook,
                version,
                quarantine,
            } => {
                let hook = self.hook_mut(namespace, hook);
                if let Some(stored) = hook.and_then(|hook| hook.versions.get_mut(version)) {
                    stored.quarantine = *quarantine;
                    stored.version = version_of(&stored.row, quarantine.is_some(), limits);
                }
            }
        }
    }

    pub(super) fn hook(&self, namespace: &Namespace, hook: &HookName) -> Option<&Hook> {
        self.tenants.get(namespace)?.hooks.get(hook)
    }

    pub(super) fn stored(&self, namespace: &Namespace, hook: &HookName, version: u32) -> Option<&Stored> {
        self.hook(namespace, hook)?.versions.get(&version)
    }

    pub(super) fn is_quarantined(&self, namespace: &Namespace, hook: &HookName, version: u32) -> bool {
        let stored = self.stored(namespace, hook, version);
        stored.is_some_and(|stored| stored.quarantine.is_some())
    }

    /// Completes what is known of a version: a breaker is of interest while its version would be run.
    pub(super) fn judge(&self, namespace: &Namespace, hook: &HookName, stats: &mut VersionStats) {
        stats.quarantined = self.is_quarantined(namespace, hook, stats.version);
        let runs = |binding: &Binding| {
            let number = Some(stats.version);
            binding.enabled
                && binding.hook == *hook
                && (Some(binding.version) == number
                    || binding.canary.map(|canary| canary.version) == number
                    || (binding.previous == number && binding.policies.retries()))
        };
        let tenant = self.tenants.get(namespace);
        stats.breaker_open &= tenant.is_some_and(|tenant| tenant.bindings.values().any(runs));
    }

    /// The number of the next version of `hook`: one that none of its versions ever had.
    pub(super) fn next_number(&self, namespace: &Namespace, hook: &HookName) -> u32 {
        let last = self.last_numbers.get(&(namespace.clone(), hook.clone()));
        1 + last.copied().unwrap_or(0)
    }

    pub(super) fn binding(&self, namespace: &Namespace, id: &HookName) -> Option<&Binding> {
        self.tenants.get(namespace)?.bindings.get(id)
    }

    fn hook_mut(&mut self, namespace: &Namespace, hook: &HookName) -> Option<&mut Hook> {
        self.tenants.get_mut(namespace)?.hooks.get_mut(hook)
    }

    fn note_number(&mut self, namespace: Namespace, hook: HookName, number: u32) {
        let last = self.last_numbers.entry((namespace, hook)).or_default();
        *last = number.max(*last);
    }

    /// Makes every version anew under other limits.
    pub(super) fn limit(&mut self, limits: &HookLimits) {
        let hooks = self
            .tenants
            .values_mut()
            .flat_map(|tenant| tenant.hooks.values_mut());
        for stored in hooks.flat_map(|hook| hook.versions.values_mut()) {
            stored.version = version_of(&stored.row, stored.quarantine.is_some(), limits);
        }
    }

    fn add(
        &mut self,
        row: HookVersionRow,
        quarantine: Option<Quarantine>,
        known: Option<Arc<Version>>,
        limits: &HookLimits,
    ) {
        let version = known.unwrap_or_else(|| version_of(&row, quarantine.is_some(), limits));
        self.note_number(row.namespace.clone(), row.hook.clone(), row.version);
        let tenant = self.tenants.entry(row.namespace.clone()).or_default();
        let hook = tenant.hooks.entry(row.hook.clone()).or_default();
        let stored = Stored {
            row,
            version,
            quarantine,
        };
        hook.versions.insert(stored.row.version, stored);
    }
}

/// A version as it is run under `limits`, unless its manifest asks for less.
fn version_of(row: &HookVersionRow, quarantined: bool, limits: &HookLimits) -> Arc<Version> {
    Arc::new(Version {
        namespace: row.namespace.clone(),
        hook: HookRef {
            hook: row.hook.clone(),
            version: row.version,
        },
        digest: row.digest,
        manifest: row.manifest.clone(),
        limits: limits.lowered(&row.manifest.limits),
        config: row.config.clone(),
        secrets: row.secrets.clone(),
        quarantined,
    })
}

impl Tenant {
    /// The bindings that name `version` of `hook` in any role.
    pub(super) fn users(&self, hook: &HookName, version: u32) -> Vec<HookName> {
        let uses = |binding: &&Binding| {
            &binding.hook == hook && versions_of(binding).any(|(_, used)| used == version)
        };
        self.bindings
            .values()
            .filter(uses)
            .map(|binding| binding.id.clone())
            .collect()
    }

    /// The bindings of `hook`, by id.
    pub(super) fn bindings_of(&self, hook: &HookName) -> Vec<Binding> {
        let of_hook = self.bindings.values().filter(|binding| &binding.hook == hook);
        of_hook.cloned().collect()
    }

    /// The most bindings that are on and meet in one topic on the side of `binding`, if it were there as it is.
    pub(super) fn chain_length(&self, binding: &Binding) -> usize {
        let others = self
            .bindings
            .values()
            .filter(|other| other.enabled && other.side == binding.side && other.id != binding.id);
        let met: Vec<&TopicPattern> = others
            .map(|other| &other.topic)
            .filter(|topic| overlap(topic, &binding.topic))
            .collect();
        // Names and prefixes form a tree: what meets at all meets at one of the patterns' own ends.
        let at = |end: &TopicPattern| met.iter().filter(|pattern| covers(pattern, end)).count();
        let ends = met.iter().copied().chain([&binding.topic]);
        let deepest = ends.filter(|end| covers(&binding.topic, end)).map(at).max();
        1 + deepest.unwrap_or(0)
    }
}

/// The versions `binding` names, and what each is to it.
pub(super) fn versions_of(binding: &Binding) -> impl Iterator<Item = (&'static str, u32)> {
    [
        Some(("version", binding.version)),
        binding.previous.map(|version| ("previous", version)),
        binding.canary.map(|canary| ("canary", canary.version)),
        binding.shadow.map(|version| ("shadow", version)),
    ]
    .into_iter()
    .flatten()
}

/// Whether every topic that `narrow` is for is one that `wide` is for.
fn covers(wide: &TopicPattern, narrow: &TopicPattern) -> bool {
    match (wide, narrow) {
        (TopicPattern::Exact(one), TopicPattern::Exact(other)) => one == other,
        (TopicPattern::Exact(_), TopicPattern::Prefix(_)) => false,
        (TopicPattern::Prefix(prefix), TopicPattern::Exact(name)) => name.as_str().starts_with(&**prefix),
        (TopicPattern::Prefix(prefix), TopicPattern::Prefix(other)) => other.starts_with(&**prefix),
    }
}

fn overlap(one: &TopicPattern, other: &TopicPattern) -> bool {
    covers(one, other) || covers(other, one)
}

/// Whether a version exports `side`.
pub(super) fn exports(stored: &Stored, side: Side) -> bool {
    stored.row.exports.contains(&side)
}
