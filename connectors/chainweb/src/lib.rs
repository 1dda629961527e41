//! Chainweb to the byte: headers, the Merkle log, payloads, SPV proofs, Pact commands, cuts.
//!
//! Everything but the features is pure: no input or output, no clock, no randomness, nothing asynchronous. Nothing
//! panics on any input. Numbers, tags and orders follow the reference node (kadena-io/chainweb-node) and are held
//! against recorded blocks and proofs in the tests.
//!
//! | module | what |
//! |---|---|
//! | [`encoding`], [`hash`], [`uint`], [`json`] | texts and numbers |
//! | [`merkle`] | the tree under every hash |
//! | [`graph`], [`version`], [`known`] | networks |
//! | [`header`], [`rules`], [`cut`], [`braid`] | blocks, alone and together |
//! | [`payload`], [`pact`] | what is in a block |
//! | [`spv`], [`events`] | proofs about it |
//!
//! With the feature `client` nodes can be asked over HTTP; with `devnet` there is a development network in the process.

pub mod braid;
#[cfg(feature = "client")]
pub mod client;
pub mod cut;
#[cfg(any(feature = "client", feature = "devnet"))]
mod decimal;
#[cfg(feature = "devnet")]
pub mod devnet;
pub mod encoding;
pub mod events;
pub mod graph;
pub mod hash;
pub mod header;
pub mod json;
pub mod known;
pub mod merkle;
pub mod pact;
pub mod payload;
pub mod rules;
pub mod spv;
pub mod uint;
pub mod version;

pub use graph::{ChainId, Graph};
pub use hash::Hash;
pub use header::Header;
pub use uint::U256;
pub use version::Version;
