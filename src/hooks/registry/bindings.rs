//! Bindings: which version of which hook is in force for which topics.

use super::change::Plan;
use super::state::{State, exports, versions_of};
use super::versions::By;
use super::{Activation, BindingDraft, Expected, Registry, RegistryError, Result};
use crate::clock::Timestamp;
use crate::hooks::Bound;
use crate::hooks::engine::UploadError;
use crate::hooks::rehearse::{parse_cases, run_cases};
use crate::model::{Author, Binding, Canary, HookName, Namespace, Side};
use crate::shard::HookChange;

/// How long after an activation an open breaker brings the version before back, in milliseconds.
const PROBATION_MS: i64 = 10 * 60 * 1_000;
/// Failed cases that are told.
const FAILURES_MAX: usize = 20;
/// Who rolled back when nobody did.
const SERVER: &str = "mqueue";

impl Registry {
    /// The bindings of a namespace, by id.
    pub fn bindings(&self, namespace: &Namespace) -> Vec<Binding> {
        let state = self.state.read();
        let tenant = state.tenants.get(namespace);
        tenant.map_or_else(Vec::new, |tenant| tenant.bindings.values().cloned().collect())
    }

    /// A binding.
    pub fn binding(&self, namespace: &Namespace, id: &HookName) -> Option<Binding> {
        self.state.read().binding(namespace, id).cloned()
    }

    /// Makes or changes a binding; versions that it did not have in force before must pass the gate.
    pub async fn put_binding(
        &self,
        namespace: &Namespace,
        draft: BindingDraft,
        expected: Expected,
        author: &Author,
    ) -> Result<Binding> {
        self.put_binding_by(namespace, draft, expected, By::api(author))
            .await
    }

    pub(super) async fn put_binding_by(
        &self,
        namespace: &Namespace,
        draft: BindingDraft,
        expected: Expected,
        by: By<'_>,
    ) -> Result<Binding> {
        let before = self.binding(namespace, &draft.id);
        check_revision(before.as_ref(), expected)?;
        {
            let state = self.state.read();
            self.check_owners(&state, namespace, before.as_ref(), &draft.hook, by)?;
        }
        let before = before.filter(|before| before.hook == draft.hook && before.side == draft.side);
        let named = [
            Some(draft.version),
            draft.canary.map(|canary| canary.version),
            draft.shadow,
        ];
        for version in named.into_iter().flatten() {
            let known = before.as_ref().is_some_and(|before| {
                before.enabled && versions_of(before).any(|(role, used)| role != "shadow" && used == version)
            });
            if !known {
                let shadow = draft.shadow == Some(version)
                    && draft.version != version
                    && draft.canary.is_none_or(|canary| canary.version != version);
                self.gate(namespace, &draft.hook, version, draft.side, shadow)
                    .await?;
            }
        }
        self.rewrite(
            namespace,
            &draft.id,
            expected,
            "binding.put",
            by,
            |before, now| Ok(drafted(&draft, before, now)),
        )
        .await
    }

    /// Deletes a binding.
    pub async fn delete_binding(
        &self,
        namespace: &Namespace,
        id: &HookName,
        expected: Expected,
        author: &Author,
    ) -> Result<()> {
        self.delete_binding_by(namespace, id, expected, By::api(author))
            .await
    }

    pub(super) async fn delete_binding_by(
        &self,
        namespace: &Namespace,
        id: &HookName,
        expected: Expected,
        by: By<'_>,
    ) -> Result<()> {
        self.change(|state| {
            let before = state.binding(namespace, id);
            check_revision(before, expected)?;
            let before = before.ok_or(RegistryError::UnknownBinding)?;
            self.check_owners(state, namespace, Some(before), &before.hook, by)?;
            let mut plan = Plan::new(());
            plan.note(self.clock.now(), namespace, by, "binding.delete", id.to_string());
            plan.before(before);
            plan.changes
                .push(HookChange::DeleteBinding(namespace.clone(), id.clone()));
            Ok(plan)
        })
        .await
    }

    /// Puts a version in force, or on trial with a share of the items, once it passed the gate.
    pub async fn activate(
        &self,
        namespace: &Namespace,
        id: &HookName,
        expected: Expected,
        activation: Activation,
        author: &Author,
    ) -> Result<Binding> {
        let Activation {
            version,
            canary_percent,
            force,
        } = activation;
        if canary_percent.is_some_and(|percent| !(1..=99).contains(&percent)) {
            return Err(RegistryError::Invalid {
                field: "canary_percent",
                detail: "must be between 1 and 99; leave it out to activate for all items".to_owned(),
            });
        }
        let before = self.binding(namespace, id);
        check_revision(before.as_ref(), expected)?;
        let before = before.ok_or(RegistryError::UnknownBinding)?;
        self.gate(namespace, &before.hook, version, before.side, force)
            .await?;
        let action = if canary_percent.is_some() {
            "hook.canary"
        } else {
            "hook.activate"
        };
        // What was gated is the hook the binding names now: nothing else may have taken its place.
        let expected = Expected::Revision(before.revision);
        self.rewrite(namespace, id, expected, action, By::api(author), |before, now| {
            let mut binding = before.cloned().ok_or(RegistryError::UnknownBinding)?;
            match canary_percent {
                Some(_) if binding.version == version => {
                    return Err(RegistryError::Nothing("this version is in force already"));
                }
                Some(percent) => binding.canary = Some(Canary { version, percent }),
                None => put_in_force(&mut binding, version, now),
            }
            Ok(binding)
        })
        .await
    }

    /// Puts the version on trial in force.
    pub async fn promote(
        &self,
        namespace: &Namespace,
        id: &HookName,
        expected: Expected,
        author: &Author,
    ) -> Result<Binding> {
        self.rewrite(
            namespace,
            id,
            expected,
            "hook.promote",
            By::api(author),
            |before, now| {
                let mut binding = before.cloned().ok_or(RegistryError::UnknownBinding)?;
                let canary = binding
                    .canary
                    .ok_or(RegistryError::Nothing("no version is on trial"))?;
                put_in_force(&mut binding, canary.version, now);
                Ok(binding)
            },
        )
        .await
    }

    /// Takes the version on trial away, or else puts the version before back in force.
    pub async fn rollback(
        &self,
        namespace: &Namespace,
        id: &HookName,
        expected: Expected,
        author: &Author,
    ) -> Result<Binding> {
        self.rewrite(
            namespace,
            id,
            expected,
            "hook.rollback",
            By::api(author),
            rolled_back,
        )
        .await
    }

    /// Rolls `bound` back because its breaker opened; nothing when it has changed since.
    pub(super) async fn roll_back_by_itself(&self, bound: &Bound) -> Result<Binding> {
        let by = By {
            actor: SERVER,
            author: None,
            owner: self.owner_of(&bound.namespace, &bound.binding.hook),
        };
        let expected = Expected::Revision(bound.binding.revision);
        let (namespace, id) = (&bound.namespace, &bound.binding.id);
        self.rewrite(namespace, id, expected, "hook.auto_rollback", by, rolled_back)
            .await
    }

    /// Whether an open breaker of `version` under `bound` at `now` is to roll back.
    pub(super) fn on_probation(bound: &Bound, version: u32, now: Timestamp) -> bool {
        let binding = &bound.binding;
        if !binding.auto_rollback {
            return false;
        }
        match binding.canary {
            Some(canary) if canary.version == version => true,
            // A rollback takes the trial away first, which would not help.
            Some(_) => false,
            None => {
                binding.version == version
                    && binding.previous.is_some()
                    && now.since_ms(binding.activated_at) < PROBATION_MS
            }
        }
    }

    fn owner_of(&self, namespace: &Namespace, hook: &HookName) -> super::Owner {
        let state = self.state.read();
        self.owner(&state, namespace, hook).unwrap_or(super::Owner::Api)
    }

    /// Changes one binding to what `write` makes of it.
    async fn rewrite(
        &self,
        namespace: &Namespace,
        id: &HookName,
        expected: Expected,
        action: &'static str,
        by: By<'_>,
        write: impl Fn(Option<&Binding>, Timestamp) -> Result<Binding>,
    ) -> Result<Binding> {
        self.change(|state| {
            let now = self.clock.now();
            let before = state.binding(namespace, id);
            check_revision(before, expected)?;
            if let Some(before) = before {
                self.check_owner(state, namespace, &before.hook, by)?;
            }
            let mut after = write(before, now)?;
            self.check_owners(state, namespace, before, &after.hook, by)?;
            self.check_binding(state, namespace, &after)?;
            if before.is_some_and(|before| *before == after) {
                return Ok(Plan::nothing(after));
            }
            // The number of the change: no binding that is deleted and made anew repeats one.
            after.revision = state.generation + 1;
            let mut plan = Plan::new(after.clone());
            plan.note(now, namespace, by, action, id.to_string());
            if let Some(before) = before {
                plan.before(before);
            }
            plan.after(&after);
            plan.changes
                .push(HookChange::PutBinding(namespace.clone(), after));
            Ok(plan)
        })
        .await
    }

    fn check_owners(
        &self,
        state: &State,
        namespace: &Namespace,
        before: Option<&Binding>,
        hook: &HookName,
        by: By<'_>,
    ) -> Result<()> {
        if let Some(before) = before {
            self.check_owner(state, namespace, &before.hook, by)?;
        }
        self.check_owner(state, namespace, hook, by)
    }

    fn check_binding(&self, state: &State, namespace: &Namespace, binding: &Binding) -> Result<()> {
        let hook = state
            .hook(namespace, &binding.hook)
            .ok_or(RegistryError::UnknownHook)?;
        for (role, version) in versions_of(binding) {
            let stored = hook.versions.get(&version);
            let stored = stored.ok_or(RegistryError::UnknownVersion(version))?;
            if role != "previous" && !exports(stored, binding.side) {
                return Err(no_export(&binding.hook, version, binding.side));
            }
        }
        if binding
            .canary
            .is_some_and(|canary| !(1..=99).contains(&canary.percent))
        {
            return Err(RegistryError::Invalid {
                field: "canary.percent",
                detail: "must be between 1 and 99".to_owned(),
            });
        }
        if !(1..=100).contains(&binding.shadow_percent) {
            return Err(RegistryError::Invalid {
                field: "shadow_percent",
                detail: "must be between 1 and 100".to_owned(),
            });
        }
        let limits = &self.limits.namespace;
        let Some(tenant) = state.tenants.get(namespace) else {
            return Err(RegistryError::UnknownHook);
        };
        if binding.enabled && tenant.chain_length(binding) > limits.bindings_per_topic {
            let what = "bindings that are on for one topic and side";
            return Err(RegistryError::Limit(what, limits.bindings_per_topic));
        }
        let room = limits.hooks * limits.bindings_per_topic;
        if tenant.bindings.len() >= room && !tenant.bindings.contains_key(&binding.id) {
            return Err(RegistryError::Limit("bindings in a namespace", room));
        }
        Ok(())
    }

    /// Whether `version` may go into force: it exports the side, is compiled here, can be instantiated within
    /// its own limits, and passes every test case of its hook for that side; `force` passes over failed ones.
    async fn gate(
        &self,
        namespace: &Namespace,
        hook: &HookName,
        number: u32,
        side: Side,
        force: bool,
    ) -> Result<()> {
        let version = {
            let state = self.state.read();
            let known = state.hook(namespace, hook).ok_or(RegistryError::UnknownHook)?;
            let stored = known.versions.get(&number);
            let stored = stored.ok_or(RegistryError::UnknownVersion(number))?;
            if !exports(stored, side) {
                return Err(no_export(hook, number, side));
            }
            if stored.quarantine.is_some() {
                return Err(RegistryError::Gate(vec![format!(
                    "{hook}@{number} is in quarantine; acknowledge that first"
                )]));
            }
            stored.version.clone()
        };
        self.preparer.ensure(version.digest, namespace).await?;
        match self.preparer.try_out(version.clone()).await {
            Err(UploadError::Start(detail)) => {
                let detail = format!("version: it cannot be instantiated within its own limits: {detail}");
                return Err(RegistryError::Gate(vec![detail]));
            }
            tried => tried?,
        }
        if force {
            return Ok(());
        }
        let tests = self.tests(namespace, hook).await?;
        if !tests.is_empty() {
            let spare = self.preparer.may_rehearse(namespace);
            spare.map_err(RegistryError::Busy)?;
        }
        let mut failures = Vec::new();
        for test in tests {
            let cases = match parse_cases(&test.case) {
                Ok(cases) => cases,
                Err(detail) => {
                    failures.push(format!("test `{}`: {detail}", test.name));
                    continue;
                }
            };
            let cases: Vec<_> = cases.into_iter().filter(|case| case.side == side).collect();
            for result in run_cases(&*self.preparer, &version, &cases).await {
                if let Some(mismatch) = result.mismatch {
                    let case = match *result.name == *test.name.as_str() {
                        true => String::new(),
                        false => format!(", case `{}`", result.name),
                    };
                    failures.push(format!("test `{}`{case}: {mismatch}", test.name));
                }
            }
            if failures.len() >= FAILURES_MAX {
                break;
            }
        }
        match failures.is_empty() {
            true => Ok(()),
            false => Err(RegistryError::Gate(failures)),
        }
    }
}

fn no_export(hook: &HookName, version: u32, side: Side) -> RegistryError {
    RegistryError::Gate(vec![format!(
        "{hook}@{version} does not export the interface `{side}`"
    )])
}

fn check_revision(binding: Option<&Binding>, expected: Expected) -> Result<()> {
    let current = binding.map(|binding| binding.revision);
    let met = match expected {
        Expected::Anything => true,
        Expected::Absent => current.is_none(),
        Expected::Revision(revision) => current == Some(revision),
    };
    if met {
        Ok(())
    } else {
        Err(RegistryError::Stale { current })
    }
}

fn drafted(draft: &BindingDraft, before: Option<&Binding>, now: Timestamp) -> Binding {
    let kept = before.filter(|before| before.hook == draft.hook && before.side == draft.side);
    let mut binding = Binding {
        id: draft.id.clone(),
        topic: draft.topic.clone(),
        side: draft.side,
        position: draft.position,
        hook: draft.hook.clone(),
        version: draft.version,
        previous: None,
        canary: draft.canary,
        shadow: draft.shadow,
        shadow_percent: draft.shadow_percent,
        policies: draft.policies,
        auto_rollback: draft.auto_rollback,
        enabled: draft.enabled,
        activated_at: now,
        revision: before.map_or(0, |before| before.revision),
    };
    if let Some(kept) = kept {
        (binding.version, binding.previous) = (kept.version, kept.previous);
        binding.activated_at = kept.activated_at;
        put_in_force(&mut binding, draft.version, now);
        binding.canary = draft.canary.filter(|canary| canary.version != draft.version);
    }
    binding
}

fn put_in_force(binding: &mut Binding, version: u32, now: Timestamp) {
    binding.canary = None;
    if binding.version != version {
        binding.previous = Some(binding.version);
        binding.version = version;
        binding.activated_at = now;
    }
}

/// Forgets the version that is rolled back: a second rollback must not bring it in force again.
fn rolled_back(before: Option<&Binding>, now: Timestamp) -> Result<Binding> {
    let mut binding = before.cloned().ok_or(RegistryError::UnknownBinding)?;
    if binding.canary.take().is_none() {
        let previous = binding.previous.take();
        let nothing = RegistryError::Nothing("there is no version to go back to");
        binding.version = previous.ok_or(nothing)?;
        binding.activated_at = now;
    }
    Ok(binding)
}
