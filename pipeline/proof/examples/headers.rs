//! What headers cost: reads 100,000 of them, links blocks back by them, and follows them on from a cut.
//!
//! `cargo run --release -p killick-proof --example headers`

#[path = "../../../connectors/chainweb/tests/support/miner.rs"]
mod miner;

use std::time::Instant;

use chainweb::{Header, U256};
use killick_proof::Hash;
use killick_proof::headers::Headers;
use killick_proof::report::BlockName;
use killick_proof::trust::{Forward, MIN_DEPTH, Trust, TrustFile, TrustedNetwork};

const LAYERS: usize = 5_000;
const CUT: u64 = 6_399_990;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut miner = miner::Miner::new(CUT, U256::MAX);
    miner.layers(LAYERS);
    let file: Vec<u8> = miner.all().into_iter().flat_map(Header::encode).collect();
    let hash = |header: &&Header| Hash::new(header.hash.0);
    let (cut, tips) = (miner.at(CUT), miner.at(miner.tip));

    let begun = Instant::now();
    let mut headers = Headers::new();
    let count = headers.add(&file)?;
    println!(
        "{count} headers, {} MB: read and checked one by one in {:.2?}",
        file.len() / 1_000_000,
        begun.elapsed()
    );

    let first = miner.at(CUT + 1)[4];
    let name = BlockName { network: "mainnet01".into(), chain: 4, height: CUT + 1, hash: hash(&first) };
    let back = TrustedNetwork { blocks: tips.iter().map(hash).collect(), ..network() };
    let on = TrustedNetwork {
        headers: cut.iter().map(|header| header.encode()).collect(),
        forward: Some(Forward { from: cut.iter().map(hash).collect(), depth: MIN_DEPTH }),
        ..network()
    };
    for (what, network) in [("back from trusted tips", back), ("on from a trusted cut", on)] {
        let file = TrustFile { networks: vec![network], ..TrustFile::default() };
        let begun = Instant::now();
        let trust = Trust::new_with(&file, &headers)?;
        let linked = begun.elapsed();
        let begun = Instant::now();
        let standing = trust.standing(&name);
        println!(
            "linked {what} in {linked:.2?}; asked for the oldest block in {:.2?}: {standing:?}",
            begun.elapsed()
        );
    }
    Ok(())
}

fn network() -> TrustedNetwork {
    TrustedNetwork { name: "mainnet01".into(), ..TrustedNetwork::default() }
}
