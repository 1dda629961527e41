//! One chain: its newest blocks, the accounts, what is mined and what waits.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::graph::ChainId;
use crate::hash::Hash;
use crate::header::Header;
use crate::payload::PayloadWithOutputs;

use super::execute::{BLOCK_GAS_LIMIT, execute, fee};
use super::mempool::{Account, Mempool};
use super::store::{Reader, Writer};

/// How far ahead of its parent block the creation time of a mined command may be, in seconds.
const MAX_AHEAD_OF_PARENT: i64 = 95;

/// A block without what can be computed again: miner data and coinbase.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) header: Header,
    /// Each transaction with its output.
    pub(super) transactions: Vec<(Vec<u8>, Vec<u8>)>,
    /// The coinbase's id in the database; `None` for genesis, which has no coinbase.
    pub(super) coinbase_tx_id: Option<u64>,
}

/// What a mined command changes.
#[derive(Clone, Debug)]
pub(super) struct Charge {
    pub(super) key: Hash,
    pub(super) sender: String,
    /// In 10^-12 of the coin.
    pub(super) fee: u128,
    pub(super) tx_ids: u64,
    /// The second in which the command expires.
    pub(super) expires: i64,
}

/// A block that is made and not yet part of the chain, with what it changes.
#[derive(Clone, Debug)]
pub(super) struct NewBlock {
    pub(super) block: Block,
    pub(super) charges: Vec<Charge>,
}

/// Where a command was mined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mined {
    pub(super) height: u64,
    pub(super) index: usize,
    pub(super) expires: i64,
}

/// The transactions of the next block, chosen when its parent was made.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) transactions: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) charges: Vec<Charge>,
}

pub(super) struct Chain {
    pub(super) id: ChainId,
    /// The newest blocks, ascending by height without a gap; never empty.
    blocks: VecDeque<Block>,
    heights: HashMap<Hash, u64>,
    payloads: HashMap<Hash, u64>,
    pub(super) accounts: BTreeMap<String, Account>,
    pub(super) mined: HashMap<Hash, Mined>,
    pub(super) mempool: Mempool,
    pub(super) prepared: Prepared,
    pub(super) next_tx_id: u64,
}

impl Chain {
    pub(super) fn new(genesis: Header, accounts: BTreeMap<String, Account>) -> Self {
        let id = genesis.chain;
        let mut chain = Self {
            id,
            blocks: VecDeque::new(),
            heights: HashMap::new(),
            payloads: HashMap::new(),
            accounts,
            mined: HashMap::new(),
            mempool: Mempool::default(),
            prepared: Prepared::default(),
            next_tx_id: 0,
        };
        chain.push(Block { header: genesis, transactions: Vec::new(), coinbase_tx_id: None });
        chain
    }

    pub(super) fn tip(&self) -> &Block {
        self.blocks.back().expect("a chain begins with a block and keeps at least the newest")
    }

    pub(super) fn first_height(&self) -> u64 {
        self.blocks.front().map_or(0, |block| block.header.height)
    }

    pub(super) fn at(&self, height: u64) -> Option<&Block> {
        let index = height.checked_sub(self.first_height())?;
        self.blocks.get(usize::try_from(index).ok()?)
    }

    pub(super) fn height_of(&self, block: &Hash) -> Option<u64> {
        self.heights.get(block).copied()
    }

    pub(super) fn by_hash(&self, block: &Hash) -> Option<&Block> {
        self.at(self.height_of(block)?)
    }

    pub(super) fn by_payload(&self, payload: &Hash) -> Option<&Block> {
        self.at(*self.payloads.get(payload)?)
    }

    /// All blocks that are kept, ascending.
    pub(super) fn blocks(&self) -> impl DoubleEndedIterator<Item = &Block> {
        self.blocks.iter()
    }

    /// Appends a block to the history, without its changes.
    pub(super) fn push(&mut self, block: Block) {
        self.heights.insert(block.header.hash, block.header.height);
        self.payloads.insert(block.header.payload_hash, block.header.height);
        self.blocks.push_back(block);
    }

    /// Replaces the whole history, for a chain that is read back.
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.heights.clear();
        self.payloads.clear();
    }

    /// Appends a block and makes its changes. The miner's balance is not kept: nobody spends from it here.
    pub(super) fn apply(&mut self, new: NewBlock) {
        let height = new.block.header.height;
        self.next_tx_id += 1;
        for (index, charge) in new.charges.into_iter().enumerate() {
            if let Some(account) = self.accounts.get_mut(&charge.sender) {
                account.balance = account.balance.saturating_sub(charge.fee);
            }
            self.next_tx_id += charge.tx_ids;
            self.mempool.remove(&charge.key);
            self.mined.insert(charge.key, Mined { height, index, expires: charge.expires });
        }
        self.push(new.block);
    }

    /// Drops blocks below the newest `retain`, and what is mined there and expired.
    pub(super) fn trim(&mut self, retain: u64) {
        let tip = &self.tip().header;
        let (first, now) = (tip.height.saturating_sub(retain), seconds(tip.creation_time));
        let mut has_dropped = false;
        while self.blocks.len() > 1 && self.first_height() < first {
            if let Some(block) = self.blocks.pop_front() {
                self.heights.remove(&block.header.hash);
                self.payloads.remove(&block.header.payload_hash);
                has_dropped = has_dropped || !block.transactions.is_empty();
            }
        }
        // Looked through only now and then: it costs as much as there are commands within their time to live.
        if has_dropped || first % 1024 == 1 {
            self.mined.retain(|_, mined| mined.height >= first || mined.expires > now);
        }
    }

    /// Chooses what goes into the block above the tip, as far as its gas reaches. Drops what expired, and bans
    /// what can never be mined.
    pub(super) fn prepare(&mut self, miner: &str) {
        let now = seconds(self.tip().header.creation_time);
        let mut prepared = Prepared::default();
        let (mut gone, mut hopeless) = (Vec::new(), Vec::new());
        let mut balances: HashMap<&str, u128> = HashMap::new();
        let mut gas_left = BLOCK_GAS_LIMIT;
        let mut tx_id = self.next_tx_id + 1; // the coinbase comes first
        for (key, waiting) in self.mempool.by_price() {
            let (meta, command) = (&waiting.payload.meta, &waiting.command);
            if meta.expires() <= now {
                gone.push(*key);
                continue;
            }
            if meta.creation_time > now.saturating_add(MAX_AHEAD_OF_PARENT) || meta.gas_limit > gas_left {
                continue;
            }
            let in_account = self.accounts.get(&meta.sender).map_or(0, |account| account.balance);
            let balance = balances.entry(&meta.sender).or_insert(in_account);
            let is_paid = fee(meta.gas_limit, &meta.gas_price).is_some_and(|fee| fee <= *balance);
            let executed = execute(&waiting.payload, &key.to_string(), command.cmd.len(), miner, tx_id);
            let (true, Ok(executed)) = (is_paid, executed) else {
                hopeless.push(*key);
                continue;
            };
            *balance -= executed.fee;
            gas_left -= executed.gas.min(gas_left);
            tx_id += executed.tx_ids;
            prepared.charges.push(Charge {
                key: *key,
                sender: meta.sender.clone(),
                fee: executed.fee,
                tx_ids: executed.tx_ids,
                expires: meta.expires(),
            });
            prepared.transactions.push((command.to_transaction().into_bytes(), executed.output.into_bytes()));
        }
        for key in gone {
            self.mempool.remove(&key);
        }
        for key in hopeless {
            self.mempool.ban(&key, now);
        }
        self.prepared = prepared;
    }
}

/// Whole seconds of a time in µs.
pub(super) fn seconds(time: i64) -> i64 {
    time.div_euclid(1_000_000)
}

impl Block {
    pub(super) fn write(&self, out: &mut Writer) {
        out.bytes(&self.header.encode());
        out.u64(self.coinbase_tx_id.unwrap_or(u64::MAX));
        out.u64(self.transactions.len() as u64);
        for (transaction, output) in &self.transactions {
            out.bytes(transaction);
            out.bytes(output);
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Option<Self> {
        let header = Header::decode(from.bytes()?).ok()?;
        let coinbase_tx_id = Some(from.u64()?).filter(|&id| id != u64::MAX);
        let mut transactions = Vec::new();
        for _ in 0..from.u64()? {
            transactions.push((from.bytes()?.to_vec(), from.bytes()?.to_vec()));
        }
        Some(Self { header, transactions, coinbase_tx_id })
    }
}

impl NewBlock {
    pub(super) fn write(&self, out: &mut Writer) {
        self.block.write(out);
        for charge in &self.charges {
            out.0.extend_from_slice(&charge.key.0);
            out.bytes(charge.sender.as_bytes());
            out.u128(charge.fee);
            out.u64(charge.tx_ids);
            out.i64(charge.expires);
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Option<Self> {
        let block = Block::read(from)?;
        let mut charges = Vec::new();
        for _ in &block.transactions {
            charges.push(Charge {
                key: Hash(from.hash()?),
                sender: from.text()?,
                fee: from.u128()?,
                tx_ids: from.u64()?,
                expires: from.i64()?,
            });
        }
        Some(Self { block, charges })
    }
}

/// The payload of a genesis block: no transactions, no miner, no coinbase.
pub(super) fn genesis_payload() -> PayloadWithOutputs {
    let miner = br#"{"account":"NoMiner","predicate":"<","public-keys":[]}"#;
    let coinbase = br#"{"gas":0,"result":{"status":"success","data":"NO_COINBASE"},"reqKey":"DldRwCblQ7Loqy6wYJnaodHl30d3j3eH-qtFzfEv46g","logs":null,"metaData":null,"continuation":null,"txId":null}"#;
    PayloadWithOutputs::new(Vec::new(), miner.to_vec(), coinbase.to_vec())
}
