//! Rates that hold for all nodes together, taken from the Redis that they share.

use std::sync::Arc;

use async_trait::async_trait;

use crate::hot::RedisTier;
use crate::model::{Namespace, Rate};
use crate::tenant::{SharedBuckets, SharedGrant};

/// The rates that are kept in Redis.
pub(super) struct RedisRates(pub(super) Arc<RedisTier>);

#[async_trait]
impl SharedBuckets for RedisRates {
    async fn take(&self, namespace: &Namespace, rate: Rate, wanted: u32) -> Option<SharedGrant> {
        let taken = self.0.take_rate(namespace, rate, wanted).await?;
        Some(SharedGrant {
            granted: taken.granted,
            remaining: taken.remaining,
            retry_after: taken.retry_after,
            reset: taken.reset,
        })
    }
}
