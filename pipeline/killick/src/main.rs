//! Killick.
fn main() {}
