//! Breakers: a version that keeps failing is not run for a while.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use serde::Serialize;

use crate::hooks::{Bound, Version};
use crate::model::{HookRef, Namespace};

/// Failures are counted over this long.
const WINDOW_S: i64 = 30;
/// So many calls that trapped, ran out of time or gave nonsense open a breaker.
const BREAKS_MAX: u32 = 20;
/// From so many calls on, half of them failing opens it as well.
const CALLS_MIN: u32 = 50;
/// The first pause of an open breaker, in milliseconds; it doubles with each probe that fails.
const PAUSE_MS: i64 = 1_000;
/// The longest pause.
const PAUSE_MS_MAX: i64 = 60_000;

/// How a call went, as far as a breaker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answered.
    Fine,
    /// It answered, and said of most items that it failed on them: a bad version, or bad items.
    Errors,
    /// It trapped, ran out of time or gave nonsense.
    Broke,
}

/// A breaker as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BreakerState {
    /// The hook.
    pub hook: String,
    /// Its version.
    pub version: u32,
    /// Whether the version is not run now.
    pub open: bool,
    /// Time until it is tried again, in milliseconds; 0 when it is not open.
    pub retry_in_ms: u64,
    /// Calls in the last 30 seconds.
    pub calls: u32,
    /// Those that failed.
    pub failures: u32,
}

#[derive(Debug, Default)]
struct Breaker {
    seconds: VecDeque<Second>,
    open: Option<Pause>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Second {
    at: i64,
    calls: u32,
    failures: u32,
    breaks: u32,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until_ms: i64,
    pause_ms: i64,
    /// One call is trying whether it works again. One that never ends is given up when `until_ms` passes.
    probing: bool,
}

/// The breakers of all versions that are bound.
#[derive(Debug, Default)]
pub(super) struct Breakers(HashMap<Namespace, HashMap<HookRef, Breaker>>);

impl Breakers {
    /// Whether `version` may be called now, and if so whether as a probe; else how long not, in milliseconds.
    pub(super) fn admit(&mut self, version: &Version, now_ms: i64) -> Result<bool, i64> {
        let known = self.0.get_mut(&version.namespace);
        let Some(pause) = known
            .and_then(|hooks| hooks.get_mut(&version.hook))
            .and_then(|breaker| breaker.open.as_mut())
        else {
            return Ok(false);
        };
        if now_ms < pause.until_ms {
            return Err(pause.until_ms - now_ms);
        }
        pause.probing = true;
        pause.until_ms = now_ms + pause.pause_ms;
        Ok(true)
    }

    /// How long `version` will not be called yet, in milliseconds.
    pub(super) fn rest_ms(&self, version: &Version, now_ms: i64) -> Option<i64> {
        let breaker = self.0.get(&version.namespace)?.get(&version.hook)?;
        let left_ms = breaker.open?.until_ms - now_ms;
        (left_ms > 0).then_some(left_ms)
    }

    /// Notes how a call went; says when the breaker opened or closed over it.
    pub(super) fn note(&mut self, version: &Version, verdict: Verdict, now_ms: i64) -> Option<bool> {
        let hooks = self.0.entry_ref(&version.namespace).or_default();
        let breaker = hooks.entry_ref(&version.hook).or_default();
        if let Some(pause) = &mut breaker.open {
            if !pause.probing {
                return None;
            }
            if verdict == Verdict::Fine {
                *breaker = Breaker::default();
                return Some(false);
            }
            pause.probing = false;
            pause.pause_ms = (2 * pause.pause_ms).min(PAUSE_MS_MAX);
            pause.until_ms = now_ms + pause.pause_ms;
            return None;
        }
        breaker.count(verdict, now_ms / 1_000);
        let sum = breaker.sum();
        let opens = sum.breaks >= BREAKS_MAX || (sum.calls >= CALLS_MIN && 2 * sum.failures >= sum.calls);
        if !opens {
            return None;
        }
        breaker.open = Some(Pause {
            until_ms: now_ms + PAUSE_MS,
            pause_ms: PAUSE_MS,
            probing: false,
        });
        Some(true)
    }

    /// Forgets versions that are bound no more; returns those whose breaker was open.
    pub(super) fn keep_only(&mut self, namespace: &Namespace, bound: &[Arc<Bound>]) -> Vec<HookRef> {
        let mut forgotten = Vec::new();
        let Some(hooks) = self.0.get_mut(namespace) else {
            return forgotten;
        };
        hooks.retain(|hook, breaker| {
            let is_bound = bound.iter().any(|bound| {
                let versions = [
                    Some(&bound.active),
                    bound.canary.as_ref(),
                    bound.previous.as_ref(),
                ];
                versions
                    .into_iter()
                    .flatten()
                    .any(|version| version.hook == *hook)
            });
            if !is_bound && breaker.open.is_some() {
                forgotten.push(hook.clone());
            }
            is_bound
        });
        if hooks.is_empty() {
            self.0.remove(namespace);
        }
        forgotten
    }

    pub(super) fn states(&mut self, namespace: &Namespace, now_ms: i64) -> Vec<BreakerState> {
        let Some(hooks) = self.0.get_mut(namespace) else {
            return Vec::new();
        };
        let state = |(hook, breaker): (&HookRef, &mut Breaker)| {
            breaker.pass(now_ms / 1_000);
            let sum = breaker.sum();
            let left = breaker.open.map_or(0, |pause| (pause.until_ms - now_ms).max(0));
            BreakerState {
                hook: hook.hook.to_string(),
                version: hook.version,
                open: breaker.open.is_some(),
                retry_in_ms: left.unsigned_abs(),
                calls: sum.calls,
                failures: sum.failures,
            }
        };
        let mut states: Vec<_> = hooks.iter_mut().map(state).collect();
        states.sort_by(|a, b| (&a.hook, a.version).cmp(&(&b.hook, b.version)));
        states
    }
}

impl Breaker {
    fn pass(&mut self, second: i64) {
        while self
            .seconds
            .front()
            .is_some_and(|first| first.at <= second - WINDOW_S)
        {
            self.seconds.pop_front();
        }
    }

    fn count(&mut self, verdict: Verdict, second: i64) {
        self.pass(second);
        if self.seconds.back().is_none_or(|last| last.at != second) {
            self.seconds.push_back(Second {
                at: second,
                ..Second::default()
            });
        }
        if let Some(last) = self.seconds.back_mut() {
            last.calls += 1;
            last.failures += u32::from(verdict != Verdict::Fine);
            last.breaks += u32::from(verdict == Verdict::Broke);
        }
    }

    fn sum(&self) -> Second {
        self.seconds.iter().fold(Second::default(), |sum, second| Second {
            at: second.at,
            calls: sum.calls + second.calls,
            failures: sum.failures + second.failures,
            breaks: sum.breaks + second.breaks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::version;
    use super::*;

    #[test]
    fn many_breaks_open_it_and_a_good_probe_closes_it() {
        let (mut breakers, bad) = (Breakers::default(), version("h", 1));
        for call in 0..BREAKS_MAX {
            assert_eq!(breakers.admit(&bad, 0), Ok(false));
            let opened = breakers.note(&bad, Verdict::Broke, 0);
            assert_eq!(opened, (call == BREAKS_MAX - 1).then_some(true));
        }
        assert_eq!(breakers.admit(&bad, 400), Err(600));
        assert_eq!(breakers.admit(&bad, 1_000), Ok(true));
        // One probe at a time; after a bad one the pause is twice as long.
        assert_eq!(breakers.admit(&bad, 1_001), Err(999));
        assert_eq!(breakers.note(&bad, Verdict::Broke, 1_010), None);
        assert_eq!(breakers.admit(&bad, 1_010), Err(2_000));
        assert_eq!(breakers.admit(&bad, 3_010), Ok(true));
        assert_eq!(breakers.note(&bad, Verdict::Fine, 3_011), Some(false));
        assert_eq!(breakers.admit(&bad, 3_011), Ok(false));
    }

    #[test]
    fn old_failures_are_forgotten() {
        let (mut breakers, bad) = (Breakers::default(), version("h", 1));
        for second in 0..200 {
            assert_eq!(breakers.note(&bad, Verdict::Fine, second * 2_000), None);
            let failed = if second % 2 == 0 {
                Verdict::Broke
            } else {
                Verdict::Fine
            };
            assert_eq!(breakers.note(&bad, failed, second * 2_000), None);
        }
    }

    #[test]
    fn a_version_that_fails_on_half_of_its_calls_is_paused() {
        let (mut breakers, bad) = (Breakers::default(), version("h", 1));
        let mut opened = Vec::new();
        for call in 0..CALLS_MIN {
            let how = if call % 2 == 0 {
                Verdict::Errors
            } else {
                Verdict::Fine
            };
            opened.extend(breakers.note(&bad, how, 0));
        }
        assert_eq!(opened, [true]);
        let states = breakers.states(&bad.namespace, 0);
        assert_eq!(
            (states[0].open, states[0].calls, states[0].failures),
            (true, 50, 25)
        );
    }
}
