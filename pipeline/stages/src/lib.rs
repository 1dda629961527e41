//! The five stages of Killick as pure steps, and the ports they stand on.
//!
//! Read in the order of an event's way: [`route`], then `ingest`, `dedup`, `batch`, `anchor`, `prove`, one file each.
//! A stage is a [`stage::Stage`]: records and answers in, outputs and requests out; no clock, no I/O, no randomness.
//! The shell that polls, steps and commits is written once, in the binary. [`ports`] is what it stands on.

pub mod ports;
pub mod record;
pub mod route;
pub mod stage;
