//! `killick anchors` on real brokers and nodes, as an operator uses it where a command does not come into a block.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use support::running::{Running, make_topic, produce};
use support::{brokers, ends};

/// A deployment with names of its own; it needs no catalog.
struct Site {
    folder: tempfile::TempDir,
    run: String,
}

impl Site {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), run: format!("t-{:08x}", rand::random::<u32>()) }
    }

    /// Its source.
    fn topic(&self) -> String {
        format!("{}.machines", self.run)
    }

    /// Its configuration, with this node.
    fn config(&self, node: &str) -> PathBuf {
        let path = self.folder.path().join("killick.toml");
        let text = format!(
            "[deployment]\nname = \"{run}.example\"\nlogs = 2\n[anchor]\ninterval = \"500ms\"\ndepth = 3\npoll = \"100ms\"\n\
             [keys]\nfolder = \"keys\"\n[kafka]\nbrokers = {brokers:?}\nprefix = \"{run}.\"\nreplication = 1\nmin_in_sync = 1\n\
             session_timeout = \"6s\"\n[chainweb]\nnodes = [{node:?}]\n[tenant.plant]\nsecret = \"no neighbour can guess this\"\n\
             [[source]]\ntopic = \"{topic}\"\ndecoder = \"raw\"\ntenant = \"plant\"\nunsigned = \"accept\"\n",
            run = self.run,
            brokers = brokers().split(',').collect::<Vec<_>>(),
            topic = self.topic(),
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// The intervals that `killick anchors list` shows.
fn intervals(config: &Path) -> Vec<Value> {
    let list = ends(0, "anchors list --output json -c", &[config]);
    list.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until the list of intervals is as it should be.
fn wait_for(config: &Path, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let intervals = intervals(config);
        if is_so(&intervals) {
            return intervals;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{intervals:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn a_command_that_no_mempool_has_comes_into_a_block_once_an_operator_sends_it_again() {
    let site = Site::new();
    // Nobody listens there: what the stage makes is in its log, and reaches no node.
    let config = &*site.config("http://127.0.0.1:1");
    let account = ends(0, "keys init -c", &[config]);
    let account = account.split_whitespace().find(|word| word.starts_with("k:")).unwrap().to_owned();
    make_topic(&site.topic());
    ends(0, "topics apply -c", &[config]);
    let args =
        ["run", "-c", config.to_str().unwrap(), "--stages", "ingest,dedup,batch,anchor", "--log", "warn"];
    let mut run = Running::start(&args, &[]);
    produce(&site.topic(), 20);
    let waits = wait_for(config, |intervals| !intervals.is_empty());
    assert_eq!((&waits[0]["state"], &waits[0]["told"]), (&"waits".into(), &0.into()));
    // Not in the middle of anything: the process is killed.
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    let (name, key) =
        (waits[0]["interval"].as_str().unwrap(), waits[0]["attempts"][0]["key"].as_str().unwrap());
    let shown = ends(0, &format!("anchors show {name} -c"), &[config]);
    assert!(shown.contains(key) && shown.contains("waits on chain 0"), "{shown}");
    let away = ends(1, &format!("anchors retry {name} -c"), &[config]);
    assert!(away.contains("127.0.0.1:1"), "{away}");
    let wrong = ends(1, "anchors retry 0/999999 -c", &[config]);
    assert!(wrong.contains("no interval 0/999999") && wrong.contains(name), "{wrong}");

    let devnet = ["devnet", "--listen", "127.0.0.1:0", "--block-interval", "200ms", "--account", &account];
    let mut devnet = Running::start(&devnet, &[]);
    let config = &*site.config(devnet.says(" at http://").rsplit_once(' ').unwrap().1);
    let retry = || ends(0, &format!("anchors retry {name} -c"), &[config]);
    let first = retry();
    assert!(first.contains(&format!("{key}: taken for relay")), "{first}");
    let begun = Instant::now();
    let mined = loop {
        let said = retry();
        if said.contains("in block") {
            break said;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{said}");
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(mined.contains(&format!("{key}: in block")) && mined.contains("a success"), "{mined}");
    // The stage finds it there, and makes no other command.
    let run =
        Running::start(&["run", "-c", config.to_str().unwrap(), "--stages", "anchor", "--log", "warn"], &[]);
    let of_it = |intervals: &[Value]| intervals.iter().find(|one| one["interval"] == *name).cloned();
    let after = wait_for(config, |all| of_it(all).is_none_or(|one| one["state"] == "deep"));
    let after = of_it(&after).expect("it is looked after for 60 blocks");
    assert_eq!((&after["told"], after["attempts"].as_array().unwrap().len()), (&1.into(), 1), "{after}");
    assert_eq!(after["block"]["key"], *key);
    run.ends();
}
