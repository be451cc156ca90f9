//! The topics this node knows, their settings and their counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::history::History;
use super::request::{EnqueueResult, TopicRates, TopicTotals};
use super::traces::Traces;
use crate::clock::Timestamp;
use crate::model::{ItemId, Namespace, NamespaceSettings, Settings, SettingsPatch, TopicKey, TopicName};
use crate::shard::{CatalogContents, TopicRow};

/// In how many namespaces topics can be made at the same moment.
const CREATING: usize = 64;

/// All topics of all namespaces.
#[derive(Debug)]
pub(super) struct Topics {
    known: RwLock<HashMap<TopicKey, Arc<TopicHandle>>>,
    namespaces: RwLock<HashMap<Namespace, NamespaceSettings>>,
    defaults: ArcSwap<Settings>,
    /// Raised when a topic appears.
    pub(super) created: Notify,
    /// Held while a topic's row is read, changed and stored, so that no change overwrites another.
    pub(super) editing: tokio::sync::Mutex<()>,
    /// Held, one of them for a namespace, while a topic of it is made, so that no more of them are made than it
    /// may have. A flood of new topics in one namespace keeps few others waiting.
    creating: [tokio::sync::Mutex<()>; CREATING],
    /// The number of the catalog's last change that is known here.
    pub(super) seen: AtomicU64,
}

/// One topic: what is cheap to read on every request.
#[derive(Debug)]
pub(super) struct TopicHandle {
    pub(super) key: TopicKey,
    own: RwLock<SettingsPatch>,
    effective: ArcSwap<Settings>,
    paused: AtomicBool,
    deleted: AtomicBool,
    /// The last id that a purge takes away.
    purged_to: AtomicU64,
    pub(super) counters: Counters,
    /// Who has its items.
    pub(super) traces: Traces,
    rates: Mutex<RateWindow>,
    /// Its last hour.
    pub(super) history: Mutex<History>,
    /// Held by whoever reads the topic's cold part.
    pub(super) refill: tokio::sync::Mutex<()>,
    /// How many times they were brought up.
    pub(super) refills: AtomicU64,
    /// What an item of the cold part took on average when it was last read, in bytes.
    pub(super) cold_item_bytes: AtomicUsize,
    /// When no dead letter was left that had been kept long enough, in milliseconds since the epoch.
    retention_looked_at_ms: AtomicI64,
}

/// Before the first cold item was read, they are taken to be this large, in bytes.
const COLD_ITEM_BYTES: usize = 16 << 10;

/// What happened in a topic since the node started.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) enqueued: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) acked: AtomicU64,
    pub(super) nacked: AtomicU64,
    pub(super) turned_down: AtomicU64,
    pub(super) dead: AtomicU64,
    pub(super) expired: AtomicU64,
    pub(super) filtered: AtomicU64,
    pub(super) rejected: AtomicU64,
}

impl Counters {
    pub(super) fn totals(&self) -> TopicTotals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (nacked, turned_down) = (read(&self.nacked), read(&self.turned_down));
        TopicTotals {
            enqueued: read(&self.enqueued),
            delivered: read(&self.delivered),
            acked: read(&self.acked),
            failed: nacked + turned_down,
            failed_by_nack: nacked,
            failed_by_reject: turned_down,
            failed_by_time: 0,
            dead: read(&self.dead),
            expired: read(&self.expired),
            filtered: read(&self.filtered),
            rejected: read(&self.rejected),
        }
    }
}

/// Counts the items of a batch that were not taken.
pub(super) fn count_untaken(counters: &Counters, results: &[EnqueueResult]) {
    let (mut filtered, mut rejected) = (0, 0);
    for result in results {
        match result {
            EnqueueResult::Filtered { .. } => filtered += 1,
            _ if result.refusal().is_some() => rejected += 1,
            _ => {}
        }
    }
    if filtered + rejected > 0 {
        count(&counters.filtered, filtered);
        count(&counters.rejected, rejected);
    }
}

/// Adds `count` to a counter.
pub(super) fn count(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

/// Totals at the last few ticks, to take averages over.
#[derive(Debug, Default)]
struct RateWindow(std::collections::VecDeque<(i64, TopicTotals)>);

const RATE_SAMPLES: usize = 11;

impl TopicHandle {
    fn new(key: TopicKey, row: &TopicRow, effective: Settings) -> Self {
        Self {
            key,
            own: RwLock::new(row.settings.clone()),
            effective: ArcSwap::from_pointee(effective),
            paused: AtomicBool::new(row.paused),
            deleted: AtomicBool::new(false),
            purged_to: AtomicU64::new(0),
            counters: Counters::default(),
            traces: Traces::default(),
            rates: Mutex::default(),
            history: Mutex::default(),
            refill: tokio::sync::Mutex::new(()),
            refills: AtomicU64::new(0),
            cold_item_bytes: AtomicUsize::new(COLD_ITEM_BYTES),
            retention_looked_at_ms: AtomicI64::new(0),
        }
    }

    /// The settings in force.
    pub(super) fn settings(&self) -> arc_swap::Guard<Arc<Settings>> {
        self.effective.load()
    }

    pub(super) fn row(&self) -> TopicRow {
        TopicRow {
            settings: self.own.read().clone(),
            paused: self.is_paused(),
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Whether the topic was deleted since the handle was got: whoever then still brings it an item makes
    /// it appear again.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Notes that a purge takes everything up to `id` away.
    pub(super) fn note_purge(&self, id: ItemId) {
        self.purged_to.fetch_max(id.0, Ordering::AcqRel);
    }

    /// Whether an item under `id` would be taken for one that a purge took away.
    pub(super) fn is_purged(&self, id: ItemId) -> bool {
        id.0 <= self.purged_to.load(Ordering::Acquire)
    }

    pub(super) fn retention_looked_at(&self) -> Timestamp {
        Timestamp::from_ms(self.retention_looked_at_ms.load(Ordering::Relaxed))
    }

    pub(super) fn set_retention_looked_at(&self, now: Timestamp) {
        self.retention_looked_at_ms.store(now.ms(), Ordering::Relaxed);
    }

    pub(super) fn set_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Notes the totals at `now_ms`, for rates; once a second.
    pub(super) fn sample(&self, now_ms: i64) {
        let mut window = self.rates.lock();
        window.0.push_back((now_ms, self.counters.totals()));
        if window.0.len() > RATE_SAMPLES {
            window.0.pop_front();
        }
    }

    /// Averages over the sampled window.
    pub(super) fn rates(&self) -> TopicRates {
        let window = self.rates.lock();
        let (Some((from_ms, from)), Some((to_ms, to))) = (window.0.front(), window.0.back()) else {
            return TopicRates::default();
        };
        let seconds = (to_ms - from_ms) as f64 / 1_000.0;
        let per_s = |from: u64, to: u64| {
            if seconds > 0.0 {
                (to - from) as f64 / seconds
            } else {
                0.0
            }
        };
        TopicRates {
            enqueued_per_s: per_s(from.enqueued, to.enqueued),
            delivered_per_s: per_s(from.delivered, to.delivered),
            acked_per_s: per_s(from.acked, to.acked),
        }
    }
}

impl Topics {
    pub(super) fn new(contents: &CatalogContents, defaults: Settings) -> Self {
        let topics = Self {
            known: RwLock::default(),
            namespaces: RwLock::new(contents.namespaces.iter().cloned().collect()),
            defaults: ArcSwap::from_pointee(defaults),
            created: Notify::new(),
            editing: tokio::sync::Mutex::new(()),
            creating: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
            seen: AtomicU64::new(contents.generation),
        };
        for (key, row) in &contents.topics {
            topics.insert(key, row);
        }
        topics
    }

    /// The topic, if it was ever used.
    pub(super) fn get(&self, key: &TopicKey) -> Option<Arc<TopicHandle>> {
        self.known.read().get(key).cloned()
    }

    /// Makes a topic known; one that is known already stays as it is.
    pub(super) fn insert(&self, key: &TopicKey, row: &TopicRow) -> Arc<TopicHandle> {
        let effective = self.resolve(key.namespace(), &row.settings);
        let new = || Arc::new(TopicHandle::new(key.clone(), row, effective));
        let handle = self.known.write().entry(key.clone()).or_insert_with(new).clone();
        self.created.notify_waiters();
        handle
    }

    pub(super) fn remove(&self, key: &TopicKey) {
        self.known.write().remove(key);
    }

    /// What is held while a topic of `namespace` is made.
    pub(super) fn creating(&self, namespace: &Namespace) -> &tokio::sync::Mutex<()> {
        let bytes = namespace.as_str().bytes();
        let place = bytes.fold(0_usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        &self.creating[place % CREATING]
    }

    /// Every topic, in no order.
    pub(super) fn all(&self) -> Vec<Arc<TopicHandle>> {
        self.known.read().values().cloned().collect()
    }

    /// How many topics `namespace` has.
    pub(super) fn count_in(&self, namespace: &Namespace) -> usize {
        self.known
            .read()
            .keys()
            .filter(|key| key.namespace() == namespace)
            .count()
    }

    /// Up to `limit` topics of `namespace` after `after`, by name.
    pub(super) fn page(
        &self,
        namespace: &Namespace,
        after: Option<&TopicName>,
        limit: usize,
    ) -> Vec<Arc<TopicHandle>> {
        let known = self.known.read();
        let wanted =
            |key: &TopicKey| key.namespace() == namespace && after.is_none_or(|after| key.topic() > after);
        let mut found: Vec<_> = known
            .values()
            .filter(|handle| wanted(&handle.key))
            .cloned()
            .collect();
        drop(known);
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        found.truncate(limit);
        found
    }

    pub(super) fn set_topic(&self, handle: &TopicHandle, settings: SettingsPatch) {
        handle
            .effective
            .store(Arc::new(self.resolve(handle.key.namespace(), &settings)));
        *handle.own.write() = settings;
    }

    /// Every namespace that has topics or settings of its own, in order.
    pub(super) fn namespaces(&self) -> Vec<Namespace> {
        let mut names: Vec<_> = self.namespaces.read().keys().cloned().collect();
        names.extend(self.known.read().keys().map(|key| key.namespace().clone()));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The namespace's own settings; empty ones when it has none.
    pub(super) fn namespace(&self, namespace: &Namespace) -> NamespaceSettings {
        self.namespaces.read().get(namespace).cloned().unwrap_or_default()
    }

    pub(super) fn set_namespace(&self, namespace: &Namespace, settings: NamespaceSettings) {
        self.namespaces.write().insert(namespace.clone(), settings);
        self.refresh();
    }

    /// Makes these all the namespaces with settings of their own.
    pub(super) fn set_namespaces(&self, namespaces: Vec<(Namespace, NamespaceSettings)>) {
        *self.namespaces.write() = namespaces.into_iter().collect();
        self.refresh();
    }

    /// Forgets a namespace's own settings.
    pub(super) fn remove_namespace(&self, namespace: &Namespace) {
        self.namespaces.write().remove(namespace);
        self.refresh();
    }

    /// Replaces the configuration's settings, under every namespace's and topic's own.
    pub(super) fn set_defaults(&self, defaults: Settings) {
        self.defaults.store(Arc::new(defaults));
        self.refresh();
    }

    fn refresh(&self) {
        for handle in self.all() {
            let own = handle.own.read().clone();
            handle
                .effective
                .store(Arc::new(self.resolve(handle.key.namespace(), &own)));
        }
    }

    /// The settings in force in `namespace` under a topic's `own`.
    pub(super) fn resolve(&self, namespace: &Namespace, own: &SettingsPatch) -> Settings {
        let defaults = self.defaults.load();
        let of_namespace = match self.namespaces.read().get(namespace) {
            Some(own) => own.topics.over(&defaults),
            None => (**defaults).clone(),
        };
        own.over(&of_namespace)
    }
}
