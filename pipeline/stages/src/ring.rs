//! Which chain a log belongs to: a consistent-hash ring, so that another chain takes few logs from the others.

use sha2::{Digest as _, Sha256};

use crate::ports::ChainId;

/// Points of each chain on the ring: shares of the logs then differ by some ten percent.
const POINTS: u32 = 128;

/// The ring over the configured chains. The same chains make the same ring, in whatever order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    /// Points in ascending order, each with its chain.
    points: Vec<(u64, ChainId)>,
}

impl Ring {
    /// The ring over `chains`; `None` if there are none.
    pub fn new(chains: &[ChainId]) -> Option<Self> {
        let mut points: Vec<(u64, ChainId)> = chains
            .iter()
            .flat_map(|&chain| {
                (0..POINTS).map(move |point| (place(b"killick/ring/chain\n", chain, point), chain))
            })
            .collect();
        points.sort_unstable();
        points.dedup();
        (!points.is_empty()).then_some(Self { points })
    }

    /// The chain of log `log`: that of the first point at or after the log's place, around the ring.
    pub fn chain_of(&self, log: u32) -> ChainId {
        let log = place(b"killick/ring/log\n", log, 0);
        let after = self.points.partition_point(|(point, _)| *point < log);
        self.points[after % self.points.len()].1
    }
}

/// The first eight bytes of SHA-256 over a label and two numbers.
fn place(label: &[u8], first: u32, second: u32) -> u64 {
    let hash = Sha256::new()
        .chain_update(label)
        .chain_update(first.to_be_bytes())
        .chain_update(second.to_be_bytes());
    u64::from_be_bytes(*hash.finalize().first_chunk().expect("a SHA-256 hash has more than eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_chains_make_no_ring_and_one_takes_every_log() {
        assert_eq!(Ring::new(&[]), None);
        let ring = Ring::new(&[7]).unwrap();
        assert!((0..100).all(|log| ring.chain_of(log) == 7));
    }

    #[test]
    fn the_order_of_the_chains_does_not_matter() {
        assert_eq!(Ring::new(&[3, 1, 2]), Ring::new(&[1, 2, 3]));
        assert_eq!(Ring::new(&[1, 1, 2]), Ring::new(&[1, 2]));
    }

    #[test]
    fn another_chain_moves_logs_only_to_itself_and_not_many() {
        let before = Ring::new(&[0, 1, 2, 3]).unwrap();
        let after = Ring::new(&[0, 1, 2, 3, 4]).unwrap();
        let moved: Vec<u32> = (0..1_000).filter(|&log| before.chain_of(log) != after.chain_of(log)).collect();
        assert!(moved.iter().all(|&log| after.chain_of(log) == 4));
        assert!((100..300).contains(&moved.len()), "{} of 1000 logs moved", moved.len());
    }

    #[test]
    fn the_route_of_a_log_never_changes() {
        // Fixed for ever: a deployment's logs stay with their chains across releases.
        let ring = Ring::new(&[0, 1, 2, 3]).unwrap();
        let chains: Vec<ChainId> = (0..16).map(|log| ring.chain_of(log)).collect();
        assert_eq!(chains, [1, 0, 3, 3, 0, 0, 3, 2, 1, 1, 2, 0, 3, 0, 0, 3]);
    }
}
