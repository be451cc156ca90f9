//! What a process has used, as `/proc` tells.

use std::{fs, io};

/// Processor time and memory of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// Processor time in user and kernel mode, in seconds.
    pub(super) cpu_s: f64,
    /// Resident memory, in bytes.
    pub(super) rss_bytes: u64,
}

impl Usage {
    /// The usage of process `pid` so far.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        Self::read(Some(pid))
    }

    /// The usage of process `pid`, or of this one.
    pub(super) fn read(pid: Option<u32>) -> io::Result<Self> {
        let folder = match pid {
            Some(pid) => format!("/proc/{pid}"),
            None => "/proc/self".to_owned(),
        };
        let stat = fs::read_to_string(format!("{folder}/stat"))?;
        let ticks = cpu_ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
        let statm = fs::read_to_string(format!("{folder}/statm"))?;
        let pages: u64 = statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse().ok())
            .unwrap_or_default();
        Ok(Self {
            cpu_s: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
            rss_bytes: pages * rustix::param::page_size() as u64,
        })
    }

    /// The processor time since `before`, and the memory now.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            cpu_s: self.cpu_s - before.cpu_s,
            rss_bytes: self.rss_bytes,
        }
    }
}

/// Fields 14 and 15 of `stat`, counted after the name, which may itself contain spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some(user + kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 2 3 4 120 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(150));
        assert_eq!(cpu_ticks("7 (short) S 1"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(Usage::read(None).unwrap().rss_bytes > 0);
        assert!(Usage::of(u32::MAX).is_err());
    }
}
