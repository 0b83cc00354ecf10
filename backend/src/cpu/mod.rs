//! How much CPU this process may use, and how much it used.
//!
//! Where a cgroup sets a limit (a container with a CPU limit does), both are the
//! cgroup's: at its limit it is throttled, whoever in it used the time. Where
//! none does, they are the process's own and the machine's. Linux only.

mod cgroup;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Ticks in a second in `/proc/*/stat`: part of Linux's ABI on every platform
/// that Rust's std runs on.
const TICKS_PER_SECOND: u64 = 100;

/// Where to read what.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cpu {
    usage: Usage,
    /// How many CPUs can be used at once; a fraction where a limit says so.
    cores: f64,
}

/// A file that counts CPU time up.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Usage {
    /// `cpu.stat` of a cgroup v2.
    CgroupV2(PathBuf),
    /// `cpuacct.usage` of a cgroup v1.
    CgroupV1(PathBuf),
    /// `/proc/self/stat`.
    Process(PathBuf),
}

impl Cpu {
    /// This process's. `None` where there is nothing to read.
    pub(crate) fn detect() -> Option<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // usize to f64: nobody has 2⁵³ CPUs.
        Self::detect_in(Path::new("/"), cores as f64)
    }

    /// The same of the files below `root`, on a machine with so many CPUs.
    fn detect_in(root: &Path, cores: f64) -> Option<Self> {
        if let Some(limited) = cgroup::tightest(root)
            && limited.cores < cores
            && limited.usage.read().is_some()
        {
            return Some(limited);
        }
        let process = Self {
            usage: Usage::Process(root.join("proc/self/stat")),
            cores,
        };
        process.usage.read().is_some().then_some(process)
    }

    /// CPU time used so far. Only differences mean something.
    pub(crate) fn used(&self) -> Option<Duration> {
        self.usage.read()
    }

    /// How many CPUs can be used at once. Above 0.
    pub(crate) fn cores(&self) -> f64 {
        self.cores
    }
}

impl Usage {
    fn read(&self) -> Option<Duration> {
        match self {
            Self::CgroupV2(path) => {
                let stat = fs::read_to_string(path).ok()?;
                let mut lines = stat.lines();
                let usage = lines.find_map(|line| line.strip_prefix("usage_usec "))?;
                Some(Duration::from_micros(usage.trim().parse().ok()?))
            }
            Self::CgroupV1(path) => {
                let usage = fs::read_to_string(path).ok()?;
                Some(Duration::from_nanos(usage.trim().parse().ok()?))
            }
            Self::Process(path) => process_time(&fs::read_to_string(path).ok()?),
        }
    }
}

/// User and system time in the text of `/proc/self/stat`.
fn process_time(stat: &str) -> Option<Duration> {
    // The second field is the program's name in parentheses, and may hold
    // anything; what follows the last parenthesis are fields 3 and up.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(14 - 3);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = user.checked_add(system)?;
    Some(Duration::from_millis(
        ticks.checked_mul(1000 / TICKS_PER_SECOND)?,
    ))
}

#[cfg(test)]
mod tests;
