//! Stages on real servers, as their operator meets them: refused where something is wrong, waiting where something is
//! away, and with receipts at the end.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use killick_stages::audit::Kind;
use rdkafka::admin::{AlterConfig, ResourceSpecifier};
use serde_json::Value;

use support::running::{Running, address, admin, make_topic, produce};
use support::{Keyspace, brokers, command, ends, files};

const EVENTS: usize = 200;
const MAPPING: &str = "[source.mapping]\nid = { pointer = \"/id\" }\nsource = { constant = \"machine/1\" }\n";

/// A deployment with names of its own.
struct Site {
    folder: tempfile::TempDir,
    keyspace: Keyspace,
    run: String,
}

impl Site {
    fn new() -> Self {
        let run = format!("t-{:08x}", rand::random::<u32>());
        Self { folder: tempfile::tempdir().unwrap(), keyspace: Keyspace::new(), run }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its source.
    fn topic(&self) -> String {
        format!("{}.machines", self.run)
    }

    /// Its configuration, with this keyspace, and more sections.
    fn config(&self, name: &str, keyspace: &Keyspace, more: &str) -> PathBuf {
        let path = self.path(name);
        let text = format!(
            "[deployment]\nname = \"{run}.example\"\nlogs = 2\n[anchor]\ninterval = \"500ms\"\ndepth = 3\npoll = \"100ms\"\n\
             [prove]\npoll = \"100ms\"\n[keys]\nfolder = \"keys\"\n[kafka]\nbrokers = {brokers:?}\nprefix = \"{run}.\"\n\
             replication = 1\nmin_in_sync = 1\nsession_timeout = \"6s\"\n{catalog}[tenant.plant]\n\
             secret = \"no neighbour can guess this\"\n[[source]]\ntopic = \"{topic}\"\ndecoder = \"raw\"\ntenant = \"plant\"\n\
             unsigned = \"accept\"\n{MAPPING}{more}",
            run = self.run,
            brokers = brokers().split(',').collect::<Vec<_>>(),
            catalog = keyspace.section(),
            topic = self.topic(),
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn set_retention(topic: &str, millis: &str) {
    admin(async |admin, options| {
        let config = AlterConfig::new(ResourceSpecifier::Topic(topic))
            .set("message.timestamp.type", "LogAppendTime")
            .set("retention.ms", millis);
        admin.alter_configs([&config], options).await.unwrap();
    });
}

#[test]
fn what_is_wrong_with_topics_is_refused_at_the_start_with_its_remedy() {
    let site = Site::new();
    let config =
        &*site.config("killick.toml", &site.keyspace, "[chainweb]\nnodes = [\"http://127.0.0.1:1\"]\n");
    ends(0, "keys init -c", &[config]);
    let refused = ends(1, "run --stages ingest,dedup -c", &[config]);
    for what in [".accepted: there is no such topic", "killick topics apply", ".machines", "kafka-topics"] {
        assert!(refused.contains(what), "{what}: {refused}");
    }
    // Whoever makes topics never makes those of others.
    let applied = ends(1, "topics apply -c", &[config]);
    assert!(
        applied.contains("made topic") && applied.contains(".machines: there is no such topic"),
        "{applied}"
    );
    make_topic(&site.topic());
    assert!(ends(0, "topics apply -c", &[config]).contains(".ingest begins in 2 partitions"));
    let again = ends(0, "topics apply --output json -c", &[config]);
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), serde_json::json!({ "done": [], "left": [] }));
    assert!(ends(0, "topics check -c", &[config]).contains("what this deployment needs"));
    let described = ends(0, "topics describe --output json -c", &[config]);
    let described: Value = serde_json::from_str(&described).unwrap();
    let source = described["topics"].as_array().unwrap().iter().find(|topic| topic["is_source"] == true);
    assert_eq!(source.unwrap()["found"]["partitions"], 2, "{described}");

    // Events that may be a day old when they come have to be kept for a day at least.
    set_retention(&site.topic(), "3600000");
    for line in ["topics check -c", "run --stages ingest -c"] {
        let said = ends(1, line, &[config]);
        assert!(said.contains("retention.ms is 3600000") && said.contains("freshness"), "{said}");
    }
    // And the catalog has to be there before anything is proven.
    let refused = ends(1, "run --stages prove -c", &[config]);
    assert!(refused.contains("killick catalog migrate"), "{refused}");
    assert!(
        ends(1, "run --stages prov -c", &[config]).contains("the stages are ingest, dedup"),
        "a misspelled stage"
    );
}

#[test]
fn brokers_that_are_away_are_waited_for_and_one_that_refuses_is_not() {
    let site = Site::new();
    let config = &*site.config("killick.toml", &site.keyspace, "");
    ends(0, "keys init -c", &[config]);
    let args = ["run", "--stages", "dedup", "-c", config.to_str().unwrap()];
    let mut running = Running::start(&args, &[("KILLICK_KAFKA__BROKERS", "[\"127.0.0.1:1\"]")]);
    assert!(running.says("waiting for the brokers").contains("WARN"));
    running.ends();
    // A listener that speaks no TLS will not do so later.
    std::fs::write(site.path("password"), "x").unwrap();
    let secure = site.config("secure.toml", &site.keyspace, "[kafka.security]\ntls = true\n");
    let refused = ends(1, "run --stages dedup -c", &[&secure]);
    assert!(refused.contains("speak TLS") && refused.contains("[kafka.security]"), "{refused}");
}

/// Closes the deployment as soon as all of it is proven; gives what is to be continued.
fn close(site: &Site, config: &Path) -> String {
    let [next, out] = ["next.toml", "continued.ndjson"].map(|name| site.path(name));
    std::fs::write(&next, "[deployment]\ngeneration = 2\nhash = \"keccak256\"\nlogs = 5\n").unwrap();
    let begun = Instant::now();
    loop {
        let mut close = command(&["logs", "close"]);
        close.arg("-c").arg(config).arg("--next").arg(&next).arg("--out").arg(&out);
        let output = close.output().unwrap();
        if output.status.success() {
            break;
        }
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("cannot be closed before"), "{said}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{said}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let events = std::fs::read_to_string(&out).unwrap();
    assert_eq!(events.lines().count(), 5, "each of the five logs begins with one of the two");
    events
}

#[test]
fn events_of_a_topic_become_receipts_and_the_catalog_can_be_made_from_the_log() {
    let site = Site::new();
    let config = |name, keyspace| site.config(name, keyspace, "");
    let here = &*config("killick.toml", &site.keyspace);
    let account = ends(0, "keys init -c", &[here]);
    let account = account.split_whitespace().find(|word| word.starts_with("k:")).unwrap();
    make_topic(&site.topic());
    ends(0, "topics apply -c", &[here]);
    ends(0, "catalog migrate -c", &[here]);
    let devnet = ["devnet", "--listen", "127.0.0.1:0", "--block-interval", "100ms", "--account", account];
    let mut devnet = Running::start(&devnet, &[]);
    let line = devnet.says(" at http://");
    let nodes = format!("[{:?}]", line.rsplit_once(' ').unwrap().1);
    let run = Running::start(
        &["run", "-c", here.to_str().unwrap(), "--log", "warn"],
        &[("KILLICK_CHAINWEB__NODES", &nodes)],
    );
    produce(&site.topic(), EVENTS);
    let out = &*site.path("receipts");
    let begun = Instant::now();
    loop {
        // It has those that are anchored.
        ends(0, "receipts export -c", &[here, Path::new("--out"), out]);
        if files(out).len() == EVENTS {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{} receipts", files(out).len());
        std::thread::sleep(Duration::from_millis(200));
    }
    let closed = close(&site, here);
    run.ends();
    assert_eq!(close(&site, here), closed, "what ended stays as it is");
    let listed = ends(0, "logs list -c", &[here]);
    assert_eq!(listed.matches(" anchored").count(), 2, "{listed}");
    let trust = site.path("trust.json");
    ends(0, "trust own --out", &[&trust, Path::new("-c"), here]);
    ends(0, "verify --trust", &[&trust, out]);

    // On another chain, by the process that does it each interval, or by the one that is asked to.
    let later = format!(
        "[chainweb]\nnodes = {nodes}\n[reanchor.later]\nchains = [5]\n[reanchor.later.anchor]\ndepth = 3\npoll = \"100ms\"\n"
    );
    let later = &*site.config("later.toml", &site.keyspace, &later);
    let refused = ends(1, "reanchor later -c", &[later]);
    assert!(refused.contains("reanchor") && refused.contains("killick topics apply"), "{refused}");
    let begun = ends(0, "topics apply -c", &[later]);
    assert!(begun.contains("reanchor-later begins") && begun.contains("lend-later begins"), "{begun}");
    let args = ["run", "--stages", "reanchor,lend", "--log", "info", "-c", later.to_str().unwrap()];
    let mut run = Running::start(&args, &[]);
    run.says("the stages join their groups");
    let told = ends(0, "reanchor later --output json -c", &[later]);
    run.ends();
    for log in told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        assert_eq!((&log["anchored"], &log["block"]["chain"]), (&log["batches"], &Value::from(5)), "{log}");
    }
    ends(0, "receipts export -c", &[here, Path::new("--out"), out]);
    for receipt in files(out).values() {
        let receipt: Value = serde_json::from_slice(receipt).unwrap();
        let chains: Vec<_> =
            receipt["anchors"].as_array().unwrap().iter().map(|it| &it["block"]["chain"]).collect();
        assert_eq!(chains, [&Value::from(0), &Value::from(5)]);
    }
    ends(0, "trust own --out", &[&trust, Path::new("-c"), here]);
    ends(0, "verify --trust", &[&trust, out]);
    assert!(ends(0, "audit -c", &[later]).contains("clean"));
    assert!(ends(0, "fsck -c", &[later]).contains("clean"));

    let another = Keyspace::new();
    let there = &*config("another.toml", &another);
    ends(0, "catalog migrate -c", &[there]);
    let rebuilt = ends(0, "catalog rebuild -c", &[there]);
    assert!(rebuilt.contains(&format!("with {EVENTS} events")), "{rebuilt}");
    let made = &*site.path("made");
    ends(0, "receipts export -c", &[there, Path::new("--out"), made]);
    assert_eq!(files(made).len(), EVENTS);
    assert_eq!(files(made), files(out));
    is_audited_again_and_again(&site, later);
}

/// The metrics say what each audit found.
fn is_audited_again_and_again(site: &Site, config: &Path) {
    let args =
        ["audit", "--every", "10s", "--output", "json", "--log", "info", "-c", config.to_str().unwrap()];
    let mut audit = Running::start(&args, &[("KILLICK_ADMIN__LISTEN", "127.0.0.1:0")]);
    let admin = address(&audit.says("the admin port is open"));
    audit.says("\"clean\":true");
    let text = scraped(&admin, |text| text.contains("\nkillick_audit_time_seconds "));
    let found: Vec<_> = text.lines().filter(|line| line.starts_with("killick_audit_findings{")).collect();
    assert!(found.len() == Kind::ALL.len() && found.iter().all(|line| line.ends_with(" 0")), "{found:?}");
    assert!(text.contains("\nkillick_audit_failures_total 0\n"), "{text}");
    // What nobody but dedup may write: it is young, and so looked at again later.
    produce(&format!("{}.unique", site.run), 1);
    audit.says("\"clean\":false");
    scraped(&admin, |text| text.contains("\nkillick_audit_findings{kind=\"damaged\"} 1\n"));
    audit.ends();
}

/// The metrics, once they say so.
fn scraped(address: &str, is_so: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: killick\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        if is_so(&text) {
            return text;
        }
        assert!(Instant::now() < deadline, "{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
