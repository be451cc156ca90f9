//! Versions: what is added to a hook and taken away.

use std::sync::Arc;

use super::change::Plan;
use super::state::{Hook, State, Stored, Tenant};
use super::{
    AddedVersion, HookSummary, HookView, NewVersion, Owner, Registry, RegistryError, Result, VersionView,
};
use crate::hooks::Version;
use crate::hooks::engine::Prepared;
use crate::model::{Author, Digest, HookConfig, HookName, Namespace};
use crate::shard::{HookChange, HookVersionRow};

/// Longest note and description, in bytes.
const WORDS_BYTES_MAX: usize = 1 << 10;
/// Longest key of a configuration, in bytes.
const KEY_BYTES_MAX: usize = 128;

/// On whose behalf something changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct By<'a> {
    pub(super) actor: &'a str,
    /// Who asked for it, where it was asked for over the API.
    pub(super) author: Option<&'a Author>,
    pub(super) owner: Owner,
}

impl<'a> By<'a> {
    pub(super) fn api(author: &'a Author) -> Self {
        Self {
            actor: &author.subject,
            author: Some(author),
            owner: Owner::Api,
        }
    }
}

impl Registry {
    /// The hooks of a namespace, by name: those with versions, and those whose folder was refused.
    pub fn list(&self, namespace: &Namespace) -> Vec<HookSummary> {
        let state = self.state.read();
        let tenant = state.tenants.get(namespace);
        let mut names: Vec<HookName> = tenant.map_or_else(Vec::new, |t| t.hooks.keys().cloned().collect());
        names.extend(self.folders.names(namespace));
        names.sort_unstable();
        names.dedup();
        names
            .iter()
            .map(|name| self.summary(&state, namespace, name))
            .collect()
    }

    /// A hook with its versions, the newest first, and its bindings.
    pub fn hook(&self, namespace: &Namespace, hook: &HookName) -> Option<HookView> {
        let state = self.state.read();
        let tenant = state.tenants.get(namespace);
        let found = tenant.and_then(|tenant| tenant.hooks.get(hook));
        if found.is_none() && !self.folders.has(namespace, hook) {
            return None;
        }
        let versions = found.map_or_else(Vec::new, |found| {
            found
                .versions
                .values()
                .rev()
                .map(|stored| self.view(stored))
                .collect()
        });
        Some(HookView {
            summary: self.summary(&state, namespace, hook),
            versions,
            bindings: tenant.map_or_else(Vec::new, |tenant| tenant.bindings_of(hook)),
        })
    }

    /// A version, ready to be called.
    pub fn version(&self, namespace: &Namespace, hook: &HookName, version: u32) -> Option<Arc<Version>> {
        let state = self.state.read();
        state
            .stored(namespace, hook, version)
            .map(|stored| stored.version.clone())
    }

    /// A version as its owner sees it.
    pub fn version_view(&self, namespace: &Namespace, hook: &HookName, version: u32) -> Option<VersionView> {
        let state = self.state.read();
        state
            .stored(namespace, hook, version)
            .map(|stored| self.view(stored))
    }

    /// The bytes of a module, from the catalog; none when no version has it.
    pub async fn module(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        Ok(self.catalog.module(digest).await?)
    }

    /// Compiles and stores a version. One that equals the newest in module, manifest, configuration and
    /// secrets is not stored again. The oldest version that no binding names goes when there are too many.
    pub async fn add_version(
        &self,
        namespace: &Namespace,
        hook: &HookName,
        version: NewVersion,
        author: &Author,
    ) -> Result<AddedVersion> {
        self.add_version_by(namespace, hook, version, By::api(author))
            .await
    }

    pub(super) async fn add_version_by(
        &self,
        namespace: &Namespace,
        hook: &HookName,
        version: NewVersion,
        by: By<'_>,
    ) -> Result<AddedVersion> {
        self.check_settings(&version)?;
        {
            // Compiling costs seconds: what is refused anyway is refused before.
            let state = self.state.read();
            self.check_owner(&state, namespace, hook, by)?;
            self.check_room(&state, namespace, hook)?;
        }
        let prepared = self.preparer.prepare(&version.module, namespace).await?;
        let component: Arc<[u8]> = prepared.component.as_slice().into();
        let row = HookVersionRow {
            namespace: namespace.clone(),
            hook: hook.clone(),
            version: 0,
            digest: prepared.digest,
            module_bytes: component.len() as u64,
            exports: prepared.exports.clone(),
            manifest: version.manifest,
            config: Arc::new(version.config),
            secrets: Arc::new(version.secrets),
            note: version.note,
            from_folder: by.owner == Owner::Folder,
            created_by: by.actor.to_owned(),
            created_at: self.clock.now(),
        };
        let (number, created) = self
            .change(|state| self.plan_version(state, &row, &component, by))
            .await?;
        let state = self.state.read();
        let Some(stored) = state.stored(namespace, hook, number) else {
            return Err(RegistryError::UnknownVersion(number));
        };
        let Prepared {
            imports,
            warnings,
            compile_ms,
            ..
        } = prepared;
        Ok(AddedVersion {
            version: self.view(stored),
            created,
            imports,
            warnings,
            compile_ms,
        })
    }

    fn plan_version(
        &self,
        state: &State,
        row: &HookVersionRow,
        module: &Arc<[u8]>,
        by: By<'_>,
    ) -> Result<Plan<(u32, bool)>> {
        let (namespace, hook) = (&row.namespace, &row.hook);
        self.check_owner(state, namespace, hook, by)?;
        self.check_room(state, namespace, hook)?;
        let known = state.hook(namespace, hook);
        let newest = known.and_then(|known| known.versions.values().next_back());
        if let Some(newest) = newest.filter(|newest| same(&newest.row, row)) {
            return Ok(Plan::nothing((newest.row.version, false)));
        }
        let number = state.next_number(namespace, hook);
        let mut plan = Plan::new((number, true));
        let mut dropped = None;
        if let (Some(known), Some(tenant)) = (known, state.tenants.get(namespace))
            && known.versions.len() >= self.limits.namespace.versions_per_hook
        {
            let unused = |stored: &&Stored| tenant.users(hook, stored.row.version).is_empty();
            let Some(oldest) = known.versions.values().find(unused) else {
                return Err(self.too_many_versions());
            };
            dropped = Some(oldest);
            plan.changes.push(HookChange::DeleteVersion(
                namespace.clone(),
                hook.clone(),
                oldest.row.version,
                oldest.row.digest,
            ));
        }
        self.check_bytes(
            state.tenants.get(namespace),
            row,
            dropped.map(|stored| &stored.row),
        )?;
        let row = HookVersionRow {
            version: number,
            ..row.clone()
        };
        let target = row_name(&row);
        plan.note(self.clock.now(), namespace, by, "hook.version.add", target);
        plan.after(&self.view_of(&row));
        plan.changes.push(HookChange::AddVersion(row, module.clone()));
        Ok(plan)
    }

    /// Deletes a version that no binding names, and its module when no other version has it. The hook goes
    /// with its last version, and its test cases with it.
    pub async fn delete_version(
        &self,
        namespace: &Namespace,
        hook: &HookName,
        version: u32,
        author: &Author,
    ) -> Result<()> {
        self.change(|state| {
            let known = state.hook(namespace, hook).ok_or(RegistryError::UnknownHook)?;
            let stored = known.versions.get(&version);
            let stored = stored.ok_or(RegistryError::UnknownVersion(version))?;
            self.check_owner(state, namespace, hook, By::api(author))?;
            let users = state
                .tenants
                .get(namespace)
                .map_or_else(Vec::new, |t| t.users(hook, version));
            if !users.is_empty() {
                return Err(RegistryError::Bound(users));
            }
            let mut plan = Plan::new(());
            plan.note(
                self.clock.now(),
                namespace,
                By::api(author),
                "hook.version.delete",
                row_name(&stored.row),
            );
            plan.before(&self.view(stored));
            if known.versions.len() == 1 {
                let tests = known
                    .tests
                    .iter()
                    .map(|test| HookChange::DeleteTest(namespace.clone(), hook.clone(), test.clone()));
                plan.changes.extend(tests);
            }
            plan.changes.push(HookChange::DeleteVersion(
                namespace.clone(),
                hook.clone(),
                version,
                stored.row.digest,
            ));
            Ok(plan)
        })
        .await
    }

    fn check_settings(&self, version: &NewVersion) -> Result<()> {
        let limits = &self.limits.namespace;
        let words = [("note", version.note.as_deref().unwrap_or_default())];
        for (field, text) in words
            .into_iter()
            .chain([("manifest.description", &*version.manifest.description)])
        {
            if text.len() > WORDS_BYTES_MAX || text.contains('\0') {
                let detail = format!("must be at most {WORDS_BYTES_MAX} bytes, without null characters");
                return Err(RegistryError::Invalid { field, detail });
            }
        }
        for (field, values) in [("config", &version.config), ("secrets", &version.secrets)] {
            let fits = |key: &str| (1..=KEY_BYTES_MAX).contains(&key.len());
            if !values.keys().all(|key| fits(key)) {
                let detail = format!("keys must have 1 to {KEY_BYTES_MAX} bytes");
                return Err(RegistryError::Invalid { field, detail });
            }
        }
        let json = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        if let Some((key, _)) = version.config.iter().find(|(_, value)| !json(value)) {
            return Err(RegistryError::Invalid {
                field: "config",
                detail: format!("the value of `{key}` is not JSON"),
            });
        }
        if settings_bytes(&version.config) > limits.config_bytes as u64 {
            return Err(RegistryError::Limit(
                "bytes of configuration",
                limits.config_bytes,
            ));
        }
        if version.secrets.len() > limits.secrets {
            return Err(RegistryError::Limit("secrets of a version", limits.secrets));
        }
        if version
            .secrets
            .values()
            .any(|secret| secret.len() > limits.secret_bytes)
        {
            return Err(RegistryError::Limit("bytes in a secret", limits.secret_bytes));
        }
        Ok(())
    }

    pub(super) fn check_owner(
        &self,
        state: &State,
        namespace: &Namespace,
        hook: &HookName,
        by: By<'_>,
    ) -> Result<()> {
        match (self.owner(state, namespace, hook), by.owner) {
            (Some(Owner::Folder), Owner::Api) => Err(RegistryError::OwnedByFolder),
            (Some(Owner::Api), Owner::Folder) => Err(RegistryError::OwnedByApi),
            _ => Ok(()),
        }
    }

    /// Whose a hook is: the folder's while its folder is there or what came from it is bound.
    pub(super) fn owner(&self, state: &State, namespace: &Namespace, hook: &HookName) -> Option<Owner> {
        let newest = state
            .hook(namespace, hook)
            .and_then(|known| known.versions.values().next_back());
        let Some(newest) = newest else {
            return self.folders.has(namespace, hook).then_some(Owner::Folder);
        };
        if !newest.row.from_folder {
            return Some(Owner::Api);
        }
        let tenant = state.tenants.get(namespace);
        let bound = tenant.is_some_and(|t| t.bindings.values().any(|binding| &binding.hook == hook));
        if bound || self.folders.has(namespace, hook) {
            return Some(Owner::Folder);
        }
        None
    }

    fn check_room(&self, state: &State, namespace: &Namespace, hook: &HookName) -> Result<()> {
        let Some(tenant) = state.tenants.get(namespace) else {
            return Ok(());
        };
        let limits = &self.limits.namespace;
        match tenant.hooks.get(hook) {
            None if tenant.hooks.len() >= limits.hooks => {
                Err(RegistryError::Limit("hooks in a namespace", limits.hooks))
            }
            Some(known) if known.versions.len() >= limits.versions_per_hook => {
                let unused = known
                    .versions
                    .keys()
                    .any(|&version| tenant.users(hook, version).is_empty());
                if unused {
                    Ok(())
                } else {
                    Err(self.too_many_versions())
                }
            }
            _ => Ok(()),
        }
    }

    fn too_many_versions(&self) -> RegistryError {
        RegistryError::Limit("versions of a hook", self.limits.namespace.versions_per_hook)
    }

    fn check_bytes(
        &self,
        tenant: Option<&Tenant>,
        row: &HookVersionRow,
        dropped: Option<&HookVersionRow>,
    ) -> Result<()> {
        let hooks = tenant.into_iter().flat_map(|tenant| tenant.hooks.values());
        let stored = hooks
            .flat_map(|hook| hook.versions.values())
            .map(|stored| &stored.row);
        let (mut modules, mut settings) = (0, 0);
        for row in stored.chain([row]) {
            modules += row.module_bytes;
            settings += settings_bytes(&row.config) + settings_bytes(&row.secrets);
        }
        if let Some(row) = dropped {
            modules -= row.module_bytes;
            settings -= settings_bytes(&row.config) + settings_bytes(&row.secrets);
        }
        let limits = &self.limits.namespace;
        for (what, used, limit) in [
            (
                "bytes of modules in a namespace",
                modules,
                limits.module_bytes_in_all,
            ),
            (
                "bytes of configurations and secrets in a namespace",
                settings,
                limits.settings_bytes_in_all,
            ),
        ] {
            if used > limit {
                return Err(RegistryError::Limit(what, limit as usize));
            }
        }
        Ok(())
    }

    fn summary(&self, state: &State, namespace: &Namespace, name: &HookName) -> HookSummary {
        let empty = Hook::default();
        let known = state.hook(namespace, name).unwrap_or(&empty);
        let newest = known.versions.values().next_back().map(|stored| &stored.row);
        let tenant = state.tenants.get(namespace);
        let bindings = tenant.map_or_else(Vec::new, |tenant| tenant.bindings_of(name));
        HookSummary {
            name: name.clone(),
            description: newest.map_or_else(String::new, |row| row.manifest.description.clone()),
            latest: newest.map(|row| row.version),
            versions: known.versions.len(),
            exports: newest.map_or_else(Vec::new, |row| row.exports.clone()),
            bindings: bindings.into_iter().map(|binding| binding.id).collect(),
            owner: self.owner(state, namespace, name).unwrap_or(Owner::Api),
            rejected: self.folders.rejected(namespace, name),
        }
    }

    pub(super) fn view(&self, stored: &Stored) -> VersionView {
        VersionView {
            quarantine: stored.quarantine,
            ..self.view_of(&stored.row)
        }
    }

    fn view_of(&self, row: &HookVersionRow) -> VersionView {
        VersionView {
            hook: row.hook.clone(),
            version: row.version,
            digest: row.digest,
            module_bytes: row.module_bytes,
            exports: row.exports.clone(),
            manifest: row.manifest.clone(),
            config: (*row.config).clone(),
            secrets: row.secrets.keys().cloned().collect(),
            note: row.note.clone(),
            created_by: row.created_by.clone(),
            created_at: row.created_at,
            ready: self.preparer.is_ready(row.digest),
            quarantine: None,
        }
    }
}

pub(super) fn row_name(row: &HookVersionRow) -> String {
    format!("{}@{}", row.hook, row.version)
}

fn same(one: &HookVersionRow, other: &HookVersionRow) -> bool {
    one.digest == other.digest
        && one.manifest == other.manifest
        && one.config == other.config
        && one.secrets == other.secrets
        && one.from_folder == other.from_folder
}

fn settings_bytes(values: &HookConfig) -> u64 {
    values
        .iter()
        .map(|(key, value)| (key.len() + value.len()) as u64)
        .sum()
}
