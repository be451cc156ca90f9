//! The log's only way to a disk: the real one, and one that can lose power.
//!
//! What the log relies on, and no more: bytes are durable after [`DiskFile::sync`] returned `Ok`, names after
//! [`Disk::sync_dir`] did; before that, any subset of the written 512-byte sectors and of the changed names
//! may survive a loss of power, in any order; a sector is written whole or not at all; a failed sync says
//! nothing of what is durable, not even when it is tried again.

mod real;
mod sim;

use std::any::Any;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

pub use real::RealDisk;
pub use sim::{Crash, SimDisk};

/// A disk that holds a log's directory.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes a directory and those above it, unless they are there, and makes their names durable.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the directory for this process until the guard is dropped or the process ends;
    /// [`io::ErrorKind::WouldBlock`] when another holds it.
    fn lock(&self, dir: &Path) -> io::Result<DirLock>;
    /// The names of the directory's files.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a file, emptying one that is there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name in the same directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be written below `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// A number no one can guess, from a simulated disk the next of its seed.
    fn random(&self) -> u64;
    /// Time since some fixed point, to measure syncs by.
    fn elapsed(&self) -> Duration;
}

/// An open file.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
    /// Reads at `offset` until `buffer` is full or the file ends; returns how many bytes were read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file at least `len` bytes long and reserves their space, so that writing there cannot run
    /// out of it; new bytes read as zero.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes everything written so far durable.
    fn sync(&self) -> io::Result<()>;
    /// Says that what was synced will not be read soon, so that it need not be kept in memory. A hint: nothing but speed
    /// depends on it.
    fn forget(&self) {}
}

/// Holds a directory for this process while it lives.
pub struct DirLock {
    _held: Box<dyn Any + Send + Sync>,
}

impl DirLock {
    /// A guard whose drop releases the directory by dropping `held`.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self {
            _held: Box::new(held),
        }
    }
}

impl fmt::Debug for DirLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DirLock")
    }
}
