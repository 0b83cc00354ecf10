//! CPU limits and usage, from files as Linux writes them.

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn files(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().unwrap();
    let stat = "7 (my (odd) name) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 9 9 20 0 8 0 100 1 2 3";
    for (path, text) in [("proc/self/stat", stat)].iter().chain(files) {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn detect(root: &TempDir) -> Cpu {
    Cpu::detect_in(root.path(), 8.0).unwrap()
}

#[test]
fn without_a_limit_it_is_the_process_on_the_machine() {
    let unlimited: &[(&str, &str)] = &[
        ("proc/self/cgroup", "0::/user.slice\n"),
        ("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n"),
        ("sys/fs/cgroup/user.slice/cpu.stat", "usage_usec 5\n"),
    ];
    for files in [files(&[]), files(unlimited)] {
        let cpu = detect(&files);
        assert_eq!(cpu.cores(), 8.0);
        assert_eq!(cpu.used(), Some(Duration::from_secs(2)));
    }
}

#[test]
fn a_cgroup_v2_limit_is_measured_by_the_cgroups_usage() {
    let root = files(&[
        ("proc/self/cgroup", "0::/pod/box\n"),
        ("sys/fs/cgroup/pod/cpu.max", "150000 100000\n"),
        (
            "sys/fs/cgroup/pod/cpu.stat",
            "usage_usec 2500000\nuser_usec 1\n",
        ),
        ("sys/fs/cgroup/pod/box/cpu.max", "max 100000\n"),
        ("sys/fs/cgroup/pod/box/cpu.stat", "usage_usec 1\n"),
    ]);
    let cpu = detect(&root);
    assert_eq!(cpu.cores(), 1.5);
    assert_eq!(cpu.used(), Some(Duration::from_millis(2500)));
}

#[test]
fn the_lowest_of_several_limits_counts() {
    let root = files(&[
        ("proc/self/cgroup", "0::/pod/box\n"),
        ("sys/fs/cgroup/pod/cpu.max", "400000 100000\n"),
        ("sys/fs/cgroup/pod/cpu.stat", "usage_usec 9\n"),
        ("sys/fs/cgroup/pod/box/cpu.max", "50000 100000\n"),
        ("sys/fs/cgroup/pod/box/cpu.stat", "usage_usec 3\n"),
    ]);
    let cpu = detect(&root);
    assert_eq!(cpu.cores(), 0.5);
    assert_eq!(cpu.used(), Some(Duration::from_micros(3)));
}

#[test]
fn a_cgroup_v1_limit_is_found_also_where_only_its_mount_is_visible() {
    let membership = "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n0::/\n";
    let root = files(&[
        ("proc/self/cgroup", membership),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "7000000000\n"),
    ]);
    let cpu = detect(&root);
    assert_eq!(cpu.cores(), 2.0);
    assert_eq!(cpu.used(), Some(Duration::from_secs(7)));
}

#[test]
fn a_cgroup_v1_quota_of_minus_one_is_no_limit() {
    let root = files(&[
        ("proc/self/cgroup", "2:cpuacct:/\n1:cpu:/\n"),
        ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
        ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/cpuacct/cpuacct.usage", "7\n"),
    ]);
    assert_eq!(detect(&root).cores(), 8.0);
}

#[test]
fn a_limit_above_the_machine_is_none() {
    let root = files(&[
        ("proc/self/cgroup", "0::/\n"),
        ("sys/fs/cgroup/cpu.max", "1600000 100000\n"),
        ("sys/fs/cgroup/cpu.stat", "usage_usec 3\n"),
    ]);
    assert_eq!(detect(&root).cores(), 8.0);
}

#[test]
fn nothing_to_read_is_no_cpu() {
    let root = TempDir::new().unwrap();
    assert_eq!(Cpu::detect_in(root.path(), 8.0), None);
}

#[cfg(target_os = "linux")]
#[test]
fn this_process_has_used_some() {
    let cpu = Cpu::detect().unwrap();
    assert!(cpu.cores() > 0.0);
    let before = cpu.used().unwrap();
    let mut x = 1u64;
    // Ticks are of 10 ms, so this many of them will be seen to pass.
    while cpu.used().unwrap() < before + Duration::from_millis(20) {
        x = std::hint::black_box(x.wrapping_mul(31));
    }
}

proptest! {
    // Each case writes files.
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_panics(stat in "\\PC{0,80}", cgroup in "[0-9a-z:/,\n]{0,60}", max in "[0-9a-z .-]{0,20}") {
        let root = files(&[
            ("proc/self/stat", &stat),
            ("proc/self/cgroup", &cgroup),
            ("sys/fs/cgroup/cpu.max", &max),
            ("sys/fs/cgroup/cpu.stat", &max),
        ]);
        if let Some(cpu) = Cpu::detect_in(root.path(), 4.0) {
            prop_assert!(cpu.cores() > 0.0 && cpu.cores() <= 4.0);
        }
    }
}
