//! Chains of an imaginary network: real blocks, real proofs, and a will of their own.

use std::collections::{BTreeMap, BTreeSet};

use chainweb::pact::Command;
use chainweb::payload::PayloadWithOutputs;
use chainweb::spv::{Blocks, Part, create_along};
use chainweb::{Hash, Header, U256};
use killick_stages::ports::{Balance, ChainId, Look, Mined, Sent, Spv};
use killick_stages::record::Micros;

use super::{Dice, SECOND};

/// The network's name and code, which nobody knows: its blocks have no rules, and nobody trusts them.
pub const NETWORK: &str = "imaginary";
const CODE: u32 = 0xfeed_beef;

#[derive(Debug)]
pub struct SimChain {
    id: ChainId,
    pub blocks: Vec<Block>,
    mempool: BTreeMap<String, Command>,
    /// Blocks that were on the branch once.
    pub orphaned: usize,
    /// Commands of which a copy was sent, by request key: the bytes have to be the same always.
    pub sent: BTreeMap<String, Vec<u8>>,
    /// Commands that were in a block once and whose output is a success.
    pub succeeded: BTreeSet<String>,
    /// Whether commands fail in their blocks.
    pub fails: bool,
    /// How often a text was sent in another command while the last one could still be mined.
    pub too_soon: usize,
}

#[derive(Debug, Clone)]
pub struct Block {
    pub header: Header,
    pub payload: PayloadWithOutputs,
    /// Request keys, and whether each succeeded.
    pub commands: Vec<(String, bool)>,
}

impl SimChain {
    pub fn new(id: ChainId, now: Micros) -> Self {
        let mut chain = Self {
            id,
            blocks: Vec::new(),
            mempool: BTreeMap::new(),
            orphaned: 0,
            sent: BTreeMap::new(),
            succeeded: BTreeSet::new(),
            fails: false,
            too_soon: 0,
        };
        chain.push(Vec::new(), now);
        chain
    }

    /// Makes a block of some of the commands that wait.
    pub fn mine(&mut self, now: Micros, dice: &mut Dice, faults: bool) {
        let parent = self.blocks.last().unwrap().header.creation_time;
        let mut taken = Vec::new();
        for (key, command) in std::mem::take(&mut self.mempool) {
            let Told { text, creation_time, expires } = told(&command);
            if expires <= parent {
                continue; // it is dead
            }
            let is_early = creation_time > parent + 95 * SECOND;
            if is_early || faults && dice.chance(300) {
                self.mempool.insert(key, command);
            } else if !(faults && dice.chance(50)) {
                let succeeds = !(self.fails || faults && dice.chance(50));
                taken.push((key, command, text, succeeds));
            } // else the node forgets it
        }
        self.push(taken, now);
    }

    fn push(&mut self, taken: Vec<(String, Command, String, bool)>, now: Micros) {
        let mut transactions = Vec::new();
        let mut commands = Vec::new();
        for (key, command, text, succeeds) in taken {
            let result = if succeeds {
                self.succeeded.insert(key.clone());
                format!(r#"{{"status":"success","data":{text}}}"#)
            } else {
                r#"{"status":"failure","error":{"message":"Gas limit (400) exceeded: 401"}}"#.to_owned()
            };
            let output = format!(r#"{{"gas":75,"result":{result},"reqKey":"{key}","metaData":null}}"#);
            transactions.push((command.to_transaction().into_bytes(), output.into_bytes()));
            commands.push((key, succeeds));
        }
        let payload = PayloadWithOutputs::new(transactions, b"miner".to_vec(), b"coinbase".to_vec());
        let parent = self.blocks.last().map(|block| &block.header);
        let mut header = Header {
            flags: 0,
            creation_time: parent.map_or(now, |parent| now.max(parent.creation_time + 1)),
            parent: parent.map_or(Hash([0; 32]), |parent| parent.hash),
            adjacents: Vec::new(),
            target: U256::MAX,
            payload_hash: payload.payload_hash,
            chain: chainweb::ChainId(self.id),
            weight: U256::ZERO,
            height: parent.map_or(0, |parent| parent.height + 1),
            version: CODE,
            epoch_start: 0,
            nonce: self.orphaned as u64,
            hash: Hash([0; 32]),
        };
        header.hash = header.compute_hash();
        self.blocks.push(Block { header, payload, commands });
    }

    /// Lets another branch win, `depth` blocks deep. Commands that lose their block wait again, or are forgotten.
    pub fn turn(&mut self, depth: usize, now: Micros, dice: &mut Dice) {
        let depth = depth.min(self.blocks.len() - 1);
        for block in self.blocks.split_off(self.blocks.len() - depth) {
            self.orphaned += 1;
            for (transaction, _) in &block.payload.transactions {
                let command = Command::parse(transaction).unwrap();
                if dice.chance(700) {
                    self.mempool.insert(command.hash.to_string(), command);
                }
            }
        }
        for _ in 0..depth {
            self.mine(now, dice, true);
        }
    }

    /// Forgets all commands that wait.
    pub fn forget(&mut self) {
        self.mempool.clear();
    }

    /// Lets another branch win, so many blocks deep, with none of their commands.
    pub fn orphan(&mut self, depth: usize) {
        let times: Vec<_> =
            self.blocks.iter().rev().take(depth).map(|block| block.header.creation_time).collect();
        self.blocks.truncate(self.blocks.len() - depth);
        self.orphaned += depth;
        times.into_iter().rev().for_each(|time| self.push(Vec::new(), time));
    }

    /// Lets another branch win from a height on, with the same commands at the same times.
    pub fn lose(&mut self, height: u64, dice: &mut Dice) {
        let from = self.blocks.iter().position(|block| block.header.height == height).unwrap();
        for block in self.blocks.split_off(from) {
            self.orphaned += 1;
            for (transaction, _) in &block.payload.transactions {
                let command = Command::parse(transaction).unwrap();
                self.mempool.insert(command.hash.to_string(), command);
            }
            self.mine(block.header.creation_time, dice, false);
        }
    }

    fn find(&self, key: &str) -> Option<(&Block, usize)> {
        let find = |block: &Block| block.commands.iter().position(|(known, _)| known == key);
        self.blocks.iter().find_map(|block| find(block).map(|index| (block, index)))
    }

    pub fn is_canonical(&self, hash: &[u8]) -> bool {
        self.blocks.iter().any(|block| block.header.hash.0 == hash)
    }

    /// Whether the block of this hash, in base64url, is on the branch.
    pub fn has(&self, hash: &str) -> bool {
        self.blocks.iter().any(|block| block.header.hash.to_string() == hash)
    }

    pub fn send(&mut self, key: &str, bytes: &[u8], dice: &mut Dice, faults: bool) -> Sent {
        let command = Command::parse(bytes).unwrap();
        command.verify().unwrap();
        assert_eq!(command.hash.to_string(), key);
        if !self.sent.contains_key(key) {
            let tip = self.blocks.last().unwrap().header.creation_time;
            let (text, before) = (told(&command).text, self.sent.iter());
            let is_alive = |(key, bytes): &(&String, &Vec<u8>)| {
                let other = told(&Command::parse(bytes).unwrap());
                other.text == text && other.expires > tip && self.find(key).is_none()
            };
            self.too_soon += before.filter(is_alive).count();
        }
        let before = self.sent.entry(key.to_owned()).or_insert_with(|| bytes.to_vec());
        assert_eq!(before, bytes, "a command is sent with other bytes");
        if faults && dice.chance(50) {
            return Sent::Refused("Transaction time-to-live is expired".into());
        }
        if self.find(key).is_none() && !(faults && dice.chance(50)) {
            self.mempool.insert(key.to_owned(), command);
        }
        if faults && dice.chance(200) {
            Sent::Unclear("500 Something went wrong".into())
        } else {
            Sent::Taken
        }
    }

    pub fn look(&self, keys: &[Box<str>], depth: u64) -> Look {
        let tip = &self.blocks.last().unwrap().header;
        let mined = keys.iter().find_map(|key| {
            let (block, index) = self.find(key)?;
            Some(Mined {
                key: key.clone(),
                height: block.header.height,
                block: block.header.hash.to_string().into(),
                success: block.commands[index].1,
            })
        });
        let deep = self.blocks.iter().rev().nth(depth as usize).or(self.blocks.first());
        let deep_time = deep.map(|block| block.header.creation_time);
        Look { tip_height: tip.height, tip_time: tip.creation_time, deep_time, mined }
    }

    /// What every account has: enough, if the chain says it.
    pub fn balance(&self, faults: bool) -> Balance {
        if faults && self.blocks.len().is_multiple_of(3) {
            return Balance::Unknown("500 Something went wrong".into());
        }
        Balance::Units(1_000_000 * 1_000_000_000_000)
    }

    pub fn spv(&self, key: &str) -> Option<Spv> {
        let (block, index) = self.find(key)?;
        let header = &block.header;
        let proof = create_along(self, header, &[header.chain], header.height, index, Part::Output).unwrap();
        Some(Spv { proof: proof.to_json().into(), header: header.encode().into() })
    }
}

/// What a command says: the text in JSON, and its times in log time.
struct Told {
    text: String,
    creation_time: Micros,
    expires: Micros,
}

fn told(command: &Command) -> Told {
    let cmd: serde_json::Value = serde_json::from_str(&command.cmd).unwrap();
    let seconds = |name: &str| cmd["meta"][name].as_i64().unwrap() * SECOND;
    Told {
        text: cmd["payload"]["exec"]["data"]["killick"].to_string(),
        creation_time: seconds("creationTime"),
        expires: seconds("creationTime") + seconds("ttl"),
    }
}

impl Blocks for SimChain {
    fn header(&self, hash: &Hash) -> Option<Header> {
        self.blocks.iter().find(|block| block.header.hash == *hash).map(|block| block.header.clone())
    }

    fn payload(&self, payload_hash: &Hash) -> Option<PayloadWithOutputs> {
        let block = self.blocks.iter().find(|block| block.payload.payload_hash == *payload_hash);
        block.map(|block| block.payload.clone())
    }
}
