//! Trust files: what is malformed is refused with the entry's name, and what is written reads back.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use killick_proof::encoding::base64url;
use killick_proof::note::VerifierKey;
use killick_proof::signature::SecretKey;
use killick_proof::trust::{Trust, TrustFile};
use support::{AnchorMaker, Maker, device, log_key};

fn entry(text: &str) -> String {
    Trust::parse(text.as_bytes()).unwrap_err().entry
}

fn key() -> String {
    log_key("plant.example/1/sha256/7").verifier().to_string()
}

#[test]
fn every_part_is_optional() {
    for text in
        ["{}", "{\"networks\":[]}", "{\"logs\":[],\"devices\":[]}", "{\"networks\":[{\"name\":\"a\"}]}"]
    {
        assert!(Trust::parse(text.as_bytes()).is_ok(), "{text}");
    }
}

#[test]
fn a_malformed_entry_is_named() {
    let hash = base64url(&[1; 32]);
    let key = key();
    let device = base64url(device().public().as_bytes());
    let cases = [
        ("[]".to_owned(), ""),
        ("{} x".into(), ""),
        ("".into(), ""),
        ("\u{feff}{}".into(), ""),
        ("{\"logs\":[],\"logs\":[]}".into(), ""),
        ("{\"networks\":{}}".into(), "networks"),
        ("{\"networks\":null}".into(), "networks"),
        ("{\"networks\":[1]}".into(), "networks[0]"),
        ("{\"networks\":[{}]}".into(), "networks[0].name"),
        ("{\"networks\":[{\"name\":1}]}".into(), "networks[0].name"),
        ("{\"networks\":[{\"name\":\"a\",\"blocks\":\"x\"}]}".into(), "networks[0].blocks"),
        (
            format!("{{\"networks\":[{{\"name\":\"a\",\"blocks\":[\"{hash}\",\"{hash}=\"]}}]}}"),
            "networks[0].blocks[1]",
        ),
        ("{\"networks\":[{\"name\":\"a\",\"blocks\":[\"AAAA\"]}]}".into(), "networks[0].blocks[0]"),
        ("{\"networks\":[{\"name\":\"a\",\"headers\":[\"AAAA\"]}]}".into(), "networks[0].headers[0]"),
        ("{\"networks\":[{\"name\":\"a\",\"headers\":[7]}]}".into(), "networks[0].headers[0]"),
        ("{\"networks\":[{\"name\":\"a\",\"forward\":7}]}".into(), "networks[0].forward"),
        ("{\"networks\":[{\"name\":\"a\",\"forward\":{}}]}".into(), "networks[0].forward.depth"),
        ("{\"networks\":[{\"name\":\"a\",\"forward\":{\"depth\":1e3}}]}".into(), "networks[0].forward.depth"),
        ("{\"networks\":[{\"name\":\"a\",\"forward\":{\"depth\":119}}]}".into(), "networks[0].forward"),
        (
            "{\"networks\":[{\"name\":\"mainnet01\",\"forward\":{\"depth\":119}}]}".into(),
            "networks[0].forward.depth",
        ),
        (
            "{\"networks\":[{\"name\":\"mainnet01\",\"forward\":{\"depth\":120}}]}".into(),
            "networks[0].forward",
        ),
        (
            format!(
                "{{\"networks\":[{{\"name\":\"mainnet01\",\"forward\":{{\"depth\":120,\"from\":[\"{hash}\"]}}}}]}}"
            ),
            "networks[0].forward.from[0]",
        ),
        ("{\"logs\":[7]}".into(), "logs[0]"),
        ("{\"logs\":[\"plant.example/1/sha256/7\"]}".into(), "logs[0]"),
        (format!("{{\"logs\":[\"{key}\",\"{key}=\"]}}"), "logs[1]"),
        ("{\"logs\":[{}]}".into(), "logs[0].key"),
        (format!("{{\"logs\":[{{\"key\":\"x{key}\"}}]}}"), "logs[0].key"),
        (format!("{{\"logs\":[{{\"key\":\"{key}\",\"until\":1.0}}]}}"), "logs[0].until"),
        (format!("{{\"logs\":[{{\"key\":\"{key}\",\"until\":\"1\"}}]}}"), "logs[0].until"),
        (format!("{{\"logs\":[{{\"key\":\"{key}\",\"until\":null}}]}}"), "logs[0].until"),
        (format!("{{\"logs\":[{{\"key\":\"{key}\",\"until\":-0}}]}}"), "logs[0].until"),
        (format!("{{\"logs\":[{{\"key\":\"{key}\",\"until\":9223372036854775808}}]}}"), "logs[0].until"),
        ("{\"devices\":[{\"tenant\":\"a\",\"source\":\"b\"}]}".into(), "devices[0].key"),
        (format!("{{\"devices\":[{{\"source\":\"b\",\"key\":\"{device}\"}}]}}"), "devices[0].tenant"),
        (format!("{{\"devices\":[{{\"tenant\":\"a\",\"key\":\"{device}\"}}]}}"), "devices[0].source"),
        (
            format!("{{\"devices\":[{{\"tenant\":\"a\",\"source\":\"b\",\"key\":\"{device}A\"}}]}}"),
            "devices[0].key",
        ),
        (
            format!(
                "{{\"devices\":[{{\"tenant\":\"a\",\"source\":\"b\",\"key\":\"{}\"}}]}}",
                base64url(&[0; 32])
            ),
            "devices[0].key",
        ),
        (
            format!(
                "{{\"devices\":[{{\"tenant\":\"a\",\"source\":\"b\",\"key\":\"{device}\",\"until\":01}}]}}"
            ),
            "devices[0].until",
        ),
    ];
    for (text, expected) in cases {
        let found = entry(&text);
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn times_before_1970_and_all_others_are_read() {
    for until in [i64::MIN, -1, 0, 1, i64::MAX] {
        let text = format!("{{\"logs\":[{{\"key\":\"{}\",\"until\":{until}}}]}}", key());
        let file = TrustFile::parse(text.as_bytes()).unwrap();
        assert_eq!(file.logs[0].until, Some(until));
    }
}

#[test]
fn members_that_nobody_knows_are_ignored_and_named() {
    let text = format!(
        "{{\"note\":1,\"logs\":[{{\"key\":\"{}\",\"untill\":1}}],\"networks\":[{{\"name\":\"a\",\"x\":1}}]}}",
        key()
    );
    let trust = Trust::parse(text.as_bytes()).unwrap();
    assert_eq!(trust.ignored(), ["note", "networks[0].x", "logs[0].untill"]);
}

#[test]
fn headers_have_to_hash_to_what_they_say_and_keep_their_networks_rules() {
    let maker = Maker { anchors: vec![AnchorMaker::default()], ..Maker::default() };
    let receipt = maker.make();
    let mut file = maker.trust(&receipt);
    let header = receipt.anchors[0].block.header.clone();
    file.networks[0].headers = vec![header.clone()];
    assert!(Trust::new(&file).is_ok());
    for at in [0, 60, 200, 317] {
        let mut changed = header.clone();
        changed[at] ^= 1;
        file.networks[0].headers = vec![header.clone(), changed];
        assert_eq!(Trust::new(&file).unwrap_err().entry, "networks[0].headers[1]", "byte {at}");
    }
    let mut swapped = header;
    swapped[50..50 + 3 * 36].rotate_left(36);
    file.networks[0].headers = vec![swapped];
    assert_eq!(Trust::new(&file).unwrap_err().entry, "networks[0].headers[0]", "the hash does not notice");
}

#[test]
fn what_is_written_reads_back() {
    let maker = Maker::default();
    let receipt = maker.make();
    let mut file = maker.trust(&receipt);
    file.networks[0].headers.push(receipt.anchors[0].block.header.clone());
    file.logs.push(killick_proof::trust::LogKey {
        key: VerifierKey::new("plant.example/1/sha256/8", SecretKey::from_seed(&[9; 32]).public()).unwrap(),
        until: Some(-5),
    });
    file.devices[0].until = Some(7);
    assert_eq!(TrustFile::parse(file.to_json().as_bytes()).unwrap(), file);
    assert!(Trust::new(&file).is_ok());
    let from = vec![receipt.anchors[0].block.hash];
    file.networks[0].forward = Some(killick_proof::trust::Forward { from, depth: 1000 });
    assert_eq!(TrustFile::parse(file.to_json().as_bytes()).unwrap(), file);
}
