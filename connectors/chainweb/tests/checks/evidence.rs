//! Evidence recorded from a node: a command, its block, and proofs to blocks of this and other chains.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use chainweb::header::HeaderObject;
use chainweb::merkle::Tag;
use chainweb::pact::{self, Command, CommandResult};
use chainweb::payload::{Payload, PayloadWithOutputs};
use chainweb::spv::{self, Blocks, CreateError, Part, Proof};
use chainweb::{ChainId, Hash, Header, Version, encoding};
use serde::Deserialize;
use serde_json::Value;

use super::{Tally, holds, same, text};

type Check = Result<(), String>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Evidence {
    source_chain: ChainId,
    request_key: Hash,
    command: Command,
    transaction_bytes: String,
    output_bytes: String,
    poll_response: String,
    tx_index: usize,
    block_height: u64,
    tx_header: RecordedHeader,
    #[serde(default)]
    payload: Option<Payload>,
    payload_with_outputs: Value,
    proofs: Vec<RecordedProof>,
}

#[derive(Deserialize)]
struct RecordedHeader {
    bytes: String,
    #[serde(default)]
    object: Option<HeaderObject>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedProof {
    target_chain: ChainId,
    distance: u64,
    #[serde(default)]
    spv_response: Option<String>,
    proof_text: String,
    steps: usize,
    position: u64,
    root: Hash,
    target_header: RecordedHeader,
    chains_from_target_to_source: Vec<ChainId>,
}

impl RecordedHeader {
    fn decode(&self) -> Result<Header, String> {
        let header = Header::from_base64url(&self.bytes).map_err(text)?;
        same("encoded header", encoding::encode(&header.encode()), self.bytes.clone())?;
        holds("the hash of a header is wrong", header.verify_hash())?;
        if let Some(object) = &self.object {
            same("header from its object", object.to_public_header().map_err(text)?, header.clone())?;
        }
        Ok(header)
    }
}

/// All blocks of all files together, since a proof may run through a block that another file has.
#[derive(Default)]
struct Known {
    headers: HashMap<Hash, Header>,
    payloads: HashMap<Hash, PayloadWithOutputs>,
}

impl Blocks for Known {
    fn header(&self, hash: &Hash) -> Option<Header> {
        self.headers.get(hash).cloned()
    }

    fn payload(&self, payload_hash: &Hash) -> Option<PayloadWithOutputs> {
        self.payloads.get(payload_hash).cloned()
    }
}

/// Checks all evidence in the files at and below `paths`; one pass for each command and for each proof.
pub fn check(paths: &[PathBuf]) -> Tally {
    let mut tally = Tally::default();
    let mut files = BTreeMap::new();
    for path in super::json_files(paths, &mut tally) {
        let Some(bytes) = super::read(&path, &mut tally) else { continue };
        let is_evidence = |value: &Value| value["command"].is_object() && value["proofs"].is_array();
        match serde_json::from_slice::<Value>(&bytes).ok().filter(is_evidence) {
            None => tally.skipped.push(format!("{}: not evidence", path.display())),
            Some(value) => match Evidence::deserialize(&value) {
                Ok(evidence) => drop(files.insert(path, evidence)),
                Err(error) => tally.failures.push(format!("{}: {error}", path.display())),
            },
        }
    }
    let mut known = Known::default();
    for evidence in files.values() {
        let headers = evidence.proofs.iter().map(|proof| &proof.target_header).chain([&evidence.tx_header]);
        known
            .headers
            .extend(headers.filter_map(|header| header.decode().ok()).map(|header| (header.hash, header)));
        if let Ok(payload) = PayloadWithOutputs::deserialize(&evidence.payload_with_outputs) {
            known.payloads.insert(payload.payload_hash, payload);
        }
    }
    for (path, evidence) in &files {
        let name = path.display().to_string();
        tally.add(&format!("{name}: command and block"), check_block(evidence, path, &files));
        for (index, proof) in evidence.proofs.iter().enumerate() {
            tally.add(&format!("{name}: proof {index}"), check_proof(evidence, proof, &known));
        }
    }
    tally
}

/// The payload of a block, which may stand in the file of another command of the same block.
fn payload_of(
    evidence: &Evidence,
    path: &std::path::Path,
    files: &BTreeMap<PathBuf, Evidence>,
) -> Result<PayloadWithOutputs, String> {
    let stored = match evidence.payload_with_outputs["sameBlockAs"].as_str() {
        None => &evidence.payload_with_outputs,
        Some(other) => {
            let other = files.get(&path.with_file_name(other)).ok_or_else(|| format!("no file {other}"))?;
            &other.payload_with_outputs
        }
    };
    PayloadWithOutputs::deserialize(stored).map_err(text)
}

fn check_block(evidence: &Evidence, path: &std::path::Path, files: &BTreeMap<PathBuf, Evidence>) -> Check {
    let command = &evidence.command;
    same("request key", command.hash, evidence.request_key)?;
    command.verify().map_err(text)?;
    same("transaction", command.to_transaction(), evidence.transaction_bytes.clone())?;

    let header = evidence.tx_header.decode()?;
    same("place", (header.chain, header.height), (evidence.source_chain, evidence.block_height))?;
    let payload = payload_of(evidence, path, files)?;
    payload.verify().map_err(text)?;
    same("payload hash", header.payload_hash, payload.payload_hash)?;
    if let Some(without_outputs) = &evidence.payload {
        without_outputs.verify().map_err(text)?;
        same("payload without outputs", without_outputs, &payload.without_outputs())?;
    }
    let (transaction, output) = payload.transactions.get(evidence.tx_index).ok_or("no such transaction")?;
    same("transaction leaf", transaction.as_slice(), evidence.transaction_bytes.as_bytes())?;
    same("output leaf", output.as_slice(), evidence.output_bytes.as_bytes())?;

    let polled = pact::output_of_poll(&evidence.poll_response, &evidence.request_key);
    same("output from the poll", polled.as_deref(), Some(evidence.output_bytes.as_str()))?;
    let result = CommandResult::parse(output).map_err(text)?;
    same("request key of the output", result.request_key, evidence.request_key.to_string())?;
    same("metaData of the output", result.meta_data, None)
}

fn check_proof(evidence: &Evidence, recorded: &RecordedProof, known: &Known) -> Check {
    let proof = Proof::parse(recorded.proof_text.as_bytes()).map_err(text)?;
    same("proof as text", proof.to_json(), recorded.proof_text.clone())?;
    if let Some(response) = &recorded.spv_response {
        same("proof from the response", Proof::from_base64url(response).map_err(text)?, proof.clone())?;
    }
    same("steps", proof.object.steps.len(), recorded.steps)?;
    same("position", proof.object.position, recorded.position)?;
    same("chain", proof.chain, recorded.target_chain)?;
    let output = proof.subject_with_tag(Tag::OUTPUT).map_err(text)?;
    same("subject", output, evidence.output_bytes.as_bytes())?;

    let target = recorded.target_header.decode()?;
    same("root", proof.root(), recorded.root)?;
    same("target header", target.hash, recorded.root)?;
    same("chain of the target", target.chain, recorded.target_chain)?;
    same("height of the target", target.height, evidence.block_height + recorded.distance)?;
    for step in 0..proof.object.steps.len() {
        let mut changed = proof.clone();
        changed.object.steps[step].sibling.0[step % 32] ^= 1;
        holds("a changed proof has the same root", changed.root() != recorded.root)?;
    }
    check_rebuilt(evidence, recorded, &target, &proof, known)
}

/// Rebuilds the proof from the blocks. Where a block between is missing, the ends of the path are compared.
fn check_rebuilt(
    evidence: &Evidence,
    recorded: &RecordedProof,
    target: &Header,
    proof: &Proof,
    known: &Known,
) -> Check {
    let version = Version::by_code(target.version).ok_or("unknown network")?;
    let chains = &recorded.chains_from_target_to_source;
    let source = evidence.source_chain;
    same("source chain", chains.last().copied(), Some(source))?;
    let reached = spv::target_height(version, source, evidence.block_height, target.chain);
    same("height of the target by the rule", reached, Some(target.height))?;
    let index = evidence.tx_index;
    match spv::create_along(known, target, chains, evidence.block_height, index, Part::Output) {
        Ok(rebuilt) => same("rebuilt proof", rebuilt.to_json(), recorded.proof_text.clone())?,
        Err(CreateError::NoHeader(_)) => check_ends(evidence, chains, target, proof, known)?,
        Err(error) => return Err(text(error)),
    }
    match spv::create(known, version, target, source, evidence.block_height, index, Part::Output) {
        Ok(rebuilt) => same("root of the proof by our own path", rebuilt.root(), target.hash),
        Err(CreateError::NoHeader(_)) => Ok(()),
        Err(error) => Err(text(error)),
    }
}

fn check_ends(
    evidence: &Evidence,
    chains: &[ChainId],
    target: &Header,
    proof: &Proof,
    known: &Known,
) -> Check {
    let source = evidence.tx_header.decode()?;
    let height = source.height;
    let within = spv::create_along(known, &source, &[source.chain], height, evidence.tx_index, Part::Output);
    let start = within.map_err(text)?.object.steps;
    holds("the path does not begin as rebuilt", proof.object.steps.starts_with(&start))?;
    let place = target.adjacents.iter().position(|(chain, _)| Some(chain) == chains.get(1));
    let end = place.and_then(|place| target.path(chainweb::header::FIRST_ADJACENT_LEAF + place));
    holds("the path does not end as rebuilt", end.is_some_and(|end| proof.object.steps.ends_with(&end)))
}
