//! The forms of a receipt that others read: the `tlog-proof` of an event, which verifies as far as the log, and the COSE
//! Receipt of a batch.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use killick_proof::Algorithm;
use killick_proof::cbor::{Reader, Writer};
use killick_proof::checkpoint::Checkpoint;
use killick_proof::cose::{self, CoseError};
use killick_proof::encoding::{base64, from_base64};
use killick_proof::hash::Hash;
use killick_proof::note::Note;
use killick_proof::receipt::{Parts, Receipt};
use killick_proof::report::{Level, Report};
use killick_proof::signature::SIGNATURE_LEN;
use killick_proof::tlog_proof::TlogProof;
use killick_proof::tree::{ProofError, verify_inclusion};
use killick_proof::trust::{Trust, TrustFile};
use killick_proof::verify::Verifier;
use proptest::prelude::*;
use support::{Maker, log_key, missing, wrong};

fn verify(proof: &str, trust: &TrustFile) -> Report {
    let trust = Trust::parse(trust.to_json().as_bytes()).unwrap();
    Verifier::new(trust).verify(proof.as_bytes(), None)
}

/// The proof with other extra data.
fn with_extra(proof: &str, extra: Option<&[u8]>) -> String {
    let mut proof = TlogProof::parse(proof).unwrap();
    proof.extra = extra.map(<[u8]>::to_vec);
    proof.to_string()
}

#[test]
fn a_tlog_proof_is_logged_and_says_nothing_about_time() {
    let maker = Maker::default();
    let receipt = maker.make();
    let proof = receipt.to_tlog_proof().unwrap();
    let report = verify(&proof, &maker.trust(&receipt));
    assert_eq!((report.level, report.not_after, &report.block), (Level::Logged, None, &None));
    assert!(missing(&report).starts_with("anchors: "), "{report:?}");
    assert!(report.held.is_some(), "it is held against other receipts");
    assert_eq!(report.held, support::verify(&receipt, &maker.trust(&receipt)).held);
    let no_logs = TrustFile { logs: Vec::new(), ..maker.trust(&receipt) };
    let report = verify(&proof, &no_logs);
    assert_eq!((report.level, report.wrong()), (Level::Batched, None));
}

#[test]
fn the_proof_is_the_headers_and_its_extra_data_lead_from_the_statement_to_it() {
    let receipt = Maker::default().make();
    let proof = receipt.to_tlog_proof().unwrap();
    let proof = TlogProof::parse(&proof).unwrap();
    assert_eq!((proof.index, &proof.path), (4, &receipt.log.path));
    assert_eq!(proof.checkpoint, receipt.log.checkpoint);

    let extra = proof.extra.unwrap();
    let mut reader = Reader::new(&extra);
    reader.array_of(5).unwrap();
    assert_eq!(reader.text(), Ok("killick-tlog-proof/1"));
    assert_eq!(reader.bytes(), Ok(&receipt.statement[..]));
    assert_eq!(reader.bytes(), Ok(&receipt.batch.header[..]));
    assert_eq!(reader.uint(), Ok(3));
    reader.array_of(receipt.batch.path.len()).unwrap();
    receipt.batch.path.iter().for_each(|hash| assert_eq!(reader.hash(), Ok(*hash)));
    assert_eq!(reader.finish(), Ok(()));
}

#[test]
fn what_c2sp_does_not_know_has_no_tlog_proof() {
    for hash in ["sha512t_256", "keccak256", "blake9"] {
        let origin = format!("plant.example/1/{hash}/7");
        assert_eq!(Maker { origin, ..Maker::default() }.make().to_tlog_proof(), None, "{hash}");
    }
    let mut receipt = Maker::default().make();
    receipt.batch.header.pop();
    assert_eq!(receipt.to_tlog_proof(), None);
}

#[test]
fn extra_data_of_others_are_missing_and_broken_ones_are_wrong() {
    let maker = Maker::default();
    let receipt = maker.make();
    let (proof, trust) = (receipt.to_tlog_proof().unwrap(), maker.trust(&receipt));
    let extra = TlogProof::parse(&proof).unwrap().extra.unwrap();
    let say = |extra: Option<&[u8]>| verify(&with_extra(&proof, extra), &trust);

    let mut newer = Vec::new();
    Writer::new(&mut newer).array(1).text("killick-tlog-proof/2");
    for others in [None, Some(&b""[..]), Some(b"extra information"), Some(&[0x82, 0x00, 0x00]), Some(&newer)]
    {
        let report = say(others);
        assert_eq!(report.level, Level::None, "{others:?}");
        assert!(missing(&report).starts_with("extra: "), "{others:?} {report:?}");
    }
    for length in (25..extra.len()).chain([extra.len() + 1]) {
        let mut broken = extra.clone();
        broken.resize(length, 0);
        assert!(wrong(&say(Some(&broken))).starts_with("extra: "), "{length}");
    }
    let mut long = Vec::new();
    Writer::new(&mut long).array(5).text("killick-tlog-proof/1").bytes(&[]).bytes(&[]).uint(0).array(65);
    long.resize(long.len() + 65 * 34, 0);
    assert!(wrong(&say(Some(&long))).contains("65 hashes"));
    let short = [&[0x84], &extra[1..]].concat();
    assert!(wrong(&say(Some(&short))).contains("has 4 elements"));
}

#[test]
fn a_proof_that_is_none_is_refused_and_another_version_is_not_understood() {
    let maker = Maker::default();
    let receipt = maker.make();
    let (proof, trust) = (receipt.to_tlog_proof().unwrap(), maker.trust(&receipt));
    let newer = proof.replacen("@v1", "@v2", 1);
    assert_eq!(missing(&verify(&newer, &trust)), "this version of tlog-proof is not understood; v1 is");
    for broken in [
        proof.replacen("index 4", "index 04", 1),
        proof.replacen("\n\n", "\n", 1),
        proof.replacen("extra ", "extra  ", 1),
        proof.replacen('\n', "\r\n", 1),
        format!("{proof}\n"),
        format!("{proof}x"),
        proof[..proof.len() - 1].to_owned(),
    ] {
        let report = verify(&broken, &trust);
        assert!(report.fault.is_some() && report.level < Level::Logged, "{broken}\n{report:?}");
    }
    assert!(wrong(&verify(&proof.replacen("index 4", "index 3", 1), &trust)).starts_with("log.index: "));
    let not_text = [proof.as_bytes(), &[0xff]].concat();
    let report = Verifier::default().verify(&not_text, None);
    assert!(wrong(&report).contains("UTF-8"));
}

/// A changed proof is refused, or it says what the original says.
fn says_the_same_or_less(changed: &str, original: &Receipt, trust: &TrustFile) {
    let report = verify(changed, trust);
    if report.level < Level::Logged || report.wrong().is_some() {
        return assert!(report.fault.is_some());
    }
    let parts = Parts::parse(changed.as_bytes()).unwrap();
    assert_eq!(parts.statement.as_ref(), Ok(&original.statement));
    assert_eq!(parts.batch.as_ref(), Ok(&original.batch));
    let log = parts.log.unwrap();
    assert_eq!((log.index, &log.path), (original.log.index, &original.log.path));
    let text = |note| Note::parse(note).unwrap().text();
    assert_eq!(text(&log.checkpoint), text(&original.log.checkpoint));
}

#[test]
fn no_changed_bit_of_a_tlog_proof_says_anything_else() {
    let maker = Maker { anchors: Vec::new(), ..Maker::default() };
    let receipt = maker.make();
    let (proof, trust) = (receipt.to_tlog_proof().unwrap(), maker.trust(&receipt));
    assert_eq!(verify(&proof, &trust).level, Level::Logged);
    for at in 0..proof.len() {
        for bit in 0..8 {
            let mut changed = proof.clone().into_bytes();
            changed[at] ^= 1 << bit;
            if let Ok(changed) = String::from_utf8(changed) {
                says_the_same_or_less(&changed, &receipt, &trust);
            }
        }
    }
    // And below the base64 of the extra data.
    let extra = TlogProof::parse(&proof).unwrap().extra.unwrap();
    for at in 0..extra.len() {
        let mut changed = extra.clone();
        changed[at] ^= 1;
        let report = verify(&with_extra(&proof, Some(&changed)), &trust);
        assert!(report.level < Level::Logged && report.fault.is_some(), "byte {at}: {report:?}");
    }
}

/// A COSE receipt, taken apart.
struct Cose<'a> {
    protected: &'a [u8],
    size: u64,
    index: u64,
    path: Vec<Hash>,
    signature: [u8; SIGNATURE_LEN],
}

fn read_cose(bytes: &[u8]) -> Cose<'_> {
    assert_eq!(bytes[0], 0xd2, "the tag of COSE_Sign1");
    let mut reader = Reader::new(&bytes[1..]);
    reader.array_of(4).unwrap();
    let protected = reader.bytes().unwrap();
    assert_eq!((reader.map(), reader.uint(), reader.map(), reader.int()), (Ok(1), Ok(396), Ok(1), Ok(-1)));
    reader.array_of(1).unwrap();
    let mut proof = Reader::new(reader.bytes().unwrap());
    reader.null().unwrap();
    let signature = *reader.byte_array().unwrap();
    reader.finish().unwrap();
    proof.array_of(3).unwrap();
    let (size, index) = (proof.uint().unwrap(), proof.uint().unwrap());
    let path = (0..proof.array().unwrap()).map(|_| proof.hash().unwrap()).collect();
    proof.finish().unwrap();
    Cose { protected, size, index, path, signature }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_cose_receipt_proves_the_header_and_is_signed_over_the_root_and_the_size(
        (size, number) in (2_u64..70).prop_flat_map(|size| (Just(size), 0..size)),
    ) {
        let maker = Maker { log_size: size, number, anchors: Vec::new(), ..Maker::default() };
        let receipt = maker.make();
        let key = log_key(&maker.origin);
        let cose = cose::receipt(&receipt.batch.header, &receipt.log, &key).unwrap();
        prop_assert_eq!(&cose, &cose::receipt(&receipt.batch.header, &receipt.log, &key).unwrap());
        let cose = read_cose(&cose);
        prop_assert_eq!((cose.size, cose.index), (size, number));

        let text = Note::parse(&receipt.log.checkpoint).unwrap().text();
        let root = Checkpoint::parse(text).unwrap().root;
        let leaf = Algorithm::Sha256.leaf(&receipt.batch.header);
        prop_assert_eq!(verify_inclusion(Algorithm::Sha256, &leaf, number, size, &cose.path, &root), Ok(()));

        let mut protected = Vec::new();
        let mut writer = Writer::new(&mut protected);
        writer.map(4).uint(1).int(-8).uint(4).bytes(&key.id().to_be_bytes());
        writer.uint(15).map(2).uint(1).text(&maker.origin).text("tree-size").uint(size);
        writer.uint(395).uint(1);
        prop_assert_eq!(cose.protected, &protected[..]);
        let mut signed = Vec::new();
        Writer::new(&mut signed).array(4).text("Signature1").bytes(&protected).bytes(&[]).bytes(root.as_bytes());
        prop_assert!(key.verifier().key().verify(&signed, &cose.signature).is_ok());
    }
}

#[test]
fn no_cose_receipt_is_signed_of_what_the_key_has_not_signed_before() {
    let maker = Maker { anchors: Vec::new(), ..Maker::default() };
    let Receipt { batch, log, .. } = maker.make();
    let key = log_key(&maker.origin);
    let sign = |note: &str, path: &[Hash]| {
        let mut log = log.clone();
        log.checkpoint = note.to_owned();
        log.path = path.to_vec();
        cose::receipt(&batch.header, &log, &key)
    };
    assert!(sign(&log.checkpoint, &log.path).is_ok());
    let not_signed = Err(CoseError::NotSigned { size: 9, key: maker.origin.clone() });

    // Another text under the signature, and a broken signature.
    let other = log.checkpoint.replacen(&maker.origin, &format!("{}\n9", maker.origin), 1);
    assert!(sign(&other, &log.path).is_err());
    let root = log.checkpoint.lines().nth(2).unwrap();
    let moved = log.checkpoint.replacen(root, &base64(&[7; 32]), 1);
    assert_eq!(sign(&moved, &log.path), not_signed);
    let line = log.checkpoint.lines().last().unwrap().rsplit(' ').next().unwrap();
    let mut signature = from_base64(line).unwrap();
    *signature.last_mut().unwrap() ^= 1;
    assert_eq!(sign(&log.checkpoint.replacen(line, &base64(&signature), 1), &log.path), not_signed);

    // Another key of the same name.
    let thief = killick_proof::signature::SecretKey::from_seed(&[9; 32]);
    let thief = killick_proof::note::SignerKey::new(&maker.origin, thief).unwrap();
    assert_eq!(cose::receipt(&batch.header, &log, &thief), not_signed);
    let own = Note::parse(&log.checkpoint).unwrap().with_signature(&thief).unwrap();
    assert!(sign(&own, &log.path).is_ok(), "signatures of others may stand beside it");

    // A batch that is not in the tree.
    let mut header = batch.header.clone();
    *header.last_mut().unwrap() ^= 1;
    assert_eq!(cose::receipt(&header, &log, &key), Err(CoseError::Proof(ProofError::Root)));
    assert!(matches!(
        sign(&log.checkpoint, &log.path[1..]),
        Err(CoseError::Proof(ProofError::Length { .. }))
    ));
}

#[test]
fn the_only_batch_of_a_log_other_hashes_and_other_logs_have_no_cose_receipt() {
    let cose = |maker: &Maker, key: &str| {
        let receipt = maker.make();
        cose::receipt(&receipt.batch.header, &receipt.log, &log_key(key))
    };
    let maker = Maker { anchors: Vec::new(), ..Maker::default() };
    let alone = Maker { log_size: 1, number: 0, ..maker.clone() };
    assert_eq!(cose(&alone, &alone.origin), Err(CoseError::OnlyLeaf));
    let origin = "plant.example/1/keccak256/7".to_owned();
    let keccak = Maker { origin, algorithm: Algorithm::Keccak256, ..maker.clone() };
    assert_eq!(cose(&keccak, &keccak.origin), Err(CoseError::Hash("keccak256".to_owned())));
    assert!(matches!(cose(&maker, "plant.example/1/sha256/8"), Err(CoseError::Log { .. })));
    let Receipt { batch, .. } = maker.make();
    let elsewhere = Maker { origin: "plant.example/2/sha256/7".to_owned(), ..maker.clone() }.make();
    let mixed = cose::receipt(&batch.header, &elsewhere.log, &log_key(&maker.origin));
    assert!(matches!(mixed, Err(CoseError::Log { .. })));
    assert!(matches!(cose::receipt(&[], &elsewhere.log, &log_key(&maker.origin)), Err(CoseError::Header(_))));
}
