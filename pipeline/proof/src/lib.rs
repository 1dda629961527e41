//! What a Killick receipt is made of and how it is checked: hashing, statements, trees, logs, checkpoints, anchors.
//!
//! Pure: no I/O, no clock, no randomness, no async. No input makes it panic, and what it keeps is bounded by the input.

pub mod anchor;
pub mod batch;
pub mod cbor;
pub mod checkpoint;
pub mod encoding;
pub mod hash;
pub mod log;
pub mod note;
pub mod origin;
pub mod signature;
pub mod statement;
pub mod tree;

pub use hash::{Algorithm, Hash};
