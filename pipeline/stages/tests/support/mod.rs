//! A world in one thread: a log, a catalog, a chain and shells that fail as a seed says.

#![allow(dead_code, reason = "each test takes from the world what it needs")]

pub mod audit;
pub mod chain;
pub mod judge;
pub mod producer;
pub mod registry;
pub mod shell;
pub mod story;
pub mod world;

pub use killick_sim::{Dice, SECOND, START, catalog, log};
