//! Topics and namespaces as resources: settings, pause, purge, delete.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Queue};
use super::error::QueueError;
use super::request::{NamespaceView, Page, TopicStats, TopicSummary, TopicView};
use super::topics::TopicHandle;
use super::uncancelled::uncancelled;
use crate::model::{Namespace, NamespaceSettings, SettingsPatch, TopicKey, TopicName};
use crate::shard::{Replaced, TopicRow};
use crate::wal::{FrameBuilder, Lsn};

/// How often a topic that seems to be empty is tried to be forgotten, and how soon again.
const FORGET_TRIES: usize = 100;
const FORGET_AGAIN: Duration = Duration::from_millis(20);

/// What a change expects to find, so that nobody's change is lost unseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// Whatever there is.
    Whatever,
    /// Nothing.
    Absent,
    /// Something.
    Present,
    /// The settings of this revision.
    Revision(u64),
}

impl Expectation {
    /// Checks what this node knows, the revision `current`; returns the revision that the catalog must have when
    /// the change is stored, for another node may have made one since.
    ///
    /// # Errors
    /// [`QueueError::Stale`] when there is something and should not be, or the other way round.
    fn check(self, current: Option<u64>) -> Result<Option<u64>, QueueError> {
        match (self, current) {
            (Self::Whatever, _) | (Self::Present, Some(_)) => Ok(None),
            (Self::Absent, None) => Ok(Some(SettingsPatch::default().revision())),
            (Self::Revision(revision), Some(_)) => Ok(Some(revision)),
            (Self::Absent | Self::Present | Self::Revision(_), _) => Err(QueueError::Stale { current }),
        }
    }
}

impl Queue {
    /// Up to `limit` topics of a namespace after `after`, by name.
    pub fn topics(
        &self,
        namespace: &Namespace,
        after: Option<&TopicName>,
        limit: usize,
    ) -> Page<TopicSummary, TopicName> {
        let mut handles = self.core.topics.page(namespace, after, limit + 1);
        let more = handles.len() > limit;
        handles.truncate(limit);
        let next = handles
            .last()
            .filter(|_| more)
            .map(|handle| handle.key.topic().clone());
        let summary = |handle: &Arc<TopicHandle>| TopicSummary {
            topic: handle.key.topic().clone(),
            paused: handle.is_paused(),
            stats: self.stats_of(handle),
        };
        Page {
            entries: handles.iter().map(summary).collect(),
            next,
        }
    }

    /// Every topic with its numbers, for metrics.
    pub fn all_stats(&self) -> Vec<(TopicKey, bool, TopicStats)> {
        let row = |handle: Arc<TopicHandle>| (handle.key.clone(), handle.is_paused(), self.stats_of(&handle));
        self.core.topics.all().into_iter().map(row).collect()
    }

    /// One topic.
    pub fn topic(&self, topic: &TopicKey) -> Result<TopicView, QueueError> {
        let handle = self.core.topic(topic)?;
        Ok(TopicView {
            settings: handle.row().settings,
            effective: (**handle.settings()).clone(),
            paused: handle.is_paused(),
            stats: self.stats_of(&handle),
        })
    }

    /// One topic's numbers.
    pub fn stats(&self, topic: &TopicKey) -> Result<TopicStats, QueueError> {
        Ok(self.stats_of(&*self.core.topic(topic)?))
    }

    fn stats_of(&self, handle: &TopicHandle) -> TopicStats {
        let counts = self.core.hot.counts(&handle.key);
        let mut totals = handle.counters.totals();
        totals.failed += counts.leases_expired;
        totals.failed_by_time = counts.leases_expired;
        let now = self.core.clock.now();
        TopicStats {
            ready: counts.ready,
            scheduled: counts.scheduled,
            leased: counts.leased,
            dead: counts.dead,
            oldest_ready_age_ms: counts.oldest_ready_due.map_or(0, |due| now.since_ms(due).max(0)),
            totals,
            rates: handle.rates(),
        }
    }

    /// Replaces a topic's own settings; the topic appears when it is new. Items accepted before keep theirs.
    pub async fn put_topic(
        &self,
        topic: &TopicKey,
        settings: SettingsPatch,
    ) -> Result<TopicView, QueueError> {
        self.put_topic_if(topic, settings, Expectation::Whatever).await
    }

    /// As [`Queue::put_topic`], if the topic's own settings are as `expected`.
    pub async fn put_topic_if(
        &self,
        topic: &TopicKey,
        settings: SettingsPatch,
        expected: Expectation,
    ) -> Result<TopicView, QueueError> {
        check(settings.problem())?;
        let _editing = self.core.topics.editing.lock().await;
        let known = self.core.topics.get(topic);
        let revision = expected.check(known.map(|handle| handle.row().settings.revision()))?;
        let handle = self.core.topic_declared(topic).await?;
        let catalog = &self.core.catalog;
        done(catalog.put_settings(topic, &settings, revision).await?)?;
        self.core.topics.set_topic(&handle, settings);
        self.topic(topic)
    }

    /// Stops or resumes deliveries of a topic; enqueues and settlements go on.
    pub async fn pause(&self, topic: &TopicKey, paused: bool) -> Result<(), QueueError> {
        let handle = self.core.topic(topic)?;
        let _editing = self.core.topics.editing.lock().await;
        self.core.catalog.put_paused(topic, paused).await?;
        handle.set_paused(paused);
        self.core.hot.set_paused(topic, paused).await?;
        Ok(())
    }

    /// Removes every live item that was accepted before this call, leased ones included; returns how many.
    pub async fn purge(&self, topic: &TopicKey) -> Result<u64, QueueError> {
        self.core.topic(topic)?;
        Ok(self.core.remove_all(topic, false).await?.0)
    }

    /// Removes every dead letter there is now; returns how many.
    pub async fn discard_dead(&self, topic: &TopicKey) -> Result<u64, QueueError> {
        self.core.topic(topic)?;
        Ok(self.core.remove_all(topic, true).await?.0)
    }

    /// Removes a topic with everything in it; returns how many items that were. It may appear again.
    pub async fn delete_topic(&self, topic: &TopicKey) -> Result<u64, QueueError> {
        self.core.delete_topic(topic).await
    }

    /// Every namespace that has topics or settings of its own, in order.
    pub fn namespaces(&self) -> Vec<Namespace> {
        self.core.topics.namespaces()
    }

    /// A namespace's own settings, those in force under them, and how many topics it has and may have.
    pub fn namespace(&self, namespace: &Namespace) -> NamespaceView {
        let topics = &self.core.topics;
        NamespaceView {
            settings: topics.namespace(namespace),
            effective: topics.resolve(namespace, &SettingsPatch::default()),
            topics: topics.count_in(namespace),
            topics_max: self.core.topics_max(namespace),
        }
    }

    /// Replaces a namespace's own settings, if they are as `expected`. A namespace without any is the same as
    /// one whose settings are empty.
    pub async fn put_namespace(
        &self,
        namespace: &Namespace,
        settings: NamespaceSettings,
        expected: Expectation,
    ) -> Result<(), QueueError> {
        check(settings.problem())?;
        let _editing = self.core.topics.editing.lock().await;
        let revision = expected.check(Some(self.core.topics.namespace(namespace).revision()))?;
        let catalog = &self.core.catalog;
        done(catalog.put_namespace(namespace, &settings, revision).await?)?;
        self.core.topics.set_namespace(namespace, settings);
        Ok(())
    }
}

impl Core {
    /// Most topics of a namespace.
    pub(super) fn topics_max(&self, namespace: &Namespace) -> usize {
        let own = self.topics.namespace(namespace).topics_max;
        let own = own.map_or(usize::MAX, |own| own as usize);
        own.min(self.live.load().topics_per_namespace_max)
    }

    /// Removes a topic with everything in it; returns how many items that were.
    pub(super) async fn delete_topic(self: &Arc<Self>, topic: &TopicKey) -> Result<u64, QueueError> {
        let handle = self.topic(topic)?;
        let (live, _) = self.remove_all(topic, false).await?;
        let (dead, lsn) = self.remove_all(topic, true).await?;
        // The topic leaves memory only when the shard has nothing left to be told about it.
        self.flush[usize::from(self.shard_number(topic))]
            .store_up_to(lsn)
            .await?;
        self.catalog.delete_topic(topic).await?;
        handle.set_deleted();
        self.topics.remove(topic);
        if !self.forget(topic).await? {
            // An item came in meanwhile: the topic has appeared again.
            self.hot.set_paused(topic, false).await?;
            self.topics.insert(topic, &TopicRow::default());
        }
        Ok(live + dead)
    }

    /// Takes a topic that has no items out of the hot tier, and waits for who reads ahead in it; false when it has
    /// items after all.
    pub(super) async fn forget(&self, topic: &TopicKey) -> Result<bool, QueueError> {
        for _ in 0..FORGET_TRIES {
            if self.hot.forget(topic).await? {
                return Ok(true);
            }
            let counts = self.hot.counts(topic);
            if counts.ready + counts.scheduled + counts.leased + counts.dead > 0 {
                break;
            }
            tokio::time::sleep(FORGET_AGAIN).await;
        }
        Ok(false)
    }

    /// Removes every live, or every dead, item of a topic; returns how many, and where the log says so.
    pub(super) async fn remove_all(
        self: &Arc<Self>,
        topic: &TopicKey,
        dead: bool,
    ) -> Result<(u64, Lsn), QueueError> {
        let (core, topic) = (self.clone(), topic.clone());
        uncancelled(async move {
            // No item accepted before this id was made has a higher one.
            let Some(up_to) = core.ids.next(1).next() else {
                return Ok((0, Lsn(0)));
            };
            if let Some(handle) = core.topics.get(&topic) {
                handle.note_purge(up_to);
            }
            let mut frame = FrameBuilder::new();
            frame.purge(&topic, dead, up_to);
            let (lsn, applying) = core.log(frame).await?;
            let hot = core.hot.clone();
            let purged = core.applied(async move {
                let count = hot.purge(&topic, lsn, dead, up_to).await;
                drop(applying);
                count
            });
            Ok((purged.await.unwrap_or(0), lsn))
        })
        .await
    }
}

fn done(replaced: Replaced) -> Result<(), QueueError> {
    match replaced {
        Replaced::Yes => Ok(()),
        Replaced::No { current } => Err(QueueError::Stale {
            current: Some(current),
        }),
    }
}

fn check(problem: Option<String>) -> Result<(), QueueError> {
    match problem {
        Some(problem) => {
            let (field, detail) = problem.split_once(": ").unwrap_or(("settings", &problem));
            Err(QueueError::invalid(field, detail))
        }
        None => Ok(()),
    }
}
