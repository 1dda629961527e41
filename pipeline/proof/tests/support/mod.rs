//! Makes receipts of any kind, with blocks of its own, for the tests to be verified or refused.
#![allow(dead_code, reason = "each test binary uses a part of it")]

#[path = "../../../../connectors/chainweb/tests/support/miner.rs"]
pub mod miner;

use std::cell::RefCell;
use std::rc::Rc;

use chainweb::graph::ChainId;
use chainweb::header::{self, Header};
use chainweb::merkle::{self, MerkleProof, Tag};
use chainweb::uint::U256;
use chainweb::version::Version;
use killick_proof::anchor::AnchorTree;
use killick_proof::batch::BatchHeader;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::note::{self, SignerKey};
use killick_proof::origin::Origin;
use killick_proof::receipt::{Anchor, AnchorLog, BatchProof, Block, LogProof, Receipt, SpvProof, TreeProof};
use killick_proof::report::Report;
use killick_proof::signature::SecretKey;
use killick_proof::statement::{Attestation, Event, Statement};
use killick_proof::tree::Tree;
use killick_proof::trust::{DeviceKey, LogKey, Trust, TrustFile, TrustedNetwork};
use killick_proof::verify::Verifier;
use killick_proof::{Algorithm, Hash};

/// What to make; the defaults make a receipt that is trusted.
#[derive(Clone)]
pub struct Maker {
    pub origin: String,
    pub algorithm: Algorithm,
    pub time: i64,
    pub is_signed: bool,
    pub leaves: usize,
    pub index: usize,
    pub log_size: u64,
    pub number: u64,
    pub extension: String,
    pub anchors: Vec<AnchorMaker>,
}

/// An anchor to make.
#[derive(Clone)]
pub struct AnchorMaker {
    pub algorithm: Algorithm,
    pub network: String,
    pub code: u32,
    pub chain: u32,
    pub height: u64,
    pub created: i64,
    pub is_trusted: bool,
    /// Size of a later checkpoint of the anchor's own.
    pub own: Option<u64>,
    /// The chain where the proof ends, if it is a neighbour's.
    pub ends_on: Option<u32>,
    /// Makes the transaction's output of the anchor text.
    pub output: fn(&str) -> String,
    /// Mines the block, and with it a block of every other chain; height and creation time are the miner's.
    pub miner: Option<Rc<RefCell<miner::Miner>>>,
}

impl Default for Maker {
    fn default() -> Self {
        Self {
            origin: "plant.example/1/sha256/7".into(),
            algorithm: Algorithm::Sha256,
            time: 1_790_000_000_000_000,
            is_signed: true,
            leaves: 5,
            index: 3,
            log_size: 9,
            number: 4,
            extension: String::new(),
            anchors: vec![AnchorMaker::default()],
        }
    }
}

impl Default for AnchorMaker {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Sha256,
            network: "development".into(),
            code: 2,
            chain: 4,
            height: 1000,
            created: 1_790_000_100_000_000,
            is_trusted: true,
            own: None,
            ends_on: None,
            output: success,
            miner: None,
        }
    }
}

/// The output of a transaction that returned the text.
pub fn success(text: &str) -> String {
    let data = serde_json::Value::from(text);
    format!(
        r#"{{"gas":75,"result":{{"status":"success","data":{data}}},"reqKey":"k","logs":null,"metaData":null}}"#
    )
}

pub fn device() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

pub fn log_key(origin: &str) -> SignerKey {
    SignerKey::new(origin, SecretKey::from_seed(&[2; 32])).unwrap()
}

/// A header leaf of no meaning.
fn other_leaf(algorithm: Algorithm, number: u64) -> Hash {
    algorithm.leaf(&number.to_be_bytes())
}

impl Maker {
    pub fn statement(&self) -> Vec<u8> {
        let digest = Algorithm::Sha256.digest(b"payload");
        let event = Event {
            tenant: "plant-a",
            source: "press/7",
            id: "e1",
            time: self.time,
            kind: "reading",
            digest,
        };
        let key = *device().public().as_bytes();
        let signature = device().sign(&event.signing_bytes().unwrap());
        let attestation = match self.is_signed {
            true => Attestation::Signed { key: &key, signature: &signature },
            false => Attestation::Unsigned { salt: &[7; 16] },
        };
        Statement { event, attestation }.encode().unwrap()
    }

    /// Makes the receipt of [`Self::statement`].
    pub fn make(&self) -> Receipt {
        self.make_of(self.statement())
    }

    /// Makes the receipt of any leaf.
    pub fn make_of(&self, statement: Vec<u8>) -> Receipt {
        let mut leaves: Vec<Hash> =
            (0..self.leaves as u64).map(|at| other_leaf(self.algorithm, at)).collect();
        leaves[self.index] = self.algorithm.leaf(&statement);
        let batch = Tree::new(self.algorithm, leaves);
        let header = BatchHeader {
            origin: Origin::parse(&self.origin).unwrap(),
            number: self.number,
            first_offset: 100,
            last_offset: 104,
            first_time: self.time,
            last_time: self.time + 1,
            leaf_count: self.leaves as u64,
            root: batch.root(),
            duplicates: 1,
            conflicts: 0,
        };
        let header = header.encode().unwrap();
        let path = batch.inclusion_path(self.index as u64).unwrap();
        let batch = BatchProof { header, index: self.index as u64, path };
        self.make_in(statement, batch)
    }

    /// Makes the receipt of a batch that is ready.
    pub fn make_in(&self, statement: Vec<u8>, batch: BatchProof) -> Receipt {
        let id = self.algorithm.leaf(&batch.header);
        let (text, path) = self.checkpoint(id, self.log_size);
        let anchors = self.anchors.iter().map(|maker| {
            let (own_text, own_path) = self.checkpoint(id, maker.own.unwrap_or(self.log_size));
            let log = maker.own.map(|_| AnchorLog { checkpoint: self.sign(&own_text), path: own_path });
            maker.make(&own_text, log)
        });
        let anchors = anchors.collect();
        let log = LogProof { checkpoint: self.sign(&text), index: self.number, path };
        Receipt { statement, batch, log, anchors }
    }

    fn sign(&self, text: &str) -> String {
        note::sign(text, &[&log_key(&self.origin)]).unwrap()
    }

    /// The text of a checkpoint of this size and the header's path in it.
    fn checkpoint(&self, id: Hash, size: u64) -> (String, Vec<Hash>) {
        let mut leaves: Vec<Hash> = (0..size).map(|at| other_leaf(self.algorithm, at)).collect();
        leaves[self.number as usize] = id;
        let log = Tree::new(self.algorithm, leaves);
        let root = killick_proof::encoding::base64(log.root().as_ref());
        let text = format!("{}\n{size}\n{root}\n{}", self.origin, self.extension);
        assert!(Checkpoint::parse(&text).is_ok(), "{text}");
        (text, log.inclusion_path(self.number).unwrap())
    }

    /// A trust file that trusts all this is made from.
    pub fn trust(&self, receipt: &Receipt) -> TrustFile {
        let mut networks = Vec::new();
        for (maker, anchor) in self.anchors.iter().zip(&receipt.anchors) {
            let blocks = if maker.is_trusted { vec![anchor.block.hash] } else { Vec::new() };
            let name = maker.network.clone();
            networks.push(TrustedNetwork { name, blocks, ..TrustedNetwork::default() });
        }
        let device = DeviceKey {
            tenant: "plant-a".into(),
            source: "press/7".into(),
            key: device().public(),
            until: None,
        };
        let log = LogKey { key: log_key(&self.origin).verifier(), until: None };
        TrustFile { networks, logs: vec![log], devices: vec![device] }
    }
}

impl AnchorMaker {
    pub fn make(&self, checkpoint: &str, log: Option<AnchorLog>) -> Anchor {
        let size = "3\nTszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=\n";
        let others = [format!("a.example/1/sha256/0\n{size}"), format!("z.example/1/sha256/0\n{size}")];
        let tree = AnchorTree::new(self.algorithm, vec![&others[1], checkpoint, &others[0]]).unwrap();
        let text = tree.anchor_text();
        let input = [&Tag::OUTPUT.0.to_be_bytes()[..], (self.output)(&text).as_bytes()].concat();
        let (header, object) = self.block(&input);
        let ends_on = self.ends_on.unwrap_or(self.chain);
        Anchor {
            log,
            tree: TreeProof { root: tree.root(), size: 3, index: 1, path: tree.path(1).unwrap() },
            spv: SpvProof { chain: ends_on.into(), object, input },
            block: Block {
                network: self.network.clone(),
                chain: ends_on.into(),
                height: header.height,
                hash: Hash::new(header.hash.0),
                header: header.encode(),
            },
        }
    }

    /// A block in which the proof of a transaction's output ends, and the proof.
    fn block(&self, input: &[u8]) -> (Header, Vec<u8>) {
        let hash = merkle::Algorithm::Sha512t256;
        let outputs = [hash.input(Tag::COINBASE, b"{}"), hash.raw_input(input)];
        let payload = [hash.input(Tag::MINER_DATA, b"{}"), merkle::root(hash, &outputs)];
        let mut header = self.header(self.chain, self.height, merkle::root(hash, &payload));
        header.hash = header.compute_hash();
        if let Some(miner) = &self.miner {
            let mut miner = miner.borrow_mut();
            miner.layer(Some((header.chain, header.payload_hash)));
            header = miner.headers[&(miner.tip, header.chain)].clone();
        }
        let mut steps = merkle::path(hash, &outputs, 1).unwrap();
        steps.extend(merkle::path(hash, &payload, 1).unwrap());
        steps.extend(header.path(header::PAYLOAD_LEAF).unwrap());
        if let Some(chain) = self.ends_on {
            let mut next = self.header(chain, self.height + 1, chainweb::Hash([9; 32]));
            let at = next.adjacents.iter().position(|(chain, _)| chain.0 == self.chain).unwrap();
            next.adjacents[at].1 = header.hash;
            next.hash = next.compute_hash();
            steps.extend(next.path(header::FIRST_ADJACENT_LEAF + at).unwrap());
            header = next;
        }
        (header, MerkleProof { position: 1, steps }.encode())
    }

    fn header(&self, chain: u32, height: u64, payload_hash: chainweb::Hash) -> Header {
        let chain = ChainId(chain);
        let version = Version::by_name(&self.network).or_else(|| Version::by_name("development")).unwrap();
        let neighbours = version.adjacency_graph(chain, height).neighbours(chain);
        Header {
            flags: 0,
            creation_time: self.created,
            parent: chainweb::Hash([3; 32]),
            adjacents: neighbours.iter().map(|next| (*next, chainweb::Hash([4; 32]))).collect(),
            target: U256::MAX,
            payload_hash,
            chain,
            weight: U256::ZERO,
            height,
            version: self.code,
            epoch_start: 0,
            nonce: 0,
            hash: chainweb::Hash::default(),
        }
    }
}

/// Verifies a receipt's JSON with a trust file, both through their text.
pub fn verify_json(json: &str, trust: &TrustFile) -> Report {
    let trust = Trust::parse(trust.to_json().as_bytes()).unwrap();
    Verifier::new(trust).verify(json.as_bytes(), None)
}

/// Verifies a receipt in both forms, which have to agree.
pub fn verify(receipt: &Receipt, trust: &TrustFile) -> Report {
    let report = verify_json(&receipt.to_json(), trust);
    let trust = Trust::parse(trust.to_json().as_bytes()).unwrap();
    assert_eq!(Verifier::new(trust).verify(&receipt.to_cbor(), None), report, "the two forms agree");
    report
}

/// Where and why a receipt is wrong, in one line; panics where it is not.
#[track_caller]
pub fn wrong(report: &Report) -> String {
    report.wrong().unwrap_or_else(|| panic!("not wrong: {report:#?}")).to_string()
}

/// What a receipt lacks, in one line; panics where nothing is missing or it is wrong.
#[track_caller]
pub fn missing(report: &Report) -> String {
    report.missing().unwrap_or_else(|| panic!("nothing missing: {report:#?}")).to_string()
}
