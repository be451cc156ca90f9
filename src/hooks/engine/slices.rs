//! How long a hook thread runs before the scheduler looks whether others should.
//!
//! A call is mostly much shorter than the milliseconds that a thread gets by default. On a busy machine a thread that
//! wakes waits for those of others to pass; one that asks for short slices goes sooner, with the same share of the
//! processor (`sched_setattr(2)`: `sched_runtime` of `SCHED_OTHER`, from Linux 6.12 on).

/// Asks for short slices for the calling thread. Where the kernel knows none, everything stays as it is.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "there is no safe call of it")]
pub(super) fn ask_for_short_slices() {
    /// In nanoseconds; the kernel's least.
    const SLICE_NS: u64 = 100_000;
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: SLICE_NS,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the call reads `attributes`, whose size it is told, and changes nothing but how this thread is scheduled;
    // the thread is 0, the calling one, and there are no flags.
    let failed = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } != 0;
    if failed {
        tracing::debug!(error = %std::io::Error::last_os_error(), "hook threads have the slices that all have");
    }
}

/// Nothing to ask elsewhere.
#[cfg(not(target_os = "linux"))]
pub(super) fn ask_for_short_slices() {}
