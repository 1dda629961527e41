//! End to end: the built program in processes of its own, killed at will, and a checker that counts what became of
//! every event from the outside.
//!
//! The program is the one that `KILLICK` names, else the release build of this workspace, which is built if needed.

pub mod checker;
pub mod events;
pub mod program;
pub mod site;
