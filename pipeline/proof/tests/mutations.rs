//! Changed receipts: whatever byte is changed, no other content is ever verified to the same level.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::path::Path;

use killick_proof::fault::Part;
use killick_proof::receipt::{Anchor, AnyAnchor, Parts, Receipt};
use killick_proof::report::{Level, Report};
use killick_proof::trust::Trust;
use killick_proof::verify::Verifier;
use proptest::prelude::*;

/// The receipts of the shared vectors that are trusted with `trust.json`, by name.
fn good() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/vectors/receipts");
    let mut receipts = Vec::new();
    for inner in ["good", "hashes"] {
        for entry in std::fs::read_dir(folder.join(inner)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            if Verifier::new(trust()).verify(&bytes, None).level == Level::Trusted {
                receipts.push((path.display().to_string(), bytes));
            }
        }
    }
    receipts.sort();
    assert!(receipts.len() >= 10, "{} receipts", receipts.len());
    receipts
}

fn trust() -> Trust {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/vectors/receipts/trust.json");
    Trust::parse(&std::fs::read(path).unwrap()).unwrap()
}

/// An anchor without the eight bytes that nothing authenticates.
fn without_position(anchor: &Anchor) -> Anchor {
    let mut anchor = anchor.clone();
    if let Some(position) = anchor.spv.object.get_mut(4..12) {
        position.fill(0);
    }
    anchor
}

/// Whether a changed receipt says nothing that the original did not say: it may have lost an anchor.
fn says_nothing_else(changed: &Parts, original: &Receipt) -> bool {
    let known: Vec<Anchor> = original.anchors.iter().map(without_position).collect();
    let is_known = |anchor: &Part<AnyAnchor>| match anchor {
        Ok(AnyAnchor::Chainweb(anchor)) => known.contains(&without_position(anchor)),
        Ok(AnyAnchor::Other(_)) | Err(_) => true,
    };
    changed.statement.as_ref() == Ok(&original.statement)
        && changed.batch.as_ref() == Ok(&original.batch)
        && changed.log.as_ref() == Ok(&original.log)
        && changed.anchors.as_ref().is_ok_and(|anchors| anchors.iter().all(is_known))
}

/// Holds the report of a changed file against the original: either it says the same, or it is not trusted.
fn check(report: &Report, changed: &[u8], original: &Receipt, said: impl Fn() -> String) {
    if report.level == Level::Trusted && report.wrong().is_none() {
        let parts = Parts::parse(changed).unwrap();
        assert!(says_nothing_else(&parts, original), "{}", said());
    } else {
        let fault = report.fault.as_ref().unwrap_or_else(|| panic!("{} stops without reason", said()));
        assert!(!fault.to_string().is_empty(), "{}", said());
    }
}

/// Changes every byte in several ways; one verifier sees them all.
fn change_every_byte(name: &str, form: &[u8], original: &Receipt) {
    let mut verifier = Verifier::new(trust());
    for at in 0..form.len() {
        let was = form[at];
        for other in [was ^ 0x01, was ^ 0x20, was.wrapping_add(1), b'A', 0xff] {
            if other == was {
                continue;
            }
            let mut changed = form.to_vec();
            changed[at] = other;
            let report = verifier.verify(&changed, None);
            check(&report, &changed, original, || {
                format!("{name}: byte {at} from {was:#04x} to {other:#04x}")
            });
        }
    }
}

#[test]
fn no_changed_byte_of_the_json_form_is_trusted_with_other_content() {
    for (name, json) in good() {
        change_every_byte(&name, &json, &Receipt::parse(&json).unwrap());
    }
}

#[test]
fn no_changed_byte_of_the_cbor_form_is_trusted_with_other_content() {
    for (name, json) in good() {
        let receipt = Receipt::parse(&json).unwrap();
        let cbor = receipt.to_cbor();
        assert_eq!(Verifier::new(trust()).verify(&cbor, None).level, Level::Trusted, "{name}");
        change_every_byte(&name, &cbor, &receipt);
    }
}

#[test]
fn the_two_forms_of_a_receipt_convert_into_each_other() {
    for (name, json) in good() {
        let receipt = Receipt::parse(&json).unwrap();
        let cbor = receipt.to_cbor();
        let again = Receipt::parse(&cbor).unwrap();
        assert_eq!(again, receipt, "{name}");
        assert_eq!(again.to_cbor(), cbor, "{name}");
        assert_eq!(Receipt::parse(again.to_json().as_bytes()).unwrap(), receipt, "{name}");
        for anchor in &receipt.anchors {
            assert_eq!(Anchor::parse(anchor.to_json().as_bytes()).as_ref(), Ok(anchor), "{name}");
        }
    }
}

#[test]
fn every_lost_or_doubled_byte_is_noticed() {
    let (name, json) = good().swap_remove(0);
    let original = Receipt::parse(&json).unwrap();
    let mut verifier = Verifier::new(trust());
    for form in [json, original.to_cbor()] {
        for at in 0..form.len() {
            let lost = [&form[..at], &form[at + 1..]].concat();
            let doubled = [&form[..at], &form[at..=at], &form[at..]].concat();
            for changed in [lost, doubled] {
                let report = verifier.verify(&changed, None);
                check(&report, &changed, &original, || format!("{name} around byte {at}"));
            }
        }
    }
}

/// Receipts of one log and one batch, of one batch with other anchors, and changed ones.
fn any_file() -> impl Strategy<Value = Vec<u8>> {
    let maker = (0..4usize, 1..3usize, prop::option::of(12..14u64), 0..3u8, any::<bool>()).prop_map(
        |(index, anchors, own, chain, is_signed)| {
            let chain = 4 + u32::from(chain);
            let anchor = support::AnchorMaker { own, chain, ..support::AnchorMaker::default() };
            let anchors = vec![anchor; anchors];
            support::Maker { index, anchors, is_signed, ..support::Maker::default() }.make()
        },
    );
    let change = prop::option::of((any::<prop::sample::Index>(), any::<u8>()));
    (maker, any::<bool>(), change).prop_map(|(receipt, is_cbor, change)| {
        let mut file = if is_cbor { receipt.to_cbor() } else { receipt.to_json().into_bytes() };
        if let Some((at, byte)) = change {
            let at = at.index(file.len());
            file[at] = byte;
        }
        file
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_a_verifier_remembers_changes_no_result(files in prop::collection::vec(any_file(), 1..12), until in prop::option::of(0..3i64)) {
        let maker = support::Maker::default();
        let mut trust = maker.trust(&maker.make());
        trust.logs[0].until = until.map(|until| 1_790_000_099_999_999 + until);
        let trust = Trust::new(&trust).unwrap();
        let mut remembering = Verifier::new(trust.clone());
        for file in files.iter().chain(&files) {
            let alone = Verifier::new(trust.clone()).verify(file, None);
            prop_assert_eq!(remembering.verify(file, None), alone);
        }
    }

    #[test]
    fn no_file_makes_a_verifier_panic(file in prop::collection::vec(any::<u8>(), 0..400), is_map: bool) {
        let file = if is_map { [vec![0xa5], file].concat() } else { file };
        let report = Verifier::default().verify(&file, None);
        prop_assert_eq!(report.level, Level::None);
    }
}
