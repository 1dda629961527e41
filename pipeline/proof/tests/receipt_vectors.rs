//! The shared receipts of `schemas/vectors/receipts`, through the library.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};

use killick_proof::report::{Level, Report, Verdict};
use killick_proof::together::Together;
use killick_proof::trust::Trust;
use killick_proof::verify::Verifier;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/vectors/receipts")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

/// The exit status of `killick verify` without `--level`.
fn status(reports: &[Report], is_split: bool) -> u64 {
    let verdicts: Vec<_> = reports.iter().map(|report| report.verdict(Level::Trusted)).collect();
    match () {
        () if is_split || verdicts.contains(&Verdict::Wrong) => 3,
        () if verdicts.contains(&Verdict::Short) => 4,
        () => 0,
    }
}

#[test]
fn every_row_has_the_expected_verdict_level_device_and_field() {
    let rows: Vec<Value> = serde_json::from_slice(&read("expected.json")).unwrap();
    assert!(rows.len() >= 149, "{} rows", rows.len());
    for row in rows {
        let files: Vec<&str> = match (&row["file"], &row["files"]) {
            (Value::String(file), _) => vec![file],
            (_, files) => files.as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect(),
        };
        let mut verifier = Verifier::new(Trust::parse(&read(row["trust"].as_str().unwrap())).unwrap());
        let mut together = Together::new();
        let mut is_split = false;
        let mut reports = Vec::new();
        for (number, file) in files.iter().enumerate() {
            let report = verifier.verify(&read(file), None);
            is_split |= report.held.as_ref().is_some_and(|held| together.hold(number, held).is_err());
            reports.push(report);
        }
        let said = format!("{row}\n{reports:#?}");
        assert!(row["exit"].as_array().unwrap().contains(&status(&reports, is_split).into()), "{said}");
        if let Some(level) = row["level"].as_str() {
            assert_eq!(reports[0].level.name(), level, "{said}");
        }
        if let Some(device) = row["device"].as_str() {
            assert_eq!(reports[0].device.unwrap().to_string(), device, "{said}");
        }
        if let (Some(fields), Some(wrong)) = (row["field"].as_array(), reports[0].wrong()) {
            assert!(fields.iter().any(|field| wrong.field.starts_with(field.as_str().unwrap())), "{said}");
        }
    }
}
