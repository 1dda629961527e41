//! A network's life on disk: a snapshot of its state, its kept blocks, then every round as it is made.

use std::collections::BTreeMap;
use std::path::Path;

use crate::graph::ChainId;
use crate::hash::Hash;

use super::block::{Block, NewBlock};
use super::chain::{Chain, Mined};
use super::coins::Gift;
use super::fork::Change;
use super::mempool::Account;
use super::network::Network;
use super::store::{Reader, Store, StoreError, Writer};

/// First byte of a frame's body: the state of all chains at their tips.
const SNAPSHOT: u8 = b'S';
/// Blocks that the state of the snapshot has in it already.
const HISTORY: u8 = b'H';
/// Blocks that are no part of their chains.
const ORPHANS: u8 = b'O';
/// Blocks that change the state.
const ROUND: u8 = b'R';
/// Heights that chains go back to, then blocks that change the state.
const FORK: u8 = b'F';
/// Coins that an account was given on each chain.
const GIFT: u8 = b'C';

/// Heights of history in one frame.
const HEIGHTS_PER_FRAME: u64 = 64;

pub(super) struct Journal {
    store: Store,
    /// Rounds, and what else happened, since the file was last written anew.
    rounds: u64,
    /// Whether the last append failed, so that the file has to be written anew.
    is_broken: bool,
}

impl Journal {
    /// Opens a folder and brings `network`, which is at genesis, to where the folder's network was.
    pub(super) fn open(folder: &Path, network: &mut Network) -> Result<Self, StoreError> {
        let mut rounds = 0;
        let mut other_network = None;
        let store = Store::open(folder, |body| {
            let (kind, body) = body.split_first().ok_or("empty frame")?;
            let mut body = Reader(body);
            match *kind {
                SNAPSHOT => {
                    let found = body.text().ok_or("unreadable snapshot")?;
                    if found != identity(network) {
                        other_network = Some(found);
                        return Err("another network");
                    }
                    network
                        .chains_mut()
                        .iter_mut()
                        .try_for_each(|chain| read_chain(chain, &mut body))
                        .ok_or("unreadable snapshot")?;
                }
                HISTORY => {
                    while !body.0.is_empty() {
                        let block = Block::read(&mut body).ok_or("unreadable block")?;
                        check(network, &block)?;
                        let chain = network.chains_mut().get_mut(block.header.chain.0 as usize);
                        chain.ok_or("block of an unknown chain")?.push(block);
                    }
                }
                ORPHANS => {
                    while !body.0.is_empty() {
                        let block = Block::read(&mut body).ok_or("unreadable block")?;
                        check_alone(network, &block)?;
                        let chain = network.chain_mut(block.header.chain);
                        chain.ok_or("block of an unknown chain")?.push_orphan(block);
                    }
                }
                ROUND | FORK => {
                    rounds += 1;
                    let rewinds = if *kind == FORK { read_rewinds(network, &mut body)? } else { Vec::new() };
                    network.apply_change(Change { rewinds, blocks: Vec::new() });
                    while !body.0.is_empty() {
                        let new = NewBlock::read(&mut body).ok_or("unreadable block")?;
                        check(network, &new.block)?;
                        network.apply(new);
                    }
                }
                GIFT => {
                    rounds += 1;
                    let (name, account) = read_account(&mut body).ok_or("unreadable gift")?;
                    network.take_gift(&Gift { name, account });
                }
                _ => return Err("unknown kind of frame"),
            }
            Ok(())
        });
        let store = match (store, other_network) {
            (Err(StoreError::Damaged { path, .. }), Some(found)) => {
                return Err(StoreError::OtherNetwork { path, found, wanted: identity(network) });
            }
            (store, _) => store?,
        };
        let is_complete = network.chains().iter().all(|chain| chain.blocks().next().is_some());
        if !is_complete {
            return Err(StoreError::Damaged {
                path: store.path().to_owned(),
                at: store.len(),
                what: "no blocks of a chain",
            });
        }
        // What waits is in no file; and what forks left waiting was lost with the process.
        network.lose_mempool();
        Ok(Self { store, rounds, is_broken: false })
    }

    /// Whether the file holds as much of the past as of the present, or is not good for appending any more.
    pub(super) fn wants_rewrite(&self, network: &Network) -> bool {
        self.is_broken || self.rounds >= network.retain()
    }

    /// Makes a change durable; only then it may be seen.
    pub(super) fn append(&mut self, change: &Change) -> Result<(), StoreError> {
        let mut out = Writer(vec![if change.rewinds.is_empty() { ROUND } else { FORK }]);
        if !change.rewinds.is_empty() {
            out.u64(change.rewinds.len() as u64);
        }
        for (chain, height) in &change.rewinds {
            out.u64(u64::from(chain.0));
            out.u64(*height);
        }
        change.blocks.iter().for_each(|new| new.write(&mut out));
        self.put(&out)
    }

    /// Makes a gift durable; only then it may be seen.
    pub(super) fn append_gift(&mut self, gift: &Gift) -> Result<(), StoreError> {
        let mut out = Writer(vec![GIFT]);
        write_account(&gift.name, &gift.account, &mut out);
        self.put(&out)
    }

    fn put(&mut self, out: &Writer) -> Result<(), StoreError> {
        self.is_broken = true;
        let appended = self.store.append(&out.0);
        appended.map_err(|cause| StoreError::Io { path: self.store.path().to_owned(), cause })?;
        self.is_broken = false;
        self.rounds += 1;
        Ok(())
    }

    /// Writes the file anew: the state, and the blocks that are kept.
    pub(super) fn rewrite(&mut self, network: &Network) -> Result<(), StoreError> {
        let snapshot = std::iter::once_with(|| {
            let mut out = Writer(vec![SNAPSHOT]);
            out.bytes(identity(network).as_bytes());
            network.chains().iter().for_each(|chain| write_chain(chain, &mut out));
            out.0
        });
        let first = network.chains().iter().map(Chain::first_height).min().unwrap_or(0);
        let last = network.chains().iter().map(|chain| chain.tip().header.height).max().unwrap_or(0);
        let step = usize::try_from(HEIGHTS_PER_FRAME).unwrap_or(usize::MAX);
        let history = (first..=last).step_by(step).map(|from| {
            let mut out = Writer(vec![HISTORY]);
            for chain in network.chains() {
                let heights = from..from.saturating_add(HEIGHTS_PER_FRAME);
                heights.filter_map(|height| chain.at(height)).for_each(|block| block.write(&mut out));
            }
            out.0
        });
        let orphans = network.chains().iter().filter(|chain| chain.orphans().next().is_some()).map(|chain| {
            let mut out = Writer(vec![ORPHANS]);
            chain.orphans().for_each(|block| block.write(&mut out));
            out.0
        });
        let rewritten = self.store.rewrite(snapshot.chain(history).chain(orphans));
        rewritten.map_err(|cause| StoreError::Io { path: self.store.path().to_owned(), cause })?;
        (self.rounds, self.is_broken) = (0, false);
        Ok(())
    }
}

/// What must not change over the life of a folder.
fn identity(network: &Network) -> String {
    let version = network.version();
    format!("{} {:08x} {} {}", version.name, version.code, network.graph(), network.miner())
}

/// Checks that a block of the file continues its chain and has the contents that its header says.
fn check(network: &Network, block: &Block) -> Result<(), &'static str> {
    let chain = network.chain(block.header.chain).ok_or("block of an unknown chain")?;
    if let Some(tip) = chain.blocks().next_back()
        && (tip.header.hash != block.header.parent || tip.header.height + 1 != block.header.height)
    {
        return Err("block that does not continue its chain");
    }
    check_alone(network, block)
}

/// Checks that a block has the contents that its header says, and that they can be undone.
fn check_alone(network: &Network, block: &Block) -> Result<(), &'static str> {
    if !block.header.verify_hash() || network.payload_of(block).payload_hash != block.header.payload_hash {
        return Err("block with another hash than its contents");
    }
    block.charges().map(|_| ()).ok_or("block with commands that cannot be read")
}

/// The heights that chains go back to, all of them kept.
fn read_rewinds(network: &Network, from: &mut Reader<'_>) -> Result<Vec<(ChainId, u64)>, &'static str> {
    let mut rewinds = Vec::new();
    for _ in 0..from.u64().ok_or("unreadable fork")? {
        let (chain, height) = from.u64().zip(from.u64()).ok_or("unreadable fork")?;
        let id = ChainId(u32::try_from(chain).map_err(|_| "fork of an unknown chain")?);
        let chain = network.chain(id).ok_or("fork of an unknown chain")?;
        if height < chain.first_height() {
            return Err("fork below the first block of its chain");
        }
        rewinds.push((id, height));
    }
    Ok(rewinds)
}

fn write_chain(chain: &Chain, out: &mut Writer) {
    out.u64(chain.next_tx_id);
    out.u64(chain.accounts.len() as u64);
    for (name, account) in &chain.accounts {
        write_account(name, account, out);
    }
    out.u64(chain.mined.len() as u64);
    for (key, mined) in &chain.mined {
        out.0.extend_from_slice(&key.0);
        out.u64(mined.height);
        out.u64(mined.index as u64);
        out.i64(mined.expires);
    }
}

fn write_account(name: &str, account: &Account, out: &mut Writer) {
    out.bytes(name.as_bytes());
    out.bytes(account.key.as_bytes());
    out.u128(account.balance);
}

fn read_account(from: &mut Reader<'_>) -> Option<(String, Account)> {
    Some((from.text()?, Account { key: from.text()?, balance: from.u128()? }))
}

/// Reads the state of a chain. Accounts that are configured keep their configured key, and their balance where
/// the folder knows them.
fn read_chain(chain: &mut Chain, from: &mut Reader<'_>) -> Option<()> {
    chain.clear();
    chain.next_tx_id = from.u64()?;
    let mut accounts = BTreeMap::new();
    for _ in 0..from.u64()? {
        let (name, account) = read_account(from)?;
        accounts.insert(name, account);
    }
    for (name, configured) in &chain.accounts {
        let account = accounts.entry(name.clone()).or_insert_with(|| configured.clone());
        account.key.clone_from(&configured.key);
    }
    chain.accounts = accounts;
    for _ in 0..from.u64()? {
        let key = Hash(from.hash()?);
        let (height, index) = (from.u64()?, usize::try_from(from.u64()?).ok()?);
        chain.mined.insert(key, Mined { height, index, expires: from.i64()? });
    }
    Some(())
}
