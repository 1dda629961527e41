//! The embedded side of the ports.
