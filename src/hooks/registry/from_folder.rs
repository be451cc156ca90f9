//! Hooks from the plugins folder: the same steps as over the API, on the folder's behalf.

use super::versions::By;
use super::{Expected, Owner, Registry, RegistryError, Result, StoredTest};
use crate::hooks::LogLevel;
use crate::hooks::engine::UploadError;
use crate::hooks::folder::FolderHook;
use crate::model::{HookName, Namespace};

/// The folder, as the one who changes things.
const FOLDER: By<'static> = By {
    actor: "plugins folder",
    author: None,
    owner: Owner::Folder,
};

impl Registry {
    /// Every hook that is the folder's: it is there, or was there when it was bound.
    pub(crate) fn folder_places(&self) -> Vec<(Namespace, HookName)> {
        let mut places = self.folders.places();
        let state = self.state.read();
        for (namespace, tenant) in &state.tenants {
            let owned = tenant
                .hooks
                .keys()
                .filter(|hook| self.owner(&state, namespace, hook) == Some(Owner::Folder));
            places.extend(owned.map(|hook| (namespace.clone(), hook.clone())));
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Puts a hook of the folder in force as it is there now; when it is refused, what was in force stays.
    /// Returns whether trying once more makes sense though nothing changed.
    pub(crate) async fn take_from_folder(
        &self,
        namespace: &Namespace,
        hook: &HookName,
        found: FolderHook,
    ) -> bool {
        self.folders.add(namespace, hook);
        match self.take_steps(namespace, hook, found).await {
            Ok(version) => {
                self.folders.set(namespace, hook, None);
                tracing::info!(%namespace, %hook, version, "a hook of the plugins folder is in force");
                false
            }
            Err(error) => {
                let again = matches!(
                    error,
                    RegistryError::Store(_)
                        | RegistryError::Busy(_)
                        | RegistryError::Upload(UploadError::Busy(_) | UploadError::Internal(_))
                );
                self.reject_folder(namespace, hook, error.to_string());
                again
            }
        }
    }

    async fn take_steps(&self, namespace: &Namespace, hook: &HookName, found: FolderHook) -> Result<u32> {
        let added = self
            .add_version_by(namespace, hook, found.version, FOLDER)
            .await?;
        let version = added.version.version;
        let stored = self.tests(namespace, hook).await?;
        if let Some((name, case)) = &found.tests
            && !stored.iter().any(|test| test.name == *name && test.case == *case)
        {
            let test = StoredTest {
                name: name.clone(),
                case: case.clone(),
            };
            self.put_test_by(namespace, hook, test, FOLDER).await?;
        }
        for test in stored {
            if found.tests.as_ref().is_none_or(|(name, _)| *name != test.name) {
                self.delete_test_by(namespace, hook, &test.name, FOLDER).await?;
            }
        }
        let kept: Vec<HookName> = found.bindings.iter().map(|draft| draft.id.clone()).collect();
        for mut draft in found.bindings {
            draft.version = version;
            self.put_binding_by(namespace, draft, Expected::Anything, FOLDER)
                .await?;
        }
        self.unbind(namespace, hook, &kept).await?;
        Ok(version)
    }

    /// Notes why the folder of a hook was refused.
    pub(crate) fn reject_folder(&self, namespace: &Namespace, hook: &HookName, reason: String) {
        if self.folders.set(namespace, hook, Some(reason.clone())) {
            tracing::warn!(%namespace, %hook, reason, "a hook of the plugins folder is refused; what was in force stays");
            let line = format!("the plugins folder is refused as it is now: {reason}");
            self.activity.say(namespace, hook, LogLevel::Error, &line);
        }
    }

    /// Unbinds a hook whose folder is gone. Its versions stay, now for the API to use or delete.
    ///
    /// # Errors
    /// When the catalog cannot be written.
    pub(crate) async fn leave_folder(&self, namespace: &Namespace, hook: &HookName) -> Result<()> {
        let owned = {
            let state = self.state.read();
            self.owner(&state, namespace, hook) == Some(Owner::Folder)
        };
        if owned {
            self.unbind(namespace, hook, &[]).await?;
        }
        self.folders.remove(namespace, hook);
        tracing::info!(%namespace, %hook, "a hook left the plugins folder");
        Ok(())
    }

    async fn unbind(&self, namespace: &Namespace, hook: &HookName, kept: &[HookName]) -> Result<()> {
        for binding in self.bindings(namespace) {
            if &binding.hook == hook && !kept.contains(&binding.id) {
                self.delete_binding_by(namespace, &binding.id, Expected::Anything, FOLDER)
                    .await?;
            }
        }
        Ok(())
    }
}
