//! Writes a receipt in JSON.

use serde::{Serialize, Serializer};

use crate::encoding::base64url;
use crate::hash::Hash;
use crate::receipt::{ANCHOR_TYPE, Anchor, FORMAT, Receipt, SPV_ALGORITHM};

/// The receipt, two spaces to a level, with a newline at the end.
pub(crate) fn write(receipt: &Receipt) -> String {
    let file = File {
        format: FORMAT,
        statement: B64(&receipt.statement),
        batch: Batch {
            header: B64(&receipt.batch.header),
            index: receipt.batch.index,
            path: Path(&receipt.batch.path),
        },
        log: Log {
            checkpoint: &receipt.log.checkpoint,
            index: Some(receipt.log.index),
            path: Path(&receipt.log.path),
        },
        anchors: receipt.anchors.iter().map(anchor).collect(),
    };
    let mut text = serde_json::to_string_pretty(&file).expect("texts, numbers and lists always serialise");
    text.push('\n');
    text
}

/// One anchor, without spaces.
pub(crate) fn write_anchor(one: &Anchor) -> String {
    serde_json::to_string(&anchor(one)).expect("texts, numbers and lists always serialise")
}

fn anchor(anchor: &Anchor) -> AnchorMembers<'_> {
    AnchorMembers {
        kind: ANCHOR_TYPE,
        log: anchor.log.as_ref().map(|log| Log {
            checkpoint: &log.checkpoint,
            index: None,
            path: Path(&log.path),
        }),
        tree: Tree {
            root: B64(anchor.tree.root.as_ref()),
            size: anchor.tree.size,
            index: anchor.tree.index,
            path: Path(&anchor.tree.path),
        },
        spv: Spv {
            chain: anchor.spv.chain,
            object: B64(&anchor.spv.object),
            subject: Subject { input: B64(&anchor.spv.input) },
            algorithm: SPV_ALGORITHM,
        },
        block: Block {
            network: &anchor.block.network,
            chain: anchor.block.chain,
            height: anchor.block.height,
            hash: B64(anchor.block.hash.as_ref()),
            header: B64(&anchor.block.header),
        },
    }
}

/// Bytes as base64url.
struct B64<'r>(&'r [u8]);

impl Serialize for B64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64url(self.0))
    }
}

/// Hashes as a list of base64url.
struct Path<'r>(&'r [Hash]);

impl Serialize for Path<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|hash| B64(hash.as_ref())))
    }
}

#[derive(Serialize)]
struct File<'r> {
    format: &'static str,
    statement: B64<'r>,
    batch: Batch<'r>,
    log: Log<'r>,
    anchors: Vec<AnchorMembers<'r>>,
}

#[derive(Serialize)]
struct Batch<'r> {
    header: B64<'r>,
    index: u64,
    path: Path<'r>,
}

#[derive(Serialize)]
struct Log<'r> {
    checkpoint: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    path: Path<'r>,
}

#[derive(Serialize)]
struct AnchorMembers<'r> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<Log<'r>>,
    tree: Tree<'r>,
    spv: Spv<'r>,
    block: Block<'r>,
}

#[derive(Serialize)]
struct Tree<'r> {
    root: B64<'r>,
    size: u64,
    index: u64,
    path: Path<'r>,
}

#[derive(Serialize)]
struct Spv<'r> {
    chain: u64,
    object: B64<'r>,
    subject: Subject<'r>,
    algorithm: &'static str,
}

#[derive(Serialize)]
struct Subject<'r> {
    input: B64<'r>,
}

#[derive(Serialize)]
struct Block<'r> {
    network: &'r str,
    chain: u64,
    height: u64,
    hash: B64<'r>,
    header: B64<'r>,
}
