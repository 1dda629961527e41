//! The checks of the fuzz targets on a stable compiler: known inputs, each changed in many random ways.

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

use killick_proof::Algorithm;
use killick_proof::anchor::AnchorText;
use killick_proof::batch::BatchHeader;
use killick_proof::hash::Hash;
use killick_proof::log::Log;
use killick_proof::origin::Origin;
use killick_proof::receipt::Receipt;
use killick_proof::signature::SecretKey;
use killick_proof::statement::{Attestation, Event, Statement};

/// xorshift64*: the same changes in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).expect("31 bits") % bound.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("below 256")
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        start..start + self.below((len - start).min(40) + 1)
    }

    /// One change: a byte, a cut, a piece removed, doubled, overwritten, or taken from another input.
    fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let (here, there) = (self.range(input.len()), self.range(other.len()));
        let at = self.below(input.len());
        match self.below(8) {
            0 => input.truncate(here.start),
            1 => drop(input.drain(here)),
            2 => drop(input.splice(at..at, input[here].to_vec())),
            3 => drop(input.splice(here, other[there].to_vec())),
            4 => drop(input.splice(at..at, [self.byte()])),
            5 => input.iter_mut().skip(here.start).take(8).for_each(|byte| *byte = 0xff),
            6 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1),
            _ => {
                let byte = self.byte();
                input.iter_mut().skip(at).take(1).for_each(|old| *old = byte);
            }
        }
    }
}

/// Runs a check on the inputs, on `runs` changed ones, and on noise.
fn run(check: fn(&[u8]), inputs: &[Vec<u8>], runs: usize) {
    assert!(!inputs.is_empty());
    let mut random = Random(0x4b69_6c6c_6963_6b21);
    for input in inputs {
        check(input);
    }
    for _ in 0..runs {
        let mut input = inputs[random.below(inputs.len())].clone();
        let other = &inputs[random.below(inputs.len())];
        for _ in 0..=random.below(4) {
            random.change(&mut input, other);
        }
        check(&input);
        let noise: Vec<_> = (0..random.below(60)).map(|_| random.byte()).collect();
        check(&noise);
    }
}

fn files_in(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<_> = folder
        .read_dir()
        .expect("the folder is there")
        .map(|entry| entry.expect("and readable").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a file")).collect()
}

#[test]
fn changed_receipts_break_nothing() {
    let mut inputs: Vec<_> = ["good", "hashes", "short"]
        .iter()
        .flat_map(|folder| files_in(&format!("../../schemas/vectors/receipts/{folder}")))
        .collect();
    let twins: Vec<_> = inputs
        .iter()
        .filter_map(|input| Receipt::parse(input).ok())
        .map(|receipt| receipt.to_cbor())
        .collect();
    assert!(twins.len() > 10);
    let proofs: Vec<_> = twins
        .iter()
        .filter_map(|twin| Receipt::parse(twin).ok()?.to_tlog_proof())
        .map(String::into_bytes)
        .collect();
    assert!(proofs.len() > 5);
    inputs.extend(twins);
    inputs.extend(proofs);
    inputs.push(include_bytes!("../../../schemas/vectors/receipts/trust.json").to_vec());
    run(targets::receipt, &inputs, 4_000);
}

#[test]
fn changed_files_of_headers_break_nothing() {
    let known = chainweb::known::of("mainnet01").expect("it is known");
    let texts: Vec<&str> = known.checkpoints.iter().flat_map(|checkpoint| checkpoint.headers()).collect();
    let binary: Vec<_> =
        texts.iter().map(|text| killick_proof::encoding::from_base64url(text).unwrap()).collect();
    let page = serde_json::json!({ "limit": 21, "items": texts }).to_string().into_bytes();
    let list = serde_json::to_vec(&texts[..3]).unwrap();
    run(targets::headers, &[binary.concat(), binary[0].clone(), page, list], 2_000);
}

#[test]
fn changed_statements_headers_and_logs_break_nothing() {
    let event =
        Event { tenant: "acme", source: "mill-7", id: "17", time: -1, kind: "t", digest: Hash::new([1; 32]) };
    let secret = SecretKey::from_seed(&[1; 32]);
    let (key, signature) = (secret.public(), secret.sign(&event.signing_bytes().unwrap()));
    let signed = Attestation::Signed { key: key.as_bytes(), signature: &signature };
    let unsigned = Attestation::Unsigned { salt: &[3; 16] };
    let mut inputs: Vec<_> =
        [signed, unsigned].map(|attestation| Statement { event, attestation }.encode().unwrap()).into();
    let origin = Origin::parse("plant.example/1/sha256/7").unwrap();
    let header = BatchHeader {
        origin,
        number: 70_000,
        first_offset: 0,
        last_offset: 300,
        first_time: -1,
        last_time: 1,
        leaf_count: 24,
        root: Hash::new([2; 32]),
        duplicates: 0,
        conflicts: 1,
    };
    inputs.push(header.encode().unwrap());
    let mut log = Log::new(Algorithm::Keccak256);
    (0..23).for_each(|leaf| log.append(Hash::new([leaf; 32]), |_, _| {}).unwrap());
    inputs.push(log.encode());
    run(targets::statement, &inputs, 40_000);
}

#[test]
fn changed_notes_and_other_texts_break_nothing() {
    let file: serde_json::Value = serde_json::from_str(include_str!("data/note/notes.json")).unwrap();
    let notes = file["vectors"].as_array().unwrap().iter().filter_map(|case| case["note"].as_str());
    let mut inputs: Vec<_> =
        notes.filter(|note| note.len() < 2_000).map(|note| note.as_bytes().to_vec()).collect();
    let origin = "plant.example/1/sha256/7";
    let checkpoint = format!("{origin}\n24\nTszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=\n");
    let anchor = AnchorText::format(Algorithm::Sha512t256, 24, &Hash::new([0xfb; 32]));
    let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let secret = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    let proof = format!(
        "c2sp.org/tlog-proof@v1\nindex 3\nTszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=\n\n{checkpoint}"
    );
    inputs.extend([origin, &checkpoint, &anchor, key, secret, &proof].map(|text| text.as_bytes().to_vec()));
    run(targets::checkpoint, &inputs, 20_000);
}
