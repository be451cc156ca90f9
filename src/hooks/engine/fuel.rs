//! How many instructions hooks use, by samples.
//!
//! The engine that runs calls counts none: that would slow every call down. Instead, at most once a second, an item
//! of a call that went well is given to the same version once more, on the engine that counts, off the path of
//! requests and as a dry run is: its answer goes nowhere, its time is the namespace's for rehearsals.

use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::Engine;
use crate::hooks::Call;
use crate::model::{Digest, HookRef, Namespace};

/// Versions whose sums are kept: beyond it the one that was sampled longest ago goes.
const VERSIONS_MAX: usize = 1_000;
/// The largest compiled form, in bytes, of a module that is compiled for the counting engine only to be sampled.
/// What scripts bring along takes seconds of processor time: such a version is sampled once a dry run or a test
/// has had it compiled.
const COMPILED_BYTES_MAX: u64 = 1 << 20;

/// What the samples of one version used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fuel {
    /// Calls of one item that were made once more.
    pub samples: u64,
    /// Instructions they took, all together.
    pub instructions: u64,
}

/// The samples of one node.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// Whether there was one since the last tick.
    taken: AtomicBool,
    sums: Mutex<Sums>,
}

#[derive(Debug, Default)]
struct Sums {
    /// With the number of the sample that was the last.
    of: HashMap<(Namespace, HookRef), (Fuel, u64)>,
    samples: u64,
}

impl Samples {
    /// One more may be taken: called about once a second while there are calls.
    pub(super) fn tick(&self) {
        self.taken.store(false, Ordering::Relaxed);
    }

    /// The first item of `call` as a call of its own, when it is time for a sample.
    pub(super) fn choose(&self, call: &Call) -> Option<Call> {
        // All that a call which is not sampled pays.
        if call.rehearsal || self.taken.load(Ordering::Relaxed) || self.taken.swap(true, Ordering::Relaxed) {
            return None;
        }
        let first = call.items().first()?.clone();
        Some(Call {
            items: [first].into(),
            range: 0..1,
            rehearsal: true,
            ..call.clone()
        })
    }

    fn add(&self, call: &Call, instructions: u64) {
        let version = &call.version;
        let mut sums = self.sums.lock();
        sums.samples += 1;
        let at = sums.samples;
        let key = (version.namespace.clone(), version.hook.clone());
        let (fuel, last) = sums.of.entry(key).or_default();
        fuel.samples += 1;
        fuel.instructions += instructions;
        *last = at;
        if sums.of.len() > VERSIONS_MAX {
            let oldest = sums.of.iter().min_by_key(|(_, (_, last))| *last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                sums.of.remove(&oldest);
            }
        }
    }

    pub(super) fn read(&self) -> Vec<(Namespace, HookRef, Fuel)> {
        let sums = self.sums.lock();
        let row = |((namespace, hook), (fuel, _)): (&(Namespace, HookRef), &(Fuel, u64))| {
            (namespace.clone(), hook.clone(), *fuel)
        };
        sums.of.iter().map(row).collect()
    }
}

impl Engine {
    /// Makes `call`, which was chosen, behind everybody's back.
    pub(super) fn sample_later(&self, call: Call) {
        let Some(engine) = self.this.upgrade() else {
            return;
        };
        tokio::spawn(async move {
            let may = engine.may_rehearse(&call.version.namespace).is_ok();
            if !may || !engine.is_sampled(call.version.digest) {
                return;
            }
            let report = engine.rehearse(call.clone()).await;
            if let (Ok(_), Some(instructions)) = (report.outcome, report.usage.instructions) {
                engine.machine.samples.add(&call, instructions);
            }
        });
    }

    /// Whether a module is compiled for the counting engine, or small enough to be.
    fn is_sampled(&self, digest: Digest) -> bool {
        let machine = &self.machine;
        let is_small = |bytes| bytes <= COMPILED_BYTES_MAX;
        machine.counting.is_ready(digest) || machine.running.bytes(digest).is_some_and(is_small)
    }
}
