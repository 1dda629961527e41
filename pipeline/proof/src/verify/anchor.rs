//! Anchors: from a checkpoint's text through the anchor tree and a transaction's output to a block.

use std::sync::Arc;

use super::{Holding, in_path};
use crate::anchor::AnchorText;
use crate::chain;
use crate::fault::{Fault, Missing, Part};
use crate::json;
use crate::receipt::{Anchor, SpvProof, TreeProof};
use crate::report::BlockName;
use crate::tree::verify_inclusion;
use crate::trust::{Standing, Trust};
use crate::value::Value;

/// The tag of a transaction's output in Chainweb's trees: without it, a subject could be read as something else.
const OUTPUT_TAG: [u8; 2] = [0x00, 0x14];

/// An anchor that holds: the checkpoint is in this block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CheckedAnchor {
    pub(super) block: BlockName,
    /// The block's creation time in µs since 1970.
    pub(super) created: i64,
    /// Why the verifier does not trust the block, if it does not.
    untrusted: Option<Missing>,
    /// How many times the work of the trust file's cut is above the block, where it is trusted for that alone.
    pub(super) work_above: Option<u64>,
}

/// Puts a fault into the anchor at this place.
pub(super) fn place(at: usize, fault: Fault) -> Fault {
    fault.within(&format!("[{at}]")).within("anchors")
}

/// Checks an anchor; without the checkpoint's text its place in the anchor tree cannot be checked.
pub(super) fn check(anchor: &Anchor, text: Option<&str>, trust: &Trust) -> Part<CheckedAnchor> {
    let unknown_hash = check_output(&anchor.spv, &anchor.tree, text)?;
    let block = chain::check_block(&anchor.block)?;
    if anchor.spv.chain != anchor.block.chain {
        let why = format!("is {}, and the block is one of chain {}", anchor.spv.chain, anchor.block.chain);
        return Err(Fault::wrong(why).within("chain").within("spv"));
    }
    let root = chain::run_spv(&anchor.spv.object, &anchor.spv.input)
        .map_err(|why| Fault::wrong(why).within("object").within("spv"))?;
    if root != anchor.block.hash {
        let why = format!("runs to {root}, not to the block {}", anchor.block.hash);
        return Err(Fault::wrong(why).within("object").within("spv"));
    }
    if let Some(unknown) = unknown_hash {
        return Err(unknown);
    }
    let (untrusted, work_above) = match trust.standing(&block.name) {
        _ if !block.is_known => {
            (Some(("network", "the rules of this network are not known".to_owned())), None)
        }
        Standing::Trusted => (None, None),
        Standing::TrustedForWork(work) => (None, Some(work)),
        Standing::Untrusted(why) => (Some(("hash", why)), None),
    };
    let untrusted = untrusted.map(|(member, why)| Missing { field: format!("block.{member}"), why });
    Ok(CheckedAnchor { block: block.name, created: block.created, untrusted, work_above })
}

/// Checks that the output is a success whose result is the anchor text of a tree that holds the checkpoint.
/// Returns a fault where nobody knows the tree's hash: then what is left may still be wrong.
fn check_output(spv: &SpvProof, tree: &TreeProof, text: Option<&str>) -> Part<Option<Fault>> {
    let place = |fault: Fault| fault.within("input").within("subject").within("spv");
    let result = output_result(&spv.input).map_err(place)?;
    let anchor_text = AnchorText::parse(&result).map_err(|error| place(Fault::wrong(error)))?;
    let (Some(algorithm), Some(root)) = (anchor_text.algorithm(), anchor_text.root()) else {
        let why = format!("the hash {:?} of the anchor tree is not understood", anchor_text.hash_name());
        return Ok(Some(place(Fault::missing(why))));
    };
    let wrong = |member, why: String| Err(Fault::wrong(why).within(member).within("tree"));
    if tree.root != root {
        return wrong("root", format!("is {}, and the anchor text has {root}", tree.root));
    }
    if tree.size != anchor_text.size() {
        return wrong("size", format!("is {}, and the anchor text has {}", tree.size, anchor_text.size()));
    }
    if let Some(text) = text {
        let leaf = algorithm.leaf(text.as_bytes());
        verify_inclusion(algorithm, &leaf, tree.index, tree.size, &tree.path, &tree.root)
            .map_err(|error| in_path(error).within("tree"))?;
    }
    Ok(None)
}

/// The text that a successful transaction returned.
fn output_result(input: &[u8]) -> Part<String> {
    let Some(output) = input.strip_prefix(&OUTPUT_TAG) else {
        return Err(Fault::wrong("is no transaction's output: its tag is not 0x0014"));
    };
    let output =
        json::parse(output).map_err(|error| Fault::wrong(format_args!("the output is no JSON: {error}")))?;
    let result = output.get("result");
    match result.and_then(|result| result.get("status")) {
        Some(Value::Text(status)) if status == "success" => {}
        _ => return Err(Fault::wrong("the transaction's output says no success")),
    }
    match result.and_then(|result| result.get("data")) {
        Some(Value::Text(data)) => Ok(data.to_string()),
        _ => Err(Fault::wrong("the transaction's result is no text")),
    }
}

/// The creation time of an anchor's block, where the block is trusted and the checkpoint signed.
pub(super) fn trusted_time(holding: &Holding) -> Option<i64> {
    let is_signed = holding.own.as_ref().is_none_or(|own| own.is_signed());
    (is_signed && holding.anchor.untrusted.is_none()).then_some(holding.anchor.created)
}

/// The anchors that hold, at least one, where none is wrong.
pub(super) fn holding(anchors: Vec<Part<Holding>>, oldest: Option<i64>) -> Part<Vec<Holding>> {
    let mut holding = Vec::new();
    let mut missing = None;
    for anchor in anchors {
        let signed = anchor.and_then(|anchor| match &anchor.own {
            None => Ok(anchor),
            Some(own) => match own.check_signed(oldest) {
                Ok(()) => Ok(anchor),
                Err(fault) => Err(place(anchor.at, fault.within("checkpoint").within("log"))),
            },
        });
        match signed {
            Ok(anchor) => holding.push(anchor),
            Err(wrong @ Fault::Wrong(_)) => return Err(wrong),
            Err(fault @ Fault::Missing(_)) => missing = missing.or(Some(fault)),
        }
    }
    if holding.is_empty() {
        return Err(missing.unwrap_or_else(|| Fault::missing("there is none").within("anchors")));
    }
    Ok(holding)
}

/// The anchor whose trusted block is the oldest.
pub(super) fn oldest_trusted(anchors: &[Holding]) -> Part<Arc<CheckedAnchor>> {
    let trusted = anchors.iter().filter(|holding| holding.anchor.untrusted.is_none());
    if let Some(oldest) = trusted.min_by_key(|holding| holding.anchor.created) {
        return Ok(Arc::clone(&oldest.anchor));
    }
    let reasons = anchors.iter().find_map(|holding| Some((holding.at, holding.anchor.untrusted.clone()?)));
    Err(match reasons {
        Some((at, missing)) => place(at, Fault::Missing(missing)),
        None => Fault::missing("there is none").within("anchors"),
    })
}
