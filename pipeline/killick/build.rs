//! Gives the program its version with the commit it was built from.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=KILLICK_COMMIT");
    // Builds without a repository, as of an image, may say the commit themselves.
    let commit = std::env::var("KILLICK_COMMIT").ok().filter(|commit| !commit.is_empty()).or_else(|| {
        for path in ["HEAD", "logs/HEAD"] {
            if let Some(path) = git(&["rev-parse", "--git-path", path]) {
                println!("cargo::rerun-if-changed={path}");
            }
        }
        git(&["rev-parse", "--short=12", "HEAD"])
    });
    let commit = commit.as_deref().unwrap_or("unknown");
    println!("cargo::rustc-env=KILLICK_VERSION={} ({commit})", env!("CARGO_PKG_VERSION"));
}

/// The first line that git prints; `None` where there is no git, or no repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?.lines().next()?.to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}
