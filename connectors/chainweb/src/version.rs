//! The networks: names, codes, graphs over time, and the rules that differ between them.

use std::borrow::Cow;

use crate::graph::{ChainId, Graph};
use crate::hash::Hash;
use crate::merkle::{self, Algorithm};
use crate::uint::U256;

/// The number of blocks after which the target of a chain is adjusted, on every network.
pub const WINDOW: u64 = 120;

/// The highest fork number that is known; a header with a higher one follows rules that nobody here knows.
pub const KNOWN_FORKS: u32 = 1;

/// A stretch of heights with one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Era {
    /// The first height of the graph.
    pub from: u64,
    /// The graph.
    pub graph: Graph,
    /// Target of the genesis blocks of the chains that begin here.
    pub genesis_target: U256,
}

/// Heights below which a network followed older rules; 0 where it never did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegacyRules {
    /// Parents below this height: a target that was not adjusted for five windows is adjusted at once.
    pub emergency_retarget: u64,
    /// Parents below this height: an epoch ends at the creation time of the new block, not of its parent.
    pub epoch_ends_at_block: u64,
    /// Blocks below this height: target and creation time depend on the parent alone.
    pub parent_only: u64,
    /// Blocks below this height: the fork state has any value.
    pub free_flags: u64,
}

/// A network, called a Chainweb version by its nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The name, such as `mainnet01`.
    pub name: Cow<'static, str>,
    /// The code in headers.
    pub code: u32,
    /// The graphs, by ascending height; the first is from height 0.
    pub eras: Cow<'static, [Era]>,
    /// The time between two blocks of a chain that difficulty adjustment aims at. µs, at least 1.
    pub block_delay: u64,
    /// Whether the hash of a block has to meet its target.
    pub has_pow: bool,
    /// Creation time of all genesis blocks. µs since 1970.
    pub genesis_time: i64,
    /// Whether the third block of a chain restarts its epoch, since the time of genesis is far in the past.
    pub fakes_first_epoch: bool,
    /// Older rules at lower heights.
    pub legacy: LegacyRules,
}

/// (2^256 − 1) / 100 000.
const DEVELOPMENT_TARGET: U256 = U256::from_limbs([
    0x2103_85c6_7dfe_32a0,
    0x1d53_cddd_6e04_c059,
    0x8423_0fcf_80dc_3372,
    0x0000_a7c5_ac47_1b47,
]);
const MAINNET_TARGET: U256 = U256::from_limbs([
    0xee05_717d_d8af_a830,
    0x178d_d859_74c1_94e3,
    0xde4b_e95b_a21d_b5b9,
    0x0000_0000_0000_cb73,
]);
const TESTNET04_TARGET: U256 = U256::from_limbs([
    0xe8c6_ba95_9624_9235,
    0x2257_2883_f7b5_3ed2,
    0xe438_24ba_e4c4_f177,
    0x0000_0000_1b9b_f15b,
]);
const RECAP_TARGET: U256 = U256::from_limbs([
    0x5b57_56d3_e7d9_196c,
    0xb7db_c84e_bbd9_a90e,
    0xf39b_0db7_655b_e62c,
    0x0000_088f_9963_2cad,
]);

/// 2019-07-17T18:28:37.613832Z.
const DEVELOPMENT_TIME: i64 = 1_563_388_117_613_832;

const NO_LEGACY: LegacyRules =
    LegacyRules { emergency_retarget: 0, epoch_ends_at_block: 0, parent_only: 0, free_flags: 0 };

static VERSIONS: [Version; 5] = [
    Version {
        name: Cow::Borrowed("mainnet01"),
        code: 0x0000_0005,
        eras: Cow::Borrowed(&[
            Era { from: 0, graph: Graph::Petersen, genesis_target: U256::MAX },
            Era { from: 852_054, graph: Graph::Twenty, genesis_target: MAINNET_TARGET },
        ]),
        block_delay: 30_000_000,
        has_pow: true,
        genesis_time: 1_572_393_660_000_000,
        fakes_first_epoch: false,
        legacy: LegacyRules {
            emergency_retarget: 80_000,
            epoch_ends_at_block: 452_820,
            parent_only: 771_414,
            free_flags: 530_500,
        },
    },
    Version {
        name: Cow::Borrowed("testnet04"),
        code: 0x0000_0007,
        eras: Cow::Borrowed(&[
            Era { from: 0, graph: Graph::Petersen, genesis_target: U256::MAX },
            Era { from: 332_604, graph: Graph::Twenty, genesis_target: TESTNET04_TARGET },
        ]),
        block_delay: 30_000_000,
        has_pow: true,
        genesis_time: DEVELOPMENT_TIME,
        fakes_first_epoch: false,
        legacy: LegacyRules { parent_only: 318_204, ..NO_LEGACY },
    },
    Version {
        name: Cow::Borrowed("testnet06"),
        code: 0x0000_0008,
        eras: Cow::Borrowed(&[Era { from: 0, graph: Graph::Twenty, genesis_target: DEVELOPMENT_TARGET }]),
        block_delay: 30_000_000,
        has_pow: true,
        genesis_time: 1_771_229_700_000_000,
        fakes_first_epoch: false,
        legacy: NO_LEGACY,
    },
    Version {
        name: Cow::Borrowed("development"),
        code: 0x0000_0002,
        eras: Cow::Borrowed(&[Era { from: 0, graph: Graph::Twenty, genesis_target: DEVELOPMENT_TARGET }]),
        block_delay: 30_000_000,
        has_pow: false,
        genesis_time: DEVELOPMENT_TIME,
        fakes_first_epoch: true,
        legacy: NO_LEGACY,
    },
    Version {
        name: Cow::Borrowed("recap-development"),
        code: 0x0000_0001,
        eras: Cow::Borrowed(&[
            Era { from: 0, graph: Graph::Petersen, genesis_target: DEVELOPMENT_TARGET },
            Era { from: 60, graph: Graph::Twenty, genesis_target: RECAP_TARGET },
        ]),
        block_delay: 30_000_000,
        has_pow: true,
        genesis_time: DEVELOPMENT_TIME,
        fakes_first_epoch: true,
        legacy: LegacyRules { parent_only: 13, ..NO_LEGACY },
    },
];

impl Version {
    /// All public networks.
    pub fn all() -> &'static [Self] {
        &VERSIONS
    }

    /// The public network with this name.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        VERSIONS.iter().find(|version| version.name == name)
    }

    /// The public network with this code.
    pub fn by_code(code: u32) -> Option<&'static Self> {
        VERSIONS.iter().find(|version| version.code == code)
    }

    /// A network of one graph for tests and development: no proof of work, the easiest genesis target, genesis in
    /// 1970. `code` is 0x80000000 or more by convention; `block_delay` in µs, at least 1.
    pub fn test(name: impl Into<Cow<'static, str>>, code: u32, graph: Graph, block_delay: u64) -> Self {
        Self {
            name: name.into(),
            code,
            eras: Cow::Owned(vec![Era { from: 0, graph, genesis_target: U256::MAX }]),
            block_delay: block_delay.max(1),
            has_pow: false,
            genesis_time: 0,
            fakes_first_epoch: true,
            legacy: NO_LEGACY,
        }
    }

    /// The graph in force at `height`.
    pub fn graph_at(&self, height: u64) -> Graph {
        let era = self.eras.iter().rev().find(|era| era.from <= height).or(self.eras.first());
        era.map_or(Graph::Singleton, |era| era.graph)
    }

    /// The graph of the highest heights.
    pub fn latest_graph(&self) -> Graph {
        self.graph_at(u64::MAX)
    }

    /// The height from which on nothing but the newest graph and the newest rules decides, also about difficulty.
    pub fn settled_height(&self) -> u64 {
        let LegacyRules { emergency_retarget, epoch_ends_at_block, parent_only, free_flags } = self.legacy;
        let graph = self.eras.last().map_or(0, |era| era.from);
        let changes = [emergency_retarget, epoch_ends_at_block, parent_only, free_flags, graph];
        // Chains that are new have short epochs first.
        changes.into_iter().fold(0, u64::max).saturating_add(WINDOW)
    }

    /// Where a chain begins; `None` for a chain that the network never has.
    pub fn genesis_era(&self, chain: ChainId) -> Option<&Era> {
        self.eras.iter().find(|era| era.graph.contains(chain))
    }

    /// The height of a chain's genesis block.
    pub fn genesis_height(&self, chain: ChainId) -> Option<u64> {
        self.genesis_era(chain).map(|era| era.from)
    }

    /// The graph that the adjacent parents of a block follow: that of its parent's height, and at genesis its own.
    pub fn adjacency_graph(&self, chain: ChainId, height: u64) -> Graph {
        match self.genesis_height(chain) {
            Some(genesis) if genesis == height => self.graph_at(height),
            _ => self.graph_at(height.saturating_sub(1)),
        }
    }

    /// What stands for the parent of a chain's genesis block.
    pub fn genesis_parent(&self, chain: ChainId) -> Hash {
        genesis_parent(self.code, chain)
    }
}

/// What stands for the parent of the genesis block of `chain` on the network with this code.
pub fn genesis_parent(code: u32, chain: ChainId) -> Hash {
    let hash = Algorithm::Sha512t256;
    let leaves = [
        hash.raw_input(b"CHAINWEB_GENESIS"),
        hash.raw_input(&code.to_le_bytes()),
        hash.raw_input(&chain.0.to_le_bytes()),
    ];
    merkle::root(hash, &leaves)
}
