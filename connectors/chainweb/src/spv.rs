//! SPV proofs: that a transaction or its output stands in a block that another block commits to.
//!
//! A proof is one path through nested trees: from the leaf to the payload hash, into the header of its block, on
//! through the headers of later blocks, and across adjacent chains to the block whose hash is the root. What it
//! proves is as good as the root: whoever verifies it has to know that the root is the hash of a block that counts.

use serde::{Deserialize, Serialize};

use crate::encoding::{self, EncodingError};
use crate::graph::ChainId;
use crate::hash::Hash;
use crate::header::{FIRST_ADJACENT_LEAF, Header, PARENT_LEAF, PAYLOAD_LEAF};
use crate::json::{self, JsonError};
use crate::merkle::{self, Algorithm, MerkleProof, MerkleProofError, Step, Tag};
use crate::payload::PayloadWithOutputs;
use crate::version::Version;

/// Longest text of a proof that is parsed: a node takes requests of at most 2 MiB.
pub const MAX_TEXT: usize = 4 << 20;

/// What a proof is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An input leaf: its tag (big-endian u16) and its bytes.
    Input(Vec<u8>),
    /// The root of another tree.
    Tree(Hash),
}

/// A proof as `/spv` returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The chain where the root has to be found. Not authenticated by the proof itself.
    pub chain: ChainId,
    /// The path.
    pub object: MerkleProof,
    /// What it starts from.
    pub subject: Subject,
}

/// Why a text is not a proof, or not the one asked for.
#[derive(Debug, thiserror::Error)]
pub enum SpvError {
    /// Longer than [`MAX_TEXT`].
    #[error("proof of {0} bytes, at most {MAX_TEXT} are allowed")]
    TooLong(usize),
    /// Not JSON, or a member twice.
    #[error("proof is not JSON: {0}")]
    Json(#[from] JsonError),
    /// Members are missing or of the wrong type.
    #[error("proof has the wrong shape: {0}")]
    Shape(#[source] serde_json::Error),
    /// Another hash function than Chainweb's.
    #[error("algorithm is {0:?}, not SHA512t_256")]
    Algorithm(String),
    /// Not base64url.
    #[error("{member}: {cause}")]
    Encoding {
        /// The member it stands in.
        member: &'static str,
        /// What is wrong with it.
        #[source]
        cause: EncodingError,
    },
    /// The path does not decode.
    #[error("object: {0}")]
    Object(#[from] MerkleProofError),
    /// The subject is neither one input nor one tree.
    #[error("subject is not exactly one of input and tree")]
    Subject,
    /// The subject has no tag or another one.
    #[error("subject has tag {actual}, not {expected:#06x}")]
    Tag {
        /// The tag due.
        expected: u16,
        /// The tag found, or what stands in its place.
        actual: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Wire {
    chain: ChainId,
    object: String,
    subject: WireSubject,
    algorithm: String,
}

#[derive(Serialize, Deserialize)]
struct WireSubject {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tree: Option<Hash>,
}

impl Proof {
    /// Parses the JSON of a proof. Unknown members are ignored.
    ///
    /// # Errors
    /// [`SpvError`] says which part is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, SpvError> {
        if text.len() > MAX_TEXT {
            return Err(SpvError::TooLong(text.len()));
        }
        let wire: Wire = serde_json::from_value(json::parse_strict(text)?).map_err(SpvError::Shape)?;
        if wire.algorithm != Algorithm::Sha512t256.name() {
            return Err(SpvError::Algorithm(wire.algorithm));
        }
        let subject = match (wire.subject.input, wire.subject.tree) {
            (Some(input), None) => Subject::Input(decode("subject.input", &input)?),
            (None, Some(tree)) => Subject::Tree(tree),
            _ => return Err(SpvError::Subject),
        };
        Ok(Self {
            chain: wire.chain,
            object: MerkleProof::decode(&decode("object", &wire.object)?)?,
            subject,
        })
    }

    /// Parses what `/spv` returns inside its JSON string: base64url of the proof's JSON.
    ///
    /// # Errors
    /// As [`Proof::parse`].
    pub fn from_base64url(text: &str) -> Result<Self, SpvError> {
        if text.len() > MAX_TEXT / 3 * 4 {
            return Err(SpvError::TooLong(text.len()));
        }
        Self::parse(&decode("proof", text)?)
    }

    /// The JSON of the proof, byte for byte as a node writes it.
    pub fn to_json(&self) -> String {
        let (input, tree) = match &self.subject {
            Subject::Input(bytes) => (Some(encoding::encode(bytes)), None),
            Subject::Tree(root) => (None, Some(*root)),
        };
        let wire = Wire {
            chain: self.chain,
            object: encoding::encode(&self.object.encode()),
            subject: WireSubject { input, tree },
            algorithm: Algorithm::Sha512t256.name().to_owned(),
        };
        serde_json::to_string(&wire).expect("numbers and texts always serialize")
    }

    /// The hash that the path leads to: that of a block, for the proof of a transaction or an output.
    pub fn root(&self) -> Hash {
        match &self.subject {
            Subject::Input(tagged) => self.object.root_of_input(Algorithm::Sha512t256, tagged),
            Subject::Tree(root) => merkle::run(Algorithm::Sha512t256, *root, &self.object.steps),
        }
    }

    /// The subject's bytes without their tag, where it is an input with this tag.
    ///
    /// # Errors
    /// [`SpvError::Tag`] for another subject.
    pub fn subject_with_tag(&self, tag: Tag) -> Result<&[u8], SpvError> {
        let wrong = |actual: String| SpvError::Tag { expected: tag.0, actual };
        let Subject::Input(tagged) = &self.subject else { return Err(wrong("of a tree".to_owned())) };
        match tagged.split_first_chunk::<2>() {
            Some((found, bytes)) if *found == tag.0.to_be_bytes() => Ok(bytes),
            Some((found, _)) => Err(wrong(format!("{:#06x}", u16::from_be_bytes(*found)))),
            None => Err(wrong("missing".to_owned())),
        }
    }
}

fn decode(member: &'static str, text: &str) -> Result<Vec<u8>, SpvError> {
    encoding::decode(text).map_err(|cause| SpvError::Encoding { member, cause })
}

/// Where proofs are built from.
pub trait Blocks {
    /// The header with this hash.
    fn header(&self, hash: &Hash) -> Option<Header>;
    /// The payload with this payload hash.
    fn payload(&self, payload_hash: &Hash) -> Option<PayloadWithOutputs>;
}

/// Which leaf of a transaction is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The transaction itself.
    Transaction,
    /// Its output.
    Output,
}

/// Why a proof cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// A header on the way is not there.
    #[error("no header with hash {0}")]
    NoHeader(Hash),
    /// The payload of the source block is not there.
    #[error("no payload with hash {0}")]
    NoPayload(Hash),
    /// The source block has fewer transactions.
    #[error("no transaction {index} in a block of {count}")]
    NoTransaction {
        /// The index asked for.
        index: usize,
        /// The number of transactions.
        count: usize,
    },
    /// The target's history does not contain the source chain at the source height.
    #[error("chain {source_chain} at height {height} is not reachable from the target")]
    Unreachable {
        /// The source chain.
        source_chain: ChainId,
        /// The source height.
        height: u64,
    },
}

/// The height of the block on chain `target` that a node proves a transaction of chain `source` at `height` to.
///
/// `None` for chains that the network has not at that height.
pub fn target_height(version: &Version, source: ChainId, height: u64, target: ChainId) -> Option<u64> {
    let graph = version.graph_at(height);
    let reached = height.checked_add(u64::from(graph.distance(source, target)?))?;
    let later = version.graph_at(reached);
    if later == graph {
        Some(reached)
    } else {
        reached.checked_add(u64::from(later.distance(source, target)?))
    }
}

/// Builds the proof that transaction `index` of chain `source` at `height`, or its output, is in the history of the
/// block `target`.
///
/// Of several shortest paths across the chains it takes the one over the lowest chain at each step, as nodes do.
///
/// # Errors
/// [`CreateError`].
pub fn create(
    blocks: &impl Blocks,
    version: &Version,
    target: &Header,
    source: ChainId,
    height: u64,
    index: usize,
    part: Part,
) -> Result<Proof, CreateError> {
    let path = version.graph_at(target.height).shortest_path(target.chain, source);
    let path = path.ok_or(CreateError::Unreachable { source_chain: source, height })?;
    create_along(blocks, target, &path, height, index, part)
}

/// Builds the same proof along given chains: the target's first, the source's last, neighbours beside each other.
///
/// # Errors
/// [`CreateError`].
pub fn create_along(
    blocks: &impl Blocks,
    target: &Header,
    chains: &[ChainId],
    height: u64,
    index: usize,
    part: Part,
) -> Result<Proof, CreateError> {
    let source_chain = chains.last().copied().unwrap_or(target.chain);
    let unreachable = CreateError::Unreachable { source_chain, height };
    // The paths through headers from the target back to the source: the last one comes first in the proof.
    let mut upward: Vec<Vec<Step>> = Vec::new();
    let mut at = target.clone();
    for next in chains.iter().skip(1) {
        let place = at.adjacents.iter().position(|(chain, _)| chain == next).ok_or(unreachable.clone())?;
        upward.push(header_path(&at, FIRST_ADJACENT_LEAF + place)?);
        at = find(blocks, at.adjacents[place].1)?;
    }
    while at.height > height {
        upward.push(header_path(&at, PARENT_LEAF)?);
        at = find(blocks, at.parent)?;
    }
    if at.height != height || at.chain != source_chain {
        return Err(unreachable);
    }
    let payload = blocks.payload(&at.payload_hash).ok_or(CreateError::NoPayload(at.payload_hash))?;
    let missing = CreateError::NoTransaction { index, count: payload.transactions.len() };
    let (transaction, output) = payload.transactions.get(index).ok_or(missing.clone())?;
    let (tag, bytes, leaf_path) = match part {
        Part::Transaction => (Tag::TRANSACTION, transaction, payload.transaction_path(index)),
        Part::Output => (Tag::OUTPUT, output, payload.output_path(index)),
    };
    let mut steps = leaf_path.ok_or(missing)?;
    steps.extend(header_path(&at, PAYLOAD_LEAF)?);
    steps.extend(upward.into_iter().rev().flatten());
    Ok(Proof {
        chain: target.chain,
        object: MerkleProof { position: index as u64 + 1, steps },
        subject: Subject::Input([&tag.0.to_be_bytes(), bytes.as_slice()].concat()),
    })
}

fn header_path(header: &Header, leaf: usize) -> Result<Vec<Step>, CreateError> {
    header.path(leaf).ok_or(CreateError::NoHeader(header.hash))
}

fn find(blocks: &impl Blocks, hash: Hash) -> Result<Header, CreateError> {
    blocks.header(&hash).ok_or(CreateError::NoHeader(hash))
}
