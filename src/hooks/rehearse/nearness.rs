//! How near a call came to its limits.

use serde::Serialize;

use crate::hooks::Report;
use crate::model::HookLimits;

/// How much of each limit a call with one item used, in percent, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Nearness {
    /// Of the time for a call with one item.
    pub time_percent: u32,
    /// Of the linear memory.
    pub memory_percent: u32,
    /// Of the bytes a call may give back.
    pub output_percent: u32,
    /// Of the calls of imports.
    pub host_calls_percent: u32,
    /// Of the log lines; over 100 when lines were dropped.
    pub log_lines_percent: u32,
}

impl Nearness {
    /// How near the call of `report` came to `limits`.
    pub fn of(report: &Report, limits: &HookLimits) -> Self {
        let usage = &report.usage;
        let run_us = u64::try_from(usage.run.as_micros()).unwrap_or(u64::MAX);
        let lines = report.log.len() as u64 + u64::from(usage.log_lines_dropped);
        Self {
            time_percent: percent(run_us, u64::from(limits.item_ms) * 1_000),
            memory_percent: percent(usage.memory_bytes, limits.memory_bytes),
            output_percent: percent(usage.bytes_out, limits.output_bytes),
            host_calls_percent: percent(u64::from(usage.host_calls), u64::from(limits.host_calls)),
            log_lines_percent: percent(lines, u64::from(limits.log_lines)),
        }
    }
}

fn percent(used: u64, limit: u64) -> u32 {
    let share = used.saturating_mul(100).div_ceil(limit.max(1));
    u32::try_from(share).unwrap_or(u32::MAX)
}
