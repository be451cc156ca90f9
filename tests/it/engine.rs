//! The hook engine: the contract's paths, and what hostile guests must not achieve.

mod calls;
mod hostile;
mod uploads;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mqueue::clock::{Clock, Timestamp};
use mqueue::hooks::engine::{CpuQuotas, Engine, EngineOptions, ModuleSource, Prepared, UploadError};
use mqueue::hooks::{
    Call, EnqueueVerdict, Failure, HookContext, HookItem, Report, Runner, Verdicts, Version,
};
use mqueue::model::{
    CpuRate, Digest, HookLimits, HookRef, InstanceMode, Item, ItemId, Manifest, Namespace, PayloadKind, Side,
    TopicKey,
};
use tempfile::TempDir;

/// What was uploaded, as a catalog would hold it.
#[derive(Default)]
struct Catalog(std::sync::Mutex<HashMap<Digest, Vec<u8>>>);

#[async_trait]
impl ModuleSource for Catalog {
    async fn module(&self, digest: Digest) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(&digest).cloned()
    }
}

struct Node {
    engine: Arc<Engine>,
    catalog: Arc<Catalog>,
    dir: TempDir,
}

fn options(dir: &Path) -> EngineOptions {
    EngineOptions {
        threads: 2,
        // Machines that run tests are busy: time alone must not decide what no test is about.
        cpu: CpuQuotas::new(|_| CpuRate {
            per_second: Duration::from_secs(100),
            burst: Duration::from_secs(100),
        }),
        wait_max: Duration::from_secs(30),
        ..EngineOptions::new(
            dir.join("hooks-cache"),
            [7; 32],
            PathBuf::from(env!("CARGO_BIN_EXE_mqueue")),
        )
    }
}

impl Node {
    fn start() -> Self {
        Self::start_with(|_| {})
    }

    fn start_with(change: impl FnOnce(&mut EngineOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path());
        change(&mut options);
        let catalog = Arc::new(Catalog::default());
        let clock = Clock::manual(Timestamp::from_ms(1_000));
        Self {
            engine: Engine::start(options, clock, catalog.clone()).unwrap(),
            catalog,
            dir,
        }
    }

    async fn upload(&self, text: &str) -> Result<Prepared, UploadError> {
        let prepared = self.engine.prepare(text.as_bytes(), &namespace()).await?;
        let mut modules = self.catalog.0.lock().unwrap();
        modules.insert(prepared.digest, prepared.component.clone());
        Ok(prepared)
    }

    /// A version of the guest in `text`, with time to spare.
    async fn version(&self, text: &str) -> Version {
        let prepared = self.upload(text).await.unwrap();
        version(prepared.digest)
    }

    async fn call(&self, version: &Arc<Version>, payloads: &[&str]) -> Report {
        self.engine.call(call(version, Side::Enqueue, payloads)).await
    }

    /// Uploads, calls once, gives the failure.
    async fn fails(&self, text: &str) -> Failure {
        let version = Arc::new(self.version(text).await);
        self.call(&version, &["x"]).await.outcome.unwrap_err()
    }
}

fn namespace() -> Namespace {
    "acme".parse().unwrap()
}

fn version(digest: Digest) -> Version {
    Version {
        namespace: namespace(),
        hook: HookRef {
            hook: "shout".parse().unwrap(),
            version: 1,
        },
        digest,
        manifest: Manifest::default(),
        limits: HookLimits {
            item_ms: 5_000,
            batch_ms: 5_000,
            ..HookLimits::default()
        },
        config: Arc::default(),
        secrets: Arc::default(),
        quarantined: false,
    }
}

fn warm(mut version: Version) -> Arc<Version> {
    version.manifest.instance = InstanceMode::Warm;
    Arc::new(version)
}

fn item(id: u64, payload: &str) -> HookItem {
    HookItem {
        item: Arc::new(Item {
            id: ItemId(id),
            priority: 5,
            lease_ms: 30_000,
            max_attempts: 10,
            kind: PayloadKind::Text,
            enqueued_at: Timestamp::from_ms(1),
            deliver_after: Timestamp::from_ms(2),
            expires_at: None,
            payload: payload.as_bytes().into(),
            extra: None,
        }),
        attempt: 0,
        hops: 0,
    }
}

fn call(version: &Arc<Version>, side: Side, payloads: &[&str]) -> Call {
    let items: Vec<_> = (1..)
        .zip(payloads)
        .map(|(id, payload)| item(id, payload))
        .collect();
    Call {
        version: version.clone(),
        side,
        context: Arc::new(HookContext {
            topic: TopicKey::parse("acme", "orders").unwrap(),
            now: Timestamp::from_ms(123_456),
            principal: "producer".into(),
            scopes: Arc::new(["enqueue".into()]),
        }),
        range: 0..items.len(),
        items: items.into(),
        rehearsal: false,
    }
}

fn enqueued(report: &Report) -> Vec<Result<EnqueueVerdict, String>> {
    let said = report.outcome.clone().ok().and_then(Verdicts::into_enqueue);
    said.unwrap_or_else(|| panic!("no enqueue verdicts: {:?}", report.outcome))
}

fn replaced(text: &str) -> Result<EnqueueVerdict, String> {
    Ok(EnqueueVerdict::Replace(text.as_bytes().into()))
}
