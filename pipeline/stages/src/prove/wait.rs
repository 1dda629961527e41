//! Waiting for a proof that ends in the block where an anchor was told of.
//!
//! That block was deep. Where it is lost all the same, the anchor stage says so, and tells of the anchor again in another block
//! while it looks after it. Beyond that nobody does, so that a wait which is long is an alarm here too.

use std::time::Duration;

use crate::frame::AnchorFrame;
use crate::ports::Look;

/// A wait of this length is an alarm.
const LONG: Duration = Duration::from_secs(20 * 60);
/// And again each time that it was so much longer.
const AGAIN: Duration = Duration::from_secs(86_400);

/// How long a proof was waited for, though the chain has come beyond the block where it should end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wait(Duration);

impl Wait {
    /// Takes another look, a pause after the last. Whether an operator has to know now.
    pub(crate) fn looked(&mut self, pause: Duration, frame: &AnchorFrame, look: &Look) -> bool {
        // A node that is behind cannot have the proof yet.
        if look.tip_height < frame.height {
            return false;
        }
        let before = self.alarms();
        self.0 = self.0.saturating_add(pause);
        self.alarms() > before
    }

    /// Whether it is so long that something is wrong.
    pub(crate) fn is_long(&self) -> bool {
        self.0 >= LONG
    }

    /// How many alarms it deserves.
    fn alarms(&self) -> u64 {
        self.0.checked_sub(LONG).map_or(0, |over| 1 + over.as_secs() / AGAIN.as_secs())
    }
}

/// What is said of a wait that is long.
pub(crate) fn alarm(frame: &AnchorFrame, look: &Look, is_passed: bool) -> String {
    let found = match &look.mined {
        Some(mined) if mined.block == frame.block => {
            "the nodes have that block, and give no proof".to_owned()
        }
        Some(mined) => format!("its command is in block {} at height {} now", mined.block, mined.height),
        None => format!("its command is in no block below the tip at height {}", look.tip_height),
    };
    let next = if is_passed {
        "its batches are proven by the next anchor"
    } else {
        "its batches wait for another anchor of their log, or for the anchor stage to tell of this one again"
    };
    format!(
        "no proof ends in block {} at height {} of chain {}, where interval {} was told of with {} at size {}: {found}; {next}. \
         What was published of that block is void if it is lost: look at it with `killick anchors show {}`, ask other nodes \
         ([chainweb] nodes), and set [anchor] depth and watch higher",
        frame.block, frame.height, frame.chain, frame.interval, frame.origin, frame.size, frame.interval
    )
}
