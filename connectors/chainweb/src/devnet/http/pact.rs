//! Sending commands, their results, and proofs.

use axum::http::Method;

use super::hashes;
use super::request::{Encoding, json_body, negotiate};
use super::response::Answer;
use super::{Asked, Devnet};
use crate::devnet::SendError;
use crate::devnet::json::{Json, quoted};
use crate::devnet::local::{self, How};
use crate::devnet::text;
use crate::encoding::encode;
use crate::graph::ChainId;
use crate::hash::Hash;
use crate::pact::Command;

/// Checks method, content type and accepted types of a request, and parses its body.
fn body(asked: &Asked<'_>) -> Result<Json, Answer> {
    asked.only(&Method::POST)?;
    negotiate(asked.headers, &[Encoding::Json])?;
    json_body(asked.headers, asked.body)
}

pub(super) fn send(devnet: &Devnet, chain: ChainId, asked: &Asked<'_>) -> Result<Answer, Answer> {
    let commands = commands(&body(asked)?)?;
    let refused = |error: SendError| Answer::refused(error.status, error.text);
    let keys = devnet.send_all(chain, &commands).map_err(refused)?;
    let keys = text::joined(keys.iter().map(|key| format!("\"{key}\"")));
    Ok(Answer::json(format!("{{\"requestKeys\":[{keys}]}}")))
}

fn commands(body: &Json) -> Result<Vec<Command>, Answer> {
    const WHAT: &str = "Pact.Types.API.SubmitBatch(SubmitBatch)";
    let list = match body {
        Json::Map(_) => body.get("cmds").ok_or_else(|| {
            Answer::unparsed(format!("Error in $: parsing {WHAT} failed, key \"cmds\" not found"))
        })?,
        other => return Err(Answer::unparsed(other.mismatch("$", WHAT, "Object"))),
    };
    let list = non_empty(list, "$.cmds")?;
    let mut is_swallowed = false;
    let mut commands = Vec::with_capacity(list.len());
    for (index, command) in list.iter().enumerate() {
        match command_of(command, &format!("$.cmds[{index}]")).map_err(Answer::unparsed)? {
            Some(command) => commands.push(command),
            None => is_swallowed = true,
        }
    }
    if is_swallowed { Err(swallowed()) } else { Ok(commands) }
}

/// A list with at least one item.
fn non_empty<'a>(list: &'a Json, path: &str) -> Result<&'a [Json], Answer> {
    match list {
        Json::List(items) if items.is_empty() => {
            Err(Answer::unparsed(format!("Error in {path}: parsing NonEmpty failed, unexpected empty list")))
        }
        Json::List(items) => Ok(items),
        other => Err(Answer::unparsed(other.mismatch(path, "NonEmpty", "Array"))),
    }
}

/// The command; `None` where its hash has not 32 bytes, over which a node stumbles without a word.
fn command_of(command: &Json, path: &str) -> Result<Option<Command>, String> {
    if !matches!(command, Json::Map(_)) {
        return Err(command.mismatch(path, "Command", "Object"));
    }
    let cmd_path = format!("{path}.cmd");
    let cmd = command.member(path, "cmd")?.text(&cmd_path)?.to_owned();
    let sigs_path = format!("{path}.sigs");
    let sigs = match command.member(path, "sigs")? {
        Json::List(sigs) => sigs,
        other => return Err(other.mismatch(&sigs_path, "[]", "Array")),
    };
    let sig = |(index, sig): (usize, &Json)| {
        let path = format!("{sigs_path}[{index}]");
        match sig {
            Json::Map(_) => {
                sig.member(&path, "sig")?.text(&format!("{path}.sig")).map(|text| Some(text.to_owned()))
            }
            other => Err(other.mismatch(&path, "UserSig", "Object")),
        }
    };
    let sigs = sigs.iter().enumerate().map(sig).collect::<Result<_, _>>()?;
    let hash_path = format!("{path}.hash");
    let hash = command.member(path, "hash")?.text(&hash_path)?;
    let hash = hashes::decode(hash)
        .map_err(|why| format!("Error in {hash_path}: Base64URL decode failed: {why}"))?;
    Ok(<[u8; 32]>::try_from(hash).ok().map(|hash| Command { hash: Hash(hash), sigs, cmd }))
}

pub(super) fn poll(devnet: &Devnet, chain: ChainId, asked: &Asked<'_>) -> Result<Answer, Answer> {
    asked.only(&Method::POST)?;
    let depth = asked.query.number("confirmationDepth")?.unwrap_or(0);
    let body = body(asked)?;
    let list = non_empty(body.member("$", "requestKeys").map_err(Answer::unparsed)?, "$.requestKeys")?;
    let mut keys = Vec::with_capacity(list.len());
    for (index, key) in list.iter().enumerate() {
        keys.push(request_key(key, &format!("$.requestKeys[{index}]"))?);
    }
    let results = devnet.poll(chain, &keys, depth);
    let results = text::joined(results.into_iter().map(|(key, result)| format!("\"{key}\":{result}")));
    Ok(Answer::json(format!("{{{results}}}")))
}

fn request_key(key: &Json, path: &str) -> Result<Hash, Answer> {
    let key = key
        .text(path)
        .and_then(|key| hashes::request_key(key).map_err(|why| format!("Error in {path}: {why}")));
    key.map_err(Answer::unparsed)
}

pub(super) async fn listen(devnet: &Devnet, chain: ChainId, asked: &Asked<'_>) -> Result<Answer, Answer> {
    let body = body(asked)?;
    let key = request_key(body.member("$", "listen").map_err(Answer::unparsed)?, "$.listen")?;
    devnet.listen_async(chain, &key).await.map(Answer::json).ok_or_else(|| Answer::empty(504))
}

pub(super) fn local(devnet: &Devnet, chain: ChainId, asked: &Asked<'_>) -> Result<Answer, Answer> {
    asked.only(&Method::POST)?;
    let how = How {
        is_preflight: asked.query.flag("preflight")?.unwrap_or(false),
        verifies_signatures: asked.query.flag("signatureVerification")?.unwrap_or(true),
        rewind: asked.query.number("rewindDepth")?.unwrap_or(0),
    };
    let command = command_of(&body(asked)?, "$").map_err(Answer::unparsed)?.ok_or_else(swallowed)?;
    let result = devnet.read(|network| local::run(network, chain, &command, &how));
    result.map(Answer::json).map_err(|why| Answer::refused(400, why))
}

/// What a node answers where it stumbles.
fn swallowed() -> Answer {
    let error = SendError::swallowed();
    Answer::refused(error.status, error.text)
}

pub(super) fn spv(devnet: &Devnet, chain: ChainId, asked: &Asked<'_>) -> Result<Answer, Answer> {
    let body = body(asked)?;
    let text = |key: &str| body.member("$", key).and_then(|value| value.text(&format!("$.{key}")));
    let target = text("targetChainId").map_err(Answer::unparsed)?;
    let key = text("requestKey").map_err(Answer::unparsed)?;
    let target = target.parse().map(ChainId).map_err(|_| swallowed())?;
    if !devnet.graph().contains(target) {
        return Err(swallowed());
    }
    let bytes = hashes::decode(key)
        .map_err(|why| Answer::refused(400, format!("Request Key {key} is no base64url: {why}")))?;
    let hash = <[u8; 32]>::try_from(bytes).map_err(|bytes| {
        Answer::refused(400, format!("Request Key {key} has incorrect hash of length {}", bytes.len()))
    })?;
    let proof =
        devnet.spv(chain, &Hash(hash), target).map_err(|error| Answer::refused(400, error.to_string()))?;
    Ok(Answer::json(quoted(&encode(proof.to_json().as_bytes()))))
}
