//! The stages.
