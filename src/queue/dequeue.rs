//! Dequeue: take in order, log the hand-out, wait until the log is durable, and only then answer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;

use super::core::{Core, Queue};
use super::error::QueueError;
use super::receipts::{Claim, ReceiptKey};
use super::request::{Delivered, DequeueRequest, Lease};
use super::topics::{TopicHandle, count};
use super::uncancelled::uncancelled;
use crate::clock::Timestamp;
use crate::hot::{Finish, Landing, More, TakenItem};
use crate::model::{Delivery, ItemId, SettleCause, TopicKey};
use crate::wal::{DeliverEntry, FrameBuilder};

/// A waiting consumer looks again at least this often.
const LOOK_AGAIN_MS: i64 = 5_000;

/// What one look at the topics yielded.
struct Look {
    delivered: Vec<Delivered>,
    /// When something changes by itself.
    next_event: Option<Timestamp>,
}

/// What was taken from one topic.
struct Hand {
    handle: Arc<TopicHandle>,
    items: Vec<TakenItem>,
    at_most_once: bool,
}

impl Queue {
    /// Hands out eligible items in strict order, waiting up to `wait_ms` for the first.
    ///
    /// # Errors
    /// Nothing was handed out; after [`QueueError::LogFailed`] items may be leased until their leases end.
    pub async fn dequeue(&self, request: DequeueRequest) -> Result<Vec<Delivered>, QueueError> {
        let core = &self.core;
        let Some(key) = ReceiptKey::of(&request) else {
            return self.dequeue_anew(&request).await;
        };
        loop {
            match core.receipts.claim(&key, core.clock.now()) {
                Claim::Mine(claim) => {
                    let delivered = self.dequeue_anew(&request).await?;
                    claim.settle(&delivered, core.clock.now());
                    return Ok(delivered);
                }
                Claim::Theirs(decided) => {
                    let _ = tokio::time::timeout(Duration::from_millis(50), decided.notified()).await;
                }
                Claim::Done(delivered) => {
                    let held = core.still_held(delivered).await;
                    if !held.is_empty() {
                        return Ok(held);
                    }
                    core.receipts.forget(&key);
                }
            }
        }
    }

    async fn dequeue_anew(&self, request: &DequeueRequest) -> Result<Vec<Delivered>, QueueError> {
        let core = &self.core;
        let deadline = core.clock.monotonic().plus_ms(request.wait_ms.into());
        loop {
            core.check_running()?;
            // Listening begins before looking, so that nothing that arrives in between is missed.
            let known: Vec<_> = request
                .topics
                .iter()
                .filter_map(|(key, _)| core.topics.get(key))
                .collect();
            let signals: Vec<_> = known.iter().map(|handle| core.hot.signal(&handle.key)).collect();
            let created = core.topics.created.notified();
            let mut arrivals: Vec<_> = signals.iter().map(|signal| Box::pin(signal.notified())).collect();
            for arrival in &mut arrivals {
                arrival.as_mut().enable();
            }
            let look = core.look(request).await?;
            let left_ms = deadline.0 - core.clock.monotonic().0;
            if !look.delivered.is_empty() || left_ms <= 0 {
                return Ok(look.delivered);
            }
            let until_event = look
                .next_event
                .map_or(i64::MAX, |at| at.since_ms(core.clock.now()).max(1));
            let sleep_ms = left_ms.min(until_event).min(LOOK_AGAIN_MS);
            let sleep = tokio::time::sleep(Duration::from_millis(sleep_ms.unsigned_abs()));
            let arrived = async {
                if arrivals.is_empty() {
                    std::future::pending().await
                } else {
                    select_all(arrivals).await;
                }
            };
            tokio::select! {
                () = arrived => {}
                () = created => {}
                () = sleep => {}
                () = core.stop_waiting.cancelled() => return Ok(Vec::new()),
            }
        }
    }
}

impl Core {
    /// Takes from each topic in turn and logs all hand-outs in one frame.
    async fn look(self: &Arc<Self>, request: &DequeueRequest) -> Result<Look, QueueError> {
        let mut hands: Vec<Hand> = Vec::new();
        let mut next_event: Option<Timestamp> = None;
        let mut left = request.max_total;
        for (key, max) in &request.topics {
            let Some(handle) = self.topics.get(key) else {
                continue;
            };
            let max = left.min(*max);
            if max == 0 {
                continue;
            }
            match self.take(&handle, max, request.lease_ms).await {
                Ok((items, event)) => {
                    left -= items.len();
                    next_event = [next_event, event].into_iter().flatten().min();
                    if !items.is_empty() {
                        let at_most_once = handle.settings().delivery == Delivery::AtMostOnce;
                        hands.push(Hand {
                            handle,
                            items,
                            at_most_once,
                        });
                    }
                }
                // Another topic's items are in hand: they are answered, and the error comes back next time.
                Err(_) if !hands.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        let delivered = if hands.is_empty() {
            Vec::new()
        } else {
            self.hand_over(hands).await?
        };
        Ok(Look {
            delivered,
            next_event,
        })
    }

    /// Takes up to `max` items of one topic, bringing cold ones up when they come first.
    async fn take(
        self: &Arc<Self>,
        handle: &Arc<TopicHandle>,
        max: usize,
        lease_ms: Option<u32>,
    ) -> Result<(Vec<TakenItem>, Option<Timestamp>), QueueError> {
        let mut items = Vec::new();
        loop {
            let taken = self.hot.take(&handle.key, max - items.len(), lease_ms).await;
            if items.is_empty() {
                items = taken.items;
            } else {
                items.extend(taken.items);
            }
            if !taken.overdue.is_empty() {
                self.clone().bury(handle.clone(), taken.overdue).await;
            }
            match taken.more {
                More::Ready => return Ok((items, None)),
                More::Nothing(event) => return Ok((items, event)),
                // Some is better than waiting for the shard; the prefetcher brings the rest.
                More::Cold if !items.is_empty() => {
                    self.running_low.notify_one();
                    return Ok((items, None));
                }
                More::Cold => self.refill(handle).await?,
            }
        }
    }

    /// Logs what was taken, and makes the answer once that is durable.
    async fn hand_over(self: &Arc<Self>, hands: Vec<Hand>) -> Result<Vec<Delivered>, QueueError> {
        let mut frame = FrameBuilder::new();
        for hand in &hands {
            if hand.at_most_once {
                frame.settle(&hand.handle.key, SettleCause::Acked, &ids(&hand.items));
            } else {
                let entries: Vec<_> = hand.items.iter().map(deliver_entry).collect();
                frame.deliver(&hand.handle.key, &entries);
            }
        }
        let work = self.clone();
        uncancelled(async move {
            let logged = match work.wal.append(frame) {
                Ok(pending) => {
                    let lsn = pending.lsn();
                    pending.durable().await.map(|applying| (lsn, applying))
                }
                Err(error) => Err(error),
            };
            let (lsn, applying) = match logged {
                Ok(logged) => logged,
                Err(error) => {
                    for hand in &hands {
                        work.hot.untake(&hand.handle.key, &ids(&hand.items)).await;
                    }
                    return Err(QueueError::from(error));
                }
            };
            let mut delivered = Vec::with_capacity(hands.iter().map(|hand| hand.items.len()).sum());
            for hand in hands {
                count(&hand.handle.counters.delivered, hand.items.len());
                if hand.at_most_once {
                    count(&hand.handle.counters.acked, hand.items.len());
                    let gone = |id| Finish {
                        id,
                        to: Landing::Gone(SettleCause::Acked),
                    };
                    let finishes = ids(&hand.items).into_iter().map(gone).collect();
                    work.hot.finish(&hand.handle.key, lsn, finishes).await;
                } else {
                    let marked: Vec<_> = hand.items.iter().filter(|taken| taken.mark).collect();
                    if !marked.is_empty() {
                        let marked: Vec<_> = marked.iter().map(|taken| taken.queued.item.id).collect();
                        work.hot.delivered(&hand.handle.key, lsn, &marked).await;
                    }
                }
                let topic = &hand.handle.key;
                let answer = |taken| work.delivered(topic, taken, hand.at_most_once);
                delivered.extend(hand.items.into_iter().map(answer));
            }
            drop(applying);
            Ok(delivered)
        })
        .await
    }

    fn delivered(&self, topic: &TopicKey, taken: TakenItem, at_most_once: bool) -> Delivered {
        let standing = taken.queued.standing;
        let id = taken.queued.item.id;
        let lease = standing
            .lease_expires_at
            .filter(|_| !at_most_once)
            .map(|expires_at| Lease {
                id: self.lease_key.seal(topic, id, standing.generation),
                expires_at,
            });
        Delivered {
            topic: topic.clone(),
            item: taken.queued.item,
            attempt: standing.attempt,
            due: standing.due,
            lease,
            last_error: standing.last_error,
        }
    }

    /// Which of an earlier answer's items its consumer still holds.
    async fn still_held(&self, delivered: Vec<Delivered>) -> Vec<Delivered> {
        let mut held = Vec::new();
        for delivery in delivered {
            let view = self.hot.find(&delivery.topic, delivery.item.id).await;
            let lease = delivery
                .lease
                .as_ref()
                .and_then(|lease| self.lease_key.open(&lease.id));
            let current = view.zip(lease).is_some_and(|(view, lease)| {
                view.state == crate::model::ItemState::Leased
                    && view.queued.standing.generation == lease.generation
            });
            if current {
                held.push(delivery);
            }
        }
        held
    }
}

fn ids(items: &[TakenItem]) -> Vec<ItemId> {
    items.iter().map(|taken| taken.queued.item.id).collect()
}

fn deliver_entry(taken: &TakenItem) -> DeliverEntry {
    let standing = &taken.queued.standing;
    DeliverEntry {
        id: taken.queued.item.id,
        generation: standing.generation,
        attempt: standing.attempt,
        // A taken item always has a lease; its due time is the harmless reading of one that had none.
        lease_expires_at: standing.lease_expires_at.unwrap_or(standing.due),
    }
}
