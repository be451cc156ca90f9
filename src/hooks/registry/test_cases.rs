//! Test cases: what a hook's versions must pass before they go into force.

use super::change::Plan;
use super::versions::By;
use super::{Registry, RegistryError, Result, StoredTest};
use crate::hooks::rehearse::parse_cases;
use crate::model::{Author, HookName, Namespace};
use crate::shard::HookChange;

impl Registry {
    /// The test cases of a hook, by name, from the catalog.
    pub async fn tests(&self, namespace: &Namespace, hook: &HookName) -> Result<Vec<StoredTest>> {
        let tests = self.catalog.hook_tests(namespace, hook).await?;
        Ok(tests
            .into_iter()
            .map(|(name, case)| StoredTest { name, case })
            .collect())
    }

    /// Stores a test case, whether it is new or not; true when it is new. The hook must exist.
    pub async fn put_test(
        &self,
        namespace: &Namespace,
        hook: &HookName,
        test: StoredTest,
        author: &Author,
    ) -> Result<bool> {
        self.put_test_by(namespace, hook, test, By::api(author)).await
    }

    pub(super) async fn put_test_by(
        &self,
        namespace: &Namespace,
        hook: &HookName,
        test: StoredTest,
        by: By<'_>,
    ) -> Result<bool> {
        let limits = &self.limits.namespace;
        if test.case.len() > limits.test_bytes {
            return Err(RegistryError::Limit("bytes in a test case", limits.test_bytes));
        }
        if let Err(detail) = parse_cases(&test.case) {
            return Err(RegistryError::Invalid {
                field: "case",
                detail,
            });
        }
        self.change(|state| {
            let known = state.hook(namespace, hook).ok_or(RegistryError::UnknownHook)?;
            self.check_owner(state, namespace, hook, by)?;
            let new = !known.tests.contains(&test.name);
            if new && known.tests.len() >= limits.tests_per_hook {
                return Err(RegistryError::Limit(
                    "test cases of a hook",
                    limits.tests_per_hook,
                ));
            }
            let mut plan = Plan::new(new);
            let target = format!("{hook}/{}", test.name);
            plan.note(self.clock.now(), namespace, by, "hook.test.put", target);
            plan.changes.push(HookChange::PutTest {
                namespace: namespace.clone(),
                hook: hook.clone(),
                name: test.name.clone(),
                case: test.case.clone(),
            });
            Ok(plan)
        })
        .await
    }

    /// Deletes a test case.
    pub async fn delete_test(
        &self,
        namespace: &Namespace,
        hook: &HookName,
        name: &HookName,
        author: &Author,
    ) -> Result<()> {
        self.delete_test_by(namespace, hook, name, By::api(author)).await
    }

    pub(super) async fn delete_test_by(
        &self,
        namespace: &Namespace,
        hook: &HookName,
        name: &HookName,
        by: By<'_>,
    ) -> Result<()> {
        self.change(|state| {
            let known = state.hook(namespace, hook).ok_or(RegistryError::UnknownHook)?;
            self.check_owner(state, namespace, hook, by)?;
            if !known.tests.contains(name) {
                return Err(RegistryError::UnknownTest);
            }
            let mut plan = Plan::new(());
            let target = format!("{hook}/{name}");
            plan.note(self.clock.now(), namespace, by, "hook.test.delete", target);
            let (namespace, hook) = (namespace.clone(), hook.clone());
            plan.changes
                .push(HookChange::DeleteTest(namespace, hook, name.clone()));
            Ok(plan)
        })
        .await
    }
}
