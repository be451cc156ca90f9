//! Processor time that a namespace may use, saves up and owes. Pure: time comes in as an argument.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{CpuRate, Namespace};

/// Processor time that each namespace may use on this node. It is asked for at every call, so that a change
/// counts from the next one on.
#[derive(Clone)]
pub struct CpuQuotas(Arc<dyn Fn(&Namespace) -> CpuRate + Send + Sync>);

impl CpuQuotas {
    /// Quotas as `of` tells them; it is called often and must be quick.
    pub fn new(of: impl Fn(&Namespace) -> CpuRate + Send + Sync + 'static) -> Self {
        Self(Arc::new(of))
    }

    pub(super) fn of(&self, namespace: &Namespace) -> CpuRate {
        (self.0)(namespace)
    }
}

impl Default for CpuQuotas {
    fn default() -> Self {
        Self::new(|_| CpuRate::default())
    }
}

impl std::fmt::Debug for CpuQuotas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CpuQuotas")
    }
}

/// Why a call is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) detail: &'static str,
    pub(super) retry_after: Duration,
}

/// Processor time saved up.
#[derive(Clone, Copy)]
pub(super) struct Saving {
    /// Negative while it is owed.
    saved_ns: i64,
    saved_at: Duration,
}

impl Saving {
    /// As much as can be saved up.
    pub(super) fn full(quota: CpuRate, now: Duration) -> Self {
        Self {
            saved_ns: nanos(quota.burst),
            saved_at: now,
        }
    }

    /// Whether nothing more can be saved up.
    pub(super) fn is_full(&mut self, quota: CpuRate, now: Duration) -> bool {
        self.save(quota, now);
        self.saved_ns >= nanos(quota.burst)
    }

    /// Whether anything is left to spend.
    pub(super) fn spare(&mut self, quota: CpuRate, now: Duration) -> Result<(), Refusal> {
        self.save(quota, now);
        if self.saved_ns > 0 {
            return Ok(());
        }
        Err(Refusal {
            detail: "the namespace has used up its processor time for hooks",
            retry_after: time_to_save(quota, self.saved_ns),
        })
    }

    /// Takes `cost_ns` of it, in nanoseconds.
    pub(super) fn spend(&mut self, cost_ns: i64, quota: CpuRate, now: Duration) {
        self.save(quota, now);
        self.saved_ns -= cost_ns;
    }

    fn save(&mut self, quota: CpuRate, now: Duration) {
        let elapsed = now.saturating_sub(self.saved_at);
        self.saved_at = self.saved_at.max(now);
        let earned = elapsed.as_secs_f64() * quota.per_second.as_secs_f64() * 1e9;
        self.saved_ns = self
            .saved_ns
            .saturating_add(earned as i64)
            .min(nanos(quota.burst));
    }
}

/// The hundredth part of a namespace's time.
pub(super) fn for_shadows(quota: CpuRate) -> CpuRate {
    CpuRate {
        per_second: quota.per_second / 100,
        burst: quota.burst / 100,
    }
}

/// When a namespace that saved `saved_ns` may call again.
fn time_to_save(quota: CpuRate, saved_ns: i64) -> Duration {
    let owed = -(saved_ns as f64) / 1e9;
    let rate = quota.per_second.as_secs_f64().max(1e-3);
    Duration::from_secs_f64((owed / rate).clamp(0.01, 60.0))
}

pub(super) fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}
