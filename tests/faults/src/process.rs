//! Signals to processes of ours.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

/// Sends a signal; a process that has ended meanwhile does not mind.
pub fn signal(process: &Child, signal: Signal) {
    if let Some(id) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(id, signal);
    }
}

/// Whether it stands still: stopped by a signal.
pub fn is_stopped(process: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap_or_default();
    // The name before it stands in parentheses, and may hold any of these.
    status.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}
