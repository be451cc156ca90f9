//! Modules that are ready to run, and how they become so.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::RwLock;
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};

use super::bindings::{function, interface};
use super::cache::{ArtefactKey, Cache};
use super::gather::Pace;
use super::host::{Host, linker};
use crate::model::{Digest, Side};

/// A module with its imports checked and its exports found.
pub(super) struct Module {
    pub(super) pre: InstancePre<Host>,
    enqueue: Option<ComponentExportIndex>,
    dequeue: Option<ComponentExportIndex>,
    last_use: AtomicU64,
    /// How long its items take.
    pub(super) pace: Pace,
    /// Of its compiled form.
    bytes: u64,
}

impl Module {
    /// The hook of `side`.
    pub(super) fn export(&self, side: Side) -> Option<ComponentExportIndex> {
        match side {
            Side::Enqueue => self.enqueue,
            Side::Dequeue => self.dequeue,
        }
    }
}

/// The modules of one engine that are in memory; the least used go when there are too many, and are mapped
/// back from the cache.
pub(super) struct Modules {
    engine: Engine,
    linker: Linker<Host>,
    compatibility: u64,
    cache: Arc<Cache>,
    loaded: RwLock<HashMap<Digest, Arc<Module>>>,
    room: Room,
    uses: AtomicU64,
}

/// What modules may take in memory; the newest may be there however large it is.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) count: usize,
    pub(super) bytes: u64,
}

impl Modules {
    /// For `engine`, with as many in memory as there is `room` for.
    pub(super) fn new(engine: Engine, cache: Arc<Cache>, room: Room) -> wasmtime::Result<Self> {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self {
            linker: linker(&engine)?,
            compatibility: hasher.finish(),
            engine,
            cache,
            loaded: RwLock::default(),
            room,
            uses: AtomicU64::new(0),
        })
    }

    fn key(&self, digest: Digest) -> ArtefactKey {
        ArtefactKey {
            digest,
            engine: self.compatibility,
        }
    }

    /// Whether `digest` is in memory or in the cache.
    pub(super) fn is_ready(&self, digest: Digest) -> bool {
        self.loaded.read().contains_key(&digest) || self.cache.contains(self.key(digest))
    }

    /// The module of `digest` while it is in memory.
    pub(super) fn in_memory(&self, digest: Digest) -> Option<Arc<Module>> {
        let loaded = self.loaded.read();
        let module = loaded.get(&digest)?;
        module
            .last_use
            .store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(module.clone())
    }

    /// The module of `digest`: from memory, or mapped from the cache, or `None` when it must be compiled.
    pub(super) fn get(&self, digest: Digest) -> Option<Arc<Module>> {
        if let Some(module) = self.in_memory(digest) {
            return Some(module);
        }
        let artefact = self.cache.get(self.key(digest))?;
        match self.load(&artefact) {
            Ok(module) => Some(self.keep(digest, module)),
            Err(error) => {
                tracing::warn!(%digest, %error, "a compiled hook could not be loaded");
                // It is compiled anew.
                self.cache.remove(self.key(digest));
                None
            }
        }
    }

    /// Takes what the compile child made of `digest`.
    pub(super) fn add(&self, digest: Digest, artefact: &[u8]) -> wasmtime::Result<Arc<Module>> {
        let module = self.load(artefact)?;
        self.cache.put(self.key(digest), artefact);
        Ok(self.keep(digest, module))
    }

    /// Whether `digest` is in memory.
    pub(super) fn is_loaded(&self, digest: Digest) -> bool {
        self.loaded.read().contains_key(&digest)
    }

    /// How large the compiled form of `digest` is, in bytes, while it is in memory.
    pub(super) fn bytes(&self, digest: Digest) -> Option<u64> {
        self.loaded.read().get(&digest).map(|module| module.bytes)
    }

    /// Takes `digest` out of memory, if it can be mapped back.
    pub(super) fn unload(&self, digest: Digest) {
        if self.cache.contains(self.key(digest)) {
            self.loaded.write().remove(&digest);
        }
    }

    /// Forgets `digest`, also on disk.
    pub(super) fn remove(&self, digest: Digest) {
        self.loaded.write().remove(&digest);
        self.cache.remove(self.key(digest));
    }

    /// How many are on disk, of all engines.
    pub(super) fn cached(&self) -> usize {
        self.cache.count()
    }

    /// How many are in memory.
    pub(super) fn count(&self) -> usize {
        self.loaded.read().len()
    }

    #[expect(
        unsafe_code,
        reason = "wasmtime cannot know who wrote an artefact; the callers do"
    )]
    fn load(&self, artefact: &[u8]) -> wasmtime::Result<Module> {
        // SAFETY: an artefact is native code, so it must be what `Engine::precompile_component` returned. It
        // comes either straight from this binary's own compile child, over a pipe nobody else has, or from the
        // cache, which returns only bytes whose MAC under this node's key holds.
        let component = unsafe { Component::deserialize(&self.engine, artefact)? };
        let export = |side| {
            let instance = component.get_export_index(None, interface(side))?;
            component.get_export_index(Some(&instance), function(side))
        };
        Ok(Module {
            enqueue: export(Side::Enqueue),
            dequeue: export(Side::Dequeue),
            pre: self.linker.instantiate_pre(&component)?,
            last_use: AtomicU64::new(0),
            pace: Pace::default(),
            bytes: artefact.len() as u64,
        })
    }

    fn keep(&self, digest: Digest, module: Module) -> Arc<Module> {
        let module = Arc::new(module);
        module
            .last_use
            .store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let mut loaded = self.loaded.write();
        loaded.insert(digest, module.clone());
        let mut bytes: u64 = loaded.values().map(|module| module.bytes).sum();
        while loaded.len() > self.room.count.max(1) || bytes > self.room.bytes {
            let others = loaded.iter().filter(|(known, _)| **known != digest);
            let oldest = others.min_by_key(|(_, module)| module.last_use.load(Ordering::Relaxed));
            let Some(oldest) = oldest.map(|(digest, _)| *digest) else {
                break;
            };
            bytes -= loaded.remove(&oldest).map_or(0, |module| module.bytes);
        }
        module
    }
}
