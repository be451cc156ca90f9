//! Instances that are kept between calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::super::Version;
use super::call::Running;
use super::modules::Module;

/// Calls after which an instance is replaced.
const CALLS_MAX: u32 = 1_000;
/// How long an instance lives.
const AGE_MAX: Duration = Duration::from_secs(60);

/// An instance that served.
pub(super) struct Warm {
    pub(super) running: Running,
    /// What it is an instance of: the module may have left memory since, and what is mapped back is another.
    pub(super) module: Arc<Module>,
    /// When it was made.
    pub(super) born: Duration,
    pub(super) calls: u32,
}

impl Warm {
    fn is_used_up(&self, now: Duration) -> bool {
        self.calls >= CALLS_MAX || now.saturating_sub(self.born) >= AGE_MAX
    }
}

/// Kept instances by version. A key is the version's address, which cannot be another's: each instance holds
/// its version.
pub(super) struct WarmPool {
    kept: Mutex<Kept>,
    instances_max: usize,
}

#[derive(Default)]
struct Kept {
    by_version: HashMap<usize, Vec<Warm>>,
    count: usize,
}

fn key(version: &Arc<Version>) -> usize {
    Arc::as_ptr(version).addr()
}

impl WarmPool {
    pub(super) fn new(instances_max: usize) -> Self {
        Self {
            kept: Mutex::default(),
            instances_max,
        }
    }

    /// An instance of `version`, if one is kept.
    pub(super) fn take(&self, version: &Arc<Version>, now: Duration) -> Option<Warm> {
        let mut old = Vec::new();
        let mut kept = self.kept.lock();
        let found = loop {
            let Some(warm) = kept.by_version.get_mut(&key(version)).and_then(Vec::pop) else {
                break None;
            };
            kept.count -= 1;
            if !warm.is_used_up(now) {
                break Some(warm);
            }
            old.push(warm);
        };
        // Instances are torn down without the lock.
        drop(kept);
        drop(old);
        found
    }

    /// Keeps `warm`, unless it is used up, holds much memory, or there are too many.
    pub(super) fn put(&self, warm: Warm, now: Duration) {
        if warm.is_used_up(now) || warm.running.store.data().limiter.is_heavy() {
            return;
        }
        let mut kept = self.kept.lock();
        if kept.count < self.instances_max {
            kept.count += 1;
            let key = key(warm.running.store.data().version());
            kept.by_version.entry(key).or_default().push(warm);
        }
    }

    /// Lets the instances go that are too old.
    pub(super) fn sweep(&self, now: Duration) {
        let mut old = Vec::new();
        let mut kept = self.kept.lock();
        for instances in kept.by_version.values_mut() {
            old.extend(instances.extract_if(.., |warm| warm.is_used_up(now)));
        }
        kept.by_version.retain(|_, instances| !instances.is_empty());
        kept.count -= old.len();
        drop(kept);
        drop(old);
    }

    /// Lets all go: their slots are needed.
    pub(super) fn clear(&self) {
        let kept = std::mem::take(&mut *self.kept.lock());
        drop(kept);
    }

    /// How many are kept.
    pub(super) fn count(&self) -> usize {
        self.kept.lock().count
    }
}
