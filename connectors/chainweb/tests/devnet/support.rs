//! Networks, commands and recordings for the tests.

use std::path::PathBuf;

use chainweb::devnet::{Account, Coins, Config, Network};
use chainweb::pact::{Capability, Command, Exec};
use chainweb::{ChainId, Graph, Version};
use ed25519_dalek::SigningKey;
use serde_json::Value;

/// 2026-11-21 02:16:30 UTC, when the recordings were made. µs.
pub const START: i64 = 1_795_227_390_000_000;

/// The block delay of the networks in the tests. µs.
pub const DELAY: i64 = 1_000_000;

pub fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub fn account() -> Account {
    let public_key = hex::encode(key().verifying_key().to_bytes());
    Account { name: "anchor".into(), public_key, balance: Coins::whole(100) }
}

/// The development accounts and one whose key the tests have.
pub fn config() -> Config {
    let mut config = Config { block_interval: std::time::Duration::ZERO, ..Config::default() };
    config.accounts.push(account());
    config
}

pub fn network(graph: Graph) -> Network {
    let version = match graph {
        Graph::Twenty => {
            Version { block_delay: DELAY as u64, ..Version::by_name("development").unwrap().clone() }
        }
        _ => Version::test(format!("development-{graph}"), 0x8000_0001, graph, DELAY as u64),
    };
    let config = config();
    Network::new(version, &config.accounts, &config.miner_key, config.retain_heights).unwrap()
}

/// Makes rounds, one a block delay, until `height` stands on all chains.
pub fn grow_to(network: &mut Network, height: u64) {
    loop {
        let tip = network.tip(ChainId(0)).unwrap();
        if tip.height >= height {
            return;
        }
        network.make_round((tip.creation_time + DELAY).max(START)).unwrap();
    }
}

/// A command by the tests' account, for `network`, signed.
pub struct Anchor<'a> {
    pub network: &'a str,
    pub chain: ChainId,
    pub code: &'a str,
    pub data: &'a str,
    pub gas_limit: u64,
    pub gas_price: &'a str,
    pub ttl: u64,
    pub creation_time: i64,
    pub nonce: &'a str,
}

impl Default for Anchor<'_> {
    fn default() -> Self {
        Self {
            network: "development",
            chain: ChainId(0),
            code: "(read-msg \"killick\")",
            data: r#"{"killick":"killick/1 sha256 3 abc"}"#,
            gas_limit: 1000,
            gas_price: "1e-8",
            ttl: 28_800,
            creation_time: START / 1_000_000,
            nonce: "1",
        }
    }
}

impl Anchor<'_> {
    pub fn sign(&self) -> Command {
        let key = key();
        let public = hex::encode(key.verifying_key().to_bytes());
        let exec = Exec {
            network: self.network,
            code: self.code,
            data: self.data,
            signers: &[(&public, &[Capability::GAS])],
            chain: self.chain,
            sender: "anchor",
            gas_limit: self.gas_limit,
            gas_price: self.gas_price,
            ttl: self.ttl,
            creation_time: self.creation_time,
            nonce: self.nonce,
        };
        Command::sign(exec.to_cmd().unwrap(), &[&key])
    }
}

fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// A JSON file of the test data.
pub fn read(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(data().join(path)).unwrap()).unwrap()
}

/// All recorded evidence, by file name.
pub fn evidence() -> Vec<(String, Value)> {
    let mut files: Vec<_> =
        std::fs::read_dir(data().join("evidence")).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let file = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name.clone(), read(&format!("evidence/{name}")))
    };
    files.into_iter().map(file).collect()
}
