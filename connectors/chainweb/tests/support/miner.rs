//! Mines braids that keep all rules of mainnet01, from a made-up cut and at a difficulty that is nothing.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses a part of it; helpers fail as tests do"
)]

use std::collections::BTreeMap;

use chainweb::{ChainId, Hash, Header, U256, Version, rules};

/// Creation time of the cut: 2026-09-21.
pub const START: i64 = 1_790_000_000_000_000;

/// What has been mined, in the order of heights.
pub struct Miner {
    pub version: &'static Version,
    pub headers: BTreeMap<(u64, ChainId), Header>,
    /// Microseconds between two blocks of a chain.
    pub pace: i64,
    pub tip: u64,
}

/// A target whose blocks take some 2^`bits` hashes.
pub fn target(bits: u32) -> U256 {
    U256::from_limbs([u64::MAX, u64::MAX, u64::MAX, u64::MAX >> bits])
}

/// Finds a nonce that meets the target, and computes the hash.
pub fn seal(header: &mut Header) {
    while !header.meets_target() {
        header.nonce += 1;
    }
    header.hash = header.compute_hash();
}

impl Miner {
    /// Begins with a cut of this height on all chains.
    pub fn new(height: u64, target: U256) -> Self {
        let version = Version::by_name("mainnet01").unwrap();
        let graph = version.latest_graph();
        let before = |chain: ChainId| Hash([100 + chain.0 as u8; 32]);
        let mut headers = BTreeMap::new();
        for chain in graph.chains() {
            let mut header = Header {
                flags: 0,
                creation_time: START,
                parent: before(chain),
                adjacents: graph.neighbours(chain).iter().map(|next| (*next, before(*next))).collect(),
                target,
                payload_hash: Hash([7; 32]),
                chain,
                weight: U256::from(1_000_000),
                height,
                version: version.code,
                epoch_start: START - (height as i64 % 120 + 1) * 30_000_000,
                nonce: 0,
                hash: Hash::default(),
            };
            seal(&mut header);
            headers.insert((height, chain), header);
        }
        Self { version, headers, pace: 30_000_000, tip: height }
    }

    /// The block after the tip of a chain, not sealed.
    pub fn next(&self, chain: ChainId) -> Header {
        let at = |chain: ChainId| &self.headers[&(self.tip, chain)];
        let parent = at(chain);
        let neighbours = self.version.latest_graph().neighbours(chain);
        let adjacents: Vec<&Header> = neighbours.iter().map(|next| at(*next)).collect();
        let latest =
            adjacents.iter().map(|block| block.creation_time).max().unwrap().max(parent.creation_time);
        let created = latest + self.pace;
        let target = rules::next_target(self.version, parent, &adjacents, created).unwrap();
        Header {
            creation_time: created,
            parent: parent.hash,
            adjacents: adjacents.iter().map(|block| (block.chain, block.hash)).collect(),
            target,
            weight: parent.weight.checked_add(rules::difficulty(target).unwrap()).unwrap(),
            height: self.tip + 1,
            epoch_start: rules::next_epoch_start(self.version, parent, created),
            nonce: 0,
            ..parent.clone()
        }
    }

    /// Mines one block of every chain; one of them with this payload, if any.
    pub fn layer(&mut self, payload: Option<(ChainId, Hash)>) {
        let chains = self.version.latest_graph().chains();
        let mut layer: Vec<Header> = chains.map(|chain| self.next(chain)).collect();
        self.tip += 1;
        for mut header in layer.drain(..) {
            if let Some((_, hash)) = payload.filter(|(chain, _)| *chain == header.chain) {
                header.payload_hash = hash;
            }
            seal(&mut header);
            self.headers.insert((header.height, header.chain), header);
        }
    }

    pub fn layers(&mut self, count: usize) {
        (0..count).for_each(|_| self.layer(None));
    }

    /// The blocks of one height.
    pub fn at(&self, height: u64) -> Vec<&Header> {
        self.headers.range((height, ChainId(0))..(height + 1, ChainId(0))).map(|(_, header)| header).collect()
    }

    pub fn all(&self) -> Vec<&Header> {
        self.headers.values().collect()
    }
}
