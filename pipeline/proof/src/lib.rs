//! What a Killick receipt is made of and how it is checked: hashing, statements, trees, logs, checkpoints, anchors.
//!
//! Pure: no I/O, no clock, no randomness, no async. No input makes it panic, and what it keeps is bounded by the input.

pub mod anchor;
pub mod batch;
pub mod cbor;
mod chain;
pub mod checkpoint;
pub mod cose;
pub mod encoding;
pub mod fault;
pub mod hash;
pub mod headers;
pub mod json;
pub mod log;
mod members;
pub mod note;
pub mod origin;
pub mod receipt;
mod receipt_cbor;
mod receipt_json;
mod receipt_tlog;
pub mod report;
pub mod signature;
pub mod statement;
pub mod succession;
pub mod tiles;
pub mod tlog_proof;
pub mod together;
pub mod tree;
pub mod trust;
pub mod value;
pub mod verify;

pub use hash::{Algorithm, Hash};
