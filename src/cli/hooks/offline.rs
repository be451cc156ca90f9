//! The engine without a server: the very same one, within the very same limits.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::super::CliError;
use super::folder::HookFile;
use crate::clock::Clock;
use crate::hooks::engine::{CpuQuotas, Engine, EngineOptions, ModuleSource, Prepared};
use crate::hooks::rehearse::Rehearser;
use crate::hooks::{Call, Report, Runner, Version};
use crate::model::{CpuRate, Digest, HookConfig, HookLimits, HookRef, Namespace};

/// Time for compiling a hook, in milliseconds.
const COMPILE_MS: u64 = 5 * 60_000;

/// An engine for one hook, with nothing left behind.
pub(super) struct Offline {
    engine: Arc<Engine>,
    namespace: Namespace,
    cache: PathBuf,
}

impl Offline {
    /// Starts it. Must be called within a tokio runtime.
    pub(super) fn start(namespace: &Namespace) -> Result<Self, CliError> {
        let failed = |error: &dyn std::fmt::Display| CliError::failed("cannot start the engine", error);
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let key: [u8; 32] = rand::random();
        let name = format!("mqueue-hooks-{}", u64::from_le_bytes(first_eight(&key)));
        let cache = std::env::temp_dir().join(name);
        let mut options = EngineOptions::new(cache.clone(), key, program);
        // One hook at a time, and as much processor time as its tests take.
        options.threads = 1;
        options.instances = 4;
        options.cpu = CpuQuotas::new(|_| CpuRate {
            per_second: Duration::from_secs(1_000),
            burst: Duration::from_secs(1_000),
        });
        // Nobody else waits, however slow this machine is.
        options.upload.compile_ms = COMPILE_MS;
        options.upload.compile_cpu_s = COMPILE_MS / 1_000;
        let engine =
            Engine::start(options, Clock::system(), Arc::new(Nowhere)).map_err(|error| failed(&error))?;
        Ok(Self {
            engine,
            namespace: namespace.clone(),
            cache,
        })
    }

    /// Compiles a module, and fails with what its author should change.
    pub(super) async fn prepare(&self, module: &[u8]) -> Result<Prepared, CliError> {
        let prepared = self.engine.prepare(module, &self.namespace).await;
        prepared.map_err(|error| CliError::failed("this is no hook", error))
    }

    /// A version of the hook as a server would have it.
    pub(super) fn version(&self, hook: HookRef, digest: Digest, file: HookFile) -> Arc<Version> {
        let secrets = file.secrets.into_iter();
        let secrets = secrets.map(|(name, secret)| (name.into(), secret.into()));
        Arc::new(Version {
            namespace: self.namespace.clone(),
            hook,
            digest,
            limits: HookLimits::default().lowered(&file.manifest.limits),
            manifest: file.manifest,
            config: Arc::new(texts(file.config)),
            secrets: Arc::new(secrets.collect()),
            quarantined: false,
        })
    }
}

fn first_eight(key: &[u8; 32]) -> [u8; 8] {
    std::array::from_fn(|at| key[at])
}

fn texts(config: BTreeMap<String, Value>) -> HookConfig {
    let text = |(key, value): (String, Value)| (key.into(), value.to_string().into());
    config.into_iter().map(text).collect()
}

impl Drop for Offline {
    fn drop(&mut self) {
        // What is left in the folder for temporary files is the system's to remove.
        let _ = std::fs::remove_dir_all(&self.cache);
    }
}

#[async_trait]
impl Rehearser for Offline {
    async fn rehearse(&self, call: Call) -> Report {
        self.engine.call(call).await
    }
}

/// Nothing was stored before.
struct Nowhere;

#[async_trait]
impl ModuleSource for Nowhere {
    async fn module(&self, _: Digest) -> Option<Vec<u8>> {
        None
    }
}
