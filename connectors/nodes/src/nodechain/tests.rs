use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime};

use chainweb::devnet::{Account, Coins, Config, Devnet};
use chainweb::pact::{Capability, Exec, command_hash};
use killick_contract::chain::{self, Subject as _};
use killick_proof::signature::SecretKey;
use tokio::runtime::Runtime;

use super::*;

struct Subject {
    chain: NodeChain,
    key: SecretKey,
}

impl chain::Subject for Subject {
    fn chain(&self) -> &dyn Chain {
        &self.chain
    }

    fn id(&self) -> ChainId {
        3
    }

    fn account(&self) -> Box<str> {
        format!("k:{}", hex::encode(self.key.public().as_bytes())).into()
    }

    fn command(&self, text: &str) -> (Box<str>, Vec<u8>) {
        command(&self.key, text, 400)
    }
}

/// A command of `key`'s account that gives back `text`: its request key and its bytes.
fn command(key: &SecretKey, text: &str, gas_limit: u64) -> (Box<str>, Vec<u8>) {
    let public = hex::encode(key.public().as_bytes());
    let exec = Exec {
        network: "development",
        code: "(read-msg \"killick\")",
        data: &serde_json::json!({ "killick": text }).to_string(),
        signers: &[(&public, &[Capability::GAS])],
        chain: chainweb::ChainId(3),
        sender: &format!("k:{public}"),
        gas_limit,
        gas_price: "1e-8",
        ttl: 600,
        creation_time: now(),
        nonce: text,
    };
    let cmd = exec.to_cmd().unwrap();
    let hash = command_hash(&cmd);
    let command = Command { hash, sigs: vec![Some(hex::encode(key.sign(&hash.0)))], cmd };
    (hash.to_string().into(), command.to_transaction().into_bytes())
}

/// The present time in seconds since 1970.
fn now() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64
}

fn key() -> SecretKey {
    SecretKey::from_seed(&[3; 32])
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A development network with the tests' account.
fn devnet(block_interval: Duration, folder: Option<&Path>) -> Arc<Devnet> {
    let public_key = hex::encode(key().public().as_bytes());
    let folder = folder.map(Path::to_owned);
    let mut config = Config { block_interval, folder, ..Config::default() };
    config.accounts.push(Account { name: format!("k:{public_key}"), public_key, balance: Coins::whole(10) });
    Arc::new(Devnet::start(config).unwrap())
}

/// Serves it on an address, port 0 for a free one, until the runtime that comes back is dropped.
fn serve(devnet: &Arc<Devnet>, at: SocketAddr) -> (SocketAddr, Runtime) {
    let runtime = runtime();
    let listener = runtime.block_on(tokio::net::TcpListener::bind(at)).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(Arc::clone(devnet).serve(listener));
    (address, runtime)
}

const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind(ANYWHERE).unwrap().local_addr().unwrap()
}

fn open(runtime: &Runtime, nodes: &[SocketAddr]) -> Result<NodeChain, OpenError> {
    let nodes = nodes.iter().map(|node| format!("http://{node}")).collect();
    let settings = Settings { nodes, timeout: Span::secs(2), ..Settings::default() };
    NodeChain::open(&settings, "development", runtime.handle().clone())
}

fn mined(chain: &NodeChain, key: &str) -> Mined {
    let begun = Instant::now();
    loop {
        if let Ok(Look { mined: Some(mined), .. }) = chain.look(3, &[key.into()], 3) {
            return mined;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{key} is in no block");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_network_behind_http_keeps_the_contract_of_a_chain() {
    let runtime = runtime();
    let devnet = devnet(Duration::from_millis(20), None);
    let (address, _serving) = serve(&devnet, ANYWHERE);
    chain::suite(&Subject { chain: open(&runtime, &[address]).unwrap(), key: key() });
}

#[test]
fn one_of_two_nodes_is_enough_for_the_contract() {
    let runtime = runtime();
    let devnet = devnet(Duration::from_millis(20), None);
    let (address, _serving) = serve(&devnet, ANYWHERE);
    chain::suite(&Subject { chain: open(&runtime, &[nobody(), address]).unwrap(), key: key() });
}

#[test]
fn a_network_that_stops_and_starts_again_has_what_it_had() {
    let (runtime, folder) = (runtime(), tempfile::tempdir().unwrap());
    let first = devnet(Duration::from_millis(20), Some(folder.path()));
    let (address, serving) = serve(&first, ANYWHERE);
    let subject = Subject { chain: open(&runtime, &[address]).unwrap(), key: key() };
    let chain = &subject.chain;
    let (old, bytes) = subject.command("before");
    assert_eq!(chain.send(3, &bytes).unwrap(), Sent::Taken);
    let before = mined(chain, &old);
    let proof = chain.spv(3, &old).unwrap().unwrap();
    // It goes: the error says which node is waited for, and why.
    serving.shutdown_timeout(Duration::from_secs(10));
    drop(first);
    let why = chain.look(3, std::slice::from_ref(&old), 3).unwrap_err().to_string();
    assert!(why.contains("chain 3: no node answers") && why.contains(&address.to_string()), "{why}");
    assert!(chain.spv(3, &old).is_err());
    // And comes back.
    let second = devnet(Duration::from_millis(20), Some(folder.path()));
    let _serving = serve(&second, address);
    assert_eq!(mined(chain, &old), before);
    assert_eq!(chain.spv(3, &old).unwrap().unwrap(), proof);
    assert!(!matches!(chain.send(3, &bytes).unwrap(), Sent::Refused(_)));
    let (new, bytes) = subject.command("after");
    assert_eq!(chain.send(3, &bytes).unwrap(), Sent::Taken);
    assert!(mined(chain, &new).height > before.height);
}

#[test]
fn without_any_node_it_opens_and_says_what_it_waits_for() {
    let runtime = runtime();
    let (here, there) = (nobody(), nobody());
    let chain = open(&runtime, &[here, there]).unwrap();
    let (_, bytes) = command(&key(), "x", 400);
    for why in [
        chain.look(0, &[], 3).unwrap_err().to_string(),
        chain.spv(0, &"A".repeat(43)).unwrap_err().to_string(),
        chain.send(0, &bytes).unwrap_err().to_string(),
    ] {
        for part in ["chain 0: no node answers", &here.to_string(), &there.to_string(), "cannot connect"] {
            assert!(why.contains(part), "{why}");
        }
    }
}

#[test]
fn a_node_of_another_network_is_refused_at_the_start() {
    let runtime = runtime();
    let devnet = devnet(Duration::from_secs(3_600), None);
    let (address, _serving) = serve(&devnet, ANYWHERE);
    let settings = Settings { nodes: vec![format!("http://{address}")], ..Settings::default() };
    let refused = NodeChain::open(&settings, "mainnet01", runtime.handle().clone()).err().unwrap();
    let why = format!("{refused:#}");
    assert!(why.contains("it is a node of development, and not of mainnet01"), "{why}");
    assert!(why.contains(&address.to_string()) && why.contains("correct the network's name"), "{why}");
}

#[test]
fn a_command_that_can_be_in_no_block_is_never_found_there() {
    let runtime = runtime();
    let devnet = devnet(Duration::from_millis(20), None);
    let (address, _serving) = serve(&devnet, ANYWHERE);
    let chain = open(&runtime, &[address]).unwrap();
    // Too little gas: a node takes it, drops it, and makes a result up.
    let (hopeless, bytes) = command(&key(), "hopeless", 2);
    assert_eq!(chain.send(3, &bytes).unwrap(), Sent::Taken);
    let made_up = || devnet.poll(chainweb::ChainId(3), &[hopeless.parse().unwrap()], 0).len();
    let begun = Instant::now();
    while made_up() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(chain.look(3, std::slice::from_ref(&hopeless), 3).unwrap().mined, None);
    assert_eq!(chain.spv(3, &hopeless).unwrap(), None);
    assert!(matches!(chain.send(3, &bytes).unwrap(), Sent::Unclear(_)), "another node may think otherwise");
    // Who cannot pay may be able to later.
    let (_, bytes) = command(&SecretKey::from_seed(&[4; 32]), "poor", 400);
    let said = chain.send(3, &bytes).unwrap();
    assert!(matches!(&said, Sent::Unclear(why) if why.contains("buy gas")), "{said:?}");
    // Another chain's command, or a changed one, stays wrong.
    let (_, bytes) = command(&key(), "changed", 400);
    let changed = String::from_utf8(bytes).unwrap().replace("changed", "charged");
    let said = chain.send(3, changed.as_bytes()).unwrap();
    assert!(matches!(&said, Sent::Refused(why) if why.contains("hash")), "{said:?}");
}

#[test]
fn a_block_that_is_not_below_the_tip_does_not_count() {
    let runtime = runtime();
    let devnet = devnet(Duration::from_millis(20), None);
    let (address, _serving) = serve(&devnet, ANYWHERE);
    let honest = open(&runtime, &[address]).unwrap();
    let (key, bytes) = command(&key(), "orphan", 400);
    honest.send(3, &bytes).unwrap();
    let real = mined(&honest, &key);
    // In front of it, one that names another block of that height: as if that had been orphaned since.
    let orphan = chainweb::Hash([9; 32]).to_string();
    let front = front(address, (real.block.to_string(), orphan));
    let chain = open(&runtime, &[front]).unwrap();
    let look = chain.look(3, std::slice::from_ref(&key), 3).unwrap();
    assert_eq!(look.mined, None);
    assert!(look.tip_height >= real.height);
    assert_eq!(honest.look(3, &[key], 3).unwrap().mined, Some(real));
}

/// Passes requests on to a node, and changes one text for another in the results of commands.
fn front(node: SocketAddr, change: (String, String)) -> SocketAddr {
    let listener = TcpListener::bind(ANYWHERE).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 65_536];
            let is_whole = |request: &[u8]| {
                let text = String::from_utf8_lossy(request);
                let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                body.len() >= length.map_or(0, |length| length.parse().unwrap())
            };
            while !is_whole(&request) {
                let count = client.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..count]);
            }
            let closing =
                String::from_utf8(request).unwrap().replacen("\r\n", "\r\nconnection: close\r\n", 1);
            let mut server = TcpStream::connect(node).unwrap();
            server.write_all(closing.as_bytes()).unwrap();
            let mut answer = Vec::new();
            server.read_to_end(&mut answer).unwrap();
            if closing.contains("/poll ") {
                answer = String::from_utf8(answer).unwrap().replace(&change.0, &change.1).into_bytes();
            }
            client.write_all(&answer).unwrap();
        }
    });
    address
}

#[test]
fn many_threads_ask_at_the_same_time() {
    let runtime = runtime();
    let devnet = devnet(Duration::from_millis(20), None);
    let (address, _serving) = serve(&devnet, ANYWHERE);
    let chain = Arc::new(open(&runtime, &[address]).unwrap());
    let asked: Vec<_> = (0..16)
        .map(|number| {
            let chain = Arc::clone(&chain);
            runtime.spawn_blocking(move || {
                let (key, bytes) = command(&key(), &format!("many {number}"), 400);
                assert_eq!(chain.send(3, &bytes).unwrap(), Sent::Taken);
                let found = mined(&chain, &key);
                assert!(chain.spv(3, &key).unwrap().is_some());
                found.key == key && found.success
            })
        })
        .collect();
    for one in asked {
        assert!(runtime.block_on(one).unwrap());
    }
}

#[test]
fn what_a_node_says_is_told_to_the_stage_as_what_follows_from_it() {
    let refused = |reason: &str| {
        let (index, key, reason) = (0, Hash([1; 32]), reason.to_owned());
        sent(Said::Refused(vec![client::Refusal { index, key, reason }]))
    };
    assert_eq!(sent(Said::Accepted(vec![Hash([1; 32])])), Sent::Taken);
    assert_eq!(refused("Transaction already exists on chain"), Sent::Taken);
    assert!(matches!(refused("Invalid transaction hash"), Sent::Refused(_)));
    assert!(matches!(refused("Transaction time-to-live is expired"), Sent::Unclear(_)));
    assert!(matches!(sent(Said::Unreadable("x".to_owned())), Sent::Refused(_)));
    assert!(matches!(sent(Said::Unclear("status 500".to_owned())), Sent::Unclear(_)));
}
