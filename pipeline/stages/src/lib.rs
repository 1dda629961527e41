//! The five stages of Killick as pure steps, and the ports they stand on.
//!
//! Read in the order of an event's way: [`route`], then [`ingest`], [`dedup`], [`batch`], [`anchor`], [`prove`], one file
//! each; [`lend`] gives later anchors to earlier receipts. A stage is a [`stage::Stage`]: records and answers in, outputs and requests out; no clock, no I/O, no randomness.
//! The shell that polls, steps and commits is written once, in the binary. [`ports`] is what it stands on.

pub mod anchor;
pub mod audit;
pub mod avro;
pub mod batch;
mod check;
pub mod cloudevents;
mod command;
pub mod continuation;
mod cursor;
pub mod dedup;
pub mod deployment;
pub mod derive;
pub mod devices;
pub mod envelope;
mod form;
pub mod frame;
pub mod fsck;
pub mod ingest;
pub mod lend;
pub mod manifest;
pub mod mapping;
pub mod ports;
pub mod prove;
pub mod ready;
pub mod record;
pub mod registry;
pub mod rejected;
pub mod ring;

pub mod route;
pub mod seen;
pub mod series;
pub mod source;
pub mod span;
pub mod stage;
pub mod state;
#[cfg(test)]
mod testing;
pub mod trace;
mod window;
