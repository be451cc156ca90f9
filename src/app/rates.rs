//! Rates that hold for all nodes together, taken from the Redis that they share.

use std::sync::Arc;

use async_trait::async_trait;

use crate::hot::RedisTier;
use crate::model::{Namespace, Rate, SharedGrant};
use crate::tenant::SharedBuckets;

/// The rates that are kept in Redis.
pub(super) struct RedisRates(pub(super) Arc<RedisTier>);

#[async_trait]
impl SharedBuckets for RedisRates {
    async fn take(&self, namespace: &Namespace, rate: Rate, wanted: u32) -> Option<SharedGrant> {
        self.0.take_rate(namespace, rate, wanted).await
    }

    async fn give_back(&self, namespace: &Namespace, rate: Rate, count: u32, at: u64) {
        self.0.give_rate_back(namespace, rate, count, at).await;
    }
}
