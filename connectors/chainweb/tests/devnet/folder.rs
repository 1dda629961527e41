//! A network that is kept in a folder is where it was, whatever happened to the process.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use chainweb::devnet::{Config, Devnet, StartError, StoreError};
use chainweb::{ChainId, Graph, Hash};

use super::support::{Anchor, account, config};

const ZERO: ChainId = ChainId(0);

fn in_folder(folder: &Path) -> Config {
    Config { folder: Some(folder.to_owned()), graph: Graph::Triangle, retain_heights: 40, ..config() }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn anchor(nonce: &str) -> chainweb::pact::Command {
    Anchor { network: "development-triangle", creation_time: now(), nonce, ..Anchor::default() }.sign()
}

#[test]
fn a_restart_continues_with_the_same_blocks_results_and_balances() {
    let folder = tempfile::tempdir().unwrap();
    let command = anchor("1");
    let (cut, result, proof) = {
        let devnet = Devnet::start(in_folder(folder.path())).unwrap();
        devnet.make_round().unwrap();
        devnet.send(ZERO, &command).unwrap();
        (0..5).for_each(|_| devnet.make_round().unwrap());
        devnet.send(ZERO, &anchor("waits")).unwrap();
        let proof = devnet.spv(ZERO, &command.hash, ChainId(1)).unwrap();
        (devnet.cut(), devnet.poll(ZERO, &[command.hash], 0), proof)
    };
    assert_eq!(result.len(), 1);
    let devnet = Devnet::start(in_folder(folder.path())).unwrap();
    assert_eq!(devnet.cut(), cut);
    assert_eq!(devnet.poll(ZERO, &[command.hash], 0), result);
    assert_eq!(devnet.spv(ZERO, &command.hash, ChainId(1)).unwrap(), proof);
    assert_eq!(devnet.read(|network| network.balance(ZERO, "anchor")).as_deref(), Some("99.99999925"));
    assert!(devnet.send(ZERO, &command).is_err(), "it is mined once");
    // What waited is lost, as on a node, and can be sent again.
    (0..3).for_each(|_| devnet.make_round().unwrap());
    assert_eq!(devnet.poll(ZERO, &[anchor("waits").hash], 0), []);
    devnet.send(ZERO, &anchor("waits")).unwrap();
}

#[test]
fn the_file_stays_bounded_and_mined_commands_are_known_beyond_it() {
    let folder = tempfile::tempdir().unwrap();
    let command = anchor("1");
    let mut largest = 0;
    for life in 0..4 {
        let devnet = Devnet::start(in_folder(folder.path())).unwrap();
        if life == 0 {
            devnet.send(ZERO, &command).unwrap();
        }
        for _ in 0..70 {
            devnet.make_round().unwrap();
            largest = largest.max(std::fs::metadata(folder.path().join("blocks")).unwrap().len());
        }
        assert!(devnet.send(ZERO, &command).is_err());
        assert_eq!(devnet.tip(ZERO).unwrap().height, 70 * (life + 1));
    }
    // At most the kept heights twice, on three chains, and the snapshot.
    assert!(largest < 3 * 2 * 41 * 400, "{largest}");
}

#[test]
fn a_torn_end_is_cut_off_wherever_it_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blocks");
    let mut lengths = Vec::new();
    let mut tips = Vec::new();
    {
        let devnet = Devnet::start(in_folder(folder.path())).unwrap();
        for _ in 0..3 {
            devnet.make_round().unwrap();
            lengths.push(usize::try_from(std::fs::metadata(&file).unwrap().len()).unwrap());
            tips.push(devnet.tip(ZERO).unwrap());
        }
    }
    let whole = std::fs::read(&file).unwrap();
    for end in (lengths[1]..whole.len()).step_by(13) {
        // Torn in two ways: cut, and with zeros where the rest should be.
        for zeros in [0, whole.len() - end] {
            let torn = [&whole[..end], &vec![0; zeros]].concat();
            if torn == whole {
                continue; // it ends in zeros itself
            }
            std::fs::write(&file, torn).unwrap();
            let devnet = Devnet::start(in_folder(folder.path())).unwrap();
            assert_eq!(devnet.tip(ZERO), Some(tips[1]), "torn at {end}");
            devnet.make_round().unwrap();
            assert_eq!(devnet.tip(ZERO).unwrap().height, 3);
        }
    }
    // Torn at its very beginning: a new file.
    std::fs::write(&file, &whole[..5]).unwrap();
    assert_eq!(Devnet::start(in_folder(folder.path())).unwrap().tip(ZERO).unwrap().height, 0);
}

#[test]
fn what_no_crash_explains_is_reported_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blocks");
    {
        let devnet = Devnet::start(in_folder(folder.path())).unwrap();
        (0..3).for_each(|_| devnet.make_round().unwrap());
    }
    let whole = std::fs::read(&file).unwrap();
    let start = |config| Devnet::start(config).map(|devnet| devnet.tip(ZERO));
    let mut damaged = whole.clone();
    damaged[200] ^= 1;
    for text in [damaged, b"something else entirely".to_vec()] {
        std::fs::write(&file, &text).unwrap();
        let error = start(in_folder(folder.path())).unwrap_err();
        assert!(matches!(error, StartError::Store(StoreError::Damaged { .. })), "{error:?}");
        assert_eq!(std::fs::read(&file).unwrap(), text);
    }
    std::fs::write(&file, &whole).unwrap();
    let devnet = Devnet::start(in_folder(folder.path())).unwrap();
    let error = start(in_folder(folder.path())).unwrap_err();
    assert!(matches!(error, StartError::Store(StoreError::InUse(_))), "{error:?}");
    (0..50).for_each(|_| devnet.make_round().unwrap());
    drop(devnet);
    let other = Config { graph: Graph::Pair, ..in_folder(folder.path()) };
    let error = start(other).unwrap_err();
    assert!(matches!(error, StartError::Store(StoreError::OtherNetwork { .. })), "{error:?}");
}

#[test]
fn another_key_of_an_account_keeps_its_balance_and_a_new_account_gets_one() {
    let folder = tempfile::tempdir().unwrap();
    {
        let devnet = Devnet::start(in_folder(folder.path())).unwrap();
        devnet.send(ZERO, &anchor("1")).unwrap();
        (0..60).for_each(|_| devnet.make_round().unwrap());
    }
    let mut config = in_folder(folder.path());
    config.accounts.retain(|account| account.name != "anchor");
    config.accounts.push(chainweb::devnet::Account { public_key: "ab".repeat(32), ..account() });
    config.accounts.push(chainweb::devnet::Account { name: "new".into(), balance: 7, ..account() });
    let devnet = Devnet::start(config).unwrap();
    let balance = |name: &str| devnet.read(|network| network.balance(ZERO, name)).unwrap();
    assert_eq!((balance("anchor"), balance("new")), ("99.99999925".to_owned(), "7".to_owned()));
    let text = devnet.send(ZERO, &anchor("2")).unwrap_err().text;
    assert!(text.contains("Keyset failure (keys-all): [abababab...]"), "{text}");
}

/// The process that is killed: runs a network in the folder of the environment and says what it has.
#[test]
fn the_network_of_a_process_that_is_killed() {
    let Ok(folder) = std::env::var("DEVNET_TEST_FOLDER") else { return };
    let config = Config { block_interval: Duration::from_millis(10), ..in_folder(Path::new(&folder)) };
    let devnet = Devnet::start(config).unwrap();
    let mut nonce = 0;
    loop {
        let tip = devnet.tip(ZERO).unwrap();
        println!("seen {} {}", tip.height, tip.hash);
        let command = anchor(&format!("{}-{nonce}", std::process::id()));
        devnet.send(ZERO, &command).unwrap();
        devnet.listen(ZERO, &command.hash, Duration::from_secs(10)).unwrap();
        let (height, _, _) = devnet.read(|network| network.find(ZERO, &command.hash)).unwrap();
        println!("mined {height} {}", command.hash);
        nonce += 1;
    }
}

#[test]
fn nothing_that_was_seen_is_lost_by_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for life in 0_u64..12 {
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "folder::the_network_of_a_process_that_is_killed", "--nocapture"])
            .env("DEVNET_TEST_FOLDER", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let first = lines.find(|line| line.contains("seen ")).expect("it starts");
        let reader = std::thread::spawn(move || lines.collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(20 + life * 37 % 190));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut lines = reader.join().unwrap();
        lines.insert(0, first[first.find("seen").unwrap()..].to_owned());
        let devnet = Devnet::start(in_folder(folder.path())).unwrap();
        let lowest = devnet.tip(ZERO).unwrap().height.saturating_sub(40);
        for line in &lines {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, height, hash] = words[..] else { continue };
            let (Ok(height), Ok(hash)) = (height.parse::<u64>(), hash.parse::<Hash>()) else { continue };
            if height < lowest {
                continue; // no longer kept
            }
            let found = match what {
                "seen" => devnet.header(ZERO, &hash).map(|header| header.height),
                _ => devnet.read(|network| network.find(ZERO, &hash)).map(|(height, _, _)| height),
            };
            assert_eq!(found, Some(height), "{line}");
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
}
