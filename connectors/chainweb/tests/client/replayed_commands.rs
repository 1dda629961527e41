//! Recorded questions about commands.

use std::collections::BTreeMap;

use chainweb::client::{Found, Meaning, Said, Spv, Tried, Try};
use chainweb::encoding::decode;
use chainweb::pact::{Command, Outcome};
use chainweb::{ChainId, Hash};
use serde_json::{Value, json};

use super::replay::{
    HARMFUL, OTHERWISE, Reason, Replay, UNWRITABLE, accept, assert_status, body, is_post, of_chain, request,
    status, text,
};

/// A command of a recording, if the client would write it as it is recorded: some have other members or types.
fn command(recorded: &Value) -> Result<Command, Reason> {
    let command: Command = serde_json::from_value(recorded.clone()).map_err(|_| UNWRITABLE)?;
    let written: Value = serde_json::from_str(&command.to_transaction()).unwrap();
    if written == *recorded { Ok(command) } else { Err(UNWRITABLE) }
}

/// The chain of a question that is asked as the client asks.
fn chain(recording: &Value) -> Result<ChainId, Reason> {
    let (chain, _) = of_chain(recording).ok_or(UNWRITABLE)?;
    is_post(recording).then_some(()).ok_or(UNWRITABLE)?;
    if accept(recording).is_empty() { Ok(chain) } else { Err(OTHERWISE) }
}

pub async fn send(replay: &mut Replay, recording: &Value) -> Result<(), Reason> {
    let what = text(&recording["what"]);
    let chain = chain(recording)?;
    let sent = request(recording);
    let list = sent["cmds"].as_array().filter(|list| !list.is_empty()).ok_or(UNWRITABLE)?;
    (sent.as_object().unwrap().len() == 1).then_some(()).ok_or(UNWRITABLE)?;
    let commands = list.iter().map(command).collect::<Result<Vec<_>, _>>()?;
    let asked = replay.server.asked().len();
    let said = replay.node(recording).send(chain, &commands).await;
    if replay.server.asked().len() == asked {
        assert!(matches!(&said, Ok(Said::Unreadable(why)) if !why.is_empty()), "{what}: {said:?}");
        return Err(HARMFUL);
    }
    replay.reads(match (status(recording), said) {
        (200, Ok(Said::Accepted(keys))) => {
            let recorded: Value = serde_json::from_str(body(recording)).unwrap();
            assert_eq!(json!(keys), recorded["requestKeys"], "{what}");
            "sent: accepted"
        }
        (400, Ok(Said::Refused(refusals))) => {
            let mut whole = "One or more transactions were invalid: ".to_owned();
            for (place, refusal) in refusals.iter().enumerate() {
                assert_eq!(refusal.key, commands[refusal.index].hash, "{what}");
                whole.push_str(if place == 0 { "" } else { ", " });
                whole.push_str(&format!(
                    "Transaction \"{}\" at index {} failed with: {}",
                    refusal.key, refusal.index, refusal.reason
                ));
            }
            assert_eq!(whole, body(recording), "{what}");
            match refusals[0].meaning() {
                Meaning::OnChain => "sent: on chain",
                Meaning::Never => "sent: never",
                Meaning::NotNow => "sent: not now",
            }
        }
        (400, Ok(Said::Unreadable(why))) => {
            assert!(body(recording).starts_with(&why), "{what}: {why}");
            "sent: unreadable"
        }
        (500, Ok(Said::Unclear(why))) => {
            assert_eq!(why, "status 500: Something went wrong", "{what}");
            "sent: unclear"
        }
        (_, Err(error)) => {
            assert_status(recording, &error);
            "sent: no answer"
        }
        (status, other) => panic!("{what}: {status} is {other:?}"),
    });
    Ok(())
}

pub async fn poll(replay: &mut Replay, recording: &Value) -> Result<(), Reason> {
    let what = text(&recording["what"]);
    let (_, rest) = of_chain(recording).ok_or(UNWRITABLE)?;
    let chain = chain(recording)?;
    let keys: Vec<Hash> =
        serde_json::from_value(request(recording)["requestKeys"].clone()).map_err(|_| UNWRITABLE)?;
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let depth = query.strip_prefix("confirmationDepth=").map_or(Ok(0), str::parse::<u64>);
    let depth = depth.map_err(|_| UNWRITABLE)?;
    (depth > 0 || query.is_empty()).then_some(()).ok_or(OTHERWISE)?;
    (!keys.is_empty()).then_some(()).ok_or(UNWRITABLE)?;
    let found = match replay.node(recording).poll(chain, &keys, depth).await {
        Ok(found) => found,
        Err(error) => {
            assert_status(recording, &error);
            replay.reads("poll: no answer");
            return Ok(());
        }
    };
    let recorded: BTreeMap<Hash, Value> = serde_json::from_str(body(recording)).unwrap();
    assert!(found.keys().eq(recorded.keys()), "{what}");
    keys.iter().filter(|key| !recorded.contains_key(key)).for_each(|_| replay.reads("poll: absent"));
    for (key, result) in recorded {
        assert_found(replay, &found[&key], &result);
    }
    Ok(())
}

/// What was found is what the node says; without a place it is made up.
fn assert_found(replay: &mut Replay, found: &Found, recorded: &Value) {
    let is_success = recorded["result"]["status"] == "success";
    match found {
        Found::Mined(found) => {
            let place = &recorded["metaData"];
            assert_eq!(place["blockHash"], found.block.to_string());
            assert_eq!(place["prevBlockHash"], found.parent.to_string());
            assert_eq!(place["blockHeight"], found.height);
            assert_eq!(place["blockTime"], found.time);
            assert_eq!(matches!(found.result.outcome, Outcome::Success(_)), is_success);
            replay.reads("found: mined");
        }
        Found::MadeUp(found) => {
            assert!(recorded["metaData"].is_null() && !is_success);
            assert_eq!((found.gas, found.tx_id), (0, None));
            replay.reads("found: made up");
        }
    }
}

pub async fn listen(replay: &mut Replay, recording: &Value) -> Result<(), Reason> {
    let chain = chain(recording)?;
    let key: Hash = serde_json::from_value(request(recording)["listen"].clone()).map_err(|_| UNWRITABLE)?;
    match replay.node(recording).listen(chain, &key).await {
        Ok(Some(found)) => assert_found(replay, &found, &serde_json::from_str(body(recording)).unwrap()),
        Ok(None) => {
            assert_eq!((status(recording), body(recording)), (504, ""));
            replay.reads("listen: not yet");
        }
        Err(error) => {
            assert_status(recording, &error);
            replay.reads("listen: no answer");
        }
    }
    Ok(())
}

pub async fn spv(replay: &mut Replay, recording: &Value) -> Result<(), Reason> {
    let what = text(&recording["what"]);
    let chain = chain(recording)?;
    let sent = request(recording);
    let key: Hash = serde_json::from_value(sent["requestKey"].clone()).map_err(|_| UNWRITABLE)?;
    let target = sent["targetChainId"].as_str().and_then(|target| target.parse().ok()).ok_or(UNWRITABLE)?;
    let proven = replay.node(recording).proof(chain, &key, ChainId(target)).await;
    replay.reads(match proven {
        Ok(Spv::Proof(proof)) => {
            let text = body(recording).trim_matches('"');
            assert_eq!(proof.to_json().as_bytes(), decode(text).unwrap(), "{what}: byte for byte");
            "spv: proof"
        }
        Ok(Spv::NotReachable) => {
            assert!(body(recording).ends_with("Chainweb instance is too young"), "{what}");
            "spv: not reachable"
        }
        Ok(Spv::Unknown) => {
            assert_eq!(body(recording), format!("Transaction hash not found: \"{key}\""), "{what}");
            "spv: unknown"
        }
        Err(error) => {
            assert_status(recording, &error);
            "spv: no answer"
        }
    });
    Ok(())
}

/// How a command is tried by a recorded query, if the client would write it so.
fn how(query: &str) -> Result<Try, Reason> {
    let mut how = Try::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').ok_or(UNWRITABLE)? {
            ("preflight", "true") => how.is_preflight = true,
            ("signatureVerification", "false") => how.verifies_signatures = false,
            ("rewindDepth", depth) => how.rewind = Some(depth.parse().map_err(|_| UNWRITABLE)?),
            ("preflight", "false") | ("signatureVerification", "true") => return Err(OTHERWISE),
            _ => return Err(UNWRITABLE),
        }
    }
    Ok(how)
}

pub async fn local(replay: &mut Replay, recording: &Value) -> Result<(), Reason> {
    let what = text(&recording["what"]);
    let (_, rest) = of_chain(recording).ok_or(UNWRITABLE)?;
    let chain = chain(recording)?;
    let how = how(rest.split_once('?').map_or("", |(_, query)| query))?;
    let command = command(&request(recording))?;
    let tried = replay.node(recording).local(chain, &command, &how).await;
    let tried = tried.unwrap_or_else(|error| panic!("{what}: {error}"));
    let ran = match tried {
        Tried::Ran(ran) => ran,
        Tried::Refused(reasons) => {
            assert_eq!(body(recording), format!("Metadata validation failed: {}", json!(reasons)), "{what}");
            replay.reads("local: refused");
            return Ok(());
        }
        Tried::TimedOut => panic!("{what}: no recorded command ran for long"),
    };
    let recorded: Value = serde_json::from_str(body(recording)).unwrap();
    let is_preflight = recorded.get("preflightResult").is_some();
    let result = if is_preflight { &recorded["preflightResult"] } else { &recorded };
    assert_eq!(
        (json!(ran.result.gas), json!(ran.result.request_key)),
        (result["gas"].clone(), result["reqKey"].clone())
    );
    assert!(ran.warnings.is_empty() && ran.result.meta_data.is_none(), "{what}");
    match ran.place {
        Some(place) => {
            assert_eq!(result["metaData"]["blockHeight"], place.block_height, "{what}");
            assert_eq!(result["metaData"]["blockTime"], place.block_time, "{what}");
            assert_eq!(result["metaData"]["prevBlockHash"], place.prev_block_hash.to_string(), "{what}");
        }
        None => assert!(result["metaData"].is_null(), "{what}"),
    }
    replay.reads(match (&ran.result.outcome, is_preflight) {
        (Outcome::Success(data), _) => {
            assert_eq!(*data, result["result"]["data"], "{what}");
            if is_preflight { "preflight: success" } else { "local: success" }
        }
        (Outcome::Failure(error), _) => {
            assert_eq!(*error, result["result"]["error"], "{what}");
            if is_preflight { "preflight: failure" } else { "local: failure" }
        }
    });
    Ok(())
}
