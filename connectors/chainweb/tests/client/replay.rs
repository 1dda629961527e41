//! Every recorded answer whose question the client can ask is given to it, and read as the recordings teach.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chainweb::client::{Bounds, Found, Meaning, Next, Node, NodeError, Page, Said, Trouble};
use chainweb::encoding::decode;
use chainweb::pact::{Command, Outcome};
use chainweb::payload::PayloadWithOutputs;
use chainweb::spv::Proof;
use chainweb::{ChainId, Hash, Header};
use serde_json::{Value, json};

use super::server::{Act, Server};
use super::support::{evidence, read};

/// Gives one recorded answer after another, each to its recorded question only.
struct Replay {
    server: Server,
    now: Arc<Mutex<Value>>,
    replayed: usize,
}

impl Replay {
    async fn start() -> Self {
        let now = Arc::<Mutex<Value>>::default();
        let recording = Arc::clone(&now);
        let server = Server::start(move |asked| {
            let recording = recording.lock().unwrap();
            let request = &recording["request"];
            let what = &recording["what"];
            if asked.path == "/info" && request["path"] != "/info" {
                return Act::json(INFO); // it looks whether the network is another one
            }
            assert_eq!(
                (&*asked.method, &*asked.path),
                (text(&request["method"]), text(&request["path"])),
                "{what}"
            );
            let json = |body: &str| serde_json::from_str::<Value>(body).ok();
            assert_eq!(json(&asked.body), json(request["body"].as_str().unwrap_or_default()), "{what}");
            if asked.method == "POST" {
                assert_eq!(asked.headers["content-type"], "application/json", "{what}");
            }
            raw(&recording["response"])
        });
        Self { server: server.await, now, replayed: 0 }
    }

    /// The node, which will give this recording's answer.
    fn node(&mut self, recording: &Value) -> Arc<Node> {
        *self.now.lock().unwrap() = recording.clone();
        self.replayed += 1;
        self.server.node()
    }
}

const INFO: &str = r#"{"nodeVersion":"development","nodeApiVersion":"0.0"}"#;

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A recorded response with its own headers; the chunks are joined.
fn raw(response: &Value) -> Act {
    let body = match response["body"].as_str() {
        Some(body) => body.as_bytes().to_vec(),
        None => STANDARD.decode(text(&response["bodyBase64"])).unwrap(),
    };
    let mut head = format!("{}\r\n", text(&response["statusLine"]));
    for header in response["headers"].as_array().unwrap() {
        let (name, value) = (text(&header[0]), text(&header[1]));
        if !["transfer-encoding", "content-length", "connection"].contains(&name.to_lowercase().as_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()));
    Act::Raw([head.as_bytes(), &body].concat())
}

fn recordings(group: &str) -> Vec<Value> {
    read(&format!("recordings/{group}.json"))["recordings"].as_array().unwrap().clone()
}

/// The chain of a recorded path, and what follows it.
fn of_chain(recording: &Value) -> Option<(ChainId, &str)> {
    let path = text(&recording["request"]["path"]).strip_prefix("/chainweb/0.0/development/chain/")?;
    let (chain, rest) = path.split_once('/')?;
    Some((ChainId(chain.parse().ok()?), rest))
}

fn status(recording: &Value) -> u64 {
    recording["response"]["status"].as_u64().unwrap()
}

fn body(recording: &Value) -> &str {
    recording["response"]["body"].as_str().unwrap_or_default()
}

fn request(recording: &Value) -> Value {
    serde_json::from_str(recording["request"]["body"].as_str().unwrap_or_default()).unwrap_or_default()
}

fn header_of<'a>(recording: &'a Value, name: &str) -> &'a str {
    recording["request"]["headers"][name].as_str().unwrap_or_default()
}

fn is_post(recording: &Value) -> bool {
    recording["request"]["method"] == "POST" && header_of(recording, "Content-Type") == "application/json"
}

/// A status that answers nothing is an error with that status and text.
fn assert_status(recording: &Value, error: &NodeError) {
    let Trouble::Status { status: found, text: said } = &error.trouble else {
        panic!("{recording}: {error}")
    };
    assert_eq!(u64::from(*found), status(recording), "{}", recording["what"]);
    assert!(body(recording).starts_with(said.trim_end_matches('…')), "{}: {said}", recording["what"]);
}

/// The commands of a recorded request, if they are some.
fn commands(recording: &Value) -> Option<Vec<Command>> {
    serde_json::from_value(request(recording)["cmds"].clone()).ok()
}

#[tokio::test]
async fn every_answer_to_sent_commands_means_what_it_was_seen_to_mean() {
    let mut replay = Replay::start().await;
    let mut meanings = BTreeMap::<&str, usize>::new();
    let mut skipped = Vec::new();
    for group in [
        "pact-send",
        "pact-send-errors",
        "pact-send-mempool-errors",
        "pact-send-duplicate",
        "pact-badlist",
        "mempool-expiry",
        "mempool-restart",
        "multisig",
        "pact-values",
    ] {
        for recording in recordings(group) {
            let what = text(&recording["what"]);
            let Some((chain, "pact/api/v1/send")) = of_chain(&recording) else { continue };
            let Some(commands) = commands(&recording).filter(|commands| !commands.is_empty()) else {
                continue;
            };
            let written = commands.iter().map(Command::to_transaction);
            let written: Vec<Value> = written.map(|text| serde_json::from_str(&text).unwrap()).collect();
            // Some have members or types that the client never writes.
            let is_ours = json!({ "cmds": written }) == request(&recording);
            if !is_ours || !is_post(&recording) || !header_of(&recording, "Accept").is_empty() {
                skipped.push(text(&recording["what"]).to_owned());
                continue;
            }
            // The node took the first, and made no more blocks; it stumbled over the second.
            if ["empty code", "null signature"].contains(&what) {
                let said = replay.server.node().send(chain, &commands).await;
                assert!(matches!(&said, Ok(Said::Unreadable(why)) if !why.is_empty()), "{what}: {said:?}");
                *meanings.entry("never asked").or_default() += 1;
                continue;
            }
            let said = replay.node(&recording).send(chain, &commands).await;
            let meaning = match (status(&recording), said) {
                (200, Ok(Said::Accepted(keys))) => {
                    let recorded: Value = serde_json::from_str(body(&recording)).unwrap();
                    assert_eq!(serde_json::to_value(keys).unwrap(), recorded["requestKeys"], "{what}");
                    "accepted"
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
                    assert_eq!(whole, body(&recording), "{what}");
                    match refusals[0].meaning() {
                        Meaning::OnChain => "on chain",
                        Meaning::Never => "never",
                        Meaning::NotNow => "not now",
                    }
                }
                (400, Ok(Said::Unreadable(why))) => {
                    assert!(body(&recording).starts_with(&why), "{what}: {why}");
                    "unreadable"
                }
                (500, Ok(Said::Unclear(why))) => {
                    assert_eq!(why, "status 500: Something went wrong", "{what}");
                    "unclear"
                }
                (_, Err(error)) => {
                    assert_status(&recording, &error);
                    "no answer"
                }
                (status, other) => panic!("{what}: {status} is {other:?}"),
            };
            *meanings.entry(meaning).or_default() += 1;
        }
    }
    let expected = [
        ("accepted", 42),
        ("never", 18),
        ("never asked", 2),
        ("no answer", 2),
        ("not now", 22),
        ("on chain", 3),
        ("unclear", 19),
        ("unreadable", 11),
    ];
    let never_asked_so = [
        "content type text/plain",
        "no content type",
        "content type with charset",
        "Accept: application/octet-stream",
        "unknown extra keys in request and command",
    ];
    assert_eq!(skipped, never_asked_so);
    assert_eq!(meanings, expected.into_iter().collect());
}

#[tokio::test]
async fn every_recorded_poll_is_read_and_made_up_results_are_no_evidence() {
    let mut replay = Replay::start().await;
    let (mut mined, mut made_up, mut absent) = (0, 0, 0);
    for group in [
        "pact-poll",
        "pact-badlist",
        "mempool-expiry",
        "mempool-restart",
        "multisig",
        "pact-values",
        "pact-send",
    ] {
        for recording in recordings(group) {
            let what = text(&recording["what"]);
            let Some((chain, rest)) = of_chain(&recording) else { continue };
            let Some(query) = rest.strip_prefix("pact/api/v1/poll") else { continue };
            let Ok(keys) = serde_json::from_value::<Vec<Hash>>(request(&recording)["requestKeys"].clone())
            else {
                continue;
            };
            let depth = query.strip_prefix("?confirmationDepth=").map_or(Ok(0), str::parse::<u64>);
            let Some(depth) = depth.ok().filter(|depth| *depth > 0 || query.is_empty()) else { continue };
            if keys.is_empty() || !is_post(&recording) {
                continue;
            }
            let found = replay.node(&recording).poll(chain, &keys, depth).await;
            let found = match (status(&recording), found) {
                (200, Ok(found)) => found,
                (200, Err(error)) => panic!("{what}: {error}"),
                (_, outcome) => {
                    assert_status(&recording, &outcome.unwrap_err());
                    continue;
                }
            };
            let recorded: BTreeMap<Hash, Value> = serde_json::from_str(body(&recording)).unwrap();
            assert!(found.keys().eq(recorded.keys()), "{what}");
            absent += keys.len() - recorded.len();
            for (key, result) in recorded {
                let is_success = result["result"]["status"] == "success";
                match &found[&key] {
                    Found::Mined(found) => {
                        let place = &result["metaData"];
                        assert_eq!(place["blockHash"], found.block.to_string());
                        assert_eq!(place["prevBlockHash"], found.parent.to_string());
                        assert_eq!(place["blockHeight"], found.height);
                        assert_eq!(place["blockTime"], found.time);
                        assert_eq!(matches!(found.result.outcome, Outcome::Success(_)), is_success);
                        mined += 1;
                    }
                    Found::MadeUp(found) => {
                        assert!(result["metaData"].is_null() && !is_success, "{what}");
                        assert_eq!((found.gas, found.tx_id), (0, None));
                        made_up += 1;
                    }
                }
            }
        }
    }
    assert_eq!((mined, made_up, absent), (19, 2, 19));
}

#[tokio::test]
async fn every_recorded_proof_is_read_and_every_refusal_told_from_an_error() {
    let mut replay = Replay::start().await;
    let (mut proofs, mut not_there, mut errors) = (0, 0, 0);
    for recording in recordings("pact-spv") {
        let what = text(&recording["what"]);
        let Some((chain, "pact/spv")) = of_chain(&recording) else { continue };
        let body_sent = request(&recording);
        let (Ok(key), Some(Ok(target))) = (
            serde_json::from_value::<Hash>(body_sent["requestKey"].clone()),
            body_sent["targetChainId"].as_str().map(str::parse),
        ) else {
            continue;
        };
        match replay.node(&recording).spv(chain, &key, ChainId(target)).await {
            Ok(Some(proof)) => {
                let text = body(&recording).trim_matches('"');
                assert_eq!(proof.to_json().as_bytes(), decode(text).unwrap(), "{what}: byte for byte");
                proofs += 1;
            }
            Ok(None) => {
                assert_eq!(status(&recording), 400, "{what}");
                not_there += 1;
            }
            Err(error) => {
                assert_status(&recording, &error);
                errors += 1;
            }
        }
    }
    assert_eq!((proofs, not_there, errors), (6, 10, 1));
}

#[tokio::test]
async fn recorded_blocks_are_read_and_held_against_their_hashes() {
    let mut replay = Replay::start().await;
    let mut counts = BTreeMap::<&str, usize>::new();
    for group in ["info", "cut", "header", "header-errors", "header-branch", "payload"] {
        for recording in recordings(group) {
            if let Some(what) = replay_block(&mut replay, &recording).await {
                *counts.entry(what).or_default() += 1;
            }
        }
    }
    let expected = [("branch", 17), ("cut", 2), ("header", 6), ("info", 2), ("payload", 2)];
    assert_eq!(counts, expected.into_iter().collect());
}

/// Asks for the block of one recording; what it is, if the client asks so.
async fn replay_block(replay: &mut Replay, recording: &Value) -> Option<&'static str> {
    let (what, path) = (text(&recording["what"]), text(&recording["request"]["path"]));
    let (is_get, accept) = (recording["request"]["method"] == "GET", header_of(recording, "Accept"));
    let is_found = status(recording) == 200;
    if path == "/info" && is_get {
        let info = replay.node(recording).info().await;
        assert_eq!(
            info.as_ref().map(|info| &*info.network).ok(),
            is_found.then_some("development"),
            "{what}"
        );
        return Some("info");
    }
    if path == "/chainweb/0.0/development/cut" && is_get && accept != "application/octet-stream" {
        let cut = replay.node(recording).cut().await;
        assert_eq!(cut.is_ok(), is_found, "{what}: {cut:?}");
        return Some("cut");
    }
    let (chain, rest) = of_chain(recording)?;
    let (kind, rest) = rest.split_once('/')?;
    let is_unknown = body(recording).contains("key not found");
    match kind {
        "header" if is_get => {
            let hash: Hash = rest.parse().ok()?;
            (accept == "application/octet-stream" || is_unknown).then_some(())?;
            let header = replay.node(recording).header(chain, &hash).await.unwrap();
            assert_eq!(header.map(|header| header.hash), is_found.then_some(hash), "{what}");
            Some("header")
        }
        "header" => {
            let query = rest.strip_prefix("branch")?;
            (is_post(recording) && accept == "application/json").then_some(())?;
            let sent = request(recording);
            let hashes = |side: &str| match &sent[side] {
                Value::Null => Some(Vec::new()),
                list => serde_json::from_value::<Vec<Hash>>(list.clone()).ok(),
            };
            let (lower, upper, bounds) = (hashes("lower")?, hashes("upper")?, bounds(query)?);
            // It names both sides always, which to a node is the same.
            let mut named = recording.clone();
            named["request"]["body"] = json!({ "lower": lower, "upper": upper }).to_string().into();
            match replay.node(&named).branch(chain, &lower, &upper, &bounds).await {
                Ok(Some(page)) => assert_page(recording, &page),
                Ok(None) => assert!(is_unknown, "{what}"),
                Err(error) => assert_status(recording, &error),
            }
            Some("branch")
        }
        "payload" if is_get => {
            let hash: Hash = rest.strip_suffix("/outputs")?.parse().ok()?;
            (accept == "application/octet-stream" || is_unknown).then_some(())?;
            let payload = replay.node(recording).payload_with_outputs(chain, &hash).await.unwrap();
            assert_eq!(payload.map(|payload| payload.payload_hash), is_found.then_some(hash), "{what}");
            Some("payload")
        }
        _ => None,
    }
}

fn assert_page(recording: &Value, page: &Page<Header>) {
    let recorded: Value = serde_json::from_str(body(recording)).unwrap();
    let items: Vec<Value> = recorded["items"].as_array().unwrap().clone();
    let found = page.items.iter().map(|header| chainweb::encoding::encode(&header.encode()));
    assert!(items.iter().map(text).eq(found), "{}", recording["what"]);
    assert_eq!(page.next.is_some(), recorded["next"].is_string(), "{}", recording["what"]);
}

/// The bounds of a recorded query, if the client would write them so.
fn bounds(query: &str) -> Option<Bounds> {
    let mut bounds = Bounds::default();
    let pairs = query.strip_prefix('?').unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    for pair in pairs {
        let (name, value) = pair.split_once('=')?;
        match name {
            "limit" => bounds.limit = Some(value.parse().ok()?),
            "minheight" => bounds.min_height = Some(value.parse().ok()?),
            "maxheight" => bounds.max_height = Some(value.parse().ok()?),
            "next" => {
                let (kind, hash) = value.split_once(':')?;
                bounds.next = Some(Next { hash: hash.parse().ok()?, is_inclusive: kind == "inclusive" });
            }
            _ => return None,
        }
    }
    Some(bounds)
}

/// Recorded answers about one command after another: where it was mined, its proofs, headers and payload.
#[tokio::test]
async fn all_evidence_of_live_commands_comes_through_unchanged() {
    let (mut commands, mut proofs) = (0, 0);
    for (file, evidence) in evidence() {
        let chain: ChainId = serde_json::from_value(evidence["sourceChain"].clone()).unwrap();
        let key: Hash = text(&evidence["requestKey"]).parse().unwrap();
        let header = Header::from_base64url(text(&evidence["txHeader"]["bytes"])).unwrap();
        let answers = evidence.clone();
        let server = Server::start(move |asked| answer(&answers, &asked.path, &asked.body)).await;
        let node = server.node();
        let found = node.poll(chain, &[key], 0).await.unwrap_or_else(|error| panic!("{file}: {error}"));
        let Found::Mined(mined) = &found[&key] else { panic!("{file}: made up") };
        assert_eq!(
            (mined.block, mined.height, mined.parent),
            (header.hash, header.height, header.parent),
            "{file}"
        );
        assert_eq!(mined.time, header.creation_time, "{file}");
        assert_eq!(node.header(chain, &mined.block).await.unwrap(), Some(header.clone()), "{file}");
        let payload = node.payload_with_outputs(chain, &header.payload_hash).await.unwrap();
        if let Some(payload) = payload {
            let index = usize::try_from(evidence["txIndex"].as_u64().unwrap()).unwrap();
            let (transaction, output) = &payload.transactions[index];
            let command = Command::parse(transaction).unwrap();
            assert_eq!((command.hash, command.to_transaction().as_bytes()), (key, &**transaction), "{file}");
            assert!(String::from_utf8_lossy(output).contains(&key.to_string()), "{file}");
        }
        for recorded in evidence["proofs"].as_array().unwrap() {
            let target: ChainId = serde_json::from_value(recorded["targetChain"].clone()).unwrap();
            let proof =
                node.spv(chain, &key, target).await.unwrap().unwrap_or_else(|| panic!("{file}: no proof"));
            let target_header = node.header(target, &proof.root()).await.unwrap().unwrap();
            assert_eq!((target_header.chain, target_header.hash), (target, proof.root()), "{file}");
            assert_eq!(proof.to_json(), text(&recorded["proofText"]), "{file}");
            proofs += 1;
        }
        commands += 1;
    }
    assert_eq!((commands, proofs), (25, 40));
}

/// What the node of the evidence answered.
fn answer(evidence: &Value, path: &str, body: &str) -> Act {
    let headers = evidence["proofs"].as_array().unwrap().iter().map(|proof| &proof["targetHeader"]);
    let last = path.rsplit('/').next().unwrap();
    if path.ends_with("/poll") {
        Act::json(text(&evidence["pollResponse"]))
    } else if path.ends_with("/pact/spv") {
        let sent: Value = serde_json::from_str(body).unwrap();
        let target = text(&sent["targetChainId"]).parse().ok();
        let mut proofs = evidence["proofs"].as_array().unwrap().iter();
        let proof = proofs.find(|proof| proof["targetChain"].as_u64() == target).unwrap();
        Act::json(format!("\"{}\"", text(&proof["spvResponse"])))
    } else if path.ends_with("/outputs") {
        match serde_json::from_value::<PayloadWithOutputs>(evidence["payloadWithOutputs"].clone()) {
            Ok(payload) => Act::Answer(200, "application/octet-stream", payload.encode()),
            Err(_) => Act::unknown_hash(), // it stands in another file
        }
    } else {
        let mut headers = headers.chain([&evidence["txHeader"]]).map(|header| text(&header["bytes"]));
        let header =
            headers.find(|header| Header::from_base64url(header).unwrap().hash.to_string() == last).unwrap();
        Act::Answer(200, "application/octet-stream", decode(header).unwrap())
    }
}

/// The proof that is read is the one that its text says, for every change of one character.
#[tokio::test]
async fn a_proof_with_any_character_changed_is_no_proof_or_another_root() {
    let (_, evidence) = evidence().into_iter().find(|(file, _)| file.starts_with("anchor-readmsg")).unwrap();
    let chain: ChainId = serde_json::from_value(evidence["sourceChain"].clone()).unwrap();
    let key: Hash = text(&evidence["requestKey"]).parse().unwrap();
    let whole = format!("\"{}\"", text(&evidence["proofs"][0]["spvResponse"]));
    let good = Proof::from_base64url(whole.trim_matches('"')).unwrap();
    let now = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&now);
    let server = Server::start(move |_| Act::json(told.lock().unwrap().clone())).await;
    let node = server.node();
    let target = good.chain;
    for at in (1..whole.len() - 1).step_by(29) {
        let mut changed = whole.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        *now.lock().unwrap() = String::from_utf8(changed).unwrap();
        if let Ok(proof) = node.spv(chain, &key, target).await {
            assert_ne!(proof, Some(good.clone()), "at {at}");
        }
    }
}
