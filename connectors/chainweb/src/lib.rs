//! Chainweb.
