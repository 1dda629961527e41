//! What is known of networks, held against what it is made from.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, HashMap};

use chainweb::known::{self, Checkpoint};
use chainweb::{ChainId, Hash, Header, Version, cut, rules};
use serde_json::Value;

fn vectors(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/data/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap()
}

/// Payload hashes of genesis blocks that are in the vectors.
fn payloads() -> HashMap<(String, u32), Hash> {
    let mut payloads = HashMap::new();
    for vector in vectors("genesis_headers.json") {
        let chain = vector["chainId"].as_u64().unwrap() as u32;
        payloads.insert(
            (text(&vector, "version").to_owned(), chain),
            text(&vector, "payloadHash").parse().unwrap(),
        );
    }
    for vector in vectors("payloads_genesis.json") {
        if text(&vector, "id") == "genesis-payload-Mainnet2" {
            let hash = text(&vector["expect"], "payloadHash").parse().unwrap();
            payloads.insert(("mainnet01".to_owned(), 2), hash);
        }
    }
    // The chains of a network that begin together have one payload, but for those of the ten of mainnet01.
    for (network, known, chains) in [("mainnet01", 10, 11..20), ("testnet04", 1, 2..20)] {
        let payload = payloads[&(network.to_owned(), known)];
        for chain in chains {
            let found = payloads.insert((network.to_owned(), chain), payload);
            assert!(found.is_none_or(|found| found == payload), "{network} {chain}");
        }
    }
    payloads
}

#[test]
fn genesis_hashes_are_those_of_their_parts() {
    let payloads = payloads();
    let mut computed = Vec::new();
    for known in known::all() {
        let version = Version::by_name(known.network).unwrap();
        assert!(known.genesis.iter().map(|block| block.chain).eq(version.latest_graph().chains()));
        for block in known.genesis {
            assert_eq!(Some(block.height), version.genesis_height(block.chain));
            if let Some(payload) = payloads.get(&(known.network.to_owned(), block.chain.0)) {
                let header = Header::genesis(version, block.chain, *payload).unwrap();
                assert_eq!(header.hash, block.hash, "{} {}", known.network, block.chain);
                computed.push((known.network, block.chain.0));
            }
        }
    }
    // Of four chains of mainnet01, and of chain 0 of testnet04, the payload is not at hand.
    let lacks = |network: &'static str, chains: &[u32]| {
        let all: Vec<u32> = (0..20).filter(|chain| !computed.contains(&(network, *chain))).collect();
        assert_eq!(all, chains, "{network}");
    };
    lacks("mainnet01", &[1, 3, 5, 8]);
    lacks("testnet04", &[0]);
}

#[test]
fn headers_of_checkpoints_are_their_blocks_and_keep_the_rules() {
    for known in known::all() {
        let version = Version::by_name(known.network).unwrap();
        for checkpoint in known.checkpoints {
            let headers: Vec<Header> =
                checkpoint.headers().map(|text| Header::from_base64url(text).unwrap()).collect();
            assert!(headers.is_empty() || headers.len() == checkpoint.blocks.len(), "{}", checkpoint.what);
            for (header, block) in headers.iter().zip(checkpoint.blocks) {
                assert_eq!(
                    (header.chain, header.height, header.hash),
                    (block.chain, block.height, block.hash)
                );
                assert_eq!(rules::check_alone(header, version), [], "{}", checkpoint.what);
            }
            let newest = headers.iter().map(|header| header.creation_time).max();
            assert!(
                newest.is_none_or(|time| seconds(checkpoint.date) == time / 1_000_000),
                "{}",
                checkpoint.date
            );
        }
        assert!(known.checkpoints.is_sorted_by_key(|checkpoint| checkpoint.date));
    }
}

/// The seconds of a date like 2021-07-16T02:20:37Z since 1970.
fn seconds(date: &str) -> i64 {
    let [year, month, day, hour, minute, second] =
        [0..4, 5..7, 8..10, 11..13, 14..16, 17..19].map(|part| date[part].parse::<i64>().unwrap());
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    ((days * 24 + hour) * 60 + minute) * 60 + second
}

fn mainnet(date: &str) -> &'static Checkpoint {
    known::of("mainnet01")
        .unwrap()
        .checkpoints
        .iter()
        .find(|checkpoint| checkpoint.date.starts_with(date))
        .unwrap()
}

#[test]
fn the_cut_of_2021_is_one_that_was_recorded() {
    let checkpoint = mainnet("2021");
    let headers: Vec<Header> =
        checkpoint.headers().map(|text| Header::from_base64url(text).unwrap()).collect();
    let by_chain: BTreeMap<ChainId, &Header> = headers.iter().map(|header| (header.chain, header)).collect();
    assert_eq!(by_chain.len(), 20);
    let graph = Version::by_name("mainnet01").unwrap().latest_graph();
    assert_eq!(cut::verify_braiding(graph, &by_chain), Ok(()));
    let cuts = vectors("cuts.json");
    let recorded = cuts.iter().find(|vector| text(vector, "id") == "cut-36000812").unwrap();
    for block in checkpoint.blocks {
        assert_eq!(text(&recorded["cut"]["hashes"][block.chain.to_string()], "hash"), block.hash.to_string());
    }
}

#[test]
fn the_block_before_the_community_fork_is_a_real_header_of_the_nodes_tests() {
    let [block] = mainnet("2025-11-04").blocks else { panic!("one block") };
    let real = vectors("headers.json");
    assert!(real.iter().any(|vector| text(&vector["expect"], "hash") == block.hash.to_string()));
    assert!(block.height < 6_335_858);
}

#[test]
fn the_last_cut_has_the_heights_and_the_sum_that_were_published_with_it() {
    let blocks = mainnet("2025-11-15").blocks;
    let graph = Version::by_name("mainnet01").unwrap().latest_graph();
    assert!(blocks.iter().map(|block| block.chain).eq(graph.chains()));
    assert_eq!(blocks.iter().map(|block| block.height).sum::<u64>(), 127_147_019);
    for block in blocks {
        for next in graph.neighbours(block.chain) {
            assert!(blocks[next.0 as usize].height.abs_diff(block.height) <= 1, "{} and {next}", block.chain);
        }
    }
}
