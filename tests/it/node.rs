//! A node's queue in this process, on a clock the test moves.

use std::path::Path;
use std::sync::Arc;

use mqueue::app;
use mqueue::clock::{Clock, Timestamp};
use mqueue::config::{self, Assignment, Config, Inputs};
use mqueue::model::{ItemId, TopicKey};
use mqueue::queue::{
    Delivered, DequeueRequest, Durability, EnqueueResult, LeaseAction, NewItem, Queue, Requester,
    SettleStatus, Verb,
};
use mqueue::tenant::{QuotaTable, Quotas};
use mqueue::wal::disk::RealDisk;
use tempfile::TempDir;

use crate::postgres::Postgres;
use crate::stores::Stores;

/// Where every test's clock begins.
pub(crate) const START: Timestamp = Timestamp::from_ms(1_800_000_000_000);

pub(crate) struct Node {
    pub(crate) queue: Queue,
    pub(crate) clock: Clock,
    config: Config,
    dir: TempDir,
    /// Goes last: the queue uses it until its end.
    postgres: Option<Postgres>,
}

/// The configuration of a node in `dir` with these keys set, and what must outlive it.
pub(crate) fn config(dir: &TempDir, set: &[(&str, &str)]) -> (Config, Option<Postgres>) {
    let given = Stores::of_this_test().give(set.iter().map(|(key, _)| *key));
    let mut flags = vec![
        ("storage.data_dir", dir.path().to_str().unwrap()),
        ("wal.segment_bytes", "1MiB"),
    ];
    flags.extend(given.settings.iter().map(|(key, value)| (*key, value.as_str())));
    flags.extend_from_slice(set);
    let flag = |(key, value): (&str, &str)| Assignment {
        key: key.into(),
        value: value.into(),
        flag: format!("--set {key}"),
    };
    let inputs = Inputs {
        flags: flags.into_iter().map(flag).collect(),
        ..Inputs::default()
    };
    (config::load(&inputs).unwrap(), given.shards)
}

async fn assemble(config: &Config, clock: Clock) -> Result<Queue, app::StartError> {
    let quotas = Arc::new(Quotas::new(QuotaTable::default(), clock.clone()));
    let (disk, program) = (Arc::new(RealDisk::new()), Path::new(env!("CARGO_BIN_EXE_mqueue")));
    let node = app::assemble(config, b"test secret", clock, disk, quotas, program).await?;
    Ok(node.queue)
}

/// Who asks in every test.
pub(crate) fn somebody() -> Requester {
    Requester {
        subject: "test".into(),
        scopes: [].into(),
    }
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A node with these configuration keys set.
    pub(crate) async fn start_with(set: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (config, postgres) = config(&dir, set);
        Self::open(dir, postgres, config, Clock::manual(START)).await
    }

    async fn open(dir: TempDir, postgres: Option<Postgres>, config: Config, clock: Clock) -> Self {
        let queue = assemble(&config, clock.clone()).await.unwrap();
        Self {
            queue,
            clock,
            config,
            dir,
            postgres,
        }
    }

    /// Tries to start another node on the same data.
    pub(crate) async fn open_twin(&self) -> Result<Queue, app::StartError> {
        assemble(&self.config, self.clock.clone()).await
    }

    /// Stops the node without storing anything more, as a crash would, and starts it again.
    pub(crate) async fn crash(self) -> Self {
        self.queue.halt().await;
        let Self {
            clock,
            config,
            dir,
            postgres,
            queue,
        } = self;
        drop(queue);
        Self::open(dir, postgres, config, clock).await
    }

    /// Stops the node in good order and starts it again.
    pub(crate) async fn restart(self) -> Self {
        self.queue.drain(std::time::Duration::from_secs(20)).await;
        self.crash().await
    }

    pub(crate) async fn enqueue(&self, topic: &TopicKey, items: Vec<NewItem>) -> Vec<ItemId> {
        let enqueued = self
            .queue
            .enqueue(topic, items, Durability::Logged, &somebody())
            .await
            .unwrap();
        let id = |result| match result {
            EnqueueResult::Accepted { id } => id,
            other => panic!("not accepted: {other:?}"),
        };
        enqueued.results.into_iter().map(id).collect()
    }

    /// Enqueues and waits until the shard has it.
    pub(crate) async fn enqueue_stored(&self, topic: &TopicKey, items: Vec<NewItem>) {
        self.queue
            .enqueue(topic, items, Durability::Stored, &somebody())
            .await
            .unwrap();
    }

    pub(crate) async fn dequeue(&self, topic: &TopicKey, max: usize) -> Vec<Delivered> {
        self.queue.dequeue(request(topic, max)).await.unwrap()
    }

    /// The payloads of the next items, as text.
    pub(crate) async fn take(&self, topic: &TopicKey, max: usize) -> Vec<String> {
        self.dequeue(topic, max).await.iter().map(text).collect()
    }

    pub(crate) async fn settle(&self, delivered: &Delivered, verb: Verb) -> SettleStatus {
        let lease = self
            .queue
            .open_lease(&delivered.lease.as_ref().unwrap().id)
            .unwrap();
        self.queue
            .settle(vec![LeaseAction { lease, verb }])
            .await
            .unwrap()[0]
            .status
    }

    pub(crate) async fn ack(&self, delivered: &Delivered) -> SettleStatus {
        self.settle(delivered, Verb::Ack).await
    }

    pub(crate) async fn nack(&self, delivered: &Delivered, delay_ms: i64) -> SettleStatus {
        self.settle(
            delivered,
            Verb::Nack {
                delay_ms: Some(delay_ms),
                error: Some("no".into()),
            },
        )
        .await
    }

    /// Ready, scheduled, leased, dead.
    pub(crate) fn counts(&self, topic: &TopicKey) -> [u64; 4] {
        let stats = self.queue.stats(topic).unwrap();
        [stats.ready, stats.scheduled, stats.leased, stats.dead]
    }
}

pub(crate) fn topic(name: &str) -> TopicKey {
    TopicKey::parse("default", name).unwrap()
}

pub(crate) fn request(topic: &TopicKey, max: usize) -> DequeueRequest {
    DequeueRequest {
        topics: vec![(topic.clone(), max)],
        max_total: max,
        wait_ms: 0,
        lease_ms: None,
        request_id: None,
        consumer: somebody(),
    }
}

pub(crate) fn item(text: &str) -> NewItem {
    NewItem {
        payload: text.as_bytes().into(),
        ..NewItem::default()
    }
}

pub(crate) fn prioritised(text: &str, priority: i32) -> NewItem {
    NewItem {
        priority: Some(priority),
        ..item(text)
    }
}

pub(crate) fn delayed(text: &str, priority: i32, delay_ms: i64) -> NewItem {
    NewItem {
        delay_ms: Some(delay_ms),
        ..prioritised(text, priority)
    }
}

pub(crate) fn keyed(text: &str, key: &str) -> NewItem {
    NewItem {
        idempotency_key: Some(key.into()),
        ..item(text)
    }
}

pub(crate) fn text(delivered: &Delivered) -> String {
    String::from_utf8(delivered.item.payload.to_vec()).unwrap()
}
