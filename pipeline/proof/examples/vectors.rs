//! Checks directories of published cases against this crate: `cargo run -p killick-proof --example vectors -- DIR...`
//!
//! Knows RFC 9162 proofs, C2SP notes, keys, checkpoints and proofs, CBOR items and Ed25519 signatures. Prints each
//! case with another verdict than expected, then `N passed, M failed`. Fails if any failed or none was checked.

use std::path::Path;
use std::process::ExitCode;

#[path = "../tests/vectors/check.rs"]
mod check;

fn main() -> ExitCode {
    let mut outcome = check::Outcome::default();
    for directory in std::env::args_os().skip(1) {
        check::check_path(Path::new(&directory), &mut outcome);
    }
    for (path, kind) in &outcome.skipped {
        println!("{}: skipped, the kind {kind} is not checked here", path.display());
    }
    for failure in &outcome.failures {
        println!("{failure}");
    }
    println!("{} passed, {} failed", outcome.passed, outcome.failures.len());
    if outcome.passed > 0 && outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
