//! Live configuration: read again when a file changes, on a signal or on request; parsed, checked, and only
//! then put in force. Any error leaves everything as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::assemble::live_limits;
use super::{HookParts, StartError, tenancy};
use crate::api::{ConfigChange, ConfigEntry, ConfigFault, Configuration, Reload, Reloads};
use crate::clock::{Clock, Timestamp};
use crate::config::{Change, Config, ConfigError, FolderWatch, JwtSecret, LiveConfig, Origin, folders_of};
use crate::model::{Author, HookLimits};
use crate::queue::Queue;
use crate::telemetry::logs::LevelHandle;
use crate::telemetry::metrics::NodeNumbers;
use crate::tenant::{Authenticator, KeySet, Quotas};

/// How often files are looked at though nothing was noticed: notices can be lost, and not every file system
/// gives any.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Under this name the log of changes has the ids of the keys that tokens are verified with.
const KEY_IDS: &str = "auth.key_ids";

/// What asks for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    File,
    Signal,
    Request,
}

impl Trigger {
    fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Signal => "signal",
            Self::Request => "request",
        }
    }
}

/// The parts of a node that a configuration is put in force in.
pub(super) struct LiveParts {
    pub(super) auth: Arc<Authenticator>,
    pub(super) quotas: Arc<Quotas>,
    pub(super) queue: Queue,
    pub(super) hooks: HookParts,
    pub(super) body_bytes_max: Arc<AtomicUsize>,
    pub(super) log_level: LevelHandle,
}

impl LiveParts {
    fn take_over(
        &self,
        live: &LiveConfig,
        calls: HookLimits,
        keys: KeySet,
        changed: &BTreeMap<String, String>,
    ) {
        // Whoever was verified is looked at anew after this, so that it is not done for nothing.
        if changed.keys().any(|key| key.starts_with("auth.")) {
            tenancy::tell_of_ignored(&keys);
            self.auth.reload(keys, tenancy::policy(&live.auth));
        }
        self.quotas.configure(tenancy::quota_table(&live.quotas));
        self.queue.set_defaults(live.topics.defaults.clone());
        self.queue.set_limits(live_limits(live));
        self.hooks.registry.set_call_limits(calls);
        let payload_bytes_max = live.limits.payload_bytes_max;
        self.hooks.chains.set_payload_bytes_max(payload_bytes_max);
        self.hooks.engine.set_payload_bytes_max(payload_bytes_max);
        self.body_bytes_max
            .store(live.limits.body_bytes_max, Ordering::Relaxed);
        if let Err(error) = self.log_level.set(live.log_level) {
            tracing::warn!(%error, "the log keeps its level");
        }
    }
}

/// Reads the configuration again and puts it in force.
pub(super) struct Reloader {
    origin: Origin,
    parts: LiveParts,
    clock: Clock,
    /// Locked for the whole of a reload, so that they follow each other.
    state: Mutex<State>,
}

struct State {
    /// What the process started with: start-only keys are as here.
    started: Config,
    /// What is in force of the others.
    live: Config,
    reloads: Reloads,
}

impl Reloader {
    pub(super) fn new(origin: Origin, started: Config, parts: LiveParts, clock: Clock) -> Self {
        let reloads = Reloads {
            succeeded: 0,
            failed: 0,
            loaded_at: clock.now(),
            last: None,
            restart_needed: Vec::new(),
        };
        Self {
            origin,
            parts,
            clock,
            state: Mutex::new(State {
                live: started.clone(),
                started,
                reloads,
            }),
        }
    }

    /// Reloads until the process ends: when a file changes, on SIGHUP, and now and then.
    pub(super) fn keep_up(self: &Arc<Self>) -> Result<(), StartError> {
        // From here on the signal does not end the process any more.
        let mut hang_up = signal(SignalKind::hangup())
            .map_err(|error| StartError::io("cannot listen for signals", error))?;
        let reloader = self.clone();
        tokio::spawn(async move {
            let (noticed, mut notices) = mpsc::channel(1);
            let mut watch = Watch::new(noticed);
            loop {
                let trigger = if watch.follow(folders_of(&reloader.files()), start_watch) {
                    // What changed before it was watched, nobody is told of.
                    Trigger::File
                } else {
                    tokio::select! {
                        _ = notices.recv() => Trigger::File,
                        _ = hang_up.recv() => Trigger::Signal,
                        () = tokio::time::sleep(LOOK_EVERY) => Trigger::File,
                    }
                };
                let work = reloader.clone();
                match tokio::task::spawn_blocking(move || work.run(trigger)).await {
                    Ok(Ok(change)) => change.note(&reloader.parts.queue, Author::server()).await,
                    // It was told where it was found.
                    Ok(Err(_)) => {}
                    Err(error) => tracing::error!(%error, "the reload of the configuration broke off"),
                }
            }
        });
        Ok(())
    }

    fn files(&self) -> Vec<PathBuf> {
        self.state.lock().live.files.clone()
    }

    fn run(&self, trigger: Trigger) -> Result<ConfigChange, Vec<ConfigFault>> {
        let mut state = self.state.lock();
        let now = self.clock.now();
        match self
            .read(&state)
            .and_then(|config| self.put_in_force(&state, config))
        {
            Ok((config, change)) => {
                let changed = change.after.keys().filter(|key| *key != KEY_IDS).cloned();
                state.succeeded(config, changed.collect(), trigger, now);
                Ok(change)
            }
            Err(faults) => {
                state.failed(&faults, trigger, now);
                Err(faults)
            }
        }
    }

    fn read(&self, state: &State) -> Result<Config, Vec<ConfigFault>> {
        let config = self.origin.read().map_err(|error| faults(&error))?;
        match (&state.live.file, &config.file) {
            // Taken for an empty one it would lift every quota and limit there is.
            (Some(gone), None) => Err(vec![ConfigFault {
                key: None,
                detail: format!(
                    "{} is gone, and what it said stays in force; put it back, or an empty one in its place",
                    gone.display()
                ),
            }]),
            _ => Ok(config),
        }
    }

    /// Everything that can be wrong is found before anything changes.
    fn put_in_force(
        &self,
        state: &State,
        config: Config,
    ) -> Result<(Config, ConfigChange), Vec<ConfigFault>> {
        let mut change = ConfigChange::default();
        for Change { entry, old } in config
            .changes_since(&state.live)
            .filter(|change| change.entry.is_live())
        {
            let before = old.map(|old| (old.key.clone(), old.value.clone()));
            change.before.extend(before);
            change.after.insert(entry.key.clone(), entry.value.clone());
        }
        // Where the node keeps its data does not change while it runs.
        let in_effect = Config {
            start: state.started.start.clone(),
            ..config.clone()
        };
        let keys = JwtSecret::obtain(&in_effect)
            .map_err(|error| faults(&error))
            .and_then(|secret| {
                tenancy::keys(&config.live.auth, &secret).map_err(|error| vec![fault(&error)])
            })?;
        if !change.after.is_empty() {
            let before = self.key_ids();
            // The engine's memory is laid out for the largest instance there was at the start.
            let HookLimits {
                memory_bytes,
                table_elements,
                ..
            } = state.started.start.hooks.call;
            let calls = HookLimits {
                memory_bytes,
                table_elements,
                ..config.start.hooks.call
            };
            self.parts.take_over(&config.live, calls, keys, &change.after);
            let after = self.key_ids();
            // The values of secrets and of a file of keys are masked or a path; the ids tell what happened.
            if before != after {
                change.before.insert(KEY_IDS.to_owned(), before);
                change.after.insert(KEY_IDS.to_owned(), after);
            }
        }
        Ok((config, change))
    }

    fn key_ids(&self) -> String {
        self.parts.auth.key_ids().join(", ")
    }

    /// What `/metrics` shows of reloads.
    pub(super) fn numbers(&self) -> NodeNumbers {
        let reloads = self.reloads();
        let is_well = reloads.last.as_ref().is_none_or(|last| last.ok);
        NodeNumbers::from([
            ("mqueue_config_reloads_succeeded_total", reloads.succeeded as f64),
            ("mqueue_config_reloads_failed_total", reloads.failed as f64),
            ("mqueue_config_last_reload_ok", if is_well { 1.0 } else { 0.0 }),
            (
                "mqueue_config_loaded_timestamp_seconds",
                reloads.loaded_at.ms() as f64 / 1_000.0,
            ),
            (
                "mqueue_config_restart_needed_keys",
                reloads.restart_needed.len() as f64,
            ),
        ])
    }
}

impl State {
    fn succeeded(&mut self, config: Config, changed: Vec<String>, trigger: Trigger, now: Timestamp) {
        let restart_needed: Vec<String> = config
            .changes_since(&self.started)
            .filter(|change| !change.entry.is_live())
            .map(|change| change.entry.key.clone())
            .collect();
        let was_well = self.reloads.last.as_ref().is_none_or(|last| last.ok);
        let is_news = !changed.is_empty() || restart_needed != self.reloads.restart_needed || !was_well;
        self.live = config;
        // A look that found nothing new is no reload.
        if trigger == Trigger::File && !is_news {
            return;
        }
        tracing::info!(
            trigger = trigger.name(),
            changed = changed.join(","),
            "the configuration was read again and is in force"
        );
        if restart_needed != self.reloads.restart_needed && !restart_needed.is_empty() {
            tracing::warn!(
                keys = restart_needed.join(","),
                "some keys of the configuration that changed count only at the next start"
            );
        }
        for warning in &self.live.warnings {
            tracing::warn!("{warning}");
        }
        self.reloads.restart_needed = restart_needed;
        self.reloads.succeeded += 1;
        self.reloads.loaded_at = now;
        self.reloads.last = Some(Reload {
            at: now,
            trigger: trigger.name(),
            ok: true,
            changed,
            faults: Vec::new(),
        });
    }

    fn failed(&mut self, faults: &[ConfigFault], trigger: Trigger, now: Timestamp) {
        let known = self.reloads.last.as_ref();
        // The same file that was wrong at the last look is still wrong.
        if trigger == Trigger::File && known.is_some_and(|last| last.faults == faults) {
            return;
        }
        for fault in faults {
            tracing::error!(
                trigger = trigger.name(),
                "the configuration is wrong and stays as it was: {}",
                fault.detail
            );
        }
        self.reloads.failed += 1;
        self.reloads.last = Some(Reload {
            at: now,
            trigger: trigger.name(),
            ok: false,
            changed: Vec::new(),
            faults: faults.to_vec(),
        });
    }
}

impl Configuration for Reloader {
    fn entries(&self) -> Vec<ConfigEntry> {
        let state = self.state.lock();
        let in_force = state.live.entries.iter().zip(&state.started.entries);
        in_force
            .map(|(live, started)| {
                let reloadable = live.is_live();
                let entry = if reloadable { live } else { started };
                ConfigEntry {
                    key: entry.key.clone(),
                    value: entry.value.clone(),
                    source: entry.source.clone(),
                    reloadable,
                }
            })
            .collect()
    }

    fn reloads(&self) -> Reloads {
        self.state.lock().reloads.clone()
    }

    fn reload(&self) -> Result<ConfigChange, Vec<ConfigFault>> {
        self.run(Trigger::Request)
    }
}

fn faults(error: &ConfigError) -> Vec<ConfigFault> {
    match error {
        ConfigError::Invalid(problems) => problems
            .iter()
            .map(|problem| ConfigFault {
                key: Some(problem.key.clone()),
                detail: problem.to_string(),
            })
            .collect(),
        other => vec![ConfigFault {
            key: None,
            detail: other.to_string(),
        }],
    }
}

fn fault(error: &StartError) -> ConfigFault {
    let key = match error {
        StartError::Setting { key, .. } => Some((*key).to_owned()),
        _ => None,
    };
    ConfigFault {
        key,
        detail: error.to_string(),
    }
}

/// The watch on the folders of the files that are read, which may become others.
struct Watch {
    noticed: mpsc::Sender<()>,
    folders: BTreeSet<PathBuf>,
    watch: Option<FolderWatch>,
    /// The system refused the last one, which was told.
    is_refused: bool,
}

impl Watch {
    fn new(noticed: mpsc::Sender<()>) -> Self {
        Self {
            noticed,
            folders: BTreeSet::new(),
            watch: None,
            is_refused: false,
        }
    }

    /// Watches `folders` from now on, by what `start` makes; tells whether that is new.
    fn follow<E: std::fmt::Display>(
        &mut self,
        mut folders: BTreeSet<PathBuf>,
        start: impl FnOnce(&BTreeSet<PathBuf>, mpsc::Sender<()>) -> Result<FolderWatch, E>,
    ) -> bool {
        folders.retain(|folder| folder.is_dir());
        if folders == self.folders {
            return false;
        }
        match start(&folders, self.noticed.clone()) {
            Ok(watch) => {
                self.watch = Some(watch);
                self.folders = folders;
                self.is_refused = false;
                true
            }
            Err(error) => {
                // What was watched is not what counts now; it is tried again at the next look.
                self.watch = None;
                self.folders.clear();
                if !std::mem::replace(&mut self.is_refused, true) {
                    let every_s = LOOK_EVERY.as_secs();
                    tracing::warn!(%error, every_s, "changes of the configuration are noticed only now and then");
                }
                false
            }
        }
    }
}

/// A watch on `folders` that says through `noticed` when something in them changed.
fn start_watch(
    folders: &BTreeSet<PathBuf>,
    noticed: mpsc::Sender<()>,
) -> Result<FolderWatch, impl std::fmt::Display + use<>> {
    FolderWatch::start(folders, move || {
        // One that is waiting already is as good as two.
        let _ = noticed.try_send(());
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_that_the_system_refuses_is_tried_again_at_the_next_look() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = |dirs: &[&tempfile::TempDir]| dirs.iter().map(|dir| dir.path().to_owned()).collect();
        let (noticed, mut notices) = mpsc::channel(1);
        let mut watch = Watch::new(noticed);
        assert!(watch.follow(folders(&[&dir]), start_watch));
        // There is nothing to do while they stay the same, and folders that are not there are none.
        let never =
            |_: &BTreeSet<PathBuf>, _| -> Result<FolderWatch, String> { panic!("it is watched already") };
        let mut same: BTreeSet<_> = folders(&[&dir]);
        same.insert(dir.path().join("not-there"));
        assert!(!watch.follow(same, never));

        let both = || folders(&[&dir, &other]);
        for _ in 0..2 {
            let mut asked = false;
            let refuse = |_: &BTreeSet<PathBuf>, _| {
                asked = true;
                Err("no watches are left")
            };
            assert!(!watch.follow(both(), refuse));
            assert!(asked && watch.is_refused, "it is tried at each look");
        }
        assert!(watch.follow(both(), start_watch));
        assert!(!watch.is_refused);
        std::fs::write(other.path().join("mqueue.toml"), "").unwrap();
        let notice = tokio::time::timeout(Duration::from_secs(30), notices.recv()).await;
        assert_eq!(notice, Ok(Some(())));
    }
}
