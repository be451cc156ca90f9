//! The shards as the pipeline sees them: whether they answer, and how much of them is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::cluster::ShardView;
use super::core::{Core, Queue};
use super::error::QueueError;
use crate::model::TopicKey;

/// How often a shard is asked whether it answers.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How soon one that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What was last said of a shard in the log.
#[derive(Debug, Default)]
pub(super) struct ShardWatch {
    left_alone: AtomicBool,
}

impl Queue {
    /// Every shard, in the order of `DATABASE_URLS`.
    pub fn shards(&self) -> Vec<ShardView> {
        let core = &self.core;
        let mut views: Vec<_> = (0..core.shards.len() as u16)
            .map(|number| core.shard_view(number))
            .collect();
        for owner in core.slots.now().owners() {
            if let Some(view) = views.get_mut(usize::from(*owner)) {
                view.slots += 1;
            }
        }
        for handle in core.topics.all() {
            let counts = core.hot.counts(&handle.key);
            if let Some(view) = views.get_mut(usize::from(core.shard_number(&handle.key))) {
                view.topics += 1;
                view.items += counts.ready + counts.scheduled + counts.leased + counts.dead;
            }
        }
        views
    }

    /// The shard that holds `topic`, without what is counted in it.
    pub fn shard_of(&self, topic: &TopicKey) -> ShardView {
        self.core.shard_view(self.core.shard_number(topic))
    }
}

impl Core {
    fn shard_view(&self, number: u16) -> ShardView {
        let condition = self.shards[usize::from(number)].condition();
        let failure = condition.failure.clone();
        ShardView {
            shard: number,
            state: condition.circuit,
            failure: failure.or_else(|| self.flush[usize::from(number)].failure()),
            openings: condition.openings,
            refused: condition.refused,
            slots: 0,
            topics: 0,
            items: 0,
        }
    }

    /// Refuses work on `topic` while its shard is left alone: what is accepted would wait for nobody knows how
    /// long, and its producer can as well.
    pub(super) fn check_shard(&self, topic: &TopicKey) -> Result<(), QueueError> {
        self.check_answers(self.shard_number(topic))
    }

    /// Refuses what has to be noted in the catalog, which is in the first shard, while that is left alone.
    pub(super) fn check_catalog(&self) -> Result<(), QueueError> {
        self.check_answers(0)
    }

    fn check_answers(&self, number: u16) -> Result<(), QueueError> {
        if !self.is_left_alone(number) {
            return Ok(());
        }
        let failure = self.shards[usize::from(number)].condition().failure;
        Err(QueueError::ShardUnavailable(
            failure.unwrap_or_else(|| "it does not answer".into()),
        ))
    }

    /// Whether calls of the shard fail at once.
    pub(super) fn is_left_alone(&self, number: u16) -> bool {
        self.shards[usize::from(number)].condition().is_open()
    }

    /// Wakes who reads ahead in `topic`'s shard.
    pub(super) fn runs_low(&self, topic: &TopicKey) {
        self.running_low[usize::from(self.shard_number(topic))].notify_one();
    }

    /// One turn: ask a shard whether it answers, and say so when that has changed. A shard that nobody uses is
    /// found out this way, and one that is left alone is found to be back.
    pub(super) async fn watch_tick(self: Arc<Self>, number: u16) {
        let shard = &self.shards[usize::from(number)];
        let answer = shard.ping().await;
        let condition = shard.condition();
        let was_open = self.watched[usize::from(number)]
            .left_alone
            .swap(condition.is_open(), Ordering::Relaxed);
        match (was_open, condition.is_open()) {
            (false, true) => {
                let why = condition.failure.unwrap_or_default();
                tracing::warn!(
                    shard = number,
                    why,
                    "the shard is left alone; its topics are refused"
                );
            }
            (true, false) => tracing::info!(shard = number, "the shard is back"),
            _ => {}
        }
        tokio::time::sleep(if answer.is_ok() { ASK_EVERY } else { ASK_AGAIN }).await;
    }
}
