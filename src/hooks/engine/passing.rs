//! Calls that are made in passing: by the thread that asks, where they take no longer than it would to hand them over.
//!
//! To wake a hook thread and to be woken by it takes several times as long as most calls run. So a small call whose module
//! has been brief is made on the spot. A thread of the runtime has requests of all tenants to serve: the call may have it for
//! two milliseconds of processor time, which is looked at whenever an epoch ends and whenever it calls an import. What
//! fails, or takes longer, is broken off and made once more on a hook thread, with all the time it may have. Who fails so or
//! takes longer, whatever comes of it, is not trusted again for a good while, longer every time. Processor time is booked as
//! ever.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Engine;
use super::gather::payload_bytes;
use super::modules::Module;
use crate::clock::thread_cpu_time;
use crate::hooks::{Call, Report};

/// The stack that guests are given room for: theirs, a host call's on top of it, and room to spare. An overflow would
/// end the process.
pub const STACK_BYTES: usize = 4 << 20;
/// Processor time that a call may take.
const PATIENCE: Duration = Duration::from_millis(2);
/// Most bytes of payloads that go into a call; and as many may one call of an import, or the answer, bring out.
const BYTES_MAX: usize = 128 << 10;

thread_local! {
    static HAS_ROOM: Cell<bool> = const { Cell::new(false) };
}

/// Says that the calling thread has a stack of [`STACK_BYTES`]: calls may be made on it in passing.
pub fn allow_passing() {
    HAS_ROOM.set(true);
}

/// How long a call has kept its thread, in processor time: on a busy machine time passes without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    began: Duration,
}

impl Patience {
    /// What a call may bring out at once, in bytes.
    pub(super) const BYTES_OUT: usize = BYTES_MAX;

    /// A call begins on this thread.
    pub(super) fn begin() -> Self {
        Self {
            began: thread_cpu_time(),
        }
    }

    /// Whether it may go on.
    pub(super) fn is_left(&self) -> bool {
        thread_cpu_time().saturating_sub(self.began) < PATIENCE
    }
}

/// Counts calls made in passing.
#[derive(Debug, Default)]
pub(super) struct Passed {
    calls: AtomicU64,
    overruns: AtomicU64,
}

impl Passed {
    pub(super) fn count(&self, was_abuse: bool) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.overruns.fetch_add(was_abuse.into(), Ordering::Relaxed);
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
        let is_brief =
            may_pass && module.pace.is_brief(call.range.len()) && payload_bytes(&call) <= BYTES_MAX;
        if is_brief && let Some(report) = self.threads.pass(&call, &*self.machine) {
            return report;
        }
        self.threads.call(call).await
    }
}
