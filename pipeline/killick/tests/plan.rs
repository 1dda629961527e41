//! `killick plan` against what the docs say of it, against itself, and against the configuration.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{command, ends};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/planning.md")
}

fn json(line: &str) -> Value {
    serde_json::from_str(&ends(0, &format!("plan --output json {line}"), &[])).unwrap()
}

/// With `UPDATE_DOCS=1` it writes the docs anew.
#[test]
fn the_plans_in_the_docs_are_what_the_command_prints() {
    let text = std::fs::read_to_string(docs()).unwrap();
    let (mut fresh, mut rates) = (String::new(), Vec::new());
    let mut parts = text.split("```text\n$ killick ");
    fresh += parts.next().unwrap();
    for part in parts {
        let (line, rest) = part.split_once('\n').unwrap();
        let (_, rest) = rest.split_once("```").unwrap();
        let said = ends(0, line, &[]);
        fresh += &format!("```text\n$ killick {line}\n{said}```{rest}");
        rates.push(line.split_whitespace().nth(2).unwrap().parse::<u64>().unwrap());
    }
    assert_eq!(rates, [1_000, 100_000, 1_000_000]);
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(docs(), &fresh).unwrap();
    }
    assert_eq!(text, fresh, "UPDATE_DOCS=1 cargo test -p killick --test plan writes it anew");
}

/// The figures of the table in the README, and those that plans are made of, are one measurement.
#[test]
fn the_figures_are_those_of_the_readme() {
    let at = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(at.join("../../README.md")).unwrap();
    let figures: toml::Table =
        toml::from_str(&std::fs::read_to_string(at.join("src/plan/figures.toml")).unwrap()).unwrap();
    let number = |path: &[&str]| {
        let (last, tables) = path.split_last().unwrap();
        let table = tables.iter().fold(&figures, |table, name| table[*name].as_table().unwrap());
        table[*last].as_float().unwrap_or_else(|| table[*last].as_integer().unwrap() as f64)
    };
    let row = |begin: &str| readme.lines().find(|line| line.starts_with(begin)).unwrap().replace(',', "");
    let alone = row("| one stage alone on Kafka");
    for (stage, field) in [
        ("ingest", "rate"),
        ("dedup", "rate"),
        ("batch", "rate"),
        ("ingest", "micros"),
        ("dedup", "micros"),
        ("batch", "micros"),
        ("prove", "micros"),
    ] {
        let figure = number(&["stages", stage, field]).to_string();
        assert!(alone.split_whitespace().any(|word| word == figure), "{stage} {field} {figure}: {alone}");
    }
    assert!(alone.contains(&format!("{} µs of Cassandra's", number(&["catalog", "micros"]))), "{alone}");
    let line = row("| the line in five processes");
    let memory = ["ingest", "dedup", "batch", "anchor", "prove"]
        .map(|stage| number(&["stages", stage, "memory"]).to_string());
    assert!(line.contains(&format!("Memory {} MB", memory.join(" "))), "{line}");
    assert!(line.contains(&format!("{} a second", number(&["line", "checkpoint"]))), "{line}");
    assert!(line.contains(&format!("to the proof | {}", number(&["line", "checkpoint"]))), "{line}");
    let signed = row("| the same with signed events");
    assert!(
        signed.contains(&format!(
            "ingest {} a second {} µs",
            number(&["signed", "rate"]),
            number(&["signed", "micros"])
        )),
        "{signed}"
    );
    assert!(readme.contains(&format!("| {} |", number(&["anchor", "gas"]))));
}

#[test]
fn a_plan_grows_with_what_comes_and_never_has_more_processes_than_partitions() {
    let field = |plan: &Value, path: &str| plan.pointer(path).unwrap().as_f64().unwrap();
    let mut last: Option<Value> = None;
    for rate in [1, 10, 1_000, 20_000, 100_000, 1_000_000] {
        let plan = json(&format!("--events-per-second {rate} --event-bytes 300"));
        let (logs, inputs) = (field(&plan, "/logs"), field(&plan, "/input_partitions"));
        for stage in plan["stages"].as_array().unwrap() {
            let most = match stage["stage"].as_str().unwrap() {
                "ingest" => inputs,
                "anchor" => 2.0,
                _ => logs,
            };
            assert!(field(stage, "/replicas") >= 1.0 && field(stage, "/replicas") <= most, "{plan}");
        }
        if let Some(last) = &last {
            for path in [
                "/logs",
                "/kafka/bytes_kept",
                "/kafka/bytes_per_year",
                "/catalog/bytes",
                "/catalog/cores",
                "/batches_per_second",
            ] {
                assert!(field(&plan, path) >= field(last, path), "{path} at {rate}: {plan}");
            }
            assert_eq!(plan["coins_per_day"], last["coins_per_day"], "anchors cost the same");
        }
        last = Some(plan);
    }
    let base = "--events-per-second 50000 --event-bytes 300";
    let plan = json(base);
    let more =
        |options: &str, path: &str| field(&json(&format!("{base} {options}")), path) > field(&plan, path);
    assert!(more("--signed", "/stages/0/cores") && more("--signed", "/catalog/bytes"));
    assert!(more("--retention 7y", "/catalog/bytes") && more("--chains 2", "/coins_per_day"));
    assert!(
        more("--dedup-window 90d", "/stages/1/replicas") && more("--dedup-window 90d", "/kafka/bytes_kept")
    );
    assert!(more("--window 10ms", "/batches_per_second") && more("--window 10ms", "/kafka/bytes_per_year"));
    for line in [
        "plan --event-bytes 1",
        "plan --events-per-second 0 --event-bytes 1",
        "plan --events-per-second 1 --event-bytes 1 --window 2h",
        "plan --events-per-second 1 --event-bytes 1 --retention 2y",
        "plan --events-per-second 1 --event-bytes 1 --dedup-window 1m",
    ] {
        ends(2, line, &[]);
    }
    let refused = ends(1, "plan --events-per-second 10000000 --event-bytes 1 --dedup-window 90d", &[]);
    assert!(refused.contains("several deployments"), "{refused}");
}

#[test]
fn the_values_for_the_chart_are_settings_that_the_program_takes() {
    for line in [
        "--events-per-second 1000 --event-bytes 500",
        "--events-per-second 1000000 --event-bytes 500 --chains 3 --signed --retention forever",
    ] {
        let said = ends(0, &format!("plan --output helm {line}"), &[]);
        let values: Value = serde_yaml_ng::from_str(&said).unwrap();
        let plan = json(line);
        assert_eq!(values["config"]["deployment"]["logs"], plan["logs"]);
        assert_eq!(values["inputPartitions"]["events"], plan["input_partitions"]);
        for stage in plan["stages"].as_array().unwrap() {
            assert_eq!(values["stages"][stage["stage"].as_str().unwrap()]["replicas"], stage["replicas"]);
        }
        // The least deployment fits into what the chart has by itself.
        let limit = values["audit"]["resources"]["limits"]["memory"].as_str().unwrap();
        let mebibytes = limit.strip_suffix("Mi").unwrap().parse::<f64>().unwrap();
        assert!(mebibytes * 1.048576 >= plan["audit_megabytes"].as_f64().unwrap() && mebibytes >= 300.0);
        assert!(plan["logs"] != 4 || mebibytes <= 512.0, "{limit}");
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("killick.toml");
        let mut config = values["config"].clone();
        config["kafka"]["brokers"] = serde_json::json!(["127.0.0.1:9092"]);
        config["catalog"]["nodes"] = serde_json::json!(["127.0.0.1:9042"]);
        std::fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
        let output = command(&["config", "check", "-c", path.to_str().unwrap()]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
