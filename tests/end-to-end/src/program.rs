//! The program under test, as a process.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// The path of the program under test.
///
/// # Panics
/// It is not named by `KILLICK` and cannot be built.
pub fn killick() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("KILLICK") {
        Some(path) => path.into(),
        None => build().expect("the program under test can be built"),
    })
}

fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "-p", "killick", "--message-format=json"])
        .current_dir(&root)
        .output()
        .context("cargo does not start")?;
    ensure!(built.status.success(), "cargo build: {}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8_lossy(&built.stdout);
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .find(|path| path.file_stem().is_some_and(|stem| stem == "killick"));
    executable.context("cargo names no executable")
}

/// Runs the program to its end.
///
/// # Errors
/// It does not start.
pub fn run(arguments: &[&str]) -> Result<Output> {
    Command::new(killick())
        .args(arguments)
        .output()
        .with_context(|| format!("{} does not start", killick().display()))
}

/// Runs the program to its end and wants it to succeed; returns what it wrote to standard output.
///
/// # Errors
/// It does not start, or fails: with all that it said.
pub fn succeed(arguments: &[&str]) -> Result<String> {
    let output = run(arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "killick {arguments:?} ended with {}:\n{said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
