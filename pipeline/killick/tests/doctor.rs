//! `killick doctor` as an operator meets it: on folders and on real servers, with what is wrong planted one by one.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::Value;

use support::running::{Running, make_topic, produce};
use support::{Keyspace, brokers, command, ends};

/// What it says, with its exit status.
fn doctor(args: &[&str]) -> (i32, Value) {
    let mut line = vec!["doctor", "--output", "json"];
    line.extend(args);
    let output = command(&line).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), said)
}

/// The findings of a part, `about: found; remedy`.
fn findings(said: &Value, part: &str, weight: &str) -> Vec<String> {
    let parts = said["parts"].as_array().unwrap();
    let part =
        parts.iter().find(|seen| seen["part"] == part).unwrap_or_else(|| panic!("no part {part}: {said}"));
    let findings = part["findings"].as_array().unwrap().iter().filter(|finding| finding["weight"] == weight);
    let text = |finding: &Value| {
        let field = |name: &str| finding[name].as_str().unwrap().to_owned();
        assert!(!field("wanted").is_empty() && !field("remedy").is_empty(), "{finding}");
        format!("{}: {}; {}", field("about"), field("found"), field("remedy"))
    };
    findings.map(text).collect()
}

/// Everything that breaks, in all parts.
fn broken(said: &Value) -> Vec<String> {
    let parts = said["parts"].as_array().unwrap().iter();
    parts.flat_map(|part| findings(said, part["part"].as_str().unwrap(), "breaks")).collect()
}

fn has(found: &[String], parts: &[&str]) -> bool {
    found.iter().any(|text| parts.iter().all(|part| text.contains(part)))
}

#[test]
fn a_folder_is_looked_at_while_it_is_in_use_and_when_it_is_not() {
    let place = tempfile::tempdir().unwrap();
    let site = place.path().join("site");
    let folder = site.to_str().unwrap();
    let (status, said) = doctor(&["--embedded", folder]);
    assert_eq!(status, 1, "{said}");
    assert!(has(&findings(&said, "folder", "breaks"), &["not a Killick folder"]), "{said}");

    let mut run = Running::start(&["run", "--embedded", folder], &[]);
    run.says("the pipeline runs");
    let (status, said) = doctor(&["--embedded", folder]);
    assert_eq!((status, &said["well"]), (0, &Value::Bool(true)), "{said}");
    let text = said.to_string();
    assert!(
        text.contains("is at work in it") && text.contains("are free") && text.contains("4 log keys"),
        "{text}"
    );
    run.ends();
    let (status, said) = doctor(&["--embedded", folder]);
    assert_eq!(status, 0, "{said}");
    assert!(said.to_string().contains("nobody is at work in it"), "{said}");

    std::fs::set_permissions(site.join("keys/log-1.key"), Permissions::from_mode(0o644)).unwrap();
    std::fs::rename(site.join("keys/log-2.key"), place.path().join("away")).unwrap();
    std::fs::write(site.join("keys/anchor.key"), "nonsense").unwrap();
    let segment = site.join("log/000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let (status, said) = doctor(&["--embedded", folder]);
    let found = findings(&said, "folder", "breaks");
    assert_eq!((status, found.len()), (1, 4), "{found:?}");
    assert!(has(&found, &["log-1.key", "every user", "chmod 600"]), "{found:?}");
    assert!(has(&found, &["log-2.key", "missing"]), "{found:?}");
    assert!(has(&found, &["anchor.key does not hold a key"]), "{found:?}");
    assert!(has(&found, &["000000000001.seg", "killick restore"]), "{found:?}");
    assert!(!said.to_string().contains("nonsense"), "a secret is shown: {said}");
}

#[test]
fn what_cannot_be_reached_is_a_finding_and_all_of_it_is_bounded() {
    let place = tempfile::tempdir().unwrap();
    // One that takes connections and says nothing, and one where nobody is.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    let config = place.path().join("killick.toml");
    let text = format!(
        "[keys]\nfolder = \"keys\"\n[kafka]\nbrokers = [\"127.0.0.1:1\"]\n[catalog]\nnodes = [\"127.0.0.1:1\"]\n\
         [registry]\nurl = \"http://127.0.0.1:1\"\n[chainweb]\nnodes = [\"http://127.0.0.1:1\", \"http://{silent}\"]\n\
         timeout = \"5m\"\n[[source]]\ntopic = \"events\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let begun = std::time::Instant::now();
    let (status, said) = doctor(&["-c", config.to_str().unwrap(), "--within", "15s"]);
    assert!(begun.elapsed().as_secs() < 25, "{:?}", begun.elapsed());
    assert_eq!(status, 1, "{said}");
    for (part, words) in [
        ("kafka", "nothing listens there"),
        ("catalog", "see [catalog] nodes"),
        ("registry", "see [registry] url"),
        ("chain", "no answer within"),
        ("keys", "killick keys init"),
    ] {
        assert!(has(&findings(&said, part, "breaks"), &[words]), "{part}: {said}");
    }
    assert_eq!(command(&["doctor"]).output().unwrap().status.code(), Some(2), "nothing to look at");
    std::fs::write(&config, "[kafka]\nbroker = 1\n").unwrap();
    let output = command(&["doctor", "-c", config.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// A certificate of these days, in PEM.
fn certificate(path: &Path, from: (i32, u8, u8), until: (i32, u8, u8)) {
    let mut params = CertificateParams::new(["killick.example".to_owned()]).unwrap();
    params.not_before = date_time_ymd(from.0, from.1, from.2);
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    let key = KeyPair::generate().unwrap();
    std::fs::write(path, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(path.with_extension("key"), key.serialize_pem()).unwrap();
    std::fs::set_permissions(path.with_extension("key"), Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn certificates_are_told_of_before_they_end_and_after() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let soon = time::OffsetDateTime::now_utc() + time::Duration::days(10);
    certificate(&path("old.pem"), (2020, 1, 1), (2021, 1, 1));
    certificate(&path("new.pem"), (2020, 1, 1), (4000, 1, 1));
    certificate(&path("soon.pem"), (2020, 1, 1), (soon.year(), u8::from(soon.month()), soon.day()));
    certificate(&path("early.pem"), (3999, 1, 1), (4000, 1, 1));
    let both = [path("old.pem"), path("new.pem")].map(|file| std::fs::read_to_string(file).unwrap()).concat();
    std::fs::write(path("both.pem"), both).unwrap();
    std::fs::write(path("none.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    let config = path("killick.toml");
    let looked = |ca: &str, ours: &str| {
        let key = Path::new(ours).with_extension("key");
        let text = format!(
            "[kafka]\nbrokers = [\"127.0.0.1:1\"]\n[kafka.security]\ntls = true\nca_file = \"{ca}\"\n\
             certificate_file = \"{ours}\"\nkey_file = \"{}\"\n",
            key.display()
        );
        std::fs::write(&config, text).unwrap();
        let (_, said) = doctor(&["-c", config.to_str().unwrap()]);
        ["breaks", "advice"].map(|weight| findings(&said, "certificates", weight))
    };
    assert_eq!(looked("new.pem", "new.pem"), [vec![], Vec::<String>::new()]);
    let [breaks, advice] = looked("both.pem", "soon.pem");
    assert_eq!((breaks.len(), advice.len()), (0, 2), "{breaks:?} {advice:?}");
    assert!(has(&advice, &["1 of 2 do not count"]) && has(&advice, &["soon.pem", "ends in"]), "{advice:?}");
    let [breaks, _] = looked("old.pem", "early.pem");
    assert!(
        has(&breaks, &["old.pem", "ended on 2021-01-01"])
            && has(&breaks, &["early.pem", "begins on 3999-01-01"]),
        "{breaks:?}"
    );
    let [breaks, _] = looked("none.pem", "both.pem");
    assert!(
        has(&breaks, &["none.pem", "cannot be read"]) && has(&breaks, &["both.pem", "ended"]),
        "{breaks:?}"
    );
}

/// A deployment with names of its own.
struct Deployment {
    folder: tempfile::TempDir,
    keyspace: Keyspace,
    run: String,
}

impl Deployment {
    fn config(&self, node: &str, more: &str) -> PathBuf {
        let path = self.folder.path().join("killick.toml");
        let text = format!(
            "[deployment]\nname = \"{run}.example\"\nlogs = 2\n[anchor]\ninterval = \"500ms\"\ndepth = 3\npoll = \"100ms\"\n\
             {more}[keys]\nfolder = \"keys\"\n[kafka]\nbrokers = {brokers:?}\nprefix = \"{run}.\"\nreplication = 1\n\
             min_in_sync = 1\nsession_timeout = \"6s\"\n{catalog}[chainweb]\nnodes = [{node:?}]\n[tenant.plant]\n\
             secret = \"no neighbour can guess this\"\n[[source]]\ntopic = \"{run}.machines\"\ndecoder = \"raw\"\n\
             tenant = \"plant\"\nunsigned = \"accept\"\n",
            run = self.run,
            brokers = brokers().split(',').collect::<Vec<_>>(),
            catalog = self.keyspace.section(),
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

#[test]
fn an_installation_on_servers_is_well_only_when_all_of_it_is() {
    let run = format!("t-{:08x}", rand::random::<u32>());
    let site = Deployment { folder: tempfile::tempdir().unwrap(), keyspace: Keyspace::new(), run };
    let config = site.config("http://127.0.0.1:1", "");
    let file = config.to_str().unwrap().to_owned();
    let account = ends(0, "keys init -c", &[&config]);
    let account = account.split_whitespace().find(|word| word.starts_with("k:")).unwrap().to_owned();
    let (status, said) = doctor(&["-c", &file]);
    assert_eq!(status, 1, "{said}");
    assert!(has(&findings(&said, "kafka", "breaks"), &["no such topic", "killick topics apply"]), "{said}");
    assert!(has(&findings(&said, "catalog", "breaks"), &["missing", "killick catalog migrate"]), "{said}");
    assert!(has(&findings(&said, "chain", "breaks"), &["node http://127.0.0.1:1", "nodes"]), "{said}");

    make_topic(&format!("{}.machines", site.run));
    ends(0, "topics apply -c", &[&config]);
    ends(0, "catalog migrate -c", &[&config]);
    let mut devnet = Running::start(&["devnet", "--listen", "127.0.0.1:0", "--block-interval", "100ms"], &[]);
    let line = devnet.says(" at http://");
    let node = line.rsplit_once(' ').unwrap().1.to_owned();
    site.config(&node, "");
    let (status, said) = doctor(&["-c", &file]);
    assert_eq!(status, 1, "{said}");
    let broken_now = broken(&said);
    assert!(has(&broken_now, &[&account, "does not exist", "transfer coins"]), "{said}");
    assert_eq!(broken_now.len(), 1, "{broken_now:?}");
    assert!(
        has(&findings(&said, "kafka", "advice"), &["dedup", "nobody is at work, and nothing waits"]),
        "{said}"
    );
    drop(devnet);

    let args = ["devnet", "--listen", "127.0.0.1:0", "--block-interval", "100ms", "--account", &account];
    let mut devnet = Running::start(&args, &[]);
    let line = devnet.says(" at http://");
    let node = line.rsplit_once(' ').unwrap().1.to_owned();
    site.config(&node, "");
    produce(&format!("{}.machines", site.run), 20);
    let (status, said) = doctor(&["-c", &file]);
    assert_eq!(status, 1, "{said}");
    assert!(has(&broken(&said), &["ingest", "20 records wait", "killick run --stages ingest"]), "{said}");
    let mut run = Running::start(&["run", "-c", &file], &[]);
    run.says("the stages join their groups");
    let begun = std::time::Instant::now();
    let said = loop {
        let (status, said) = doctor(&["-c", &file]);
        if status == 0 {
            break said;
        }
        assert!(begun.elapsed().as_secs() < 90, "{said}");
    };
    let text = said.to_string();
    for what in [
        "records wait, at work: ",
        "days at",
        "the clock of the catalog agrees",
        "the clock of node",
        "newest block",
    ] {
        assert!(text.contains(what), "{what}: {text}");
    }
    assert!(ends(0, "doctor -c", &[&config]).contains("all is well: 0 wrong"), "the same as a text");

    // Chains that the network does not have, and an account that does not last.
    site.config(&node, "gas_limit = 150000\ngas_price = \"0.01\"\n");
    let (status, said) = doctor(&["-c", &file]);
    assert_eq!(status, 0, "{said}");
    assert!(has(&findings(&said, "chain", "advice"), &[&account, "lasts 0 days"]), "{said}");
    let said = command(&["doctor", "-c", &file, "--output", "json"])
        .env("KILLICK_DEPLOYMENT__CHAINS", "[0, 77]")
        .env("KILLICK_CHAINWEB__NODES", format!("[{node:?}, \"http://127.0.0.1:1\"]"))
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert!(has(&findings(&said, "chain", "breaks"), &["no chains [77]"]), "{said}");
    assert!(has(&findings(&said, "chain", "advice"), &["127.0.0.1:1", "cannot connect"]), "{said}");
    run.ends();
}
