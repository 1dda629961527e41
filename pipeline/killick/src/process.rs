//! This process: what it used, and how it is told to stop.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// CPU time of all threads since the process began.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bytes of the process that are in RAM, where the system says it.
pub fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    resident.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1_024)
}

/// Cancels `drain` at the first SIGINT or SIGTERM; ends the process at the second, as if it had been killed: what was
/// accepted is safe.
///
/// # Errors
/// The handlers cannot be set up.
pub fn drain_at_signals(runtime: &tokio::runtime::Handle, drain: CancellationToken) -> Result<()> {
    let _inside = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).context("no handler for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("no handler for SIGTERM")?;
    runtime.spawn(async move {
        for is_first in [true, false] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if is_first {
                tracing::warn!("draining; a second signal ends at once, and nothing is lost");
                drain.cancel();
            } else {
                std::process::exit(130);
            }
        }
    });
    Ok(())
}

/// Lets time pass, until `stop` is cancelled.
pub fn pause(span: Duration, stop: &CancellationToken) {
    let end = Instant::now() + span;
    while !stop.is_cancelled() && Instant::now() < end {
        std::thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(100)));
    }
}
