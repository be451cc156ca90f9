//! Dequeue: take in order, log the hand-out, wait until the log is durable, and only then answer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;

use super::core::{Core, Queue};
use super::dequeue_hooks::{Turned, filtered, finishes, log_turned};
use super::error::QueueError;
use super::receipts::{Claim, OpenReceipt, ReceiptKey};
use super::request::{Delivered, DequeueRequest, Lease};
use super::topics::{TopicHandle, count};
use super::traces::Trace;
use super::uncancelled::uncancelled;
use crate::clock::Timestamp;
use crate::hooks::Chain;
use crate::hot::{Finish, More, TakenItem, Term, Want, item_bytes};
use crate::model::{Delivery, HookRef, ItemId, ItemState, LeaseRef, SettleCause, Side, TopicKey, limits};
use crate::wal::{DeliverEntry, FrameBuilder};

/// A consumer that does not wait looks so many times while hooks turn away all that it would get.
const LOOKS_MAX: usize = 16;
/// A waiting consumer looks again at least this often.
const LOOK_AGAIN_MS: i64 = 5_000;
/// So soon looks a consumer again whose namespace has as many leases as it may have: a settlement wakes nobody.
const OUT_OF_LEASES_MS: i64 = 50;

/// What one look at the topics yielded.
struct Look {
    delivered: Vec<Delivered>,
    /// Hooks turned items away, so that others may come next.
    turned: bool,
    /// When something changes by itself.
    next_event: Option<Timestamp>,
    /// The namespace has as many leases as it may have.
    out_of_leases: bool,
}

/// What was taken from one topic.
pub(super) struct Hand {
    pub(super) handle: Arc<TopicHandle>,
    /// The request's own key of the topic: every item's answer holds it, and the count of users of the handle's is
    /// written to by all cores.
    topic: TopicKey,
    pub(super) items: Vec<TakenItem>,
    /// The hooks that have a say.
    pub(super) chain: Option<Chain>,
    /// What they turned away.
    pub(super) turned: Vec<Turned>,
    at_most_once: bool,
}

/// Items that hooks sent back, until when, and the hooks.
type Deferrals = Vec<(ItemId, Timestamp, HookRef)>;

/// What a hand-out changes in memory once it is logged.
enum Change {
    /// Items go where hooks, or a delivery that is the ack, send them.
    Finish(Vec<Finish>),
    /// The shard holds older standings of these.
    Mark(Vec<ItemId>),
}

impl Hand {
    fn is_empty(&self) -> bool {
        self.items.is_empty() && self.turned.is_empty()
    }

    /// Counts what is handed over, and tells what of it memory does not know.
    fn change(&mut self) -> Option<(Arc<TopicHandle>, Change)> {
        let counters = &self.handle.counters;
        count(&counters.delivered, self.items.len());
        count(&counters.filtered, filtered(&self.turned));
        let mut landings = Vec::new();
        if self.chain.is_some() {
            let leased = if self.at_most_once {
                &[][..]
            } else {
                &self.items[..]
            };
            let (of_hooks, dead) = finishes(std::mem::take(&mut self.turned), leased);
            count(&counters.dead, dead);
            landings = of_hooks;
        }
        if self.at_most_once {
            count(&counters.acked, self.items.len());
            let gone = |id| Finish::gone(id, SettleCause::Acked);
            landings.extend(ids(&self.items).into_iter().map(gone));
        }
        if !landings.is_empty() {
            return Some((self.handle.clone(), Change::Finish(landings)));
        }
        let marked = self.items.iter().filter(|taken| taken.mark);
        let marked: Vec<_> = marked.map(|taken| taken.queued.item.id).collect();
        (!marked.is_empty()).then(|| (self.handle.clone(), Change::Mark(marked)))
    }

    /// What hooks sent back for later: which, until when, and who.
    fn deferred(&self) -> Option<(Arc<TopicHandle>, Deferrals)> {
        let deferred: Vec<_> = self.turned.iter().filter_map(Turned::deferral).collect();
        (!deferred.is_empty()).then(|| (self.handle.clone(), deferred))
    }

    /// Everything that was taken, turned away or not, with its generation.
    fn taken(&self) -> Vec<(ItemId, u32)> {
        let turned = self.turned.iter().map(|turned| (turned.id, turned.generation));
        let kept = self.items.iter().map(|taken| &taken.queued);
        kept.map(|queued| (queued.item.id, queued.standing.generation))
            .chain(turned)
            .collect()
    }
}

impl Queue {
    /// Hands out eligible items in strict order, waiting up to `wait_ms` for the first.
    ///
    /// # Errors
    /// Nothing was handed out; after [`QueueError::LogFailed`] items may be leased until their leases end.
    pub async fn dequeue(&self, request: DequeueRequest) -> Result<Vec<Delivered>, QueueError> {
        let core = &self.core;
        let Some(key) = ReceiptKey::of(&request) else {
            return self.dequeue_anew(&request, &mut None).await;
        };
        loop {
            match core.receipts.claim(&key, core.clock.now()) {
                Claim::Mine(claim) => {
                    return self.dequeue_anew(&request, &mut Some(claim)).await;
                }
                Claim::Theirs(decided) => {
                    let _ = tokio::time::timeout(Duration::from_millis(50), decided.notified()).await;
                }
                Claim::Done(leases) => {
                    let held = core.still_held(&leases).await?;
                    if !held.is_empty() {
                        return Ok(core.view_again(held, &request.consumer).await);
                    }
                    core.receipts.forget(&key);
                }
            }
        }
    }

    async fn dequeue_anew(
        &self,
        request: &DequeueRequest,
        claim: &mut Option<OpenReceipt>,
    ) -> Result<Vec<Delivered>, QueueError> {
        let core = &self.core;
        let deadline = core.clock.monotonic().plus_ms(request.wait_ms.into());
        let mut looks = 0;
        loop {
            core.check_running()?;
            core.check_tenure().await?;
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
            let look = core.look(request, claim).await?;
            let left_ms = deadline.0 - core.clock.monotonic().0;
            looks += 1;
            if look.delivered.is_empty() && look.turned && (left_ms > 0 || looks < LOOKS_MAX) {
                continue;
            }
            if !look.delivered.is_empty() || left_ms <= 0 {
                return Ok(look.delivered);
            }
            let until_event = look
                .next_event
                .map_or(i64::MAX, |at| at.since_ms(core.clock.now()).max(1));
            let look_again = if look.out_of_leases {
                OUT_OF_LEASES_MS
            } else {
                LOOK_AGAIN_MS
            };
            let sleep_ms = left_ms.min(until_event).min(look_again);
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
    async fn look(
        self: &Arc<Self>,
        request: &DequeueRequest,
        claim: &mut Option<OpenReceipt>,
    ) -> Result<Look, QueueError> {
        let mut in_hand = InHand::empty(self);
        let mut next_event: Option<Timestamp> = None;
        let mut failure = None;
        // Every topic of a request is of one namespace.
        let leases = request
            .topics
            .first()
            .map(|(key, _)| self.lease_room(key.namespace(), request.max_total));
        let room = leases.as_ref().map_or(0, |leases| leases.room);
        let mut left = Want::items(room);
        for (key, max) in &request.topics {
            let Some(handle) = self.topics.get(key) else {
                continue;
            };
            let want = Want {
                items: left.items.min(*max),
                ..left
            };
            if want.items == 0 || want.bytes == 0 {
                continue;
            }
            let hand = in_hand.open(handle, key.clone());
            match self.take(hand, want, request).await {
                Ok(event) => {
                    let bytes: usize = hand
                        .items
                        .iter()
                        .map(|taken| item_bytes(&taken.queued.item))
                        .sum();
                    left.items -= hand.items.len();
                    left.bytes = left.bytes.saturating_sub(bytes);
                    next_event = [next_event, event].into_iter().flatten().min();
                }
                // A topic whose shard is down keeps no other topic waiting.
                Err(error) => failure = Some(error),
            }
        }
        drop(leases);
        if in_hand
            .hands
            .iter()
            .any(|hand| hand.chain.is_some() && !hand.items.is_empty())
        {
            self.screen(&mut in_hand.hands, request).await;
        }
        let hands = in_hand.release();
        let turned = hands.iter().any(|hand| !hand.turned.is_empty());
        let delivered = match failure {
            Some(error) if hands.is_empty() => return Err(error),
            _ if hands.is_empty() => Vec::new(),
            _ => self.hand_over(hands, claim, &request.consumer.subject).await?,
        };
        Ok(Look {
            delivered,
            turned,
            next_event,
            out_of_leases: room == 0,
        })
    }

    /// Takes what is wanted of one topic, bringing cold items up when they come first.
    async fn take(
        self: &Arc<Self>,
        Hand {
            handle,
            items,
            chain,
            at_most_once,
            ..
        }: &mut Hand,
        want: Want,
        request: &DequeueRequest,
    ) -> Result<Option<Timestamp>, QueueError> {
        // Where the delivery is the ack, nobody else may get the item while a slow disk logs that; nor while
        // hooks look at it, after which its lease begins.
        let term = match (chain, request.lease_ms) {
            _ if *at_most_once => Term::Ms(limits::LEASE_MS_MAX),
            // A checkpoint may store this lease: the item waits for its end when the node crashes meanwhile.
            (Some(_), _) => Term::Undecided,
            (None, Some(ms)) => Term::Ms(ms),
            (None, None) => Term::Own,
        };
        loop {
            let taken = self
                .hot
                .take(&handle.key, want, term, &request.consumer.subject)
                .await?;
            let lapsed = taken.items.iter().filter_map(|taken| taken.lapsed_ms);
            self.counted.note_leases(lapsed);
            *items = taken.items;
            let buried = if taken.overdue.is_empty() {
                Ok(())
            } else {
                self.clone().bury(handle.clone(), taken.overdue).await
            };
            match taken.more {
                More::Ready => return Ok(None),
                // What could not be logged would be told of again, and again.
                More::Again => buried?,
                More::Nothing(event) => return Ok(event),
                // Some is better than waiting for the shard; the prefetcher brings the rest.
                More::Cold if !items.is_empty() => {
                    self.runs_low(&handle.key);
                    return Ok(None);
                }
                More::Cold => self.refill(handle).await?,
            }
        }
    }

    /// Logs what was taken, and makes the answer once that is durable.
    async fn hand_over(
        self: &Arc<Self>,
        hands: Vec<Hand>,
        claim: &mut Option<OpenReceipt>,
        consumer: &Arc<str>,
    ) -> Result<Vec<Delivered>, QueueError> {
        // A batch of which nothing is left is no answer yet.
        let claim = if hands.iter().all(|hand| hand.items.is_empty()) {
            None
        } else {
            claim.take()
        };
        let mut frame = FrameBuilder::new();
        for hand in &hands {
            log_turned(&mut frame, &hand.handle.key, &hand.turned);
            if hand.items.is_empty() {
                continue;
            }
            if hand.at_most_once {
                frame.settle(&hand.handle.key, SettleCause::Acked, &ids(&hand.items));
            } else {
                let entries: Vec<_> = hand.items.iter().map(deliver_entry).collect();
                frame.deliver(&hand.handle.key, &entries);
            }
        }
        // A copy, for the same reason as the hands' topics: every item's trace holds it.
        let (work, consumer) = (self.clone(), Arc::from(&**consumer));
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
                    work.put_back(&hands).await;
                    return Err(QueueError::from(error));
                }
            };
            if let Some(claim) = claim {
                let (leases, until) = leases_of(&hands);
                claim.settle(leases, until);
            }
            work.note_waits(
                hands
                    .iter()
                    .flat_map(|hand| &hand.items)
                    .map(|taken| &taken.queued),
            );
            let mut delivered = Vec::with_capacity(hands.iter().map(|hand| hand.items.len()).sum());
            let (mut changes, mut deferred) = (Vec::new(), Vec::new());
            for mut hand in hands {
                work.trace(&hand, &consumer);
                deferred.extend(hand.deferred());
                changes.extend(hand.change());
                let topic = &hand.topic;
                let answer = |taken| work.delivered(topic, taken, hand.at_most_once);
                delivered.extend(hand.items.into_iter().map(answer));
            }
            let applied = work.clone();
            work.applied(async move {
                for (handle, change) in changes {
                    match change {
                        Change::Finish(finishes) => applied.hot.finish(&handle.key, lsn, finishes).await,
                        Change::Mark(ids) => applied.hot.delivered(&handle.key, lsn, &ids).await,
                    }
                }
                for (handle, deferred) in deferred {
                    applied.hot.note_deferred(&handle.key, &deferred).await;
                }
                drop(applying);
            })
            .await;
            Ok(delivered)
        })
        .await
    }

    /// Notes who has what of `hand` now, and which hook sent what back.
    fn trace(&self, hand: &Hand, consumer: &Arc<str>) {
        let held = |taken: &TakenItem| {
            let standing = &taken.queued.standing;
            let trace = Trace::Held(consumer.clone());
            Some((taken.queued.item.id, standing.lease_expires_at?, trace))
        };
        let held = hand.items.iter().filter(|_| !hand.at_most_once).filter_map(held);
        let turned = hand.turned.iter().filter_map(Turned::deferral);
        let turned = turned.map(|(id, until, by)| (id, until, Trace::Deferred(by)));
        hand.handle.traces.note(self.clock.now(), held.chain(turned));
    }

    async fn put_back(&self, hands: &[Hand]) {
        for hand in hands {
            self.hot.untake(&hand.handle.key, &hand.taken()).await;
        }
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
    async fn still_held(&self, leases: &[LeaseRef]) -> Result<Vec<Delivered>, QueueError> {
        let mut held = Vec::new();
        for lease in leases {
            let view = self.hot.find(&lease.topic, lease.id).await?;
            let current = view.filter(|view| {
                view.state == ItemState::Leased && view.queued.standing.generation == lease.generation
            });
            held.extend(current.map(|view| {
                let taken = TakenItem {
                    queued: view.queued,
                    mark: false,
                    lapsed_ms: None,
                };
                self.delivered(&lease.topic, taken, false)
            }));
        }
        Ok(held)
    }
}

/// What was taken and is not yet logged. Dropped, as when the consumer hangs up, it is put back: the attempt
/// is not counted against an item that nobody saw.
struct InHand {
    core: Arc<Core>,
    hands: Vec<Hand>,
}

impl InHand {
    fn empty(core: &Arc<Core>) -> Self {
        Self {
            core: core.clone(),
            hands: Vec::new(),
        }
    }

    fn open(&mut self, handle: Arc<TopicHandle>, topic: TopicKey) -> &mut Hand {
        let at_most_once = handle.settings().delivery == Delivery::AtMostOnce;
        let chain = self.core.hooks.chain(&handle.key, Side::Dequeue);
        let end = self.hands.len();
        self.hands.push(Hand {
            handle,
            topic,
            chain,
            turned: Vec::new(),
            items: Vec::new(),
            at_most_once,
        });
        &mut self.hands[end]
    }

    fn release(mut self) -> Vec<Hand> {
        let mut hands = std::mem::take(&mut self.hands);
        hands.retain(|hand| !hand.is_empty());
        hands
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut hands = std::mem::take(&mut self.hands);
        hands.retain(|hand| !hand.is_empty());
        if !hands.is_empty() {
            let core = self.core.clone();
            drop(uncancelled(async move { core.put_back(&hands).await }));
        }
    }
}

/// The leases of what is handed over, and when the last of them ends.
fn leases_of(hands: &[Hand]) -> (Vec<LeaseRef>, Timestamp) {
    let mut leases = Vec::new();
    let mut until = Timestamp::ZERO;
    for hand in hands.iter().filter(|hand| !hand.at_most_once) {
        for TakenItem { queued, .. } in &hand.items {
            leases.push(LeaseRef {
                topic: hand.handle.key.clone(),
                id: queued.item.id,
                generation: queued.standing.generation,
            });
            until = until.max(queued.standing.lease_expires_at.unwrap_or_default());
        }
    }
    (leases, until)
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
