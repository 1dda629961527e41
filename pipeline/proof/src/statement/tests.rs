use proptest::prelude::*;

use super::*;
use crate::cbor::{CborFault, Kind};
use crate::signature::SecretKey;

fn event() -> Event<'static> {
    Event {
        tenant: "acme",
        source: "urn:dev:mill-7",
        id: "2026-05-04/000017",
        time: 1_777_888_999_000_000,
        kind: "temperature",
        digest: Hash::new([0xd1; 32]),
    }
}

fn signed(key: &SecretKey) -> Vec<u8> {
    let signature = key.sign(&event().signing_bytes().unwrap());
    let public = key.public();
    let attestation = Attestation::Signed { key: public.as_bytes(), signature: &signature };
    Statement { event: event(), attestation }.encode().unwrap()
}

fn unsigned() -> Statement<'static> {
    Statement { event: event(), attestation: Attestation::Unsigned { salt: &[0x5a; 16] } }
}

#[test]
fn a_signed_statement_verifies_under_its_own_key_only() {
    let key = SecretKey::from_seed(&[1; 32]);
    let bytes = signed(&key);
    let statement = Statement::decode(&bytes).unwrap();
    assert_eq!(statement.event, event());
    assert_eq!(statement.verify(), Ok(()));
    assert_eq!(statement.verify_with(&key.public()), Ok(()));
    let other = SecretKey::from_seed(&[2; 32]).public();
    assert_eq!(statement.verify_with(&other), Err(StatementError::Signature(SignatureError)));
}

#[test]
fn the_signing_bytes_are_the_prefix_and_an_array_of_six() {
    let event = Event { tenant: "a", source: "s", id: "i", time: -1, kind: "", digest: Hash::new([0; 32]) };
    let expected = [b"killick/event/v1\n\x86\x61a\x61s\x61i\x20\x60\x58\x20".as_slice(), &[0; 32]].concat();
    assert_eq!(event.signing_bytes().unwrap(), expected);
    assert_eq!(event.encode().unwrap(), &expected[SIGNING_PREFIX.len()..]);
}

#[test]
fn no_changed_byte_of_a_signed_statement_verifies() {
    let bytes = signed(&SecretKey::from_seed(&[1; 32]));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x01;
        let verdict = Statement::decode(&changed).and_then(|statement| statement.verify());
        assert!(verdict.is_err(), "byte {at}");
    }
}

#[test]
fn every_change_of_a_byte_is_refused_or_means_something_else() {
    let key = SecretKey::from_seed(&[1; 32]);
    for bytes in [signed(&key), unsigned().encode().unwrap()] {
        let statement = Statement::decode(&bytes).unwrap();
        for (at, flip) in (0..bytes.len()).flat_map(|at| (1..=255).map(move |flip| (at, flip))) {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            if let Ok(other) = Statement::decode(&changed) {
                assert_ne!(other, statement, "byte {at}");
                assert_eq!(other.encode().unwrap(), changed, "byte {at}");
            }
        }
    }
}

#[test]
fn a_cut_or_lengthened_statement_is_refused() {
    let bytes = unsigned().encode().unwrap();
    for cut in 0..bytes.len() {
        assert!(Statement::decode(&bytes[..cut]).is_err(), "{cut}");
    }
    let longer = [&bytes[..], &[0xf6]].concat();
    assert_eq!(
        Statement::decode(&longer).unwrap_err().to_string(),
        format!("statement: the item has ended and bytes follow at byte {}", bytes.len())
    );
}

#[test]
fn each_field_names_itself() {
    let long = "x".repeat(257);
    let wide = "ä".repeat(129);
    let tenant = "t".repeat(65);
    let cases = [
        (Event { tenant: "", ..event() }, "tenant: 0 bytes, not 1 to 64"),
        (Event { tenant: &tenant, ..event() }, "tenant: 65 bytes, not 1 to 64"),
        (Event { tenant: "Acme", ..event() }, "tenant: only a-z 0-9 . _ - are allowed"),
        (Event { tenant: "a/b", ..event() }, "tenant: only a-z 0-9 . _ - are allowed"),
        (Event { source: "", ..event() }, "source: 0 bytes, not 1 to 256"),
        (Event { source: &wide, ..event() }, "source: 258 bytes, not 1 to 256"),
        (Event { source: "a\0", ..event() }, "source: the control character U+0000 is not allowed"),
        (Event { source: "\u{1b}[2J", ..event() }, "source: the control character U+001B is not allowed"),
        (Event { source: "ä\u{85}", ..event() }, "source: the control character U+0085 is not allowed"),
        (Event { id: "", ..event() }, "id: 0 bytes, not 1 to 256"),
        (Event { id: &long, ..event() }, "id: 257 bytes, not 1 to 256"),
        (Event { id: "a\u{9f}", ..event() }, "id: the control character U+009F is not allowed"),
        (Event { kind: &long, ..event() }, "type: 257 bytes, not 0 to 256"),
        (Event { kind: "a\nb", ..event() }, "type: the control character U+000A is not allowed"),
        (Event { kind: "\u{7f}", ..event() }, "type: the control character U+007F is not allowed"),
    ];
    for (event, expected) in cases {
        let error = event.check().unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(event.signing_bytes(), Err(error));
        let statement = Statement { event, ..unsigned() };
        assert_eq!(statement.encode(), Err(error));
        assert_eq!(event.unsalted(), Err(error));
        let mut bytes = vec![0x8a, 0x01];
        event.write_fields(&mut bytes);
        bytes.extend([0xf6, 0xf6, 0x50]);
        bytes.extend([0; 16]);
        assert_eq!(Statement::decode(&bytes), Err(error), "decoded");
    }
    assert_eq!(Event { kind: "", source: "\u{a0}é", ..event() }.check(), Ok(()));
}

#[test]
fn key_and_signature_stand_both_or_neither_and_the_salt_where_they_do_not() {
    let start = {
        let mut bytes = vec![0x8a, 0x01];
        event().write_fields(&mut bytes);
        bytes
    };
    let key = [&[0x58, 0x20][..], &[3; 32]].concat();
    let signature = [&[0x58, 0x40][..], &[4; 64]].concat();
    let salt = [&[0x50][..], &[5; 16]].concat();
    let null = vec![0xf6];
    let undefined = vec![0xf7];
    let decode = |fields: [&Vec<u8>; 3]| {
        Statement::decode(&[&start, fields[0], fields[1], fields[2]].map(|part| &part[..]).concat()).map(drop)
    };
    assert_eq!(decode([&key, &signature, &null]), Ok(()));
    assert_eq!(decode([&null, &null, &salt]), Ok(()));
    let wrong: [([&Vec<u8>; 3], &str); 8] = [
        ([&key, &null, &null], "signature"),
        ([&key, &signature, &salt], "salt"),
        ([&null, &signature, &salt], "signature"),
        ([&null, &null, &null], "salt"),
        ([&undefined, &undefined, &salt], "public key"),
        ([&null, &null, &key], "salt"),
        ([&signature, &key, &null], "public key"),
        ([&key, &key, &null], "signature"),
    ];
    for (fields, field) in wrong {
        let error = decode(fields).unwrap_err();
        assert!(
            matches!(error, StatementError::Encoding { field: named, .. } if named == field),
            "{field}: {error}"
        );
    }
}

#[test]
fn an_encoding_that_is_not_the_shortest_is_refused() {
    let bytes = unsigned().encode().unwrap();
    let padded_version = [&[0x8a, 0x18, 0x01], &bytes[2..]].concat();
    let padded_array = [&[0x98, 0x0a], &bytes[1..]].concat();
    let indefinite = [&[0x9f], &bytes[1..], &[0xff]].concat();
    let padded_text = [&bytes[..2], &[0x78, 0x04], &bytes[3..]].concat();
    let map = [&[0xa5], &bytes[1..]].concat();
    let fault = |bytes: &[u8]| match Statement::decode(bytes) {
        Err(StatementError::Encoding { cause, .. }) => cause.fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(&padded_version), CborFault::NotShortest);
    assert_eq!(fault(&padded_array), CborFault::NotShortest);
    assert_eq!(fault(&indefinite), CborFault::Indefinite);
    assert_eq!(fault(&padded_text), CborFault::NotShortest);
    assert_eq!(fault(&map), CborFault::Kind { expected: Kind::Array, found: Kind::Map });
    assert_eq!(Statement::decode(&[&[0x8a, 0x02], &bytes[2..]].concat()), Err(StatementError::Version(2)));
}

fn text(least: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>().prop_filter("no control", |c| !c.is_control()), least..64)
        .prop_map(|characters| characters.into_iter().collect())
}

proptest! {
    #[test]
    fn a_statement_decodes_to_what_was_encoded(
        tenant in "[a-z0-9._-]{1,64}", source in text(1), id in text(1), time in any::<i64>(), kind in text(0),
        digest in any::<[u8; 32]>(), key in any::<[u8; 32]>(), halves in any::<[[u8; 32]; 2]>(),
        salt in any::<[u8; 16]>(), is_signed in any::<bool>(),
    ) {
        let signature: [u8; 64] = halves.concat().try_into().unwrap();
        let attestation = if is_signed {
            Attestation::Signed { key: &key, signature: &signature }
        } else {
            Attestation::Unsigned { salt: &salt }
        };
        let event = Event { tenant: &tenant, source: &source, id: &id, time, kind: &kind, digest: Hash::new(digest) };
        let statement = Statement { event, attestation };
        let bytes = statement.encode().unwrap();
        prop_assert_eq!(Statement::decode(&bytes), Ok(statement));
        prop_assert_eq!(bytes.capacity(), bytes.len(), "there was room for all of it, and no more");
        let unsalted = event.unsalted().unwrap();
        prop_assert_eq!(unsalted.event().concat(), event.encode().unwrap());
        let unsigned = unsalted.encode(&salt);
        prop_assert_eq!(unsigned.capacity(), unsigned.len());
        let statement = Statement { event, attestation: Attestation::Unsigned { salt: &salt } };
        prop_assert_eq!(unsigned, statement.encode().unwrap());
    }

    #[test]
    fn no_input_makes_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Statement::decode(&bytes);
        let _ = Statement::decode(&[&[0x8a, 0x01], &bytes[..]].concat());
    }
}
