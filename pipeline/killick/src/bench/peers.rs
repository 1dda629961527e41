//! Peers: programs of others that do the same work, measured by a program that knows them.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};

use super::table::{Figures, Goal};

/// Figures of each peer that are told, with their units.
const TOLD: [(&str, &str); 5] = [
    ("cpu_micros", "µs/event"),
    ("warm_cpu_micros", "µs/event"),
    ("broker_cpu_micros", "µs/event"),
    ("events_per_second", "events/s"),
    ("records_per_second", "events/s"),
];

/// Has `program` measure peers beside this one: it prints one object, of which `tests/bench/peers/report.py` says what it holds.
///
/// # Errors
/// It cannot be run, fails, or prints something else.
pub fn measure(program: &Path, figures: &mut Figures) -> Result<()> {
    figures.says(&format!("peers, by {}", program.display()));
    let killick = std::env::current_exe().context("where this program is")?;
    let mut command = Command::new(program);
    command.args(["--output", "json"]).env("KILLICK", killick).stdin(Stdio::null()).stderr(Stdio::inherit());
    let told = command.output().with_context(|| format!("{} cannot be run", program.display()))?;
    ensure!(told.status.success(), "{} failed: {}", program.display(), told.status);
    let told: Map<String, Value> = serde_json::from_slice(&told.stdout)
        .with_context(|| format!("what {} prints is no JSON object", program.display()))?;
    for (name, value) in &told {
        // Ratios are ours to theirs: the more the better. What is counted beside them should not be.
        let goal = told.get("goals").and_then(|goals| goals[name].as_f64());
        let goal = goal.map(|goal| if name.contains("ratio") { Goal::Least(goal) } else { Goal::Most(goal) });
        if let Some(value) = value.as_f64().filter(|_| name != "machine_cores") {
            figures.add(name, value, "", goal);
        }
    }
    for (peer, of) in told.get("medians").and_then(Value::as_object).into_iter().flatten() {
        for (name, unit) in TOLD {
            if let Some(value) = of[name].as_f64() {
                figures.add(&format!("{peer}.{name}"), value, unit, None);
            }
        }
    }
    Ok(())
}
