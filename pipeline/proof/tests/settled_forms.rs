//! The settled cases of the receipt format that are about how a file is written.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use killick_proof::Hash;
use killick_proof::receipt::{MAX_RECEIPT, Receipt};
use killick_proof::report::{Level, Report};
use support::{Maker, missing, verify, verify_json, wrong};

/// The JSON of a receipt that is trusted, changed as text.
fn changed(from: &str, to: &str) -> Report {
    let maker = Maker::default();
    let receipt = maker.make();
    let json = receipt.to_json();
    assert!(json.contains(from), "{from:?} is not in\n{json}");
    verify_json(&json.replacen(from, to, 1), &maker.trust(&receipt))
}

#[test]
fn a_receipt_and_its_cbor_twin_are_trusted_and_convert_into_each_other() {
    let maker = Maker::default();
    let receipt = maker.make();
    let report = verify(&receipt, &maker.trust(&receipt));
    assert_eq!((report.level, report.fault), (Level::Trusted, None));
    let (json, cbor) = (receipt.to_json(), receipt.to_cbor());
    assert_eq!(Receipt::parse(json.as_bytes()).unwrap(), receipt);
    assert_eq!(Receipt::parse(&cbor).unwrap(), receipt);
    assert_eq!(Receipt::parse(&cbor).unwrap().to_json(), json);
    assert_eq!(Receipt::parse(json.as_bytes()).unwrap().to_cbor(), cbor);
}

#[test]
fn a_member_twice_is_wrong_anywhere() {
    assert_eq!(changed("{", "{\"x\":{\"a\":1,\"a\":1},").wrong().unwrap().field, "x");
    assert!(wrong(&changed("\"index\": 3,", "\"index\": 3, \"index\": 3,")).contains("twice"));
    assert!(wrong(&changed("\"index\": 3,", "\"index\": 3, \"ind\\u0065x\": 3,")).contains("twice"));
}

#[test]
fn names_count_byte_for_byte() {
    assert_eq!(
        changed("{", "{\"Statement\": 1, \"STATEMENT\": 2, \"statement\\u0000\": 3,").level,
        Level::Trusted
    );
    assert_eq!(changed("\"statement\"", "\"st\\u0061tement\"").level, Level::Trusted);
    assert_eq!(missing(&changed("\"statement\"", "\"Statement\"")), "statement: is absent");
}

#[test]
fn marks_surrogates_depth_and_numbers_without_bounds_are_wrong() {
    let unknown = |value: &str| changed("{", &format!("{{\"x\":{value},"));
    assert!(wrong(&changed("{", "\u{feff}{")).contains("byte order mark"));
    assert!(wrong(&unknown("\"\\ud800\"")).contains("lone surrogate"));
    assert_eq!(unknown(&format!("{}{}", "[".repeat(31), "]".repeat(31))).level, Level::Trusted);
    assert!(wrong(&unknown(&format!("{}{}", "[".repeat(32), "]".repeat(32)))).contains("deeper than 32"));
    assert_eq!(unknown(&"9".repeat(64)).level, Level::Trusted);
    assert!(wrong(&unknown(&"9".repeat(65))).contains("64 characters"));
    assert_eq!(unknown("-0.0e-308").level, Level::Trusted);
    assert!(wrong(&unknown("1e999")).contains("not finite"));
}

#[test]
fn a_known_number_is_a_plain_decimal() {
    for bad in ["03", "3.0", "3e0", "30e-1", "-3", "-0", "9007199254740992", "\"3\"", "true", "null", "[3]"] {
        let report = changed("\"index\": 3", &format!("\"index\": {bad}"));
        wrong(&report);
        assert!(report.wrong().unwrap().field.starts_with("batch"), "{bad}: {report:#?}");
    }
    assert_eq!(changed("\"size\": 3", "\"size\": 3.0").wrong().unwrap().field, "anchors[0].tree.size");
    assert_eq!(
        changed("\"height\": 1000", "\"height\": 1e3").wrong().unwrap().field,
        "anchors[0].block.height"
    );
}

#[test]
fn a_file_without_format_is_wrong_and_another_format_is_not_understood() {
    assert_eq!(changed("\"format\"", "\"Format\"").wrong().unwrap().field, "format");
    assert_eq!(changed("\"killick-receipt/1\"", "1").wrong().unwrap().field, "format");
    let other = changed("killick-receipt/1", "killick-receipt/11");
    assert_eq!(other.level, Level::None);
    assert!(missing(&other).starts_with("format: "), "{other:#?}");
}

#[test]
fn base64url_has_one_spelling() {
    let maker = Maker::default();
    let receipt = maker.make();
    let json = receipt.to_json();
    let root = receipt.anchors[0].tree.root.to_string();
    let last = root.chars().last().unwrap();
    // 43 characters have two unused bits: the next character of the alphabet sets one of them.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    let spellings = [
        format!("{root}="),
        format!("{root} "),
        format!(" {root}"),
        format!("{root}\\n"),
        format!("{}{next}", &root[..42]),
        root[..42].to_owned(),
        format!("{root}A"),
        format!("+{}", &root[1..]),
        format!("/{}", &root[1..]),
        String::new(),
    ];
    for spelling in spellings {
        let report = verify_json(&json.replacen(&root, &spelling, 1), &maker.trust(&receipt));
        assert_eq!(
            report.wrong().map(|wrong| wrong.field.as_str()),
            Some("anchors[0].tree.root"),
            "{spelling:?}"
        );
    }
}

#[test]
fn trailing_bytes_are_wrong_everywhere() {
    let maker = Maker::default();
    let receipt = maker.make();
    let trust = maker.trust(&receipt);
    let field = |receipt: &Receipt| verify(receipt, &trust).wrong().unwrap().field.clone();

    let mut longer = maker.make_of([maker.statement(), vec![0xf6]].concat());
    longer.anchors.clear();
    assert_eq!(field(&longer), "statement");
    let mut longer = receipt.clone();
    longer.batch.header.push(0);
    assert_eq!(field(&longer), "batch.header");
    let mut longer = receipt.clone();
    longer.log.checkpoint.push('\n');
    assert_eq!(field(&longer), "log.checkpoint");
    let mut longer = receipt.clone();
    longer.anchors[0].spv.object.push(0);
    assert_eq!(field(&longer), "anchors[0].spv.object");
    let mut longer = receipt.clone();
    longer.anchors[0].spv.input.push(b' ');
    assert_eq!(field(&longer), "anchors[0].spv.object", "spaces are JSON, and another output");
    let mut longer = receipt.clone();
    longer.anchors[0].spv.input.extend_from_slice(b"{}");
    assert_eq!(field(&longer), "anchors[0].spv.subject.input");
    let mut longer = receipt.clone();
    longer.anchors[0].block.header.push(0);
    assert_eq!(field(&longer), "anchors[0].block.header");

    wrong(&verify_json(&format!("{}x", receipt.to_json()), &trust));
    wrong(&verify_json(&format!("{}\0", receipt.to_json()), &trust));
    let cbor = [receipt.to_cbor(), vec![0]].concat();
    assert!(Receipt::parse(&cbor).is_err());
}

#[test]
fn paths_and_spv_proofs_have_bounds() {
    let maker = Maker::default();
    let receipt = maker.make();
    let trust = maker.trust(&receipt);
    for long in [64, 65] {
        let mut receipt = receipt.clone();
        receipt.batch.path = vec![Hash::new([0; 32]); long];
        let said = wrong(&verify(&receipt, &trust));
        assert_eq!(said.contains("no tree needs more than 64"), long == 65, "{said}");
    }
    for steps in [512, 513_usize] {
        let mut receipt = receipt.clone();
        let head = [&u32::try_from(steps).unwrap().to_be_bytes()[..], &[0; 8]].concat();
        receipt.anchors[0].spv.object = [head, vec![0; 33 * steps]].concat();
        let said = wrong(&verify(&receipt, &trust));
        assert_eq!(said.contains("at most 512 steps"), steps == 513, "{said}");
    }
}

#[test]
fn a_receipt_has_at_most_one_mebibyte() {
    let maker = Maker::default();
    let receipt = maker.make();
    let trust = maker.trust(&receipt);
    let json = receipt.to_json();
    let padded = |length: usize| format!("{json}{}", " ".repeat(length - json.len()));
    assert_eq!(verify_json(&padded(MAX_RECEIPT), &trust).level, Level::Trusted);
    assert!(wrong(&verify_json(&padded(MAX_RECEIPT + 1), &trust)).contains("at most 1048576 bytes"));
}

#[test]
fn a_subject_has_an_input_and_nothing_else() {
    let field = "anchors[0].spv.subject";
    let input = "\"subject\": {";
    for more in ["\"tree\": 1,", "\"x\": null,", "\"Input\": 1,"] {
        let report = changed(input, &format!("{input}{more}"));
        assert_eq!(report.wrong().unwrap().field, field, "{more}");
    }
    assert_eq!(changed("\"input\"", "\"Input\"").wrong().unwrap().field, field);
}

#[test]
fn unknown_members_are_ignored_everywhere_else() {
    let places = [
        "{\n  \"format\"",
        "\"header\": \"jA",
        "\"checkpoint\"",
        "\"type\"",
        "\"root\"",
        "\"chain\": 4",
        "\"network\"",
    ];
    for place in places {
        let at = place.rfind("\"").map_or(0, |_| place.find('"').unwrap());
        let more = format!("{}\"unknown\": {{\"a\": [null, true, 1.5]}}, {}", &place[..at], &place[at..]);
        assert_eq!(changed(place, &more).level, Level::Trusted, "{place}");
    }
}

#[test]
fn every_member_of_another_type_is_wrong() {
    let maker = Maker::default();
    let receipt = maker.make();
    let trust = maker.trust(&receipt);
    let whole: serde_json::Value = serde_json::from_str(&receipt.to_json()).unwrap();
    let mut pointers = Vec::new();
    all_members(&whole, String::new(), &mut pointers);
    assert!(pointers.len() > 30, "{pointers:?}");
    for pointer in pointers {
        for other in ["null", "true", "{}", "[]", "1.5", "\"\""] {
            let mut changed = whole.clone();
            let member = changed.pointer_mut(&pointer).unwrap();
            let other: serde_json::Value = serde_json::from_str(other).unwrap();
            let kind = std::mem::discriminant(&other);
            // An empty container or text of the right type lacks members or is another content: other tests.
            if std::mem::discriminant(member) == kind && !other.is_number() {
                continue;
            }
            *member = other;
            let report = verify_json(&changed.to_string(), &trust);
            let wrong = report.wrong().unwrap_or_else(|| panic!("{pointer} accepted: {report:#?}"));
            let first = pointer.split('/').nth(1).unwrap();
            assert!(wrong.field.starts_with(first), "{pointer}: {wrong}");
        }
    }
}

#[test]
fn without_any_one_member_a_receipt_stops_at_its_level() {
    let maker = Maker::default();
    let receipt = maker.make();
    let trust = maker.trust(&receipt);
    let whole: serde_json::Value = serde_json::from_str(&receipt.to_json()).unwrap();
    let mut pointers = Vec::new();
    all_members(&whole, String::new(), &mut pointers);
    for pointer in pointers.iter().filter(|pointer| !pointer.ends_with(|last: char| last.is_ascii_digit())) {
        let mut changed = whole.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        changed.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
        let report = verify_json(&changed.to_string(), &trust);
        let level = match pointer.split('/').nth(1).unwrap() {
            "format" => {
                assert_eq!(wrong(&report), "format: is absent: no receipt");
                continue;
            }
            "statement" => Level::None,
            "batch" => Level::Stated,
            "log" => Level::Batched,
            _ => Level::Logged,
        };
        assert_eq!(report.level, level, "{pointer}");
        let field = pointer[1..].replace("/0/", "[0].").replace('/', ".");
        assert_eq!(missing(&report), format!("{field}: is absent"));
    }
}

/// The pointers of all members and items below a value.
fn all_members(value: &serde_json::Value, at: String, pointers: &mut Vec<String>) {
    let members: Vec<(String, &serde_json::Value)> = match value {
        serde_json::Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), value)).collect()
        }
        serde_json::Value::Array(items) => {
            items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (name, value) in members {
        let pointer = format!("{at}/{name}");
        pointers.push(pointer.clone());
        all_members(value, pointer, pointers);
    }
}

#[test]
fn cbor_has_to_be_deterministic() {
    let maker = Maker::default();
    let receipt = maker.make();
    let cbor = receipt.to_cbor();
    assert_eq!(cbor[0], 0xa5, "a map of five");
    assert_eq!(&cbor[1..5], b"\x63log", "the shortest key comes first");
    let refused = |bytes: Vec<u8>| Receipt::parse(&bytes).unwrap_err().to_string();
    let replaced = |from: &[u8], to: &[u8]| {
        let at = cbor.windows(from.len()).position(|window| window == from).unwrap();
        [&cbor[..at], to, &cbor[at + from.len()..]].concat()
    };

    refused([&[0xb8, 5], &cbor[1..]].concat());
    refused([&[0xbf], &cbor[1..], &[0xff]].concat());
    refused(replaced(b"\x65index\x03", b"\x65index\x18\x03"));
    refused(replaced(b"\x65index\x03", b"\x65index\xf7"));
    refused(replaced(b"\x65index\x03", b"\x65index\xf9\x42\x00"));
    refused(replaced(b"\x65index\x03", b"\x65index\x20"));
    refused(replaced(b"\x65index\x03", b"\x65index\x1b\x00\x20\x00\x00\x00\x00\x00\x00"));
    refused(replaced(b"\x63log", b"\x63loz\x01\x63log"));
    refused(cbor[..cbor.len() - 1].to_vec());
    refused(vec![0xa0]);
    refused(vec![0xa1, 0x66]);

    // Unknown members are ignored, whatever they are, as long as they are deterministic.
    let more = |value: &[u8]| Receipt::parse(&[&[0xa6, 0x61, b'x'], value, &cbor[1..]].concat()).ok();
    for value in
        [&b"\xf7"[..], b"\xf9\x3e\x00", b"\xc1\x00", b"\xa1\x01\x02", b"\x20", b"\x81\xa1\x40\xf6", b"\xe0"]
    {
        assert_eq!(more(value).as_ref(), Some(&receipt), "{value:02x?}");
    }
    for value in
        [&b"\xfa\x3f\xc0\x00\x00"[..], b"\x9f\xff", b"\xa2\x02\x00\x01\x00", b"\xf8\x10", b"\x62\xc3\x28"]
    {
        assert_eq!(more(value), None, "{value:02x?}");
    }
    let deep = |depth: usize| [vec![0x81; depth], vec![0]].concat();
    assert!(more(&deep(31)).is_some());
    assert!(more(&deep(32)).is_none());
    assert!(more(&deep(500_000)).is_none());
}

#[test]
fn cbor_members_have_the_types_of_the_twin() {
    let receipt = Maker::default().make();
    let cbor = receipt.to_cbor();
    let root = receipt.anchors[0].tree.root;
    let from = [b"\x64root\x58\x20", &root.as_bytes()[..]].concat();
    let at = cbor.windows(from.len()).position(|window| window == from).unwrap();
    let text = [b"\x64root\x78\x2b", root.to_string().as_bytes()].concat();
    let changed = [&cbor[..at], &text, &cbor[at + from.len()..]].concat();
    let refused = Receipt::parse(&changed).unwrap_err().to_string();
    assert_eq!(refused, "anchors[0].tree.root: is a text, not a byte string");
}

#[test]
fn files_that_are_no_receipts_are_refused_at_once() {
    let open = "[".repeat(MAX_RECEIPT);
    let objects = "{\"a\":".repeat(MAX_RECEIPT / 5);
    let string = format!("\"{}", "\\u0000".repeat(MAX_RECEIPT / 6 - 1));
    let array = format!("[{}0]", "0,".repeat(MAX_RECEIPT / 2 - 2));
    let random: Vec<u8> =
        (0..MAX_RECEIPT as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let files = [
        &b""[..],
        b"\0",
        b"null",
        b"[]",
        b"{}",
        b"\"\"",
        b"1",
        open.as_bytes(),
        objects.as_bytes(),
        string.as_bytes(),
        array.as_bytes(),
        &random,
        &[0xbf; 4096],
        &[0xa1; 4096],
        &[0x9f; 4096],
    ];
    for file in files {
        assert!(Receipt::parse(file).is_err());
    }
    let receipt = Maker::default().make();
    for form in [receipt.to_json().trim_end().as_bytes(), &receipt.to_cbor()] {
        for end in 0..form.len() {
            assert!(Receipt::parse(&form[..end]).is_err(), "cut at {end}");
        }
    }
}
