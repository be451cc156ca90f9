//! The engine that runs tenants' WebAssembly: compiled in a child process, kept in a cache, called on threads
//! of its own within hard limits.

mod bindings;
mod cache;
mod call;
mod child;
mod configure;
mod error;
mod fair;
mod fuel;
mod gate;
mod gather;
mod host;
mod inspect;
mod modules;
mod passing;
mod saving;
mod slices;
#[cfg(test)]
mod tests;
mod threads;
mod ticker;
mod trial;
mod turns;
mod warm;
mod wrap;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

pub use child::{COMPILE_COMMAND, compile_in_this_process};
pub use error::{EngineError, UploadError};
pub use fuel::Fuel;
pub use inspect::UploadLimits;
pub use passing::{STACK_BYTES, allow_passing};
pub use saving::CpuQuotas;

use self::cache::Cache;
use self::call::{Manner, NoInstance, Running, failed, not_run};
use self::child::{Compiled, compile};
use self::configure::Kind;
use self::fuel::Samples;
use self::gate::Gate;
use self::gather::Gathering;
use self::modules::{Module, Modules, Room};
use self::threads::{Execute, Threads};
use self::ticker::Ticker;
use self::trial::{trial_call, trial_version};
use self::turns::Turns;
use self::warm::{Warm, WarmPool};
use super::{Call, Failure, Report, Runner, Version};
use crate::clock::{Clock, Stopwatch};
use crate::model::{Digest, HookLimits, HookRef, InstanceMode, Namespace, Side, limits};

/// Rehearsals at once.
const REHEARSALS_MAX: usize = 2;

/// How to set up an [`Engine`].
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Where compiled modules are kept; one process at a time.
    pub cache_dir: PathBuf,
    /// Most bytes of compiled modules on disk.
    pub cache_bytes_max: u64,
    /// Authenticates them.
    pub node_key: [u8; 32],
    /// Threads that run guests.
    pub threads: usize,
    /// Whether brief calls may be made by the threads that ask, where these said [`allow_passing`].
    pub in_passing: bool,
    /// This binary, which compiles in a child process.
    pub program: PathBuf,
    /// Upper bounds of every version's limits: the sizes of the pool.
    pub ceilings: HookLimits,
    /// Bounds of uploads.
    pub upload: UploadLimits,
    /// Processor time per namespace.
    pub cpu: CpuQuotas,
    /// Calls in waiting per namespace.
    pub queue_per_namespace: usize,
    /// How long a call waits for its turn at most.
    pub wait_max: Duration,
    /// Instances at once, kept ones included.
    pub instances: u32,
    /// Modules in memory.
    pub modules: usize,
    /// Most bytes of compiled modules in memory.
    pub modules_bytes_max: u64,
    /// The largest payload that a hook may make, in bytes.
    pub payload_bytes_max: usize,
}

impl EngineOptions {
    /// The defaults, for a cache in `cache_dir` authenticated by `node_key`, and `program` to compile with.
    pub fn new(cache_dir: PathBuf, node_key: [u8; 32], program: PathBuf) -> Self {
        Self {
            cache_dir,
            cache_bytes_max: 2 << 30,
            node_key,
            threads: std::thread::available_parallelism().map_or(2, usize::from),
            in_passing: true,
            program,
            ceilings: HookLimits::default(),
            upload: UploadLimits::default(),
            cpu: CpuQuotas::default(),
            queue_per_namespace: 1_000,
            wait_max: Duration::from_secs(2),
            instances: 128,
            modules: 1_000,
            modules_bytes_max: 512 << 20,
            payload_bytes_max: limits::PAYLOAD_BYTES_MAX,
        }
    }
}

/// Where modules come from that were uploaded before: the catalog.
#[async_trait]
pub trait ModuleSource: Send + Sync + 'static {
    /// The component of `digest`, as [`Prepared::component`] had it.
    async fn module(&self, digest: Digest) -> Option<Vec<u8>>;
}

/// An upload that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The SHA-256 of `component`: its address.
    pub digest: Digest,
    /// What to store.
    pub component: Vec<u8>,
    /// The hooks in it.
    pub exports: Vec<Side>,
    /// What it imports.
    pub imports: Vec<String>,
    /// How long compiling took, in milliseconds; 0 when it was known.
    pub compile_ms: u64,
    /// What its author may want to know.
    pub warnings: Vec<String>,
}

/// How the engine is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineStatus {
    /// Calls under way and kept instances.
    pub instances_busy: u64,
    /// Instances kept warm.
    pub instances_warm: u64,
    /// Times a call found no free slot.
    pub pool_exhausted: u64,
    /// Calls in waiting.
    pub calls_waiting: u64,
    /// Calls made in passing, and how many of them took too long for that.
    pub calls_in_passing: u64,
    /// See [`Self::calls_in_passing`].
    pub overruns: u64,
    /// Uploads and recompilations in waiting or under way.
    pub compiles: u64,
    /// Modules in memory.
    pub modules_loaded: u64,
    /// Compiled modules on disk.
    pub modules_cached: u64,
    /// Time on hook threads, by namespace; a few thousand namespaces at most.
    pub used: Vec<(Namespace, Duration)>,
    /// What samples of versions used.
    pub fuel: Vec<(Namespace, HookRef, Fuel)>,
}

/// Runs hooks.
pub struct Engine {
    machine: Arc<Machine>,
    threads: Threads,
    source: Arc<dyn ModuleSource>,
    gate: Gate,
    gathering: Gathering,
    /// Rehearsals run beside the hook threads: not many at once.
    rehearsals: Turns,
    payload_bytes_max: AtomicUsize,
    clock: Clock,
    options: EngineOptions,
    this: std::sync::Weak<Engine>,
}

/// What a hook thread needs to make a call.
struct Machine {
    running: Modules,
    counting: Modules,
    warm: WarmPool,
    ticker: Ticker,
    uptime: Stopwatch,
    busy: AtomicU64,
    exhausted: AtomicU64,
    samples: Samples,
}

impl Engine {
    /// Sets the engines up, opens the cache and starts the threads.
    ///
    /// Fails when there is not enough address space, or no thread can be started; a cache that cannot be had
    /// is done without. Must be called within a tokio runtime.
    pub fn start(
        options: EngineOptions,
        clock: Clock,
        source: Arc<dyn ModuleSource>,
    ) -> Result<Arc<Self>, EngineError> {
        tokio::runtime::Handle::try_current().map_err(|_| EngineError::Runtime)?;
        let setup = |error: wasmtime::Error| EngineError::Setup(format!("{error:#}"));
        let instances = options.instances.max(1);
        let running = configure::running(&options.ceilings, instances).map_err(setup)?;
        let counting = configure::counting(&options.ceilings).map_err(setup)?;
        let cache = Arc::new(Cache::open(
            &options.cache_dir,
            options.node_key,
            options.cache_bytes_max,
        ));
        let threads = options.threads.max(1);
        let room = |count| Room {
            count,
            bytes: options.modules_bytes_max,
        };
        let machine = Arc::new(Machine {
            ticker: Ticker::start(vec![running.clone(), counting.clone()])?,
            running: Modules::new(running, cache.clone(), room(options.modules)).map_err(setup)?,
            counting: Modules::new(counting, cache, room(options.modules.min(32))).map_err(setup)?,
            warm: WarmPool::new((instances as usize).saturating_sub(2 * threads)),
            uptime: Stopwatch::start(),
            busy: AtomicU64::new(0),
            exhausted: AtomicU64::new(0),
            samples: Samples::default(),
        });
        let threads = Threads::start(
            threads,
            options.queue_per_namespace.max(1),
            options.cpu.clone(),
            options.wait_max,
            &machine,
        )?;
        machine.ticker.at_tick(threads.waker());
        Ok(Arc::new_cyclic(|this| Self {
            machine,
            threads,
            source,
            gate: Gate::default(),
            gathering: Gathering::default(),
            rehearsals: Turns::new(REHEARSALS_MAX),
            payload_bytes_max: AtomicUsize::new(options.payload_bytes_max),
            clock,
            options,
            this: this.clone(),
        }))
    }

    /// Makes a module that runs of what a tenant uploads: a component, a core module with the contract's
    /// exports, or the text of either. It is inspected and compiled in a child process, and instantiated once
    /// within the limits of a call.
    ///
    /// Fails with what its author should change, or [`UploadError::Busy`] while two uploads of `namespace`
    /// are already under way.
    pub async fn prepare(&self, upload: &[u8], namespace: &Namespace) -> Result<Prepared, UploadError> {
        let bytes = upload.len() as u64;
        if bytes > self.options.upload.bytes {
            return Err(UploadError::TooLarge {
                what: "the upload's bytes".into(),
                found: bytes,
                limit: self.options.upload.bytes,
            });
        }
        let _turn = self.gate.upload(namespace).await?;
        let watch = Stopwatch::start();
        let compiled = compile(&self.options.program, Kind::Running, self.options.upload, upload).await?;
        let compile_ms = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX);
        let digest = digest(&compiled.component);
        let Compiled {
            facts,
            component,
            artefact,
        } = compiled;
        let (machine, now) = (self.machine.clone(), self.clock.now());
        let trial = trial_call(trial_version(namespace, digest, self.options.ceilings)?, now)?;
        let tried = facts.clone();
        let work = move || machine.adopt(digest, &artefact, &trial, &tried);
        tokio::task::spawn_blocking(work)
            .await
            .map_err(UploadError::internal)??;
        Ok(Prepared {
            digest,
            component,
            exports: facts.exports,
            // The types that its interfaces speak of are nothing that it could call.
            imports: facts
                .imports
                .into_iter()
                .filter(|import| !import.starts_with("mqueue:hooks/types@"))
                .collect(),
            compile_ms,
            warnings: facts.warnings,
        })
    }

    /// Makes sure that a module which `namespace` uploaded before, here or elsewhere, can be called here.
    pub async fn ensure(&self, digest: Digest, namespace: &Namespace) -> Result<(), UploadError> {
        let running = &self.machine.running;
        self.compiled(running, Kind::Running, digest, namespace).await
    }

    async fn compiled(
        &self,
        modules: &Modules,
        kind: Kind,
        digest: Digest,
        namespace: &Namespace,
    ) -> Result<(), UploadError> {
        if modules.is_ready(digest) {
            return Ok(());
        }
        let _turn = self.gate.turn(namespace).await?;
        if modules.is_ready(digest) {
            return Ok(());
        }
        let component = self.source.module(digest).await.ok_or(UploadError::Unknown)?;
        if self::digest(&component) != digest {
            return Err(UploadError::Internal(
                "the stored module has another digest".into(),
            ));
        }
        let compiled = compile(&self.options.program, kind, self.options.upload, &component).await?;
        let added = modules.add(digest, &compiled.artefact);
        added.map(drop).map_err(UploadError::internal)
    }

    /// Whether a call of `digest` would run without being compiled first.
    pub fn is_ready(&self, digest: Digest) -> bool {
        self.machine.running.is_ready(digest)
    }

    /// Makes `call` on an engine that counts instructions: slower, the same every time, for dry runs and
    /// tests. Its instance is always fresh, and its time is what the namespace may use for rehearsals.
    pub async fn rehearse(&self, call: Call) -> Report {
        let digest = call.version.digest;
        if let Err(error) = self
            .compiled(
                &self.machine.counting,
                Kind::Counting,
                digest,
                &call.version.namespace,
            )
            .await
        {
            return not_run(error.to_string(), Duration::from_secs(1));
        }
        let Some(turn) = self.rehearsals.turn(&call.version.namespace).await else {
            return not_run("the server is stopping", Duration::from_secs(1));
        };
        let (machine, book) = (self.machine.clone(), self.threads.rehearsals_book());
        // It goes on when nobody waits for it any more, and counts all the same.
        let work = tokio::task::spawn_blocking(move || {
            let watch = Stopwatch::start();
            let report = machine.rehearse(&call);
            book(&call.version.namespace, watch.elapsed());
            drop(turn);
            report
        });
        work.await
            .unwrap_or_else(|_| failed(Failure::Trap("the host failed".into())))
    }

    /// Whether `namespace` has processor time left for rehearsals; else when it will have.
    pub fn may_rehearse(&self, namespace: &Namespace) -> Result<(), Duration> {
        let refused = self.threads.may_rehearse(namespace);
        refused.map_err(|refusal| refusal.retry_after)
    }

    /// The largest payload that a hook may make, in bytes.
    pub fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max.load(Ordering::Relaxed)
    }

    /// Changes it: rehearsals say what will be refused.
    pub fn set_payload_bytes_max(&self, bytes: usize) {
        self.payload_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Makes an instance of `version` within its own limits, as a call would.
    pub async fn try_out(&self, version: Arc<Version>) -> Result<(), UploadError> {
        let (machine, now) = (self.machine.clone(), self.clock.now());
        let trial = trial_call(version, now)?;
        let work = tokio::task::spawn_blocking(move || {
            // It is in memory from now on: the first call has no need to map it.
            let Some(module) = machine.running.get(trial.version.digest) else {
                return Ok(());
            };
            let _ticking = machine.ticker.begin();
            match machine.instance(&module, &trial, Manner::Own) {
                // That says nothing about the version.
                Ok(_) | Err(Failure::Overload { .. }) => Ok(()),
                Err(failure) => Err(UploadError::Start(failure.to_string())),
            }
        });
        work.await.map_err(UploadError::internal)?
    }

    /// How it is doing.
    pub fn status(&self) -> EngineStatus {
        let machine = &self.machine;
        EngineStatus {
            instances_busy: machine.busy.load(Ordering::Relaxed),
            instances_warm: machine.warm.count() as u64,
            pool_exhausted: machine.exhausted.load(Ordering::Relaxed),
            calls_waiting: self.threads.waiting() as u64,
            calls_in_passing: self.threads.passed.calls(),
            overruns: self.threads.passed.overruns(),
            compiles: self.gate.count() as u64,
            modules_loaded: machine.running.count() as u64,
            modules_cached: machine.running.cached() as u64,
            used: self.threads.used(),
            fuel: machine.samples.read(),
        }
    }

    /// Takes no more calls and waits for those under way, which end within their limits. Calling it again
    /// does nothing.
    pub fn stop(&self) {
        self.threads.stop();
        self.machine.warm.clear();
    }

    /// Compiles `digest` behind the callers' backs.
    fn compile_later(&self, digest: Digest, namespace: &Namespace) {
        if let Some(engine) = self.this.upgrade()
            && self.gate.begin_background(digest)
        {
            let namespace = namespace.clone();
            tokio::spawn(async move {
                if let Err(error) = engine.ensure(digest, &namespace).await {
                    tracing::warn!(%digest, %error, "a hook's module could not be compiled");
                }
                engine.gate.end_background(digest);
            });
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

#[async_trait]
impl Runner for Engine {
    async fn call(&self, call: Call) -> Report {
        let digest = call.version.digest;
        let module = self.machine.running.in_memory(digest);
        if module.is_none() && !self.machine.running.is_ready(digest) {
            self.compile_later(digest, &call.version.namespace);
            return not_run("its module is being compiled", Duration::from_secs(1));
        }
        let sample = self.machine.samples.choose(&call);
        let report = match module {
            Some(module) => self.call_gathered(&module, call).await,
            None => self.threads.call(call).await,
        };
        if let Some(sample) = sample
            && report.outcome.is_ok()
        {
            self.sample_later(sample);
        }
        report
    }
}

impl Machine {
    /// A new instance; kept ones make room when there is none.
    fn instance(&self, module: &Module, call: &Call, manner: Manner) -> Result<Running, Failure> {
        let mut made = Running::new(&module.pre, call, manner);
        if matches!(made, Err(NoInstance::Exhausted)) && !matches!(manner, Manner::Passing(_)) {
            self.warm.clear();
            made = Running::new(&module.pre, call, manner);
        }
        made.map_err(|problem| match problem {
            NoInstance::Failed(failure) => failure,
            NoInstance::Exhausted => {
                self.exhausted.fetch_add(1, Ordering::Relaxed);
                Failure::Overload {
                    detail: "every instance is in use".into(),
                    retry_after: Duration::from_millis(100),
                }
            }
        })
    }

    fn rehearse(&self, call: &Call) -> Report {
        let Some(module) = self.counting.get(call.version.digest) else {
            return not_run("its module is being compiled", Duration::from_secs(1));
        };
        let _ticking = self.ticker.begin();
        match self.instance(&module, call, Manner::Counted) {
            Ok(mut running) => running.report(&module, call),
            Err(failure) => failed(failure),
        }
    }

    fn fresh(&self, module: &Module, call: &Call, manner: Manner) -> Report {
        match self.instance(module, call, manner) {
            Ok(mut running) => running.report(module, call),
            Err(failure) => failed(failure),
        }
    }

    fn warm(&self, module: &Arc<Module>, call: &Call, manner: Manner) -> Report {
        let now = self.uptime.elapsed();
        let kept = self.warm.take(&call.version, now);
        let mut warm = match kept {
            Some(mut warm) => {
                warm.running.reuse(call, manner);
                warm
            }
            None => match self.instance(module, call, manner) {
                Ok(running) => Warm {
                    running,
                    module: module.clone(),
                    born: now,
                    calls: 0,
                },
                Err(failure) => return failed(failure),
            },
        };
        let report = warm.running.report(&warm.module, call);
        warm.calls += 1;
        // Whatever failed may have left the guest half way through something.
        if report.outcome.is_ok() {
            self.warm.put(warm, now);
        }
        report
    }
}

impl Execute for Machine {
    fn execute(&self, call: &Call, manner: Manner) -> Report {
        let Some(module) = self.running.get(call.version.digest) else {
            return not_run("its module is being compiled", Duration::from_secs(1));
        };
        let _ticking = self.ticker.begin();
        self.busy.fetch_add(1, Ordering::Relaxed);
        let began = self.uptime.elapsed();
        let report = match call.version.manifest.instance {
            InstanceMode::Fresh => self.fresh(&module, call, manner),
            InstanceMode::Warm => self.warm(&module, call, manner),
        };
        let took = self.uptime.elapsed().saturating_sub(began);
        module.pace.note(call.range.len(), took);
        self.busy.fetch_sub(1, Ordering::Relaxed);
        report
    }

    fn upkeep(&self) {
        self.warm.sweep(self.uptime.elapsed());
        self.samples.tick();
    }
}

fn digest(component: &[u8]) -> Digest {
    Digest(Sha256::digest(component).into())
}
