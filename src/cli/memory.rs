//! Memory: what a run will need, and what there is.

use crate::error::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The most memory that this process has had resident so far, in bytes; 0 where the system does not tell.
pub fn peak() -> usize {
    status("VmHWM:")
}

/// The peak to be expected when `bytes` more are allocated and used.
pub fn predicted_peak(bytes: usize) -> usize {
    // What threads, the allocator and checkpoints take beside what is counted, as measured.
    const REST: usize = 2 << 20;
    peak().max(status("VmRSS:") + bytes + REST)
}

/// Refuses a run that the machine, this process's control group or its limits have no room for.
pub fn check(predicted: usize) -> Result<()> {
    let room =
        [machine(), group(), limit_of("Max address space"), limit_of("Max data size")].into_iter().flatten().min();
    let Some(room) = room.filter(|&room| room < predicted) else { return Ok(()) };
    let gb = |bytes: usize| bytes as f64 / 1e9;
    Err(Error::Usage(format!(
        "training needs {:.2} GB of memory, this machine offers {:.2} GB; a smaller --hidden, --embed or --max-vocab, or \
         --optimizer sgd, needs less",
        gb(predicted),
        gb(room)
    )))
}

/// The memory of the machine.
fn machine() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    kilobytes(text.lines().find(|line| line.starts_with("MemTotal:"))?)
}

/// The least limit of this process's control group and of those that it is part of.
fn group() -> Option<usize> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let groups = Path::new(path).ancestors().map(|group| Path::new("/sys/fs/cgroup").join(group).join("memory.max"));
    let first = PathBuf::from("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    groups.chain([first]).filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok()).min()
}

/// What a limit on addresses (`ulimit -v`, `ulimit -d`) leaves to memory: they also count what is not used.
fn limit_of(name: &str) -> Option<usize> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let soft =
        text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse::<usize>().ok()?;
    Some(soft.saturating_sub(status("VmSize:").saturating_sub(status("VmRSS:"))))
}

fn status(key: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with(key)).and_then(kilobytes).unwrap_or(0)
}

fn kilobytes(line: &str) -> Option<usize> {
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? << 10)
}
