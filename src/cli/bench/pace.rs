//! When requests are due: as soon as possible (closed loop), or at fixed instants (open loop).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How long after the end requests that were due before it may still be sent.
const GRACE: Duration = Duration::from_secs(5);
/// Permits a semaphore is given at once.
const PERMITS_MAX: u64 = 1 << 20;

/// Hands out turns; shared by every connection.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    end: Instant,
    schedule: Option<Schedule>,
    items_left: Option<Budget>,
    taken: AtomicU64,
}

/// Request number n is due at `start + n / per_second`, and turn n can be taken from then on.
#[derive(Debug)]
struct Schedule {
    per_second: f64,
    total: u64,
    due: Semaphore,
}

#[derive(Debug)]
struct Budget {
    requests: u64,
}

impl Pace {
    /// Turns from `start` to `end`: `per_second` of them when given, else as many as are taken; with
    /// `count` (items, batch) turns for that many items and no end.
    pub(super) fn new(
        start: Instant,
        end: Instant,
        per_second: Option<f64>,
        count: Option<(u64, u32)>,
    ) -> Self {
        let seconds = end.saturating_duration_since(start).as_secs_f64();
        Self {
            start,
            end,
            schedule: per_second.map(|per_second| Schedule {
                per_second,
                total: (per_second * seconds).floor() as u64,
                due: Semaphore::new(0),
            }),
            items_left: count.map(|(items, batch)| Budget {
                requests: items.div_ceil(u64::from(batch)),
            }),
            taken: AtomicU64::new(0),
        }
    }

    /// The instant at which the next request is due; none when there are no more.
    pub(super) async fn next(&self) -> Option<Instant> {
        if let Some(schedule) = &self.schedule {
            schedule.due.acquire().await.ok()?.forget();
            let turn = self.taken.fetch_add(1, Ordering::Relaxed);
            return Some(self.start + Duration::from_secs_f64(turn as f64 / schedule.per_second));
        }
        let turn = self.taken.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        match &self.items_left {
            Some(budget) => (turn < budget.requests).then_some(now),
            None => (now < self.end).then_some(now),
        }
    }

    /// Releases every turn when it is due, from a thread of its own: the runtime's timer only knows whole
    /// milliseconds. Returns when all turns are taken, or [`GRACE`] after the end.
    pub(super) fn release_turns(&self) {
        let Some(schedule) = &self.schedule else { return };
        let mut released = 0;
        while released < schedule.total {
            let due = schedule.due_at(Instant::now().saturating_duration_since(self.start));
            if due > released {
                let permits = (due - released).min(PERMITS_MAX);
                schedule.due.add_permits(permits as usize);
                released += permits;
                continue;
            }
            let next = self.start + Duration::from_secs_f64(released as f64 / schedule.per_second);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        let last = self.end + GRACE;
        while self.taken.load(Ordering::Relaxed) < schedule.total && Instant::now() < last {
            std::thread::sleep(Duration::from_millis(1));
        }
        schedule.due.close();
    }

    /// Whether requests are due at fixed instants.
    pub(super) fn is_scheduled(&self) -> bool {
        self.schedule.is_some()
    }

    /// Whether no turns are left.
    pub(super) fn is_over(&self) -> bool {
        match &self.schedule {
            Some(schedule) => schedule.due.is_closed(),
            None => Instant::now() >= self.end,
        }
    }

    /// How many requests were due and never sent, because the server was too slow.
    pub(super) fn unsent(&self) -> u64 {
        match &self.schedule {
            Some(schedule) => schedule.total.saturating_sub(self.taken.load(Ordering::Relaxed)),
            None => 0,
        }
    }
}

impl Schedule {
    /// How many requests are due once `elapsed` has passed.
    fn due_at(&self, elapsed: Duration) -> u64 {
        ((elapsed.as_secs_f64() * self.per_second).floor() as u64 + 1).min(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_is_due_when_the_schedule_says_not_when_it_is_taken() {
        // 1,000 a second over a second that has passed: the server stalled for all of it.
        let start = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let pace = Pace::new(start, start + Duration::from_secs(1), Some(1_000.0), None);
        std::thread::scope(|threads| {
            threads.spawn(|| pace.release_turns());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            threads.spawn(|| {
                runtime.block_on(async {
                    for turn in 0..1_000_u32 {
                        let due = pace.next().await.unwrap();
                        let offset = (due - start).as_micros() as i64;
                        assert!((offset - i64::from(turn) * 1_000).abs() <= 1, "{turn}: {offset}");
                    }
                    assert!(pace.next().await.is_none());
                });
                runtime
            });
        });
        assert_eq!(pace.unsent(), 0);
    }

    #[tokio::test]
    async fn a_count_ends_the_closed_loop() {
        let now = Instant::now();
        let pace = Pace::new(now, now, None, Some((250, 100)));
        let mut turns = 0;
        while pace.next().await.is_some() {
            turns += 1;
        }
        assert_eq!(turns, 3);
    }

    #[test]
    fn nothing_is_due_early() {
        let now = Instant::now();
        let pace = Pace::new(now, now + Duration::from_secs(2), Some(10.0), None);
        let schedule = pace.schedule.as_ref().unwrap();
        let due = [0, 99, 100, 1_950, 60_000].map(|ms| schedule.due_at(Duration::from_millis(ms)));
        assert_eq!(due, [1, 1, 2, 20, 20]);
        assert_eq!(pace.unsent(), 20);
    }
}
