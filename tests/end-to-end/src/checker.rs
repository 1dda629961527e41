//! Counts what became of every event, from the receipts alone.
//!
//! It trusts nothing that the pipeline says of itself: it reads each receipt's statement, lets the program verify the
//! receipts in a process of its own that sees only files, and compares with the sender's ledger.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use killick_proof::statement::Statement;

use crate::events::{Ledger, Name, TENANT};
use crate::program::killick;

/// What is wrong: all empty when the promise holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Accepted, and no receipt.
    pub lost: BTreeSet<Name>,
    /// More than one receipt, by number of receipts.
    pub doubled: BTreeMap<Name, usize>,
    /// A receipt for what nobody sent.
    pub phantom: BTreeSet<String>,
    /// A receipt that does not verify to `trusted`, or proves another payload; by file, with what is wrong.
    pub wrong: BTreeMap<String, String>,
    /// Receipts that were looked at.
    pub receipts: usize,
}

impl Findings {
    /// Whether every accepted event has exactly one good receipt and nothing else has one.
    pub fn promise_holds(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.phantom.is_empty() && self.wrong.is_empty()
    }
}

/// Checks the receipts of a folder against a ledger and a trust file.
///
/// # Errors
/// The folder cannot be read or the verifier does not start.
pub fn check(ledger: &Ledger, receipts: &Path, trust: &Path) -> Result<Findings> {
    let mut findings = Findings { wrong: verdicts(receipts, trust)?, ..Findings::default() };
    let mut seen: HashMap<Name, usize> = HashMap::new();
    for entry in std::fs::read_dir(receipts).with_context(|| format!("{}", receipts.display()))? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        findings.receipts += 1;
        match statement_of(&std::fs::read(&path)?) {
            Ok((name, digest)) => {
                *seen.entry(name.clone()).or_default() += 1;
                match ledger.get(&name) {
                    None => drop(findings.phantom.insert(file)),
                    Some((event, _)) if event.digest() != digest => {
                        findings.wrong.insert(file, "it proves another payload".into());
                    }
                    Some(_) => {}
                }
            }
            Err(why) => drop(findings.wrong.insert(file, format!("{why:#}"))),
        }
    }
    findings.lost = ledger.all_accepted().filter(|name| !seen.contains_key(*name)).cloned().collect();
    findings.doubled = seen.into_iter().filter(|(_, count)| *count > 1).collect();
    Ok(findings)
}

/// The name and payload digest in a receipt's statement.
fn statement_of(receipt: &[u8]) -> Result<(Name, [u8; 32])> {
    let receipt: serde_json::Value = serde_json::from_slice(receipt)?;
    let text = receipt["statement"].as_str().context("no statement")?;
    let bytes = URL_SAFE_NO_PAD.decode(text)?;
    let statement = Statement::decode(&bytes)?;
    anyhow::ensure!(statement.event.tenant == TENANT, "tenant {}", statement.event.tenant);
    Ok((
        (statement.event.source.to_owned(), statement.event.id.to_owned()),
        *statement.event.digest.as_bytes(),
    ))
}

/// What a fresh verifier says against receipts of the folder: by file name, those it does not call `trusted`.
fn verdicts(receipts: &Path, trust: &Path) -> Result<BTreeMap<String, String>> {
    let output = Command::new(killick())
        .args(["verify", "--output", "json", "--trust"])
        .arg(trust)
        .arg(receipts)
        .output()
        .context("the verifier does not start")?;
    let mut wrong = BTreeMap::new();
    let mut told = 0_usize;
    for line in String::from_utf8(output.stdout)?.lines() {
        let verdict: serde_json::Value = serde_json::from_str(line)?;
        told += 1;
        let path = verdict["file"].as_str().context("a verdict names no file")?;
        let file = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        if verdict["level"] != "trusted" || !verdict["error"].is_null() {
            wrong.insert(file, verdict.to_string());
        }
    }
    let files = std::fs::read_dir(receipts)?.count();
    anyhow::ensure!(
        told == files,
        "the verifier spoke of {told} of {files} receipts and said: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(wrong)
}
