//! What a supervisor hears at the admin port of a process that runs.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::brokers;
use support::running::{Running, address, make_topic};

fn ask(address: &str, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: killick\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn get(address: &str, path: &str) -> (u16, String) {
    ask(address, "GET", path)
}

/// Waits until a path answers with this status; returns what it says then.
fn turns(address: &str, path: &str, status: u16) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (found, said) = get(address, path);
        if found == status {
            return said;
        }
        assert!(Instant::now() < deadline, "{path}: {found} {said}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn configured(folder: &Path, more: &str) -> String {
    let config = folder.join("killick.toml");
    std::fs::write(&config, format!("[admin]\nlisten = \"127.0.0.1:0\"\n{more}")).unwrap();
    config.to_str().unwrap().to_owned()
}

#[test]
fn an_embedded_pipeline_is_ready_until_it_is_told_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let config = configured(folder.path(), "[anchor]\ninterval = \"10m\"\n");
    let (site, input) = (folder.path().join("site"), folder.path().join("events.ndjson"));
    std::fs::write(&input, "{\"machine\":\"press-1\",\"reading\":\"7\"}\n").unwrap();
    let args =
        ["run", "--embedded", site.to_str().unwrap(), "-c", &config, "--input", input.to_str().unwrap()];
    let mut running = Running::start(&args, &[("KILLICK_LOG", "info")]);
    let address = address(&running.says("the admin port is open"));

    assert_eq!(turns(&address, "/startupz", 200), "ok\n");
    let verbose = turns(&address, "/readyz?verbose", 200);
    for part in ["process", "ingest-", "dedup-", "batch-", "anchor-", "prove-", "catalog"] {
        assert!(verbose.contains(&format!("[+] {part}")), "{part}: {verbose}");
    }
    assert!(get(&address, "/livez?verbose").1.contains("[+] main ok"));
    assert!(get(&address, "/metrics").1.contains("killick_build_info{version="));
    assert_eq!(get(&address, "/").0, 404);
    assert_eq!(ask(&address, "POST", "/readyz").0, 405);
    assert_eq!(ask(&address, "HEAD", "/readyz"), (200, String::new()));

    // The event waits for its anchor, so that there is something to drain for; it is unready from the signal on.
    kill_process(Pid::from_child(&running.child), Signal::TERM).unwrap();
    assert!(turns(&address, "/readyz", 503).contains("[-] process failed: it was told to end"));
    assert_eq!(get(&address, "/livez").0, 200, "it drains");
}

#[test]
fn a_process_whose_brokers_are_away_lives_and_is_neither_begun_nor_ready() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody takes what comes here.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let brokers = nobody.local_addr().unwrap();
    drop(nobody);
    let config = configured(folder.path(), &format!("[kafka]\nbrokers = [\"{brokers}\"]\n"));
    let mut running = Running::start(&["run", "-c", &config, "--stages", "dedup"], &[]);
    let address = address(&running.says("the admin port is open"));
    running.says("waiting for the brokers");
    assert_eq!(get(&address, "/livez").0, 200);
    assert_eq!(get(&address, "/startupz").0, 503);
    let (status, said) = get(&address, "/readyz");
    assert_eq!(status, 503);
    assert!(said.contains("it waits for what the workers need"), "{said}");
    running.ends();
}

#[test]
fn who_sends_half_a_request_keeps_nobody_else_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let config = configured(folder.path(), "");
    let site = folder.path().join("site");
    let mut running = Running::start(&["run", "--embedded", site.to_str().unwrap(), "-c", &config], &[]);
    let address = address(&running.says("the admin port is open"));
    let half: Vec<_> = (0..80)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(b"GET /livez HTTP/1.1\r\nx:").unwrap();
            stream
        })
        .collect();
    // More than are taken at the same time: they are put out before long.
    assert_eq!(get(&address, "/livez").0, 200);
    drop(half);
    running.ends();
}

#[test]
fn a_port_that_is_in_use_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = folder.path().join("killick.toml");
    std::fs::write(&config, format!("[admin]\nlisten = \"{}\"\n", taken.local_addr().unwrap())).unwrap();
    let site = folder.path().join("site");
    let said = support::ends(1, "run --embedded", &[&site, Path::new("-c"), &config]);
    assert!(said.contains("[admin]: cannot listen on 127.0.0.1"), "{said}");
}

/// The configuration of a deployment on the brokers, of which only the input is there.
fn on_brokers(folder: &Path) -> String {
    let run = format!("t-{:08x}", rand::random::<u32>());
    let topic = format!("{run}.machines");
    make_topic(&topic);
    let brokers: Vec<_> = brokers().split(',').map(str::to_owned).collect();
    let kafka = format!(
        "[deployment]\nname = \"{run}.example\"\nlogs = 1\n[kafka]\nbrokers = {brokers:?}\nprefix = \"{run}.\"\n\
         replication = 1\nmin_in_sync = 1\nsession_timeout = \"6s\"\n[[source]]\ntopic = \"{topic}\"\ndecoder = \"raw\"\n\
         tenant = \"plant\"\nunsigned = \"accept\"\n[tenant.plant]\nsecret = \"no neighbour can guess this\"\n"
    );
    configured(folder, &kafka)
}

#[test]
fn of_two_workers_for_one_partition_one_has_it_and_the_other_stands_by_and_both_are_ready() {
    let folder = tempfile::tempdir().unwrap();
    let config = on_brokers(folder.path());
    support::ends(0, "topics apply -c", &[Path::new(&config)]);
    let mut workers: Vec<_> = ["one", "two"]
        .into_iter()
        .map(|slot| {
            let variables = [("KILLICK_KAFKA__SLOT", slot)];
            let mut running = Running::start(&["run", "-c", &config, "--stages", "dedup"], &variables);
            let address = address(&running.says("the admin port is open"));
            (running, address)
        })
        .collect();
    for (_, address) in &workers {
        assert_eq!(turns(address, "/startupz", 200), "ok\n");
        let said = turns(address, "/readyz?verbose", 200);
        assert!(said.contains("[+] dedup-") && !said.contains("catalog"), "dedup needs none: {said}");
    }
    let partitions = |address: &str| {
        let text = get(address, "/metrics").1;
        let line = text.lines().find_map(|line| line.strip_prefix("killick_partitions{stage=\"dedup\"} "));
        line.unwrap().parse::<u64>().unwrap()
    };
    let mut all: Vec<_> = workers.iter().map(|(_, address)| partitions(address)).collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1]);

    // The one that is left takes over, and was ready all the time.
    let has_it = workers.iter().position(|(_, address)| partitions(address) == 1).unwrap();
    workers.remove(has_it).0.ends();
    let (left, address) = workers.remove(0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while partitions(&address) == 0 {
        assert!(Instant::now() < deadline, "nobody took over");
        std::thread::sleep(Duration::from_millis(50));
    }
    turns(&address, "/readyz", 200);
    assert!(
        get(&address, "/metrics")
            .1
            .contains("killick_rebalances_total{change=\"assigned\",stage=\"dedup\"} 1")
    );
    left.ends();
}

#[test]
fn an_audit_that_goes_on_is_ready_from_when_it_has_seen_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let config = on_brokers(folder.path());
    let mut audit = Running::start(&["audit", "--every", "10s", "--log", "info", "-c", &config], &[]);
    let address = address(&audit.says("the admin port is open"));
    audit.says("the log cannot be audited yet");
    assert_eq!(get(&address, "/livez").0, 200);
    assert_eq!((get(&address, "/startupz").0, get(&address, "/readyz").0), (503, 503));
    let text = get(&address, "/metrics").1;
    // So that somebody hears of it if it stays so.
    assert!(
        text.contains("\nkillick_audit_time_seconds ") && !text.contains("\nkillick_audit_findings{"),
        "{text}"
    );

    support::ends(0, "topics apply -c", &[Path::new(&config)]);
    assert_eq!(turns(&address, "/startupz", 200), "ok\n");
    turns(&address, "/readyz", 200);
    audit.says("clean");
    assert!(get(&address, "/metrics").1.contains("\nkillick_audit_failures_total 0\n"));
    audit.ends();
}
