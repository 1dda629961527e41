//! Payload proofs (`spv2`): proofs within one block, also over its events and with Keccak-256.
//!
//! They have no chain: whoever verifies one has to know the root by other means. The roots of events are never on
//! chain.

use serde::{Deserialize, Serialize};

use crate::encoding::{self, EncodingError};
use crate::hash::Hash;
use crate::json::{self, JsonError};
use crate::merkle::{Algorithm, MerkleProof, MerkleProofError, Tag};

/// What the root of a payload proof is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RootType {
    /// A payload hash.
    BlockPayload,
    /// The root over the events of a block.
    BlockEvents,
    /// A block hash.
    Block,
}

/// A proof within one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadProof {
    /// What the root is.
    pub root_type: RootType,
    /// The path.
    pub object: MerkleProof,
    /// Tag and bytes of the leaf.
    pub subject: Vec<u8>,
    /// The hash function of all its trees.
    pub algorithm: Algorithm,
}

/// Why a text is not a payload proof, or bytes are not events.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// Not JSON, or a member twice.
    #[error("payload proof is not JSON: {0}")]
    Json(#[from] JsonError),
    /// Members are missing or of the wrong type.
    #[error("payload proof has the wrong shape: {0}")]
    Shape(#[from] serde_json::Error),
    /// An unknown hash function.
    #[error("unknown algorithm {0:?}")]
    Algorithm(String),
    /// Not base64url.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// The path does not decode.
    #[error("object: {0}")]
    Object(#[from] MerkleProofError),
    /// The subject is not the events of a transaction.
    #[error("subject is not the events of a transaction: byte {at} of {length}")]
    Events {
        /// Where decoding stopped.
        at: usize,
        /// The number of bytes.
        length: usize,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    root_type: RootType,
    object: String,
    subject: WireSubject,
    algorithm: String,
}

#[derive(Deserialize)]
struct WireSubject {
    input: String,
}

impl PayloadProof {
    /// Parses the JSON of a payload proof.
    ///
    /// # Errors
    /// [`EventsError`].
    pub fn parse(text: &[u8]) -> Result<Self, EventsError> {
        let wire: Wire = serde_json::from_value(json::parse_strict(text)?)?;
        let algorithm = Algorithm::by_name(&wire.algorithm).ok_or(EventsError::Algorithm(wire.algorithm))?;
        let object = MerkleProof::decode(&encoding::decode(&wire.object)?)?;
        let subject = encoding::decode(&wire.subject.input)?;
        Ok(Self { root_type: wire.root_type, object, subject, algorithm })
    }

    /// The hash that the path leads to.
    pub fn root(&self) -> Hash {
        self.object.root_of_input(self.algorithm, &self.subject)
    }

    /// The events of the transaction that the proof is about.
    ///
    /// # Errors
    /// [`EventsError::Events`] for another subject.
    pub fn events(&self) -> Result<OutputEvents, EventsError> {
        let mut reader = Reader { bytes: &self.subject, at: 0 };
        let is_tagged = reader.take(2) == Some(Tag::OUTPUT_EVENTS.0.to_be_bytes().as_slice());
        let events = if is_tagged { reader.output_events() } else { None };
        let events = events.filter(|_| reader.at == reader.bytes.len());
        events.ok_or(EventsError::Events { at: reader.at, length: self.subject.len() })
    }
}

/// The events of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputEvents {
    /// The request key's bytes.
    pub request_key: Vec<u8>,
    /// The events.
    pub events: Vec<Event>,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The name, such as `TRANSFER`.
    pub name: String,
    /// The module, with its namespace if it has one.
    pub module: String,
    /// Hash of the module.
    pub module_hash: Vec<u8>,
    /// The parameters.
    pub params: Vec<Param>,
}

/// A parameter of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Param {
    /// A text.
    Text(String),
    /// An integer: two's complement, little-endian.
    Integer([u8; 32]),
    /// A decimal times 10^18: two's complement, little-endian.
    Decimal([u8; 32]),
    /// A reference to a module.
    Module(String),
}

impl OutputEvents {
    /// Decodes the value of an events leaf, without its tag.
    ///
    /// # Errors
    /// [`EventsError::Events`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EventsError> {
        let mut reader = Reader { bytes, at: 0 };
        let events = reader.output_events().filter(|_| reader.at == bytes.len());
        events.ok_or(EventsError::Events { at: reader.at, length: bytes.len() })
    }

    /// The value of the events leaf, without its tag.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, &self.request_key);
        put_count(&mut out, self.events.len());
        for event in &self.events {
            put(&mut out, event.name.as_bytes());
            put(&mut out, event.module.as_bytes());
            put(&mut out, &event.module_hash);
            put_count(&mut out, event.params.len());
            for param in &event.params {
                let (kind, bytes): (u8, &[u8]) = match param {
                    Param::Text(text) => (0, text.as_bytes()),
                    Param::Integer(bytes) => (1, bytes),
                    Param::Decimal(bytes) => (2, bytes),
                    Param::Module(name) => (3, name.as_bytes()),
                };
                out.push(kind);
                if kind == 1 || kind == 2 { out.extend_from_slice(bytes) } else { put(&mut out, bytes) }
            }
        }
        out
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("events are held in memory, fewer than 2^32");
    out.extend_from_slice(&count.to_le_bytes());
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn count(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn byte_string(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.count()?).ok()?;
        self.take(length).map(<[u8]>::to_vec)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.byte_string()?).ok()
    }

    fn int256(&mut self) -> Option<[u8; 32]> {
        self.take(32)?.try_into().ok()
    }

    fn output_events(&mut self) -> Option<OutputEvents> {
        let request_key = self.byte_string()?;
        let mut events = Vec::new(); // nothing is reserved ahead, so a wrong count costs nothing
        for _ in 0..self.count()? {
            events.push(self.event()?);
        }
        Some(OutputEvents { request_key, events })
    }

    fn event(&mut self) -> Option<Event> {
        let (name, module, module_hash) = (self.text()?, self.text()?, self.byte_string()?);
        let mut params = Vec::new();
        for _ in 0..self.count()? {
            params.push(match self.take(1)? {
                [0] => Param::Text(self.text()?),
                [1] => Param::Integer(self.int256()?),
                [2] => Param::Decimal(self.int256()?),
                [3] => Param::Module(self.text()?),
                _ => return None,
            });
        }
        Some(Event { name, module, module_hash, params })
    }
}
