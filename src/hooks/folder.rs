//! The plugins folder: `<folder>/<namespace>/<hook>/hook.toml` and a module beside it.
//!
//! The folder is looked through when something in it changes, and every now and then. What is found goes the
//! way of the API: it is compiled, becomes a version, passes the gate and is bound. What cannot be taken over
//! leaves the old version in force, and says why in the hook's log and in lists.

mod description;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_full::{Debouncer, RecommendedCache, new_debouncer};
use tokio::sync::mpsc;

use self::scan::{Found, Place, Scan, scan};
use super::Registry;
use crate::model::Namespace;

pub(crate) use self::description::FolderHook;

/// How long a file must have been left alone.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// How often the folder is looked through though nothing was noticed: notices can be lost, and another node
/// may have bound what is no longer there.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How often it is looked whether the folder has been made.
const MADE_EVERY: Duration = Duration::from_secs(2);

/// The hooks of one folder.
#[derive(Debug)]
pub struct HookFolder {
    root: PathBuf,
    registry: Arc<Registry>,
    /// What was found at the last look, by the hash of all that was read; with whether it was taken over.
    seen: BTreeMap<Place, Seen>,
    /// What could not be looked through the last time, so that it is told once.
    away: Away,
}

/// What could not be looked through.
#[derive(Debug, Default)]
struct Away {
    root: bool,
    namespaces: BTreeSet<Namespace>,
}

/// Tells of changes for as long as it lives.
type Watcher = Debouncer<RecommendedWatcher, RecommendedCache>;

#[derive(Debug)]
struct Seen {
    hash: blake3::Hash,
    /// It may be taken over yet, though nothing in the folder changes.
    again: bool,
}

impl HookFolder {
    /// The hooks below `root`, which need not be there.
    pub fn new(root: PathBuf, registry: Arc<Registry>) -> Self {
        Self {
            root,
            registry,
            seen: BTreeMap::new(),
            away: Away::default(),
        }
    }

    /// Takes over what is there, and then what changes, for as long as the process runs.
    pub async fn watch(mut self) {
        let (changed, mut changes) = mpsc::channel(1);
        let (mut watcher, mut told) = (None, false);
        loop {
            // A folder that goes and comes back is another one, and one may be made long after the start.
            if !self.root.is_dir() {
                watcher = None;
            } else if watcher.is_none() {
                watcher = self.watcher(&changed, &mut told);
            }
            self.look().await;
            // Either way it is time to look again.
            let pause = match self.root.is_dir() {
                true => LOOK_EVERY,
                false => MADE_EVERY,
            };
            let _ = tokio::time::timeout(pause, changes.recv()).await;
        }
    }

    fn watcher(&self, changed: &mpsc::Sender<()>, told: &mut bool) -> Option<Watcher> {
        let changed = changed.clone();
        let notice = move |_| {
            // One that is waiting already is as good as two.
            let _ = changed.try_send(());
        };
        let watching = new_debouncer(DEBOUNCE, None, notice).and_then(|mut watcher| {
            watcher
                .watch(&self.root, RecursiveMode::Recursive)
                .map(|()| watcher)
        });
        if let Err(error) = &watching
            && !std::mem::replace(told, true)
        {
            let folder = self.root.display();
            let every_s = LOOK_EVERY.as_secs();
            tracing::warn!(%folder, %error, every_s, "the plugins folder cannot be watched; it is looked through now and then");
        }
        watching.ok()
    }

    /// Looks through the folder once and takes over what is new.
    pub async fn look(&mut self) {
        let root = self.root.clone();
        let Scan {
            found,
            unseen,
            is_empty,
        } = match tokio::task::spawn_blocking(move || scan(&root)).await {
            Ok(Ok(scan)) => scan,
            Ok(Err(error))
                if error.kind() == io::ErrorKind::NotFound && self.registry.folder_places().is_empty() =>
            {
                return;
            }
            // Not being able to look is no reason to take hooks away.
            Ok(Err(error)) => return self.miss_all(&error.to_string()),
            Err(error) => return tracing::error!(%error, "looking through the plugins folder failed"),
        };
        let places = self.registry.folder_places();
        // Nor is an empty folder: a volume that is not mounted looks like one, and would unbind everything.
        if is_empty && !places.is_empty() {
            return self.miss_all("it is empty");
        }
        self.away.root = false;
        for (namespace, reason) in &unseen {
            if !self.away.namespaces.contains(namespace) {
                tracing::warn!(%namespace, reason, "a folder of the plugins folder cannot be read whole; its hooks stay as they are");
            }
        }
        for place in places {
            if !found.contains_key(&place) && !unseen.contains_key(&place.0) {
                let gone = self.registry.leave_folder(&place.0, &place.1).await;
                if let Err(error) = gone {
                    let (namespace, hook) = &place;
                    tracing::warn!(%namespace, %hook, %error, "a hook that left the plugins folder stays bound");
                    continue;
                }
                self.seen.remove(&place);
            }
        }
        self.away.namespaces = unseen.into_keys().collect();
        for (place, found) in found {
            self.take(place, found).await;
        }
    }

    /// Leaves everything as it is, and says so once.
    fn miss_all(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.away.root, true) {
            let folder = self.root.display();
            tracing::warn!(%folder, reason, "the plugins folder cannot be looked through; hooks stay as they are");
        }
    }

    async fn take(&mut self, place: Place, Found { hash, hook }: Found) {
        let seen = self.seen.get(&place);
        if seen.is_some_and(|seen| seen.hash == hash && !seen.again) {
            return;
        }
        let (namespace, name) = &place;
        let again = match hook {
            Ok(hook) => self.registry.take_from_folder(namespace, name, hook).await,
            Err(reason) => {
                self.registry.reject_folder(namespace, name, reason);
                false
            }
        };
        self.seen.insert(place, Seen { hash, again });
    }
}
