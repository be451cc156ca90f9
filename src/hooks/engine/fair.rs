//! Whose call is next: namespaces take turns by the time their calls took, within their share of the threads
//! and of the processor. Pure: time comes in as an argument.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;

use super::saving::{CpuQuotas, Refusal, Saving, for_shadows, nanos};
use crate::model::{CpuRate, Namespace};

/// What a namespace may spend before the turn goes on.
const QUANTUM_NS: i64 = 2_000_000;
/// What every call costs at least.
const CALL_NS_MIN: i64 = 1_000;
/// How long no calls of a namespace are made in passing after the first one that took too long, and how many times
/// that doubles.
const NO_PASSING: Duration = Duration::from_secs(10);
const OVERRUNS_COUNTED: u32 = 8;
/// How long after that they are forgotten.
const FORGIVEN: Duration = Duration::from_secs(3_600);
/// Namespaces that are remembered although they have nothing to do.
const TENANTS_MAX: usize = 4_096;

/// Calls in waiting, by namespace.
pub(super) struct Fair<Job> {
    tenants: HashMap<Namespace, Tenant<Job>>,
    /// Namespaces with calls in waiting, in turn.
    ring: VecDeque<Namespace>,
    share: usize,
    queue_max: usize,
    quotas: CpuQuotas,
}

struct Tenant<Job> {
    /// Calls and when they came.
    jobs: VecDeque<(Duration, Job)>,
    running: usize,
    deficit_ns: i64,
    saving: Saving,
    /// As much again, for rehearsals: trying something out neither holds up what is in force nor waits for it.
    rehearsing: Saving,
    /// What shadows may use of the namespace's time.
    shadowing: Saving,
    used: Duration,
    /// From when on its calls may be made in passing again.
    may_pass_at: Duration,
    /// How many of those took too long.
    overruns: u32,
}

impl<Job> Fair<Job> {
    /// For `threads` threads, with at most `queue_max` calls in waiting per namespace.
    pub(super) fn new(threads: usize, queue_max: usize, quotas: CpuQuotas) -> Self {
        Self {
            tenants: HashMap::new(),
            ring: VecDeque::new(),
            share: (threads / 2).max(1),
            queue_max,
            quotas,
        }
    }

    /// Puts `job` behind the others of its namespace, unless those are too many or the time is used up.
    pub(super) fn push(&mut self, namespace: &Namespace, job: Job, now: Duration) -> Result<(), Refusal> {
        let (queue_max, quota) = (self.queue_max, self.quotas.of(namespace));
        let tenant = self.tenant(namespace, quota, now);
        tenant.saving.spare(quota, now)?;
        if tenant.jobs.len() >= queue_max {
            return Err(Refusal {
                detail: "too many calls of the namespace's hooks are waiting",
                retry_after: Duration::from_secs(1),
            });
        }
        let is_first = tenant.jobs.is_empty();
        tenant.jobs.push_back((now, job));
        if is_first {
            self.ring.push_back(namespace.clone());
        }
        Ok(())
    }

    /// Whether `namespace` has time left for rehearsals.
    pub(super) fn may_rehearse(&mut self, namespace: &Namespace, now: Duration) -> Result<(), Refusal> {
        let quota = self.quotas.of(namespace);
        self.tenant(namespace, quota, now).rehearsing.spare(quota, now)
    }

    /// A rehearsal of `namespace` ended after `used`.
    pub(super) fn rehearsed(&mut self, namespace: &Namespace, used: Duration, now: Duration) {
        let quota = self.quotas.of(namespace);
        let tenant = self.tenant(namespace, quota, now);
        tenant.rehearsing.spend(nanos(used).max(CALL_NS_MIN), quota, now);
        tenant.used += used;
    }

    /// Whether `namespace` has time left for shadows, which is part of what its calls have.
    pub(super) fn may_shadow(&mut self, namespace: &Namespace, now: Duration) -> Result<(), Refusal> {
        let quota = self.quotas.of(namespace);
        let tenant = self.tenant(namespace, quota, now);
        tenant.shadowing.spare(for_shadows(quota), now)
    }

    /// A shadow of `namespace` ended after `used`.
    pub(super) fn shadowed(&mut self, namespace: &Namespace, used: Duration, now: Duration) {
        let quota = self.quotas.of(namespace);
        let tenant = self.tenant(namespace, quota, now);
        tenant
            .shadowing
            .spend(nanos(used).max(CALL_NS_MIN), for_shadows(quota), now);
    }

    fn tenant(&mut self, namespace: &Namespace, quota: CpuRate, now: Duration) -> &mut Tenant<Job> {
        if self.tenants.len() > TENANTS_MAX {
            self.forget_idle(now);
        }
        let full = Saving::full(quota, now);
        self.tenants.entry_ref(namespace).or_insert_with(|| Tenant {
            jobs: VecDeque::new(),
            running: 0,
            deficit_ns: QUANTUM_NS,
            saving: full,
            rehearsing: full,
            shadowing: Saving::full(for_shadows(quota), now),
            used: Duration::ZERO,
            may_pass_at: Duration::ZERO,
            overruns: 0,
        })
    }

    /// The next call to make, and when it came.
    pub(super) fn pop(&mut self) -> Option<(Namespace, Duration, Job)> {
        let namespace = self.turn()?;
        let tenant = self.tenants.get_mut(&namespace)?;
        let (came, job) = tenant.jobs.pop_front()?;
        tenant.running += 1;
        if tenant.jobs.is_empty() {
            tenant.deficit_ns = tenant.deficit_ns.min(QUANTUM_NS);
        } else {
            self.ring.push_front(namespace.clone());
        }
        Some((namespace, came, job))
    }

    /// Takes the namespace out of the ring whose turn it is.
    fn turn(&mut self) -> Option<Namespace> {
        let mut passed = 0;
        while passed < self.ring.len() {
            let namespace = self.ring.pop_front()?;
            let is_alone = self.ring.is_empty();
            let tenant = self.tenants.get_mut(&namespace)?;
            if is_alone {
                return Some(namespace);
            }
            if tenant.running >= self.share {
                passed += 1;
            } else if tenant.deficit_ns <= 0 {
                // Its turn is over. Debts shrink by each round, so that the loop ends.
                tenant.deficit_ns += QUANTUM_NS;
                passed = 0;
            } else {
                return Some(namespace);
            }
            self.ring.push_back(namespace);
        }
        // All have their share, and a thread is free none the less.
        self.ring.pop_front()
    }

    /// A call of `namespace` ended after `used`.
    pub(super) fn done(&mut self, namespace: &Namespace, used: Duration, now: Duration) {
        let quota = self.quotas.of(namespace);
        if let Some(tenant) = self.tenants.get_mut(namespace) {
            tenant.running = tenant.running.saturating_sub(1);
            tenant.spend(used, quota, now);
        }
    }

    /// Whether a call of `namespace` may be made in passing: it has time left, and has not abused that lately.
    pub(super) fn may_pass(&mut self, namespace: &Namespace, now: Duration) -> bool {
        let quota = self.quotas.of(namespace);
        let tenant = self.tenant(namespace, quota, now);
        now >= tenant.may_pass_at && tenant.saving.spare(quota, now).is_ok()
    }

    /// A call of `namespace` that was made in passing ended after `used`.
    pub(super) fn passed(&mut self, namespace: &Namespace, used: Duration, was_abuse: bool, now: Duration) {
        let quota = self.quotas.of(namespace);
        let tenant = self.tenant(namespace, quota, now);
        tenant.spend(used, quota, now);
        // Those that were under way when one was told of are the same offence.
        if was_abuse && now >= tenant.may_pass_at {
            if tenant.is_forgiven(now) {
                tenant.overruns = 0;
            }
            tenant.may_pass_at = now + NO_PASSING * 2_u32.pow(tenant.overruns.min(OVERRUNS_COUNTED));
            tenant.overruns += 1;
        }
    }

    /// Takes the calls that came before `oldest`.
    pub(super) fn expire(&mut self, oldest: Duration) -> Vec<Job> {
        let mut expired = Vec::new();
        for tenant in self.tenants.values_mut() {
            while tenant.jobs.front().is_some_and(|(came, _)| *came < oldest) {
                expired.extend(tenant.jobs.pop_front().map(|(_, job)| job));
            }
        }
        let tenants = &self.tenants;
        self.ring.retain(|namespace| {
            tenants
                .get(namespace)
                .is_some_and(|tenant| !tenant.jobs.is_empty())
        });
        expired
    }

    /// Whether calls wait.
    pub(super) fn has_waiting(&self) -> bool {
        !self.ring.is_empty()
    }

    /// How many calls wait.
    pub(super) fn waiting(&self) -> usize {
        self.tenants.values().map(|tenant| tenant.jobs.len()).sum()
    }

    /// Processor time used, by namespace.
    pub(super) fn used(&self) -> Vec<(Namespace, Duration)> {
        let used = |(namespace, tenant): (&Namespace, &Tenant<Job>)| (namespace.clone(), tenant.used);
        self.tenants.iter().map(used).collect()
    }

    fn forget_idle(&mut self, now: Duration) {
        let quotas = &self.quotas;
        self.tenants.retain(|namespace, tenant| {
            let quota = quotas.of(namespace);
            let is_idle = tenant.saving.is_full(quota, now)
                && tenant.rehearsing.is_full(quota, now)
                && tenant.shadowing.is_full(for_shadows(quota), now)
                && tenant.is_forgiven(now);
            tenant.running > 0 || !tenant.jobs.is_empty() || !is_idle
        });
    }
}

impl<Job> Tenant<Job> {
    fn is_forgiven(&self, now: Duration) -> bool {
        self.overruns == 0 || now >= self.may_pass_at + FORGIVEN
    }

    fn spend(&mut self, used: Duration, quota: CpuRate, now: Duration) {
        let cost = nanos(used).max(CALL_NS_MIN);
        // A long call may put a namespace back by many turns, not for ever.
        self.deficit_ns = (self.deficit_ns - cost).max(-100 * QUANTUM_NS);
        self.saving.spend(cost, quota, now);
        self.used += used;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota() -> CpuQuotas {
        CpuQuotas::new(|_| rate(1_000))
    }

    fn rate(per_second_ms: u64) -> CpuRate {
        CpuRate {
            per_second: ms(per_second_ms),
            burst: ms(1_000),
        }
    }

    fn name(text: &str) -> Namespace {
        text.parse().unwrap()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_slow_namespace_does_not_hold_up_the_others() {
        let mut fair = Fair::new(1, 1_000, quota());
        let (slow, quick) = (name("slow"), name("quick"));
        for job in 0..20 {
            fair.push(&slow, job, ms(0)).unwrap();
            fair.push(&quick, job, ms(0)).unwrap();
        }
        let mut order = Vec::new();
        while let Some((namespace, ..)) = fair.pop() {
            let used = if namespace == slow {
                ms(20)
            } else {
                Duration::from_micros(10)
            };
            fair.done(&namespace, used, ms(0));
            order.push(namespace);
        }
        let last_quick = order.iter().rposition(|namespace| *namespace == quick).unwrap();
        assert_eq!(order.len(), 40);
        assert!(last_quick <= 21, "the quick calls came late: {order:?}");
    }

    #[test]
    fn a_namespace_gets_half_of_the_threads_while_others_wait() {
        let mut fair = Fair::new(4, 1_000, quota());
        for job in 0..4 {
            fair.push(&name("a"), job, ms(0)).unwrap();
        }
        fair.push(&name("b"), 9, ms(0)).unwrap();
        let first: Vec<_> = (0..3).map(|_| fair.pop().unwrap().0).collect();
        assert_eq!(first, [name("a"), name("a"), name("b")]);
        assert_eq!(fair.pop().unwrap().0, name("a"), "nobody else waits");
    }

    #[test]
    fn no_thread_is_idle_while_calls_wait() {
        let mut fair = Fair::new(3, 1_000, quota());
        for job in 0..2 {
            fair.push(&name("a"), job, ms(0)).unwrap();
            fair.push(&name("b"), job, ms(0)).unwrap();
        }
        let order: Vec<_> = (0..3).map(|_| fair.pop().unwrap().0).collect();
        assert!(
            order[..2].contains(&name("a")) && order[..2].contains(&name("b")),
            "{order:?}"
        );
    }

    #[test]
    fn used_up_time_comes_back() {
        let mut fair = Fair::new(1, 10, quota());
        let namespace = name("a");
        fair.push(&namespace, 1, ms(0)).unwrap();
        fair.pop().unwrap();
        fair.done(&namespace, ms(1_500), ms(0));
        let refusal = fair.push(&namespace, 2, ms(0)).unwrap_err();
        assert_eq!(refusal.retry_after, ms(500));
        assert!(fair.push(&namespace, 2, ms(501)).is_ok());
    }

    #[test]
    fn rehearsals_have_as_much_time_again_and_no_more() {
        let mut fair = Fair::new(1, 10, quota());
        let namespace = name("a");
        assert_eq!(fair.may_rehearse(&namespace, ms(0)), Ok(()));
        fair.rehearsed(&namespace, ms(1_500), ms(0));
        let refusal = fair.may_rehearse(&namespace, ms(0)).unwrap_err();
        assert_eq!(refusal.retry_after, ms(500));
        assert_eq!(fair.used(), [(namespace.clone(), ms(1_500))]);
        // What is in force goes on, and what it uses holds up no rehearsal.
        fair.push(&namespace, 1, ms(0)).unwrap();
        fair.pop().unwrap();
        fair.done(&namespace, ms(1_500), ms(0));
        assert!(fair.push(&namespace, 2, ms(0)).is_err());
        assert_eq!(fair.may_rehearse(&namespace, ms(501)), Ok(()));
    }

    #[test]
    fn each_namespace_has_its_own_processor_time() {
        let slow = name("slow");
        let of = move |namespace: &Namespace| rate(if *namespace == name("slow") { 100 } else { 1_000 });
        let mut fair = Fair::new(1, 10, CpuQuotas::new(of));
        for namespace in [&slow, &name("other")] {
            fair.push(namespace, 1, ms(0)).unwrap();
            fair.pop().unwrap();
            fair.done(namespace, ms(1_500), ms(0));
        }
        assert_eq!(fair.push(&slow, 2, ms(0)).unwrap_err().retry_after, ms(5_000));
        assert_eq!(
            fair.push(&name("other"), 2, ms(0)).unwrap_err().retry_after,
            ms(500)
        );
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_time() {
        let mut fair = Fair::new(1, 2, quota());
        let namespace = name("a");
        fair.push(&namespace, 1, ms(0)).unwrap();
        fair.push(&namespace, 2, ms(10)).unwrap();
        assert!(fair.push(&namespace, 3, ms(10)).is_err());
        assert_eq!(fair.expire(ms(5)), [1]);
        assert_eq!(fair.pop().map(|(_, _, job)| job), Some(2));
        assert_eq!((fair.waiting(), fair.has_waiting()), (0, false));
    }

    #[test]
    fn who_takes_too_long_in_passing_may_not_for_longer_every_time() {
        let mut fair: Fair<u32> = Fair::new(1, 10, quota());
        let (a, b) = (name("a"), name("b"));
        fair.passed(&a, ms(0), false, ms(0));
        assert!(fair.may_pass(&a, ms(0)));
        let mut now = ms(0);
        for seconds in [10, 20, 40] {
            fair.passed(&a, ms(2), true, now);
            let end = now + Duration::from_secs(seconds);
            assert!(!fair.may_pass(&a, end - ms(1)) && fair.may_pass(&a, end));
            now = end;
        }
        assert!(fair.may_pass(&b, ms(0)));
        now += FORGIVEN;
        fair.passed(&a, ms(2), true, now);
        assert!(fair.may_pass(&a, now + NO_PASSING));
        // Their time is the calls'.
        fair.passed(&a, ms(2_000), false, now + NO_PASSING);
        assert!(!fair.may_pass(&a, now + NO_PASSING));
        assert!(fair.push(&a, 1, now + NO_PASSING).is_err());
        assert_eq!(fair.used()[0].1.max(fair.used()[1].1), ms(2_008));
    }

    #[test]
    fn shadows_have_a_hundredth_of_the_time_and_what_they_take_is_the_calls() {
        let mut fair: Fair<u32> = Fair::new(1, 10, quota());
        let a = name("a");
        fair.may_shadow(&a, ms(0)).unwrap();
        fair.push(&a, 1, ms(0)).unwrap();
        fair.pop().unwrap();
        fair.done(&a, ms(15), ms(0));
        fair.shadowed(&a, ms(15), ms(0));
        // Of a second that was saved up, ten milliseconds were theirs; they earn ten more a second.
        let refused = fair.may_shadow(&a, ms(0)).unwrap_err();
        assert_eq!(refused.retry_after, ms(500));
        fair.push(&a, 2, ms(0)).unwrap();
        fair.may_shadow(&a, ms(600)).unwrap();
        assert_eq!(fair.used(), [(a, ms(15))]);
    }
}
