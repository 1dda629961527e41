use super::*;

fn items(text: impl AsRef<[u8]>, format: Format, args: &InputArgs) -> Vec<Item> {
    let source = Box::new(io::Cursor::new(text.as_ref().to_vec()));
    Input::read(source, "file", format, args).unwrap().map(Result::unwrap).collect()
}

fn csv(text: impl AsRef<[u8]>) -> Vec<Item> {
    items(text, Format::Csv, &InputArgs::default())
}

fn named(time: &str, source: &str, id: &str) -> InputArgs {
    let column = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    InputArgs {
        time_column: column(time),
        source_column: column(source),
        id_column: column(id),
        ..InputArgs::default()
    }
}

fn event(item: &Item) -> &Event {
    match item {
        Item::Event(event) => event,
        other => panic!("no event: {other:?}"),
    }
}

fn bad(item: &Item) -> (u64, &str, &[u8]) {
    match item {
        Item::Bad(bad) => (bad.line, &bad.reason, &bad.bytes),
        other => panic!("nothing bad: {other:?}"),
    }
}

#[test]
fn a_row_is_an_event_with_its_bytes_as_payload() {
    let items =
        csv("timestamp,value\r\n2013-12-02 21:15:00,73.96732207\r\n2013-12-02 21:20:00,74.93588199999998\n");
    let expected = Event {
        line: 2,
        source: "file".into(),
        id: "1".into(),
        time: 1_386_018_900_000_000,
        kind: "record".into(),
        payload: Bytes::from_static(b"2013-12-02 21:15:00,73.96732207"),
    };
    assert_eq!(items[0], Item::Event(expected));
    assert_eq!(
        (event(&items[1]).id.as_str(), &*event(&items[1]).payload),
        ("2", &b"2013-12-02 21:20:00,74.93588199999998"[..])
    );
    assert_eq!(items.len(), 2);
}

#[test]
fn columns_are_taken_by_name() {
    let text = "when,machine,no,note\n0,\"press, left\",a-1,\"two\nlines \"\"quoted\"\"\"\n";
    let items = items(text, Format::Csv, &named("when", "machine", "no"));
    let event = event(&items[0]);
    assert_eq!((event.source.as_str(), event.id.as_str(), event.time), ("press, left", "a-1", 0));
    assert_eq!(&*event.payload, &b"0,\"press, left\",a-1,\"two\nlines \"\"quoted\"\"\""[..]);
}

#[test]
fn a_column_that_is_not_there_is_a_usage_error_that_lists_the_columns() {
    let read = |args| {
        let source = Box::new(io::Cursor::new("a,b,b\n1,2,3\n"));
        Input::read(source, "file", Format::Csv, &args).err().unwrap().to_string()
    };
    assert_eq!(read(named("c", "", "")), "--time-column: there is no column `c`; the columns are: a, b, b");
    assert_eq!(read(named("", "", "b")), "--id-column: two columns are called `b`");
}

#[test]
fn a_time_is_found_by_name_or_content_else_none_is_claimed() {
    for (text, time) in [
        ("value,ts\n1,1386018900\n", 1_386_018_900_000_000),
        ("value,Timestamp\n1,2013-12-02T21:15:00Z\n", 1_386_018_900_000_000),
        ("value,wann\n1386018900,2013-12-02 21:15:00\n", 1_386_018_900_000_000),
        ("time,value\nsoon,1386018900\n", 0),
        ("value\n1386018900\n", 0),
    ] {
        assert_eq!(event(&csv(text)[0]).time, time, "{text:?}");
    }
}

#[test]
fn a_bad_row_has_its_line_and_reason_and_the_rest_goes_on() {
    let items = csv("time,value\n1,2\n1\nsoon,3\n\n1,\"open\n1,\"x\"y\n\"1\",\"a\"\n1,2,3\n9,9\n");
    let reasons: Vec<_> = items
        .iter()
        .map(|item| match item {
            Item::Bad(bad) => (bad.line, bad.reason.as_str()),
            Item::Event(event) => (event.line, event.id.as_str()),
            Item::CloudEvent { .. } => unreachable!(),
        })
        .collect();
    assert_eq!(
        reasons,
        [
            (2, "1"),
            (3, "1 fields; the header has 2"),
            (4, "time: \"soon\" is none that is understood"),
            (6, "text behind a closing quote"),
            (7, "text behind a closing quote"),
            (8, "6"),
            (9, "3 fields; the header has 2"),
            (10, "8"),
        ]
    );
    assert_eq!(bad(&items[3]).2, b"1,\"open");
}

#[test]
fn a_quote_that_is_never_closed_spoils_its_own_line_only() {
    let mut text = "time,value\n1,\"open\n".to_owned();
    for _ in 0..1_000 {
        text.push_str("1,2\n");
    }
    let items = csv(text);
    assert_eq!(bad(&items[0]), (2, "a quote that is not closed", &b"1,\"open"[..]));
    assert_eq!(items.iter().filter(|item| matches!(item, Item::Event(_))).count(), 1_000);
    assert_eq!(event(&items[1_000]).id, "1001");
}

#[test]
fn a_row_beyond_the_bound_is_bad_and_the_rest_goes_on() {
    let long = "x".repeat(3 << 20);
    let quoted = "line\n".repeat(50).replace("line", &"x".repeat(40_000));
    let items = csv(format!("time,value\n1,{long}\n1,\"{quoted}\"\n7,7\n"));
    assert_eq!(bad(&items[0]).1, format!("a line of {} bytes; at most 1048576 are read", (3 << 20) + 3));
    assert!(bad(&items[0]).2.len() < 10_000);
    assert_eq!(bad(&items[1]).1, "a quote that is not closed");
    assert_eq!(&*event(items.last().unwrap()).payload, b"7,7");
}

#[test]
fn a_name_that_no_statement_takes_is_bad() {
    let args = named("", "source", "");
    let text = format!("time,source\n1,\n2,{}\n3,a\x07b\n4,ok\n", "x".repeat(257));
    let items = items(text, Format::Csv, &args);
    assert_eq!(bad(&items[0]).1, "source: 0 bytes, not 1 to 256");
    assert_eq!(bad(&items[1]).1, "source: 257 bytes, not 1 to 256");
    assert_eq!(bad(&items[2]).1, "source: the control character U+0007 is not allowed");
    assert_eq!(event(&items[3]).source, "ok");
}

#[test]
fn an_empty_file_has_no_events() {
    for text in ["", "\n\n", "time,value\n", "time,value"] {
        assert_eq!(csv(text), [], "{text:?}");
    }
    assert_eq!(items("", Format::Ndjson, &InputArgs::default()), []);
}

#[test]
fn a_json_line_is_an_event_with_its_bytes_as_payload() {
    let text = " {\"ts\": 1386018900.25, \"a\":{\"b\":\"dev\",\"n\":7}} \r\n\n[1]\nnull\n";
    let items = items(text, Format::Ndjson, &named("", "", ""));
    assert_eq!(event(&items[0]).time, 1_386_018_900_250_000);
    assert_eq!(&*event(&items[0]).payload, &b" {\"ts\": 1386018900.25, \"a\":{\"b\":\"dev\",\"n\":7}} "[..]);
    assert_eq!((event(&items[1]).line, event(&items[1]).id.as_str()), (3, "2"));
    assert_eq!(event(&items[2]).time, 0);
}

#[test]
fn parts_of_a_json_line_are_taken_by_pointer_or_name() {
    let text = "{\"a\":{\"b\":\"dev\",\"n\":7},\"t/x\":\"2013-12-02T21:15:00Z\"}\n{\"a\":{\"b\":1.5,\"n\":7},\"t/x\":0}\n{\"a\":1}\n{\n";
    let items = items(text, Format::Ndjson, &named("t/x", "/a/b", "/a/n"));
    let first = event(&items[0]);
    assert_eq!((first.source.as_str(), first.id.as_str(), first.time), ("dev", "7", 1_386_018_900_000_000));
    assert_eq!(bad(&items[1]).1, "source: neither text nor whole number at \"/a/b\"");
    assert_eq!(bad(&items[2]).1, "time: nothing at \"/t~1x\"");
    assert!(bad(&items[3]).1.starts_with("not JSON: "));
}

#[test]
fn what_is_kept_of_a_value_is_what_the_whole_has() {
    let lines = [
        r#"{"id":"first","other":{"id":"no"},"id":"last"}"#,
        r#"{"i\u0064":"by its escaped name","x":["\ud800",1e999]}"#,
        r#"{"id":{"a":[{"b":"deep"}],"~1/":"odd"},"":"no name"}"#,
        r#"["zero",{"id":"one"}]"#,
        r#"{"id":-7}"#,
        r#"{"id":18446744073709551615}"#,
        r#""id""#,
    ];
    let by = |line: &str, name: &str| {
        let mut found = items(line, Format::Ndjson, &named("", "", name));
        match found.remove(0) {
            Item::Event(event) => Some(event.id),
            Item::Bad(bad) => {
                assert!(
                    bad.reason.contains("nothing at") || bad.reason.contains("neither"),
                    "{}",
                    bad.reason
                );
                None
            }
            Item::CloudEvent { .. } => unreachable!(),
        }
    };
    for line in lines {
        for pointer in ["/id", "/id/a/0/b", "/id/~01~1", "/", "/0", "/1/id", "/other/id"] {
            // The library takes no lone surrogate and no number beyond its own.
            let whole: serde_json::Value =
                serde_json::from_str(&line.replace(r"\ud800", "").replace("1e999", "1")).unwrap();
            let there = whole.pointer(pointer).and_then(|value| match value {
                serde_json::Value::Array(_) | serde_json::Value::Object(_) => None,
                value => Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
            });
            assert_eq!(by(line, pointer), there, "{pointer} of {line}");
        }
    }
    assert_eq!(by(lines[0], "id"), Some("last".to_owned()));
    assert_eq!(by(lines[1], "id"), Some("by its escaped name".to_owned()));
    for wrong in ["{\"id\":\"a\"", "{\"id\":\"a\"} x", "{\"id\":\"a\",\"x\":[1,}", "{\"id\":\"a\",\"x\":tru}"]
    {
        assert!(
            bad(&items(wrong, Format::Ndjson, &named("", "", "id"))[0]).1.starts_with("not JSON: "),
            "{wrong}"
        );
    }
    let unreadable = b"{\"id\":\"a\",\"x\":\"\xff\"}";
    assert!(bad(&items(unreadable, Format::Ndjson, &named("", "", "id"))[0]).1.starts_with("not JSON: "));
}

#[test]
fn nesting_and_length_of_json_are_bounded() {
    let deep = "[".repeat(500_000);
    let long = "1".repeat(2 << 20);
    let items = items(format!("{deep}\n{long}\n1\n"), Format::Ndjson, &InputArgs::default());
    assert!(bad(&items[0]).1.starts_with("not JSON: recursion"), "{:?}", bad(&items[0]).1);
    assert!(bad(&items[1]).1.starts_with("a line of 2097153 bytes"));
    assert_eq!(&*event(&items[2]).payload, b"1");
}

#[test]
fn ready_events_pass_as_they_are_and_take_no_options() {
    let items = items("{\"id\":\"1\"}\r\n\nwhatever\n", Format::Cloudevents, &InputArgs::default());
    assert_eq!(items[0], Item::CloudEvent { line: 1, value: Bytes::from_static(b"{\"id\":\"1\"}") });
    assert_eq!(items[1], Item::CloudEvent { line: 3, value: Bytes::from_static(b"whatever") });
    let refused = Input::read(Box::new(io::empty()), "x", Format::Cloudevents, &named("", "", "id"));
    assert!(refused.err().unwrap().to_string().starts_with("--id-column"));
}

#[test]
fn a_bad_line_is_kept_with_its_place_and_reason() {
    let kept = Bad { line: 7, reason: "why".into(), bytes: Bytes::from_static(b"x") }.rejected("file.csv", 3);
    assert_eq!((kept.partition.number, &*kept.value), (3, &b"x"[..]));
    let header = |name: &str| {
        let found = kept.headers.iter().find(|header| header.name.ends_with(name)).unwrap();
        String::from_utf8(found.value.to_vec()).unwrap()
    };
    assert_eq!([header("topic"), header("offset"), header("message")], ["file.csv", "7", "why"]);
}

#[test]
fn a_file_of_random_bytes_is_read_to_its_end() {
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..200_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            b"a,\"\n\r1{}[]\xff"[(state >> 33) as usize % 11]
        })
        .collect();
    for format in [Format::Csv, Format::Ndjson, Format::Cloudevents] {
        let source = Box::new(io::Cursor::new(noise.clone()));
        if let Ok(input) = Input::read(source, "noise", format, &InputArgs::default()) {
            assert!(input.map(Result::unwrap).count() > 10);
        }
    }
}

#[test]
fn the_ending_of_a_name_says_the_format() {
    assert_eq!(format_of(Path::new("a/b.CSV")), Some(Format::Csv));
    assert_eq!(format_of(Path::new("b.jsonl")), Some(Format::Ndjson));
    assert_eq!(format_of(Path::new("b")), None);
}
