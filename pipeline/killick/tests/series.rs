//! A log that is anchored again, on another network: what its receipts gain, and what they keep.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chainweb::ChainId;
use chainweb::devnet::{Account, Coins, Config, Devnet};
use chainweb::pact::{Capability, Command, Exec, command_hash};
use chainweb::spv::Subject;
use killick_embedded::{EmbeddedCatalog, Folder};
use killick_proof::anchor::AnchorTree;
use killick_proof::note::Note;
use killick_proof::receipt::{Anchor, Block, Receipt, SpvProof, TreeProof};
use killick_proof::report::Level;
use killick_proof::signature::SecretKey;
use killick_proof::trust::{Trust, TrustFile, TrustedNetwork};
use killick_proof::verify::Verifier;
use killick_proof::{Algorithm, Hash};
use killick_stages::ports::{AnchorRecord, Catalog};
use serde_json::Value;
use support::{ends, files};

/// Where the second network has the anchor.
const CHAIN: ChainId = ChainId(17);

/// Runs the pipeline over readings in a folder, one day after the other, each until all have their receipts.
fn run_site(folder: &Path, days: usize, readings: usize) -> PathBuf {
    let site = folder.join("site");
    for day in 1..=days {
        let rows =
            (0..readings).map(|row| format!("2026-03-{day:02} {:02}:{:02}:00,{row}.5\n", row / 60, row % 60));
        let input = folder.join(format!("day-{day}.csv"));
        std::fs::write(&input, format!("timestamp,value\n{}", rows.collect::<String>())).unwrap();
        ends(0, "run --format csv --embedded", &[&site, Path::new("--input"), &input]);
    }
    site
}

/// Puts a text into a block of a network that is its own, and gives the proof of it.
fn on_another_network(text: &str) -> (SpvProof, Block) {
    let key = SecretKey::from_seed(&[8; 32]);
    let public_key = hex::encode(key.public().as_bytes());
    let account = Account {
        name: format!("k:{public_key}"),
        public_key: public_key.clone(),
        balance: Coins::whole(10),
    };
    let mut config = Config { block_interval: Duration::ZERO, ..Config::default() };
    config.accounts.push(account);
    let devnet = Devnet::start(config).unwrap();
    devnet.make_round().unwrap();
    let exec = Exec {
        network: devnet.network_name(),
        code: "(read-msg \"killick\")",
        data: &serde_json::json!({ "killick": text }).to_string(),
        signers: &[(&public_key, &[Capability::GAS])],
        chain: CHAIN,
        sender: &format!("k:{public_key}"),
        gas_limit: 400,
        gas_price: "1e-8",
        ttl: 600,
        creation_time: time::OffsetDateTime::now_utc().unix_timestamp() - 30,
        nonce: "again",
    };
    let cmd = exec.to_cmd().unwrap();
    let hash = command_hash(&cmd);
    let command = Command { hash, sigs: vec![Some(hex::encode(key.sign(&hash.0)))], cmd };
    let request_key = devnet.send(CHAIN, &command).unwrap();
    for _ in 0..4 {
        devnet.make_round().unwrap();
    }
    let proof = devnet.spv(CHAIN, &request_key, CHAIN).unwrap();
    let header = devnet.header(CHAIN, &proof.root()).unwrap();
    let Subject::Input(input) = proof.subject else { panic!("a proof of another part") };
    let spv = SpvProof { chain: proof.chain.0.into(), object: proof.object.encode(), input };
    let block = Block {
        network: devnet.network_name().to_owned(),
        chain: CHAIN.0.into(),
        height: header.height,
        hash: Hash::new(header.hash.0),
        header: header.encode(),
    };
    (spv, block)
}

/// Anchors the newest checkpoint of every log again, under the name of a series; returns the block.
fn anchor_again(catalog: &dyn Catalog, series: &str) -> Hash {
    let newest: Vec<(Box<str>, u64, Box<str>)> = catalog
        .origins()
        .unwrap()
        .into_iter()
        .map(|origin| {
            let size = catalog.log_size(&origin).unwrap();
            let batch = catalog.batch(&origin, size - 1).unwrap().unwrap();
            (origin, size, batch.checkpoint)
        })
        .collect();
    let texts = newest.iter().map(|(.., note)| Note::parse(note).unwrap().text()).collect();
    let tree = AnchorTree::new(Algorithm::Sha256, texts).unwrap();
    let (spv, block) = on_another_network(&tree.anchor_text());
    let hash = block.hash;
    for (origin, size, checkpoint) in &newest {
        let index = tree.index_of(origin).unwrap();
        let proof = TreeProof {
            root: tree.root(),
            size: tree.texts().len() as u64,
            index,
            path: tree.path(index).unwrap(),
        };
        let anchor = Anchor { log: None, tree: proof, spv: spv.clone(), block: block.clone() };
        let (origin, checkpoint) = (origin.clone(), checkpoint.clone());
        let anchor = anchor.to_json().into();
        let record = AnchorRecord { origin, series: series.into(), size: *size, checkpoint, anchor };
        catalog.put_anchor(&record).unwrap();
    }
    hash
}

/// A trust file with the logs of the site's, and these blocks only.
fn trusting(site: &Path, blocks: impl IntoIterator<Item = Hash>) -> TrustFile {
    let own = TrustFile::parse(&std::fs::read(site.join("trust.json")).unwrap()).unwrap();
    let network = TrustedNetwork {
        name: "development".to_owned(),
        blocks: blocks.into_iter().collect(),
        ..TrustedNetwork::default()
    };
    TrustFile { networks: vec![network], ..own }
}

#[test]
fn receipts_gain_the_anchor_of_another_network_and_keep_their_own_byte_for_byte() {
    const READINGS: usize = 120;
    let place = tempfile::tempdir().unwrap();
    let folder = |name: &str| place.path().join(name);
    let site = run_site(place.path(), 2, READINGS / 2);
    let export = |out: &str, form: &str| {
        let line = format!("receipts export --as {form} --embedded");
        ends(0, &line, &[&site, Path::new("--out"), &folder(out)]);
        files(&folder(out))
    };
    let before = export("before", "json");
    assert_eq!(before.len(), READINGS);

    let catalog = EmbeddedCatalog::open(&Arc::new(Folder::open(&site).unwrap())).unwrap();
    let second = anchor_again(&catalog, "second");
    drop(catalog);
    let after = export("after", "json");
    assert!(before.keys().eq(after.keys()));

    let own: Vec<Hash> =
        before.values().map(|old| Receipt::parse(old).unwrap().anchors[0].block.hash).collect();
    assert!(!own.contains(&second));
    let [mut by_own, mut by_second] = [trusting(&site, own), trusting(&site, [second])]
        .map(|file| Verifier::new(Trust::new(&file).unwrap()));
    let mut later = BTreeMap::new();
    for (name, new) in &after {
        let old = std::str::from_utf8(&before[name]).unwrap();
        let new_text = std::str::from_utf8(new).unwrap();
        // All that was there is there in the same place, and the anchors go on.
        let kept = old[..old.rfind(']').unwrap()].trim_end();
        let added = new_text.strip_prefix(kept).expect("what was there is there");
        assert!(kept.ends_with('}') && added.starts_with(','), "{new_text}");
        let (old, receipt) = (Receipt::parse(old.as_bytes()).unwrap(), Receipt::parse(new).unwrap());
        assert_eq!((old.anchors.len(), receipt.anchors.len()), (1, 2));
        for (verifier, blocks) in [(&mut by_own, old.anchors[0].block.hash), (&mut by_second, second)] {
            let report = verifier.verify(new, None);
            assert_eq!((report.level, report.wrong()), (Level::Trusted, None), "{report:?}");
            assert_eq!(report.block.unwrap().hash, blocks);
        }
        assert_eq!(by_second.verify(old.to_json().as_bytes(), None).level, Level::Anchored);
        if receipt.anchors[1].log.is_some() {
            later.insert(name.clone(), new_text.to_owned());
        }
    }
    assert!(!later.is_empty(), "some stand on an earlier checkpoint than the one that was anchored again");

    // The other form says the same, and is as good.
    for (name, cbor) in export("cbor", "cbor") {
        let json = &after[&name.replace(".cbor", ".json")];
        assert_eq!(Receipt::parse(&cbor).unwrap(), Receipt::parse(json).unwrap());
        assert_eq!(by_second.verify(&cbor, None).level, Level::Trusted);
    }

    // A log path of the second anchor that is damaged makes the receipt wrong, whatever the first one proves.
    for receipt in later.values().take(20) {
        let mut receipt: Value = serde_json::from_str(receipt).unwrap();
        let path = receipt["anchors"][1]["log"]["path"].as_array_mut().unwrap();
        if let Some(first) = path.first_mut() {
            *first = Value::String(Hash::new([7; 32]).to_string());
        } else {
            path.push(Value::String(Hash::new([7; 32]).to_string()));
        }
        let report = by_own.verify(receipt.to_string().as_bytes(), None);
        let wrong = report.wrong().expect("a wrong path").to_string();
        assert!(wrong.starts_with("anchors[1].log.path"), "{wrong}");
    }

    // The commands that read a catalog see both.
    let own = folder("own.json");
    let listed = ends(0, "receipts list --output json --embedded", &[&site]);
    assert_eq!(listed.matches("\"proof-ready\"").count(), READINGS);
    let fsck = ends(0, "fsck --full --output json --embedded", &[&site]);
    assert!(fsck.contains("\"faults\":0"), "{fsck}");
    std::fs::write(&own, trusting(&site, [second]).to_json()).unwrap();
    ends(0, "verify", &[&folder("after"), Path::new("--trust"), &own]);
    ends(4, "verify", &[&folder("before"), Path::new("--trust"), &own]);
}
