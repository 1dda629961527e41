//! Checks files of published cases against this crate. The example `vectors` and the test of the same name share it.
//!
//! A file is `{"format": 1, "kind": …, …}`; the kinds are those of [`check_file`], others are skipped.

use std::path::{Path, PathBuf};

use killick_proof::cbor::scan;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::encoding::{base64, from_base64};
use killick_proof::note::{Note, VerifierKey};
use killick_proof::signature::{PublicKey, SIGNATURE_LEN};
use killick_proof::tlog_proof::TlogProof;
use killick_proof::tree::{Tree, verify_consistency, verify_inclusion};
use killick_proof::{Algorithm, Hash};
use serde_json::Value;

/// Nesting that is followed in a CBOR item; far beyond any case, far below what costs memory.
const MAX_DEPTH: usize = 4096;

/// What came of the cases.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Cases with the expected verdict.
    pub passed: usize,
    /// The others, and files that could not be read: where, and what is wrong.
    pub failures: Vec<String>,
    /// Files of kinds that are not checked here, and their kinds.
    pub skipped: Vec<(PathBuf, String)>,
}

/// Checks every `.json` file in a directory and below it, or one file.
pub fn check_path(path: &Path, outcome: &mut Outcome) {
    if !path.is_dir() {
        return check_file(path, outcome);
    }
    let mut entries: Vec<_> = match path.read_dir().and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect(),
        Err(error) => return outcome.failures.push(format!("{}: {error}", path.display())),
    };
    entries.sort();
    for entry in entries {
        if entry.is_dir() || entry.extension().is_some_and(|extension| extension == "json") {
            check_path(&entry, outcome);
        }
    }
}

fn check_file(path: &Path, outcome: &mut Outcome) {
    let read = std::fs::read(path).map_err(|error| error.to_string());
    let file: Value =
        match read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string())) {
            Ok(file) => file,
            Err(error) => return outcome.failures.push(format!("{}: {error}", path.display())),
        };
    let kind = file["kind"].as_str().unwrap_or("none");
    let lists: &[(&str, Check)] = match kind {
        "rfc9162_proofs" => &[("inclusion", inclusion), ("consistency", consistency)],
        "signed_note" => &[("vectors", signed_note)],
        "note_vkey" => &[("vectors", note_vkey)],
        "checkpoint_text" => &[("vectors", checkpoint_text)],
        "tlog_proof" => &[("vectors", tlog_proof)],
        "tlog" => &[("vectors", tlog)],
        "cbor_item" => &[("vectors", cbor_item)],
        "ed25519_edge" => &[("vectors", ed25519_edge)],
        "ed25519_verify" => &[("vectors", ed25519_verify)],
        _ => return outcome.skipped.push((path.to_owned(), kind.to_owned())),
    };
    for (list, check) in lists {
        let cases = file[list].as_array().map_or(&[][..], Vec::as_slice);
        for (index, case) in cases.iter().enumerate() {
            match check(case) {
                Ok(()) => outcome.passed += 1,
                Err(why) => {
                    let id = case["id"].as_str().or(case["name"].as_str()).unwrap_or("no id");
                    outcome.failures.push(format!("{}: {list} {index}, {id}: {why}", path.display()));
                }
            }
        }
    }
}

type Verdict = Result<(), String>;
type Check = fn(&Value) -> Verdict;

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Verdict {
    if found == expected { Ok(()) } else { Err(format!("{what} {found:?}, expected {expected:?}")) }
}

fn inclusion(case: &Value) -> Verdict {
    let [index, size] = [number(&case["leafIdx"])?, number(&case["treeSize"])?];
    // A hash of another length is none, so a proof with one is refused.
    let verdict = (|| {
        let [leaf, root] = [hash(&case["leafHash"])?, hash(&case["root"])?];
        let path = hashes(&case["proof"])?;
        verify_inclusion(Algorithm::Sha256, &leaf, index, size, &path, &root)
            .map_err(|error| error.to_string())
    })();
    same("accepted", verdict.is_ok(), !flag(&case["wantErr"])?)
}

fn consistency(case: &Value) -> Verdict {
    let [size1, size2] = [number(&case["size1"])?, number(&case["size2"])?];
    let verdict = (|| {
        let [root1, root2] = [bytes(&case["root1"])?, bytes(&case["root2"])?];
        let path = hashes(&case["proof"])?;
        // Of equal sizes the roots are compared and nothing is hashed: some cases have roots that are no hashes.
        let [root1, root2] = if size1 == size2 && root1 == root2 {
            [Algorithm::Sha256.digest(&root1), Algorithm::Sha256.digest(&root2)]
        } else {
            [hash(&case["root1"])?, hash(&case["root2"])?]
        };
        verify_consistency(Algorithm::Sha256, size1, &root1, size2, &root2, &path)
            .map_err(|error| error.to_string())
    })();
    same("accepted", verdict.is_ok(), !flag(&case["wantErr"])?)
}

fn signed_note(case: &Value) -> Verdict {
    let note = match case["noteBase64"].as_str() {
        Some(note) => from_base64(note).map_err(|error| error.to_string())?,
        None => text(&case["note"])?.as_bytes().to_vec(),
    };
    let keys = list(&case["keys"])?.iter().map(verifier_key).collect::<Result<Vec<_>, _>>()?;
    let opened = Note::from_bytes(&note).and_then(|note| note.verify(&keys));
    // A note that no known key has signed is not opened.
    let counts =
        opened.ok().map(|opened| (opened.verified.len(), opened.unverified)).filter(|counts| counts.0 > 0);
    let expect = &case["expect"];
    same("opened", counts.is_some(), flag(&expect["ok"])?)?;
    match counts {
        Some((verified, unverified)) => {
            same("verified", verified as u64, number(&expect["verified"])?)?;
            same("unverified", unverified as u64, number(&expect["unverified"])?)
        }
        None => Ok(()),
    }
}

fn note_vkey(case: &Value) -> Verdict {
    let text = text(&case["key"])?;
    let key = text.parse::<VerifierKey>();
    same("accepted", key.is_ok(), flag(&case["expect"]["ok"])?)?;
    key.map_or(Ok(()), |key| same("written", key.to_string(), text.to_owned()))
}

fn checkpoint_text(case: &Value) -> Verdict {
    let text = text(&case["text"])?;
    let expect = &case["expect"];
    let checkpoint = Checkpoint::parse(text);
    same("accepted", checkpoint.is_ok(), flag(&expect["strict"])?)?;
    let Ok(checkpoint) = checkpoint else { return Ok(()) };
    same("origin", Some(checkpoint.origin), expect["origin"].as_str())?;
    same("size", Some(checkpoint.size), expect["size"].as_u64())?;
    same("root", Some(base64(checkpoint.root.as_bytes()).as_str()), expect["root"].as_str())?;
    same("extensions", Some(checkpoint.extensions), expect["extra"].as_str())?;
    same("written", checkpoint.to_string().as_str(), text)
}

fn tlog_proof(case: &Value) -> Verdict {
    let text = text(&case["text"])?;
    let expect = &case["expect"];
    let proof = TlogProof::parse(text);
    same("accepted", proof.is_ok(), flag(&expect["ok"])?)?;
    let Ok(proof) = proof else { return Ok(()) };
    same("index", Some(proof.index), expect["index"].as_u64())?;
    same("path", &proof.path, &hashes(&expect["hashes"])?)?;
    same("checkpoint", Some(proof.checkpoint), expect["checkpoint"].as_str())?;
    same("extra", proof.extra.as_deref().map(base64).as_deref(), expect["extra"].as_str())?;
    same("written", proof.to_string().as_str(), text)
}

fn tlog(case: &Value) -> Verdict {
    let key = [verifier_key(&case["key"])?];
    let leaves = hashes(&case["leafHashes"])?;
    for (index, checkpoint) in list(&case["checkpoints"])?.iter().enumerate() {
        let in_case = |error: &dyn std::fmt::Display| format!("checkpoint {index}: {error}");
        let note = Note::parse(text(checkpoint)?).map_err(|error| in_case(&error))?;
        let opened = note.verify(&key).map_err(|error| in_case(&error))?;
        same("verified", opened.verified.len(), 1).map_err(|error| in_case(&error))?;
        let checkpoint = Checkpoint::parse(note.text()).map_err(|error| in_case(&error))?;
        let first = usize::try_from(checkpoint.size).ok().and_then(|size| leaves.get(..size));
        let first = first.ok_or_else(|| in_case(&"more leaves than given"))?;
        let root = Tree::new(Algorithm::Sha256, first.to_vec()).root();
        same("root", root, checkpoint.root).map_err(|error| in_case(&error))?;
    }
    Ok(())
}

fn cbor_item(case: &Value) -> Verdict {
    let bytes = from_hex(&case["hex"])?;
    let item = scan(&bytes, 0, MAX_DEPTH).ok().filter(|item| item.end == bytes.len());
    let expect = &case["expect"];
    same("well-formed", item.is_some(), flag(&expect["wellformed"])?)?;
    let is_deterministic = item.is_some_and(|item| item.breach.is_none());
    same("deterministic", is_deterministic, flag(&expect["deterministic"])?)
}

fn ed25519_edge(case: &Value) -> Verdict {
    let is_right =
        is_signed(&from_hex(&case["key"])?, text(&case["msg"])?.as_bytes(), &from_hex(&case["sig"])?);
    same("accepted", is_right, flag(&case["expect"]["strict"])?)
}

fn ed25519_verify(case: &Value) -> Verdict {
    let is_right = is_signed(&from_hex(&case["key"])?, &from_hex(&case["msg"])?, &from_hex(&case["sig"])?);
    same("accepted", is_right, flag(&case["expect"]["ok"])?)
}

fn is_signed(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = key.try_into().ok().and_then(|key| PublicKey::decode(key).ok());
    let signature: Option<&[u8; SIGNATURE_LEN]> = signature.try_into().ok();
    key.zip(signature).is_some_and(|(key, signature)| key.verify(message, signature).is_ok())
}

fn verifier_key(value: &Value) -> Result<VerifierKey, String> {
    text(value)?.parse().map_err(|error| format!("{value}: {error}"))
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("{value} is no text"))
}

fn number(value: &Value) -> Result<u64, String> {
    value.as_u64().ok_or_else(|| format!("{value} is no count"))
}

fn flag(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("{value} is neither true nor false"))
}

fn list(value: &Value) -> Result<&[Value], String> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(values) => Ok(values),
        _ => Err(format!("{value} is no list")),
    }
}

fn bytes(value: &Value) -> Result<Vec<u8>, String> {
    from_base64(text(value)?).map_err(|error| error.to_string())
}

fn hash(value: &Value) -> Result<Hash, String> {
    Hash::from_slice(&bytes(value)?).ok_or_else(|| format!("{value} is no hash"))
}

fn hashes(value: &Value) -> Result<Vec<Hash>, String> {
    list(value)?.iter().map(hash).collect()
}

fn from_hex(value: &Value) -> Result<Vec<u8>, String> {
    hex::decode(text(value)?).map_err(|error| error.to_string())
}
