//! The contract of rates that hold for several nodes together.

use std::time::Duration;

use async_trait::async_trait;

use super::quota::{Grant, Usage};
use crate::model::{Namespace, Rate};

/// Buckets that every node of a cluster takes from.
///
/// A node asks only for what its own bucket has granted already, so that a flood is refused where it arrives
/// and the cluster hears of at most the quota from each node.
#[async_trait]
pub trait SharedBuckets: Send + Sync + 'static {
    /// Takes up to `wanted` items from the bucket of `namespace`, which has `rate`: as many as it has, in one
    /// step. An idle bucket has its whole burst; one whose rate changed keeps what was spent.
    ///
    /// None when the buckets cannot be reached in a few milliseconds: the node's own bucket decides alone then.
    async fn take(&self, namespace: &Namespace, rate: Rate, wanted: u32) -> Option<SharedGrant>;
}

/// What a cluster's bucket gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedGrant {
    /// How many items may be enqueued.
    pub granted: u32,
    /// Items that are left.
    pub remaining: u32,
    /// Time until the next item may come, when fewer were granted than wanted.
    pub retry_after: Option<Duration>,
    /// Time until the whole burst is there again.
    pub reset: Duration,
}

impl SharedGrant {
    /// The answer to a request of which this node's own bucket granted `local`.
    pub(super) fn within(self, local: &Grant) -> Grant {
        let granted = local.granted.min(self.granted as usize);
        let wait = self.retry_after.max(local.retry_after);
        Grant {
            granted,
            retry_after: wait,
            usage: local.usage.map(|usage| Usage {
                remaining: usage.remaining.min(self.remaining),
                reset: usage.reset.max(self.reset),
                ..usage
            }),
        }
    }
}
