//! A generation of logs that ends under one hash and goes on under another, as an operator does it and a stranger sees it.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::note::{Note, SignerKey, Verdict};
use killick_proof::origin::Origin;
use killick_proof::receipt::Receipt;
use killick_proof::statement::Statement;
use killick_proof::trust::{LogKey, TrustFile};
use serde_json::Value;
use support::{command, ends, files};

/// The next generation: another hash and another number of logs, at the pace of a test.
const NEXT: &str = r#"
[deployment]
generation = 2
hash = "keccak256"
logs = 3

[anchor]
interval = "2s"
depth = 3
poll = "200ms"

[prove]
poll = "200ms"

[devnet]
block_interval = "250ms"
"#;

fn readings(folder: &Path, day: u32) -> PathBuf {
    let rows = (0..60).map(|row| format!("2026-03-{day:02} 00:{row:02}:00,{row}.5\n"));
    let input = folder.join(format!("day-{day}.csv"));
    std::fs::write(&input, format!("timestamp,value\n{}", rows.collect::<String>())).unwrap();
    input
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The logs of a site, by their origins.
fn logs(site: &Path) -> BTreeMap<String, Value> {
    let listed = objects(&ends(0, "logs list --output json --embedded", &[site]));
    listed.into_iter().map(|log| (log["origin"].as_str().unwrap().to_owned(), log)).collect()
}

/// Accepts events in a site and dies before anything else is done with them.
fn accept_only(site: &Path, input: &Path) {
    let mut run =
        command(&["run", "--stages", "ingest", "--format", "csv", "--output", "json", "--embedded"]);
    let mut child = run.arg(site).arg("--input").arg(input).stdout(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    let accepted = said.lines().map(Result::unwrap).find(|line| line.contains("\"accepted\":60"));
    child.kill().unwrap();
    child.wait().unwrap();
    accepted.expect("all are accepted");
}

/// A generation that has ended: its folder, the file that says how it goes on, and what the program told the operator.
struct Ended {
    site: PathBuf,
    next: PathBuf,
    events: PathBuf,
    told: String,
}

fn end_a_generation(place: &Path) -> Ended {
    let [site, next, events] = ["old", "new.toml", "continued.ndjson"].map(|name| place.join(name));
    std::fs::write(&next, NEXT).unwrap();
    ends(0, "run --format csv --embedded", &[&site, Path::new("--input"), &readings(place, 1)]);

    accept_only(&site, &readings(place, 2));
    let close: &[&Path] = &[&site, Path::new("--next"), &next, Path::new("--out"), &events];
    let refused = ends(1, "logs close --embedded", close);
    assert!(refused.contains("wait for") && refused.contains("cannot be closed"), "{refused}");
    assert!(!events.exists());
    ends(0, "run --format csv --embedded", &[&site, Path::new("--input"), &readings(place, 3)]);

    let same = place.join("same.toml");
    std::fs::write(&same, "[deployment]\nlogs = 9\n").unwrap();
    let close_as_same: &[&Path] = &[&site, Path::new("--next"), &same, Path::new("--out"), &events];
    assert!(ends(2, "logs close --embedded", close_as_same).contains("another generation"));
    assert!(ends(2, "logs close --tenant A --embedded", close).contains("--tenant"));

    let told = ends(0, "logs close --embedded", close);
    let written = std::fs::read(&events).unwrap();
    assert_eq!(ends(0, "logs close --embedded", close), told);
    assert_eq!(std::fs::read(&events).unwrap(), written, "the same logs end with the same bytes");
    Ended { site, next, events, told }
}

#[test]
fn a_log_ends_under_one_hash_and_its_last_checkpoint_is_the_first_leaf_under_another() {
    let place = tempfile::tempdir().unwrap();
    let Ended { site: old, next, events, told } = end_a_generation(place.path());
    let before = logs(&old);
    assert_eq!(before.len(), 4);
    // What it tells is what the next configuration needs, and nothing that this one would not read.
    std::fs::write(&next, format!("{NEXT}{told}")).unwrap();
    ends(0, "config check -c", &[&next]);

    let new = place.path().join("new");
    let with = |input: &Path, more: &str| {
        ends(
            0,
            &format!("run {more} --embedded"),
            &[&new, Path::new("-c"), &next, Path::new("--input"), input],
        );
    };
    with(&events, "--format cloudevents --freshness off");
    with(&readings(place.path(), 4), "--format csv");

    // Each new log begins with the old ones whose numbers lead to it, and says where they ended.
    let after = logs(&new);
    assert_eq!(after.len(), 3);
    for (origin, log) in &after {
        let number = Origin::parse(origin).unwrap().log();
        assert!(origin.starts_with("killick.local/2/keccak256/"));
        let mut wanted: Vec<_> =
            (number..4).step_by(3).map(|old| format!("killick.local/1/sha256/{old}")).collect();
        for continued in log["continues"].as_array().unwrap() {
            let of = continued["origin"].as_str().unwrap();
            let note = before[of]["checkpoint"].as_str().unwrap();
            let checkpoint = Checkpoint::parse(Note::parse(note).unwrap().text()).unwrap();
            assert_eq!((checkpoint.origin, Some(checkpoint.size)), (of, continued["size"].as_u64()));
            assert_eq!(
                (checkpoint.size, checkpoint.root.to_string().as_str()),
                (before[of]["batches"].as_u64().unwrap(), continued["root"].as_str().unwrap())
            );
            wanted.retain(|wanted| wanted != of);
        }
        assert!(wanted.is_empty(), "{origin} does not continue {wanted:?}");
        assert!(log["batches"].as_u64() > Some(1) && log["batches"] == log["anchored"], "{log}");
    }
    let listed = ends(0, "logs list --embedded", &[&new]);
    assert!(listed.contains("continues killick.local/1/sha256/0 at size"), "{listed}");

    let receipts = place.path().join("receipts");
    ends(0, "receipts export --embedded", &[&new, Path::new("--out"), &receipts]);
    assert_eq!(files(&receipts).len(), 64);
    first_leaves_are_proven(&old, &before, &new, &receipts);
    old_receipts_stay_good(&old, place.path(), &told);
    for site in [&old, &new] {
        ends(0, "fsck --full --embedded", &[site]);
        ends(0, "audit --embedded", &[site]);
    }
}

/// The receipt of each continuation reaches `trusted` with the old checkpoint as its payload and the old log's key as its
/// device's; with any other payload it is wrong.
fn first_leaves_are_proven(old: &Path, before: &BTreeMap<String, Value>, new: &Path, receipts: &Path) {
    let trust = new.join("trust.json");
    let mut firsts = 0;
    let mut seen = 0;
    for name in files(receipts).keys() {
        let path = receipts.join(name);
        let receipt = Receipt::parse(&std::fs::read(&path).unwrap()).unwrap();
        let event = Statement::decode(&receipt.statement).unwrap().event;
        let Some(log) = before.get(event.source) else { continue };
        assert_eq!((event.tenant, event.kind), ("killick", "killick.log.continued.v1"));
        seen += 1;
        firsts += u32::from((receipt.log.index, receipt.batch.index) == (0, 0));
        let note = log["checkpoint"].as_str().unwrap();
        let payload = new.join("last.note");
        std::fs::write(&payload, note).unwrap();
        let verify: &[&Path] = &[&path, Path::new("--payload"), &payload, Path::new("--trust"), &trust];
        let report = objects(&ends(0, "verify --output json", verify)).remove(0);
        assert_eq!(
            (&report["level"], &report["device"], &report["payload"]),
            (&"trusted".into(), &"valid".into(), &"matches".into()),
            "{report}"
        );
        let number = Origin::parse(event.source).unwrap().log();
        let key = std::fs::read_to_string(old.join(format!("keys/log-{number}.key"))).unwrap();
        let key: SignerKey = key.trim().parse().unwrap();
        assert_eq!(Note::parse(note).unwrap().verdict(&key.verifier()), Verdict::Valid);
        std::fs::write(&payload, note.replacen("\n1", "\n2", 1) + "x").unwrap();
        assert!(ends(3, "verify --output json", verify).contains("payload"));
    }
    assert_eq!((seen, firsts), (4, 3), "each old log goes on, and each new one begins with one of them");
}

/// What the old generation proved stays proven, also where its keys have the end that the program told.
fn old_receipts_stay_good(old: &Path, place: &Path, told: &str) {
    let receipts = place.join("old-receipts");
    ends(0, "receipts export --embedded", &[old, Path::new("--out"), &receipts]);
    assert_eq!(files(&receipts).len(), 180);
    let own = TrustFile::parse(&std::fs::read(old.join("trust.json")).unwrap()).unwrap();
    let ended: Vec<LogKey> = told
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("#   ")?).ok())
        .filter(|entry| entry["until"].is_i64())
        .map(|entry| LogKey {
            key: entry["key"].as_str().unwrap().parse().unwrap(),
            until: entry["until"].as_i64(),
        })
        .collect();
    assert_eq!(ended.len(), 4);
    let too_early = ended.iter().map(|log| LogKey { until: Some(0), ..log.clone() }).collect();
    for (status, logs) in [(0, own.logs.clone()), (0, ended), (4, too_early)] {
        let trust = place.join("trust.json");
        std::fs::write(&trust, TrustFile { logs, ..own.clone() }.to_json()).unwrap();
        ends(status, "verify", &[&receipts, Path::new("--trust"), &trust]);
    }
}

#[test]
fn a_continuation_that_is_forged_is_rejected() {
    let place = tempfile::tempdir().unwrap();
    let Ended { site: old, next, events, told } = end_a_generation(place.path());
    std::fs::write(&next, format!("{NEXT}{told}")).unwrap();
    let lines = objects(&std::fs::read_to_string(&events).unwrap());
    assert_eq!(lines.len(), 4);
    let note = STANDARD.decode(lines[0]["data_base64"].as_str().unwrap()).unwrap();
    let source = lines[0]["source"].as_str().unwrap();
    assert_eq!(Some(std::str::from_utf8(&note).unwrap()), logs(&old)[source]["checkpoint"].as_str());

    let changed = |member: &str, value: &str| {
        let mut line = lines[0].clone();
        line[member] = value.into();
        line.to_string()
    };
    // Another history, another place in it, another log's key, and a key that nobody enrolled.
    let other = String::from_utf8(note.clone()).unwrap().replacen("\n", "\n9", 1);
    let id = lines[0]["id"].as_str().unwrap();
    let mut of_another = lines[1].clone();
    of_another["source"] = lines[0]["source"].clone();
    let key = place.path().join("own.key");
    ends(0, &format!("keys new device --tenant killick --source {source} --out"), &[&key]);
    let rows = place.path().join("rows.ndjson");
    std::fs::write(&rows, "{\"time\":\"2026-03-01T00:00:00Z\"}\n").unwrap();
    let produced =
        ends(0, "produce --type killick.log.continued.v1 --input", &[&rows, Path::new("--key"), &key]);
    let forged = [
        changed("data_base64", &STANDARD.encode(other)),
        changed("id", &format!("9{id}")),
        of_another.to_string(),
        produced.trim().to_owned(),
    ];
    let input = place.path().join("forged.ndjson");
    std::fs::write(&input, forged.join("\n") + "\n").unwrap();
    let new = place.path().join("new");
    let run = "run --format cloudevents --freshness off --output json --embedded";
    ends(0, run, &[&new, Path::new("-c"), &next, Path::new("--input"), &input]);
    let rejected = ends(0, "rejected --output json --embedded", &[&new]);
    let mut codes: Vec<_> =
        objects(&rejected).into_iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["unknown-key", "unknown-key", "wrong-signature", "wrong-signature"], "{rejected}");
    assert_eq!(ends(0, "logs list --embedded", &[&new]), "", "nothing of it is in a log");
}
