//! What a piece of work uses: CPU time, and what it asks the allocator for.

use std::time::Duration;

use anyhow::{Result, anyhow};
use rustix::time::{ClockId, clock_gettime};
use tikv_jemalloc_ctl::{Access as _, AsName as _, epoch, stats};

/// CPU time of this thread.
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Does work, and adds the CPU time that this thread took for it.
pub fn timed<T>(sum: &mut Duration, work: impl FnOnce() -> T) -> T {
    let begun = thread_cpu();
    let done = work();
    *sum += thread_cpu() - begun;
    done
}

/// What was asked of the allocator.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allocated {
    /// How often.
    pub times: u64,
    /// For how many bytes.
    pub bytes: u64,
}

/// Does work on a thread of its own, whose end brings its counts to the allocator's; nothing else should be at work meanwhile.
///
/// # Errors
/// The allocator counts nothing, or the work panicked.
pub fn counted<T: Send>(work: impl FnOnce() -> T + Send) -> Result<(T, Allocated)> {
    let before = requests()?;
    let (done, bytes) = std::thread::scope(|scope| {
        let count = || -> Result<_> {
            let allocated = tikv_jemalloc_ctl::thread::allocatedp::read().map_err(uncounted)?;
            let before = allocated.get();
            let done = work();
            Ok((done, allocated.get() - before))
        };
        scope.spawn(count).join().map_err(|_| anyhow!("what was measured panicked"))?
    })?;
    Ok((done, Allocated { times: requests()?.saturating_sub(before), bytes }))
}

/// Allocations of all threads that have ended, and of others now and then.
fn requests() -> Result<u64> {
    epoch::advance().map_err(uncounted)?;
    // 4096 stands for all arenas.
    let small: u64 = b"stats.arenas.4096.small.nrequests\0".name().read().map_err(uncounted)?;
    let large: u64 = b"stats.arenas.4096.large.nrequests\0".name().read().map_err(uncounted)?;
    Ok(small + large)
}

/// Bytes that are allocated now.
///
/// # Errors
/// The allocator counts nothing.
pub fn allocated() -> Result<u64> {
    epoch::advance().map_err(uncounted)?;
    Ok(stats::allocated::read().map_err(uncounted)? as u64)
}

fn uncounted(error: tikv_jemalloc_ctl::Error) -> anyhow::Error {
    anyhow!("the allocator does not say what was asked of it: {error}")
}

/// The value in the middle; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Nanoseconds of each of `count`.
pub fn nanos_each(time: Duration, count: usize) -> f64 {
    time.as_nanos() as f64 / count.max(1) as f64
}

/// How many of `count` fit into a second.
pub fn a_second(time: Duration, count: usize) -> f64 {
    count as f64 / time.as_secs_f64().max(f64::EPSILON)
}
