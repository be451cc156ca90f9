//! This node's hold on its number. Ids are made of the number, so a node that lost it makes no more.
//!
//! The claim is renewed long before it ends. A process that was stopped for longer, and cannot know what happened
//! meanwhile, asks before it does anything else. When the database that knows cannot be asked, the node goes on:
//! as long as nobody can be told that the number is taken, nobody was told that it is free.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::cluster::NodeView;
use super::core::{Core, Queue};
use super::error::QueueError;
use crate::clock::{Monotonic, Timestamp};
use crate::model::NodeId;
use crate::shard::{Claim, NodeRow};

/// How many renewals a claim lasts without.
const RENEWALS: u32 = 4;
/// How long a request waits to hear whether the number is still this node's.
const ASK_MAX: Duration = Duration::from_secs(2);
/// How long what could not be asked is not asked again.
const REST_MS: i64 = 1_000;

/// The hold on the number.
#[derive(Debug)]
pub struct Tenure {
    pub(super) claim: Claim,
    ttl: Duration,
    /// Until when it is known to be held, by the monotonic clock.
    known_until_ms: AtomicI64,
    asking: tokio::sync::Mutex<()>,
    lost: CancellationToken,
}

impl Tenure {
    /// A hold that was taken for `ttl` at a moment not before `since`.
    pub fn new(claim: Claim, ttl: Duration, since: Monotonic) -> Self {
        let tenure = Self {
            claim,
            ttl,
            known_until_ms: AtomicI64::new(0),
            asking: tokio::sync::Mutex::new(()),
            lost: CancellationToken::new(),
        };
        tenure.held_from(since.0);
        tenure
    }

    pub(super) fn node(&self) -> NodeId {
        self.claim.node
    }

    fn held_from(&self, since_ms: i64) {
        let ttl_ms = i64::try_from(self.ttl.as_millis()).unwrap_or(i64::MAX);
        self.known_until_ms
            .store(since_ms.saturating_add(ttl_ms), Ordering::Release);
    }
}

impl Queue {
    /// Returns when another process has taken this node's number: nothing may be done any more but to end.
    pub async fn displaced(&self) {
        self.core.tenure.lost.cancelled().await;
    }

    /// This node's number.
    pub fn node(&self) -> NodeId {
        self.core.node
    }

    /// Every node, by number; not those that gave their number back more than a week ago.
    ///
    /// # Errors
    /// When the catalog does not answer.
    pub async fn nodes(&self) -> Result<Vec<NodeView>, QueueError> {
        let rows = self.core.catalog.nodes().await?;
        Ok(rows.iter().map(|row| view(row, self.core.tenure.claim)).collect())
    }
}

impl Queue {
    /// Forgets a node that is away for good. What only its log has is lost, and nobody waits for it any more.
    ///
    /// # Errors
    /// [`QueueError::Conflict`] when it runs, or is not known.
    pub async fn forget_node(&self, node: NodeId) -> Result<(), QueueError> {
        if self.core.catalog.forget_node(node).await? {
            return Ok(());
        }
        let text = format!(
            "node {} runs, or is not known; only nodes that are away are forgotten",
            node.number()
        );
        Err(QueueError::Conflict(text))
    }
}

fn view(row: &NodeRow, mine: Claim) -> NodeView {
    NodeView {
        node: row.claim.node.number(),
        state: match (row.is_held(), row.expires_at) {
            (true, _) => "running",
            (false, Timestamp::ZERO) => "stopped",
            (false, _) => "missing",
        },
        this: row.claim == mine,
        address: row.address.clone(),
        version: row.version.clone(),
        started_at: row.started_at,
        heard_at: row.heard_at,
        silent_ms: row.now.since_ms(row.heard_at).max(0),
    }
}

impl Core {
    /// Refuses work once the node's number is another's.
    pub(super) async fn check_tenure(self: &Arc<Self>) -> Result<(), QueueError> {
        let now_ms = self.clock.monotonic().0;
        if now_ms < self.tenure.known_until_ms.load(Ordering::Acquire) {
            return Ok(());
        }
        let _asking = self.tenure.asking.lock().await;
        let now_ms = self.clock.monotonic().0;
        if now_ms >= self.tenure.known_until_ms.load(Ordering::Acquire) && !self.is_left_alone(0) {
            self.renew(ASK_MAX).await;
            // Slots may have moved meanwhile, and what is read where they were is not what there is.
            if let Err(error) = self.follow_slots().await {
                tracing::warn!(%error, "where slots are could not be looked up");
            }
        }
        if self.tenure.lost.is_cancelled() {
            return Err(QueueError::ShuttingDown);
        }
        Ok(())
    }

    /// One turn: renew the claim.
    pub(super) async fn tenure_tick(self: Arc<Self>) {
        tokio::time::sleep(self.tenure.ttl / RENEWALS).await;
        let _asking = self.tenure.asking.lock().await;
        self.renew(self.tenure.ttl).await;
    }

    async fn renew(&self, limit: Duration) {
        let tenure = &self.tenure;
        let began_ms = self.clock.monotonic().0;
        let renewal = self.catalog.renew_node(tenure.claim, tenure.ttl);
        match tokio::time::timeout(limit, renewal).await {
            Ok(Ok(true)) => tenure.held_from(began_ms),
            Ok(Ok(false)) => self.lose_tenure(),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the claim on the node's number could not be renewed");
                self.rest();
            }
            Err(_) => self.rest(),
        }
    }

    /// Lets requests pass for a moment after nobody could be asked.
    fn rest(&self) {
        if self.tenure.lost.is_cancelled() {
            return;
        }
        let until_ms = self.clock.monotonic().0 + REST_MS;
        self.tenure.known_until_ms.fetch_max(until_ms, Ordering::AcqRel);
    }

    /// Ends everything: another process has the number.
    pub(super) fn lose_tenure(&self) {
        if !self.tenure.lost.is_cancelled() {
            let node = self.node.number();
            tracing::error!(
                node,
                "another process has taken this node's number; nothing more is done"
            );
        }
        self.tenure.known_until_ms.store(i64::MIN, Ordering::Release);
        self.tenure.lost.cancel();
    }
}
