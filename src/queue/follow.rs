//! Following the catalog: what other nodes changed of topics and namespaces is taken over here.

use std::sync::atomic::Ordering;

use hashbrown::HashSet;

use super::core::{Core, Queue};
use super::error::QueueError;
use crate::model::TopicKey;
use crate::shard::{CatalogContents, TopicRow};

impl Queue {
    /// Takes over what the catalog has, when change number `generation` is not known here yet.
    ///
    /// # Errors
    /// When the catalog cannot be read: what is known stays in force.
    pub async fn catch_up(&self, generation: u64) -> Result<(), QueueError> {
        let core = &self.core;
        let seen = core.topics.seen.load(Ordering::Acquire);
        if seen == generation {
            return Ok(());
        }
        // A change made here is in the catalog and in force before the lock is free.
        let _editing = core.topics.editing.lock().await;
        let changes = core.catalog.changes(seen).await?;
        for (namespace, settings) in changes.namespaces {
            match settings {
                Some(settings) => core.topics.set_namespace(&namespace, settings),
                None => core.topics.remove_namespace(&namespace),
            }
        }
        let topics = match changes.everything {
            Some(contents) => core.everything(contents),
            None => changes.topics,
        };
        let mut used = Vec::new();
        for (topic, row) in topics {
            if !core.take_over(&topic, row.as_ref()).await? {
                used.push(topic);
            }
        }
        // Deleted elsewhere, and yet there are items here: such a topic has appeared again.
        core.catalog.ensure_topics(&used).await?;
        core.topics.seen.store(changes.generation, Ordering::Release);
        Ok(())
    }
}

impl Core {
    /// Every topic with its row, those that have none any more included; namespaces are taken over.
    fn everything(&self, contents: CatalogContents) -> Vec<(TopicKey, Option<TopicRow>)> {
        self.topics.set_namespaces(contents.namespaces);
        let present: HashSet<TopicKey> = contents.topics.iter().map(|(topic, _)| topic.clone()).collect();
        let known = self.topics.all().into_iter().map(|handle| handle.key.clone());
        let gone = known
            .filter(|topic| !present.contains(topic))
            .map(|topic| (topic, None));
        let there = contents.topics.into_iter().map(|(topic, row)| (topic, Some(row)));
        gone.chain(there).collect()
    }

    /// Makes `topic` what its row says; one without a row goes. False when it has items here and stays.
    async fn take_over(&self, topic: &TopicKey, row: Option<&TopicRow>) -> Result<bool, QueueError> {
        match (row, self.topics.get(topic)) {
            (Some(row), Some(handle)) => {
                let before = handle.row();
                if before.settings != row.settings {
                    self.topics.set_topic(&handle, row.settings.clone());
                }
                if before.paused != row.paused {
                    handle.set_paused(row.paused);
                    self.hot.set_paused(topic, row.paused).await?;
                }
            }
            (Some(row), None) => {
                self.topics.insert(topic, row);
                if row.paused {
                    self.hot.set_paused(topic, true).await?;
                }
            }
            (None, Some(handle)) => {
                if !self.forget(topic).await? {
                    return Ok(false);
                }
                handle.set_deleted();
                self.topics.remove(topic);
            }
            (None, None) => {}
        }
        Ok(true)
    }
}
