//! Every recorded request is put to the development network, which answers as the live node did; or it is said why not.
//!
//! Compared are status, content type, which headers there are, members and their order, types, and the forms of texts.
//! Hashes, keys and heights are those of the development network; what does not depend on them is compared word for word.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::http::{Response, Server};
use super::support::read;
use super::{recorded_blocks, recorded_commands};

/// Why a recorded request is not put to the development network, or has another answer there.
pub type Reason = &'static str;

pub const P2P: Reason = "only the service port is served";
pub const SHORTENED: Reason = "what was asked or answered is shortened in the recording";
pub const PACT: Reason = "contracts are not executed, only constants, read-msg, + of integers and balances";
pub const ONE_KEY: Reason = "accounts are guarded by one key";
pub const NO_MINING: Reason = "nobody else can make blocks";
pub const NO_SPV2: Reason = "there are no proofs of events";
pub const NO_BLOCKS: Reason = "pages of whole blocks are not served: headers and payloads are";
pub const HAS_STREAM: Reason = "the stream of headers is always served, that of blocks never";
pub const HARMFUL: Reason = "it is refused, where a node takes it and stops making blocks";
pub const LONG: Reason = "it takes three minutes";
pub const LEVEL: Reason = "all chains have the same height";
pub const DERIVED: Reason = "its hash is made from another one by hand";

/// What became of each recording.
#[derive(Default)]
pub struct Ledger {
    compared: BTreeMap<String, usize>,
    left_out: BTreeMap<String, BTreeMap<Reason, usize>>,
}

impl Ledger {
    /// The recordings of a group that can be put; the others are noted.
    pub fn askable(&mut self, group: &str) -> Vec<Value> {
        let is_whole = |text: &Value| !text.as_str().is_some_and(|text| text.contains("... (shortened"));
        let mut askable = Vec::new();
        for recording in recordings(group) {
            let (request, response) = (&recording["request"], &recording["response"]);
            if request["port"] == "p2p" {
                self.left_out(group, P2P);
            } else if response["status"].is_null()
                || !is_whole(&request["body"])
                || !is_whole(&response["body"])
            {
                self.left_out(group, SHORTENED);
            } else {
                askable.push(recording);
            }
        }
        askable
    }

    pub fn compared(&mut self, group: &str) {
        *self.compared.entry(group.to_owned()).or_default() += 1;
    }

    pub fn left_out(&mut self, group: &str, reason: Reason) {
        *self.left_out.entry(group.to_owned()).or_default().entry(reason).or_default() += 1;
    }

    /// Puts a request as it is recorded, and compares the answer's text.
    pub fn same(&mut self, server: &Server, group: &str, recording: &Value) {
        assert_same_text(recording, &server.repeat(recording, str::to_owned));
        self.compared(group);
    }

    /// Puts a request as it is recorded, and compares the shape of the answer; of a refusal, its text.
    pub fn alike(&mut self, server: &Server, group: &str, recording: &Value) {
        let response = server.repeat(recording, str::to_owned);
        if response.status != 200 {
            assert_same_text(recording, &response);
        } else {
            assert_alike(recording, &response);
            assert_eq!(shape(response.text()), shape(text(recording)), "{}", recording["what"]);
        }
        self.compared(group);
    }

    /// As [`Ledger::same`] for a whole group, each request at its time; blocks are made where time passed.
    pub fn same_in_time(&mut self, server: &Server, group: &str, why_not: impl Fn(&Value) -> Option<Reason>) {
        let mut last = None;
        for recording in self.askable(group) {
            let time = header(&recording, "X-Server-Timestamp").map(|time| time.parse::<i64>().unwrap());
            if let Some(time) = time {
                server.clock.store(time * 1_000_000, Ordering::SeqCst);
                if last.is_some_and(|last| time > last + 3) {
                    server.rounds(3);
                }
                last = Some(time);
            }
            match why_not(&recording) {
                Some(reason) => self.left_out(group, reason),
                None if path(&recording).ends_with("/poll") => self.alike(server, group, &recording),
                None if path(&recording).ends_with("/listen") => self.alike(server, group, &recording),
                None => self.same(server, group, &recording),
            }
        }
    }
}

/// All recordings of a group; those of the log of proofs have no requests of their own.
pub fn recordings(group: &str) -> Vec<Value> {
    read(&format!("recordings/{group}.json"))["recordings"].as_array().cloned().unwrap_or_default()
}

pub fn what(recording: &Value) -> &str {
    recording["what"].as_str().unwrap()
}

pub fn path(recording: &Value) -> &str {
    recording["request"]["path"].as_str().unwrap().split('?').next().unwrap()
}

/// The text of a recorded answer.
pub fn text(recording: &Value) -> &str {
    recording["response"]["body"].as_str().unwrap()
}

pub fn header(recording: &Value, name: &str) -> Option<String> {
    let headers = recording["response"]["headers"].as_array().unwrap();
    let header = headers.iter().find(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(name))?;
    Some(header[1].as_str().unwrap().to_owned())
}

/// What must be as recorded whatever the blocks are: status, content type, and which headers there are.
pub fn assert_alike(recording: &Value, response: &Response) {
    let what = what(recording);
    let said = String::from_utf8_lossy(&response.body);
    assert_eq!(recording["response"]["status"], response.status, "{what}: {said}");
    let content_type = response.headers.get("content-type").cloned();
    assert_eq!(header(recording, "content-type"), content_type, "{what}");
    for name in ["X-Server-Timestamp", "X-Chainweb-Node-Version"] {
        let found = response.headers.contains_key(&name.to_lowercase());
        assert_eq!(header(recording, name).is_some(), found, "{what}: {name}");
    }
}

pub fn assert_same_text(recording: &Value, response: &Response) {
    assert_alike(recording, response);
    assert_eq!(recording["response"]["body"], response.text(), "{}", what(recording));
}

/// The shape of a JSON text: members in their order with the types of their values and the forms of texts.
pub fn shape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '"' => {
                let mut escaped = false;
                let end = rest[1..].find(|c| {
                    let is_end = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    is_end
                });
                let end = end.expect("a closed string");
                let is_key = rest[end + 2..].starts_with(':');
                out.push_str(&if is_key { rest[..end + 2].to_owned() } else { form(&rest[1..=end]) });
                end + 2
            }
            '{' | '}' | '[' | ']' | ',' | ':' => {
                out.push(first);
                1
            }
            't' | 'f' => {
                out.push('b');
                if first == 't' { 4 } else { 5 }
            }
            'n' => {
                out.push('0');
                4
            }
            _ => {
                out.push('n');
                rest.find(|c| !"+-.eE0123456789".contains(c)).unwrap_or(rest.len())
            }
        };
        assert!(len > 0, "not compact JSON: {rest}");
        rest = &rest[len..];
    }
    out
}

/// The form of a text: a decimal, hex or base64url of a length, or any other.
fn form(text: &str) -> String {
    let all = |is: fn(&u8) -> bool| text.bytes().all(|byte| is(&byte));
    let length = text.len();
    if length > 0 && all(|byte| byte.is_ascii_digit() || *byte == b'.') {
        "decimal".to_owned()
    } else if length == 64 && all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()) {
        "hex64".to_owned()
    } else if length >= 40 && all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)) {
        // Hashes, numbers of 256 bits and headers have one length; transactions and outputs have many.
        if length <= 430 { format!("base64url{length}") } else { "base64url".to_owned() }
    } else {
        "text".to_owned()
    }
}

/// A group of recordings, how many of them are compared, and how many are not for a reason.
type Group = (&'static str, usize, &'static [(Reason, usize)]);

/// How many recordings of each group are compared, and why others are not. The table of gas has no requests.
const GROUPS: [Group; 34] = [
    ("block", 1, &[(NO_BLOCKS, 3), (P2P, 1)]),
    ("config", 1, &[(P2P, 1)]),
    ("crosschain", 22, &[(PACT, 22)]),
    ("cut", 10, &[(P2P, 4)]),
    ("gas", 1, &[(SHORTENED, 1)]),
    ("gas-table", 0, &[]),
    ("hash", 4, &[(P2P, 1)]),
    ("header", 9, &[(P2P, 3)]),
    ("header-branch", 24, &[(P2P, 3)]),
    ("header-errors", 13, &[(DERIVED, 3), (P2P, 1)]),
    ("header-pages", 20, &[(P2P, 3)]),
    ("header-updates", 1, &[(HAS_STREAM, 3)]),
    ("health-check", 1, &[(P2P, 1)]),
    ("info", 2, &[(P2P, 1)]),
    ("limits", 0, &[(SHORTENED, 12)]),
    ("mempool", 1, &[(P2P, 1)]),
    ("mempool-expiry", 3, &[]),
    ("mempool-restart", 4, &[]),
    ("mining", 0, &[(NO_MINING, 5)]),
    ("multisig", 2, &[(ONE_KEY, 3), (PACT, 2)]),
    ("pact-badlist", 5, &[]),
    ("pact-listen", 4, &[]),
    ("pact-listen-timeout", 0, &[(LONG, 1)]),
    ("pact-local", 59, &[(PACT, 4)]),
    ("pact-poll", 26, &[]),
    ("pact-send", 10, &[]),
    ("pact-send-duplicate", 6, &[]),
    ("pact-send-errors", 83, &[(HARMFUL, 1), (P2P, 1)]),
    ("pact-send-mempool-errors", 23, &[]),
    ("pact-spv", 21, &[(LEVEL, 1)]),
    ("pact-spv2", 0, &[(NO_SPV2, 17)]),
    ("pact-values", 3, &[]),
    ("payload", 29, &[(P2P, 3), (SHORTENED, 1)]),
    ("spv-availability", 7, &[(LEVEL, 4)]),
];

#[test]
fn every_recorded_request_is_answered_as_recorded_or_it_is_said_why_not() {
    let mut ledger = Ledger::default();
    recorded_blocks::compare(&mut ledger);
    recorded_commands::compare(&mut ledger);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/recordings");
    let files =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let groups: BTreeSet<String> =
        files.filter_map(|file| Some(file.strip_suffix(".json")?.to_owned())).collect();
    let mut found = Vec::new();
    for group in groups {
        let compared = ledger.compared.remove(&group).unwrap_or_default();
        let reasons = ledger.left_out.remove(&group).unwrap_or_default();
        let all = recordings(&group).len();
        if group != "spv-availability" {
            assert_eq!(compared + reasons.values().sum::<usize>(), all, "{group}: none is passed over");
        }
        found.push((group, compared, reasons));
    }
    let expected = GROUPS.map(|(group, compared, reasons)| {
        (group.to_owned(), compared, reasons.iter().copied().collect::<BTreeMap<_, _>>())
    });
    assert_eq!(found, expected);
    assert!(ledger.compared.is_empty() && ledger.left_out.is_empty());
}
