//! What other nodes do to topics that this node's consumers wait for.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use redis::{Client, cmd};

use super::link::Link;
use super::reply::Reply;
use super::tier::RedisTier;
use crate::hot::HotError;
use crate::model::TopicKey;

/// How long the listener rests after it lost its connection.
const REST: Duration = Duration::from_millis(250);
/// How often the numbers of topics are asked for that this node has not touched.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many topics in one look.
const LOOK_TOPICS: usize = 500;

/// Wakes who waits for what other nodes bring, for as long as the tier is there.
pub(super) async fn listen(tier: Weak<RedisTier>, clients: Vec<Client>, channel: String, timeout: Duration) {
    let mut turn = 0;
    loop {
        if tier.upgrade().is_none_or(|tier| tier.is_closed()) {
            return;
        }
        let client = &clients[turn % clients.len()];
        turn += 1;
        if let Some(mut pubsub) = Link::pubsub(client, timeout).await
            && pubsub.subscribe(&channel).await.is_ok()
        {
            // Nobody knows what came while nobody listened.
            match tier.upgrade() {
                Some(tier) => tier.wake_all(),
                None => return,
            }
            let mut messages = pubsub.into_on_message();
            loop {
                let next = tokio::time::timeout(LOOK_EVERY, messages.next()).await;
                let Some(tier) = tier.upgrade().filter(|tier| !tier.is_closed()) else {
                    return;
                };
                match next {
                    Ok(Some(message)) => tier.heard(message.get_payload_bytes()),
                    Ok(None) => break,
                    Err(_) => {}
                }
            }
        }
        tokio::time::sleep(REST).await;
    }
}

/// Keeps the numbers of other nodes' topics fresh, for as long as the tier is there.
pub(super) async fn keep_looking(tier: Weak<RedisTier>) {
    let mut from = 0;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(tier) = tier.upgrade().filter(|tier| !tier.is_closed()) else {
            return;
        };
        // Calls fail while Redis is away; the next turn is soon enough. Looks come first: they find out when it
        // answers again and has lost its memory. One server that is away must not hide what is on the others.
        tier.look_at_some(from).await;
        from += LOOK_TOPICS;
        let _ = tier.learn_topics().await;
        let _ = tier.look_for_orphans().await;
    }
}

impl RedisTier {
    fn heard(&self, payload: &[u8]) {
        let Some((instance, base)) = payload.split_at_checked(8) else {
            return;
        };
        if instance != self.instance()
            && let Some(cell) = self.cell_of_base(base)
        {
            cell.wake();
        }
    }

    /// Looks at some topics, from the one at `from` on.
    async fn look_at_some(&self, from: usize) {
        let cells = self.cells();
        let first = from % cells.len().max(1);
        let some = cells
            .iter()
            .cycle()
            .skip(first)
            .take(LOOK_TOPICS.min(cells.len()));
        // A server that did not answer is left alone for this turn: a call to it may take a second.
        let mut away = Vec::new();
        for cell in some {
            let link = self.link_number(cell.slot);
            if !away.contains(&link) && self.call(cell, "look", &[]).await.is_err() {
                away.push(link);
            }
        }
    }

    fn wake_all(&self) {
        self.cells().iter().for_each(|cell| cell.wake());
    }

    /// Puts a topic into the list of topics, for nodes that do not use it yet.
    pub(super) async fn list(&self, cell: &super::cell::Cell) -> Result<(), HotError> {
        if cell.is_listed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut add = cmd("SADD");
        add.arg(self.topics_key()).arg(cell.key.to_string());
        self.link(cell.slot).send(&add).await?;
        cell.is_listed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Puts the topics that this node has listed into the list once more: Redis lost it with its memory.
    pub(super) async fn list_again(&self) -> Result<(), HotError> {
        for cell in self.cells() {
            if cell.is_listed.swap(false, Ordering::Relaxed) {
                self.list(&cell).await?;
            }
        }
        Ok(())
    }

    /// Calls `operation`, which takes nothing, for every topic.
    pub(super) async fn each_topic(&self, operation: &str) -> Result<(), HotError> {
        for cells in self.cells().chunks(LOOK_TOPICS) {
            for looked in join_all(cells.iter().map(|cell| self.call(cell, operation, &[]))).await {
                looked?;
            }
        }
        Ok(())
    }

    /// Learns the topics that other nodes use.
    pub(super) async fn learn_topics(&self) -> Result<(), HotError> {
        let mut told = Ok(());
        for link in self.links() {
            let mut names = match link.send(cmd("SMEMBERS").arg(self.topics_key())).await {
                Ok(names) => Reply::of(names)?,
                Err(error) => {
                    told = Err(error);
                    continue;
                }
            };
            while !names.is_empty() {
                let name = String::from_utf8_lossy(&names.bytes()?).into_owned();
                let parsed = name
                    .split_once('/')
                    .and_then(|(namespace, topic)| TopicKey::parse(namespace, topic).ok());
                if let Some(key) = parsed {
                    let _known: Arc<_> = self.cell(&key);
                }
            }
        }
        told
    }
}
