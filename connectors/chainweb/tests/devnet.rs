//! The development network, from outside: its blocks, its memory, its folder and its HTTP.
#![cfg(feature = "devnet")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "devnet/blocks.rs"]
mod blocks;
#[path = "devnet/coins.rs"]
mod coins;
#[path = "devnet/commands.rs"]
mod commands;
#[cfg(feature = "client")]
#[path = "devnet/faults.rs"]
mod faults;
#[path = "devnet/folder.rs"]
mod folder;
#[path = "devnet/forks.rs"]
mod forks;
#[path = "devnet/http.rs"]
mod http;
#[path = "devnet/nodes.rs"]
mod nodes;
#[path = "devnet/recorded.rs"]
mod recorded;
#[path = "devnet/recorded_blocks.rs"]
mod recorded_blocks;
#[path = "devnet/recorded_commands.rs"]
mod recorded_commands;
#[path = "devnet/support.rs"]
mod support;
