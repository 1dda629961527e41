//! One chain: its newest blocks and their forks, the accounts, what is mined and what waits.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::RangeInclusive;

use crate::graph::ChainId;
use crate::hash::Hash;
use crate::header::Header;

use super::block::{Block, Charge, NewBlock};
use super::execute::{BLOCK_GAS_LIMIT, execute, fee};
use super::mempool::{Account, Mempool};

/// How far ahead of its parent block the creation time of a mined command may be, in seconds.
const MAX_AHEAD_OF_PARENT: i64 = 95;

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
    /// Blocks that were undone, by height and hash: known, and not part of the chain.
    orphans: BTreeMap<(u64, Hash), Block>,
    /// The height of each known block, orphans too.
    heights: HashMap<Hash, u64>,
    /// The height of each known payload. A block and an orphan beside it can have the same one.
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
            orphans: BTreeMap::new(),
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

    /// A block by its hash, orphans too.
    pub(super) fn by_hash(&self, hash: &Hash) -> Option<&Block> {
        let height = *self.heights.get(hash)?;
        let block = self.at(height).filter(|block| block.header.hash == *hash);
        block.or_else(|| self.orphans.get(&(height, *hash)))
    }

    /// A block by the hash of its payload, orphans too.
    pub(super) fn by_payload(&self, payload: &Hash) -> Option<&Block> {
        let height = *self.payloads.get(payload)?;
        let mut blocks = self.at(height).into_iter().chain(self.orphans_at(height));
        blocks.find(|block| block.header.payload_hash == *payload)
    }

    fn orphans_at(&self, height: u64) -> impl Iterator<Item = &Block> {
        self.orphans.range(at_height(height)).map(|(_, orphan)| orphan)
    }

    /// All known blocks at a height, in the order of their hashes.
    pub(super) fn all_at(&self, height: u64) -> Vec<&Block> {
        let mut blocks: Vec<_> = self.at(height).into_iter().chain(self.orphans_at(height)).collect();
        blocks.sort_by_key(|block| block.header.hash);
        blocks
    }

    /// The largest height of a known block.
    pub(super) fn last_height(&self) -> u64 {
        let orphan = self.orphans.last_key_value().map_or(0, |((height, _), _)| *height);
        orphan.max(self.tip().header.height)
    }

    /// All known blocks that `upper` and their ancestors are, and none of `lower` and theirs; those with the greatest
    /// height first.
    pub(super) fn branch<'a>(&'a self, lower: &[Hash], upper: &[Hash]) -> Branch<'a> {
        let side = |hashes: &[Hash], is_wanted: bool| {
            let known = hashes.iter().filter_map(|hash| Some((self.by_hash(hash)?.header.height, *hash)));
            known.map(|place| (place, is_wanted)).collect::<Vec<_>>()
        };
        // A block on both sides is not wanted: what comes later counts.
        let open = side(upper, true).into_iter().chain(side(lower, false)).collect();
        Branch { chain: self, open }
    }

    pub(super) fn orphans(&self) -> impl Iterator<Item = &Block> {
        self.orphans.values()
    }

    /// All blocks of the chain that are kept, ascending.
    pub(super) fn blocks(&self) -> impl DoubleEndedIterator<Item = &Block> {
        self.blocks.iter()
    }

    /// Appends a block to the history, without its changes.
    pub(super) fn push(&mut self, block: Block) {
        let Header { hash, height, payload_hash, .. } = block.header;
        self.heights.insert(hash, height);
        self.payloads.insert(payload_hash, height);
        self.orphans.remove(&(height, hash)); // it may come back
        self.blocks.push_back(block);
    }

    /// Takes note of a block that is not part of the chain.
    pub(super) fn push_orphan(&mut self, block: Block) {
        let Header { hash, height, payload_hash, .. } = block.header;
        self.heights.insert(hash, height);
        self.payloads.insert(payload_hash, height);
        self.orphans.insert((height, hash), block);
    }

    /// Replaces the whole history, for a chain that is read back.
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.orphans.clear();
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

    /// Undoes all blocks above the height `keep` and gives them back, ascending: they become orphans. `None`, and
    /// nothing is changed, if that is below what is kept.
    pub(super) fn rewind(&mut self, keep: u64) -> Option<Vec<NewBlock>> {
        let above = keep.checked_sub(self.first_height())?.checked_add(1)?;
        let above = usize::try_from(above).ok()?.min(self.blocks.len());
        let undone = self.blocks.range(above..).cloned().map(NewBlock::of).collect::<Option<Vec<_>>>()?;
        self.blocks.truncate(above);
        for new in undone.iter().rev() {
            for charge in &new.charges {
                if let Some(account) = self.accounts.get_mut(&charge.sender) {
                    account.balance = account.balance.saturating_add(charge.fee);
                }
                self.mined.remove(&charge.key);
            }
            self.next_tx_id = new.block.coinbase_tx_id.unwrap_or(0);
            self.push_orphan(new.block.clone());
        }
        Some(undone)
    }

    /// Lets commands of undone blocks wait again, unless they are mined elsewhere.
    pub(super) fn take_back(&mut self, undone: &[NewBlock]) {
        for (command, payload) in undone.iter().flat_map(NewBlock::commands) {
            if !self.mined.contains_key(&command.hash) {
                self.mempool.put_back(command, payload);
            }
        }
    }

    /// Drops blocks below the newest `retain`, and what is mined there and expired. Of orphans, the newest are kept.
    pub(super) fn trim(&mut self, retain: u64) {
        let tip = &self.tip().header;
        let (first, now) = (tip.height.saturating_sub(retain), seconds(tip.creation_time));
        let mut has_dropped = false;
        while self.blocks.len() > 1 && self.first_height() < first {
            if let Some(block) = self.blocks.pop_front() {
                self.forget(&block.header);
                has_dropped = has_dropped || !block.transactions.is_empty();
            }
        }
        while self.orphans.len() as u64 > retain
            || self.orphans.first_key_value().is_some_and(|((height, _), _)| *height < first)
        {
            let Some((_, orphan)) = self.orphans.pop_first() else { break };
            self.forget(&orphan.header);
        }
        // Looked through only now and then: it costs as much as there are commands within their time to live.
        if has_dropped || first % 1024 == 1 {
            self.mined.retain(|_, mined| mined.height >= first || mined.expires > now);
        }
    }

    /// Removes a dropped block from the indexes.
    fn forget(&mut self, dropped: &Header) {
        self.heights.remove(&dropped.hash);
        let other = self.by_payload(&dropped.payload_hash);
        if other.is_none() {
            self.payloads.remove(&dropped.payload_hash);
        }
    }

    /// The same chain for another node, with nothing that waits.
    pub(super) fn copy(&self) -> Self {
        Self {
            id: self.id,
            blocks: self.blocks.clone(),
            orphans: self.orphans.clone(),
            heights: self.heights.clone(),
            payloads: self.payloads.clone(),
            accounts: self.accounts.clone(),
            mined: self.mined.clone(),
            mempool: Mempool::default(),
            prepared: Prepared::default(),
            next_tx_id: self.next_tx_id,
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
            let is_early = meta.creation_time > now.saturating_add(MAX_AHEAD_OF_PARENT);
            if is_early || meta.gas_limit > gas_left || waiting.is_stuck {
                continue;
            }
            let in_account = self.accounts.get(&meta.sender).map_or(0, |account| account.balance);
            let balance = balances.entry(&meta.sender).or_insert(in_account);
            let is_paid = fee(meta.gas_limit, &meta.gas_price).is_some_and(|fee| fee <= *balance);
            let (name, bytes) = (key.to_string(), command.cmd.len());
            let executed = execute(&waiting.payload, &name, bytes, miner, tx_id, waiting.fails);
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

/// The branch of a tree of blocks: see [`Chain::branch`].
pub(super) struct Branch<'a> {
    chain: &'a Chain,
    /// The blocks to go on from, and whether they are wanted.
    open: BTreeMap<(u64, Hash), bool>,
}

impl<'a> Iterator for Branch<'a> {
    type Item = &'a Block;

    fn next(&mut self) -> Option<&'a Block> {
        loop {
            if !self.open.values().any(|is_wanted| *is_wanted) {
                return None;
            }
            let ((_, hash), is_wanted) = self.open.pop_last()?;
            let block = self.chain.by_hash(&hash)?;
            if let Some(parent) = self.chain.by_hash(&block.header.parent) {
                let parent = (parent.header.height, parent.header.hash);
                self.open.entry(parent).and_modify(|wanted| *wanted &= is_wanted).or_insert(is_wanted);
            }
            if is_wanted {
                return Some(block);
            }
        }
    }
}

/// The places of all blocks at a height.
fn at_height(height: u64) -> RangeInclusive<(u64, Hash)> {
    (height, Hash([0; 32]))..=(height, Hash([255; 32]))
}

/// Whole seconds of a time in µs.
pub(super) fn seconds(time: i64) -> i64 {
    time.div_euclid(1_000_000)
}
