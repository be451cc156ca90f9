//! The contract of rates that hold for several nodes together.

use async_trait::async_trait;

use crate::model::{Namespace, Rate, SharedGrant};

/// Buckets that every node of a cluster takes from.
///
/// A node asks only for what its own bucket has granted already, so that a flood is refused where it arrives
/// and the cluster hears of at most the quota from each node. What it heard is used up it leaves alone for as long as
/// it was told to wait, a second at most.
#[async_trait]
pub trait SharedBuckets: Send + Sync + 'static {
    /// Takes up to `wanted` items from the bucket of `namespace`, which has `rate`: as many as it has, in one
    /// step. An idle bucket has all that may come at once; one whose rate changed keeps what was spent.
    ///
    /// None when the buckets cannot be reached in a few milliseconds: the node's own bucket decides alone then.
    async fn take(&self, namespace: &Namespace, rate: Rate, wanted: u32) -> Option<SharedGrant>;

    /// Gives back `count` items that were taken `at` the time that [`SharedGrant::at`] told, as far as they still count
    /// and the buckets can be reached.
    async fn give_back(&self, namespace: &Namespace, rate: Rate, count: u32, at: u64);
}
