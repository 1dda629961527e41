//! Points where tests let a process die or stand still, and bugs that they plant to see whether they are caught.
//! Without the feature `plant` there is nothing of it in the program.
//!
//! `FAILPOINTS="before_commit=5*off->1*return(exit)"` lets a process die when it comes to that point for the sixth time;
//! `return(stop)` stops it there (SIGSTOP), `sleep(MILLISECONDS)` lets it sleep. `FAILPOINTS="NAME=return"` plants a bug.

use std::sync::Arc;

use rdkafka::consumer::ConsumerGroupMetadata;

use crate::settings::Settings;

/// A generation of a group.
type Metadata = Arc<ConsumerGroupMetadata>;

/// Comes to a point.
#[cfg(feature = "plant")]
pub fn point(name: &str) {
    use rustix::process::{Signal, getpid, kill_process};
    begin();
    let signal = fail::eval(name, |what| match what.as_deref() {
        Some("exit") => Some(Signal::KILL),
        Some("stop") => Some(Signal::STOP),
        _ => None,
    });
    if let Some(signal) = signal.flatten() {
        tracing::warn!(name, ?signal, "a planted point");
        // Always possible to oneself.
        let _ = kill_process(getpid(), signal);
    }
}

/// Whether a bug is planted.
#[cfg(feature = "plant")]
pub fn has(bug: &str) -> bool {
    begin();
    fail::eval(bug, |_| true).is_some()
}

#[cfg(feature = "plant")]
fn begin() {
    static BEGUN: std::sync::Once = std::sync::Once::new();
    // For the life of the process: its end would take the points away.
    BEGUN.call_once(|| std::mem::forget(fail::FailScenario::setup()));
}

/// The generation under which offsets are committed; with the bug `metadata_of_nobody` that of a consumer which never
/// joined, and so nobody's: brokers take it from anyone.
#[cfg(feature = "plant")]
pub fn metadata(own: Option<Metadata>, settings: &Settings, member: &str) -> Option<Metadata> {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    if !has("metadata_of_nobody") {
        return own;
    }
    let names = crate::names::Names::new(&settings.prefix);
    let mut groups = killick_stages::route::ROUTE.iter().map(|hop| names.group(hop.stage));
    let group = groups.find(|group| member.starts_with(group))?;
    let config = crate::client::consumer_config(settings, member, &group).ok()?;
    let nobody: BaseConsumer = config.create().ok()?;
    nobody.group_metadata().map(Arc::new)
}

/// The generation under which offsets are committed.
#[cfg(not(feature = "plant"))]
#[inline(always)]
pub fn metadata(own: Option<Metadata>, _: &Settings, _: &str) -> Option<Metadata> {
    own
}

/// Comes to a point, where nothing happens.
#[cfg(not(feature = "plant"))]
#[inline(always)]
pub fn point(_: &str) {}

/// Whether a bug is planted: none is.
#[cfg(not(feature = "plant"))]
#[inline(always)]
pub fn has(_: &str) -> bool {
    false
}
