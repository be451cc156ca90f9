//! Calls that come at the same time and could as well have come as one request are made as one.
//!
//! To make an instance, to hand a call to a thread and its answer back takes much longer than a short call itself. So what
//! asks the same version about items of the same topic for the same principal, while a call like it is under way, goes
//! with the next one: the contract has lists of items. Nobody waits when nothing is under way. This is for modules whose
//! items take little time: others are better off on several threads at once. A call that fails is made once more for
//! each request by itself, so that none fails for another's items.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::{Equivalent, HashMap};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Engine;
use super::bindings::ItemIn;
use super::call::{bytes_out, not_run};
use super::modules::Module;
use crate::hooks::{Call, Failure, HookContext, HookItem, Report, Usage, Verdicts};
use crate::model::{Side, TopicKey};

/// Most items of such a call.
const ITEMS_MAX: usize = 100;
/// So many such calls are under way at most while others like them wait.
const UNDER_WAY_MAX: usize = 2;
/// Most bytes of their payloads.
const PAYLOADS_BYTES_MAX: usize = 256 << 10;
/// An item that takes longer is not short, in nanoseconds.
const ITEM_NS_MAX: u64 = 200_000;
/// How long such a call should take at most, going by the calls before, in nanoseconds.
const CALL_NS_MAX: u64 = 5_000_000;
/// A call that takes no longer is brief, in nanoseconds.
const BRIEF_NS: u64 = 200_000;
/// How long calls of a module are made by themselves after one for several failed, in milliseconds.
const APART_MS: u64 = 10_000;

/// How long the items of a module take.
#[derive(Debug)]
pub(super) struct Pace {
    /// In nanoseconds, going by the last calls.
    item_ns: AtomicU64,
    /// Until then no calls are gathered, in milliseconds since the engine started.
    apart_until_ms: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            item_ns: AtomicU64::new(u64::MAX),
            apart_until_ms: AtomicU64::new(0),
        }
    }
}

impl Pace {
    /// A call of so many items took so long. Two at the same time may be counted as one.
    pub(super) fn note(&self, items: usize, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let an_item = took_ns / u64::try_from(items.max(1)).unwrap_or(1);
        let smoothed = match self.item_ns.load(Ordering::Relaxed) {
            u64::MAX => an_item,
            before => before - before / 8 + an_item / 8,
        };
        self.item_ns.store(smoothed, Ordering::Relaxed);
    }

    /// How many items may go in one call; none when its items are not short.
    fn items_max(&self, now: Duration) -> Option<usize> {
        let item_ns = self.item_ns.load(Ordering::Relaxed);
        let is_short = item_ns <= ITEM_NS_MAX && millis(now) >= self.apart_until_ms.load(Ordering::Relaxed);
        let in_time = usize::try_from(CALL_NS_MAX / item_ns.max(1)).unwrap_or(ITEMS_MAX);
        is_short.then(|| in_time.min(ITEMS_MAX))
    }

    /// Whether a call of so many items takes about as long as handing it over.
    pub(super) fn is_brief(&self, items: usize) -> bool {
        let items = u64::try_from(items).unwrap_or(u64::MAX);
        self.item_ns.load(Ordering::Relaxed).saturating_mul(items) <= BRIEF_NS
    }

    fn keep_apart(&self, now: Duration) {
        self.apart_until_ms
            .store(millis(now) + APART_MS, Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What calls have in common that may be one. A hook tells them apart by their items alone, and by the time, in which
/// they follow each other.
#[derive(Debug, Clone)]
struct Likeness {
    /// The address of the version, which each of its calls holds.
    version: usize,
    side: Side,
    context: Arc<HookContext>,
}

/// The [`Likeness`] of a call, without taking hold of anything.
#[derive(PartialEq, Eq)]
struct LikenessOf<'a> {
    version: usize,
    side: Side,
    topic: &'a TopicKey,
    principal: &'a str,
    scopes: &'a [Box<str>],
}

impl<'a> LikenessOf<'a> {
    fn new(version: usize, side: Side, context: &'a HookContext) -> Self {
        Self {
            version,
            side,
            topic: &context.topic,
            principal: &context.principal,
            scopes: &context.scopes,
        }
    }
}

impl Hash for LikenessOf<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Few principals come with several sets of scopes.
        (self.version, self.side, self.topic, self.principal).hash(state);
    }
}

impl Likeness {
    fn of(call: &Call) -> Self {
        Self {
            version: Arc::as_ptr(&call.version).addr(),
            side: call.side,
            context: call.context.clone(),
        }
    }

    fn view(&self) -> LikenessOf<'_> {
        LikenessOf::new(self.version, self.side, &self.context)
    }
}

impl Hash for Likeness {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.view().hash(state);
    }
}

impl PartialEq for Likeness {
    fn eq(&self, other: &Self) -> bool {
        self.view() == other.view()
    }
}

impl Eq for Likeness {}

impl Equivalent<Likeness> for LikenessOf<'_> {
    fn equivalent(&self, key: &Likeness) -> bool {
        *self == key.view()
    }
}

/// A call that waits for the one it goes with.
struct Waiting {
    call: Call,
    reply: oneshot::Sender<Told>,
}

/// What becomes of a call that waited.
enum Told {
    /// It was made.
    Made(Report),
    /// It is to be made by itself.
    Alone(Call),
}

/// The calls that wait, where some like them are under way or about to be.
#[derive(Default)]
pub(super) struct Gathering(Mutex<HashMap<Likeness, Group>>);

#[derive(Default)]
struct Group {
    waiting: Vec<Waiting>,
    /// Those who see to them.
    seeing: usize,
}

/// How a call waits.
enum Joined {
    /// Somebody sees to it.
    Waits,
    /// Few like it are under way: somebody has to see to it.
    Unseen(Likeness),
    /// Not at all: too many do.
    Not(Call),
}

impl Gathering {
    /// Lets `waiting` wait, where fewer than `most` do.
    fn join(&self, waiting: Waiting, most: usize) -> Joined {
        let mut gathering = self.0.lock();
        let Call {
            version,
            side,
            context,
            ..
        } = &waiting.call;
        let alike = LikenessOf::new(Arc::as_ptr(version).addr(), *side, context);
        let Some(group) = gathering.get_mut(&alike) else {
            let likeness = Likeness::of(&waiting.call);
            let group = Group {
                waiting: vec![waiting],
                seeing: 1,
            };
            gathering.insert(likeness.clone(), group);
            return Joined::Unseen(likeness);
        };
        if group.waiting.len() >= most {
            return Joined::Not(waiting.call);
        }
        let are_few = group.seeing < UNDER_WAY_MAX;
        let joined = if are_few {
            Joined::Unseen(Likeness::of(&waiting.call))
        } else {
            Joined::Waits
        };
        group.waiting.push(waiting);
        group.seeing += usize::from(are_few);
        joined
    }

    /// Takes those that go with the next call.
    fn next(&self, likeness: &Likeness, items_max: usize) -> Vec<Waiting> {
        let mut gathering = self.0.lock();
        let Some(group) = gathering.get_mut(likeness) else {
            return Vec::new();
        };
        let (mut items, mut bytes, mut count) = (0, 0, 0);
        for waiting in &group.waiting {
            items += waiting.call.range.len();
            bytes += payload_bytes(&waiting.call);
            if count > 0 && (items > items_max || bytes > PAYLOADS_BYTES_MAX) {
                break;
            }
            count += 1;
        }
        let rest = group.waiting.split_off(count);
        std::mem::replace(&mut group.waiting, rest)
    }

    /// One of those who see to calls does so no more. When nobody is left, who came last is on his own.
    fn leave(&self, likeness: &Likeness) {
        let mut gathering = self.0.lock();
        let Some(group) = gathering.get_mut(likeness) else {
            return;
        };
        group.seeing -= 1;
        if group.seeing > 0 {
            return;
        }
        let left = gathering.remove(likeness);
        drop(gathering);
        for Waiting { call, reply } in left.into_iter().flat_map(|group| group.waiting) {
            let _ = reply.send(Told::Alone(call));
        }
    }
}

/// Whoever sees to the calls that wait.
struct Seeing {
    engine: Arc<Engine>,
    likeness: Likeness,
}

impl Drop for Seeing {
    fn drop(&mut self) {
        self.engine.gathering.leave(&self.likeness);
    }
}

pub(super) fn payload_bytes(call: &Call) -> usize {
    call.items().iter().map(|item| item.item.payload.len()).sum()
}

impl Engine {
    /// Has `call` made, together with those like it where that is quicker.
    pub(super) async fn call_gathered(&self, module: &Arc<Module>, call: Call) -> Report {
        let is_short = || module.pace.items_max(self.machine.uptime.elapsed()).is_some();
        let goes_with_others = !call.rehearsal
            && call.range.len() <= ITEMS_MAX / 2
            && payload_bytes(&call) <= PAYLOADS_BYTES_MAX / 2
            && is_short();
        let Some(engine) = self.this.upgrade().filter(|_| goes_with_others) else {
            return self.made(module, call).await;
        };
        let (reply, told) = oneshot::channel();
        let most = self.options.queue_per_namespace;
        match self.gathering.join(Waiting { call, reply }, most) {
            Joined::Waits => {}
            // Whoever asks may leave; the others are still there.
            Joined::Unseen(likeness) => {
                drop(tokio::spawn(Seeing { engine, likeness }.see_to(module.clone())));
            }
            Joined::Not(call) => return self.threads.call(call).await,
        }
        match told.await {
            Ok(Told::Made(report)) => report,
            Ok(Told::Alone(call)) => self.threads.call(call).await,
            Err(_) => not_run("the server is stopping", Duration::from_secs(1)),
        }
    }
}

impl Seeing {
    /// Makes the calls that wait until none does.
    async fn see_to(self, module: Arc<Module>) {
        let (engine, pace) = (&self.engine, &module.pace);
        let uptime = || engine.machine.uptime.elapsed();
        loop {
            // Requests that are here already get to ask.
            tokio::task::yield_now().await;
            let items_max = pace.items_max(uptime()).unwrap_or(1);
            let group = engine.gathering.next(&self.likeness, items_max);
            let calls = group.iter().map(|waiting| &waiting.call);
            let Some(call) = as_one(calls.clone()) else {
                return;
            };
            let report = engine.made(&module, call).await;
            // Whoever asked may be gone: the call was made all the same.
            if is_too_much(&report) && group.len() > 1 {
                pace.keep_apart(uptime());
                for Waiting { call, reply } in group {
                    let _ = reply.send(Told::Alone(call));
                }
                continue;
            }
            let parts = apart(report, calls);
            for (waiting, part) in group.into_iter().zip(parts) {
                let _ = waiting.reply.send(Told::Made(part));
            }
        }
    }
}

/// Whether a call for several failed, or had no room for all that it logged, so that each is better off alone.
fn is_too_much(report: &Report) -> bool {
    match &report.outcome {
        Ok(_) => report.usage.log_lines_dropped > 0,
        Err(failure) => !matches!(failure, Failure::Overload { .. }),
    }
}

/// The one call for all of `calls`; none when there are none.
fn as_one<'a>(mut calls: impl ExactSizeIterator<Item = &'a Call> + Clone) -> Option<Call> {
    let latest = calls.clone().max_by_key(|call| call.context.now)?;
    if calls.len() == 1 {
        return calls.next().cloned();
    }
    let items: Arc<[HookItem]> = calls.flat_map(Call::items).cloned().collect();
    Some(Call {
        range: 0..items.len(),
        items,
        ..latest.clone()
    })
}

/// What the report of the one call says to each of `calls`. What cannot be told apart is the first one's.
fn apart<'a>(report: Report, calls: impl ExactSizeIterator<Item = &'a Call>) -> Vec<Report> {
    if calls.len() == 1 {
        return vec![report];
    }
    let Report { outcome, usage, log } = report;
    let all = outcome.as_ref().map_or(1, Verdicts::len).max(1);
    let (mut left, mut log) = (outcome, Some(log));
    let part = |call: &Call| {
        let outcome = match &mut left {
            Ok(verdicts) => Ok(first_of(verdicts, call.range.len())),
            Err(failure) => Err(failure.clone()),
        };
        let input = call.version.manifest.input;
        let bytes_in = call.items().iter().map(|item| ItemIn::of(item, input).bytes());
        let first = log.take();
        let of_first = u32::from(first.is_some());
        let usage = Usage {
            run: usage.run.mul_f64(call.range.len() as f64 / all as f64),
            bytes_in: bytes_in.sum(),
            bytes_out: outcome.as_ref().map_or(0, bytes_out),
            host_calls: usage.host_calls * of_first,
            log_lines_dropped: usage.log_lines_dropped * of_first,
            ..usage
        };
        Report {
            outcome,
            usage,
            log: first.unwrap_or_default(),
        }
    };
    calls.map(part).collect()
}

/// Takes the first `count` of `verdicts`.
fn first_of(verdicts: &mut Verdicts, count: usize) -> Verdicts {
    match verdicts {
        Verdicts::Kept(side, left) => {
            let count = count.min(*left);
            *left -= count;
            Verdicts::Kept(*side, count)
        }
        Verdicts::Enqueue(list) => Verdicts::Enqueue(list.drain(..count.min(list.len())).collect()),
        Verdicts::Dequeue(list) => Verdicts::Dequeue(list.drain(..count.min(list.len())).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    #[test]
    fn only_calls_of_modules_whose_items_are_short_are_gathered() {
        let pace = Pace::default();
        assert_eq!(pace.items_max(NOW), None, "nobody knows yet");
        pace.note(1, Duration::from_micros(40));
        assert_eq!(pace.items_max(NOW), Some(ITEMS_MAX));
        // As many as take five milliseconds.
        (0..100).for_each(|_| pace.note(2, Duration::from_micros(200)));
        let most = pace.items_max(NOW).unwrap();
        assert!((45..=55).contains(&most), "{most} items");
        pace.note(1, Duration::from_millis(20));
        assert_eq!(pace.items_max(NOW), None);
    }

    #[test]
    fn a_call_is_brief_by_what_its_items_took() {
        let pace = Pace::default();
        assert!(!pace.is_brief(1), "nobody knows yet");
        pace.note(100, Duration::from_micros(150));
        assert!(pace.is_brief(100) && !pace.is_brief(200));
    }

    #[test]
    fn after_a_failure_calls_are_made_by_themselves_for_a_while() {
        let pace = Pace::default();
        pace.note(1, Duration::from_micros(40));
        pace.keep_apart(NOW);
        let end = NOW + Duration::from_millis(APART_MS);
        assert_eq!(pace.items_max(end - Duration::from_millis(1)), None);
        assert_eq!(pace.items_max(end), Some(ITEMS_MAX));
    }
}
