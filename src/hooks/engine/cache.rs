//! Compiled modules on disk. An artefact is native code: it counts only with a MAC of this node over its key
//! and its bytes, and what fails that is compiled again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sled::{Db, Tree};

use crate::model::Digest;

const MAC_BYTES: usize = 32;

/// The folder of artefacts. Without one (another process has it, the disk is broken) everything is a miss.
pub(super) struct Cache {
    store: Option<Store>,
    key: [u8; 32],
    bytes_max: u64,
    /// Counts uses, so that the least used entries go first.
    uses: AtomicU64,
}

struct Store {
    db: Db,
    artefacts: Tree,
    /// Length and last use of each, both as 8 bytes.
    index: Tree,
}

/// Names an artefact: the module, and the engine it was compiled for.
#[derive(Debug, Clone, Copy)]
pub(super) struct ArtefactKey {
    pub(super) digest: Digest,
    /// Hash of all that makes an engine take an artefact.
    pub(super) engine: u64,
}

impl ArtefactKey {
    fn bytes(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..32].copy_from_slice(&self.digest.0);
        bytes[32..].copy_from_slice(&self.engine.to_be_bytes());
        bytes
    }
}

impl Cache {
    /// Opens the cache in `folder`. A broken one is set aside and begun anew.
    pub(super) fn open(folder: &Path, key: [u8; 32], bytes_max: u64) -> Self {
        let store = Store::open(folder).or_else(|error| {
            if is_locked(&error) {
                tracing::warn!(
                    folder = %folder.display(),
                    "another process holds the cache of compiled hooks: running without one"
                );
                return Err(error);
            }
            let aside = set_aside(folder);
            tracing::warn!(%error, ?aside, "the cache of compiled hooks is broken: beginning a new one");
            Store::open(folder)
        });
        if let Err(error) = &store {
            tracing::warn!(%error, "hooks are compiled again at each start");
        }
        let store = store.ok();
        let uses = store.as_ref().map_or(0, Store::last_use);
        Self {
            store,
            key,
            bytes_max,
            uses: AtomicU64::new(uses),
        }
    }

    /// The artefact of `key`, if there is one this node has made.
    pub(super) fn get(&self, key: ArtefactKey) -> Option<Vec<u8>> {
        let store = self.store.as_ref()?;
        let key = key.bytes();
        let value = match store.artefacts.get(key) {
            Ok(value) => value?,
            Err(error) => {
                tracing::warn!(%error, "a compiled hook could not be read");
                return None;
            }
        };
        let (mac, artefact) = value.split_at_checked(MAC_BYTES).unwrap_or((&[], &value));
        // blake3's hashes compare in constant time.
        let is_ours = <[u8; MAC_BYTES]>::try_from(mac).is_ok_and(|mac| self.mac(&key, artefact) == mac);
        if !is_ours {
            tracing::warn!("a compiled hook in the cache is not as this node wrote it: dropped");
            store.remove(&key);
            return None;
        }
        store.touch(&key, value.len() as u64, self.next_use());
        Some(artefact.to_vec())
    }

    /// Whether there is an entry for `key`; whether it is sound shows when it is read.
    pub(super) fn contains(&self, key: ArtefactKey) -> bool {
        let store = self.store.as_ref();
        store.is_some_and(|store| store.artefacts.contains_key(key.bytes()).unwrap_or(false))
    }

    /// Keeps `artefact`. A failure costs a compilation later, nothing else.
    pub(super) fn put(&self, key: ArtefactKey, artefact: &[u8]) {
        let Some(store) = &self.store else { return };
        let key = key.bytes();
        let mut value = Vec::with_capacity(MAC_BYTES + artefact.len());
        value.extend_from_slice(self.mac(&key, artefact).as_bytes());
        value.extend_from_slice(artefact);
        let length = value.len() as u64;
        if length > self.bytes_max {
            return;
        }
        if let Err(error) = store.artefacts.insert(key, value) {
            tracing::warn!(%error, "a compiled hook could not be kept");
            return;
        }
        store.touch(&key, length, self.next_use());
        store.shrink(self.bytes_max);
        if let Err(error) = store.db.flush() {
            tracing::warn!(%error, "compiled hooks could not be flushed");
        }
    }

    /// Forgets the artefact of `key`.
    pub(super) fn remove(&self, key: ArtefactKey) {
        if let Some(store) = &self.store {
            store.remove(&key.bytes());
        }
    }

    /// Entries.
    pub(super) fn count(&self) -> usize {
        self.store.as_ref().map_or(0, |store| store.index.len())
    }

    fn mac(&self, key: &[u8], artefact: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(key);
        hasher.update(artefact);
        hasher.finalize()
    }

    fn next_use(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Store {
    fn open(folder: &Path) -> sled::Result<Self> {
        let db = sled::Config::new()
            .path(folder)
            .cache_capacity(16 << 20)
            .flush_every_ms(None)
            .open()?;
        Ok(Self {
            artefacts: db.open_tree("artefacts")?,
            index: db.open_tree("index")?,
            db,
        })
    }

    fn entries(&self) -> impl Iterator<Item = (sled::IVec, u64, u64)> {
        self.index.iter().flatten().filter_map(|(key, value)| {
            let (length, used) = value.split_at_checked(8)?;
            let length = u64::from_be_bytes(length.try_into().ok()?);
            Some((key, length, u64::from_be_bytes(used.try_into().ok()?)))
        })
    }

    fn last_use(&self) -> u64 {
        self.entries().map(|(_, _, used)| used).max().unwrap_or(0)
    }

    fn touch(&self, key: &[u8], length: u64, used: u64) {
        let mut value = [0; 16];
        value[..8].copy_from_slice(&length.to_be_bytes());
        value[8..].copy_from_slice(&used.to_be_bytes());
        if let Err(error) = self.index.insert(key, &value) {
            tracing::warn!(%error, "the use of a compiled hook could not be noted");
        }
    }

    fn remove(&self, key: &[u8]) {
        let removed = self.artefacts.remove(key).and_then(|_| self.index.remove(key));
        if let Err(error) = removed {
            tracing::warn!(%error, "a compiled hook could not be removed");
        }
    }

    /// Removes the least used until all fit `bytes_max`.
    fn shrink(&self, bytes_max: u64) {
        let mut entries: Vec<_> = self.entries().collect();
        let mut total: u64 = entries.iter().map(|(_, length, _)| length).sum();
        entries.sort_by_key(|(_, _, used)| *used);
        for (key, length, _) in entries {
            if total <= bytes_max {
                break;
            }
            self.remove(&key);
            total -= length;
        }
    }
}

/// sled says that another process has the folder by an I/O error.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

/// Renames a broken cache, so that it can be looked at.
fn set_aside(folder: &Path) -> Option<PathBuf> {
    let name = folder.file_name()?.to_string_lossy().into_owned();
    let free = (1..1_000).map(|number| folder.with_file_name(format!("{name}.bad-{number}")));
    let aside = free.into_iter().find(|path| !path.exists())?;
    std::fs::rename(folder, &aside).ok()?;
    Some(aside)
}
