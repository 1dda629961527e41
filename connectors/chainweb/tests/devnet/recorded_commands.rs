//! Recorded requests about commands, put to the development network.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use chainweb::devnet::{Account, Coins};
use chainweb::encoding::decode;
use chainweb::spv::Proof;
use chainweb::{ChainId, Hash};
use serde_json::{Value, json};

use super::http::Server;
use super::recorded::{
    HARMFUL, LEVEL, LONG, Ledger, NO_SPV2, ONE_KEY, PACT, Reason, SHORTENED, assert_alike, assert_same_text,
    header, path, recordings, shape, text, what,
};
use super::recorded_blocks::put_in;
use super::support::{config, read};

pub fn compare(ledger: &mut Ledger) {
    sent(ledger);
    after_sending(ledger);
    values_and_badlist(ledger);
    restarted(ledger);
    proofs_in_time(ledger);
    contracts(ledger);
}

fn all(_: &Value) -> Option<Reason> {
    None
}

fn sent(ledger: &mut Ledger) {
    let is_empty = |recording: &Value| (what(recording) == "empty code").then_some(HARMFUL);
    ledger.same_in_time(&Server::start(), "pact-send-errors", is_empty);
    let recordings = recordings("pact-send-errors");
    let empty = recordings.iter().find(|recording| is_empty(recording).is_some()).unwrap();
    let server = Server::start();
    set_clock(&server, empty);
    let response = server.repeat(empty, str::to_owned);
    assert!(response.status == 400 && response.text().contains("empty code"), "{}", response.text());
    ledger.same_in_time(&Server::start(), "pact-send-mempool-errors", all);
    ledger.same_in_time(&Server::start(), "mempool-expiry", all);
}

/// What follows from commands: results, payloads, tries.
fn after_sending(ledger: &mut Ledger) {
    let server = Server::start();
    ledger.same_in_time(&server, "pact-send", all);
    server.rounds(3);
    payloads(ledger, &server);
    tries(ledger, &server);
    ledger.same_in_time(&server, "pact-send-duplicate", all);
    let polls = ledger.askable("pact-poll");
    // Those at a depth were asked when there were no blocks above, and when there were 18.
    let (at_depth, others): (Vec<_>, Vec<_>) =
        polls.into_iter().partition(|poll| what(poll).contains("blocks above the transaction's block"));
    let (shallow, deep): (Vec<_>, Vec<_>) =
        at_depth.into_iter().partition(|poll| what(poll).contains("tip is 0 blocks"));
    let (early, late): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|poll| what(poll).contains("just sent"));
    let server = Server::start();
    send_at(&server, "pact-send", "/chain/2/");
    early.iter().for_each(|poll| ledger.same(&server, "pact-poll", poll));
    until_mined(&server, ChainId(2), &first_key(&shallow[0]));
    shallow.iter().chain(&late).for_each(|poll| ledger.alike(&server, "pact-poll", poll));
    for listen in ledger.askable("pact-listen") {
        ledger.alike(&server, "pact-listen", &listen);
    }
    ledger.askable("pact-listen-timeout").iter().for_each(|_| ledger.left_out("pact-listen-timeout", LONG));
    let server = Server::start();
    send_at(&server, "pact-values", "/chain/3/");
    until_mined(&server, ChainId(3), &first_key(&deep[0]));
    server.rounds(18);
    deep.iter().for_each(|poll| ledger.alike(&server, "pact-poll", poll));
}

/// Sends what a group sent to a chain, at its time.
fn send_at(server: &Server, group: &str, chain: &str) {
    for recording in recordings(group) {
        if path(&recording).contains(chain) && path(&recording).ends_with("/send") {
            set_clock(server, &recording);
            assert_same_text(&recording, &server.repeat(&recording, str::to_owned));
        }
    }
}

fn set_clock(server: &Server, recording: &Value) {
    let time = header(recording, "X-Server-Timestamp").unwrap().parse::<i64>().unwrap();
    server.clock.store(time * 1_000_000, Ordering::SeqCst);
}

fn first_key(poll: &Value) -> String {
    let body: Value = serde_json::from_str(poll["request"]["body"].as_str().unwrap()).unwrap();
    body["requestKeys"][0].as_str().unwrap().to_owned()
}

/// Makes blocks until a command is in the newest.
fn until_mined(server: &Server, chain: ChainId, key: &str) {
    let key: Hash = key.parse().unwrap();
    for _ in 0..5 {
        if server.devnet.read(|network| network.find(chain, &key)).is_some() {
            return;
        }
        server.rounds(1);
    }
    panic!("{key} is never mined");
}

fn payloads(ledger: &mut Ledger, server: &Server) {
    let key = "CBQqcmImdWgMl_jEu0iXroHQc8G2UkltFrpa0w9TfLk".parse().unwrap();
    let chain = ChainId(2);
    let (height, _, hash) = server.devnet.read(|network| network.find(chain, &key)).unwrap();
    let full = server.devnet.header(chain, &hash).unwrap();
    let empty = server.devnet.read(|network| network.header_at(chain, height - 1).unwrap().clone());
    let pairs = [
        ("gnZsYQ6MThTpaFFFojwFwnmSEZ2MAj5TxFwHsal5xyM".to_owned(), full.payload_hash.to_string()),
        ("V6WZzbUcnhwcOCjkCLzJ1kA1FDc9IlT7_-yPnVeInEE".to_owned(), empty.payload_hash.to_string()),
        ("height=43".to_owned(), format!("height={}", full.height)),
        ("height=44".to_owned(), format!("height={}", full.height + 1)),
        ("\"heights\":[43".to_owned(), format!("\"heights\":[{}", full.height)),
        ("324]".to_owned(), format!("{}]", empty.height)),
    ];
    for recording in ledger.askable("payload") {
        let what = what(&recording);
        let response = server.repeat(&recording, |text| put_in(text, &pairs));
        assert_alike(&recording, &response);
        match recording["response"]["body"].as_str() {
            Some(body) if response.status == 200 => assert_eq!(shape(response.text()), shape(body), "{what}"),
            Some(body) => assert_eq!(response.text(), put_in(body, &pairs), "{what}"),
            None => assert!(!response.body.is_empty()),
        }
        ledger.compared("payload");
    }
}

/// Commands that are only tried: texts and gas are the recorded ones, and results of what is executed here.
fn tries(ledger: &mut Ledger, server: &Server) {
    // Executed on a node, and not here; some fail there too, for other reasons.
    let pact = ["account details", "block time and height", "chain-data", "chain-data, preflight"];
    let fails_otherwise =
        ["run time failure", "division by zero", "type error", "gas exhausted", "decimal, bool"];
    for recording in ledger.askable("pact-local") {
        let what = what(&recording);
        if pact.iter().any(|pact| what.starts_with(pact)) {
            ledger.left_out("pact-local", PACT);
            continue;
        }
        ledger.alike(server, "pact-local", &recording);
        let Ok(recorded) = serde_json::from_str::<Value>(text(&recording)) else { continue };
        let own: Value = serde_json::from_str(server.repeat(&recording, str::to_owned).text()).unwrap();
        let inner = |value: &Value| value.get("preflightResult").unwrap_or(value).clone();
        let (own, recorded) = (inner(&own), inner(&recorded));
        assert_eq!((&own["gas"], &own["reqKey"]), (&recorded["gas"], &recorded["reqKey"]), "{what}");
        assert_eq!(own["metaData"]["publicMeta"], recorded["metaData"]["publicMeta"], "{what}");
        assert_eq!(own["events"], recorded["events"], "{what}");
        if own["result"]["data"]["decimal"].is_string() {
            assert_eq!(places(&own), places(&recorded), "{what}");
        } else if !fails_otherwise.iter().any(|other| what.starts_with(other)) {
            assert_eq!(own["result"], recorded["result"], "{what}");
        }
    }
}

/// Digits after the point of a balance.
fn places(result: &Value) -> usize {
    result["result"]["data"]["decimal"].as_str().unwrap().split_once('.').unwrap().1.len()
}

fn values_and_badlist(ledger: &mut Ledger) {
    let server = Server::start();
    ledger.same_in_time(&server, "pact-values", all);
    // Not only their shape: numbers and texts come back word for word.
    let poll = &recordings("pact-values")[2];
    let own: Value = serde_json::from_str(server.repeat(poll, str::to_owned).text()).unwrap();
    let recorded: Value = serde_json::from_str(text(poll)).unwrap();
    for (key, result) in recorded.as_object().unwrap() {
        assert_eq!(own[key]["result"], result["result"]);
    }
    ledger.same_in_time(&Server::start(), "pact-badlist", all);
    ledger.same_in_time(&Server::start(), "gas", all);
    // What these ask for was sent with a shortened text.
    ledger.askable("limits").iter().for_each(|_| ledger.left_out("limits", SHORTENED));
}

fn restarted(ledger: &mut Ledger) {
    const GROUP: &str = "mempool-restart";
    let folder = tempfile::tempdir().unwrap();
    let recordings = ledger.askable(GROUP);
    let start = |recording: &Value| {
        let server = Server::start_in(folder.path());
        set_clock(&server, recording);
        server
    };
    let server = start(&recordings[0]);
    ledger.same(&server, GROUP, &recordings[0]);
    drop(server);
    let server = start(&recordings[1]);
    ledger.same(&server, GROUP, &recordings[1]);
    ledger.same(&server, GROUP, &recordings[2]);
    server.rounds(2);
    ledger.alike(&server, GROUP, &recordings[3]);
}

/// Proofs become available when the target chain has the height, and are refused before in the same words.
fn proofs_in_time(ledger: &mut Ledger) {
    let server = Server::start();
    let sends = recordings("pact-send");
    let chain = ChainId(0);
    let key = "K3y7NfZIX1y21Ji45YfAZbWboAqLTN12IVhUG14ylxk";
    let send = sends.iter().find(|send| text(send).contains(key)).unwrap();
    set_clock(&server, send);
    assert_same_text(send, &server.repeat(send, str::to_owned));
    let (mut now, mut later) = (Vec::new(), Vec::new());
    for recording in ledger.askable("pact-spv") {
        let above = what(&recording).split("target chain is ").nth(1);
        match above.map(|above| above.split(' ').next().unwrap().parse::<i64>().unwrap()) {
            Some(-1) => ledger.left_out("pact-spv", LEVEL),
            Some(above) => later.push((above, recording)),
            None if what(&recording).contains("in the mempool") => now.push(recording),
            None => later.push((3, recording)),
        }
    }
    now.iter().for_each(|recording| ledger.same(&server, "pact-spv", recording));
    until_mined(&server, chain, key);
    let log = read("recordings/spv-availability.json")["availability"]["log"].as_array().unwrap().clone();
    for height in 0..=3 {
        for (_, recording) in later.iter().filter(|(above, _)| *above == height) {
            proof(ledger, &server, recording);
        }
        for event in &log {
            let heights: BTreeSet<i64> =
                serde_json::from_value(event["targetHeightMinusTxHeight"].clone()).unwrap_or_default();
            match heights.iter().copied().collect::<Vec<_>>()[..] {
                [at] if at == height => available(ledger, &server, key, event),
                // Its target got a block while it was asked, or was lower; where it was mined, nothing was asked.
                [_, _] | [-1] if height == 0 => ledger.left_out("spv-availability", LEVEL),
                _ => {}
            }
        }
        server.rounds(1);
    }
}

fn available(ledger: &mut Ledger, server: &Server, key: &str, event: &Value) {
    let body = json!({ "requestKey": key, "targetChainId": event["target"].to_string() }).to_string();
    let response = server.post("/chain/0/pact/spv", &body);
    if event["event"] == "proof" {
        assert_eq!(response.status, 200, "{event}");
    } else {
        assert_eq!(
            (json!(response.status), json!(response.text())),
            (event["status"].clone(), event["body"].clone())
        );
    }
    ledger.compared("spv-availability");
}

fn proof(ledger: &mut Ledger, server: &Server, recording: &Value) {
    if recording["response"]["status"] != 200 {
        ledger.same(server, "pact-spv", recording);
        return;
    }
    let response = server.repeat(recording, str::to_owned);
    assert_alike(recording, &response);
    let decoded = |text: &str| String::from_utf8(decode(text.trim_matches('"')).unwrap()).unwrap();
    let (own, recorded) = (decoded(response.text()), decoded(text(recording)));
    let plain = |text: &str| shape(text).replace(|c: char| c.is_ascii_digit(), "");
    assert_eq!(plain(&own), plain(&recorded), "{}", what(recording));
    let (own, recorded) = (Proof::parse(own.as_bytes()).unwrap(), Proof::parse(recorded.as_bytes()).unwrap());
    assert_eq!(own.chain, recorded.chain);
    assert_eq!(server.devnet.header(own.chain, &own.root()).unwrap().chain, own.chain);
    ledger.compared("pact-spv");
}

/// The key that signs for a sender in the commands of a group.
fn key_of(group: &str, sender: &str) -> String {
    let sends = recordings(group).into_iter().filter(|recording| path(recording).ends_with("/send"));
    let bodies =
        sends.map(|send| serde_json::from_str::<Value>(send["request"]["body"].as_str().unwrap()).unwrap());
    let mut commands = bodies.flat_map(|body| body["cmds"].as_array().unwrap().clone());
    let key = commands.find_map(|command| {
        let cmd: Value = serde_json::from_str(command["cmd"].as_str().unwrap()).unwrap();
        let is_his = cmd["meta"]["sender"] == sender;
        is_his.then(|| cmd["signers"][0]["pubKey"].as_str().unwrap().to_owned())
    });
    key.unwrap()
}

/// What contracts do is not done here; what does not depend on them is.
fn contracts(ledger: &mut Ledger) {
    let mut config = config();
    config.accounts.push(Account {
        name: "sender03".to_owned(),
        public_key: key_of("crosschain", "sender03"),
        balance: Coins::whole(100_000_000),
    });
    let server = Server::start_as(config);
    ledger.same_in_time(&server, "crosschain", |recording| {
        // Commands are taken all the same, and fail.
        (!path(recording).ends_with("/send")).then_some(PACT)
    });
    ledger.same_in_time(&Server::start(), "multisig", |recording| {
        let what = what(recording);
        let is_refused_before = what.contains("wrong order") || what.contains("made by the first key");
        let reason = if what.contains("keyset ref") { PACT } else { ONE_KEY };
        (!is_refused_before).then_some(reason)
    });
    ledger.askable("pact-spv2").iter().for_each(|_| ledger.left_out("pact-spv2", NO_SPV2));
}
