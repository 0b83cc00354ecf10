//! What the kernel says of a process, and what it allows one.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process's limit of open files as far as it goes, and says
/// whether `needed` fit.
///
/// # Errors
/// If they do not.
pub(crate) fn raise_open_files(needed: usize) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")?;
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    ensure!(
        allowed >= needed as u64,
        "{needed} open files needed, {allowed} allowed; raise `ulimit -Hn` or ask for fewer streams"
    );
    Ok(())
}

/// Memory of a process, in kB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Resident and its own: no file, no sharing.
    pub(crate) anonymous: u64,
    /// All that is resident.
    pub(crate) resident: u64,
    /// The most that was resident since [`forget_peak`].
    pub(crate) peak: u64,
}

/// Reads the memory of process `pid`.
///
/// # Errors
/// If there is no such process.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_ascii_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("{path} has no {name}"))
    };
    Ok(Memory {
        anonymous: field("RssAnon:")?,
        resident: field("VmRSS:")?,
        peak: field("VmHWM:")?,
    })
}

/// Makes [`Memory::peak`] of `pid` what is resident now.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "5").with_context(|| path.clone())
}

/// How many files and sockets `pid` holds open.
///
/// # Errors
/// If there is no such process.
pub(crate) fn open_files(pid: u32) -> Result<usize> {
    let path = format!("/proc/{pid}/fd");
    Ok(fs::read_dir(&path).with_context(|| path.clone())?.count())
}

/// CPU time that the threads of `pid` have used, those that have ended not
/// counted: finer than the ticks of `/proc/PID/stat`.
///
/// # Errors
/// If there is no such process, or the kernel does not count.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&path).with_context(|| path.clone())?;
    let mut nanos = 0;
    for thread in threads {
        let path = thread?.path().join("schedstat");
        // A thread may have ended since it was listed.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let first = text.split_ascii_whitespace().next().unwrap_or_default();
        nanos += first
            .parse::<u64>()
            .with_context(|| format!("{} begins with `{first}`", path.display()))?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// CPU time of the whole machine since it started: used, and there was.
///
/// # Errors
/// If `/proc/stat` cannot be read.
pub(crate) fn machine_cpu() -> Result<(Duration, Duration)> {
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line
        .split_ascii_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|field| field.parse().ok())
        .collect();
    ensure!(ticks.len() == 8, "/proc/stat begins with `{line}`");
    let total: u64 = ticks.iter().sum();
    // Fields 4 and 5 are idle and waiting for a disk.
    let used = total - ticks[3] - ticks[4];
    // Linux shows user space 100 ticks a second on every architecture.
    let tick = |ticks: u64| Duration::from_millis(10 * ticks);
    Ok((tick(used), tick(total)))
}

/// How often a listening socket of this machine had no room in its queue for a
/// client, since it started. The client asks again after a second.
///
/// # Errors
/// If `/proc/net/netstat` cannot be read.
pub(crate) fn listen_overflows() -> Result<u64> {
    let path = "/proc/net/netstat";
    let text = fs::read_to_string(path).context(path)?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = lines.next().zip(lines.next()).context(path)?;
    let mut fields = names.split(' ').zip(values.split(' '));
    let found = fields.find(|(name, _)| *name == "ListenOverflows");
    let (_, value) = found.with_context(|| format!("{path} has no ListenOverflows"))?;
    Ok(value.parse()?)
}
