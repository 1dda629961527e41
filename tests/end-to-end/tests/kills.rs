//! `kill -9` at random moments: nothing accepted is lost, nothing is proven twice, and every receipt verifies.

use std::path::Path;
use std::time::{Duration, Instant};

use killick_tests::checker;
use killick_tests::events::{Event, Ledger};
use killick_tests::program::succeed;
use killick_tests::site::{Running, alone};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A small chain with quick blocks, so that kills meet every state of an anchor.
const CONFIG: &str = r#"
[deployment]
name = "kills.example"
chains = [0, 7, 19]

[anchor]
interval = "300ms"
depth = 3
poll = "50ms"

[prove]
poll = "50ms"

[devnet]
block_interval = "100ms"
"#;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number in the environment"))
}

fn export(site: &Path, receipts: &Path) {
    let text = |path: &Path| path.to_str().map(str::to_owned).expect("the paths of tests are texts");
    let (site, receipts) = (text(site), text(receipts));
    succeed(&["receipts", "export", "--embedded", &site, "--out", &receipts]).expect("the export succeeds");
}

/// What the program says of itself: nothing is missing in the log, nothing wrong in the catalog.
fn audit(site: &Path, config: &Path) {
    let text = |path: &Path| path.to_str().map(str::to_owned).expect("the paths of tests are texts");
    let (site, config) = (text(site), text(config));
    let audit = ["audit", "--embedded", &site, "--config", &config, "--objective", "1ms"];
    eprint!("{}", succeed(&audit).expect("the audit is clean"));
    eprint!("{}", succeed(&["fsck", "--embedded", &site, "--full"]).expect("the catalog is sound"));
}

#[test]
fn fifty_kills_lose_nothing_and_prove_nothing_twice() {
    let _alone = alone();
    let (kills, total) = (number("KILLS", 50), number("EVENTS", 100_000));
    let seed = number("SEED", Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()));
    eprintln!("SEED={seed} KILLS={kills} EVENTS={total}");
    let mut random = StdRng::seed_from_u64(seed);
    let place = tempfile::tempdir().unwrap();
    let (site, config) = (place.path().join("site"), place.path().join("killick.toml"));
    std::fs::write(&config, CONFIG).unwrap();

    let mut ledger = Ledger::default();
    let mut next = 0;
    let mut killed = 0;
    while killed < kills {
        // Each life gets its share; about one line in twenty is an event that was sent before.
        let share = (total - next) / (kills - killed) + 1;
        let events = share_of(next, (next + share * 2).min(total), &mut random);
        events.iter().for_each(|event| ledger.sent(*event));
        let running = Running::start(&site, &config, events.clone()).unwrap();
        let life = Duration::from_millis(random.random_range(30..1_500));
        let born = Instant::now();
        while born.elapsed() < life && running.accepted() < share && !running.is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(random.random_range(0..20_000)));
        let ended = running.kill().unwrap();
        for event in &events[..ended.accepted as usize] {
            ledger.accepted(*event);
            next = next.max(event.0 + 1);
        }
        killed += 1;
    }
    let events = share_of(next, total, &mut random);
    events.iter().for_each(|event| ledger.sent(*event));
    let ended = Running::start(&site, &config, events.clone()).unwrap().end().unwrap();
    assert!(ended.status.success(), "{}", ended.summary);
    assert_eq!(ended.accepted, events.len() as u64);
    events.iter().for_each(|event| ledger.accepted(*event));
    let summary: serde_json::Value = serde_json::from_str(&ended.summary).unwrap();
    assert!(summary["unfinished"].is_null(), "{summary}");

    let receipts = place.path().join("receipts");
    export(&site, &receipts);
    let findings = checker::check(&ledger, &receipts, &site.join("trust.json")).unwrap();
    eprintln!("{killed} kills, {} receipts checked", findings.receipts);
    assert!(findings.promise_holds(), "SEED={seed}: {findings:?}");
    assert_eq!(ledger.all_accepted().count() as u64, total);
    // Proven once each, and each in the list once: the list goes by the batches and not by the names.
    assert_eq!(findings.receipts as u64, total);
    audit(&site, &config);
}

/// The events of that range, with some of the earlier ones among them.
fn share_of(from: u64, to: u64, random: &mut StdRng) -> Vec<Event> {
    let mut events = Vec::new();
    for number in from..to {
        events.push(Event(number));
        if number > 0 && random.random_ratio(1, 20) {
            events.push(Event(random.random_range(0..number)));
        }
    }
    events
}

#[test]
fn the_checker_notices_planted_faults() {
    let _alone = alone();
    let place = tempfile::tempdir().unwrap();
    let (site, config) = (place.path().join("site"), place.path().join("killick.toml"));
    std::fs::write(&config, CONFIG).unwrap();
    let events: Vec<_> = (0..200).map(Event).collect();
    let mut ledger = Ledger::default();
    events.iter().for_each(|event| ledger.accepted(*event));
    assert!(Running::start(&site, &config, events).unwrap().end().unwrap().status.success());
    let receipts = place.path().join("receipts");
    export(&site, &receipts);
    let trust = site.join("trust.json");
    let check = |ledger: &Ledger| checker::check(ledger, &receipts, &trust).unwrap();
    assert!(check(&ledger).promise_holds());

    let mut files: Vec<_> =
        std::fs::read_dir(&receipts).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let original = std::fs::read(&files[0]).unwrap();

    // A lost event.
    std::fs::remove_file(&files[0]).unwrap();
    let findings = check(&ledger);
    assert_eq!((findings.lost.len(), findings.receipts), (1, 199), "{findings:?}");

    // A second receipt.
    std::fs::write(&files[0], &original).unwrap();
    let second = receipts.join("second.json");
    std::fs::write(&second, &original).unwrap();
    let findings = check(&ledger);
    assert_eq!(findings.doubled.values().copied().collect::<Vec<_>>(), [2], "{findings:?}");
    std::fs::remove_file(&second).unwrap();

    // A wrong path: one hash of it is another.
    let mut receipt: serde_json::Value = serde_json::from_slice(&original).unwrap();
    receipt["log"]["index"] = serde_json::json!(receipt["log"]["index"].as_u64().unwrap() + 1);
    std::fs::write(&files[0], receipt.to_string()).unwrap();
    assert_eq!(check(&ledger).wrong.len(), 1);
    let mut receipt: serde_json::Value = serde_json::from_slice(&original).unwrap();
    let hash = &mut receipt["anchors"][0]["tree"]["root"];
    let changed: String = hash.as_str().unwrap().chars().rev().collect();
    *hash = serde_json::json!(changed);
    std::fs::write(&files[0], receipt.to_string()).unwrap();
    assert_eq!(check(&ledger).wrong.len(), 1);
    std::fs::write(&files[0], &original).unwrap();

    // A receipt for what nobody sent, and one for another payload than was sent.
    let mut fewer = Ledger::default();
    (1..200).map(Event).for_each(|event| fewer.accepted(event));
    assert_eq!(check(&fewer).phantom.len(), 1);
    assert!(check(&ledger).promise_holds());
}
