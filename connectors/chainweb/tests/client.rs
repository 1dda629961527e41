//! The client: against what a live node answered, against the development network, and against what no node does.
#![cfg(all(feature = "client", feature = "devnet"))]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "client/branch.rs"]
mod branch;
#[path = "client/calls.rs"]
mod calls;
#[path = "client/evidence.rs"]
mod evidence;
#[path = "client/hostile.rs"]
mod hostile;
#[path = "client/nodes.rs"]
mod nodes;
#[path = "client/replay.rs"]
mod replay;
#[path = "client/replayed_blocks.rs"]
mod replayed_blocks;
#[path = "client/replayed_commands.rs"]
mod replayed_commands;
#[path = "client/server.rs"]
mod server;
#[allow(dead_code, reason = "the tests of the development network use the rest")]
#[path = "devnet/support.rs"]
mod support;
#[path = "client/tls.rs"]
mod tls;
#[path = "client/traced.rs"]
mod traced;
