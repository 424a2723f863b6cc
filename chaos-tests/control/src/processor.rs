//! Time that the processor spent, and memory that is held.

use std::{fs, time::Duration};

use anyhow::Result;
use nix::time::{ClockId, clock_gettime};

/// Of this thread: what else the machine does is none of its cost.
pub(crate) fn thread_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Of this process, all its threads and the kernel's work for them.
pub(crate) fn process_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

/// For how long all threads of this process were ready and had no processor, each of them: the second
/// field of `schedstat` (Linux, `Documentation/scheduler/sched-stats.rst`). What has ended counts no more.
pub(crate) fn process_waiting() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let waited = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    Duration::from_nanos(waited.sum())
}

/// What this process has in memory (`VmRSS`), in MiB.
pub(crate) fn resident_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| {
        let value = line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?;
        value.trim().parse::<f64>().ok()
    });
    kib.unwrap_or(f64::NAN) / 1_024.0
}
