//! The thread that lets time pass for guests: an epoch a millisecond, while there is a call.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use wasmtime::Engine;

const TICK: Duration = Duration::from_millis(1);
/// Ticks without a call after which the thread sleeps until there is one.
const IDLE_TICKS: u32 = 50;

/// A running ticker.
pub(super) struct Ticker {
    state: Arc<State>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

struct State {
    at_tick: OnceLock<Box<dyn Fn() + Send + Sync>>,
    calls: AtomicUsize,
    is_parked: AtomicBool,
    is_stopping: AtomicBool,
}

/// Time passes while this lives.
pub(super) struct Ticking<'a>(&'a State);

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Ticker {
    /// Starts the thread.
    pub(super) fn start(engines: Vec<Engine>) -> std::io::Result<Self> {
        let state = Arc::new(State {
            at_tick: OnceLock::new(),
            calls: AtomicUsize::new(0),
            is_parked: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        });
        let shared = state.clone();
        let handle = thread::Builder::new()
            .name("hook-ticker".into())
            .spawn(move || tick(&shared, &engines))?;
        Ok(Self {
            state,
            thread: handle.thread().clone(),
            handle: Some(handle),
        })
    }

    /// Has `work` done at each tick, once and for all; it must be short.
    pub(super) fn at_tick(&self, work: impl Fn() + Send + Sync + 'static) {
        let _ = self.state.at_tick.set(Box::new(work));
    }

    /// A call begins; it ends when what this returns is dropped.
    pub(super) fn begin(&self) -> Ticking<'_> {
        self.state.calls.fetch_add(1, Ordering::SeqCst);
        if self.state.is_parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Ticking(&self.state)
    }
}

/// Whoever makes calls holds the ticker, so that none is left without time.
impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.is_stopping.store(true, Ordering::SeqCst);
        if let Some(handle) = self.handle.take() {
            handle.thread().unpark();
            let _ = handle.join();
        }
    }
}

fn tick(state: &State, engines: &[Engine]) {
    let mut idle = 0;
    while !state.is_stopping.load(Ordering::SeqCst) {
        if state.calls.load(Ordering::SeqCst) > 0 {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle > IDLE_TICKS {
            state.is_parked.store(true, Ordering::SeqCst);
            // A call that began before it could see the mark is seen here.
            if state.calls.load(Ordering::SeqCst) == 0 && !state.is_stopping.load(Ordering::SeqCst) {
                thread::park();
            }
            state.is_parked.store(false, Ordering::SeqCst);
            idle = 0;
        }
        thread::sleep(TICK);
        engines.iter().for_each(Engine::increment_epoch);
        if let Some(work) = state.at_tick.get() {
            work();
        }
    }
}
