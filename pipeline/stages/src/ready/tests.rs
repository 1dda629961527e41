use super::*;

fn block() -> Block {
    Block {
        network: "development".into(),
        chain: 4,
        height: 7,
        hash: "h".into(),
        time: 1_777_888_999_000_001,
    }
}

fn proof() -> ProofReady {
    ProofReady {
        origin: "plant.example/1/sha256/7".into(),
        number: 5_123,
        batch: "id".into(),
        leaves: 2,
        first_time: -1,
        last_time: 1,
        tenants: vec!["acme".into(), "plant".into()],
        size: 5_200,
        block: Some(block()),
        header: Bytes::from_static(b"header"),
        statements: vec![Bytes::from_static(b"one"), Bytes::new()],
        path: vec![[7; 32], [8; 32]],
        checkpoint: "note\n".into(),
        anchors: vec!["{}".into()],
    }
}

fn receipt() -> ReceiptReady {
    ReceiptReady {
        tenant: "plant".into(),
        source: "urn:press/1".into(),
        id: "a b".into(),
        time: 5,
        kind: "reading".into(),
        batch: "id".into(),
        index: 1,
        block: None,
        receipt: "{}".into(),
    }
}

#[test]
fn messages_read_back_and_begin_with_their_schema() {
    let value = proof().encode(0x0102_0304);
    assert_eq!(value[..5], [0, 1, 2, 3, 4]);
    assert_eq!(ProofReady::decode(&value), Ok(proof()));
    let value = receipt().encode(0);
    assert_eq!(value[..5], [0; 5]);
    assert_eq!(ReceiptReady::decode(&value), Ok(receipt()));
}

#[test]
fn what_a_message_says_of_its_batch_is_read_without_its_events() {
    let value = proof().encode(1);
    let about = About {
        number: 5_123,
        leaves: 2,
        first_time: -1,
        tenants: vec!["acme".into(), "plant".into()],
        block: Some(block()),
    };
    assert_eq!(ProofReady::about(&value), Ok(about.clone()));
    // Only what stands before them.
    let head = (0..value.len()).find(|length| ProofReady::about(&value[..*length]).is_ok()).unwrap();
    assert!(head < value.len() - 70, "{head} of {}", value.len());
    assert_eq!(ProofReady::about(&value[..head]), Ok(about));
    assert_eq!(ProofReady::about(&value[5..]), Err(ReadyError::Framing));
}

#[test]
fn a_message_cut_anywhere_or_prolonged_or_unframed_is_none() {
    let value = proof().encode(1);
    for length in 0..value.len() {
        assert!(ProofReady::decode(&value.slice(..length)).is_err(), "{length}");
    }
    assert_eq!(
        ProofReady::decode(&[&value[..], &[0]].concat().into()),
        Err(ReadyError::Avro(AvroError::Trailing(1)))
    );
    let value = receipt().encode(1);
    for length in 0..value.len() {
        assert!(ReceiptReady::decode(&value[..length]).is_err(), "{length}");
    }
    assert_eq!(ReceiptReady::decode(&value[5..]), Err(ReadyError::Framing));
    let large = Bytes::from(vec![0; MAX_MESSAGE + 1]);
    assert_eq!(ProofReady::decode(&large), Err(ReadyError::TooLarge(MAX_MESSAGE + 1)));
}

fn headers_of(output: &Output) -> Vec<(&str, &str)> {
    let text = |value: &'_ Bytes| std::str::from_utf8(value).unwrap().to_owned().leak() as &str;
    output.headers.iter().map(|header| (&*header.name, text(&header.value))).collect()
}

#[test]
fn the_headers_are_those_of_a_cloud_event() {
    let id = Hash::new(std::array::from_fn(|at| at as u8));
    let headers = Headers::new(id, "plant.example/1/sha256/7", &block(), 1);
    let proof = headers.proof(7, &proof(), 0);
    assert_eq!(
        (proof.partition.to_string().as_str(), &proof.key[..]),
        ("proofs/7", id.to_string().as_bytes())
    );
    let trace = "00-000102030405060708090a0b0c0d0e0f-1011121314151617-01";
    assert_eq!(
        headers_of(&proof),
        [
            ("content-type", "application/avro"),
            ("ce_specversion", "1.0"),
            ("ce_id", &id.to_string()),
            ("ce_source", "killick:plant.example/1/sha256/7"),
            ("ce_type", "killick.proof.ready.v1"),
            ("ce_time", "2026-05-04T10:03:19.000001Z"),
            ("ce_subject", "5123"),
            ("traceparent", trace),
        ]
    );
    let receipt = headers.receipt(7, &receipt(), 0);
    let name = "plant/urn%3Apress%2F1/a%20b";
    assert_eq!((receipt.partition.to_string().as_str(), &receipt.key[..]), ("receipts/7", name.as_bytes()));
    let found = headers_of(&receipt);
    assert_eq!((found[2], found[6]), (("ce_id", &*format!("{id}/1")), ("ce_subject", name)));
    assert_eq!((found[4].1, found[7].1), ("killick.receipt.ready.v1", trace));
}

#[test]
fn a_correction_says_that_it_is_one_under_an_id_of_its_own() {
    let id = Hash::new([7; 32]);
    let [first, second] =
        [1, 2].map(|version| Headers::new(id, "plant.example/1/sha256/7", &block(), version));
    let (ready, corrected) = (first.proof(7, &proof(), 0), second.proof(7, &proof(), 0));
    assert_eq!((&ready.key, &ready.value), (&corrected.key, &corrected.value));
    let differing = |one: &Output, other: &Output| -> Vec<(String, String)> {
        let headers = headers_of(one).into_iter().zip(headers_of(other));
        let differing = headers.filter(|(one, other)| one != other);
        differing.map(|(_, (name, value))| (name.to_owned(), value.to_owned())).collect()
    };
    let expected = |name: &str, value: String| (name.to_owned(), value);
    assert_eq!(
        differing(&ready, &corrected),
        [expected("ce_id", format!("{id}/2")), expected("ce_type", "killick.proof.corrected.v1".to_owned()),]
    );
    let (ready, corrected) = (first.receipt(7, &receipt(), 0), second.receipt(7, &receipt(), 0));
    assert_eq!(
        differing(&ready, &corrected),
        [
            expected("ce_id", format!("{id}/1/2")),
            expected("ce_type", "killick.receipt.corrected.v1".to_owned()),
        ]
    );
}

#[test]
fn a_time_that_cannot_be_written_is_left_out() {
    for (time, written) in [
        (0, Some("1970-01-01T00:00:00.000000Z")),
        (-62_167_219_200_000_000, Some("0000-01-01T00:00:00.000000Z")),
        (-62_167_219_200_000_001, None),
        (253_402_300_799_999_999, Some("9999-12-31T23:59:59.999999Z")),
        (253_402_300_800_000_000, None),
        (Micros::MAX, None),
        (Micros::MIN, None),
    ] {
        assert_eq!(rfc3339(time).as_deref(), written, "{time}");
    }
    let headers = Headers::new(Hash::new([1; 32]), "o", &Block { time: Micros::MIN, ..block() }, 1);
    let names: Vec<_> =
        headers.proof(0, &proof(), 0).headers.iter().map(|header| header.name.to_string()).collect();
    assert!(HEADERS.into_iter().filter(|name| *name != "ce_time").eq(names));
}

#[test]
fn the_keys_of_two_events_are_never_the_same() {
    assert_eq!(event_key("a", "b", "c"), "a/b/c");
    assert_eq!(event_key("a", "b/c", "d~-._Z9"), "a/b%2Fc/d~-._Z9");
    assert_eq!(event_key("a", "%2F", "ü"), "a/%252F/%C3%BC");
    let largest = event_key(&"t".repeat(64), &"\u{e9}".repeat(128), &"/".repeat(256));
    assert_eq!(largest.len(), 64 + 1 + 768 + 1 + 768);
}
