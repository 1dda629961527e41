use super::*;

const READING: &str = r#"{"type": "record", "name": "Reading", "fields": [
    {"name": "id", "type": {"type": "fixed", "name": "Id", "size": 16, "logicalType": "uuid"}},
    {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["HOT", "COLD"]}},
    {"name": "tags", "type": {"type": "map", "values": "string"}},
    {"name": "samples", "type": {"type": "array", "items": {"type": "record", "name": "Sample", "fields": [
        {"name": "ok", "type": "boolean"}, {"name": "value", "type": "double"}, {"name": "count", "type": "int"}]}}}
]}"#;

/// Kind COLD at 5 ms; tags a/b = x; two samples in two blocks, the second with its size.
fn reading() -> Vec<u8> {
    let sample = |count: u8| [&[1][..], &[0; 8], &[2 * count]].concat();
    [
        &[9; 16][..],
        &[2, 10],
        &[2],
        &[2, 6, b'a', b'/', b'b', 2, b'x', 0],
        &[2],
        &sample(3),
        &[1, 20],
        &sample(4),
        &[0],
    ]
    .concat()
}

fn schema(text: &str) -> Schema {
    Schema::parse(&[text]).unwrap()
}

fn at(pointer: &str) -> Pointer {
    Pointer::parse(pointer).unwrap()
}

fn one<'a>(schema: &'a Schema, datum: &'a [u8], pointer: &str) -> Result<Option<Scalar<'a>>, AvroError> {
    find(schema, datum, [Some(&at(pointer))]).map(|[found]| found)
}

#[test]
fn each_value_is_found_at_its_place() {
    let (schema, datum) = (schema(READING), reading());
    for (pointer, expected) in [
        ("/id", Some(Scalar::Uuid(&[9; 16]))),
        ("/at", Some(Scalar::Number(5, Some(Unit::Millis)))),
        ("/kind", Some(Scalar::Text("COLD"))),
        ("/tags/a~1b", Some(Scalar::Text("x"))),
        ("/tags/other", None),
        ("/samples/0/count", Some(Scalar::Number(3, None))),
        ("/samples/1/count", Some(Scalar::Number(4, None))),
        ("/samples/2/count", None),
        ("/samples/01/count", None),
        ("/samples/1/value", Some(Scalar::Other)),
        ("/samples", Some(Scalar::Other)),
        ("", Some(Scalar::Other)),
        ("/kind/HOT", None),
    ] {
        assert_eq!(one(&schema, &datum, pointer), Ok(expected), "{pointer}");
    }
}

#[test]
fn several_places_are_found_in_one_walk_and_one_place_may_be_asked_for_twice() {
    let (schema, datum) = (schema(READING), reading());
    let (kind, count) = (at("/kind"), at("/samples/1/count"));
    let found = find(&schema, &datum, [Some(&count), None, Some(&kind), Some(&count)]).unwrap();
    let number = Some(Scalar::Number(4, None));
    assert_eq!(found, [number, None, Some(Scalar::Text("COLD")), number]);
}

#[test]
fn a_datum_cut_anywhere_or_prolonged_is_refused() {
    let (schema, datum) = (schema(READING), reading());
    for length in 0..datum.len() {
        assert!(one(&schema, &datum[..length], "/kind").is_err(), "{length}");
    }
    let longer = [&datum[..], &[0]].concat();
    assert_eq!(one(&schema, &longer, "/kind"), Err(AvroError::Trailing(1)));
}

#[test]
fn what_no_writer_writes_is_refused() {
    for (text, bytes, error) in [
        (r#""boolean""#, &[2][..], AvroError::Boolean(2)),
        (r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#, &[2], AvroError::Branch(1)),
        (r#"["null", "int"]"#, &[4], AvroError::Branch(2)),
        (r#"["null", "int"]"#, &[1], AvroError::Branch(-1)),
        (r#""int""#, &[0x80, 0x80, 0x80, 0x80, 0x20], AvroError::Range(1 << 32)),
        (r#""string""#, &[2, 0xff], AvroError::Utf8),
        (r#"{"type": "array", "items": "int"}"#, &[1, 4, 2, 0], AvroError::BlockSize),
        (r#"{"type": "array", "items": "int"}"#, &[1, 1, 2, 0], AvroError::BlockSize),
    ] {
        assert_eq!(one(&schema(text), bytes, ""), Err(error), "{text}");
    }
    let map = schema(r#"{"type": "map", "values": "int"}"#);
    let twice = [4, 2, b'a', 0, 2, b'a', 2, 0];
    assert_eq!(one(&map, &twice, "/a"), Err(AvroError::Twice));
    assert_eq!(one(&map, &twice, "/b"), Ok(None));
}

#[test]
fn depth_and_work_are_bounded_by_the_bytes_and_not_by_what_they_claim() {
    let list =
        schema(r#"{"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}"#);
    assert_eq!(one(&list, &[2; 1_000_000], "/next"), Err(AvroError::Deep));
    let short = [&[2; 30][..], &[0]].concat();
    assert!(one(&list, &short, "/next").is_ok());
    let endless = schema(r#"{"type": "record", "name": "E", "fields": [{"name": "e", "type": "E"}]}"#);
    assert_eq!(one(&endless, &[], "/e"), Err(AvroError::Deep));

    let nulls = schema(r#"{"type": "array", "items": "null"}"#);
    let most = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0];
    assert_eq!(one(&nulls, &most, "/0"), Err(AvroError::Many));
    assert_eq!(one(&nulls, &[0xd0, 0x0f, 0], "/0"), Ok(Some(Scalar::Null)));
    let least = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0];
    assert_eq!(one(&nulls, &least, "/0"), Err(AvroError::Many));
}

#[test]
fn a_pointer_is_written_as_in_json() {
    assert_eq!(at("/a~1b/~01/").0, ["a/b".into(), "~1".into(), "".into()] as [Box<str>; 3]);
    assert_eq!(at("").0, [] as [Box<str>; 0]);
    assert_eq!(Pointer::parse("a"), Err(PointerError::Start));
    for wrong in ["/~", "/~2", "/a~~0"] {
        assert_eq!(Pointer::parse(wrong), Err(PointerError::Escape), "{wrong}");
    }
}

#[test]
fn it_is_known_beforehand_whether_a_pointer_can_lead_to_a_value() {
    let schema = schema(READING);
    for fine in ["/id", "/at", "/kind", "/tags/anything", "/samples/7/value"] {
        assert!(at(fine).leads_to_a_value(&schema), "{fine}");
    }
    for wrong in ["", "/ID", "/tags", "/samples", "/samples/x/value", "/samples/0", "/kind/HOT", "/at/x"] {
        assert!(!at(wrong).leads_to_a_value(&schema), "{wrong}");
    }
}
