//! The demo, as someone who has never seen it runs it.

use std::io::Write;
use std::path::Path;

use killick_tests::program::{run, succeed};
use killick_tests::site::alone;
use serde_json::Value;

fn demo(arguments: &[&str]) -> Value {
    let told = succeed(&[&["demo", "--output", "json"], arguments].concat()).expect("the demo succeeds");
    serde_json::from_str(told.lines().last().unwrap_or_default()).expect("its last line is a summary")
}

fn count(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn readings_of_this_machine_become_receipts_that_verify() {
    let _alone = alone();
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("demo");
    let folder_text = folder.to_str().unwrap();
    let summary = demo(&["--keep", folder_text, "--events", "60", "--rate", "200", "--block-interval", "50"]);
    assert_eq!(
        (&summary["events"], &summary["receipts"], &summary["verified"]),
        (&60.into(), &60.into(), &60.into())
    );
    assert_eq!(summary["failed"], 0);
    assert_eq!((count(&folder.join("receipts")), count(&folder.join("payloads"))), (60, 60));

    let receipts = folder.join("receipts");
    let (payloads, trust) = (folder.join("payloads"), folder.join("trust.json"));
    let all = [&receipts, &payloads, &trust].map(|path| path.to_str().unwrap());
    let told =
        succeed(&["verify", all[0], "--payload", all[1], "--trust", all[2], "--output", "json"]).unwrap();
    assert_eq!(told.lines().count(), 60);
    for line in told.lines() {
        let verdict: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&verdict["level"], &verdict["device"], &verdict["payload"]),
            (&"trusted".into(), &"valid".into(), &"matches".into())
        );
    }
}

#[test]
fn the_same_file_twice_adds_nothing_and_every_copy_is_named() {
    let _alone = alone();
    let place = tempfile::tempdir().unwrap();
    let (file, folder) = (place.path().join("readings.csv"), place.path().join("demo"));
    let mut csv = std::fs::File::create(&file).unwrap();
    writeln!(csv, "timestamp,value").unwrap();
    for row in 0..1_500 {
        // Times repeat, as in real data.
        writeln!(csv, "2013-12-02 21:{:02}:00,{}", row / 2 % 60, row).unwrap();
    }
    writeln!(csv, "a broken row").unwrap();
    drop(csv);
    let arguments = [
        "--input",
        file.to_str().unwrap(),
        "--keep",
        folder.to_str().unwrap(),
        "--duplicates",
        "5",
        "--block-interval",
        "50",
    ];
    let first = demo(&arguments);
    assert_eq!(
        (&first["events"], &first["duplicates"], &first["rejected"]),
        (&1_576.into(), &75.into(), &1.into())
    );
    assert_eq!(
        (&first["receipts"], &first["proven"], &first["verified"]),
        (&1_500.into(), &1_500.into(), &1_500.into())
    );

    let again = demo(&arguments);
    assert_eq!(
        (&again["proven"], &again["duplicates"], &again["receipts"]),
        (&0.into(), &1_575.into(), &1_500.into())
    );
    let copies = std::fs::read_to_string(folder.join("duplicates.ndjson")).unwrap();
    assert_eq!(copies.lines().count(), 75 + 1_575);
    for line in copies.lines() {
        let copy: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&copy["verdict"], &copy["source"]), (&"duplicate".into(), &"readings.csv".into()));
    }
}

#[test]
fn a_demo_that_cannot_work_says_why() {
    let place = tempfile::tempdir().unwrap();
    let missing = place.path().join("nothing.csv");
    let output = run(&["demo", "--input", missing.to_str().unwrap()]).unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing.csv"));
    let file = place.path().join("some.csv");
    std::fs::write(&file, "a,b\n1,2\n").unwrap();
    let output = run(&["demo", "--input", file.to_str().unwrap(), "--time-column", "c"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("a") && said.contains("b") && said.contains("c"), "{said}");
}
