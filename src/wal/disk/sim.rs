//! A disk in memory that loses power, tears writes, fails syncs and fills up, the same way for the same
//! seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use super::{DirLock, Disk, DiskFile};

const SECTOR_BYTES: u64 = 512;

/// What survives of what was not synced when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Nothing.
    LoseAll,
    /// Everything.
    KeepAll,
    /// Of the last write a leading part, cut at a sector; everything before it.
    TornLastWrite,
    /// A random choice of sectors, lengths and names.
    Random,
}

/// A simulated disk. Clones are the same disk; [`SimDisk::fork`] makes an independent one.
///
/// It is stricter than most real disks: whatever is not synced may be lost in any combination, a failed sync
/// drops what it should have written, and names are no safer than bytes.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rng: SmallRng,
    files: BTreeMap<u64, SimFile>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since their directory was synced, in order.
    name_changes: Vec<NameChange>,
    locks: BTreeMap<PathBuf, Arc<AtomicBool>>,
    last_write: Option<LastWrite>,
    /// Counts restarts: handles of an earlier life are dead.
    life: u64,
    next_file: u64,
    space_bytes: u64,
    syncs_until_error: Option<u64>,
    writes_until_error: Option<u64>,
    elapsed_us: u64,
    snapshots: Option<Vec<SimDisk>>,
}

#[derive(Debug, Clone, Default)]
struct SimFile {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: BTreeSet<u64>,
}

#[derive(Debug, Clone)]
struct NameChange {
    path: PathBuf,
    /// The file the path means afterwards.
    file: Option<u64>,
    /// The name that goes in the same step, of a rename.
    gone: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
struct LastWrite {
    file: u64,
    first_sector: u64,
    sectors: u64,
}

impl SimDisk {
    /// An empty disk without limits or faults, whose randomness comes from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: SmallRng::seed_from_u64(seed),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            locks: BTreeMap::new(),
            last_write: None,
            life: 0,
            next_file: 0,
            space_bytes: u64::MAX,
            syncs_until_error: None,
            writes_until_error: None,
            elapsed_us: 0,
            snapshots: None,
        })))
    }

    /// An independent disk in the same state, with its own randomness from `seed` and nobody using it.
    pub fn fork(&self, seed: u64) -> Self {
        let mut state = self.0.lock().copy();
        state.rng = SmallRng::seed_from_u64(seed);
        Self(Arc::new(Mutex::new(state)))
    }

    /// Cuts the power and turns it on again: every handle and lock of before is dead, and of what was not
    /// synced survives what `crash` says.
    pub fn crash(&self, crash: Crash) {
        self.0.lock().crash(crash);
    }

    /// Ends the process but not the machine: every handle and lock of before is dead, nothing is lost, and
    /// nothing becomes durable either.
    pub fn kill(&self) {
        self.0.lock().restart();
    }

    /// From now on, every step that changes the disk leaves a copy of the disk as it is after the step.
    pub fn record_snapshots(&self) {
        self.0.lock().snapshots = Some(Vec::new());
    }

    /// How many copies were left so far.
    pub fn snapshot_count(&self) -> usize {
        self.0.lock().snapshots.as_ref().map_or(0, Vec::len)
    }

    /// Takes the copies and leaves no more.
    pub fn take_snapshots(&self) -> Vec<Self> {
        self.0.lock().snapshots.take().unwrap_or_default()
    }

    /// Makes the `n`th sync of a file or a directory from now on fail, 1 being the next.
    pub fn fail_sync(&self, n: u64) {
        self.0.lock().syncs_until_error = Some(n);
    }

    /// Makes the `n`th write from now on fail, 1 being the next.
    pub fn fail_write(&self, n: u64) {
        self.0.lock().writes_until_error = Some(n);
    }

    /// Lets files take `bytes` bytes in all; what is there already stays.
    pub fn set_space(&self, bytes: u64) {
        self.0.lock().space_bytes = bytes;
    }

    /// Bytes that all files take.
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().used_bytes()
    }

    /// Changes a durable file behind the log's back: `change` gets its bytes.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.0.lock();
        let file = state.named(path)?;
        let file = state.files.entry(file).or_default();
        change(&mut file.bytes);
        file.durable = file.bytes.clone();
        file.unsynced.clear();
        Ok(())
    }

    /// The bytes of a file as a reader sees them.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.0.lock();
        let file = state.named(path)?;
        state
            .files
            .get(&file)
            .map(|file| file.bytes.clone())
            .ok_or_else(not_found)
    }

    fn handle(&self, file: u64, life: u64) -> Box<dyn DiskFile> {
        Box::new(SimHandle {
            disk: self.clone(),
            file,
            life,
        })
    }
}

impl State {
    /// The same disk for someone else: without the locks, and without the snapshots, which would contain
    /// each other.
    fn copy(&self) -> Self {
        let mut copy = Self {
            rng: self.rng.clone(),
            files: self.files.clone(),
            names: self.names.clone(),
            durable_names: self.durable_names.clone(),
            name_changes: self.name_changes.clone(),
            locks: BTreeMap::new(),
            snapshots: None,
            ..*self
        };
        copy.restart();
        copy
    }

    /// Called after every step that changed something.
    fn changed(&mut self) {
        if self.snapshots.is_some() {
            let copy = SimDisk(Arc::new(Mutex::new(self.copy())));
            self.snapshots.get_or_insert_default().push(copy);
        }
    }

    fn restart(&mut self) {
        self.life += 1;
        self.locks.clear();
        self.syncs_until_error = None;
        self.writes_until_error = None;
    }

    fn crash(&mut self, crash: Crash) {
        self.restart();
        let torn = self.last_write.take().filter(|_| crash == Crash::TornLastWrite);
        let kept_of_torn = torn.map_or(0, |write| self.rng.random_range(0..=write.sectors));
        for (&number, file) in &mut self.files {
            let rng = &mut self.rng;
            file.crash(|sector| match crash {
                Crash::LoseAll => false,
                Crash::KeepAll => true,
                Crash::Random => rng.random(),
                Crash::TornLastWrite => match torn {
                    Some(write) if write.file == number && sector >= write.first_sector => {
                        sector < write.first_sector + kept_of_torn
                    }
                    _ => true,
                },
            });
        }
        for change in std::mem::take(&mut self.name_changes) {
            let kept = match crash {
                Crash::LoseAll => false,
                Crash::KeepAll | Crash::TornLastWrite => true,
                Crash::Random => self.rng.random(),
            };
            if kept {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
    }

    fn named(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(not_found)
    }

    fn rename_entry(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
        self.changed();
    }

    fn used_bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes.len() as u64).sum()
    }

    fn reserve(&self, file: u64, len: u64) -> io::Result<()> {
        let now = self.files.get(&file).map_or(0, |file| file.bytes.len() as u64);
        let more = len.saturating_sub(now);
        if more > 0 && self.used_bytes().saturating_add(more) > self.space_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn countdown(counter: &mut Option<u64>) -> io::Result<()> {
        match counter {
            Some(1) => {
                *counter = None;
                Err(io::Error::other("simulated input/output error"))
            }
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        match self.file {
            Some(file) => names.insert(self.path.clone(), file),
            None => names.remove(&self.path),
        };
    }
}

impl SimFile {
    fn sync(&mut self) {
        self.durable = self.bytes.clone();
        self.unsynced.clear();
    }

    /// Falls back to what is durable, except for the unsynced sectors that `keep` keeps.
    fn crash(&mut self, mut keep: impl FnMut(u64) -> bool) {
        for sector in std::mem::take(&mut self.unsynced) {
            if !keep(sector) {
                continue;
            }
            let start = ((sector * SECTOR_BYTES) as usize).min(self.bytes.len());
            let end = (start + SECTOR_BYTES as usize).min(self.bytes.len());
            if self.durable.len() < end {
                self.durable.resize(end, 0);
            }
            self.durable[start..end].copy_from_slice(&self.bytes[start..end]);
        }
        self.bytes = self.durable.clone();
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// Releases a simulated lock when dropped.
struct SimLock(Arc<AtomicBool>);

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, dir: &Path) -> io::Result<DirLock> {
        let held = self.0.lock().locks.entry(dir.to_owned()).or_default().clone();
        if held.swap(true, Ordering::AcqRel) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(DirLock::new(SimLock(held)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.0.lock();
        let file = state.next_file;
        state.next_file += 1;
        state.files.insert(file, SimFile::default());
        state.rename_entry(NameChange {
            path: path.to_owned(),
            file: Some(file),
            gone: None,
        });
        Ok(self.handle(file, state.life))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.0.lock();
        Ok(self.handle(state.named(path)?, state.life))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let file = Some(state.named(from)?);
        state.rename_entry(NameChange {
            path: to.to_owned(),
            file,
            gone: Some(from.to_owned()),
        });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let file = state.named(path)?;
        state.rename_entry(NameChange {
            path: path.to_owned(),
            file: None,
            gone: None,
        });
        // Space comes back at once, as it does on a real disk when nobody has the file open.
        if !state.durable_names.values().any(|&named| named == file) {
            state.files.remove(&file);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        State::countdown(&mut state.syncs_until_error)?;
        let (synced, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut state.name_changes)
            .into_iter()
            .partition(|change| change.path.parent() == Some(dir));
        state.name_changes = rest;
        for change in synced {
            change.apply(&mut state.durable_names);
        }
        let named: BTreeSet<u64> = state
            .names
            .values()
            .chain(state.durable_names.values())
            .copied()
            .collect();
        state.files.retain(|file, _| named.contains(file));
        state.changed();
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.0.lock();
        Ok(state.space_bytes.saturating_sub(state.used_bytes()))
    }

    fn random(&self) -> u64 {
        self.0.lock().rng.next_u64()
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.0.lock().elapsed_us)
    }
}

/// An open file of one life of the disk.
#[derive(Debug)]
struct SimHandle {
    disk: SimDisk,
    file: u64,
    life: u64,
}

impl SimHandle {
    fn with<T>(&self, act: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.0.lock();
        if state.life != self.life || !state.files.contains_key(&self.file) {
            return Err(io::Error::other(
                "the file was lost with the machine it was opened on",
            ));
        }
        act(&mut state, self.file)
    }
}

impl DiskFile for SimHandle {
    fn len(&self) -> io::Result<u64> {
        self.with(|state, file| Ok(state.files.get(&file).map_or(0, |file| file.bytes.len() as u64)))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state, file| {
            let bytes = state.files.get(&file).map_or(&[][..], |file| &file.bytes);
            let rest = bytes.get(offset as usize..).unwrap_or_default();
            let read = rest.len().min(buffer.len());
            buffer[..read].copy_from_slice(&rest[..read]);
            Ok(read)
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|state, number| {
            State::countdown(&mut state.writes_until_error)?;
            let end = offset + bytes.len() as u64;
            state.reserve(number, end)?;
            let first_sector = offset / SECTOR_BYTES;
            let sectors = end.div_ceil(SECTOR_BYTES) - first_sector;
            let file = state.files.entry(number).or_default();
            if (file.bytes.len() as u64) < end {
                file.bytes.resize(end as usize, 0);
            }
            file.bytes[offset as usize..end as usize].copy_from_slice(bytes);
            file.unsynced.extend(first_sector..first_sector + sectors);
            state.last_write = Some(LastWrite {
                file: number,
                first_sector,
                sectors,
            });
            state.changed();
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.with(|state, number| {
            state.reserve(number, len)?;
            let file = state.files.entry(number).or_default();
            let before = file.bytes.len() as u64;
            if before < len {
                file.bytes.resize(len as usize, 0);
                file.unsynced
                    .extend(before / SECTOR_BYTES..len.div_ceil(SECTOR_BYTES));
            }
            state.changed();
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, number| {
            state.elapsed_us += 100;
            let outcome = State::countdown(&mut state.syncs_until_error);
            if let Some(file) = state.files.get_mut(&number) {
                match &outcome {
                    Ok(()) => file.sync(),
                    // As Linux does: what could not be written counts as clean and is never tried again.
                    Err(_) => file.unsynced.clear(),
                }
            }
            state.last_write = None;
            state.changed();
            outcome
        })
    }
}
