//! Files `{"format": 1, "kind": …, "vectors": [{"id": …, "expect": …}, …]}`.

use std::collections::HashMap;
use std::path::PathBuf;

use chainweb::cut::Cut;
use chainweb::events::PayloadProof;
use chainweb::header::HeaderObject;
use chainweb::merkle::{self, Algorithm, Tag};
use chainweb::pact::{Command, CommandResult};
use chainweb::payload::{Payload, PayloadWithOutputs};
use chainweb::spv::{Proof, Subject};
use chainweb::{ChainId, Graph, Hash, Header, U256, Version, encoding, rules};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Tally, holds, same, text};

type Check = Result<(), String>;

#[derive(Deserialize)]
struct File {
    format: u64,
    kind: String,
    vectors: Vec<Value>,
}

/// Checks all vectors in the files at and below `paths`. Files of other formats and kinds are skipped.
pub fn check(paths: &[PathBuf]) -> Tally {
    let mut tally = Tally::default();
    for path in super::json_files(paths, &mut tally) {
        let Some(bytes) = super::read(&path, &mut tally) else { continue };
        let name = path.display().to_string();
        let Ok(file) = serde_json::from_slice::<File>(&bytes) else {
            tally.skipped.push(format!("{name}: not a file of vectors"));
            continue;
        };
        let checker = checker(&file.kind).filter(|_| file.format == 1);
        let Some(checker) = checker else {
            tally.skipped.push(format!("{name}: kind {} in format {}", file.kind, file.format));
            continue;
        };
        for (index, vector) in file.vectors.iter().enumerate() {
            let id = vector["id"].as_str().map_or_else(|| index.to_string(), str::to_owned);
            tally.add(&format!("{name}: {id}"), checker(vector));
        }
    }
    tally
}

/// Checks one vector; `None` for a kind that is unknown.
#[allow(dead_code)] // for the test of these checks
pub fn check_one(kind: &str, vector: &Value) -> Option<Result<(), String>> {
    checker(kind).map(|check| check(vector))
}

fn checker(kind: &str) -> Option<fn(&Value) -> Check> {
    Some(match kind {
        "header" => header,
        "header_step" => header_step,
        "header_braid" => header_braid,
        "header_fork" => header_fork,
        "header_invalid" => header_invalid,
        "genesis_header" => genesis_header,
        "payload_with_outputs" => payload_with_outputs,
        "payload_data" => payload_data,
        "spv_output_proof" => spv_output_proof,
        "event_proof" => event_proof,
        "pact_command" => pact_command,
        #[cfg(feature = "webauthn")]
        "webauthn" => webauthn,
        "cut" => cut,
        _ => return None,
    })
}

/// A member that has to be there.
fn need<T: DeserializeOwned>(value: &Value, name: &str) -> Result<T, String> {
    maybe(value, name)?.ok_or_else(|| format!("no member {name}"))
}

/// A member that may be missing or null.
fn maybe<T: DeserializeOwned>(value: &Value, name: &str) -> Result<Option<T>, String> {
    match value.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(member) => T::deserialize(member).map(Some).map_err(|error| format!("{name}: {error}")),
    }
}

/// Where `expect` has a member, it is `actual`.
fn expect<T: DeserializeOwned + PartialEq + std::fmt::Debug>(vector: &Value, name: &str, actual: T) -> Check {
    match maybe(&vector["expect"], name)? {
        Some(expected) => same(name, actual, expected),
        None => Ok(()),
    }
}

/// All members that we print stand in the object, with the same values.
fn has_members(what: &str, object: &Value, printed: &Value) -> Check {
    let printed = printed.as_object().ok_or_else(|| format!("{what} is not printed as an object"))?;
    printed
        .iter()
        .try_for_each(|(name, value)| same(&format!("{what}.{name}"), Some(value), object.get(name)))
}

fn decode_header(base64url: &str) -> Result<Header, String> {
    let header = Header::from_base64url(base64url).map_err(text)?;
    same("encoded header", encoding::encode(&header.encode()).as_str(), base64url)?;
    Ok(header)
}

fn need_header(value: &Value, name: &str) -> Result<Header, String> {
    decode_header(&need::<String>(value, name)?)
}

fn need_headers(value: &Value, name: &str) -> Result<Vec<Header>, String> {
    need::<Vec<String>>(value, name)?.iter().map(|bytes| decode_header(bytes)).collect()
}

fn network(header: &Header) -> Result<&'static Version, String> {
    Version::by_code(header.version).ok_or_else(|| format!("unknown network {:#x}", header.version))
}

/// What a validator says about the proof of work: genesis blocks and networks without it are exempt.
fn is_pow_ok(header: &Header) -> bool {
    let is_exempt = header.is_genesis() || Version::by_code(header.version).is_some_and(|it| !it.has_pow);
    is_exempt || header.meets_target()
}

fn header(vector: &Value) -> Check {
    let header = need_header(vector, "bytes")?;
    expect(vector, "length", header.encode().len())?;
    if maybe::<Hash>(&vector["expect"], "hash")? != Some(header.compute_hash()) {
        expect(vector, "hash", header.hash)?;
    }
    expect(vector, "hash_ok", header.verify_hash())?;
    let mut pow_hash = header.pow_hash().0;
    pow_hash.reverse();
    expect(vector, "powHash", pow_hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())?;
    if header.meets_target() != is_pow_ok(&header) {
        holds("pow_ok is not a truth value", vector["expect"]["pow_ok"].as_bool().is_some())?;
    } else {
        expect(vector, "pow_ok", header.meets_target())?;
    }
    if let Some(object) = maybe::<HeaderObject>(&vector["expect"], "object")? {
        let printed =
            serde_json::to_value(HeaderObject::new(&header, &object.chainweb_version)).map_err(text)?;
        has_members("object", &vector["expect"]["object"], &printed)?;
        same("header from the object", object.to_header(header.version).map_err(text)?, header.clone())?;
        if let Some(version) = Version::by_code(header.version) {
            same("network", version.name.as_ref(), object.chainweb_version.as_str())?;
        }
    }
    Ok(())
}

/// All that the rules say about a header whose parents are among `headers`; `None` where one is missing.
fn step_failures(header: &Header, headers: &HashMap<Hash, Header>) -> Result<Option<Vec<String>>, String> {
    let Some(parent) = headers.get(&header.parent) else { return Ok(None) };
    let adjacents: Option<Vec<_>> = header.adjacents.iter().map(|(_, hash)| headers.get(hash)).collect();
    let Some(adjacents) = adjacents else { return Ok(None) };
    let failures = rules::check(header, network(header)?, parent, &adjacents);
    Ok(Some(failures.iter().map(|failure| format!("{failure:?}")).collect()))
}

fn by_hash(headers: impl IntoIterator<Item = Header>) -> HashMap<Hash, Header> {
    headers.into_iter().map(|header| (header.hash, header)).collect()
}

fn header_step(vector: &Value) -> Check {
    let header = need_header(vector, "header")?;
    let mut known = by_hash(need_headers(vector, "adjacents")?);
    let parent = need_header(vector, "parent")?;
    known.insert(parent.hash, parent);
    let failures = step_failures(&header, &known)?.ok_or("the parents are not those of the header")?;
    let expected: Vec<String> = need(&vector["expect"], "failures")?;
    if expected.is_empty() {
        return same("failures", failures, expected);
    }
    let is_found = expected.iter().any(|failure| failures.contains(failure));
    holds(&format!("failures are {failures:?}, expected {expected:?}"), is_found)
}

fn header_braid(vector: &Value) -> Check {
    let headers = need_headers(vector, "headers")?;
    expect(vector, "n", headers.len())?;
    let known = by_hash(headers);
    let mut linked = 0;
    for header in known.values() {
        let alone = rules::check_alone(header, network(header)?);
        holds(&format!("{} alone: {alone:?}", header.hash), alone.is_empty())?;
        if let Some(failures) = step_failures(header, &known)? {
            linked += 1;
            holds(&format!("{}: {failures:?}", header.hash), failures.is_empty())?;
        }
    }
    holds("no header has its parents in the set", linked > 0)
}

fn header_fork(vector: &Value) -> Check {
    let headers = need_headers(vector, "headers")?;
    for header in &headers {
        let failures = rules::check_alone(header, network(header)?);
        holds(&format!("{}: {failures:?}", header.hash), failures.is_empty())?;
    }
    let (first, others) = headers.split_first().ok_or("no headers")?;
    for other in others {
        same("place", (other.chain, other.height), (first.chain, first.height))?;
    }
    expect(vector, "same_parent", others.iter().all(|other| other.parent == first.parent))?;
    let mut hashes: Vec<Hash> = headers.iter().map(|header| header.hash).collect();
    hashes.sort();
    if let Some(canonical) = maybe::<Hash>(&vector["expect"], "canonical")? {
        holds("the canonical header is neither", hashes.contains(&canonical))?;
    }
    let mut expected: Vec<Hash> = maybe(&vector["expect"], "hashes")?.unwrap_or_else(|| hashes.clone());
    expected.sort();
    same("hashes", hashes, expected)
}

fn header_invalid(vector: &Value) -> Check {
    let header = need_header(vector, "bytes")?;
    if vector["parent"].is_string() {
        need_header(vector, "parent")?;
    }
    expect(vector, "hash_ok", header.verify_hash())?;
    expect(vector, "pow_ok", is_pow_ok(&header))
}

fn genesis_header(vector: &Value) -> Check {
    let name: String = need(vector, "version")?;
    let version = Version::by_name(&name).ok_or_else(|| format!("unknown network {name}"))?;
    let chain: ChainId = need(vector, "chainId")?;
    let payload_hash = need(vector, "payloadHash")?;
    let header = Header::genesis(version, chain, payload_hash).ok_or("no such chain")?;
    same("height", Some(header.height), maybe(vector, "height")?.or(Some(header.height)))?;
    let time = maybe(vector, "creationTime")?;
    same("creation time", Some(header.creation_time), time.or(Some(header.creation_time)))?;
    same("target", Some(header.target), maybe::<U256>(vector, "target")?.or(Some(header.target)))?;
    let failures = rules::check_alone(&header, version);
    holds(&format!("{failures:?}"), failures.is_empty())?;
    expect(vector, "hash", header.hash)?;
    expect(vector, "bytes", encoding::encode(&header.encode()))
}

/// The header of a payload, where there is one, commits to it.
fn check_header_of(vector: &Value, payload_hash: Hash) -> Check {
    if vector["header"].is_string() {
        let header = need_header(vector, "header")?;
        holds("the hash of the header is wrong", header.verify_hash())?;
        same("payload hash of the header", header.payload_hash, payload_hash)?;
    }
    Ok(())
}

fn payload_with_outputs(vector: &Value) -> Check {
    let payload: PayloadWithOutputs = need(vector, "payloadWithOutputs")?;
    payload.verify().map_err(text)?;
    let parts = (payload.transactions.clone(), payload.miner_data.clone(), payload.coinbase.clone());
    same("computed payload", &PayloadWithOutputs::new(parts.0, parts.1, parts.2), &payload)?;
    same(
        "payload through JSON",
        &serde_json::to_value(&payload).map_err(text)?,
        &vector["payloadWithOutputs"],
    )?;
    same("payload through bytes", PayloadWithOutputs::decode(&payload.encode()).as_ref(), Ok(&payload))?;
    payload.without_outputs().verify().map_err(text)?;
    check_header_of(vector, payload.payload_hash)?;
    expect(vector, "transactionsHash", payload.transactions_hash)?;
    expect(vector, "outputsHash", payload.outputs_hash)?;
    expect(vector, "payloadHash", payload.payload_hash)
}

fn payload_data(vector: &Value) -> Check {
    let payload: Payload = need(vector, "payload")?;
    payload.verify().map_err(text)?;
    has_members("payload", &vector["payload"], &serde_json::to_value(&payload).map_err(text)?)?;
    same("payload through bytes", Payload::decode(&payload.encode()).as_ref(), Ok(&payload))?;
    check_header_of(vector, payload.payload_hash)?;
    expect(vector, "transactionsHash", payload.transactions_hash)?;
    expect(vector, "outputsHash", payload.outputs_hash)?;
    expect(vector, "payloadHash", payload.payload_hash)
}

fn spv_output_proof(vector: &Value) -> Check {
    let proof = Proof::parse(vector["proof"].to_string().as_bytes()).map_err(text)?;
    same("proof through JSON", &Proof::parse(proof.to_json().as_bytes()).map_err(text)?, &proof)?;
    expect(vector, "root", proof.root())?;
    expect(vector, "steps", proof.object.steps.len())?;
    expect(vector, "position", proof.object.position)?;
    let is_transaction = vector["expect"]["subjectTag"] == "0x0013";
    let tag = if is_transaction { Tag::TRANSACTION } else { Tag::OUTPUT };
    expect(vector, "subjectTag", format!("{:#06x}", tag.0))?;
    let subject = proof.subject_with_tag(tag).map_err(text)?;
    if is_transaction {
        expect(vector, "transaction", encoding::encode(subject))?;
        expect(vector, "reqKey", Command::parse(subject).map_err(text)?.hash.to_string())?;
    } else {
        expect(vector, "output", encoding::encode(subject))?;
        expect(vector, "reqKey", CommandResult::parse(subject).map_err(text)?.request_key)?;
    }
    check_target(vector, &proof)?;
    check_blocks_on_path(vector, &proof)?;
    if let Some(text_of_proof) = maybe::<String>(&vector["cont"], "proofB64")? {
        same("proof of the continuation", Proof::from_base64url(&text_of_proof).map_err(text)?, proof)?;
        expect(vector, "reqKey", need::<String>(&vector["cont"], "pactId")?)?;
    }
    Ok(())
}

fn check_target(vector: &Value, proof: &Proof) -> Check {
    if !vector["targetHeader"].is_string() {
        return Ok(());
    }
    let target = need_header(vector, "targetHeader")?;
    holds("the hash of the target header is wrong", target.verify_hash())?;
    same("root", proof.root(), target.hash)?;
    same("chain", proof.chain, target.chain)?;
    expect(vector, "targetChain", target.chain)?;
    expect(vector, "targetHeight", target.height)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockOnPath {
    after_step: usize,
    hash: Hash,
}

fn check_blocks_on_path(vector: &Value, proof: &Proof) -> Check {
    let Subject::Input(subject) = &proof.subject else { return Err("not an input".to_owned()) };
    let leaf = Algorithm::Sha512t256.raw_input(subject);
    for block in maybe::<Vec<BlockOnPath>>(&vector["expect"], "blocksOnPath")?.unwrap_or_default() {
        let steps = proof.object.steps.get(..block.after_step).ok_or("a block beyond the path")?;
        let hash = merkle::run(Algorithm::Sha512t256, leaf, steps);
        same(&format!("hash after step {}", block.after_step), hash, block.hash)?;
    }
    Ok(())
}

fn event_proof(vector: &Value) -> Check {
    let proof = PayloadProof::parse(vector["proof"].to_string().as_bytes()).map_err(text)?;
    expect(vector, "root", proof.root())?;
    expect(vector, "steps", proof.object.steps.len())?;
    let events = proof.events().map_err(text)?;
    same("encoded events", events.encode().as_slice(), &proof.subject[2..])?;
    expect(vector, "reqKey", encoding::encode(&events.request_key))?;
    expect(vector, "eventCount", events.events.len())?;
    for (index, event) in events.events.iter().enumerate() {
        let expected = &vector["expect"][format!("event{index}")];
        same("name", maybe(expected, "name")?.unwrap_or(event.name.clone()), event.name.clone())?;
        same("module", maybe(expected, "module")?.unwrap_or(event.module.clone()), event.module.clone())?;
        let module_hash = encoding::encode(&event.module_hash);
        same("module hash", maybe(expected, "moduleHash")?.unwrap_or(module_hash.clone()), module_hash)?;
        same("parameters", maybe(expected, "params")?.unwrap_or(event.params.len()), event.params.len())?;
    }
    Ok(())
}

fn pact_command(vector: &Value) -> Check {
    let command: Command = need(vector, "command")?;
    let printed = Command::parse(command.to_transaction().as_bytes()).map_err(text)?;
    same("command through its transaction", &printed, &command)?;
    expect(vector, "requestKey", command.hash)?;
    expect(vector, "hash_ok", command.verify_hash().is_ok())?;
    let signatures = command.verify_signatures();
    expect(vector, "sigs_ok", signatures.is_ok()).map_err(|why| format!("{why} ({signatures:?})"))
}

#[cfg(feature = "webauthn")]
fn webauthn(vector: &Value) -> Check {
    let (key, signature): (String, String) = (need(vector, "pubKey")?, need(vector, "sig")?);
    let outcome = chainweb::pact::verify_webauthn(&key, &signature, &need(vector, "hash")?);
    expect(vector, "valid", outcome.is_ok()).map_err(|why| format!("{why} ({outcome:?})"))
}

fn cut(vector: &Value) -> Check {
    let cut: Cut = need(vector, "cut")?;
    cut.verify_height().map_err(text)?;
    expect(vector, "height", cut.height)?;
    expect(vector, "chains", cut.hashes.len())?;
    expect(vector, "weight", cut.weight)?;
    let Some(headers) = maybe::<Vec<String>>(vector, "headers")? else { return Ok(()) };
    let headers: Vec<_> = headers.iter().map(|header| decode_header(header)).collect::<Result<_, _>>()?;
    let wrong = headers.iter().find(|header| !header.verify_hash());
    holds(&format!("a header with a wrong hash: {wrong:?}"), wrong.is_none())?;
    let known = by_hash(headers);
    let graph = Graph::ALL.into_iter().find(|graph| graph.order() as usize == cut.hashes.len());
    let graph = graph.ok_or_else(|| format!("no graph has {} chains", cut.hashes.len()))?;
    let verdict = cut.verify(graph, |hash| known.get(hash));
    let braided: Option<bool> = maybe(&vector["expect"], "braiding")?;
    same("braiding", verdict.is_ok(), braided.unwrap_or(true)).map_err(|why| format!("{why} ({verdict:?})"))
}
