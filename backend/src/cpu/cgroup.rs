//! The CPU limit of the cgroup that this process is in.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Cpu, Usage};

/// Where each version is mounted, below the root. A hybrid system has v2 at
/// `unified`, without controllers.
const V2: &str = "sys/fs/cgroup";
const V1_CPU: [&str; 3] = [
    "sys/fs/cgroup/cpu",
    "sys/fs/cgroup/cpu,cpuacct",
    "sys/fs/cgroup/cpuacct,cpu",
];
const V1_CPUACCT: [&str; 3] = [
    "sys/fs/cgroup/cpuacct",
    "sys/fs/cgroup/cpu,cpuacct",
    "sys/fs/cgroup/cpuacct,cpu",
];

/// The lowest CPU limit among this process's cgroup and those above it, with the
/// usage it is a limit of. `None` if there is no limit.
pub(super) fn tightest(root: &Path) -> Option<Cpu> {
    let membership = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = v2(root, &membership).into_iter();
    let limits = limits.chain(v1(root, &membership));
    limits.min_by(|a, b| a.cores.total_cmp(&b.cores))
}

fn v2(root: &Path, membership: &str) -> Vec<Cpu> {
    let Some(path) = membership.lines().find_map(|line| line.strip_prefix("0::")) else {
        return Vec::new();
    };
    let limits = upwards(&root.join(V2), path).into_iter().filter_map(|at| {
        let max = fs::read_to_string(at.join("cpu.max")).ok()?;
        let (quota, period) = max.trim().split_once(' ')?;
        Some(Cpu {
            // `max` for no limit is no number.
            cores: cores(quota.parse().ok()?, period.parse().ok()?)?,
            usage: Usage::CgroupV2(at.join("cpu.stat")),
        })
    });
    limits.collect()
}

fn v1(root: &Path, membership: &str) -> Vec<Cpu> {
    let (Some(cpu), Some(cpuacct)) = (
        of_controller(membership, "cpu"),
        of_controller(membership, "cpuacct"),
    ) else {
        return Vec::new();
    };
    let mut limits = Vec::new();
    for mount in V1_CPU.map(|mount| root.join(mount)) {
        for at in upwards(&mount, cpu) {
            let number = |file: &str| -> Option<f64> {
                let text = fs::read_to_string(at.join(file)).ok()?;
                text.trim().parse().ok()
            };
            // A quota of -1 is none.
            let quota = number("cpu.cfs_quota_us").filter(|quota| *quota > 0.0);
            let (Some(quota), Some(period)) = (quota, number("cpu.cfs_period_us")) else {
                continue;
            };
            // The same group as the accounting controller has it.
            let below = at.strip_prefix(&mount).unwrap_or_else(|_| Path::new(""));
            let group = if cpu == cpuacct {
                below
            } else {
                Path::new(cpuacct.trim_start_matches('/'))
            };
            let usages = V1_CPUACCT.map(|m| root.join(m).join(group).join("cpuacct.usage"));
            let usage = usages.into_iter().find(|usage| usage.exists());
            limits.extend(usage.and_then(|usage| {
                Some(Cpu {
                    usage: Usage::CgroupV1(usage),
                    cores: cores(quota, period)?,
                })
            }));
        }
    }
    limits
}

/// The path of the v1 group that `controller` has this process in.
fn of_controller<'a>(membership: &'a str, controller: &str) -> Option<&'a str> {
    membership.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let mut controllers = parts.next()?.split(',');
        let path = parts.next()?;
        controllers.any(|c| c == controller).then_some(path)
    })
}

/// The group `path` of a mount and all above it. In a container the path may be
/// one of the host, of which only the mount itself is to be seen.
fn upwards(mount: &Path, path: &str) -> Vec<PathBuf> {
    let group = mount.join(path.trim_start_matches('/'));
    let groups = group.ancestors().take_while(|at| at.starts_with(mount));
    groups.map(Path::to_owned).collect()
}

fn cores(quota: f64, period: f64) -> Option<f64> {
    let cores = quota / period;
    (cores.is_finite() && cores > 0.0).then_some(cores)
}
