use proptest::prelude::*;

use super::*;

fn fault(hex: &str) -> Option<CborFault> {
    let input = hex::decode(hex).unwrap();
    match scan(&input, 0, 64) {
        Err(error) => Some(error.fault),
        Ok(item) => item.breach.map(|breach| breach.fault),
    }
}

#[test]
fn an_integer_reads_back_and_only_in_its_shortest_form() {
    let edges = [0, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX];
    for value in edges {
        let mut shortest = Vec::new();
        Writer::new(&mut shortest).uint(value);
        assert_eq!(Reader::new(&shortest).uint(), Ok(value));
        for width in 0..4_u32 {
            let bytes = 1 << width;
            let mut padded = vec![0x18 + u8::try_from(width).unwrap()];
            padded.extend(&value.to_be_bytes()[8 - bytes..]);
            let fits = bytes == 8 || value >> (8 * bytes) == 0;
            if fits && padded.len() > shortest.len() {
                assert_eq!(
                    Reader::new(&padded).uint().unwrap_err().fault,
                    CborFault::NotShortest,
                    "{value} {width}"
                );
            }
        }
    }
    for value in [0, 1, -1, -24, -25, -256, -257, i64::MIN, i64::MAX] {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes).int(value);
        assert_eq!(Reader::new(&bytes).int(), Ok(value));
    }
    let below = [0x3b, 0x80, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(Reader::new(&below).int().unwrap_err().fault, CborFault::Range);
}

#[test]
fn another_kind_is_named() {
    let undefined = Reader::new(&[0xf7]).null().unwrap_err();
    assert_eq!(undefined.to_string(), "undefined where null is expected at byte 0");
    let mut reader = Reader::new(&[0x01, 0x61, 0x61]);
    reader.uint().unwrap();
    assert_eq!(
        reader.uint().unwrap_err().to_string(),
        "a text string where an unsigned integer is expected at byte 1"
    );
}

#[test]
fn indefinite_lengths_trailing_bytes_and_lengths_beyond_the_input_are_refused() {
    let fault = |error: CborError| error.fault;
    assert_eq!(Reader::new(&[0x9f, 0xff]).array().map_err(fault), Err(CborFault::Indefinite));
    assert_eq!(Reader::new(&[0x5f, 0xff]).bytes().map_err(fault), Err(CborFault::Indefinite));
    assert_eq!(Reader::new(&[0x82, 0x00]).array().map_err(fault), Err(CborFault::End));
    assert_eq!(
        Reader::new(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).array().map_err(fault),
        Err(CborFault::End)
    );
    assert_eq!(
        Reader::new(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).bytes().map_err(fault),
        Err(CborFault::End)
    );
    assert_eq!(Reader::new(&[0x61, 0xff]).text().map_err(fault), Err(CborFault::NotUtf8));
    let mut reader = Reader::new(&[0x00, 0x00]);
    reader.uint().unwrap();
    assert_eq!(reader.finish(), Err(CborFault::Trailing.at(1)));
}

#[test]
fn floats_have_one_shortest_form() {
    for shortest in [
        "f90000",
        "f98000",
        "f93c00",
        "f97bff",
        "f90001",
        "f903ff",
        "f90400",
        "f97c00",
        "f97e00",
        "f97e01",
        "fa47c35000",
        "fa7f7fffff",
        "fa33000000",
        "fa33400000",
        "fa477ff000",
        "fa7f800001",
        "fb3ff199999999999a",
        "fb7e37e43c8800759c",
        "fb36a0000000000000",
        "fb0000000000000001",
        "fb7ff0000000000001",
    ] {
        let expected = (shortest == "fb36a0000000000000").then_some(CborFault::NotShortest);
        assert_eq!(fault(shortest), expected, "{shortest}");
    }
    for longer in [
        "fa00000000",
        "fa3f800000",
        "fa477fe000",
        "fa33800000",
        "fa387fc000",
        "fa38800000",
        "fa7f800000",
        "fa7fc00000",
        "fb0000000000000000",
        "fb40f86a0000000000",
        "fb7ff0000000000000",
        "fb7ff8000000000000",
        "fb3e70000000000000",
    ] {
        assert_eq!(fault(longer), Some(CborFault::NotShortest), "{longer}");
    }
}

#[test]
fn map_keys_ascend_and_occur_once() {
    assert_eq!(fault("a3010061610080f6"), None); // 1, "a", []
    assert_eq!(fault("a26161000100"), Some(CborFault::KeyOrder));
    assert_eq!(fault("a201000100"), Some(CborFault::DuplicateKey));
    assert_eq!(fault("a2a1010200a1010300"), None); // maps as keys
    assert_eq!(fault("a2a1010300a1010200"), Some(CborFault::KeyOrder));
    assert_eq!(fault("81a201000100"), Some(CborFault::DuplicateKey));
}

#[test]
fn depth_costs_no_stack_and_has_a_bound() {
    for first in [0x81, 0xc1, 0x9f] {
        let deep = vec![first; 1 << 20];
        assert_eq!(scan(&deep, 0, 32).unwrap_err(), CborFault::TooDeep.at(32));
        assert_eq!(scan(&deep, 0, usize::MAX).unwrap_err().fault, CborFault::End);
    }
    let mut just = vec![0x81; 32];
    just.push(0x00);
    assert_eq!(scan(&just, 0, 32), Ok(Item { end: 33, breach: None }));
    assert_eq!(scan(&just, 0, 31).unwrap_err(), CborFault::TooDeep.at(31));
}

#[test]
fn a_skipped_item_is_held_against_the_rules() {
    let input = hex::decode("83a1616101f61818").unwrap();
    let mut reader = Reader::new(&input);
    reader.array_of(3).unwrap();
    assert_eq!(reader.skip(32).unwrap(), &input[1..5]);
    assert_eq!(reader.is_null(), Ok(true));
    assert_eq!(reader.skip(0).unwrap(), &input[6..]);
    reader.finish().unwrap();
    assert_eq!(Reader::new(&[0x18, 0x00]).skip(32).unwrap_err().fault, CborFault::NotShortest);
}

/// A deterministic item as a tree of values, written by the writer.
fn item() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        any::<u64>().prop_map(|value| written(|w| {
            w.uint(value);
        })),
        any::<i64>().prop_map(|value| written(|w| {
            w.int(value);
        })),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|value| written(|w| {
            w.bytes(&value);
        })),
        ".{0,20}".prop_map(|value| written(|w| {
            w.text(&value);
        })),
        Just(written(|w| {
            w.null();
        })),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(|items| [
                written(|w| {
                    w.array(items.len());
                }),
                items.concat()
            ]
            .concat()),
            proptest::collection::btree_map(inner.clone(), inner, 0..6).prop_map(|pairs| {
                let mut out = written(|w| {
                    w.map(pairs.len());
                });
                pairs.iter().for_each(|(key, value)| out.extend([&key[..], value].concat()));
                out
            }),
        ]
    })
}

fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut Writer::new(&mut out));
    out
}

proptest! {
    #[test]
    fn what_is_written_is_deterministic_and_ends_where_it_ends(bytes in item(), behind in any::<u8>()) {
        let item = scan(&[&bytes[..], &[behind]].concat(), 0, 32).unwrap();
        prop_assert_eq!(item, Item { end: bytes.len(), breach: None });
        for cut in 0..bytes.len() {
            prop_assert!(scan(&bytes[..cut], 0, 32).is_err());
        }
    }

    #[test]
    fn no_input_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut reader = Reader::new(&bytes);
        while reader.skip(32).is_ok() {}
        let reader = Reader::new(&bytes);
        let _ = (reader.clone().uint(), reader.clone().int(), reader.clone().text(), reader.clone().bytes());
        let _ = (reader.clone().array(), reader.clone().map(), reader.clone().bool(), reader.clone().null(), reader.kind());
    }
}
