//! Memory as the operating system counts it: what this process uses, and what it may use.

use std::fs;
use std::path::{Path, PathBuf};

/// Peak resident memory of this process so far, in bytes; 0 if the system does not report it.
pub fn peak() -> usize {
    status("VmHWM:")
}

/// Resident memory of this process, in bytes; 0 if the system does not report it.
pub fn resident() -> usize {
    status("VmRSS:")
}

/// The memory that this process may use: that of the machine, of its control group or of its limits, whichever is
/// smallest.
pub fn room() -> Option<usize> {
    [machine("MemTotal:"), group(), limit_of("Max address space"), limit_of("Max data size")]
        .into_iter()
        .flatten()
        .min()
}

/// The memory that is free at present, including what this process already uses.
pub fn free() -> Option<usize> {
    machine("MemAvailable:").map(|free| free.saturating_add(resident()))
}

/// The memory of the machine: total (`MemTotal:`) or available (`MemAvailable:`).
fn machine(key: &str) -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    kilobytes(text.lines().find(|line| line.starts_with(key))?)
}

/// The smallest limit of this process's control group and its ancestors, for either version of control groups.
fn group() -> Option<usize> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            all if all.split(',').any(|name| name == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => return None,
        };
        Some(Path::new(path).ancestors().map(|group| Path::new(root).join(group).join(file)).collect::<Vec<PathBuf>>())
    });
    // Inside a container the path may be that of the host, with the limit at the root.
    limits.flatten().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok()).min()
}

/// The memory that a limit on address space (`ulimit -v`, `ulimit -d`) leaves: it also counts unused addresses.
fn limit_of(name: &str) -> Option<usize> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let soft =
        text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse::<usize>().ok()?;
    Some(soft.saturating_sub(status("VmSize:").saturating_sub(resident())))
}

fn status(key: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with(key)).and_then(kilobytes).unwrap_or(0)
}

fn kilobytes(line: &str) -> Option<usize> {
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? << 10)
}
