//! An anchor as it will stand in receipts: made of the chain's proof, and held against the batches that it covers.

use std::fmt;

use chainweb::Header;
use chainweb::spv::{Proof, Subject};
use killick_proof::Hash;
use killick_proof::anchor::AnchorText;
use killick_proof::receipt::{Anchor, Block, SpvProof, TreeProof};
use killick_proof::verify::Verifier;

use crate::check::{Checked, check_batch};
use crate::frame::AnchorFrame;
use crate::ports::Spv;
use crate::ready::MAX_ANCHOR;
use crate::stage::StoredBatch;

/// Verifies a batch as the catalog holds it.
pub(crate) fn check(
    verifier: &mut Verifier,
    stored: Option<Box<StoredBatch>>,
    number: u64,
    frame: &AnchorFrame,
    anchor: &Anchor,
) -> Result<Checked, String> {
    let about = |why: &dyn fmt::Display| {
        format!(
            "batch {number} of {}, as the catalog holds it, is not proven by the anchor {} at size {}: {why}",
            frame.origin, frame.key, frame.size
        )
    };
    let stored = stored.ok_or_else(|| about(&"it is not there"))?;
    check_batch(verifier, *stored, &frame.origin, number, &frame.checkpoint, anchor)
        .map_err(|why| about(&why))
}

/// Whether another one of these anchors stands for the first: the block of that one is lost.
pub(crate) fn is_replaced<'f>(mut waiting: impl Iterator<Item = &'f AnchorFrame>) -> bool {
    let first = waiting.next();
    first.is_some_and(|first| {
        waiting.any(|frame| {
            frame.interval == first.interval && frame.origin == first.origin && frame.version > first.version
        })
    })
}

/// Whether a chain's proof ends in this block.
pub(crate) fn ends_in(spv: &Spv, block: &str) -> bool {
    Header::decode(&spv.header).is_ok_and(|header| header.hash.to_string() == block)
}

/// Puts together the anchor as it will stand in receipts.
pub(crate) fn anchor_of(frame: &AnchorFrame, spv: &Spv, network: &str) -> Result<Anchor, String> {
    let about = |why: &dyn fmt::Display| format!("the chain's proof of {} is none: {why}", frame.key);
    let text = AnchorText::parse(&frame.text).map_err(|error| about(&error))?;
    let proof = Proof::parse(&spv.proof).map_err(|error| about(&error))?;
    let Subject::Input(input) = proof.subject else { return Err(about(&"it is not about an output")) };
    let header = Header::decode(&spv.header).map_err(|error| about(&error))?;
    let anchor = Anchor {
        log: None,
        tree: TreeProof {
            root: text.root().ok_or_else(|| about(&"the hash of the anchor text is not understood"))?,
            size: text.size(),
            index: frame.index,
            path: frame.path.iter().copied().map(Hash::new).collect(),
        },
        spv: SpvProof { chain: proof.chain.0.into(), object: proof.object.encode(), input },
        block: Block {
            network: network.to_owned(),
            chain: header.chain.0.into(),
            height: header.height,
            hash: Hash::new(header.hash.0),
            header: spv.header.to_vec(),
        },
    };
    match anchor.to_json().len() {
        size if size > MAX_ANCHOR => {
            Err(about(&format_args!("the anchor would have {size} bytes, and {MAX_ANCHOR} are the most")))
        }
        _ => Ok(anchor),
    }
}
