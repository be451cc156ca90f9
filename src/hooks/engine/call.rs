//! One call: an instance, the way in, the way out, and what a failure is called.

use std::time::Duration;

use wasmtime::component::{Instance, InstancePre};
use wasmtime::{Store, Trap, WasmBacktrace};

use super::super::{Call, DequeueVerdict, EnqueueVerdict, Failure, Report, Usage, Verdicts};
use super::bindings::{ContextIn, DequeueOut, EnqueueOut, ItemIn, Rules, edit_bytes};
use super::host::{Host, HostCallsExceeded, clean};
use super::modules::Module;
use super::passing::Patience;
use crate::clock::Stopwatch;
use crate::model::{Ceiling, HookLimits, Side, some};

/// Instructions a counted call may use: more than its time allows.
const FUEL: u64 = u64::MAX / 2;

type EnqueueAnswer = (Vec<Result<EnqueueOut, String>>,);
type DequeueAnswer = (Vec<Result<DequeueOut, String>>,);

/// How a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// On a thread of its own, for as long as it may take.
    Own,
    /// The same, with its instructions counted.
    Counted,
    /// On a thread that has other things to do, as long as it has patience: see [`super::passing`].
    Passing(Patience),
}

/// An instance and its store.
pub(super) struct Running {
    pub(super) store: Store<Host>,
    instance: Instance,
}

/// What ended an attempt to make an instance.
pub(super) enum NoInstance {
    /// Every slot of the pool is taken.
    Exhausted,
    /// The guest is to blame.
    Failed(Failure),
}

impl Running {
    /// A new instance for `call`; a start function runs here, within the call's time.
    pub(super) fn new(pre: &InstancePre<Host>, call: &Call, manner: Manner) -> Result<Self, NoInstance> {
        let mut store = Store::new(pre.engine(), Host::new(call.version.clone()));
        store.limiter(|host| &mut host.limiter);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().at_deadline()));
        let running = |store: &mut Store<Host>| {
            if manner == Manner::Counted {
                store.set_fuel(FUEL)?;
            }
            prepare(store, call, manner);
            pre.instantiate(store)
        };
        match running(&mut store) {
            Ok(instance) => Ok(Self { store, instance }),
            Err(error) if error.is::<wasmtime::PoolConcurrencyLimitError>() => Err(NoInstance::Exhausted),
            Err(error) => Err(NoInstance::Failed(match failure(&error, call) {
                Failure::Invalid(detail) => Failure::Trap(format!("while it was instantiated: {detail}")),
                other => other,
            })),
        }
    }

    /// Makes ready for another call of the same version.
    pub(super) fn reuse(&mut self, call: &Call, manner: Manner) {
        prepare(&mut self.store, call, manner);
    }

    /// Whether the export of `side` has the contract's type; says what is different.
    pub(super) fn check(&mut self, module: &Module, side: Side) -> Result<(), String> {
        let export = module.export(side).ok_or("it has no such function")?;
        let function = self
            .instance
            .get_func(&mut self.store, export)
            .ok_or("it is no function")?;
        let store = &self.store;
        let typed = match side {
            Side::Enqueue => function
                .typed::<(ContextIn<'_>, &[ItemIn<'_>]), EnqueueAnswer>(store)
                .map(drop),
            Side::Dequeue => function
                .typed::<(ContextIn<'_>, &[ItemIn<'_>]), DequeueAnswer>(store)
                .map(drop),
        };
        typed.map_err(|error| format!("{error:#}"))
    }

    /// Makes the call.
    pub(super) fn report(&mut self, module: &Module, call: &Call) -> Report {
        let watch = Stopwatch::start();
        let mut usage = Usage::default();
        let outcome = self.verdicts(module, call, &mut usage);
        let host = self.store.data_mut();
        usage.run = watch.elapsed();
        usage.memory_bytes = host.limiter.memory_bytes_peak;
        usage.host_calls = host.host_calls;
        usage.log_lines_dropped = host.log_lines_dropped;
        if outcome.is_err() {
            usage.ceiling = usage.ceiling.or(host.ceiling());
        }
        let log = std::mem::take(&mut host.log);
        host.end();
        if let Ok(left) = self.store.get_fuel() {
            usage.instructions = Some(FUEL.saturating_sub(left));
        }
        Report { outcome, usage, log }
    }

    fn verdicts(&mut self, module: &Module, call: &Call, usage: &mut Usage) -> Result<Verdicts, Failure> {
        let input = call.version.manifest.input;
        let context = ContextIn::of(call);
        let items: Vec<ItemIn<'_>> = call.items().iter().map(|item| ItemIn::of(item, input)).collect();
        usage.bytes_in = items.iter().map(ItemIn::bytes).sum();
        let export = module.export(call.side);
        let function = export.and_then(|export| self.instance.get_func(&mut self.store, export));
        let function =
            function.ok_or_else(|| Failure::Invalid(format!("the module has no {} hook", call.side)))?;
        let rules = Rules {
            version: &call.version,
        };
        let failed = |error: wasmtime::Error| {
            if error.downcast_ref() == Some(&Trap::StackOverflow) {
                usage.ceiling = Some(Ceiling::Stack);
            }
            failure(&error, call)
        };
        let store = &mut self.store;
        let verdicts = match call.side {
            Side::Enqueue => {
                let typed = function.typed::<_, EnqueueAnswer>(&*store);
                let out = typed.and_then(|typed| typed.call(&mut *store, (context, &*items)));
                let (out,) = out.map_err(failed)?;
                let rule = |verdict| rules.settle(verdict, Rules::enqueue);
                match out.iter().all(|said| matches!(said, Ok(EnqueueOut::Keep))) {
                    true => Verdicts::Kept(call.side, out.len()),
                    false => Verdicts::Enqueue(out.into_iter().map(rule).collect()),
                }
            }
            Side::Dequeue => {
                let typed = function.typed::<_, DequeueAnswer>(&*store);
                let out = typed.and_then(|typed| typed.call(&mut *store, (context, &*items)));
                let (out,) = out.map_err(failed)?;
                let rule = |verdict| rules.settle(verdict, Rules::dequeue);
                match out.iter().all(|said| matches!(said, Ok(DequeueOut::Deliver))) {
                    true => Verdicts::Kept(call.side, out.len()),
                    false => Verdicts::Dequeue(out.into_iter().map(rule).collect()),
                }
            }
        };
        if verdicts.len() != items.len() {
            return Err(Failure::Invalid(format!(
                "{} for {}",
                some(verdicts.len(), "verdict"),
                some(items.len(), "item")
            )));
        }
        usage.bytes_out = bytes_out(&verdicts);
        if usage.bytes_out > call.version.limits.output_bytes {
            return Err(Failure::Invalid(format!(
                "{} bytes are more than the {} a call may give back",
                usage.bytes_out, call.version.limits.output_bytes
            )));
        }
        Ok(verdicts)
    }
}

fn prepare(store: &mut Store<Host>, call: &Call, manner: Manner) {
    store.data_mut().begin(call, manner);
    let limits = &call.version.limits;
    // Lifting needs some room beyond the bytes themselves: lists have elements.
    let fuel = usize::try_from(limits.output_bytes.saturating_add(64 << 10)).unwrap_or(usize::MAX);
    store.set_hostcall_fuel(match manner {
        Manner::Passing(_) => fuel.min(Patience::BYTES_OUT),
        Manner::Own | Manner::Counted => fuel,
    });
    let ticks = match manner {
        Manner::Passing(_) => 1,
        Manner::Own | Manner::Counted => u64::from(time_ms(limits, call)),
    };
    // The tick under way counts as one.
    store.set_epoch_deadline(ticks + 1);
}

/// How long `call` may run, in milliseconds.
fn time_ms(limits: &HookLimits, call: &Call) -> u32 {
    if call.range.len() > 1 {
        limits.batch_ms
    } else {
        limits.item_ms
    }
}

/// Bytes that the verdicts hold.
pub(super) fn bytes_out(verdicts: &Verdicts) -> u64 {
    match verdicts {
        Verdicts::Kept(..) => 0,
        Verdicts::Enqueue(verdicts) => verdicts.iter().flatten().map(enqueue_bytes).sum(),
        Verdicts::Dequeue(verdicts) => verdicts.iter().flatten().map(dequeue_bytes).sum(),
    }
}

fn enqueue_bytes(verdict: &EnqueueVerdict) -> u64 {
    match verdict {
        EnqueueVerdict::Replace(payload) => payload.len() as u64,
        EnqueueVerdict::Edit(edit) => edit_bytes(edit),
        EnqueueVerdict::Split(edits) => edits.iter().map(edit_bytes).sum(),
        _ => 0,
    }
}

fn dequeue_bytes(verdict: &DequeueVerdict) -> u64 {
    match verdict {
        DequeueVerdict::DeliverAs(payload) => payload.len() as u64,
        DequeueVerdict::DeliverEdited(edit) => edit_bytes(edit),
        _ => 0,
    }
}

/// Which failure `error` is. What carries neither a trap nor a stack of the guest's happened while its answer
/// was read.
pub(super) fn failure(error: &wasmtime::Error, call: &Call) -> Failure {
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::Interrupt) {
        return Failure::Timeout(Duration::from_millis(time_ms(&call.version.limits, call).into()));
    }
    let stack = error.downcast_ref::<WasmBacktrace>();
    let cause = error.root_cause().to_string();
    let mut text = match trap {
        Some(trap) => trap.to_string(),
        None => cause,
    };
    if trap.is_none() && stack.is_none() && !error.is::<HostCallsExceeded>() {
        return Failure::Invalid(clean(&call.version, &text).into());
    }
    if let Some(stack) = stack {
        let frames = stack.frames().iter().take(8);
        for (at, frame) in frames.enumerate() {
            text.push_str(if at == 0 { ", in " } else { " < " });
            match frame.func_name() {
                Some(name) => text.push_str(name),
                None => text.push_str(&format!("function {}", frame.func_index())),
            }
        }
    }
    Failure::Trap(clean(&call.version, &text).into())
}

/// A report of a call that was not made.
pub(super) fn not_run(detail: impl Into<String>, retry_after: Duration) -> Report {
    failed(Failure::Overload {
        detail: detail.into(),
        retry_after,
    })
}

/// A report of nothing but a failure.
pub(super) fn failed(failure: Failure) -> Report {
    Report {
        outcome: Err(failure),
        usage: Usage::default(),
        log: Vec::new(),
    }
}
