//! Memory: what a run will need, and what there is.

use crate::error::{Error, Result};
use std::fs;

/// The most memory that this process has had resident so far, in bytes; 0 where the system does not tell.
pub fn peak() -> usize {
    status("VmHWM:")
}

/// The peak to be expected when `bytes` more are allocated and used.
pub fn predicted_peak(bytes: usize) -> usize {
    // What threads, the allocator and checkpoints take beside what is counted.
    const REST: usize = 6 << 20;
    peak().max(status("VmRSS:") + bytes + REST)
}

/// Refuses a run that the machine, or this process's control group, has no room for.
pub fn check(predicted: usize) -> Result<()> {
    let Some(limit) = limit() else { return Ok(()) };
    if predicted <= limit {
        return Ok(());
    }
    let gb = |bytes: usize| bytes as f64 / 1e9;
    Err(Error::Usage(format!(
        "training needs {:.1} GB of memory, this machine offers {:.1} GB; a smaller --hidden, --embed or --max-vocab, or \
         --optimizer sgd, needs less",
        gb(predicted),
        gb(limit)
    )))
}

/// The memory of the machine, or of the control group if that is less.
fn limit() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok()?;
    let machine = kilobytes(machine.lines().find(|line| line.starts_with("MemTotal:"))?)?;
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let group = group.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok()).min();
    Some(machine.min(group.unwrap_or(usize::MAX)))
}

fn status(key: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with(key)).and_then(kilobytes).unwrap_or(0)
}

fn kilobytes(line: &str) -> Option<usize> {
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? << 10)
}
