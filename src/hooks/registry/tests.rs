//! What the registry promises.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use sha2::Digest as _;
use tempfile::TempDir;

use super::*;
use crate::clock::Timestamp;
use crate::hooks::engine::{Prepared, UploadError};
use crate::hooks::rehearse::Rehearser;
use crate::hooks::{
    Call, EnqueueVerdict, Failure, HookContext, HookItem, LogLine, Observer, Reason, Report, Usage, Verdicts,
};
use crate::model::{
    Author, Binding, Canary, Digest, Item, ItemId, Manifest, PayloadKind, Policies, Side, TopicKey,
};
use crate::shard::{AuditQuery, AuditRecord, SeaShard, ShardOptions};

mod activity;
mod changes;
mod following;
mod limits;
mod quarantine;

/// Takes every upload that does not begin with `bad`; `reject` in a module makes its calls reject.
#[derive(Debug, Default)]
pub(super) struct FakeEngine {
    ready: Mutex<BTreeSet<Digest>>,
    rejecting: Mutex<BTreeSet<Digest>>,
}

#[async_trait]
impl Preparer for FakeEngine {
    async fn prepare(&self, upload: &[u8], _: &Namespace) -> std::result::Result<Prepared, UploadError> {
        if upload.starts_with(b"bad") {
            return Err(UploadError::Malformed("it is bad".to_owned()));
        }
        let digest = Digest(sha2::Sha256::digest(upload).into());
        if upload.starts_with(b"reject") {
            self.rejecting.lock().insert(digest);
        }
        self.ready.lock().insert(digest);
        Ok(Prepared {
            digest,
            component: upload.to_vec(),
            exports: vec![Side::Enqueue],
            imports: vec![],
            compile_ms: 1,
            warnings: vec![],
        })
    }

    async fn ensure(&self, digest: Digest, namespace: &Namespace) -> std::result::Result<(), UploadError> {
        match namespace.as_str() {
            "stuck" if !self.is_ready(digest) => std::future::pending().await,
            "broken" if !self.is_ready(digest) => {
                return Err(UploadError::Compile("it is broken".to_owned()));
            }
            _ => {}
        }
        self.ready.lock().insert(digest);
        Ok(())
    }

    fn is_ready(&self, digest: Digest) -> bool {
        self.ready.lock().contains(&digest)
    }
}

#[async_trait]
impl Rehearser for FakeEngine {
    async fn rehearse(&self, call: Call) -> Report {
        let rejects = self.rejecting.lock().contains(&call.version.digest);
        let verdict = match rejects {
            true => EnqueueVerdict::Reject(Reason {
                code: "no".into(),
                message: "".into(),
            }),
            false => EnqueueVerdict::Keep,
        };
        report(Ok(Verdicts::Enqueue(vec![Ok(verdict)])))
    }
}

pub(in crate::hooks) fn report(outcome: std::result::Result<Verdicts, Failure>) -> Report {
    Report {
        outcome,
        usage: Usage::default(),
        log: vec![],
    }
}

/// A registry over a catalog on the disk, and what it published last.
pub(in crate::hooks) struct Fixture {
    pub(in crate::hooks) registry: Arc<Registry>,
    pub(super) published: Arc<Mutex<BTreeMap<Namespace, Vec<Arc<Bound>>>>>,
    pub(super) clock: Clock,
    folder: Arc<TempDir>,
}

impl Fixture {
    pub(in crate::hooks) async fn new() -> Self {
        Self::over(
            Arc::new(TempDir::new().unwrap()),
            Clock::manual(Timestamp::from_ms(1_000_000)),
        )
        .await
    }

    /// Another node, or the same one after a restart.
    pub(in crate::hooks) async fn again(&self) -> Self {
        Self::over(self.folder.clone(), self.clock.clone()).await
    }

    async fn over(folder: Arc<TempDir>, clock: Clock) -> Self {
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("c.db").display());
        let shard = SeaShard::open(&url.into(), &ShardOptions::default())
            .await
            .unwrap();
        let engine = Arc::new(FakeEngine::default());
        let limits = HookLimits::default();
        let registry = Registry::open(
            shard.catalog(),
            engine,
            clock.clone(),
            limits,
            NamespaceHookLimits::default(),
        )
        .await
        .unwrap();
        let published: Arc<Mutex<BTreeMap<Namespace, Vec<Arc<Bound>>>>> = Arc::default();
        let table = published.clone();
        registry.publish_to(Box::new(move |namespace, bound| {
            table.lock().insert(namespace.clone(), bound);
        }));
        Self {
            registry,
            published,
            clock,
            folder,
        }
    }

    /// Adds a version of `hook` with this module; returns its number.
    pub(in crate::hooks) async fn add(&self, hook: &str, module: &str) -> u32 {
        let version = NewVersion {
            module: module.into(),
            ..NewVersion::default()
        };
        let added = self
            .registry
            .add_version(&ns(), &name(hook), version, &ada())
            .await;
        added.unwrap().version.version
    }

    pub(in crate::hooks) async fn bind(&self, draft: BindingDraft) -> Binding {
        let bound = self
            .registry
            .put_binding(&ns(), draft, Expected::Anything, &ada())
            .await;
        bound.unwrap()
    }

    /// What was noted of `namespace` after `after`.
    pub(in crate::hooks) async fn audit(&self, namespace: &Namespace, after: u64) -> Vec<AuditRecord> {
        let query = AuditQuery {
            namespace: Some(namespace.clone()),
            after: Some(after),
            limit: 100,
            ..AuditQuery::default()
        };
        self.registry.catalog.audit(&query).await.unwrap()
    }

    pub(in crate::hooks) fn in_force(&self) -> Vec<Arc<Bound>> {
        self.published.lock().get(&ns()).cloned().unwrap_or_default()
    }
}

pub(in crate::hooks) fn ns() -> Namespace {
    "acme".parse().unwrap()
}

/// Who changes things.
pub(in crate::hooks) fn ada() -> Author {
    Author {
        subject: "ada".into(),
        request_id: Some("r-1".into()),
        peer: Some("192.0.2.7".into()),
    }
}

pub(in crate::hooks) fn name(text: &str) -> HookName {
    text.parse().unwrap()
}

pub(in crate::hooks) fn draft(id: &str, hook: &str, version: u32) -> BindingDraft {
    BindingDraft {
        id: name(id),
        topic: "orders".parse().unwrap(),
        side: Side::Enqueue,
        position: 10,
        hook: name(hook),
        version,
        canary: None,
        shadow: None,
        shadow_percent: 1,
        policies: Policies::default(),
        auto_rollback: true,
        enabled: true,
    }
}

pub(in crate::hooks) fn activation(version: u32) -> Activation {
    Activation {
        version,
        canary_percent: None,
        force: false,
    }
}

/// An item as hooks see it.
pub(super) fn item(id: u64) -> HookItem {
    HookItem {
        item: Arc::new(Item {
            id: ItemId(id),
            priority: 1,
            lease_ms: 1,
            max_attempts: 1,
            kind: PayloadKind::Text,
            enqueued_at: Timestamp::ZERO,
            deliver_after: Timestamp::ZERO,
            expires_at: None,
            payload: Box::from(*b"hello"),
            extra: None,
        }),
        attempt: 0,
        hops: 0,
    }
}
