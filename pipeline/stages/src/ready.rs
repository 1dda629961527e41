//! What others subscribe to: a message for each proven batch in `proofs`, and, where it is wanted, one for each event in
//! `receipts`.
//!
//! A value is an Avro datum (`schemas/avro/proof-ready.avsc`, `receipt.avsc`) behind the prefix of schema registries: a
//! zero byte and the schema's id in four. The headers are those of CloudEvents 1.0 ("Kafka Protocol Binding", binary
//! mode) and a `traceparent`. All of it is made of the log and the chain's proof: a replay makes the same bytes.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use chainweb::Header as BlockHeader;
use killick_proof::Hash;
use killick_proof::receipt::Anchor;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::avro::{AvroError, Reader, Writer};
use crate::ports::AnchorRecord;
use crate::record::{Header, Micros, Output, Partition, Record};
use crate::route::{PROOFS, RECEIPTS};
use crate::series::OWN;
use crate::trace::{TRACEPARENT, TraceParent};

/// The `ce_type` of the messages in `proofs`.
pub const PROOF_READY: &str = "killick.proof.ready.v1";
/// The `ce_type` of the messages in `receipts`.
pub const RECEIPT_READY: &str = "killick.receipt.ready.v1";
/// The `ce_type` of a message in `proofs` that stands for an earlier one about the same batch: the block of that one's
/// anchor was lost, deep as it was. Its id is the earlier one's, a slash and the version.
pub const PROOF_CORRECTED: &str = "killick.proof.corrected.v1";
/// The same of a message in `receipts`.
pub const RECEIPT_CORRECTED: &str = "killick.receipt.corrected.v1";
/// Their `content-type`.
pub const CONTENT_TYPE: &str = "application/avro";
/// The names of their headers, in order.
pub const HEADERS: [&str; 8] =
    ["content-type", "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", TRACEPARENT];

/// Bytes in the largest message that is read. What is written stays below 600,000.
pub const MAX_MESSAGE: usize = 1_000_000;
/// Bytes in the largest anchor in JSON: one whose SPV proof has as many steps as a proof may have, and some to spare.
pub const MAX_ANCHOR: usize = 32 << 10;
/// Tenants that a message names at most; of a batch with more it names none.
pub const MAX_TENANTS: usize = 256;
/// Bytes before the datum.
const PREFIX_LEN: usize = 5;

/// What is no message of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadyError {
    /// It is too large to be one.
    #[error("{0} bytes; a message has at most {MAX_MESSAGE}")]
    TooLarge(usize),
    /// It does not begin as framed values do.
    #[error("it does not begin with a zero byte and a schema id")]
    Framing,
    /// What follows is no datum of the schema.
    #[error(transparent)]
    Avro(#[from] AvroError),
}

/// The block that an anchor is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The network.
    pub network: Box<str>,
    /// The chain.
    pub chain: u32,
    /// The block's height.
    pub height: u64,
    /// The block's hash, base64url.
    pub hash: Box<str>,
    /// When it was made, as its maker says: who trusts the block knows that the events existed no later.
    pub time: Micros,
}

impl Block {
    /// The block of an anchor.
    ///
    /// # Errors
    /// The anchor holds no header of a block. One that was verified does.
    pub fn of(anchor: &Anchor) -> Result<Self, String> {
        let header = BlockHeader::decode(&anchor.block.header).map_err(|error| error.to_string())?;
        Ok(Self {
            network: anchor.block.network.as_str().into(),
            chain: header.chain.0,
            height: header.height,
            hash: Hash::new(header.hash.0).to_string().into(),
            time: header.creation_time,
        })
    }

    fn write(&self, out: &mut Writer) {
        out.string(&self.network);
        out.long(self.chain.into());
        out.count(self.height);
        out.string(&self.hash);
        out.long(self.time);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, AvroError> {
        Ok(Self {
            network: reader.string()?.into(),
            chain: reader.number()?,
            height: reader.count()?,
            hash: reader.string()?.into(),
            time: reader.long()?,
        })
    }
}

/// A batch whose events have receipts now, with all that these are derived from: a message of `proofs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofReady {
    /// The log's origin.
    pub origin: Box<str>,
    /// The batch's number in the log.
    pub number: u64,
    /// The batch's id: its header's leaf hash, base64url.
    pub batch: Box<str>,
    /// The events in it.
    pub leaves: u64,
    /// When the log took the first of them.
    pub first_time: Micros,
    /// When the log took the last of them.
    pub last_time: Micros,
    /// The tenants of the events, ascending; none where they are more than [`MAX_TENANTS`].
    pub tenants: Vec<Box<str>>,
    /// The size of the anchored checkpoint that covers the batch.
    pub size: u64,
    /// The block of the first anchor.
    pub block: Option<Block>,
    /// The batch header's CBOR.
    pub header: Bytes,
    /// The statements' CBOR in leaf order.
    pub statements: Vec<Bytes>,
    /// The audit path of the header in the log's tree of that size.
    pub path: Vec<[u8; 32]>,
    /// The signed checkpoint of that size.
    pub checkpoint: Box<str>,
    /// The anchors of the checkpoint in JSON, as receipts carry them.
    pub anchors: Vec<Box<str>>,
}

impl ProofReady {
    /// The message's value; `schema` is the id of its schema in a registry, 0 for none.
    pub fn encode(&self, schema: u32) -> Bytes {
        let statements: usize = self.statements.iter().map(|statement| statement.len() + 3).sum();
        let anchors: usize = self.anchors.iter().map(|anchor| anchor.len() + 3).sum();
        let mut out = framed(schema, statements + anchors + 4_096);
        out.string(&self.origin);
        out.count(self.number);
        out.string(&self.batch);
        out.count(self.leaves);
        out.long(self.first_time);
        out.long(self.last_time);
        out.array(self.tenants.iter(), |out, tenant| out.string(tenant));
        out.count(self.size);
        out.optional(self.block.as_ref(), |out, block| block.write(out));
        out.bytes(&self.header);
        out.array(self.statements.iter(), |out, statement| out.bytes(statement));
        out.array(self.path.iter(), |out, hash| out.fixed(hash));
        out.string(&self.checkpoint);
        out.array(self.anchors.iter(), |out, anchor| out.string(anchor));
        out.into_bytes()
    }

    /// Reads a message's value; the statements share its buffer.
    ///
    /// # Errors
    /// [`ReadyError`].
    pub fn decode(value: &Bytes) -> Result<Self, ReadyError> {
        let (_, datum) = unframe(value)?;
        let mut reader = Reader::new(datum);
        let ready = Self {
            origin: reader.string()?.into(),
            number: reader.count()?,
            batch: reader.string()?.into(),
            leaves: reader.count()?,
            first_time: reader.long()?,
            last_time: reader.long()?,
            tenants: reader.array(|reader| reader.string().map(Into::into))?,
            size: reader.count()?,
            block: reader.optional(Block::read)?,
            header: value.slice_ref(reader.bytes()?),
            statements: reader.array(|reader| Ok(value.slice_ref(reader.bytes()?)))?,
            path: reader.array(|reader| reader.fixed().copied())?,
            checkpoint: reader.string()?.into(),
            anchors: reader.array(|reader| reader.string().map(Into::into))?,
        };
        reader.end()?;
        Ok(ready)
    }

    /// Reads what a message's value says of the batch itself, and not its events.
    ///
    /// # Errors
    /// [`ReadyError`].
    pub fn about(value: &[u8]) -> Result<About, ReadyError> {
        let (_, datum) = unframe(value)?;
        let mut reader = Reader::new(datum);
        reader.string()?;
        let number = reader.count()?;
        reader.string()?;
        let leaves = reader.count()?;
        let first_time = reader.long()?;
        reader.long()?;
        let tenants = reader.array(|reader| reader.string().map(Into::into))?;
        reader.count()?;
        Ok(About { number, leaves, first_time, tenants, block: reader.optional(Block::read)? })
    }

    /// The anchors as the catalog keeps them.
    pub fn anchor_records(&self) -> impl Iterator<Item = AnchorRecord> {
        self.anchors.iter().map(|anchor| AnchorRecord {
            origin: self.origin.clone(),
            series: OWN.into(),
            size: self.size,
            checkpoint: self.checkpoint.clone(),
            anchor: Bytes::copy_from_slice(anchor.as_bytes()),
        })
    }
}

/// What a message of `proofs` says of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// As in [`ProofReady`].
    pub number: u64,
    /// As in [`ProofReady`].
    pub leaves: u64,
    /// As in [`ProofReady`].
    pub first_time: Micros,
    /// As in [`ProofReady`].
    pub tenants: Vec<Box<str>>,
    /// As in [`ProofReady`].
    pub block: Option<Block>,
}

/// An event's receipt: a message of `receipts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptReady {
    /// The event's tenant.
    pub tenant: Box<str>,
    /// The device or producer.
    pub source: Box<str>,
    /// The event's id.
    pub id: Box<str>,
    /// The event's own time.
    pub time: Micros,
    /// The event's type.
    pub kind: Box<str>,
    /// The batch's id, base64url.
    pub batch: Box<str>,
    /// The event's leaf index in the batch.
    pub index: u64,
    /// The block of the first anchor.
    pub block: Option<Block>,
    /// The receipt in JSON.
    pub receipt: Box<str>,
}

impl ReceiptReady {
    /// The message's value; `schema` is the id of its schema in a registry, 0 for none.
    pub fn encode(&self, schema: u32) -> Bytes {
        let mut out = framed(schema, self.receipt.len() + 2_048);
        for text in [&self.tenant, &self.source, &self.id] {
            out.string(text);
        }
        out.long(self.time);
        out.string(&self.kind);
        out.string(&self.batch);
        out.count(self.index);
        out.optional(self.block.as_ref(), |out, block| block.write(out));
        out.string(&self.receipt);
        out.into_bytes()
    }

    /// Reads a message's value.
    ///
    /// # Errors
    /// [`ReadyError`].
    pub fn decode(value: &[u8]) -> Result<Self, ReadyError> {
        let (_, datum) = unframe(value)?;
        let mut reader = Reader::new(datum);
        let ready = Self {
            tenant: reader.string()?.into(),
            source: reader.string()?.into(),
            id: reader.string()?.into(),
            time: reader.long()?,
            kind: reader.string()?.into(),
            batch: reader.string()?.into(),
            index: reader.count()?,
            block: reader.optional(Block::read)?,
            receipt: reader.string()?.into(),
        };
        reader.end()?;
        Ok(ready)
    }
}

fn framed(schema: u32, capacity: usize) -> Writer {
    let mut out = Writer::with_capacity(PREFIX_LEN + capacity);
    out.fixed(&[0]);
    out.fixed(&schema.to_be_bytes());
    out
}

/// Takes a value apart: the schema's id, and the datum.
fn unframe(value: &[u8]) -> Result<(u32, &[u8]), ReadyError> {
    if value.len() > MAX_MESSAGE {
        return Err(ReadyError::TooLarge(value.len()));
    }
    match value.split_first_chunk::<PREFIX_LEN>() {
        Some((&[0, id @ ..], datum)) => Ok((u32::from_be_bytes(id), datum)),
        _ => Err(ReadyError::Framing),
    }
}

/// What the headers of the messages about one batch have in common.
#[derive(Debug, Clone)]
pub(crate) struct Headers {
    batch: Hash,
    source: Bytes,
    time: Option<Bytes>,
    trace: Bytes,
    version: u32,
}

impl Headers {
    /// The headers of messages about the batch of this id in this log, anchored in this block; `version` is 1 unless they
    /// stand for earlier ones.
    pub(crate) fn new(batch: Hash, origin: &str, block: &Block, version: u32) -> Self {
        let time = rfc3339(block.time).map(Bytes::from);
        let (source, trace) =
            (format!("killick:{origin}").into(), TraceParent::of_batch(&batch).to_string().into());
        Self { batch, source, time, trace, version }
    }

    /// The message in `proofs` about the batch; its key is the batch's id.
    pub(crate) fn proof(&self, log: u32, ready: &ProofReady, schema: u32) -> Output {
        let id = Bytes::from(self.batch.to_string());
        let mut output = Output::new(Partition::new(PROOFS, log), id.clone(), ready.encode(schema));
        output.headers = self.all([PROOF_READY, PROOF_CORRECTED], id, ready.number.to_string().into());
        output
    }

    /// The message in `receipts` about one of its events; its key is the event's name.
    pub(crate) fn receipt(&self, log: u32, ready: &ReceiptReady, schema: u32) -> Output {
        let name = Bytes::from(event_key(&ready.tenant, &ready.source, &ready.id));
        let mut output = Output::new(Partition::new(RECEIPTS, log), name.clone(), ready.encode(schema));
        let id = format!("{}/{}", self.batch, ready.index).into();
        output.headers = self.all([RECEIPT_READY, RECEIPT_CORRECTED], id, name);
        output
    }

    fn all(&self, [first, corrected]: [&'static str; 2], id: Bytes, subject: Bytes) -> Vec<Header> {
        let (kind, id) = match self.version {
            1 => (first, id),
            version => (corrected, [&id[..], format!("/{version}").as_bytes()].concat().into()),
        };
        let values = [
            Some(Bytes::from_static(CONTENT_TYPE.as_bytes())),
            Some(Bytes::from_static(b"1.0")),
            Some(id),
            Some(self.source.clone()),
            Some(Bytes::from_static(kind.as_bytes())),
            self.time.clone(),
            Some(subject),
            Some(self.trace.clone()),
        ];
        let named = HEADERS.into_iter().zip(values);
        named.filter_map(|(name, value)| Some(Header { name: Arc::from(name), value: value? })).collect()
    }
}

/// Whether a message of `proofs` stands for an earlier one about the same batch.
pub fn is_correction(record: &Record) -> bool {
    record.header("ce_type").is_some_and(|kind| *kind == *PROOF_CORRECTED.as_bytes())
}

/// A time as CloudEvents have it; none outside the years that RFC 3339 can write.
fn rfc3339(time: Micros) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(time) * 1_000).ok()?;
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    if (0..=9_999).contains(&time.year()) { time.format(form).ok() } else { None }
}

/// An event's name as one text: `tenant/source/id`, each percent-encoded but for the unreserved characters of RFC 3986
/// (letters, digits, `-`, `.`, `_`, `~`).
pub fn event_key(tenant: &str, source: &str, id: &str) -> String {
    let mut key = String::with_capacity(tenant.len() + source.len() + id.len() + 2);
    for (at, part) in [tenant, source, id].into_iter().enumerate() {
        if at > 0 {
            key.push('/');
        }
        for byte in part.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                key.push(char::from(byte));
            } else {
                write!(key, "%{byte:02X}").expect("writing to a string does not fail");
            }
        }
    }
    key
}

#[cfg(test)]
mod tests;
