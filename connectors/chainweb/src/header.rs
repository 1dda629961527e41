//! Block headers: bytes, hash, proof of work, JSON.

use std::collections::BTreeMap;

use blake2::{Blake2s256, Digest as _};
use serde::{Deserialize, Serialize};

use crate::encoding::{self, EncodingError};
use crate::graph::ChainId;
use crate::hash::Hash;
use crate::merkle::{self, Algorithm, Step, Tag};
use crate::uint::U256;
use crate::version::{self, Version};

/// Index of the parent hash among the leaves of a header's Merkle log.
pub const PARENT_LEAF: usize = 2;
/// Index of the payload hash among the leaves of a header's Merkle log.
pub const PAYLOAD_LEAF: usize = 4;
/// Index of the first adjacent hash among the leaves of a header's Merkle log.
pub const FIRST_ADJACENT_LEAF: usize = 11;

/// A block header. Nothing about it is checked: see [`Header::verify_hash`] and [`crate::rules`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Fork state: the fork number in the low 32 bits, fork votes in the high 32 bits.
    pub flags: u64,
    /// When the miner says it was made. µs since 1970.
    pub creation_time: i64,
    /// Hash of the parent.
    pub parent: Hash,
    /// Hashes of the adjacent parents; ascending by chain in a valid header.
    pub adjacents: Vec<(ChainId, Hash)>,
    /// What the proof of work has to stay at or below.
    pub target: U256,
    /// Hash of the payload.
    pub payload_hash: Hash,
    /// Chain of the block.
    pub chain: ChainId,
    /// Difficulty of this block and all before it on the chain.
    pub weight: U256,
    /// Number of blocks before it, counted over the whole network's life.
    pub height: u64,
    /// Code of the network.
    pub version: u32,
    /// When the current difficulty epoch began. µs since 1970.
    pub epoch_start: i64,
    /// What the miner varies.
    pub nonce: u64,
    /// The hash the header claims; [`Header::compute_hash`] is the real one.
    pub hash: Hash,
}

/// Why bytes or an object are not a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not as long as its count of adjacent parents demands.
    #[error("header of {actual} bytes where {expected} are due")]
    Length {
        /// The length due: 210 and 36 for each adjacent parent.
        expected: usize,
        /// The length found.
        actual: usize,
    },
    /// Not base64url.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// The object form names a network that is not known here.
    #[error("unknown network {0:?}")]
    Network(String),
    /// The object form has more adjacent parents than the binary form can count.
    #[error("{0} adjacent parents, at most 65535 can be encoded")]
    Adjacents(usize),
    /// A number of the object form is not a decimal of the right size.
    #[error("{field} is not a number: {text:?}")]
    Number {
        /// Name of the member.
        field: &'static str,
        /// Its text.
        text: String,
    },
}

impl Header {
    /// Decodes the binary form. Any count of adjacent parents is accepted that the length agrees with.
    ///
    /// # Errors
    /// [`HeaderError::Length`].
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let mut reader = Reader(bytes);
        Self::read(&mut reader).filter(|_| reader.0.is_empty()).ok_or_else(|| {
            let count =
                bytes.get(48..50).map_or(0, |count| usize::from(count[0]) | usize::from(count[1]) << 8);
            HeaderError::Length { expected: 210 + 36 * count, actual: bytes.len() }
        })
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            flags: u64::from_le_bytes(reader.take()?),
            creation_time: i64::from_le_bytes(reader.take()?),
            parent: Hash(reader.take()?),
            adjacents: {
                let count = u16::from_le_bytes(reader.take()?);
                (0..count)
                    .map(|_| Some((ChainId(u32::from_le_bytes(reader.take()?)), Hash(reader.take()?))))
                    .collect::<Option<_>>()?
            },
            target: U256::from_le_bytes(reader.take()?),
            payload_hash: Hash(reader.take()?),
            chain: ChainId(u32::from_le_bytes(reader.take()?)),
            weight: U256::from_le_bytes(reader.take()?),
            height: u64::from_le_bytes(reader.take()?),
            version: u32::from_le_bytes(reader.take()?),
            epoch_start: i64::from_le_bytes(reader.take()?),
            nonce: u64::from_le_bytes(reader.take()?),
            hash: Hash(reader.take()?),
        })
    }

    /// Decodes base64url of the binary form, as JSON has it.
    ///
    /// # Errors
    /// [`HeaderError::Encoding`], [`HeaderError::Length`].
    pub fn from_base64url(text: &str) -> Result<Self, HeaderError> {
        Self::decode(&encoding::decode(text)?)
    }

    /// The binary form: 210 bytes and 36 for each adjacent parent.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.encode_work();
        bytes.extend_from_slice(&self.hash.0);
        bytes
    }

    /// The binary form without the hash: what the proof of work is over.
    pub fn encode_work(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(210 + 36 * self.adjacents.len());
        bytes.extend_from_slice(&self.flags.to_le_bytes());
        bytes.extend_from_slice(&self.creation_time.to_le_bytes());
        bytes.extend_from_slice(&self.parent.0);
        // Headers that were decoded have no more; one made by hand that has does not decode.
        let count = u16::try_from(self.adjacents.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&count.to_le_bytes());
        for (chain, hash) in &self.adjacents {
            bytes.extend_from_slice(&chain.0.to_le_bytes());
            bytes.extend_from_slice(&hash.0);
        }
        bytes.extend_from_slice(&self.target.to_le_bytes());
        bytes.extend_from_slice(&self.payload_hash.0);
        bytes.extend_from_slice(&self.chain.0.to_le_bytes());
        bytes.extend_from_slice(&self.weight.to_le_bytes());
        bytes.extend_from_slice(&self.height.to_le_bytes());
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&self.epoch_start.to_le_bytes());
        bytes.extend_from_slice(&self.nonce.to_le_bytes());
        bytes
    }

    /// The leaf hashes of the header's Merkle log: eleven fields, then the adjacent hashes.
    pub fn leaves(&self) -> Vec<Hash> {
        let hash = Algorithm::Sha512t256;
        let mut leaves = vec![
            hash.input(Tag::FLAGS, &self.flags.to_le_bytes()),
            hash.input(Tag::CREATION_TIME, &self.creation_time.to_le_bytes()),
            self.parent,
            hash.input(Tag::TARGET, &self.target.to_le_bytes()),
            self.payload_hash,
            hash.input(Tag::CHAIN_ID, &self.chain.0.to_le_bytes()),
            hash.input(Tag::WEIGHT, &self.weight.to_le_bytes()),
            hash.input(Tag::HEIGHT, &self.height.to_le_bytes()),
            hash.input(Tag::VERSION, &self.version.to_le_bytes()),
            hash.input(Tag::EPOCH_START, &self.epoch_start.to_le_bytes()),
            hash.input(Tag::NONCE, &self.nonce.to_le_bytes()),
        ];
        leaves.extend(self.adjacents.iter().map(|(_, hash)| *hash));
        leaves
    }

    /// The path from a leaf of the Merkle log to the block hash; `None` where there is no such leaf.
    pub fn path(&self, leaf: usize) -> Option<Vec<Step>> {
        merkle::path(Algorithm::Sha512t256, &self.leaves(), leaf)
    }

    /// The block hash, computed from all other fields. It does not cover the chain ids of adjacent parents.
    pub fn compute_hash(&self) -> Hash {
        merkle::root(Algorithm::Sha512t256, &self.leaves())
    }

    /// Whether [`Header::hash`] is the hash of the other fields.
    pub fn verify_hash(&self) -> bool {
        self.hash == self.compute_hash()
    }

    /// BLAKE2s-256 of the binary form without the hash.
    pub fn pow_hash(&self) -> Hash {
        Hash(Blake2s256::digest(self.encode_work()).into())
    }

    /// Whether the proof-of-work hash, as a little-endian number, is at most the target.
    pub fn meets_target(&self) -> bool {
        U256::from_le_bytes(self.pow_hash().0) <= self.target
    }

    /// The hash of the adjacent parent on a chain.
    pub fn adjacent(&self, chain: ChainId) -> Option<Hash> {
        self.adjacents.iter().find(|(adjacent, _)| *adjacent == chain).map(|(_, hash)| *hash)
    }

    /// The low half of [`Header::flags`].
    pub const fn fork_number(&self) -> u32 {
        self.flags as u32 // the low half
    }

    /// The high half of [`Header::flags`], in thousandths of a vote.
    pub const fn fork_votes(&self) -> u32 {
        (self.flags >> 32) as u32
    }

    /// The genesis header of a chain; `None` for a chain that the network never has.
    pub fn genesis(version: &Version, chain: ChainId, payload_hash: Hash) -> Option<Self> {
        let era = version.genesis_era(chain)?;
        let neighbours = era.graph.neighbours(chain).iter();
        let mut header = Self {
            flags: 0,
            creation_time: version.genesis_time,
            parent: version.genesis_parent(chain),
            adjacents: neighbours.map(|next| (*next, version.genesis_parent(*next))).collect(),
            target: era.genesis_target,
            payload_hash,
            chain,
            weight: U256::ZERO,
            height: era.from,
            version: version.code,
            epoch_start: version.genesis_time,
            nonce: 0,
            hash: Hash::default(),
        };
        header.hash = header.compute_hash();
        Some(header)
    }

    /// Whether the parent is what stands for the parent of a genesis block.
    pub fn is_genesis(&self) -> bool {
        self.parent == version::genesis_parent(self.version, self.chain)
    }
}

/// Takes fields off the front of bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}

/// The object form of a header, its members in the order of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderObject {
    /// A decimal text, since it may exceed 2^53.
    pub nonce: String,
    /// µs since 1970.
    pub creation_time: i64,
    /// Hash of the parent.
    pub parent: Hash,
    /// Adjacent parents by the decimal text of their chain.
    pub adjacents: BTreeMap<String, Hash>,
    /// Target.
    pub target: U256,
    /// Payload hash.
    pub payload_hash: Hash,
    /// Chain.
    pub chain_id: ChainId,
    /// Weight.
    pub weight: U256,
    /// Height.
    pub height: u64,
    /// Name of the network.
    pub chainweb_version: String,
    /// µs since 1970.
    pub epoch_start: i64,
    /// Fork state.
    pub feature_flags: u64,
    /// Block hash.
    pub hash: Hash,
}

impl HeaderObject {
    /// The object form of `header`, whose network has this name.
    pub fn new(header: &Header, network: &str) -> Self {
        Self {
            nonce: header.nonce.to_string(),
            creation_time: header.creation_time,
            parent: header.parent,
            adjacents: header.adjacents.iter().map(|(chain, hash)| (chain.to_string(), *hash)).collect(),
            target: header.target,
            payload_hash: header.payload_hash,
            chain_id: header.chain,
            weight: header.weight,
            height: header.height,
            chainweb_version: network.to_owned(),
            epoch_start: header.epoch_start,
            feature_flags: header.flags,
            hash: header.hash,
        }
    }

    /// The header, where the network is a public one.
    ///
    /// # Errors
    /// [`HeaderError::Network`], and as [`HeaderObject::to_header`].
    pub fn to_public_header(&self) -> Result<Header, HeaderError> {
        let version = Version::by_name(&self.chainweb_version);
        self.to_header(version.ok_or_else(|| HeaderError::Network(self.chainweb_version.clone()))?.code)
    }

    /// The header, whose network has this code.
    ///
    /// # Errors
    /// [`HeaderError::Number`] for a nonce or a chain that is not a decimal, [`HeaderError::Adjacents`].
    pub fn to_header(&self, code: u32) -> Result<Header, HeaderError> {
        if self.adjacents.len() > usize::from(u16::MAX) {
            return Err(HeaderError::Adjacents(self.adjacents.len()));
        }
        let mut adjacents = Vec::with_capacity(self.adjacents.len());
        for (chain, hash) in &self.adjacents {
            adjacents.push((ChainId(decimal("adjacents", chain)?), *hash));
        }
        adjacents.sort_unstable_by_key(|(chain, _)| *chain);
        Ok(Header {
            flags: self.feature_flags,
            creation_time: self.creation_time,
            parent: self.parent,
            adjacents,
            target: self.target,
            payload_hash: self.payload_hash,
            chain: self.chain_id,
            weight: self.weight,
            height: self.height,
            version: code,
            epoch_start: self.epoch_start,
            nonce: decimal("nonce", &self.nonce)?,
            hash: self.hash,
        })
    }
}

/// Parses a decimal in its shortest form.
fn decimal<T: std::str::FromStr + ToString>(field: &'static str, text: &str) -> Result<T, HeaderError> {
    let number = text.parse::<T>().ok().filter(|number| number.to_string() == text);
    number.ok_or_else(|| HeaderError::Number { field, text: text.to_owned() })
}
