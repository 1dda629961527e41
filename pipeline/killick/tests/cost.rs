//! What one anchor costs: by the command that the stage makes, by the gas that nodes were recorded to take for its size, and by what
//! the development network takes.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chainweb::ChainId;
use chainweb::devnet::{Account, Coins, Config, Devnet};
use chainweb::pact::Command;
use killick_proof::Algorithm;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::note::SignerKey;
use killick_proof::signature::SecretKey;
use killick_stages::anchor::{self, Anchor};
use killick_stages::deployment::{self, Deployment};
use killick_stages::record::{Output, Partition, Record};
use killick_stages::stage::{Part, Request, Stage as _};
use serde_json::Value;

fn key() -> SecretKey {
    SecretKey::from_seed(&[5; 32])
}

/// The command that anchors a checkpoint of each of so many logs.
fn command(logs: u32) -> Command {
    let config = deployment::Config { name: "plant.example".into(), logs, ..deployment::Config::default() };
    let deployment = Deployment::new(&config).unwrap();
    let mut stage = Anchor::new(&deployment, &anchor::Config::default(), vec![key()]).unwrap();
    let input = Partition::new("checkpoints", 0);
    stage.assign(&input, 0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
    let mut part = Part::default();
    let mut step = |offset: u64, append_time: i64, output: Output| {
        let Output { partition, key, value, headers } = output;
        let record = Record { partition, offset, append_time, key, value, headers };
        stage.step(&record, &mut part).unwrap();
    };
    for (offset, origin) in (0..).zip(deployment.origins()) {
        let signer = SignerKey::new(origin.as_ref(), SecretKey::from_seed(&[1; 32])).unwrap();
        // As long as it gets: a log of years.
        let (size, root) = (1_000_000_000 + offset, Algorithm::Sha256.digest(origin.as_bytes()));
        let note = Checkpoint { origin, size, root, extensions: "" }.sign(&signer).unwrap();
        step(offset, now - 60_000_000, Output::new(input.clone(), origin.to_string(), note));
    }
    step(logs.into(), now, Output::tick(input));
    let sends = stage.requests().into_iter().filter_map(|(_, request)| match request {
        Request::Send { command, .. } => Some(Command::parse(&command).unwrap()),
        _ => None,
    });
    let [command] = <[Command; 1]>::try_from(sends.collect::<Vec<_>>()).unwrap();
    command
}

/// The gas of a command of this size that says no more than a text, where one key guards the account: what it takes to buy gas,
/// and its size.
fn gas(bytes: usize) -> u64 {
    let size = bytes as f64 / 100.0;
    70 + (size + (size / 512.0).powi(7)).ceil() as u64
}

/// Sizes and gas of commands that carry a text, as a node took it: of those that give it back, and of one with two keys.
fn recorded() -> Vec<(usize, u64)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../connectors/chainweb/tests/data/recordings/gas-table.json");
    let table: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let rows = table["rows"].as_array().unwrap().iter();
    let is_wanted = |label: &str| label.starts_with("code (read-msg") || label.starts_with("two signers");
    let rows = rows.filter(|row| is_wanted(row["label"].as_str().unwrap()));
    rows.map(|row| (row["cmdBytes"].as_u64().unwrap() as usize, row["gas"].as_u64().unwrap())).collect()
}

/// What the development network takes for it.
fn charged(command: &Command) -> u64 {
    let public_key = hex::encode(key().public().as_bytes());
    let mut config = Config { block_interval: Duration::ZERO, ..Config::default() };
    config.accounts.push(Account { name: format!("k:{public_key}"), public_key, balance: Coins::whole(10) });
    let devnet = Devnet::start(config).unwrap();
    devnet.send(ChainId(0), command).unwrap();
    loop {
        devnet.make_round().unwrap();
        if let [(_, result)] = &devnet.poll(ChainId(0), &[command.hash], 0)[..] {
            let result: Value = serde_json::from_str(result).unwrap();
            assert_eq!(result["result"]["status"], "success", "{result}");
            return result["gas"].as_u64().unwrap();
        }
    }
}

#[test]
fn one_anchor_costs_the_same_however_many_logs_it_covers() {
    let rows = recorded();
    assert!(rows.len() == 3 && rows.iter().all(|(bytes, taken)| gas(*bytes) == *taken), "{rows:?}");
    let one = gas(command(1).cmd.len());
    assert!(rows.iter().any(|(_, taken)| *taken == one), "recorded: {rows:?}");
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).unwrap();
    for (logs, shown) in [(1, "1"), (20, "20"), (1_000, "1,000")] {
        let command = command(logs);
        let bytes = command.cmd.len();
        assert_eq!(gas(bytes), one, "{logs} logs: {bytes} bytes");
        assert_eq!(charged(&command), one, "{logs} logs");
        let row = format!("| {shown} | {bytes} | {one} | {:.8} |", one as f64 * 1e-8);
        assert!(readme.contains(&row), "the README lacks {row}");
    }
}
