//! The receipt: everything a stranger needs to check one event, as one file.
//!
//! There are two forms with the same members, JSON (bytes as base64url) and a deterministic CBOR map; and one that
//! others can read, too, and has no anchors, the C2SP `tlog-proof`. All are read strictly: [`Parts::parse`] tells what
//! stands in a file, part by part, and [`crate::verify`] says what it proves. [`Receipt`] is a complete receipt, for
//! whoever writes one. Receipts are not canonical: what names one is the batch id and the index.

use crate::fault::{Fault, Part, Wrong};
use crate::hash::Hash;
use crate::json;
use crate::members::{Members, bytes, hash, items, number, path, text};
use crate::value::Value;
use crate::{receipt_cbor, receipt_tlog};

/// The value of `format` in the receipts of this version.
pub const FORMAT: &str = "killick-receipt/1";

/// Bytes in the largest receipt, in either form: 1 MiB.
pub const MAX_RECEIPT: usize = 1 << 20;

/// Steps in the longest SPV proof.
pub const MAX_SPV_STEPS: usize = 512;

/// Bytes in the longest SPV object: a count, a position, and a side and a hash for each step.
const MAX_SPV_OBJECT: usize = 12 + 33 * MAX_SPV_STEPS;

/// The only algorithm of `spv` there is: SHA-512/256, the hash of Chainweb's trees.
pub const SPV_ALGORITHM: &str = "SHA512t_256";

/// The only type of anchor there is so far.
pub const ANCHOR_TYPE: &str = "chainweb";

/// A complete receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The statement's CBOR: the leaf of the batch tree.
    pub statement: Vec<u8>,
    /// Proves the statement in its batch.
    pub batch: BatchProof,
    /// Proves the batch in its log.
    pub log: LogProof,
    /// Prove a checkpoint of the log on chains; each is enough.
    pub anchors: Vec<Anchor>,
}

/// Proves that a statement is a leaf of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchProof {
    /// The batch header's CBOR.
    pub header: Vec<u8>,
    /// The statement's leaf index.
    pub index: u64,
    /// The statement's audit path in the tree of the header's leaf count.
    pub path: Vec<Hash>,
}

/// Proves that a batch header is a leaf of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogProof {
    /// The signed note.
    pub checkpoint: String,
    /// The header's leaf index: the batch number.
    pub index: u64,
    /// The header's audit path in the checkpoint's tree.
    pub path: Vec<Hash>,
}

/// Proves that a checkpoint is in a block of a Chainweb network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// A later checkpoint of the same log, which stands for the receipt's in this anchor.
    pub log: Option<AnchorLog>,
    /// Proves the checkpoint's text in the anchor tree.
    pub tree: TreeProof,
    /// Proves the transaction output that carries the anchor text in the block.
    pub spv: SpvProof,
    /// The block.
    pub block: Block,
}

/// An anchor's own checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorLog {
    /// The signed note.
    pub checkpoint: String,
    /// The header's audit path in this checkpoint's tree; its index is the receipt's.
    pub path: Vec<Hash>,
}

/// Proves that a checkpoint's text is a leaf of an anchor tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeProof {
    /// The root, as in the anchor text.
    pub root: Hash,
    /// The number of leaves, as in the anchor text.
    pub size: u64,
    /// The text's leaf index.
    pub index: u64,
    /// The text's audit path.
    pub path: Vec<Hash>,
}

/// A Chainweb SPV proof of a transaction output, as a node's `spv` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpvProof {
    /// The chain where the proof ends.
    pub chain: u64,
    /// The binary proof object.
    pub object: Vec<u8>,
    /// The subject's input: the tag 0x0014 and the output's bytes.
    pub input: Vec<u8>,
}

/// The block in which an SPV proof ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The network's name, like `mainnet01`.
    pub network: String,
    /// The chain's number.
    pub chain: u64,
    /// The block's height.
    pub height: u64,
    /// The block's hash.
    pub hash: Hash,
    /// The binary header, the hash at its end included.
    pub header: Vec<u8>,
}

/// A receipt as it stands in a file: what is wrong or missing in one part says nothing about the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The statement's CBOR.
    pub statement: Part<Vec<u8>>,
    /// The proof of the statement in its batch.
    pub batch: Part<BatchProof>,
    /// The proof of the batch in its log.
    pub log: Part<LogProof>,
    /// The anchors.
    pub anchors: Part<Vec<Part<AnyAnchor>>>,
}

/// An anchor of any type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyAnchor {
    /// One of Chainweb.
    Chainweb(Box<Anchor>),
    /// One of a type that is not understood.
    Other(String),
}

impl Parts {
    /// Reads a file in any form: a CBOR map tells itself by its first byte, a tlog-proof by its first line.
    ///
    /// # Errors
    /// [`Fault`] where the file as a whole is wrong (too large, of no form, a member twice, no `format`) or of a
    /// format that is not understood.
    pub fn parse(file: &[u8]) -> Result<Self, Fault> {
        if file.len() > MAX_RECEIPT {
            return Err(Fault::wrong(format_args!("a receipt has at most {MAX_RECEIPT} bytes")));
        }
        if receipt_tlog::is_one(file) {
            return receipt_tlog::parse(file);
        }
        let is_cbor = file.first().is_some_and(|first| first >> 5 == 5);
        let value = if is_cbor {
            receipt_cbor::parse(file)?
        } else {
            json::parse(file).map_err(|error| {
                Fault::Wrong(Wrong {
                    why: format!("not JSON as receipts have it: {error}"),
                    field: error.path,
                })
            })?
        };
        Self::read(&value, is_cbor)
    }

    fn read(value: &Value<'_>, is_cbor: bool) -> Result<Self, Fault> {
        if !matches!(value, Value::Object(_)) {
            return Err(Fault::wrong(format_args!("a receipt is an object, and this is {}", value.kind())));
        }
        let Some(format) = value.get("format") else {
            return Err(Fault::wrong("is absent: no receipt").within("format"));
        };
        let format = text(format).map_err(|fault| fault.within("format"))?;
        if format != FORMAT {
            let why = format_args!("{format:?} is not understood; {FORMAT:?} is").to_string();
            return Err(Fault::missing(why).within("format"));
        }
        Ok(Self {
            statement: part(value, "statement", |value| bytes(value, is_cbor)),
            batch: part(value, "batch", |value| batch(value, is_cbor)),
            log: part(value, "log", |value| log(value, is_cbor)),
            anchors: part(value, "anchors", |value| {
                let anchor =
                    |(at, value)| anchor(value, is_cbor).map_err(|fault| fault.within(&format!("[{at}]")));
                let anchors = items(value)?.iter().enumerate().map(anchor);
                Ok(anchors.map(|anchor| anchor.map_err(|fault| fault.within("anchors"))).collect())
            }),
        })
    }

    /// The complete receipt; anchors of types that are not understood are left out.
    ///
    /// # Errors
    /// The first [`Fault`] of any part.
    pub fn complete(self) -> Result<Receipt, Fault> {
        let mut anchors = Vec::new();
        for anchor in self.anchors? {
            if let AnyAnchor::Chainweb(anchor) = anchor? {
                anchors.push(*anchor);
            }
        }
        Ok(Receipt { statement: self.statement?, batch: self.batch?, log: self.log?, anchors })
    }
}

impl From<Receipt> for Parts {
    fn from(receipt: Receipt) -> Self {
        let anchor = |anchor| Ok(AnyAnchor::Chainweb(Box::new(anchor)));
        Self {
            statement: Ok(receipt.statement),
            batch: Ok(receipt.batch),
            log: Ok(receipt.log),
            anchors: Ok(receipt.anchors.into_iter().map(anchor).collect()),
        }
    }
}

impl Receipt {
    /// Reads a complete receipt, JSON or CBOR.
    ///
    /// # Errors
    /// The first [`Fault`] of the file or any of its parts, so for a tlog-proof its lack of anchors. What the receipt
    /// proves is not looked at.
    pub fn parse(file: &[u8]) -> Result<Self, Fault> {
        Parts::parse(file)?.complete()
    }

    /// The receipt in JSON, the members in the order of the format's description, with a newline at the end.
    pub fn to_json(&self) -> String {
        crate::receipt_json::write(self)
    }

    /// The receipt in deterministic CBOR (RFC 8949 section 4.2.1).
    pub fn to_cbor(&self) -> Vec<u8> {
        receipt_cbor::write(self)
    }

    /// The receipt as a C2SP `tlog-proof@v1`, without its anchors: the proof of the batch header in its log, with what
    /// leads from the statement to the header as its extra data. `None` where the log has another hash than SHA-256,
    /// the only one that C2SP has, or the header is none.
    pub fn to_tlog_proof(&self) -> Option<String> {
        receipt_tlog::write(self)
    }
}

impl Anchor {
    /// Reads one anchor as it stands in a receipt in JSON: for stores that keep anchors apart from receipts.
    ///
    /// # Errors
    /// [`Fault`] for what is wrong or missing in it, and for a type that is not understood.
    pub fn parse(text: &[u8]) -> Result<Self, Fault> {
        if text.len() > MAX_RECEIPT {
            return Err(Fault::wrong(format_args!("an anchor has at most {MAX_RECEIPT} bytes")));
        }
        let value = json::parse(text).map_err(|error| {
            Fault::Wrong(Wrong { why: format!("not JSON as receipts have it: {error}"), field: error.path })
        })?;
        match anchor(&value, false)? {
            AnyAnchor::Chainweb(anchor) => Ok(*anchor),
            AnyAnchor::Other(kind) => {
                Err(Fault::missing(format_args!("the type {kind:?} is not understood")))
            }
        }
    }

    /// The anchor in JSON, as one line, in the form that it has in a receipt.
    pub fn to_json(&self) -> String {
        crate::receipt_json::write_anchor(self)
    }
}

/// Reads one part of the receipt.
fn part<'v, 'a, T>(
    receipt: &'v Value<'a>,
    name: &str,
    read: impl FnOnce(&'v Value<'a>) -> Part<T>,
) -> Part<T> {
    let absent = || Err(Fault::missing("is absent"));
    receipt.get(name).map_or_else(absent, read).map_err(|fault| fault.within(name))
}

fn batch(value: &Value<'_>, is_cbor: bool) -> Part<BatchProof> {
    let mut members = Members::of(value)?;
    let header = members.take("header", |value| bytes(value, is_cbor));
    let index = members.take("index", number);
    let path = members.take("path", |value| path(value, is_cbor));
    members.end((|| Some(BatchProof { header: header?, index: index?, path: path? }))())
}

fn log(value: &Value<'_>, is_cbor: bool) -> Part<LogProof> {
    let mut members = Members::of(value)?;
    let checkpoint = members.take("checkpoint", text);
    let index = members.take("index", number);
    let path = members.take("path", |value| path(value, is_cbor));
    members.end((|| Some(LogProof { checkpoint: checkpoint?, index: index?, path: path? }))())
}

fn anchor(value: &Value<'_>, is_cbor: bool) -> Part<AnyAnchor> {
    let mut members = Members::of(value)?;
    let Some(kind) = members.take("type", text) else { return members.end(None) };
    if kind != ANCHOR_TYPE {
        return Ok(AnyAnchor::Other(kind));
    }
    let log = members.take_optional("log", |value| anchor_log(value, is_cbor));
    let tree = members.take("tree", |value| tree(value, is_cbor));
    let spv = members.take("spv", |value| spv(value, is_cbor));
    let block = members.take("block", |value| block(value, is_cbor));
    let anchor = (|| Some(Anchor { log, tree: tree?, spv: spv?, block: block? }))();
    members.end(anchor.map(|anchor| AnyAnchor::Chainweb(Box::new(anchor))))
}

fn anchor_log(value: &Value<'_>, is_cbor: bool) -> Part<AnchorLog> {
    let mut members = Members::of(value)?;
    let checkpoint = members.take("checkpoint", text);
    let path = members.take("path", |value| path(value, is_cbor));
    members.end((|| Some(AnchorLog { checkpoint: checkpoint?, path: path? }))())
}

fn tree(value: &Value<'_>, is_cbor: bool) -> Part<TreeProof> {
    let mut members = Members::of(value)?;
    let root = members.take("root", |value| hash(value, is_cbor));
    let size = members.take("size", number);
    let index = members.take("index", number);
    let path = members.take("path", |value| path(value, is_cbor));
    members.end((|| Some(TreeProof { root: root?, size: size?, index: index?, path: path? }))())
}

fn spv(value: &Value<'_>, is_cbor: bool) -> Part<SpvProof> {
    let mut members = Members::of(value)?;
    let chain = members.take("chain", number);
    let object = members.take("object", |value| spv_object(value, is_cbor));
    let input = members.take("subject", |value| subject(value, is_cbor));
    let algorithm = members.take("algorithm", |value| match text(value)? {
        algorithm if algorithm == SPV_ALGORITHM => Ok(()),
        algorithm => Err(Fault::wrong(format_args!("is {algorithm:?}, not {SPV_ALGORITHM:?}"))),
    });
    members.end((|| {
        let () = algorithm?;
        Some(SpvProof { chain: chain?, object: object?, input: input? })
    })())
}

fn spv_object(value: &Value<'_>, is_cbor: bool) -> Part<Vec<u8>> {
    let object = bytes(value, is_cbor)?;
    if object.len() > MAX_SPV_OBJECT {
        return Err(Fault::wrong(format_args!("a proof has at most {MAX_SPV_STEPS} steps")));
    }
    Ok(object)
}

/// Reads the subject: unlike elsewhere an unknown member is not ignored, since it could name another subject.
fn subject(value: &Value<'_>, is_cbor: bool) -> Part<Vec<u8>> {
    let mut members = Members::of(value)?;
    if let Value::Object(all) = value
        && let Some((name, _)) = all.iter().find(|(name, _)| name != "input")
    {
        return Err(Fault::wrong(format_args!("has a member {name:?}; a subject has only \"input\"")));
    }
    let input = members.take("input", |value| bytes(value, is_cbor));
    members.end(input)
}

fn block(value: &Value<'_>, is_cbor: bool) -> Part<Block> {
    let mut members = Members::of(value)?;
    let network = members.take("network", text);
    let chain = members.take("chain", number);
    let height = members.take("height", number);
    let hash = members.take("hash", |value| hash(value, is_cbor));
    let header = members.take("header", |value| bytes(value, is_cbor));
    members.end((|| {
        Some(Block { network: network?, chain: chain?, height: height?, hash: hash?, header: header? })
    })())
}
