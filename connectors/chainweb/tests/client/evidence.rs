//! Recorded evidence, given to the client answer by answer.

use std::sync::{Arc, Mutex};

use chainweb::client::Found;
use chainweb::encoding::decode;
use chainweb::pact::Command;
use chainweb::payload::PayloadWithOutputs;
use chainweb::spv::Proof;
use chainweb::{ChainId, Hash, Header};
use serde_json::Value;

use super::replay::text;
use super::server::{Act, Server};
use super::support::evidence;

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
