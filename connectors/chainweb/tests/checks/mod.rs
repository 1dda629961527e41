//! Holds the crate against files of vectors and of recorded evidence. Shared by the tests and the examples.

pub mod evidence;
pub mod vectors;

use std::path::{Path, PathBuf};

/// What came out.
#[derive(Default)]
pub struct Tally {
    pub passed: usize,
    pub failures: Vec<String>,
    pub skipped: Vec<String>,
}

impl Tally {
    fn add(&mut self, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(why) => self.failures.push(format!("{name}: {why}")),
        }
    }

    /// Prints skips, failures and the sum, and says how the process should end.
    #[allow(dead_code)] // the examples print, the tests assert
    pub fn report(&self) -> std::process::ExitCode {
        self.skipped.iter().for_each(|skipped| println!("skipped {skipped}"));
        self.failures.iter().for_each(|failure| println!("failed {failure}"));
        println!("{} passed, {} failed", self.passed, self.failures.len());
        let is_good = self.failures.is_empty() && self.passed > 0;
        if is_good { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
    }
}

/// All JSON files at and below the given paths, sorted.
fn json_files(paths: &[PathBuf], tally: &mut Tally) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = paths.to_vec();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            match std::fs::read_dir(&path) {
                Ok(entries) => pending.extend(entries.flatten().map(|entry| entry.path())),
                Err(error) => tally.failures.push(format!("{}: {error}", path.display())),
            }
        } else if path.extension().is_some_and(|extension| extension == "json") || paths.contains(&path) {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The text of a file; a file that cannot be read is a failure.
fn read(path: &Path, tally: &mut Tally) -> Option<Vec<u8>> {
    std::fs::read(path).map_err(|error| tally.failures.push(format!("{}: {error}", path.display()))).ok()
}

/// Both sides are equal, or the text says what differs.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, actual: T, expected: T) -> Result<(), String> {
    if actual == expected { Ok(()) } else { Err(format!("{what} is {actual:?}, expected {expected:?}")) }
}

/// It holds, or the text says what does not.
fn holds(what: &str, it: bool) -> Result<(), String> {
    if it { Ok(()) } else { Err(what.to_owned()) }
}

/// An error as text.
fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
