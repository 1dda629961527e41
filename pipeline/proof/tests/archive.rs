//! A network that has stopped: its archived headers still link a proof to a block that the verifier trusts, with no node.
//!
//! Real are: the blocks of mainnet01 (five whole heights of 2021, and the newest blocks that public archives have from
//! before the community fork of November 2025); a transaction's proof that a node of it made, which ends in one of them;
//! and what a node of a development network recorded of an anchor. No Killick receipt was ever anchored in these blocks,
//! so what is shown of them is the part of a verification that is about the block: from the proven output to a trusted
//! block. Whole receipts are shown in `forward.rs` and `settled_proofs.rs`, in blocks that the tests make. Of the last cut
//! of mainnet01 before the fork no headers are at hand, and of its very last one the hashes alone: an older cut stands for
//! them here, by the same rules.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use chainweb::Header;
use chainweb::merkle::{Algorithm, MerkleProof};
use killick_proof::Hash;
use killick_proof::encoding::from_base64url;
use killick_proof::headers::{Headers, HeadersError};
use killick_proof::report::BlockName;
use killick_proof::trust::{Forward, MIN_DEPTH, Standing, Trust, TrustFile, TrustedNetwork};
use serde_json::Value;

fn vectors(file: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../connectors/chainweb/tests/data/vectors");
    serde_json::from_slice(&std::fs::read(format!("{folder}/{file}")).unwrap()).unwrap()
}

fn header(text: &Value) -> Header {
    Header::from_base64url(text.as_str().unwrap()).unwrap()
}

fn hash(header: &Header) -> Hash {
    Hash::new(header.hash.0)
}

fn name(header: &Header) -> BlockName {
    BlockName {
        network: "mainnet01".into(),
        chain: header.chain.0,
        height: header.height,
        hash: hash(header),
    }
}

/// All headers of mainnet01 at the heights 1,800,000 to 1,800,004, with one orphan.
fn five_heights() -> Vec<Header> {
    let file = vectors("header_braid.json");
    file["vectors"][0]["headers"].as_array().unwrap().iter().map(header).collect()
}

/// A verifier that trusts these blocks and has these headers.
fn trust(blocks: &[&Header], headers: &[&Header]) -> Trust {
    let network = TrustedNetwork {
        name: "mainnet01".into(),
        blocks: blocks.iter().map(|block| hash(block)).collect(),
        ..TrustedNetwork::default()
    };
    let mut beside = Headers::new();
    let file: Vec<u8> = headers.iter().flat_map(|header| header.encode()).collect();
    assert_eq!(beside.add(&file), Ok(headers.len()));
    Trust::new_with(&TrustFile { networks: vec![network], ..TrustFile::default() }, &beside).unwrap()
}

fn untrusted(standing: Standing) -> String {
    match standing {
        Standing::Untrusted(why) => why,
        other => panic!("{other:?}"),
    }
}

/// The block in which a node's proof of a real transaction's output ends, from the proof alone.
fn proven_block() -> Header {
    let file = vectors("spv_proofs.json");
    let vector = &file["vectors"][0];
    let [object, input] = [&vector["proof"]["object"], &vector["proof"]["subject"]["input"]]
        .map(|part| from_base64url(part.as_str().unwrap()).unwrap());
    let root = MerkleProof::decode(&object).unwrap().root_of_input(Algorithm::Sha512t256, &input);
    let block = header(&vector["targetHeader"]);
    assert_eq!((block.hash, block.height), (root, 1_800_001));
    assert_eq!(block.hash, block.compute_hash());
    block
}

#[test]
fn a_real_proof_is_linked_by_real_headers_to_a_cut_of_the_archive() {
    let block = proven_block();
    let all = five_heights();
    let cut: Vec<&Header> = all.iter().filter(|header| header.height == 1_800_004).collect();
    let archive: Vec<&Header> = all.iter().collect();
    assert_eq!(cut.len(), 20);
    assert_eq!(trust(&cut, &archive).standing(&name(&block)), Standing::Trusted);
    // One block of the cut is enough, since all chains are braided, and the parents of one chain alone too.
    let of_chain =
        |chain: u32| cut.iter().copied().filter(move |header| header.chain.0 == chain).collect::<Vec<_>>();
    assert_eq!(trust(&of_chain(13), &archive).standing(&name(&block)), Standing::Trusted);
    let parents: Vec<&Header> = archive.iter().copied().filter(|header| header.chain.0 == 0).collect();
    assert_eq!(trust(&of_chain(0), &parents).standing(&name(&block)), Standing::Trusted);
}

#[test]
fn without_one_of_the_real_headers_it_is_said_which_is_missing() {
    let block = proven_block();
    let all = five_heights();
    let tip = all.iter().find(|header| header.height == 1_800_004 && header.chain.0 == 0).unwrap();
    let chain: Vec<&Header> = all.iter().filter(|header| header.chain.0 == 0).collect();
    let middle = chain.iter().find(|header| header.hash != tip.hash && header.height == 1_800_003).unwrap();
    let fewer: Vec<&Header> = chain.iter().copied().filter(|header| header.hash != middle.hash).collect();
    let why = untrusted(trust(&[tip], &fewer).standing(&name(&block)));
    assert!(why.contains(&middle.hash.to_string()), "{why}");
    assert!(why.contains("(chain 0, height 1800003) is missing"), "{why}");
    let why = untrusted(trust(&[tip], &[]).standing(&name(&block)));
    assert!(why.contains("as far as the headers that are given say"), "{why}");
}

#[test]
fn a_real_orphan_is_told_from_the_block_that_is_trusted() {
    let all = five_heights();
    let tips: Vec<&Header> = all.iter().filter(|header| header.height == 1_800_004).collect();
    let trust = trust(&tips, &all.iter().collect::<Vec<_>>());
    let (orphans, others): (Vec<_>, Vec<_>) =
        all.iter().partition(|header| trust.standing(&name(header)) != Standing::Trusted);
    let [orphan] = orphans[..] else { panic!("{} orphans", orphans.len()) };
    let why = untrusted(trust.standing(&name(orphan)));
    let winner = others.iter().find(|it| (it.chain, it.height) == (orphan.chain, orphan.height)).unwrap();
    assert!(why.ends_with(&format!("is another: {}", winner.hash)), "{why}");
}

#[test]
fn a_flipped_bit_and_a_header_of_another_network_are_refused_by_name() {
    let all = five_heights();
    let mut file: Vec<u8> = all.iter().flat_map(Header::encode).collect();
    for (byte, why) in [(20, "hashes to"), (52, "neighbours"), (300, "hashes to"), (268, "hashes to")] {
        file[7 * 318 + byte] ^= 1;
        let error = Headers::new().add(&file).unwrap_err();
        assert!(
            matches!(&error, HeadersError::Header { at: 7, why: found } if found.contains(why)),
            "{error}"
        );
        file[7 * 318 + byte] ^= 1;
    }
    assert_eq!(Headers::new().add(&file), Ok(101));

    let real = vectors("headers.json");
    let testnet: Header = real["vectors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| header(&it["bytes"]))
        .find(|it| it.version == 7)
        .unwrap();
    let network = TrustedNetwork {
        name: "mainnet01".into(),
        headers: vec![testnet.encode()],
        ..TrustedNetwork::default()
    };
    let error = Trust::new(&TrustFile { networks: vec![network], ..TrustFile::default() }).unwrap_err();
    assert_eq!(error.entry, "networks[0].headers[0]");
    assert!(error.why.contains("testnet04"), "{error}");
    // Beside the trust file it may stand, and links nothing of mainnet01.
    let block = proven_block();
    assert!(!trust(&[&testnet], &[&testnet]).trusts("mainnet01", &hash(&block)));
}

#[test]
fn real_blocks_from_before_the_community_fork_are_linked_to_the_newest_that_is_known() {
    let known = chainweb::known::of("mainnet01").unwrap();
    let checkpoint = known.checkpoints.iter().find(|it| it.date.starts_with("2025-11-04")).unwrap();
    let newest = header(&Value::from(checkpoint.headers().next().unwrap()));
    let file = vectors("headers.json");
    let mut archive: Vec<Header> =
        file["vectors"].as_array().unwrap().iter().map(|it| header(&it["bytes"])).collect();
    let steps = vectors("header_steps.json");
    let step = steps["vectors"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| header(&it["header"]).hash == newest.hash)
        .unwrap();
    archive.extend(step["adjacents"].as_array().unwrap().iter().map(header));
    archive.retain(|it| it.version == 5 && it.height > 6_326_000);
    let trust = trust(&[&newest], &archive.iter().collect::<Vec<_>>());
    let linked: Vec<_> = archive.iter().filter(|it| trust.standing(&name(it)) == Standing::Trusted).collect();
    let mut heights: Vec<_> = linked.iter().map(|it| (it.height, it.chain.0)).collect();
    heights.sort_unstable();
    heights.dedup();
    let expected = [
        (6_326_121, 0),
        (6_326_121, 10),
        (6_326_122, 0),
        (6_326_122, 5),
        (6_326_122, 10),
        (6_326_122, 15),
        (6_326_123, 0),
    ];
    assert_eq!(heights, expected);
}

/// The development network of a node that ran once and is gone: its recorded answers are the archive.
#[test]
fn a_recorded_anchor_of_a_node_that_is_gone_is_linked_to_a_block_of_the_neighbouring_chain() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../connectors/chainweb/tests/data/evidence");
    let file = std::fs::read(format!("{folder}/anchor-readmsg-0avncj.json")).unwrap();
    let evidence: Value = serde_json::from_slice(&file).unwrap();
    let [at_home, next_door] = &evidence["proofs"].as_array().unwrap()[..] else { panic!("two proofs") };
    let block = header(&at_home["targetHeader"]["bytes"]);
    let above = header(&next_door["targetHeader"]["bytes"]);
    let roots = [at_home, next_door].map(|proof| {
        let [object, input] = [&proof["proof"]["object"], &proof["proof"]["subject"]["input"]]
            .map(|part| from_base64url(part.as_str().unwrap()).unwrap());
        MerkleProof::decode(&object).unwrap().root_of_input(Algorithm::Sha512t256, &input)
    });
    assert_eq!(roots, [block.hash, above.hash], "the same output is proven to both");
    let network = TrustedNetwork {
        name: "development".into(),
        blocks: vec![hash(&above)],
        ..TrustedNetwork::default()
    };
    let mut file = TrustFile { networks: vec![network], ..TrustFile::default() };
    assert!(!Trust::new(&file).unwrap().trusts("development", &hash(&block)));
    file.networks[0].headers = vec![above.encode()];
    assert!(Trust::new(&file).unwrap().trusts("development", &hash(&block)));
}

#[test]
fn the_last_cut_of_the_network_is_trusted_by_its_hashes_and_asks_for_headers() {
    let known = chainweb::known::of("mainnet01").unwrap();
    let last = known.checkpoints.last().unwrap();
    let blocks: Vec<Hash> = last.blocks.iter().map(|block| Hash::new(block.hash.0)).collect();
    let network = TrustedNetwork { name: "mainnet01".into(), blocks, ..TrustedNetwork::default() };
    let trust = Trust::new(&TrustFile { networks: vec![network], ..TrustFile::default() }).unwrap();
    for block in last.blocks {
        assert!(trust.trusts("mainnet01", &Hash::new(block.hash.0)));
    }
    let why = untrusted(trust.standing(&name(&proven_block())));
    assert!(why.ends_with("as far as the headers that are given say"), "{why}");
}

#[test]
fn real_blocks_go_on_from_a_real_cut_and_lack_the_work_to_be_trusted_for_it() {
    let all = five_heights();
    let cut: Vec<&Header> = all.iter().filter(|header| header.height == 1_800_000).collect();
    let network = TrustedNetwork {
        name: "mainnet01".into(),
        headers: all.iter().map(Header::encode).collect(),
        forward: Some(Forward { from: cut.iter().map(|it| hash(it)).collect(), depth: MIN_DEPTH }),
        ..TrustedNetwork::default()
    };
    let trust = Trust::new(&TrustFile { networks: vec![network], ..TrustFile::default() }).unwrap();
    let why = untrusted(trust.standing(&name(&proven_block())));
    assert!(why.starts_with("the headers above it have 1 times the work of the cut"), "{why}");
}

#[test]
fn every_form_of_a_file_of_headers_reads_the_same_and_others_are_refused() {
    let all = five_heights();
    let texts: Vec<String> =
        all.iter().map(|header| killick_proof::encoding::base64url(&header.encode())).collect();
    let list = serde_json::to_vec(&texts).unwrap();
    let page = serde_json::json!({ "limit": 101, "next": null, "items": texts }).to_string();
    let mut headers = Headers::new();
    for file in [list, page.into_bytes()] {
        assert_eq!(headers.add(&file), Ok(101));
    }
    assert_eq!(headers.len(), 202);
    let refused = |file: &[u8]| Headers::new().add(file).unwrap_err().to_string();
    assert!(refused(b"[1]").contains("header 0: is a number"));
    assert!(refused(b"{}").contains("no list"));
    assert!(refused(b"[\"AAAA\"]").contains("header 0"));
    assert!(refused(b"[").contains("ends early"));
    assert!(refused(&all[0].encode()[..200]).contains("has 200 bytes where 318 are due"));
    assert!(refused(b"text").contains("ends after 4 bytes"));
    assert!(refused(format!("[{}0]", "0,".repeat(400_000)).as_bytes()).contains("more than 262144 headers"));
    let unknown = Header { version: 77, ..all[0].clone() };
    let unknown = Header { hash: unknown.compute_hash(), ..unknown };
    assert!(refused(&unknown.encode()).contains("0x4d, which nobody knows"));
    assert_eq!(Headers::new().add(b""), Ok(0));
}
