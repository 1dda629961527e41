//! The development network as a process of its own, asked by others over HTTP.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
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
        (&["--listen", "127.0.0.1:0", "--block-interval", "1ms"], 2, "10 ms and 1 h"),
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
