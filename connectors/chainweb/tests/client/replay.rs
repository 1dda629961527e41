//! Every recorded answer is given to the client, and read as the recordings teach; or it is said why it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chainweb::ChainId;
use chainweb::client::{Node, NodeError, Trouble};
use serde_json::{Value, json};

use super::server::{Act, Server};
use super::support::read;
use super::{replayed_blocks, replayed_commands};

/// Why a recorded question is not put by the client.
pub type Reason = &'static str;

/// No call of the client asks at such a path.
pub const NO_CALL: Reason = "the client has no call for such a path";
/// The client asks for the same in another way: another encoding, no default parameters, no hints.
pub const OTHERWISE: Reason = "the client asks for it in another way";
/// It has a method, type, member or value that the client never writes.
pub const UNWRITABLE: Reason = "the client cannot write such a question";
/// It does harm, so that the client does not send it: what it says in place of an answer is checked.
pub const HARMFUL: Reason = "the client refuses to send it";
/// What was asked or answered is not in the recording.
pub const INCOMPLETE: Reason = "the recording is shortened";

/// Gives one recorded answer after another, each to its recorded question only.
pub struct Replay {
    pub server: Server,
    now: Arc<Mutex<Value>>,
    /// What answers were read as.
    pub read_as: BTreeMap<&'static str, usize>,
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
            assert_eq!(asked.method, text(&request["method"]), "{what}");
            assert_eq!(parts(&asked.path), parts(text(&request["path"])), "{what}");
            let json = |body: &str| serde_json::from_str::<Value>(body).ok();
            assert_eq!(json(&asked.body), json(request["body"].as_str().unwrap_or_default()), "{what}");
            if asked.method == "POST" {
                assert_eq!(asked.headers["content-type"], "application/json", "{what}");
            }
            raw(&recording["response"])
        });
        Self { server: server.await, now, read_as: BTreeMap::new() }
    }

    /// The node, which will give this recording's answer.
    pub fn node(&mut self, recording: &Value) -> Arc<Node> {
        *self.now.lock().unwrap() = recording.clone();
        self.server.node()
    }

    /// Takes note of what an answer was read as.
    pub fn reads(&mut self, what: &'static str) {
        *self.read_as.entry(what).or_default() += 1;
    }
}

const INFO: &str = r#"{"nodeVersion":"development","nodeApiVersion":"0.0"}"#;

/// Path and parameters, which have no order.
fn parts(path: &str) -> (&str, BTreeSet<&str>) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    (path, query.split('&').collect())
}

pub fn text(value: &Value) -> &str {
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

/// The recordings of a group. The log of when proofs became available is one too, of refusals and proofs.
pub fn recordings(group: &str) -> Vec<Value> {
    let file = read(&format!("recordings/{group}.json"));
    let Some(log) = file["availability"]["log"].as_array() else {
        return file["recordings"].as_array().cloned().unwrap_or_default();
    };
    let key = &file["availability"]["requestKey"];
    let events = log.iter().filter(|event| event["event"] != "in block").map(|event| {
        json!({
            "what": format!("{} at distance {}", event["event"], event["distance"]),
            "request": {
                "method": "POST",
                "path": "/chainweb/0.0/development/chain/0/pact/spv",
                "headers": { "Content-Type": "application/json" },
                "body": json!({ "requestKey": key, "targetChainId": event["target"].to_string() }).to_string(),
            },
            "response": {
                "status": event["status"],
                "statusLine": "HTTP/1.1 400 Bad Request",
                "headers": [["Content-Type", "text/plain;charset=utf-8"]],
                "body": event["body"],
            },
        })
    });
    events.collect()
}

/// The chain of a recorded path, and what follows it.
pub fn of_chain(recording: &Value) -> Option<(ChainId, &str)> {
    let path = text(&recording["request"]["path"]).strip_prefix("/chainweb/0.0/development/chain/")?;
    let (chain, rest) = path.split_once('/')?;
    Some((ChainId(chain.parse().ok()?), rest))
}

pub fn status(recording: &Value) -> u64 {
    recording["response"]["status"].as_u64().unwrap()
}

pub fn body(recording: &Value) -> &str {
    recording["response"]["body"].as_str().unwrap_or_default()
}

pub fn request(recording: &Value) -> Value {
    serde_json::from_str(recording["request"]["body"].as_str().unwrap_or_default()).unwrap_or_default()
}

pub fn accept(recording: &Value) -> &str {
    recording["request"]["headers"]["Accept"].as_str().unwrap_or_default()
}

pub fn is_get(recording: &Value) -> bool {
    recording["request"]["method"] == "GET"
}

/// Whether it is a question with a body, as the client writes them.
pub fn is_post(recording: &Value) -> bool {
    let request = &recording["request"];
    request["method"] == "POST" && request["headers"]["Content-Type"] == "application/json"
}

/// A status that answers nothing is an error with that status and text.
pub fn assert_status(recording: &Value, error: &NodeError) {
    let Trouble::Status { status: found, text: said } = &error.trouble else {
        panic!("{recording}: {error}")
    };
    assert_eq!(u64::from(*found), status(recording), "{}", recording["what"]);
    assert!(body(recording).starts_with(said.trim_end_matches('…')), "{}: {said}", recording["what"]);
}

fn is_complete(recording: &Value) -> bool {
    let is_whole = |text: &Value| !text.as_str().is_some_and(|text| text.contains("... (shortened"));
    let (request, response) = (&recording["request"]["body"], &recording["response"]);
    let has_body = response["body"].is_string() || response["bodyBase64"].is_string();
    let has_answer = response["status"].is_number() && has_body;
    is_whole(request) && is_whole(&response["body"]) && has_answer
}

/// Puts the question of a recording and checks what its answer is read as.
async fn replay_one(replay: &mut Replay, recording: &Value) -> Result<(), Reason> {
    if !is_complete(recording) {
        return Err(INCOMPLETE);
    }
    let path = text(&recording["request"]["path"]).split('?').next().unwrap();
    let rest = path.strip_prefix("/chainweb/0.0/development/").unwrap_or(path);
    match rest.split('/').collect::<Vec<_>>()[..] {
        ["chain", _, "pact", "api", "v1", "send"] => replayed_commands::send(replay, recording).await,
        ["chain", _, "pact", "api", "v1", "poll"] => replayed_commands::poll(replay, recording).await,
        ["chain", _, "pact", "api", "v1", "listen"] => replayed_commands::listen(replay, recording).await,
        ["chain", _, "pact", "api", "v1", "local"] => replayed_commands::local(replay, recording).await,
        ["chain", _, "pact", "spv"] => replayed_commands::spv(replay, recording).await,
        _ => replayed_blocks::ask(replay, recording, rest).await,
    }
}

/// A group of recordings, how many of them are replayed, and how many are not for a reason.
type Group = (&'static str, usize, &'static [(Reason, usize)]);

/// How many recordings of each group are replayed, and why others are not. The table of gas has no questions.
const GROUPS: [Group; 34] = [
    ("block", 0, &[(NO_CALL, 5)]),
    ("config", 0, &[(NO_CALL, 2)]),
    ("crosschain", 44, &[]),
    ("cut", 2, &[(NO_CALL, 4), (UNWRITABLE, 8)]),
    ("gas", 1, &[(INCOMPLETE, 1)]),
    ("gas-table", 0, &[]),
    ("hash", 5, &[]),
    ("header", 5, &[(OTHERWISE, 7)]),
    ("header-branch", 16, &[(OTHERWISE, 5), (UNWRITABLE, 6)]),
    ("header-errors", 5, &[(NO_CALL, 3), (UNWRITABLE, 9)]),
    ("header-pages", 13, &[(OTHERWISE, 6), (UNWRITABLE, 4)]),
    ("header-updates", 2, &[(NO_CALL, 2)]),
    ("health-check", 0, &[(NO_CALL, 2)]),
    ("info", 2, &[(UNWRITABLE, 1)]),
    ("limits", 3, &[(INCOMPLETE, 9)]),
    ("mempool", 0, &[(NO_CALL, 2)]),
    ("mempool-expiry", 3, &[]),
    ("mempool-restart", 4, &[]),
    ("mining", 0, &[(NO_CALL, 5)]),
    ("multisig", 7, &[]),
    ("pact-badlist", 5, &[]),
    ("pact-listen", 2, &[(UNWRITABLE, 2)]),
    ("pact-listen-timeout", 1, &[]),
    ("pact-local", 55, &[(OTHERWISE, 4), (UNWRITABLE, 4)]),
    ("pact-poll", 17, &[(OTHERWISE, 1), (UNWRITABLE, 8)]),
    ("pact-send", 10, &[]),
    ("pact-send-duplicate", 6, &[]),
    ("pact-send-errors", 65, &[(HARMFUL, 4), (OTHERWISE, 1), (UNWRITABLE, 15)]),
    ("pact-send-mempool-errors", 21, &[(UNWRITABLE, 2)]),
    ("pact-spv", 17, &[(UNWRITABLE, 5)]),
    ("pact-spv2", 0, &[(NO_CALL, 17)]),
    ("pact-values", 3, &[]),
    ("payload", 12, &[(INCOMPLETE, 1), (OTHERWISE, 16), (UNWRITABLE, 4)]),
    ("spv-availability", 7, &[(INCOMPLETE, 4)]),
];

#[tokio::test]
async fn every_recorded_answer_is_read_as_it_was_meant_or_it_is_said_why_it_is_not_replayed() {
    let mut replay = Replay::start().await;
    let mut found = Vec::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/recordings");
    let files =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let groups: BTreeSet<String> =
        files.filter_map(|file| Some(file.strip_suffix(".json")?.to_owned())).collect();
    for group in groups {
        let (mut replayed, mut reasons) = (0, BTreeMap::<Reason, usize>::new());
        for recording in recordings(&group) {
            match replay_one(&mut replay, &recording).await {
                Ok(()) => replayed += 1,
                Err(reason) => *reasons.entry(reason).or_default() += 1,
            }
        }
        found.push((group, replayed, reasons));
    }
    let expected = GROUPS.map(|(group, replayed, reasons)| {
        (group.to_owned(), replayed, reasons.iter().copied().collect::<BTreeMap<_, _>>())
    });
    assert_eq!(found, expected);
    assert_eq!(replay.read_as, READ_AS.into_iter().collect());
}

/// What the answers were read as.
const READ_AS: [(&str, usize); 31] = [
    ("branch of hashes", 1),
    ("branch of headers", 16),
    ("cut", 2),
    ("found: made up", 3),
    ("found: mined", 52),
    ("header", 10),
    ("info", 2),
    ("listen: not yet", 1),
    ("local: failure", 8),
    ("local: refused", 11),
    ("local: success", 23),
    ("no stream", 1),
    ("page of hashes", 4),
    ("page of headers", 13),
    ("payload", 5),
    ("payloads", 7),
    ("poll: absent", 18),
    ("preflight: failure", 21),
    ("preflight: success", 7),
    ("sent: accepted", 65),
    ("sent: never", 18),
    ("sent: no answer", 2),
    ("sent: not now", 22),
    ("sent: on chain", 3),
    ("sent: unclear", 19),
    ("sent: unreadable", 9),
    ("spv: no answer", 1),
    ("spv: not reachable", 14),
    ("spv: proof", 8),
    ("spv: unknown", 4),
    ("update", 20),
];
