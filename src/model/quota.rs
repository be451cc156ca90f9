//! How much a namespace may do: its own quota, else the configuration's.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest processor time a namespace's hooks may be given per second, or save up, in milliseconds.
pub const HOOK_CPU_MS_MAX: u32 = 1_000_000;

/// How many items a namespace may enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Items per minute.
    pub per_minute: NonZeroU32,
    /// Items at once, and then as many as come back: a minute may have both. Without it no minute has more than
    /// `per_minute`, all of which may come at once.
    pub burst: Option<NonZeroU32>,
}

impl Rate {
    /// `per_minute` items in any minute.
    pub fn per_minute(per_minute: NonZeroU32) -> Self {
        Self {
            per_minute,
            burst: None,
        }
    }

    /// The most items that may come at once.
    pub fn at_once(&self) -> NonZeroU32 {
        self.burst.unwrap_or(self.per_minute)
    }

    /// The time one item takes to come back.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(60) / self.per_minute.get()
    }

    /// The time that what may come at once takes to come back, in whole seconds: the window of `RateLimit-Policy`.
    pub fn window_s(&self) -> u64 {
        (u64::from(self.at_once().get()) * 60).div_ceil(u64::from(self.per_minute.get()))
    }
}

/// What a rate that several nodes share gave to one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedGrant {
    /// How many items may be enqueued.
    pub granted: u32,
    /// Items that are left.
    pub remaining: u32,
    /// Time until the next item may come, when fewer were granted than wanted.
    pub retry_after: Option<Duration>,
    /// Time until all of it is there again that may be enqueued at once.
    pub reset: Duration,
    /// When the items were granted, as whoever grants them tells the time.
    pub at: u64,
}

/// Processor time that the hooks of a namespace may use on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuRate {
    /// In each second, over all threads.
    pub per_second: Duration,
    /// Saved up at most.
    pub burst: Duration,
}

impl Default for CpuRate {
    fn default() -> Self {
        Self {
            per_second: Duration::from_secs(1),
            burst: Duration::from_secs(2),
        }
    }
}

/// How much a namespace may do, every field decided; none is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Items it may enqueue.
    pub rate: Option<Rate>,
    /// Bytes it may hold, as [`super::Item::stored_bytes`] counts them.
    pub stored_bytes: Option<u64>,
    /// Items that may be with its consumers at once.
    pub leases: Option<u64>,
    /// Processor time of its hooks; they are never without a limit.
    pub hook_cpu: CpuRate,
}

/// A quota of which any part may be left to the next level: the namespace's entry in the configuration, then
/// the configuration's defaults. 0 is no limit, which lifts one of the next level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaPatch {
    /// Items it may enqueue per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Items it may enqueue at once, beside what comes back in a minute. Where only `per_minute` is given, no minute has
    /// more than that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Bytes it may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<u64>,
    /// Items that may be with its consumers at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leases: Option<u64>,
    /// Processor time of its hooks in each second, in milliseconds, over all threads of a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook_cpu_ms_per_s: Option<u32>,
    /// Processor time that its hooks may save up, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook_cpu_burst_ms: Option<u32>,
}

impl QuotaPatch {
    /// `base` with this patch's own fields over it.
    pub fn over(&self, base: &Quota) -> Quota {
        let limit = |own: Option<u64>, base: Option<u64>| match own {
            Some(0) => None,
            Some(most) => Some(most),
            None => base,
        };
        let ms = |own: Option<u32>, base| own.map_or(base, |ms| Duration::from_millis(ms.into()));
        Quota {
            rate: self.rate(base.rate),
            stored_bytes: limit(self.stored_bytes, base.stored_bytes),
            leases: limit(self.leases, base.leases),
            hook_cpu: CpuRate {
                per_second: ms(self.hook_cpu_ms_per_s, base.hook_cpu.per_second),
                burst: ms(self.hook_cpu_burst_ms, base.hook_cpu.burst),
            },
        }
    }

    fn rate(&self, base: Option<Rate>) -> Option<Rate> {
        // A burst belongs to its rate: another rate does not inherit it.
        let rate = match self.per_minute {
            Some(per_minute) => NonZeroU32::new(per_minute).map(Rate::per_minute),
            None => base,
        }?;
        let burst = self.burst.and_then(NonZeroU32::new).or(rate.burst);
        Some(Rate { burst, ..rate })
    }

    /// The field that is out of range and what to change; nothing when the patch is sound.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        if self.burst == Some(0) {
            return Some(("burst", "must be at least 1, or left out".to_owned()));
        }
        let times = [
            ("hook_cpu_ms_per_s", self.hook_cpu_ms_per_s),
            ("hook_cpu_burst_ms", self.hook_cpu_burst_ms),
        ];
        let wrong = |(_, ms): &(&str, Option<u32>)| ms.is_some_and(|ms| !(1..=HOOK_CPU_MS_MAX).contains(&ms));
        let (field, _) = times.into_iter().find(wrong)?;
        Some((field, format!("must be between 1 and {HOOK_CPU_MS_MAX}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_minute: u32, burst: u32) -> Option<Rate> {
        Some(Rate {
            per_minute: NonZeroU32::new(per_minute)?,
            burst: NonZeroU32::new(burst),
        })
    }

    #[test]
    fn fields_come_from_the_nearest_level_and_zero_lifts_a_limit() {
        let base = Quota {
            rate: rate(100, 10),
            stored_bytes: Some(5),
            leases: Some(6),
            ..Quota::default()
        };
        assert_eq!(QuotaPatch::default().over(&base), base);
        let own = QuotaPatch {
            burst: Some(20),
            stored_bytes: Some(0),
            leases: Some(7),
            hook_cpu_ms_per_s: Some(50),
            ..QuotaPatch::default()
        };
        let quota = own.over(&base);
        assert_eq!(
            (quota.rate, quota.stored_bytes, quota.leases),
            (rate(100, 20), None, Some(7))
        );
        assert_eq!(quota.hook_cpu.per_second, Duration::from_millis(50));
        assert_eq!(quota.hook_cpu.burst, CpuRate::default().burst);
    }

    #[test]
    fn another_rate_brings_its_own_burst() {
        let base = Quota {
            rate: rate(100, 10),
            ..Quota::default()
        };
        let per_minute = |per_minute| QuotaPatch {
            per_minute: Some(per_minute),
            ..QuotaPatch::default()
        };
        assert_eq!(per_minute(500).over(&base).rate, rate(500, 0));
        assert_eq!(per_minute(500).over(&base).rate.unwrap().at_once().get(), 500);
        assert_eq!(per_minute(0).over(&base).rate, None);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let no_burst = QuotaPatch {
            burst: Some(0),
            ..QuotaPatch::default()
        };
        let no_time = QuotaPatch {
            hook_cpu_burst_ms: Some(0),
            ..QuotaPatch::default()
        };
        let field = |patch: QuotaPatch| patch.problem().map(|(field, _)| field);
        assert_eq!(field(no_burst), Some("burst"));
        assert_eq!(field(no_time), Some("hook_cpu_burst_ms"));
        assert_eq!(field(QuotaPatch::default()), None);
    }
}
