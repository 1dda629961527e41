//! `killick bench`: what it prints, and that it is told what each figure is.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::process::{Command, Output};

use serde_json::Value;

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_killick")).arg("bench").args(args).output().unwrap()
}

/// The names of figures in the tables of the document.
fn documented() -> Vec<String> {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bench.md");
    let document = std::fs::read_to_string(document).unwrap();
    let rows =
        document.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split(" | ").next());
    rows.flat_map(|names| names.trim_start_matches("| ").split(", "))
        .map(|name| name.replace('`', ""))
        .collect()
}

/// What the document calls a figure of this name.
fn called(name: &str) -> String {
    let stages = ["ingest.", "dedup.", "batch.", "path."];
    let is_of_stage = name.contains(".signed.") || name.contains(".unsigned.");
    let stage = stages.into_iter().find(|stage| is_of_stage && name.starts_with(stage));
    let name = stage.map_or(name.to_owned(), |stage| name.replacen(stage, "STAGE.", 1));
    if name.ends_with(".cpu") {
        name.replace(".signed.", ".KIND.").replace(".unsigned.", ".KIND.")
    } else {
        name
    }
}

#[test]
fn figures_are_positive_and_told_of_and_goals_are_judged() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let told = bench(&["--quick", "--only", "chain,state", "--dir", dir, "--output", "json"]);
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let figures = told["figures"].as_object().unwrap();
    let documented = documented();
    for (name, figure) in figures {
        let value = figure["value"].as_f64().unwrap();
        assert!(value.is_finite() && value > 0.0, "{name}: {figure}");
        assert!(documented.contains(&called(name)), "docs/bench.md does not say what {name} is");
        let least = figure["least"].as_f64().map(|least| value >= least);
        let most = figure["most"].as_f64().map(|most| value <= most);
        assert_eq!(figure["met"].as_bool(), least.or(most), "{name}: {figure}");
    }
    for name in
        ["e_signed", "e_unsigned", "core_scaling", "restore_s_per_million", "ingest.unsigned.allocations"]
    {
        assert!(figures.contains_key(name), "{name} is missing: {:?}", figures.keys());
    }
    assert_eq!(figures["dedup.keys"]["value"], 1e6);
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "it leaves nothing behind");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_measured() {
    for (args, why) in [
        (&["--only", "kafka"][..], "--brokers"),
        (&["--only", "nothing"], "possible values"),
        (&["--minutes", "0"], "1..=60"),
    ] {
        let told = bench(args);
        assert_eq!(told.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8(told.stderr).unwrap();
        assert!(said.contains(why), "{args:?}: {said}");
    }
    let told = bench(&["--only", "chain", "--dir", "/nowhere"]);
    assert_eq!(told.status.code(), Some(1));
    assert!(String::from_utf8(told.stderr).unwrap().contains("/nowhere"));
}
