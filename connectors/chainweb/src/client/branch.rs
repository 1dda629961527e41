//! Whether a block is on the branch below a tip.

use super::NodeError;
use super::blocks::Bounds;
use super::node::Node;
use crate::hash::Hash;
use crate::header::Header;

/// Most headers between a tip and a block below it that are walked over: five weeks of a chain with a block in 30 s.
const MAX_WALK: u64 = 100_000;

impl Node {
    /// The hash of the block at `height` from which `tip` descends: each header between the two is fetched, its hash
    /// checked, and held against the parent that the one above it names. `None` if the node no longer has them all, or
    /// `height` is above the tip.
    ///
    /// # Errors
    /// [`NodeError`], also where the branch is longer than 100,000 blocks.
    pub async fn ancestor(&self, tip: &Header, height: u64) -> Result<Option<Hash>, NodeError> {
        const WHAT: &str = "header/branch";
        let Some(above) = tip.height.checked_sub(height) else { return Ok(None) };
        if above > MAX_WALK {
            return Err(
                self.nonsense(WHAT, format!("{above} blocks from height {height} to the tip are too many"))
            );
        }
        let (mut expected, mut at) = (tip.parent, tip.height);
        if above == 0 {
            return Ok(Some(tip.hash));
        }
        while at - 1 > height {
            let bounds = Bounds { min_height: Some(height + 1), ..Bounds::default() };
            let Some(page) = self.branch(tip.chain, &[], &[expected], &bounds).await? else {
                return Ok(None);
            };
            if page.items.is_empty() {
                return Ok(None);
            }
            for header in page.items {
                if header.hash != expected || header.height + 1 != at || header.height <= height {
                    return Err(
                        self.nonsense(WHAT, format!("{} does not follow below height {at}", header.hash))
                    );
                }
                (expected, at) = (header.parent, header.height);
            }
        }
        Ok(Some(expected))
    }
}
