//! The pipeline on real servers under faults: what is accepted has exactly one proof in the end, whatever is killed,
//! stopped or cut off in between.
//!
//! [`proxy`] stands between every stage and its servers.

pub mod events;
pub mod ledger;
pub mod load;
pub mod proxy;
