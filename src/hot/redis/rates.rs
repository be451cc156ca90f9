//! Rates that hold for all nodes together, and what namespaces have in Redis.

use std::time::Duration;

use redis::cmd;

use super::library::LIBRARY;
use super::reply::Reply;
use super::tier::RedisTier;
use crate::hot::{FIXED_BYTES, Holdings};
use crate::model::{ITEM_BYTES, Namespace, Rate, SLOT_COUNT, SharedGrant, Slot};

impl RedisTier {
    /// Takes up to `wanted` items from the rate of `namespace` that all nodes share; none when Redis does not
    /// answer in time.
    pub async fn take_rate(&self, namespace: &Namespace, rate: Rate, wanted: u32) -> Option<SharedGrant> {
        let mut reply = self.ask_rate("take", namespace, rate, (wanted, 0)).await?;
        let mut number = || u64::try_from(reply.number().ok()?).ok();
        let granted = u32::try_from(number()?).ok()?;
        let remaining = u32::try_from(number()?).ok()?;
        let wait = Duration::from_micros(number()?);
        Some(SharedGrant {
            granted,
            remaining,
            retry_after: (granted < wanted).then_some(wait),
            reset: Duration::from_micros(number()?),
            at: number()?,
        })
    }

    /// Gives back `count` items that were taken from the rate of `namespace` `at` that time; nothing when Redis does
    /// not answer in time.
    pub async fn give_rate_back(&self, namespace: &Namespace, rate: Rate, count: u32, at: u64) {
        let _ = self.ask_rate("give", namespace, rate, (count, at)).await;
    }

    async fn ask_rate(
        &self,
        what: &str,
        namespace: &Namespace,
        rate: Rate,
        (count, at): (u32, u64),
    ) -> Option<Reply> {
        let interval_us = 60_000_000.0 / f64::from(rate.per_minute.get());
        let mut call = cmd("FCALL");
        call.arg(&LIBRARY.name_rate)
            .arg(1)
            .arg(format!("{}:rate:{namespace}", self.options.prefix))
            .arg(what)
            .arg(if rate.burst.is_some() { "burst" } else { "minute" })
            .arg(interval_us)
            .arg(rate.at_once().get())
            .arg(count)
            .arg(at);
        let link = self.link(slot_of(namespace));
        let reply = tokio::time::timeout(self.options.rate_timeout, link.send(&call))
            .await
            .ok()?
            .ok()?;
        Reply::of(reply).ok()
    }

    /// What `namespace` has, as its topics were when this node heard of them last. What only the shard has counts
    /// as much as what is in Redis does on average.
    pub(super) fn holdings_of(&self, namespace: &Namespace) -> Holdings {
        let mut held = Holdings::default();
        let topics = self.topics.read();
        for (_, cell) in topics
            .by_key
            .iter()
            .filter(|(key, _)| key.namespace() == namespace)
        {
            let numbers = cell.numbers();
            let counts = numbers.counts;
            let all = counts.ready + counts.scheduled + counts.leased + counts.dead;
            let hot = all.saturating_sub(numbers.cold);
            let overhead = hot * (FIXED_BYTES as u64 - ITEM_BYTES);
            let hot_bytes = (numbers.bytes as u64).saturating_sub(overhead);
            let each = hot_bytes
                .checked_div(hot)
                .unwrap_or_else(|| cell.cold_item_bytes());
            held.bytes += hot_bytes + numbers.cold * each;
            held.leased += counts.leased;
        }
        held
    }
}

/// Namespaces are spread over the servers as topics are.
fn slot_of(namespace: &Namespace) -> Slot {
    let hash = blake3::hash(namespace.as_str().as_bytes());
    let [a, b, ..] = *hash.as_bytes();
    Slot(u16::from_be_bytes([a, b]) % SLOT_COUNT)
}
