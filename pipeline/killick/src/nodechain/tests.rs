use std::net::SocketAddr;
use std::time::Duration;

use chainweb::devnet::{Account, Config, Devnet};
use chainweb::pact::{Capability, Exec, command_hash};
use killick_contract::chain;
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

    fn command(&self, text: &str) -> (Box<str>, Vec<u8>) {
        let public = hex::encode(self.key.public().as_bytes());
        let exec = Exec {
            network: self.chain.network(),
            code: "(read-msg \"killick\")",
            data: &serde_json::json!({ "killick": text }).to_string(),
            signers: &[(&public, &[Capability::GAS])],
            chain: chainweb::ChainId(3),
            sender: &format!("k:{public}"),
            gas_limit: 400,
            gas_price: "1e-8",
            ttl: 600,
            creation_time: crate::input::time::now() / 1_000_000,
            nonce: text,
        };
        let cmd = exec.to_cmd().unwrap();
        let hash = command_hash(&cmd);
        let command = Command { hash, sigs: vec![Some(hex::encode(self.key.sign(&hash.0)))], cmd };
        (hash.to_string().into(), command.to_transaction().into_bytes())
    }
}

fn key() -> SecretKey {
    SecretKey::from_seed(&[3; 32])
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A development network with the tests' account, served on a free port.
fn serve(runtime: &Runtime, block_interval: Duration) -> (Arc<Devnet>, SocketAddr) {
    let public_key = hex::encode(key().public().as_bytes());
    let mut config = Config { block_interval, ..Config::default() };
    config.accounts.push(Account { name: format!("k:{public_key}"), public_key, balance: 10 });
    let devnet = Arc::new(Devnet::start(config).unwrap());
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(Arc::clone(&devnet).serve(listener));
    (devnet, address)
}

fn settings(nodes: &[SocketAddr]) -> Settings {
    let nodes = nodes.iter().map(|node| format!("http://{node}")).collect();
    Settings { nodes, timeout: Span::secs(2), ..Settings::default() }
}

#[test]
fn a_network_behind_http_keeps_the_contract_of_a_chain() {
    let runtime = runtime();
    let (_devnet, address) = serve(&runtime, Duration::from_millis(20));
    let chain = NodeChain::open(&settings(&[address]), "development", runtime.handle().clone()).unwrap();
    chain::suite(&Subject { chain, key: key() });
}
