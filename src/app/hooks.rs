//! Puts hooks together: the engine that runs them, the registry that says which, the chains in between.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use crate::clock::Clock;
use crate::config::{Config, NamespaceHooksConfig};
use crate::hooks::engine::{CpuQuotas, Engine, EngineOptions, UploadLimits};
use crate::hooks::folder::HookFolder;
use crate::hooks::registry::{CatalogModules, NamespaceHookLimits, VersionStats, artefact_key};
use crate::hooks::{Chains, Registry};
use crate::model::{HookLimits, HookName, HookRef, Namespace};
use crate::shard::Catalog;
use crate::telemetry::metrics::{HookNumbers, Snapshot};
use crate::tenant::Quotas;

/// Where compiled modules are kept, in the data directory.
const CACHE: &str = "hooks-cache";

/// What a node's hooks are made of.
#[derive(Clone)]
pub struct HookParts {
    /// Which hooks there are.
    pub registry: Arc<Registry>,
    /// Runs them.
    pub engine: Arc<Engine>,
    /// What the queue sees of them.
    pub chains: Arc<Chains>,
}

impl std::fmt::Debug for HookParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HookParts({:?})", self.registry)
    }
}

impl HookParts {
    pub(super) async fn start(
        config: &Config,
        secret: &[u8],
        program: &Path,
        clock: &Clock,
        catalog: &Catalog,
        quotas: Arc<Quotas>,
    ) -> Result<Self, StartError> {
        let source = Arc::new(CatalogModules(catalog.clone()));
        let cpu = CpuQuotas::new(move |namespace| quotas.of(namespace).hook_cpu);
        let options = engine_options(config, secret, program, cpu);
        let engine = Engine::start(options, clock.clone(), source)?;
        let limits = config.start.hooks.call;
        let may_have = namespace_limits(&config.start.hooks.namespace);
        let registry = Registry::open(catalog.clone(), engine.clone(), clock.clone(), limits, may_have)
            .await
            .map_err(|error| StartError::Shard { number: 0, error })?;
        let chains = Chains::new(
            engine.clone(),
            registry.clone(),
            clock.clone(),
            config.live.limits.payload_bytes_max,
        );
        let table = chains.clone();
        registry.publish_to(Box::new(move |namespace, bound| table.replace(namespace, bound)));
        let versions = Arc::downgrade(&registry);
        chains.find_versions_with(Box::new(move |namespace, hook| {
            versions.upgrade()?.version(namespace, &hook.hook, hook.version)
        }));
        Ok(Self {
            registry,
            engine,
            chains,
        })
    }

    /// Keeps up with the plugins folder, and compiles what is bound, in the background.
    pub fn keep_up(&self, folder: Option<&Path>) {
        tokio::spawn(self.registry.clone().keep_up());
        if let Some(folder) = folder {
            tokio::spawn(HookFolder::new(folder.to_owned(), self.registry.clone()).watch());
        }
    }

    /// `snapshot` with what hooks did.
    pub fn shown(&self, mut snapshot: Snapshot) -> Snapshot {
        let engine = self.engine.status();
        snapshot.node.extend([
            ("mqueue_hook_instances_busy", engine.instances_busy as f64),
            ("mqueue_hook_instances_warm", engine.instances_warm as f64),
            ("mqueue_hook_pool_exhausted_total", engine.pool_exhausted as f64),
            ("mqueue_hook_calls_waiting", engine.calls_waiting as f64),
            (
                "mqueue_hook_calls_in_passing_total",
                engine.calls_in_passing as f64,
            ),
            ("mqueue_hook_overruns_total", engine.overruns as f64),
            ("mqueue_hook_compiles", engine.compiles as f64),
            ("mqueue_hook_modules_loaded", engine.modules_loaded as f64),
        ]);
        let seconds = |(namespace, used): (Namespace, Duration)| (namespace.to_string(), used.as_secs_f64());
        snapshot.hook_cpu = engine.used.into_iter().map(seconds).collect();
        let fuel: HashMap<_, _> = engine
            .fuel
            .into_iter()
            .map(|(namespace, hook, fuel)| ((namespace, hook), fuel))
            .collect();
        let numbers = |(namespace, hook, stats): (Namespace, HookName, VersionStats)| {
            let version = HookRef {
                hook: hook.clone(),
                version: stats.version,
            };
            let of_version = fuel.get(&(namespace.clone(), version));
            HookNumbers {
                fuel_sampled: of_version.map_or(0, |fuel| fuel.instructions),
                fuel_samples: of_version.map_or(0, |fuel| fuel.samples),
                ..numbers((namespace, hook, stats))
            }
        };
        snapshot.hooks = self.registry.all_stats().into_iter().map(numbers).collect();
        snapshot
    }

    /// Stops the engine: calls under way end, later ones are not made.
    pub async fn stop(&self) {
        let engine = self.engine.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || engine.stop()).await {
            tracing::warn!(%error, "the hooks' threads did not stop");
        }
    }
}

fn numbers((namespace, hook, stats): (Namespace, HookName, VersionStats)) -> HookNumbers {
    let failed = stats.invalid + stats.traps + stats.timeouts + stats.overloads;
    let mut items = stats.verdicts;
    items.push(("skipped", stats.skipped));
    let [same, different, shadow_failed] = stats.shadow;
    HookNumbers {
        namespace: namespace.to_string(),
        hook: hook.to_string(),
        version: stats.version.to_string(),
        calls: vec![
            ("ok", stats.calls - failed),
            ("invalid", stats.invalid),
            ("trap", stats.traps),
            ("timeout", stats.timeouts),
            ("overload", stats.overloads),
        ],
        items,
        shadow: vec![
            ("same", same),
            ("different", different),
            ("failed", shadow_failed),
        ],
        run_seconds: stats.run.as_secs_f64(),
        memory_bytes_max: stats.memory_bytes_max,
        log_lines_dropped: stats.log_lines_dropped,
        breaker_open: stats.breaker_open,
        ceiling_trips: stats.ceiling_trips,
        quarantined: stats.quarantined,
        ..HookNumbers::default()
    }
}

fn namespace_limits(config: &NamespaceHooksConfig) -> NamespaceHookLimits {
    NamespaceHookLimits {
        hooks: config.hooks,
        versions_per_hook: config.versions_per_hook,
        tests_per_hook: config.tests_per_hook,
        bindings_per_topic: config.bindings_per_topic,
        module_bytes_in_all: config.module_bytes,
        ..NamespaceHookLimits::default()
    }
}

fn engine_options(config: &Config, secret: &[u8], program: &Path, cpu: CpuQuotas) -> EngineOptions {
    let hooks = &config.start.hooks;
    let cache = config.start.storage.data_dir.join(CACHE);
    let defaults = EngineOptions::new(cache, artefact_key(secret), program.to_owned());
    let HookLimits {
        memory_bytes,
        table_elements,
        ..
    } = hooks.call;
    EngineOptions {
        cache_bytes_max: hooks.cache_bytes_max,
        threads: hooks.threads.unwrap_or(defaults.threads),
        in_passing: hooks.in_passing,
        ceilings: hooks.call,
        upload: UploadLimits {
            bytes: hooks.module_bytes_max,
            memory_bytes,
            table_elements: table_elements.into(),
            compile_ms: u64::try_from(hooks.compile_time.as_millis()).unwrap_or(u64::MAX),
            compile_memory_bytes: hooks.compile_memory,
            ..defaults.upload
        },
        cpu,
        queue_per_namespace: hooks.queue_per_namespace,
        wait_max: hooks.wait_max,
        instances: hooks.instances,
        modules_bytes_max: hooks.modules_bytes_max,
        payload_bytes_max: config.live.limits.payload_bytes_max,
        ..defaults
    }
}
