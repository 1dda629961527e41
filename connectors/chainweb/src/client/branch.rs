//! Whether blocks are on the branch below a chain's tip.
//!
//! A node says which block a command is in, and which block is the newest. That the one is below the other is not
//! believed: the headers between them are fetched, and each names the next one's hash. What was walked once is kept, so
//! that looking again and again fetches new headers only, from whichever node.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::NodeError;
use super::node::Node;
use super::pages::Bounds;
use crate::cut::CutBlock;
use crate::graph::ChainId;
use crate::hash::Hash;
use crate::header::Header;

/// Most headers that are walked over and kept below a tip. Nodes do not undo more than 480 blocks; what is deeper than
/// this is taken from a node's word.
const MAX_WALK: u64 = 2_048;

/// What was asked for, in errors.
const WHAT: &str = "header/branch";

/// The branches of a network's chains, as far as they were looked at.
#[derive(Debug, Default)]
pub struct Branches {
    chains: Mutex<BTreeMap<ChainId, Arc<Branch>>>,
}

/// A tip, and the hashes and times of its ancestors without a gap.
#[derive(Clone, Debug)]
struct Branch {
    tip: Header,
    /// The height of the lowest of `hashes`.
    low: u64,
    /// The parent of the lowest.
    parent: Hash,
    /// Ascending, with the creation times (µs since 1970); the last is the tip's.
    hashes: VecDeque<(Hash, i64)>,
}

impl Branches {
    /// The newest block of a chain by a node's cut, and which is the first of `blocks` (height and hash) that the
    /// newest is, or descends from.
    ///
    /// # Errors
    /// [`NodeError`], also where the node's headers do not follow one another.
    pub async fn look(
        &self,
        node: &Node,
        chain: ChainId,
        blocks: &[(u64, Hash)],
    ) -> Result<(Header, Option<usize>), NodeError> {
        let cut = node.cut().await?;
        let newest = cut.hashes.get(&chain);
        let newest = newest.ok_or_else(|| node.nonsense("cut", format!("it has no chain {chain}")))?;
        let mut branch = match self.known(chain) {
            Some(known) if known.tip.hash == newest.hash => known,
            known => Arc::new(climb(node, chain, newest, known.as_deref()).await?),
        };
        let mut first = None;
        for (index, (height, hash)) in blocks.iter().enumerate() {
            if ancestor(node, &mut branch, *height).await?.is_some_and(|(found, _)| found == *hash) {
                first = Some(index);
                break;
            }
        }
        let tip = branch.tip.clone();
        self.chains.lock().unwrap_or_else(PoisonError::into_inner).insert(chain, branch);
        Ok((tip, first))
    }

    /// The creation time, in µs since 1970, of the block at a height that `tip` is or descends from; `None` where there is
    /// none, or the node does not have it any more. After a look at that tip, what was walked is asked for no more.
    ///
    /// # Errors
    /// [`NodeError`], also where the node's headers do not follow one another.
    pub async fn time_at(&self, node: &Node, tip: &Header, height: u64) -> Result<Option<i64>, NodeError> {
        let known = self.known(tip.chain).filter(|known| known.tip.hash == tip.hash);
        let mut branch = known.unwrap_or_else(|| Arc::new(Branch::new(tip.clone())));
        let found = ancestor(node, &mut branch, height).await?;
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        // Another look may have gone on to another tip meanwhile.
        if chains.get(&tip.chain).is_some_and(|known| known.tip.hash == tip.hash) {
            chains.insert(tip.chain, branch);
        }
        Ok(found.map(|(_, time)| time))
    }

    fn known(&self, chain: ChainId) -> Option<Arc<Branch>> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner).get(&chain).cloned()
    }
}

impl Branch {
    fn new(tip: Header) -> Self {
        Self {
            low: tip.height,
            parent: tip.parent,
            hashes: VecDeque::from([(tip.hash, tip.creation_time)]),
            tip,
        }
    }

    fn at(&self, height: u64) -> Option<(Hash, i64)> {
        let index = usize::try_from(height.checked_sub(self.low)?).ok()?;
        self.hashes.get(index).copied()
    }

    /// The branch of another tip whose ancestors above `height` these are, ascending; the others are known.
    fn continued(&self, height: u64, above: impl Iterator<Item = (Hash, i64)>, tip: Header) -> Self {
        let kept = usize::try_from((height + 1).saturating_sub(self.low)).unwrap_or(usize::MAX);
        let mut branch = Self { tip, ..self.clone() };
        branch.hashes.truncate(kept);
        branch.hashes.extend(above);
        while branch.hashes.len() as u64 > MAX_WALK {
            if let Some((lowest, _)) = branch.hashes.pop_front() {
                (branch.parent, branch.low) = (lowest, branch.low + 1);
            }
        }
        branch
    }
}

/// The branch of the newest block, with as much of the known one as is still part of it.
async fn climb(
    node: &Node,
    chain: ChainId,
    newest: &CutBlock,
    known: Option<&Branch>,
) -> Result<Branch, NodeError> {
    let is_near = |known: &&Branch| newest.height.abs_diff(known.tip.height) <= MAX_WALK;
    let Some(known) = known.filter(is_near) else { return Ok(Branch::new(tip(node, chain, newest).await?)) };
    let is_known = |height, hash| known.at(height).is_some_and(|(known, _)| known == hash);
    if is_known(newest.height, newest.hash) {
        let tip = tip(node, chain, newest).await?;
        return Ok(known.continued(tip.height, std::iter::empty(), tip));
    }
    let mut above: Vec<Header> = Vec::new();
    let (mut expected, mut height) = (newest.hash, newest.height);
    loop {
        let bounds = Bounds { min_height: Some(known.low.saturating_add(1)), ..Bounds::default() };
        let page = node.branch(chain, &[known.tip.hash], &[expected], &bounds).await?;
        let items = page.map(|page| page.items).unwrap_or_default();
        // A branch that leaves the known one below all that is kept of it: then this one is begun anew.
        if items.is_empty() || above.len() as u64 > 2 * MAX_WALK {
            return Ok(Branch::new(tip(node, chain, newest).await?));
        }
        for header in items {
            follows(node, &header, expected, height)?;
            let below = height.checked_sub(1);
            expected = header.parent;
            above.push(header);
            let Some(below) = below else { return Ok(Branch::new(tip(node, chain, newest).await?)) };
            height = below;
            if is_known(height, expected) {
                let hashes: Vec<_> =
                    above.iter().rev().map(|header| (header.hash, header.creation_time)).collect();
                return Ok(known.continued(height, hashes.into_iter(), above.swap_remove(0)));
            }
        }
    }
}

/// The hash and the creation time of the tip's ancestor at a height; `None` if the node does not have it any more, or it is above the tip.
async fn ancestor(
    node: &Node,
    branch: &mut Arc<Branch>,
    height: u64,
) -> Result<Option<(Hash, i64)>, NodeError> {
    let (chain, tip) = (branch.tip.chain, &branch.tip);
    let Some(depth) = tip.height.checked_sub(height) else { return Ok(None) };
    if depth >= MAX_WALK {
        let bounds = Bounds { min_height: Some(height), max_height: Some(height), ..Bounds::default() };
        let page = node.branch(chain, &[], &[tip.hash], &bounds).await?;
        let item = page.and_then(|page| page.items.into_iter().next());
        return Ok(item
            .filter(|header| header.height == height)
            .map(|header| (header.hash, header.creation_time)));
    }
    while branch.low > height {
        let bounds = Bounds { min_height: Some(height), ..Bounds::default() };
        let page = node.branch(chain, &[], &[branch.parent], &bounds).await?;
        let items = page.map(|page| page.items).unwrap_or_default();
        if items.is_empty() {
            return Ok(None);
        }
        let longer = Arc::make_mut(branch);
        for header in items {
            // The first one always follows or is an error, so the loop ends.
            if longer.low == height {
                break;
            }
            follows(node, &header, longer.parent, longer.low - 1)?;
            longer.hashes.push_front((header.hash, header.creation_time));
            (longer.parent, longer.low) = (header.parent, header.height);
        }
    }
    Ok(branch.at(height))
}

/// Whether a header is the one that the block above it names.
fn follows(node: &Node, header: &Header, expected: Hash, height: u64) -> Result<(), NodeError> {
    if header.hash == expected && header.height == height {
        return Ok(());
    }
    Err(node
        .nonsense(WHAT, format!("{} at height {} is not {expected} at {height}", header.hash, header.height)))
}

/// The header of a cut's block.
async fn tip(node: &Node, chain: ChainId, newest: &CutBlock) -> Result<Header, NodeError> {
    let header = node.header(chain, &newest.hash).await?;
    header.filter(|header| header.height == newest.height).ok_or_else(|| {
        node.nonsense(
            "header",
            format!("the cut has {} at height {}, which is not there", newest.hash, newest.height),
        )
    })
}
