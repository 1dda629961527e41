//! Anchors and proofs through whatever nodes and networks do: random scenarios in virtual time, in one process.
//!
//! What is real: the stages anchor and prove, the chain port over HTTP, the development network with its faults, the
//! verifier. What is simulated: the log, the catalog, the workers, which die at every boundary between what they do and
//! what others see of it, and time. A scenario is a function of its seed, as far as a second of real time passes in none:
//! how a client prefers nodes that answered just now over those that did not goes by the machine's clock.
//!
//! Counted is, from outside, over the log, the catalog, the chain as it is in the end, every block of every node and every
//! command that was sent:
//!
//! | count | what it counts |
//! |---|---|
//! | `anchors` | intervals with a command that succeeded, on the chain as it is in the end |
//! | `unanchored` | batches that `proofs` does not tell of in the end, or whose receipts do not verify; and halts of a stage |
//! | `doubled` | intervals with two such commands, unless a deep block that was lost let one come back that was dead; intervals for which a command was sent while an earlier one could still be mined, or though one stood deep on all nodes; what was told of twice |
//! | `above_orphan` | what was told of in a block that was not deep by then, or that is not on the chain in the end |
//! | `changed_bytes` | bytes that were sent and had not been committed, as a command, before; attempts with two commands |
//! | `alarms_missed` | blocks that were told of and are lost without an alarm; alarms about blocks that no node had lost |
//!
//! | file | what |
//! |---|---|
//! | `plan.rs` | what a seed decides |
//! | `ground.rs` | the network, its nodes, the ways to them |
//! | `world.rs` | time, the log, the trouble |
//! | `worker.rs` | the shell around a stage |
//! | `witness.rs` | who saw everything |
//! | `judge.rs` | the verdict |
//! | `tale.rs` | what happened, for people |
//! | `bug.rs` | bugs that are planted |
//! | `scenario.rs`, `runs.rs` | one scenario, and many |

mod bug;
mod ground;
mod judge;
mod plan;
pub mod runs;
mod scenario;
mod tale;
mod witness;
mod worker;
mod world;
