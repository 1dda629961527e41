//! A network that is kept in a folder is where it was, whatever happened to the process.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use chainweb::devnet::{Coins, Config, Devnet, GiveError, Orphaned, StartError, StoreError, TroubleError};
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
    config.accounts.push(chainweb::devnet::Account {
        name: "new".into(),
        balance: Coins::whole(7),
        ..account()
    });
    let devnet = Devnet::start(config).unwrap();
    let balance = |name: &str| devnet.read(|network| network.balance(ZERO, name)).unwrap();
    assert_eq!((balance("anchor"), balance("new")), ("99.99999925".to_owned(), "7".to_owned()));
    let text = devnet.send(ZERO, &anchor("2")).unwrap_err().text;
    assert!(text.contains("Keyset failure (keys-all): [abababab...]"), "{text}");
}

#[test]
fn what_was_undone_stays_undone_and_known_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let command = anchor("1");
    let (cut, orphan, result) = {
        let devnet = Devnet::start(in_folder(folder.path())).unwrap();
        devnet.make_round().unwrap();
        devnet.send(ZERO, &command).unwrap();
        (0..4).for_each(|_| devnet.make_round().unwrap());
        let orphan = devnet.tip(ZERO).unwrap();
        devnet.reorganize(ZERO, 4, Orphaned::MinedAgain).unwrap();
        (devnet.cut(), orphan, devnet.poll(ZERO, &[command.hash], 0))
    };
    assert_eq!(result.len(), 1);
    for life in 0..3 {
        let devnet = Devnet::start(in_folder(folder.path())).unwrap();
        if life == 0 {
            assert_eq!(devnet.cut(), cut);
            let known: HashSet<_> = [(ZERO, orphan.hash)].into();
            devnet.read(|network| super::forks::check(network, &known, &[(ZERO, command.hash)]));
        }
        // The second time, the file has been written anew in between.
        assert_eq!(
            devnet.header(ZERO, &orphan.hash).map(|header| header.height),
            Some(orphan.height),
            "{life}"
        );
        assert_eq!(devnet.poll(ZERO, &[command.hash], 0), result);
        if life == 0 {
            (0..35).for_each(|_| devnet.make_round().unwrap());
            devnet.reorganize(ZERO, 6, Orphaned::Wait).unwrap();
        }
        if life == 1 {
            assert_eq!(
                devnet.read(|network| network.balance(ZERO, "anchor")).as_deref(),
                Some("99.99999925")
            );
            let deep = devnet.reorganize(ZERO, 41, Orphaned::Wait).unwrap_err();
            assert!(deep.to_string().contains("so many are not kept"), "{deep}");
        }
    }
}

#[test]
fn a_fork_torn_anywhere_leaves_what_was_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blocks");
    let (before, length) = {
        let devnet = Devnet::start(in_folder(folder.path())).unwrap();
        devnet.send(ZERO, &anchor("1")).unwrap();
        (0..5).for_each(|_| devnet.make_round().unwrap());
        let before = (devnet.cut(), usize::try_from(std::fs::metadata(&file).unwrap().len()).unwrap());
        devnet.reorganize(ZERO, 3, Orphaned::MinedAgain).unwrap();
        before
    };
    let whole = std::fs::read(&file).unwrap();
    for end in (length..whole.len()).step_by(23) {
        std::fs::write(&file, &whole[..end]).unwrap();
        let devnet = Devnet::start(in_folder(folder.path())).unwrap();
        assert_eq!(devnet.cut(), before, "torn at {end}");
        devnet.reorganize(ZERO, 2, Orphaned::Wait).unwrap();
        devnet.read(|network| super::forks::check(network, &Default::default(), &[]));
    }
}

#[test]
fn the_folder_keeps_the_first_node_whoever_made_the_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let cut = {
        let devnet = Devnet::start(Config { nodes: 2, ..in_folder(folder.path()) }).unwrap();
        (0..3).for_each(|_| devnet.make_round().unwrap());
        devnet.partition(&[vec![0], vec![1]]).unwrap();
        (0..3).for_each(|_| devnet.make_round().unwrap());
        let other = devnet.node(1).unwrap();
        other.reorganize(ZERO, 2, Orphaned::Wait).unwrap();
        devnet.heal().unwrap();
        assert_eq!(devnet.cut(), other.cut());
        other.cut()
    };
    let devnet = Devnet::start(Config { nodes: 3, ..in_folder(folder.path()) }).unwrap();
    for node in 0..3 {
        assert_eq!(devnet.node(node).unwrap().cut(), cut);
    }
    devnet.read(|network| super::forks::check(network, &Default::default(), &[]));
}

/// Runs a test as a process, kills it soon, and gives back the lines that it wrote.
fn killed(test: &str, variable: &str, folder: &Path, life: u64) -> Vec<String> {
    let mut child = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("folder::{test}"), "--nocapture"])
        .env(variable, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let is_said = |line: &String| line.contains("seen ") || line.contains("sent ");
    let first = lines.find(is_said).expect("it starts");
    let reader = std::thread::spawn(move || lines.collect::<Vec<_>>());
    std::thread::sleep(Duration::from_millis(20 + life * 37 % 190));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut lines = reader.join().unwrap();
    // The test runner has written something before it on the same line.
    let begin = first.find("seen ").or_else(|| first.find("sent ")).unwrap();
    lines.insert(0, first[begin..].to_owned());
    lines
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

/// The process whose files cannot grow: undoes blocks until that cannot be kept, and looks at what is left.
#[test]
fn the_network_of_a_process_whose_disk_is_full() {
    let Ok(folder) = std::env::var("DEVNET_FULL_FOLDER") else { return };
    let devnet = Devnet::start(Config { retain_heights: 2_000, ..in_folder(Path::new(&folder)) }).unwrap();
    let command = anchor("1");
    devnet.send(ZERO, &command).unwrap();
    (0..5).for_each(|_| devnet.make_round().unwrap());
    let known = [(ZERO, command.hash)];
    for depth in (2..6).cycle() {
        let (before, found) = (devnet.cut(), devnet.read(|network| network.find(ZERO, &command.hash)));
        let Err(error) = devnet.reorganize(ZERO, depth, Orphaned::MinedAgain) else { continue };
        assert!(matches!(error, TroubleError::Store(StoreError::Io { .. })), "{error}");
        assert_eq!(devnet.cut(), before);
        devnet.read(|network| {
            assert_eq!(network.find(ZERO, &command.hash), found);
            super::forks::check(network, &HashSet::new(), &known);
        });
        // The file is written anew first, which cannot be done either.
        assert!(devnet.make_round().is_err());
        assert_eq!(devnet.cut(), before);
        let balance = devnet.read(|network| network.balance(ZERO, "anchor"));
        let error = devnet.give("anchor", Coins::whole(1)).unwrap_err();
        assert!(matches!(error, GiveError::Store(_)), "{error}");
        assert_eq!(devnet.read(|network| network.balance(ZERO, "anchor")), balance);
        println!("held {}", devnet.tip(ZERO).unwrap().hash);
        return;
    }
}

#[test]
fn what_cannot_be_kept_is_not_undone() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$0\" --exact folder::the_network_of_a_process_whose_disk_is_full --nocapture";
    let output = Process::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("DEVNET_FULL_FOLDER", folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let (_, held) = text.split_once("held ").expect("it came to that");
    let held: Hash = held.lines().next().unwrap().parse().unwrap();
    let devnet = Devnet::start(Config { retain_heights: 2_000, ..in_folder(folder.path()) }).unwrap();
    assert_eq!(devnet.tip(ZERO).unwrap().hash, held);
    devnet.make_round().unwrap();
    devnet.read(|network| super::forks::check(network, &[(ZERO, held)].into(), &[]));
}

/// The other process that is killed: undoes blocks all the time, and says what it has.
#[test]
fn the_troubled_network_of_a_process_that_is_killed() {
    let Ok(folder) = std::env::var("DEVNET_TROUBLE_FOLDER") else { return };
    let faults = "orphans=20%,reorganize=1-8@30%".parse().unwrap();
    let config = Config { faults, seed: 1, retain_heights: 2_000, ..in_folder(Path::new(&folder)) };
    let devnet = Devnet::start(config).unwrap();
    for nonce in 0.. {
        let command = anchor(&format!("{}-{nonce}", std::process::id()));
        devnet.send(ZERO, &command).unwrap();
        devnet.make_round().unwrap();
        println!("sent {} {}", devnet.cut().height, command.hash);
        println!("seen {} {}", devnet.cut().height, devnet.tip(ZERO).unwrap().hash);
    }
}

#[test]
fn a_kill_while_blocks_are_undone_leaves_a_network_in_which_everything_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (mut seen, mut sent) = (HashSet::new(), Vec::new());
    for life in 0_u64..8 {
        let test = "the_troubled_network_of_a_process_that_is_killed";
        let lines = killed(test, "DEVNET_TROUBLE_FOLDER", folder.path(), life);
        let config = Config { retain_heights: 2_000, ..in_folder(folder.path()) };
        let devnet = Devnet::start(config).unwrap();
        for line in &lines {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, height, hash] = words[..] else { continue };
            let (Ok(height), Ok(hash)) = (height.parse::<u64>(), hash.parse::<Hash>()) else { continue };
            assert!(devnet.cut().height >= height, "{line}");
            match what {
                "seen" => _ = seen.insert((ZERO, hash)),
                _ => sent.push((ZERO, hash)),
            }
        }
        devnet.read(|network| super::forks::check(network, &seen, &sent));
    }
    assert!(seen.len() > 50, "{}", seen.len());
}

#[test]
fn nothing_that_was_seen_is_lost_by_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for life in 0_u64..12 {
        let lines =
            killed("the_network_of_a_process_that_is_killed", "DEVNET_TEST_FOLDER", folder.path(), life);
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
