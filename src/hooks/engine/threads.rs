//! The threads that run guests, and the hand-over to them and back.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::super::{Call, Failure, Report};
use super::call::{Manner, failed, not_run};
use super::fair::Fair;
use super::passing::{Passed, Patience, STACK_BYTES};
use super::saving::{CpuQuotas, Refusal};
use super::slices::ask_for_short_slices;
use crate::clock::Stopwatch;
use crate::model::Namespace;

/// How often threads look after what grows old.
const UPKEEP: Duration = Duration::from_secs(1);
/// How often calls are looked through for those that waited too long.
const EXPIRE_EVERY: Duration = Duration::from_millis(50);
/// How often a thread lets others run and looks again before it sleeps: those who wait for its answers send
/// their next calls meanwhile.
const LOOKS: u32 = 2;

/// Makes one call, on the thread it is called on.
pub(super) trait Execute: Send + Sync + 'static {
    /// Makes `call`.
    fn execute(&self, call: &Call, manner: Manner) -> Report;
    /// Does what is due from time to time.
    fn upkeep(&self);
}

/// The pool. Dropping it waits for the calls under way.
pub(super) struct Threads {
    shared: Arc<Shared>,
    handles: Mutex<Vec<JoinHandle<()>>>,
    pub(super) passed: Passed,
}

struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    uptime: Stopwatch,
    wait_max: Duration,
}

struct Waiting {
    fair: Fair<Job>,
    /// Threads that sleep.
    idle: usize,
    /// Threads that make a call or are about to look for one.
    awake: usize,
    /// When calls were last looked through for those that waited too long.
    expired_at: Duration,
    /// When what grows old was last looked after.
    kept_up_at: Duration,
    is_stopping: bool,
}

struct Job {
    call: Call,
    reply: oneshot::Sender<Report>,
}

/// A call that ended, and what it took.
struct Ended {
    namespace: Namespace,
    used: Duration,
    was_shadow: bool,
}

impl Threads {
    /// Starts `count` threads that use `execute`.
    pub(super) fn start(
        count: usize,
        queue_max: usize,
        quotas: CpuQuotas,
        wait_max: Duration,
        execute: &Arc<impl Execute>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            waiting: Mutex::new(Waiting {
                fair: Fair::new(count, queue_max, quotas),
                idle: 0,
                awake: count,
                expired_at: Duration::ZERO,
                kept_up_at: Duration::ZERO,
                is_stopping: false,
            }),
            wake: Condvar::new(),
            uptime: Stopwatch::start(),
            wait_max,
        });
        let threads = Self {
            shared,
            handles: Mutex::default(),
            passed: Passed::default(),
        };
        for number in 0..count {
            let (shared, execute) = (threads.shared.clone(), execute.clone());
            let handle = std::thread::Builder::new()
                .name(format!("hook-{number}"))
                .stack_size(STACK_BYTES)
                .spawn(move || {
                    ask_for_short_slices();
                    shared.work(&*execute);
                })?;
            threads.handles.lock().push(handle);
        }
        Ok(threads)
    }

    /// Has `call` made when its turn comes.
    pub(super) async fn call(&self, call: Call) -> Report {
        let (reply, report) = oneshot::channel();
        let now = self.shared.uptime.elapsed();
        let namespace = call.version.namespace.clone();
        {
            let mut waiting = self.shared.waiting.lock();
            if waiting.is_stopping {
                return not_run("the server is stopping", Duration::from_secs(1));
            }
            let may = match call.rehearsal {
                true => waiting.fair.may_shadow(&namespace, now),
                false => Ok(()),
            };
            let taken = may.and_then(|()| waiting.fair.push(&namespace, Job { call, reply }, now));
            if let Err(refusal) = taken {
                return not_run(refusal.detail, refusal.retry_after);
            }
            // Most calls are shorter than it takes to wake a thread: one that is awake takes this one next,
            // and when it does not get there, the next tick wakes another.
            if waiting.awake == 0 {
                self.shared.wake.notify_one();
            }
        }
        report
            .await
            .unwrap_or_else(|_| not_run("the server is stopping", Duration::from_secs(1)))
    }

    /// Makes `call` in passing, on the calling thread; none when that may not be, failed, or was broken off.
    pub(super) fn pass(&self, call: &Call, execute: &impl Execute) -> Option<Report> {
        let (shared, namespace) = (&self.shared, &call.version.namespace);
        let began = shared.uptime.elapsed();
        {
            let mut waiting = shared.waiting.lock();
            if waiting.is_stopping || !waiting.fair.may_pass(namespace, began) {
                return None;
            }
        }
        let patience = Patience::begin();
        let executed = catch_unwind(AssertUnwindSafe(|| {
            execute.execute(call, Manner::Passing(patience))
        }));
        let report = executed.unwrap_or_else(|_| failed(Failure::Trap("the host failed".into())));
        let has_failed = match &report.outcome {
            // That says nothing about the guest.
            Ok(_) | Err(Failure::Overload { .. }) => false,
            Err(_) => true,
        };
        let was_abuse = has_failed || !patience.is_left();
        let now = shared.uptime.elapsed();
        let used = now.saturating_sub(began);
        shared.waiting.lock().fair.passed(namespace, used, was_abuse, now);
        self.passed.count(was_abuse);
        report.outcome.is_ok().then_some(report)
    }

    /// What wakes a sleeping thread when calls wait; to be done at every tick while there are calls.
    pub(super) fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.shared);
        move || {
            if let Some(shared) = shared.upgrade()
                && let Some(waiting) = shared.waiting.try_lock()
                && waiting.idle > 0
                && waiting.fair.has_waiting()
            {
                shared.wake.notify_one();
            }
        }
    }

    /// Whether `namespace` has processor time left for rehearsals.
    pub(super) fn may_rehearse(&self, namespace: &Namespace) -> Result<(), Refusal> {
        let now = self.shared.uptime.elapsed();
        self.shared.waiting.lock().fair.may_rehearse(namespace, now)
    }

    /// What books the time that rehearsals took.
    pub(super) fn rehearsals_book(&self) -> impl FnOnce(&Namespace, Duration) + Send + 'static {
        let shared = self.shared.clone();
        move |namespace, used| {
            let now = shared.uptime.elapsed();
            shared.waiting.lock().fair.rehearsed(namespace, used, now);
        }
    }

    /// Calls in waiting.
    pub(super) fn waiting(&self) -> usize {
        self.shared.waiting.lock().fair.waiting()
    }

    /// Processor time by namespace.
    pub(super) fn used(&self) -> Vec<(Namespace, Duration)> {
        self.shared.waiting.lock().fair.used()
    }

    /// Takes no more calls and waits for those under way. Calling it again does nothing.
    pub(super) fn stop(&self) {
        self.shared.waiting.lock().is_stopping = true;
        self.shared.wake.notify_all();
        for handle in std::mem::take(&mut *self.handles.lock()) {
            let _ = handle.join();
        }
        // Whoever still waits is told by the end of the channel.
        let left = self.shared.waiting.lock().fair.expire(Duration::MAX);
        drop(left);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn work(&self, execute: &impl Execute) {
        let mut ended: Option<Ended> = None;
        while let Some((namespace, came, job)) = self.next(ended.take(), execute) {
            let began = self.uptime.elapsed();
            let waited = began.saturating_sub(came);
            // A panic of the host's is a bug; it costs one call, not the thread.
            let executed = catch_unwind(AssertUnwindSafe(|| execute.execute(&job.call, Manner::Own)));
            let mut report = executed.unwrap_or_else(|_| failed(Failure::Trap("the host failed".into())));
            report.usage.wait = waited;
            ended = Some(Ended {
                namespace,
                used: self.uptime.elapsed().saturating_sub(began),
                was_shadow: job.call.rehearsal,
            });
            // Whoever asked may be gone: the call was made all the same.
            let _ = job.reply.send(report);
        }
    }

    /// Looks after what grows old when it is time, however busy the threads are.
    fn keep_up(&self, waiting: &mut parking_lot::MutexGuard<'_, Waiting>, execute: &impl Execute) {
        let now = self.uptime.elapsed();
        if now.saturating_sub(waiting.kept_up_at) >= UPKEEP {
            waiting.kept_up_at = now;
            parking_lot::MutexGuard::unlocked(waiting, || execute.upkeep());
        }
    }

    /// Books the call that ended and waits for the next; `None` when there will be none.
    fn next(&self, ended: Option<Ended>, execute: &impl Execute) -> Option<(Namespace, Duration, Job)> {
        let mut waiting = self.waiting.lock();
        if let Some(ended) = ended {
            let now = self.uptime.elapsed();
            waiting.fair.done(&ended.namespace, ended.used, now);
            if ended.was_shadow {
                waiting.fair.shadowed(&ended.namespace, ended.used, now);
            }
            if now.saturating_sub(waiting.expired_at) >= EXPIRE_EVERY {
                waiting.expired_at = now;
                for job in waiting.fair.expire(now.saturating_sub(self.wait_max)) {
                    let _ = job.reply.send(not_run(
                        "the call waited too long for its turn",
                        Duration::from_secs(1),
                    ));
                }
            }
        }
        self.keep_up(&mut waiting, execute);
        let mut looks = 0;
        loop {
            if waiting.is_stopping {
                return None;
            }
            if let Some(next) = waiting.fair.pop() {
                return Some(next);
            }
            if looks < LOOKS {
                looks += 1;
                parking_lot::MutexGuard::unlocked(&mut waiting, std::thread::yield_now);
                continue;
            }
            waiting.idle += 1;
            waiting.awake -= 1;
            self.wake.wait_for(&mut waiting, UPKEEP);
            waiting.idle -= 1;
            waiting.awake += 1;
            self.keep_up(&mut waiting, execute);
        }
    }
}
