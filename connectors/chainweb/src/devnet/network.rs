//! The network as a pure state machine: commands and times go in, blocks come out. No clock, no I/O.

use std::collections::BTreeMap;

use crate::cut::{Cut, CutBlock};
use crate::graph::{ChainId, Graph};
use crate::hash::Hash;
use crate::header::Header;
use crate::payload::PayloadWithOutputs;
use crate::rules;
use crate::spv::{self, Blocks, Part, Proof};
use crate::uint::U256;
use crate::version::Version;

use super::block::{Block, NewBlock, genesis_payload};
use super::chain::Chain;
use super::decimal::Decimal;
use super::execute::{badlisted, coinbase};
use super::mempool::Account;
use super::text::cut_id;
use super::value::hash_map_position;
use super::{Account as AccountConfig, ConfigError, SpvError, Tip};

/// What a block pays to its miner, over all chains of a height: the first step of the real table, for ever.
/// In 10^-12 of the coin.
const REWARD: u128 = 23_045_230_000_000;

/// Fewest heights to keep: enough for the longest path across chains, and some.
const MIN_RETAIN: u64 = 16;

/// A development network: all its chains, their accounts and what waits to be mined.
///
/// Everything is a function of what was put in: the same calls with the same times make the same blocks.
/// [`super::Devnet`] drives one by the clock.
pub struct Network {
    pub(super) version: Version,
    graph: Graph,
    pub(super) miner: String,
    miner_data: Vec<u8>,
    retain: u64,
    pub(super) chains: Vec<Chain>,
}

/// Why no block can be made on a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MakeError {
    /// The network has no such chain.
    #[error("no chain {0}")]
    UnknownChain(ChainId),
    /// A neighbour lags behind, so the braid cannot be continued here.
    #[error("chain {chain} waits for chain {neighbour}")]
    Lagging {
        /// The chain of the block.
        chain: ChainId,
        /// The neighbour that has to come first.
        neighbour: ChainId,
    },
    /// Target or weight leave their 256 bits, after ages of blocks much faster than the block delay.
    #[error("the difficulty of chain {0} is exhausted")]
    Difficulty(ChainId),
}

impl Network {
    /// The network at genesis. `retain` is the number of heights that are kept below the tip.
    ///
    /// # Errors
    /// [`ConfigError`] for rules, keys or names that cannot work, or too few heights.
    pub fn new(
        version: Version,
        accounts: &[AccountConfig],
        miner_key: &str,
        retain: u64,
    ) -> Result<Self, ConfigError> {
        if version.has_pow || version.eras.len() != 1 {
            return Err(ConfigError::Version(version.name.to_string()));
        }
        if retain < MIN_RETAIN {
            return Err(ConfigError::RetainHeights(retain));
        }
        let accounts = accounts.iter().map(account).collect::<Result<BTreeMap<_, _>, _>>()?;
        let miner_key = public_key(miner_key)?;
        let miner = format!("k:{miner_key}");
        let miner_data = format!(
            "{{\"account\":\"{miner}\",\"predicate\":\"keys-all\",\"public-keys\":[\"{miner_key}\"]}}"
        );
        let graph = version.latest_graph();
        let payload_hash = genesis_payload().payload_hash;
        let genesis = |chain| {
            let header = Header::genesis(&version, chain, payload_hash).expect("the graph has the chain");
            Chain::new(header, accounts.clone())
        };
        let chains = graph.chains().map(genesis).collect();
        Ok(Self { graph, miner, miner_data: miner_data.into_bytes(), retain, chains, version })
    }

    /// The rules that the blocks follow.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The graph that braids the chains.
    pub fn graph(&self) -> Graph {
        self.graph
    }

    /// The account that all blocks pay.
    pub fn miner(&self) -> &str {
        &self.miner
    }

    pub(super) fn chain(&self, chain: ChainId) -> Option<&Chain> {
        self.chains.get(chain.0 as usize)
    }

    pub(super) fn chains(&self) -> &[Chain] {
        &self.chains
    }

    pub(super) fn chain_mut(&mut self, chain: ChainId) -> Option<&mut Chain> {
        self.chains.get_mut(chain.0 as usize)
    }

    pub(super) fn chains_mut(&mut self) -> &mut [Chain] {
        &mut self.chains
    }

    pub(super) fn retain(&self) -> u64 {
        self.retain
    }

    /// Makes the next block of a chain. `now` is in µs since 1970; the block's time is `now`, or one block delay
    /// after its parents where that is later: so after a clock was set back, blocks stay ahead of it.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn make_block(&mut self, chain: ChainId, now: i64) -> Result<&Header, MakeError> {
        let new = self.build(chain, now, 0)?;
        self.apply(new);
        Ok(&self.chains[chain.0 as usize].tip().header)
    }

    /// Makes a block on every chain that can have one. See [`Network::make_block`].
    ///
    /// # Errors
    /// [`MakeError`] if not even one chain can have a block.
    pub fn make_round(&mut self, now: i64) -> Result<(), MakeError> {
        let round = self.build_round(now, 0)?;
        self.apply_all(round);
        Ok(())
    }

    /// The blocks of [`Network::make_round`] by one of several makers, not yet part of their chains.
    pub(super) fn build_round(&self, now: i64, maker: u32) -> Result<Vec<NewBlock>, MakeError> {
        let mut first_error = None;
        let mut round = Vec::with_capacity(self.chains.len());
        for chain in self.graph.chains() {
            match self.build(chain, now, maker) {
                Ok(new) => round.push(new),
                Err(error) => _ = first_error.get_or_insert(error),
            }
        }
        match first_error {
            Some(error) if round.is_empty() => Err(error),
            _ => Ok(round),
        }
    }

    pub(super) fn build(&self, id: ChainId, now: i64, maker: u32) -> Result<NewBlock, MakeError> {
        let chain = self.chain(id).ok_or(MakeError::UnknownChain(id))?;
        let parent = &chain.tip().header;
        let mut adjacents = Vec::new();
        for &neighbour in self.graph.neighbours(id) {
            let block = self.chain(neighbour).and_then(|chain| chain.at(parent.height));
            adjacents.push(&block.ok_or(MakeError::Lagging { chain: id, neighbour })?.header);
        }
        // A step of one delay keeps the difficulty level whatever the clock does.
        let delay = i64::try_from(self.version.block_delay).unwrap_or(i64::MAX);
        let newest = adjacents.iter().map(|header| header.creation_time).chain([parent.creation_time]).max();
        let creation_time = newest.map_or(now, |newest| now.max(newest.saturating_add(delay)));
        let transactions = chain.prepared.transactions.clone();
        let mut block =
            Block { header: parent.clone(), transactions, coinbase_tx_id: Some(chain.next_tx_id) };
        block.header =
            child(&self.version, parent, &adjacents, creation_time).ok_or(MakeError::Difficulty(id))?;
        block.header.nonce = unused_nonce(chain, block.header.height, maker);
        let payload = self.payload_of(&block);
        block.header.payload_hash = payload.payload_hash;
        block.header.hash = block.header.compute_hash();
        Ok(NewBlock { block, charges: chain.prepared.charges.clone() })
    }

    pub(super) fn apply_all(&mut self, blocks: impl IntoIterator<Item = NewBlock>) {
        blocks.into_iter().for_each(|new| self.apply(new));
    }

    /// Makes a built block part of its chain.
    pub(super) fn apply(&mut self, new: NewBlock) {
        let (id, retain) = (new.block.header.chain, self.retain);
        if let Some(chain) = self.chain_mut(id) {
            chain.apply(new);
            chain.trim(retain);
        }
        self.prepare(id);
    }

    /// Chooses anew what goes into the next block of a chain.
    pub(super) fn prepare(&mut self, chain: ChainId) {
        if let Some(chain) = self.chains.get_mut(chain.0 as usize) {
            chain.prepare(&self.miner);
        }
    }

    /// The same network for another node, with nothing that waits.
    pub(super) fn copy(&self) -> Self {
        Self {
            version: self.version.clone(),
            graph: self.graph,
            miner: self.miner.clone(),
            miner_data: self.miner_data.clone(),
            retain: self.retain,
            chains: self.chains.iter().map(Chain::copy).collect(),
        }
    }

    /// The results of commands that are at least `depth` blocks below the tip, as the JSON texts of a node, in
    /// the order of a node. For a command that was dropped for good it is the node's made-up failure.
    pub fn poll(&self, chain: ChainId, keys: &[Hash], depth: u64) -> Vec<(Hash, String)> {
        let Some(chain) = self.chain(chain) else { return Vec::new() };
        let mut results: Vec<_> =
            keys.iter().filter_map(|key| Some((*key, result(chain, key, depth)?))).collect();
        results.sort_by_key(|(key, _)| hash_map_position(&key.to_string()));
        results.dedup_by_key(|(key, _)| *key);
        results
    }

    /// The height and index of a mined command, and the hash of its block, while the block is kept.
    pub fn find(&self, chain: ChainId, key: &Hash) -> Option<(u64, usize, Hash)> {
        let chain = self.chain(chain)?;
        let mined = chain.mined.get(key)?;
        Some((mined.height, mined.index, chain.at(mined.height)?.header.hash))
    }

    /// The proof that the output of a mined command is in a block of `target`: in the one that is as many
    /// heights above it as the chains are apart.
    ///
    /// # Errors
    /// [`SpvError`].
    pub fn spv(&self, chain: ChainId, key: &Hash, target: ChainId) -> Result<Proof, SpvError> {
        let source = self.chain(chain).ok_or(SpvError::UnknownChain(chain))?;
        let target_chain = self.chain(target).ok_or(SpvError::UnknownChain(target))?;
        let (height, index, _) = self.find(chain, key).ok_or(SpvError::NotFound(*key))?;
        let root =
            spv::target_height(&self.version, source.id, height, target).and_then(|at| target_chain.at(at));
        let root = &root.ok_or(SpvError::NotReachable)?.header;
        spv::create(self, &self.version, root, chain, height, index, Part::Output)
            .map_err(|_| SpvError::NotReachable)
    }

    /// A header by its hash.
    pub fn header(&self, chain: ChainId, hash: &Hash) -> Option<&Header> {
        Some(&self.chain(chain)?.by_hash(hash)?.header)
    }

    /// A header by its height.
    pub fn header_at(&self, chain: ChainId, height: u64) -> Option<&Header> {
        Some(&self.chain(chain)?.at(height)?.header)
    }

    /// The header of `upper` and those of its ancestors, descending, down to the oldest block that is kept; without
    /// `lower` and its ancestors, where that is known. `None` if `upper` is not known.
    pub fn branch(&self, chain: ChainId, lower: Option<&Hash>, upper: &Hash) -> Option<Vec<&Header>> {
        let chain = self.chain(chain)?;
        chain.by_hash(upper)?;
        let lower = lower.map_or(&[][..], std::slice::from_ref);
        Some(chain.branch(lower, &[*upper]).map(|block| &block.header).collect())
    }

    /// The newest block of a chain.
    pub fn tip(&self, chain: ChainId) -> Option<Tip> {
        let header = &self.chain(chain)?.tip().header;
        Some(Tip { height: header.height, hash: header.hash, creation_time: header.creation_time })
    }

    /// The newest block of each chain. With `max_height` (a sum of heights over all chains), the blocks of the
    /// average height where the newest are above it.
    pub fn cut(&self, max_height: Option<u64>) -> Cut {
        let limit = max_height.map_or(u64::MAX, |sum| sum / u64::from(self.graph.order()));
        let headers = self.chains.iter().filter_map(|chain| {
            let height = chain.tip().header.height.min(limit).max(chain.first_height());
            chain.at(height).map(|block| &block.header)
        });
        let mut cut = Cut {
            hashes: BTreeMap::new(),
            origin: None,
            weight: U256::ZERO,
            height: 0,
            instance: self.version.name.to_string(),
            id: None,
        };
        for header in headers {
            cut.hashes.insert(header.chain, CutBlock { height: header.height, hash: header.hash });
            cut.weight = sum(cut.weight, header.weight);
            cut.height = cut.height.saturating_add(header.height);
        }
        cut.id = Some(cut_id(&cut));
        cut
    }

    /// The greatest height of a newest block.
    pub(super) fn height(&self) -> u64 {
        self.chains.iter().map(|chain| chain.tip().header.height).max().unwrap_or(0)
    }

    /// The sum of the weights of the newest blocks, or of those at height `cap` where the newest are above it.
    pub(super) fn weight(&self, cap: u64) -> U256 {
        let newest =
            |chain: &Chain| chain.at(chain.tip().header.height.min(cap)).map(|block| block.header.weight);
        self.chains.iter().filter_map(newest).fold(U256::ZERO, sum)
    }

    /// A payload with its outputs by its hash; on whichever chain it is.
    pub fn payload(&self, hash: &Hash) -> Option<PayloadWithOutputs> {
        self.block_of_payload(hash).map(|block| self.payload_of(block))
    }

    pub(super) fn block_of_payload(&self, hash: &Hash) -> Option<&Block> {
        self.chains.iter().find_map(|chain| chain.by_payload(hash))
    }

    pub(super) fn payload_of(&self, block: &Block) -> PayloadWithOutputs {
        let Some(tx_id) = block.coinbase_tx_id else { return genesis_payload() };
        let reward = REWARD / u128::from(self.graph.order());
        let coinbase = coinbase(&block.header.parent.to_string(), &self.miner, reward, tx_id);
        PayloadWithOutputs::new(block.transactions.clone(), self.miner_data.clone(), coinbase.into_bytes())
    }

    /// The balance of an account as decimal text.
    pub fn balance(&self, chain: ChainId, account: &str) -> Option<String> {
        Some(Decimal::from_units(self.chain(chain)?.accounts.get(account)?.balance).fixed())
    }
}

impl Blocks for Network {
    fn header(&self, hash: &Hash) -> Option<Header> {
        self.chains.iter().find_map(|chain| chain.by_hash(hash)).map(|block| block.header.clone())
    }

    fn payload(&self, payload_hash: &Hash) -> Option<PayloadWithOutputs> {
        Self::payload(self, payload_hash)
    }
}

fn sum(a: U256, b: U256) -> U256 {
    a.checked_add(b).unwrap_or(U256::MAX)
}

/// A nonce that no known block of this height has. The upper half is the maker's number, so that two of them make
/// different blocks of the same parts.
fn unused_nonce(chain: &Chain, height: u64, maker: u32) -> u64 {
    let nonces = chain.all_at(height).into_iter().map(|block| block.header.nonce);
    let last = nonces.filter(|nonce| nonce >> 32 == u64::from(maker)).max();
    last.map_or(u64::from(maker) << 32, |last| last.wrapping_add(1))
}

/// The header above `parent`, still without payload and hash.
fn child(version: &Version, parent: &Header, adjacents: &[&Header], creation_time: i64) -> Option<Header> {
    let target = rules::next_target(version, parent, adjacents, creation_time)?;
    Some(Header {
        flags: 0,
        creation_time,
        parent: parent.hash,
        adjacents: adjacents.iter().map(|adjacent| (adjacent.chain, adjacent.hash)).collect(),
        target,
        payload_hash: Hash::default(),
        chain: parent.chain,
        weight: parent.weight.checked_add(rules::difficulty(target)?)?,
        height: parent.height.checked_add(1)?,
        version: version.code,
        epoch_start: rules::next_epoch_start(version, parent, creation_time),
        nonce: 0,
        hash: Hash::default(),
    })
}

/// The result of a command in the words of poll: its output, with the place of its block put in.
fn result(chain: &Chain, key: &Hash, depth: u64) -> Option<String> {
    let Some(mined) = chain.mined.get(key) else {
        return chain.mempool.is_badlisted(key).then(|| badlisted(&key.to_string()));
    };
    if chain.tip().header.height < mined.height.saturating_add(depth) {
        return None;
    }
    let block = chain.at(mined.height)?;
    let (_, output) = block.transactions.get(mined.index)?;
    let output = std::str::from_utf8(output).ok()?;
    // The last one is the result's own: behind it stand only a null and a number.
    let (before, after) = output.rsplit_once("\"metaData\":null")?;
    let Header { hash, height, creation_time, parent, .. } = &block.header;
    Some(format!(
        "{before}\"metaData\":{{\"blockHash\":\"{hash}\",\"blockHeight\":{height},\"blockTime\":{creation_time},\"prevBlockHash\":\"{parent}\"}}{after}"
    ))
}

fn account(config: &AccountConfig) -> Result<(String, Account), ConfigError> {
    let name = &config.name;
    let has_length = (3..=256).contains(&name.chars().count());
    // The coin contract takes Latin-1 names only.
    if !has_length || !name.chars().all(|c| u32::from(c) < 256 && !c.is_control()) {
        return Err(ConfigError::AccountName(name.clone()));
    }
    Ok((name.clone(), Account { key: public_key(&config.public_key)?, balance: config.balance.units() }))
}

/// A public key in the form that commands have it: 64 lower-case hex digits.
pub(super) fn public_key(key: &str) -> Result<String, ConfigError> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if key.len() == 64 && key.bytes().all(is_hex) {
        Ok(key.to_owned())
    } else {
        Err(ConfigError::Key(key.to_owned()))
    }
}
