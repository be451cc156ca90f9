//! Calls that are made in passing: by the thread that asks, where they take no longer than it would to hand them over.
//!
//! To wake a hook thread and to be woken by it takes several times as long as most calls run. So a call whose module has
//! been brief is made on the spot. A thread of the runtime has requests of all tenants to serve: the call may have it for
//! about a millisecond of processor time. What takes longer is broken off, made once more on a hook thread with all the
//! time it may have, and its namespace is not trusted so again for a good while, longer every time. Processor time is
//! booked as ever.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Engine;
use super::modules::Module;
use crate::clock::thread_cpu_time;
use crate::hooks::{Call, Report};

/// The stack that guests are given room for: theirs, a host call's on top of it, and room to spare. An overflow would
/// end the process.
pub const STACK_BYTES: usize = 4 << 20;
/// What a call may take after its first deadline before it is broken off.
const PATIENCE: Duration = Duration::from_millis(1);

thread_local! {
    static HAS_ROOM: Cell<bool> = const { Cell::new(false) };
}

/// Says that the calling thread has a stack of [`STACK_BYTES`]: calls may be made on it in passing.
pub fn allow_passing() {
    HAS_ROOM.set(true);
}

/// How long the thread has been kept.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// The thread's processor time at the first deadline. On a busy machine time passes without it.
    began: Option<Duration>,
}

impl Patience {
    /// Whether the guest may go on until the next tick.
    pub(super) fn is_left(&mut self) -> bool {
        let now = thread_cpu_time();
        now.saturating_sub(*self.began.get_or_insert(now)) < PATIENCE
    }
}

/// Counts calls made in passing.
#[derive(Debug, Default)]
pub(super) struct Passed {
    calls: AtomicU64,
    overruns: AtomicU64,
}

impl Passed {
    pub(super) fn count(&self, was_too_long: bool) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.overruns.fetch_add(was_too_long.into(), Ordering::Relaxed);
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(super) fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// Has `call` made, here and now where it takes no time to speak of.
    pub(super) async fn made(&self, module: &Module, call: Call) -> Report {
        let may_pass = self.options.in_passing && HAS_ROOM.get() && !call.rehearsal;
        let is_brief = may_pass && module.pace.is_brief(call.range.len());
        if is_brief && let Some(report) = self.threads.pass(&call, &*self.machine) {
            return report;
        }
        self.threads.call(call).await
    }
}
