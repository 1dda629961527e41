//! The Merkle log: trees shaped as in RFC 6962 over tagged inputs and roots of other trees.
//!
//! | node | hash |
//! |---|---|
//! | input | `H(0x00 ‖ tag (u16, big-endian) ‖ bytes)` |
//! | root of another tree | as it is |
//! | inner node | `H(0x01 ‖ left ‖ right)` |
//! | empty tree | `H("")` |
//!
//! A root leaf looks like an inner node to a verifier; only the tag of an *input* says what a proof proves. So
//! whoever runs a [`MerkleProof`] checks the tag of its subject.

use sha2::{Digest as _, Sha512_256};
use sha3::Keccak256;

use crate::hash::Hash;

/// Most steps of a proof that is decoded. A path over all blocks of a window of 120 has fewer than 512.
pub const MAX_STEPS: usize = 512;

/// The hash function of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-512/256, the hash of all Chainweb structures.
    Sha512t256,
    /// The original Keccak-256 (padding 0x01), of event proofs for Ethereum.
    Keccak256,
}

impl Algorithm {
    /// The name in proofs: `SHA512t_256` or `Keccak_256`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha512t256 => "SHA512t_256",
            Self::Keccak256 => "Keccak_256",
        }
    }

    /// The algorithm with this name in proofs.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Sha512t256, Self::Keccak256].into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The hash of a tree without leaves.
    pub fn empty(self) -> Hash {
        self.digest(&[])
    }

    /// The hash of an input leaf with a tag.
    pub fn input(self, tag: Tag, bytes: &[u8]) -> Hash {
        self.digest(&[&[0], &tag.0.to_be_bytes(), bytes])
    }

    /// The hash of an input leaf whose tag, if it has one, is part of `bytes`.
    pub fn raw_input(self, bytes: &[u8]) -> Hash {
        self.digest(&[&[0], bytes])
    }

    /// The hash of an inner node.
    pub fn node(self, left: &Hash, right: &Hash) -> Hash {
        self.digest(&[&[1], &left.0, &right.0])
    }

    fn digest(self, parts: &[&[u8]]) -> Hash {
        match self {
            Self::Sha512t256 => {
                let mut hasher = Sha512_256::new();
                parts.iter().for_each(|part| hasher.update(part));
                Hash(hasher.finalize().into())
            }
            Self::Keccak256 => {
                let mut hasher = Keccak256::new();
                parts.iter().for_each(|part| hasher.update(part));
                Hash(hasher.finalize().into())
            }
        }
    }
}

/// What an input leaf is. The numbers are hexadecimal as written: the block hash is 0x0010.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub u16);

impl Tag {
    /// Chain id, u32.
    pub const CHAIN_ID: Self = Self(0x0002);
    /// Block height, u64.
    pub const HEIGHT: Self = Self(0x0003);
    /// Block weight, u256.
    pub const WEIGHT: Self = Self(0x0004);
    /// Payload hash; a root leaf.
    pub const PAYLOAD_HASH: Self = Self(0x0005);
    /// Fork state, u64; called feature flags in JSON.
    pub const FLAGS: Self = Self(0x0006);
    /// Creation time, i64 µs.
    pub const CREATION_TIME: Self = Self(0x0007);
    /// Chainweb version code, u32.
    pub const VERSION: Self = Self(0x0008);
    /// Proof-of-work hash.
    pub const POW_HASH: Self = Self(0x0009);
    /// Block hash; a root leaf.
    pub const BLOCK_HASH: Self = Self(0x0010);
    /// Target, u256.
    pub const TARGET: Self = Self(0x0011);
    /// A transaction.
    pub const TRANSACTION: Self = Self(0x0013);
    /// The output of a transaction.
    pub const OUTPUT: Self = Self(0x0014);
    /// Root over the transactions of a block.
    pub const TRANSACTIONS_HASH: Self = Self(0x0015);
    /// Root over the outputs of a block.
    pub const OUTPUTS_HASH: Self = Self(0x0016);
    /// Miner data.
    pub const MINER_DATA: Self = Self(0x0017);
    /// Output of the coinbase transaction.
    pub const COINBASE: Self = Self(0x0018);
    /// Epoch start, i64 µs.
    pub const EPOCH_START: Self = Self(0x0019);
    /// Nonce, u64.
    pub const NONCE: Self = Self(0x0020);
    /// The events of one transaction.
    pub const OUTPUT_EVENTS: Self = Self(0x0030);
    /// Root over the events of a block.
    pub const BLOCK_EVENTS_HASH: Self = Self(0x0031);
}

/// On which side of the path the sibling of a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The sibling is left: `H(0x01 ‖ sibling ‖ path)`.
    Left,
    /// The sibling is right: `H(0x01 ‖ path ‖ sibling)`.
    Right,
}

/// One step of a path from a leaf to a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where the sibling stands.
    pub side: Side,
    /// The hash beside the path.
    pub sibling: Hash,
}

/// The root over leaf hashes.
pub fn root(algorithm: Algorithm, leaves: &[Hash]) -> Hash {
    if leaves.is_empty() {
        return algorithm.empty();
    }
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = parents(algorithm, &level);
    }
    level[0]
}

/// The path from leaf `index` to the root, the step at the leaf first; `None` where there is no such leaf.
pub fn path(algorithm: Algorithm, leaves: &[Hash], index: usize) -> Option<Vec<Step>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut level, mut at, mut steps) = (leaves.to_vec(), index, Vec::new());
    while level.len() > 1 {
        let side = if at % 2 == 1 { Side::Left } else { Side::Right };
        // The last node of an odd level has no sibling and rises as it is.
        if let Some(&sibling) = level.get(at ^ 1) {
            steps.push(Step { side, sibling });
        }
        level = parents(algorithm, &level);
        at /= 2;
    }
    Some(steps)
}

/// The next level up. Pairing neighbours and lifting an odd last node makes the split of RFC 6962.
fn parents(algorithm: Algorithm, level: &[Hash]) -> Vec<Hash> {
    let pair = |pair: &[Hash]| match pair {
        [left, right] => algorithm.node(left, right),
        single => single[0],
    };
    level.chunks(2).map(pair).collect()
}

/// The hash that `steps` lead to from `leaf`.
pub fn run(algorithm: Algorithm, leaf: Hash, steps: &[Step]) -> Hash {
    steps.iter().fold(leaf, |hash, step| match step.side {
        Side::Left => algorithm.node(&step.sibling, &hash),
        Side::Right => algorithm.node(&hash, &step.sibling),
    })
}

/// Why bytes are not a Merkle proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MerkleProofError {
    /// Too short for its counts, or not as long as they say.
    #[error("proof object of {actual} bytes where {expected} are due")]
    Length {
        /// The length that the step count demands; 12 where even that is missing.
        expected: u64,
        /// The length found.
        actual: usize,
    },
    /// More steps than any path has.
    #[error("proof of {0} steps, at most {MAX_STEPS} are allowed")]
    TooManySteps(u32),
    /// The side of a step is neither 0 nor 1.
    #[error("step {step} has side {side:#04x}")]
    Side {
        /// Index of the step.
        step: usize,
        /// The byte found.
        side: u8,
    },
}

/// The binary proof object of Chainweb: a path, possibly through several nested trees.
///
/// `u32 big-endian step count ‖ u64 big-endian position ‖ (side ‖ sibling) per step`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MerkleProof {
    /// Position of the subject in its first tree. Authenticated by nothing.
    pub position: u64,
    /// The path, the step at the leaf first.
    pub steps: Vec<Step>,
}

impl MerkleProof {
    /// Decodes a proof object of at most [`MAX_STEPS`] steps.
    ///
    /// # Errors
    /// [`MerkleProofError`] for any other length than the step count demands, or an unknown side.
    pub fn decode(bytes: &[u8]) -> Result<Self, MerkleProofError> {
        let short = MerkleProofError::Length { expected: 12, actual: bytes.len() };
        let (count, rest) = bytes.split_first_chunk::<4>().ok_or(short.clone())?;
        let (position, rest) = rest.split_first_chunk::<8>().ok_or(short)?;
        let count = u32::from_be_bytes(*count);
        if u64::from(count) > MAX_STEPS as u64 {
            return Err(MerkleProofError::TooManySteps(count));
        }
        let (records, trailing) = rest.as_chunks::<33>();
        if records.len() as u64 != u64::from(count) || !trailing.is_empty() {
            let expected = 12 + 33 * u64::from(count);
            return Err(MerkleProofError::Length { expected, actual: bytes.len() });
        }
        let mut steps = Vec::with_capacity(records.len());
        for (step, [side, sibling @ ..]) in records.iter().enumerate() {
            let side = match side {
                0 => Side::Left,
                1 => Side::Right,
                &side => return Err(MerkleProofError::Side { step, side }),
            };
            steps.push(Step { side, sibling: Hash(*sibling) });
        }
        Ok(Self { position: u64::from_be_bytes(*position), steps })
    }

    /// The binary form.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(12 + 33 * self.steps.len());
        // A path has at most one step a level of trees that are held in memory.
        let count = u32::try_from(self.steps.len()).expect("a path has fewer than 2^32 steps");
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(&self.position.to_be_bytes());
        for step in &self.steps {
            bytes.push(match step.side {
                Side::Left => 0,
                Side::Right => 1,
            });
            bytes.extend_from_slice(&step.sibling.0);
        }
        bytes
    }

    /// The root that the path leads to from an input whose bytes begin with its tag.
    pub fn root_of_input(&self, algorithm: Algorithm, tagged: &[u8]) -> Hash {
        run(algorithm, algorithm.raw_input(tagged), &self.steps)
    }
}
