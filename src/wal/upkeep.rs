//! Upkeep: frees segments, makes spares ahead of need, and watches the disk's free space, all off the
//! commit path.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::commit::Shared;
use super::disk::Disk;
use super::replay::Sealed;
use super::segment::{self, FileName, io_error};
use super::stock::Spare;
use super::{WalOpenError, WalOptions};

/// How often the disk's free space is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How much of a spare is written at once, in bytes.
const ZEROS_BYTES: usize = 1 << 20;
/// How much of a spare is left to be synced at once, in bytes: more would make the log's own syncs wait.
const UNSYNCED_BYTES_MAX: u64 = 8 << 20;

/// The one that keeps the stock.
#[derive(Debug)]
pub(super) struct Upkeep {
    shared: Arc<Shared>,
}

impl Upkeep {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Works until the log is closed or fails.
    pub(super) fn run(self) {
        while self.shared.stock.wait_for_work(LOOK_EVERY) {
            if let Err(error) = self.tick() {
                let dir = self.shared.options.dir.display();
                return self
                    .shared
                    .fail(format!("cannot keep the files of {dir}: {error}").into());
            }
        }
    }

    /// Frees what may go and makes the spares there should be, as far as there is room.
    ///
    /// # Errors
    /// When names could not be changed or made durable: what the directory holds is unknown then.
    pub(super) fn tick(&self) -> io::Result<()> {
        // Read again at the next start at the earliest. Memory that the log lets go is what it writes to next: memory
        // that nobody had before costs the kernel much more, on a virtual machine above all.
        for file in self.shared.stock.take_cached() {
            file.forget();
        }
        while let Some(oldest) = self.shared.stock.next_to_free() {
            self.free(oldest)?;
            self.shared.stock.freed();
        }
        let stock = &self.shared.stock;
        let mut short = false;
        while !short && stock.spares() < self.shared.options.spare_segments && !stock.is_closed() {
            let room = self.free_bytes() >= self.needed_for_a_spare();
            short = !room || !self.make_spare()?;
        }
        self.set_starved(short || self.free_bytes() < self.shared.options.disk_free_bytes_min);
        let can_roll = stock.spares() > 0 || self.free_bytes() >= self.shared.options.segment_bytes;
        if stock.has_no_room() && can_roll && stock.may_grow(&self.shared.options) {
            stock.set_no_room(false);
        }
        Ok(())
    }

    /// Refuses growth when the disk is nearly full already.
    pub(super) fn look_at_space(&self) {
        self.set_starved(self.free_bytes() < self.shared.options.disk_free_bytes_min);
    }

    fn set_starved(&self, starved: bool) {
        if starved != self.shared.stock.is_starved() {
            let dir = self.shared.options.dir.display();
            if starved {
                tracing::warn!(%dir, "the disk is nearly full: the log takes no more items");
            } else {
                tracing::info!(%dir, "the disk has room again: the log takes items");
            }
        }
        self.shared.stock.set_starved(starved);
    }

    fn free_bytes(&self) -> u64 {
        // A disk that does not say is taken to have room; writing tells.
        self.shared
            .disk
            .free_bytes(&self.shared.options.dir)
            .unwrap_or(u64::MAX)
    }

    fn needed_for_a_spare(&self) -> u64 {
        self.shared
            .options
            .disk_free_bytes_min
            .saturating_add(self.shared.options.segment_bytes)
    }

    /// Makes a spare of a segment, or removes it. The directory is synced before the next one goes, so that
    /// a log never misses one in the middle, and before the file is written to again.
    fn free(&self, segment: Sealed) -> io::Result<()> {
        let (options, disk, stock) = (&self.shared.options, &self.shared.disk, &self.shared.stock);
        let path = FileName::Segment(segment.number).path(&options.dir);
        if segment.bytes != options.segment_bytes || stock.spares() >= options.spare_segments {
            disk.remove(&path)?;
            return disk.sync_dir(&options.dir);
        }
        let number = stock.number_spare();
        let spare = FileName::Spare(number).path(&options.dir);
        disk.rename(&path, &spare)?;
        disk.sync_dir(&options.dir)?;
        stock.add_spare(Spare {
            number,
            file: disk.open(&spare)?,
        });
        Ok(())
    }

    /// Makes a new spare; false when the disk would not have it or the log was closed meanwhile.
    fn make_spare(&self) -> io::Result<bool> {
        let (options, disk, stock) = (&self.shared.options, &self.shared.disk, &self.shared.stock);
        let number = stock.number_spare();
        let unfinished = FileName::Unfinished(number).path(&options.dir);
        let made = disk.create(&unfinished).and_then(|file| {
            file.allocate(options.segment_bytes)?;
            let finished = self.write_zeros(&*file)?;
            Ok(finished.then_some(file))
        });
        let file = match made {
            Ok(Some(file)) => file,
            Ok(None) => return disk.remove(&unfinished).map(|()| false),
            Err(error) => {
                tracing::warn!(%error, "cannot make a spare segment");
                // What cannot be removed now is removed when the log is opened.
                let _ = disk.remove(&unfinished);
                return Ok(false);
            }
        };
        disk.rename(&unfinished, &FileName::Spare(number).path(&options.dir))?;
        disk.sync_dir(&options.dir)?;
        stock.add_spare(Spare { number, file });
        Ok(true)
    }

    /// Writes the whole file once: blocks that were never written sync slower. False when the log was closed
    /// meanwhile.
    fn write_zeros(&self, file: &dyn super::disk::DiskFile) -> io::Result<bool> {
        let zeros = vec![0; ZEROS_BYTES];
        let (mut at, mut synced) = (0, 0);
        while at < self.shared.options.segment_bytes {
            if self.shared.stock.is_closed() {
                return Ok(false);
            }
            let len = (self.shared.options.segment_bytes - at).min(zeros.len() as u64);
            file.write_all_at(&zeros[..len as usize], at)?;
            at += len;
            if at - synced >= UNSYNCED_BYTES_MAX {
                file.sync()?;
                synced = at;
            }
        }
        file.sync()?;
        Ok(true)
    }
}

/// The spares an earlier process left, and the highest number any has; what it left unfinished is removed.
pub(super) fn adopt_spares(disk: &dyn Disk, options: &WalOptions) -> Result<(Vec<Spare>, u64), WalOpenError> {
    let (mut spares, mut last) = (Vec::new(), 0);
    for name in segment::list(disk, &options.dir)? {
        let path = name.path(&options.dir);
        match name {
            FileName::Segment(_) => {}
            FileName::Spare(number) => {
                last = last.max(number);
                let file = disk
                    .open(&path)
                    .map_err(|source| io_error("open", &path, source))?;
                let bytes = file.len().map_err(|source| io_error("read", &path, source))?;
                if bytes == options.segment_bytes && spares.len() < options.spare_segments {
                    spares.push(Spare { number, file });
                } else {
                    disk.remove(&path)
                        .map_err(|source| io_error("remove", &path, source))?;
                }
            }
            FileName::Unfinished(number) => {
                last = last.max(number);
                disk.remove(&path)
                    .map_err(|source| io_error("remove", &path, source))?;
            }
        }
    }
    Ok((spares, last))
}
