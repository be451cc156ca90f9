//! Idempotency keys of one batch: which items are new, which are repeats, which contradict.

use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::OwnedRwLockReadGuard;

use super::core::Core;
use super::error::QueueError;
use super::request::{EnqueueResult, NewItem};
use crate::hot::{KeyProbe, KeyState};
use crate::model::{PayloadKind, TopicKey, is_own_header};

/// How often a key that another request is using is asked for again, at least.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// How many times.
const ASK_MAX: usize = 250;

/// What the keys of a batch say; nothing is said of a batch without keys.
#[derive(Debug, Default)]
pub(super) struct KeyedBatch {
    /// For each item: its answer when it must not be stored.
    answers: Vec<Option<EnqueueResult>>,
    /// For each item: the index of the earlier item of this batch that it repeats.
    repeats: Vec<Option<usize>>,
    /// For each item that is to be stored under a key: the key.
    reserved: Vec<Option<KeyProbe>>,
    /// How often the hot tier had lost its memory before they were reserved in it.
    losses: u64,
}

impl KeyedBatch {
    /// The answer of item `index` when it must not be stored.
    pub(super) fn answer(&self, index: usize) -> Option<&EnqueueResult> {
        self.answers.get(index)?.as_ref()
    }

    /// The earlier item of the batch that item `index` repeats.
    pub(super) fn repeated(&self, index: usize) -> Option<usize> {
        *self.repeats.get(index)?
    }

    /// The key under which item `index` is to be stored.
    pub(super) fn key(&self, index: usize) -> Option<KeyProbe> {
        *self.reserved.get(index)?
    }

    /// Whether item `index` is to be stored.
    pub(super) fn is_new(&self, index: usize) -> bool {
        self.answer(index).is_none() && self.repeated(index).is_none()
    }

    /// The hashes of all reserved keys.
    pub(super) fn key_hashes(&self) -> Vec<u128> {
        self.reserved
            .iter()
            .flatten()
            .map(|probe| probe.key_hash)
            .collect()
    }
}

fn conflict() -> EnqueueResult {
    EnqueueResult::Rejected {
        code: "idempotency_conflict",
        message: "the idempotency key was used for a different body; use a new key, or send the same body"
            .into(),
    }
}

/// The hash of an idempotency key, and that of what makes a body: kind, payload, content type, headers.
///
/// Priorities, delays and the like are how, not what: repeating an item under other settings is no conflict.
pub(super) fn key_probe(
    key: &str,
    kind: PayloadKind,
    payload: &[u8],
    content_type: Option<&str>,
    headers: &[(Box<str>, Box<str>)],
) -> KeyProbe {
    let mut body = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        body.update(&(bytes.len() as u32).to_le_bytes()).update(bytes);
    };
    part(&[kind as u8]);
    part(payload);
    part(content_type.unwrap_or_default().as_bytes());
    for (name, value) in headers.iter().filter(|(name, _)| is_body_header(name)) {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    let first = |hash: blake3::Hash| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.as_bytes()[..16]);
        u128::from_le_bytes(bytes)
    };
    KeyProbe {
        key_hash: first(blake3::hash(key.as_bytes())),
        body_hash: first(body.finalize()) as u64,
    }
}

fn probe(item: &NewItem) -> Option<KeyProbe> {
    let key = item.idempotency_key.as_deref()?;
    let kind = item.kind.unwrap_or(PayloadKind::Bytes);
    Some(key_probe(
        key,
        kind,
        &item.payload,
        item.content_type.as_deref(),
        &item.headers,
    ))
}

/// A retry is a new span of the same work: its trace headers differ and its body does not. The queue's own
/// headers came after the body was sent.
fn is_body_header(name: &str) -> bool {
    let traces = ["traceparent", "tracestate"];
    !is_own_header(name) && !traces.iter().any(|trace| name.eq_ignore_ascii_case(trace))
}

impl Core {
    /// Reserves the keys of `items`, or answers for those that are not new.
    pub(super) async fn reserve(
        &self,
        topic: &TopicKey,
        items: &[NewItem],
    ) -> Result<KeyedBatch, QueueError> {
        if items.iter().all(|item| item.idempotency_key.is_none()) {
            return Ok(KeyedBatch::default());
        }
        let mut batch = KeyedBatch {
            answers: vec![None; items.len()],
            repeats: vec![None; items.len()],
            reserved: vec![None; items.len()],
            losses: self.hot.losses(),
        };
        let mut first_use: HashMap<u128, usize> = HashMap::new();
        let mut wanted = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let Some(probe) = probe(item) else { continue };
            match first_use.get(&probe.key_hash) {
                Some(&first) => {
                    let same = batch.reserved[first].is_some_and(|p| p.body_hash == probe.body_hash);
                    if same {
                        batch.repeats[index] = Some(first);
                    } else {
                        batch.answers[index] = Some(conflict());
                    }
                }
                None => {
                    first_use.insert(probe.key_hash, index);
                    batch.reserved[index] = Some(probe);
                    wanted.push((index, probe));
                }
            }
        }
        if wanted.is_empty() {
            return Ok(batch);
        }
        self.check_keys(topic).await?;
        let probes: Vec<_> = wanted.iter().map(|(_, probe)| *probe).collect();
        self.recall_cold_keys(topic, &probes).await?;
        let states = self.reserve_all(topic, &probes).await?;
        for ((index, _), state) in wanted.into_iter().zip(states) {
            if let KeyState::Used { id, same_body } = state {
                batch.reserved[index] = None;
                batch.answers[index] = Some(if same_body {
                    EnqueueResult::Duplicate { id }
                } else {
                    conflict()
                });
            }
        }
        Ok(batch)
    }

    /// Refuses keys while another node's log may have one of them that neither the hot tier nor a shard knows: it is so
    /// after the tier lost its memory, until every node that is not missed has read its log back.
    async fn check_keys(&self, topic: &TopicKey) -> Result<(), QueueError> {
        if self.hot.has_all_keys(topic) {
            return Ok(());
        }
        let nodes = self.catalog.nodes().await?;
        let awaited = nodes.iter().filter(|row| row.is_awaited());
        let awaited: Vec<_> = awaited.map(|row| row.claim.node).collect();
        if self.hot.learn_keys(topic, &awaited).await? {
            return Ok(());
        }
        Err(QueueError::HotUnavailable(
            "it lost its memory, and not every node has told again which idempotency keys it used".into(),
        ))
    }

    /// Holds that the reserved keys of `keyed` are still reserved, until what is returned is dropped, which must not be
    /// before they are durable: a tier that lost its memory lost them, and may know another item under one of them soon.
    pub(super) async fn keep_keys(
        &self,
        keyed: &KeyedBatch,
    ) -> Result<Option<OwnedRwLockReadGuard<()>>, QueueError> {
        if !self.hot.outlives_the_node() || keyed.reserved.iter().all(Option::is_none) {
            return Ok(None);
        }
        let logging = self.logging_keys.clone().read_owned().await;
        if self.hot.losses() == keyed.losses {
            return Ok(Some(logging));
        }
        Err(QueueError::HotUnavailable(
            "it lost its memory, and with it the idempotency keys of this request".into(),
        ))
    }

    /// Reserves every free key of `probes` at one moment. While another request uses one of them, nothing
    /// is kept: two batches must not wait for each other.
    async fn reserve_all(&self, topic: &TopicKey, probes: &[KeyProbe]) -> Result<Vec<KeyState>, QueueError> {
        for _ in 0..ASK_MAX {
            let states = self.hot.reserve_keys(topic, probes).await?;
            let busy = states.iter().find_map(|state| match state {
                KeyState::InFlight(decided) => Some(decided.clone()),
                _ => None,
            });
            let Some(decided) = busy else { return Ok(states) };
            let reserved = probes
                .iter()
                .zip(&states)
                .filter(|(_, s)| matches!(s, KeyState::Reserved));
            let reserved: Vec<_> = reserved.map(|(probe, _)| probe.key_hash).collect();
            self.hot.release_keys(topic, &reserved).await;
            // The time-out covers a decision that came between asking and listening.
            let _ = tokio::time::timeout(ASK_AGAIN, decided.notified()).await;
        }
        Err(QueueError::Overloaded)
    }

    /// Brings keys that only the shard remembers back to memory.
    async fn recall_cold_keys(&self, topic: &TopicKey, probes: &[KeyProbe]) -> Result<(), QueueError> {
        if !self.hot.has_cold_keys(topic).await? {
            return Ok(());
        }
        let hashes: Vec<_> = probes.iter().map(|probe| probe.key_hash).collect();
        let rows = self
            .shard(topic)
            .find_keys(topic, &hashes, self.clock.now())
            .await?;
        self.hot.recall_keys(topic, rows).await?;
        Ok(())
    }
}

/// The result of an item that repeats item `first` of its own batch.
pub(super) fn repeat_of(first: &EnqueueResult) -> EnqueueResult {
    match first {
        EnqueueResult::Accepted { id }
        | EnqueueResult::Duplicate { id }
        | EnqueueResult::DeadLettered { id, .. } => EnqueueResult::Duplicate { id: *id },
        EnqueueResult::Split { ids } => match ids.first() {
            Some(id) => EnqueueResult::Duplicate { id: *id },
            None => first.clone(),
        },
        EnqueueResult::Filtered { .. }
        | EnqueueResult::HookRejected(_)
        | EnqueueResult::HookFailed { .. }
        | EnqueueResult::Rejected { .. } => first.clone(),
    }
}
