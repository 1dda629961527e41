//! The development network as a process of its own, asked by others over HTTP.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chainweb::client::{Client, Config, Found, Mined, Said};
use chainweb::pact::{self, Capability, Exec, command_hash};
use chainweb::{ChainId, Hash};
use killick_proof::signature::SecretKey;

const CHAIN: ChainId = ChainId(7);

fn key() -> SecretKey {
    SecretKey::from_seed(&[5; 32])
}

fn account() -> String {
    format!("k:{}", hex::encode(key().public().as_bytes()))
}

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_killick"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KILLICK_")) {
        command.env_remove(name);
    }
    command.arg("devnet").args(args).stdin(Stdio::null());
    command
}

/// A running network; killed when it is dropped.
struct Network {
    process: Child,
    banner: String,
    url: String,
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Network {
    fn start(listen: &str, folder: &Path) -> Self {
        let args = ["--listen", listen, "--folder", folder.to_str().unwrap(), "--block-interval", "50ms"];
        let mut command = program(&args);
        command.args(["--account", &account()]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let banner = lines.next().unwrap().unwrap();
        let url = lines.next().unwrap().unwrap();
        let url = url.strip_prefix("network development at ").unwrap().to_owned();
        Self { process, banner, url }
    }

    fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    fn client(&self) -> Client {
        Client::new(&Config::new("development", [&self.url])).unwrap()
    }

    /// A network of several nodes; the addresses of all of them, and the lines of its log.
    fn troubled(args: &[&str]) -> (Self, Vec<String>, mpsc::Receiver<String>) {
        let mut command = program(&["--listen", "127.0.0.1:0", "--block-interval", "50ms"]);
        command.args(args).args(["--account", &account()]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let log = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || log.for_each(|line| _ = sender.send(line)));
        let banner = lines.next().unwrap();
        let nodes =
            args.iter().skip_while(|arg| **arg != "--nodes").nth(1).map_or(1, |nodes| nodes.parse().unwrap());
        let url = |line: String| line.split_once(" at ").unwrap().1.to_owned();
        let urls: Vec<String> = lines.by_ref().take(nodes).map(url).collect();
        (Self { process, banner, url: urls[0].clone() }, urls, receiver)
    }

    /// Tells it to stop; its exit status.
    fn stop(mut self, signal: &str) -> Option<i32> {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        self.process.wait().unwrap().code()
    }
}

fn command(nonce: &str) -> pact::Command {
    let public = hex::encode(key().public().as_bytes());
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let exec = Exec {
        network: "development",
        code: "(read-msg \"killick\")",
        data: "{\"killick\":\"killick/1\"}",
        signers: &[(&public, &[Capability::GAS])],
        chain: CHAIN,
        sender: &account(),
        gas_limit: 400,
        gas_price: "1e-8",
        ttl: 600,
        creation_time: i64::try_from(since.as_secs()).unwrap(),
        nonce,
    };
    let cmd = exec.to_cmd().unwrap();
    let hash = command_hash(&cmd);
    pact::Command { hash, sigs: vec![Some(hex::encode(key().sign(&hash.0)))], cmd }
}

/// Where the command is, once it is in a block.
async fn mined(client: &Client, key: Hash) -> Mined {
    let begun = Instant::now();
    loop {
        if let Some(Found::Mined(mined)) = client.poll(CHAIN, &[key], 0).await.unwrap().remove(&key) {
            return *mined;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{key} is in no block");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn whatever_was_seen_in_a_block_is_there_after_every_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut network = Network::start("127.0.0.1:0", folder.path());
    assert!(network.banner.contains("prove nothing"), "{}", network.banner);
    let mut known: Vec<Mined> = Vec::new();
    for life in 0..6 {
        let client = network.client();
        for before in &known {
            let key = before.result.request_key.parse().unwrap();
            assert_eq!(&mined(&client, key).await, before, "life {life}");
            assert!(
                client
                    .spv(CHAIN, key, CHAIN)
                    .await
                    .unwrap()
                    .is_some_and(|proof| proof.root() == before.block)
            );
        }
        let command = command(&format!("life {life}"));
        assert_eq!(
            client.send(CHAIN, std::slice::from_ref(&command)).await,
            Ok(Said::Accepted(vec![command.hash]))
        );
        known.push(mined(&client, command.hash).await);
        let height = client.cut().await.unwrap().height;
        // The same address again, as those who ask it have it in their settings.
        let address = network.address().to_owned();
        if life % 2 == 0 {
            assert_eq!(network.stop("-KILL"), None);
        } else {
            assert_eq!(network.stop("-TERM"), Some(0));
        }
        network = Network::start(&address, folder.path());
        assert!(network.client().cut().await.unwrap().height >= height);
    }
    assert_eq!(network.stop("-INT"), Some(0));
}

#[tokio::test]
async fn who_listens_for_a_result_does_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network::start("127.0.0.1:0", folder.path());
    let mut stream = std::net::TcpStream::connect(network.address()).unwrap();
    let body = format!("{{\"listen\":\"{}\"}}", "A".repeat(43));
    let request = format!(
        "POST /chainweb/0.0/development/chain/0/pact/api/v1/listen HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    assert_eq!(network.stop("-TERM"), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Asks a path that only a development network has; status and body.
fn ask(url: &str, method: &str, path: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let request = format!("{method} /devnet{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Waits for a line of the log.
fn says(log: &mpsc::Receiver<String>, part: &str) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        match log.recv_timeout(Duration::from_secs(30)) {
            Ok(line) if line.contains(part) => return,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    panic!("the log never says {part}");
}

#[tokio::test]
async fn several_nodes_part_heal_and_are_reorganised_on_command() {
    let (network, urls, log) = Network::troubled(&["--nodes", "3", "--seed", "7"]);
    let clients: Vec<_> =
        urls.iter().map(|url| Client::new(&Config::new("development", [url])).unwrap()).collect();
    let height = async || clients[0].cut().await.unwrap().hashes[&CHAIN].height;
    while height().await < 10 {
        tokio::time::sleep(Duration::from_millis(20)).await; // there has to be something to go back to
    }
    let command = command("several");
    clients[2].send(CHAIN, std::slice::from_ref(&command)).await.unwrap();
    let before = mined(&clients[0], command.hash).await;
    let depth = height().await - before.height + 6;
    assert_eq!(ask(&urls[0], "POST", "/partition?groups=0/1,2").0, 200);
    says(&log, "the nodes are parted");
    let (status, text) = ask(&urls[1], "POST", &format!("/reorganize?chain=7&depth={depth}&commands=lost"));
    assert_eq!(status, 200, "{text}");
    says(&log, "reorganised");
    assert!(clients[1].poll(CHAIN, &[command.hash], 0).await.unwrap().is_empty());
    assert!(clients[2].poll(CHAIN, &[command.hash], 0).await.unwrap().is_empty());
    assert_eq!(mined(&clients[0], command.hash).await, before);
    // The block that counts no more is still there for whoever knows its hash.
    assert!(clients[1].header(CHAIN, before.block).await.unwrap().is_some());
    assert_eq!(ask(&urls[0], "POST", "/heal").0, 200);
    let begun = Instant::now();
    loop {
        let (_, state) = ask(&urls[0], "GET", "");
        let state: serde_json::Value = serde_json::from_str(&state).unwrap();
        let cuts: Vec<_> = state["nodes"].as_array().unwrap().iter().map(|node| &node["cut"]).collect();
        if cuts.iter().all(|cut| *cut == cuts[0]) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{state}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(network.stop("-TERM"), Some(0));
}

#[tokio::test]
async fn faults_come_by_chance_and_are_said_and_commands_get_through_all_the_same() {
    // A command that is held to be hopeless, or stuck, does not get through for its time to live.
    let faults = "all,bad-list=0%,stuck=0%,hang=1s,pause=20ms,reorganize=1-3@5%";
    let (network, urls, log) = Network::troubled(&["--nodes", "2", "--seed", "3", "--faults", faults]);
    assert!(network.banner.contains("prove nothing"));
    let mut config = Config::new("development", &urls);
    config.timeout = Duration::from_secs(5);
    let client = Client::new(&config).unwrap();
    let command = command("troubled");
    let begun = Instant::now();
    loop {
        let _ = client.send(CHAIN, std::slice::from_ref(&command)).await;
        let found = client.poll(CHAIN, &[command.hash], 6).await;
        if let Ok(Some(Found::Mined(_))) = found.map(|mut found| found.remove(&command.hash)) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{} is never six deep", command.hash);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    says(&log, "a chain is reorganised");
    let (status, text) = ask(&urls[1], "GET", "/faults");
    assert!(status == 200 && text.contains("reorganize=1-3@5%") && text.contains("\"orphans\":"), "{text}");
    assert_eq!(ask(&urls[1], "POST", "/faults?set=none").0, 200);
    assert_eq!(network.stop("-INT"), Some(0));
}

#[tokio::test]
async fn an_account_begins_with_what_is_wanted_pays_until_it_is_dry_and_can_be_given_more() {
    // A command may cost 0.000004, and costs 0.00000075.
    let args = ["--balance", "0.0000045"];
    let (network, urls, _log) = Network::troubled(&args);
    let client = Client::new(&Config::new("development", &urls)).unwrap();
    let held = async || client.balance(CHAIN, &account()).await.unwrap().unwrap().text;
    assert_eq!(held().await, "0.0000045");
    let paid = command("paid");
    client.send(CHAIN, std::slice::from_ref(&paid)).await.unwrap();
    mined(&client, paid.hash).await;
    assert_eq!(held().await, "0.00000375");
    let poor = command("poor");
    let said = client.send(CHAIN, std::slice::from_ref(&poor)).await.unwrap();
    assert!(format!("{said:?}").contains("Insufficient funds"), "{said:?}");
    let gift = format!("/coins?account={}&amount=1", account());
    assert_eq!(ask(&network.url, "POST", &gift).0, 200);
    assert_eq!(held().await, "1.00000375");
    assert_eq!(client.send(CHAIN, std::slice::from_ref(&poor)).await, Ok(Said::Accepted(vec![poor.hash])));
    mined(&client, poor.hash).await;
    assert_eq!(held().await, "1.000003");
    assert_eq!(network.stop("-TERM"), Some(0));
}

fn refused(args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = program(args).output().unwrap();
    assert_eq!(stdout, b"", "{args:?}");
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn what_cannot_be_served_is_refused_with_the_reason() {
    for (args, status, part) in [
        (&["--listen", "0.0.0.0:0"][..], 2, "--confirm-public"),
        (&["--listen", "[::]:0"], 2, "--confirm-public"),
        (&["--listen", "here"], 2, "--listen"),
        (&["--listen", "127.0.0.1:0", "--account", "sender00"], 2, "64 lower-case hex digits"),
        (&["--listen", "127.0.0.1:0", "--balance=-1"], 2, "at most 12 places"),
        (&["--listen", "127.0.0.1:0", "--balance=1e-13"], 2, "at most 12 places"),
        (&["--listen", "127.0.0.1:0", "--block-interval", "1ms"], 2, "10 ms and 1 h"),
        (&["--listen", "127.0.0.1:0", "--nodes", "0"], 2, "1 to 16"),
        (&["--listen", "127.0.0.1:0", "--nodes", "17"], 2, "1 to 16"),
        (&["--listen", "127.0.0.1:65535", "--nodes", "2"], 2, "no 2 ports from 127.0.0.1:65535 on"),
        (&["--listen", "127.0.0.1:0", "--faults", "real,slow"], 2, "`slow`: a part is none, real, all"),
        (&["--listen", "127.0.0.1:0", "--faults", "reorganise=1%"], 2, "orphans, reorganize,"),
        (&["--listen", "127.0.0.1:0", "--faults", "reorganize=0@1%"], 2, "a number from 1 to 1000"),
        (&["--listen", "127.0.0.1:0", "--folder", "/proc/nowhere"], 1, "/proc/nowhere"),
    ] {
        let (found, why) = refused(args);
        assert_eq!(found, Some(status), "{args:?}: {why}");
        assert!(why.contains(part), "{args:?}: {why}");
    }
    let folder = tempfile::tempdir().unwrap();
    let network = Network::start("127.0.0.1:0", folder.path());
    let (status, why) = refused(&["--listen", network.address()]);
    assert!(status == Some(1) && why.contains("cannot listen on 127.0.0.1"), "{why}");
    let (status, why) = refused(&["--listen", "127.0.0.1:0", "--folder", folder.path().to_str().unwrap()]);
    assert!(status == Some(1) && why.contains("another process uses"), "{why}");
}
