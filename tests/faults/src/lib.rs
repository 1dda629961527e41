//! The pipeline on real servers under faults: what is accepted has exactly one proof in the end, whatever is killed,
//! stopped or cut off in between.
//!
//! A [`stand`] is one run's place: real servers, several processes of every stage, and a [`proxy`] on every link between
//! them. A [`load`] sends [`events`] and keeps a [`ledger`]; [`faults`] happen as a seed decides; when the pipeline has
//! come to [`rest`], a [`checker`] counts what became of every event. [`run`] is all of it in order.

pub mod checker;
pub mod events;
pub mod faults;
pub mod fleet;
pub mod ledger;
pub mod load;
pub mod mutations;
pub mod process;
pub mod proxy;
pub mod rest;
pub mod run;
pub mod servers;
pub mod stand;
pub mod timeline;
