//! Checks recorded evidence: `cargo run -p chainweb --example evidence -- DIR...`.
//!
//! Looks at every JSON file at and below the given paths. Prints what it skips and each failure on a line of its
//! own, and `N passed, M failed` last. Ends with status 1 if anything failed or nothing was checked.

#[allow(dead_code)] // the other example uses the other half
#[path = "../tests/checks/mod.rs"]
mod checks;

fn main() -> std::process::ExitCode {
    let paths: Vec<_> = std::env::args_os().skip(1).map(std::path::PathBuf::from).collect();
    checks::evidence::check(&paths).report()
}
