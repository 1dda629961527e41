//! What every side of a port has to do: one suite a port, run on each side, so that each can stand for the other.
//!
//! A suite knows nothing of its subject but the port: no dense offsets, no times, no order between partitions, and an
//! assignment may take a while. It panics where the contract is broken, with what it saw.

pub mod catalog;
pub mod chain;
pub mod log;
