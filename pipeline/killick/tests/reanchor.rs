//! `killick reanchor`: another chain, another network, and everything there ever was gains the new anchor.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use killick_proof::signature::SecretKey;
use serde_json::{Value, json};
use support::{command, ends, files};

const SEED: [u8; 32] = [42; 32];
/// A pace for tests.
const PACE: &str = "depth = 3\npoll = \"50ms\"\n";

/// Another network: a development network of its own, in which a key has coins.
struct Network {
    child: Child,
    address: String,
}

impl Network {
    fn start() -> Self {
        let account = format!("k:{}", hex::encode(SecretKey::from_seed(&SEED).public().as_bytes()));
        let line = "devnet --listen 127.0.0.1:0 --block-interval 50ms --log error --account";
        let args: Vec<&str> = line.split(' ').chain([account.as_str()]).collect();
        let mut child = command(&args).stdout(Stdio::piped()).spawn().unwrap();
        let address = BufReader::new(child.stdout.take().unwrap()).lines().find_map(|line| {
            let line = line.unwrap();
            line.split_once(" at http://").map(|(_, address)| format!("http://{address}"))
        });
        Self { child, address: address.unwrap() }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A site on the disk.
struct Site {
    place: tempfile::TempDir,
}

impl Site {
    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn config(&self, name: &str, more: &str) -> PathBuf {
        let path = self.at(name);
        let text = format!(
            "[deployment]\nname = \"re.example\"\nlogs = 3\n[anchor]\ninterval = \"500ms\"\n{PACE}[prove]\npoll = \"50ms\"\n\
             [devnet]\nblock_interval = \"50ms\"\n{more}"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Takes in events of this name, up to their receipts.
    fn takes(&self, config: &Path, name: &str) {
        let rows = (0..40).map(|row| format!("{{\"id\":\"{name}-{row}\",\"source\":\"s{}\"}}\n", row % 5));
        let input = self.at(name);
        std::fs::write(&input, rows.collect::<String>()).unwrap();
        let line = "run --format ndjson --id-pointer /id --source-pointer /source --log error";
        let more = [
            Path::new("--embedded"),
            &self.at("site"),
            Path::new("-c"),
            config,
            Path::new("--input"),
            &input,
        ];
        ends(0, line, &more);
    }

    fn receipts(&self, name: &str) -> std::collections::BTreeMap<String, Vec<u8>> {
        let out = self.at(name);
        ends(0, "receipts export --embedded", &[&self.at("site"), Path::new("--out"), &out]);
        files(&out)
    }

    fn reanchor(&self, config: &Path, series: &str) -> Vec<Value> {
        let line = format!("reanchor {series} --output json --log error --embedded");
        let said = ends(0, &line, &[&self.at("site"), Path::new("-c"), config]);
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn verifies(&self, status: i32, receipts: &str, trust: &Path) -> String {
        ends(status, "verify", &[&self.at(receipts), Path::new("--trust"), trust])
    }
}

fn anchors(receipt: &[u8]) -> Vec<Value> {
    let receipt: Value = serde_json::from_slice(receipt).unwrap();
    receipt["anchors"].as_array().unwrap().clone()
}

#[test]
fn everything_there_ever_was_gains_the_anchor_of_another_chain_and_of_another_network() {
    let site = Site { place: tempfile::tempdir().unwrap() };
    let network = Network::start();
    std::fs::write(site.at("abroad.key"), hex::encode(SEED)).unwrap();
    let plain = site.config("plain.toml", "");
    let series = format!(
        "[reanchor.later]\nchains = [5]\n[reanchor.later.anchor]\n{PACE}[reanchor.abroad]\nchains = [2]\n\
         key_file = \"abroad.key\"\n[reanchor.abroad.anchor]\n{PACE}[reanchor.abroad.chainweb]\nnodes = [{:?}]\n",
        network.address
    );
    let config = site.config("series.toml", &series);

    site.takes(&plain, "first");
    let own = site.receipts("own");
    let told = site.reanchor(&config, "later");
    assert_eq!(told.len(), 3, "{told:?}");
    let is_told = |log: &Value| log["anchored"] == log["batches"] && log["block"]["chain"] == 5;
    assert!(told.iter().all(is_told), "{told:?}");

    // The anchor that a receipt had stays as it was, and the new one stands beside it.
    let once = site.receipts("once");
    assert_eq!(once.keys().collect::<Vec<_>>(), own.keys().collect::<Vec<_>>());
    for (name, receipt) in &once {
        let (before, now) = (anchors(&own[name]), anchors(receipt));
        assert_eq!((before.len(), now.len()), (1, 2), "{name}");
        assert_eq!((&now[0], &now[1]["block"]["chain"]), (&before[0], &json!(5)), "{name}");
    }
    site.verifies(0, "once", &site.at("site/trust.json"));
    // There is nothing new: no other command, and the same block.
    assert_eq!(site.reanchor(&config, "later"), told);

    // Later events, and another network: what is older keeps its first anchor of the series, by a checkpoint of its own.
    site.takes(&plain, "second");
    site.reanchor(&config, "later");
    site.reanchor(&config, "abroad");
    let twice = site.receipts("twice");
    assert_eq!(twice.len(), 2 * own.len());
    for (name, receipt) in &twice {
        let now = anchors(receipt);
        assert_eq!(
            (now.len(), &now[1]["block"]["chain"]),
            (3, &json!(2)),
            "{name}: by name, abroad is before later"
        );
        if let Some(before) = once.get(name) {
            assert_eq!([&now[0], &now[2]], [&anchors(before)[0], &anchors(before)[1]], "{name}");
            assert_ne!(now[1]["log"]["checkpoint"], Value::Null, "{name}: a later checkpoint of the log");
        }
    }

    // Whoever believes the other network alone needs nothing else.
    let mut known: Value =
        serde_json::from_slice(&std::fs::read(site.at("site/trust.json")).unwrap()).unwrap();
    known["networks"] = json!([]);
    std::fs::write(site.at("keys.json"), known.to_string()).unwrap();
    let trust = site.at("abroad.json");
    let line =
        format!("trust fetch --network development --agree 1 --node {} --depth 1 --with", network.address);
    ends(4, &line, &[&site.at("keys.json"), Path::new("--out"), &trust, &site.at("twice")]);
    site.verifies(0, "twice", &trust);
    site.verifies(4, "once", &trust);

    // One that was changed makes the receipt wrong, though the first anchor is good.
    let (name, receipt) = twice.iter().find(|(name, _)| once.contains_key(*name)).unwrap();
    let mut forged: Value = serde_json::from_slice(receipt).unwrap();
    let path = forged["anchors"][1]["log"]["path"].as_array_mut().unwrap();
    let other = path[0].as_str().unwrap().replace('A', "B");
    path[0] = json!(if other == path[0] { "A".repeat(43) } else { other });
    std::fs::create_dir(site.at("forged")).unwrap();
    std::fs::write(site.at("forged").join(name), forged.to_string()).unwrap();
    let said = site.verifies(3, "forged", &site.at("site/trust.json"));
    assert!(said.contains("anchors[1].log"), "{said}");

    // The catalog is a function of the log, with all anchors.
    std::fs::remove_file(site.at("site/catalog.redb")).unwrap();
    ends(0, "catalog rebuild --embedded", &[&site.at("site")]);
    assert_eq!(site.receipts("rebuilt"), twice);
    ends(0, "audit --log error --embedded", &[&site.at("site")]);
    ends(0, "fsck --full --embedded", &[&site.at("site")]);

    // A run does it by itself, once the interval is over.
    let listed = ends(0, "anchors list --output json --embedded", &[&site.at("site")]);
    assert!(listed.lines().any(|line| line.contains("\"later/0/")), "{listed}");
}

#[test]
fn what_cannot_be_anchored_elsewhere_is_refused_with_the_reason() {
    let site = Site { place: tempfile::tempdir().unwrap() };
    let refused = |text: &str, what: &[&str]| {
        let config = site.config("bad.toml", text);
        let said = ends(2, "reanchor later --embedded", &[&site.at("site"), Path::new("-c"), &config]);
        assert!(what.iter().all(|what| said.contains(what)), "{text}: {said}");
    };
    refused("", &["no section [reanchor.later]", "none"]);
    refused("[reanchor.other]\n", &["no section [reanchor.later]", "other"]);
    refused("[reanchor.later]\nnetwork = \"mainnet01\"\n", &["[reanchor.later.chainweb]", "mainnet01"]);
    refused("[reanchor.later]\nchains = []\n", &["[reanchor.later]", "1 to 1024 chains"]);
    refused(
        "[reanchor.later.anchor]\ninterval = \"1s\"\n",
        &["[reanchor.later]", "interval is 1s", "1m to 366d"],
    );
    refused("[reanchor.later.anchor]\ndeep = 1\n", &["unknown field `deep`"]);
    refused("[reanchor.\"a b\"]\n", &["a series is named by"]);
    assert!(!site.at("site").exists(), "nothing is made before the configuration is checked");
}
