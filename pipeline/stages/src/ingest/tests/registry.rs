//! Records that name a schema in a registry.

use super::*;
use crate::mapping::{Mapping, Place};
use crate::registry::{Lookup, MISSING, SCHEMA_ID};

const READING: &str = r#"{"type": "record", "name": "Reading", "namespace": "plant", "fields": [
    {"name": "machine", "type": "string"}, {"name": "id", "type": "long"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;

/// `readings` are mapped, `own` are our envelopes in other versions; both name their schemas.
fn stage() -> Ingest {
    let pointer = |at: &str| Some(Place::Pointer(at.into()));
    let mapping = Mapping {
        source: pointer("/machine"),
        id: pointer("/id"),
        time: pointer("/at"),
        ..Mapping::default()
    };
    let source = |topic: &str, mapping| Source {
        framing: Framing::Registry,
        tenant: Some("acme".into()),
        unsigned: Unsigned::Accept,
        mapping,
        ..Source::new(topic)
    };
    let sources = vec![source("readings", Some(mapping)), source("own", None)];
    Ingest::new(&deployment(), &Config { sources, registry: true, ..config() }).unwrap()
}

fn framed(schema: u32, datum: &[u8]) -> Bytes {
    [&[0][..], &schema.to_be_bytes(), datum].concat().into()
}

/// A reading of `press` with an id below 64, at 1 ms before [`NOW`].
fn reading(schema: u32, id: u8) -> Bytes {
    let mut at = crate::avro::Writer::default();
    at.long(NOW / 1_000 - 1);
    framed(schema, &[&b"\x0apress"[..], &[2 * id], at.as_slice()].concat())
}

fn at(offset: u64, time: Micros, value: Bytes) -> Record {
    record("readings", 0, offset, time, value)
}

fn readings() -> Partition {
    Partition::new("readings", 0)
}

fn asked(stage: &mut Ingest) -> Vec<(Partition, SchemaId)> {
    let schema = |(partition, request)| match request {
        Request::Schema(id) => (partition, id),
        other => panic!("asked for {other:?}"),
    };
    stage.requests().into_iter().map(schema).collect()
}

fn answer(stage: &mut Ingest, id: u32, lookup: Lookup) -> Part {
    let mut part = Part::default();
    stage.answer(&readings(), Answer::Schema(SchemaId::Number(id), lookup), &mut part).unwrap();
    stage.seal(&readings(), &mut part).unwrap();
    part
}

fn found() -> Lookup {
    Lookup::Found(vec![READING.into()])
}

fn offsets(part: &Part) -> Vec<u64> {
    let frames = to(part, "accepted").into_iter().map(|output| AcceptedFrame::decode(&output.value).unwrap());
    let mut offsets: Vec<_> = frames.flat_map(|frame| frame.events).map(|event| event.offset).collect();
    offsets.sort_unstable();
    offsets
}

fn codes(part: &Part) -> Vec<String> {
    let code = |output: &&Output| {
        let named = |header: &&Header| header.name.ends_with("exception.class.name");
        String::from_utf8(output.headers.iter().find(named).unwrap().value.to_vec()).unwrap()
    };
    to(part, "rejected").iter().map(code).collect()
}

#[test]
fn a_record_waits_for_its_schema_and_all_behind_it_wait_with_it() {
    let mut stage = stage();
    let records = [
        at(0, NOW, reading(7, 1)),
        at(1, NOW, Bytes::from_static(b"no framing")),
        at(2, NOW, reading(7, 2)),
        at(3, NOW, reading(8, 3)),
    ];
    let part = run(&mut stage, &records).unwrap();
    assert!(part.is_empty() && stage.held() > 4_000);
    let ids = [SchemaId::Number(7), SchemaId::Number(8)];
    assert_eq!(asked(&mut stage), ids.map(|id| (readings(), id)));
    assert!(asked(&mut stage).is_empty());

    // The answer to the later one changes nothing yet.
    assert!(answer(&mut stage, 8, found()).is_empty());
    let part = answer(&mut stage, 7, found());
    assert_eq!((offsets(&part), codes(&part)), (vec![0, 2, 3], vec!["malformed".to_owned()]));
    assert_eq!((part.through, stage.held()), (Some(4), 0));

    // What is known is not asked for again.
    let part = run(&mut stage, &[at(4, NOW, reading(7, 4))]).unwrap();
    assert_eq!((offsets(&part), asked(&mut stage).len()), (vec![4], 0));
}

#[test]
fn a_mapped_record_is_stated_with_its_whole_value_as_the_payload() {
    let mut stage = stage();
    let value = reading(7, 1);
    run(&mut stage, &[at(0, NOW, value.clone())]).unwrap();
    let part = answer(&mut stage, 7, found());
    let frame = AcceptedFrame::decode(&to(&part, "accepted")[0].value).unwrap();
    let statement = Statement::decode(&frame.events[0].statement).unwrap();
    assert_eq!((statement.event.source, statement.event.id), ("press", "1"));
    assert_eq!(statement.event.time, NOW - 1_000);
    assert_eq!(statement.event.digest, Algorithm::Sha256.digest(&value));
}

#[test]
fn an_id_in_the_header_stands_above_a_prefix() {
    let mut stage = stage();
    let guid = [&[1][..], &[0xab; 16]].concat();
    let value = reading(7, 1).slice(5..);
    run(&mut stage, &[with_headers(at(0, NOW, value), &[(SCHEMA_ID, &guid)])]).unwrap();
    assert_eq!(asked(&mut stage), [(readings(), SchemaId::Guid([0xab; 16]))]);
    let mut part = Part::default();
    stage.answer(&readings(), Answer::Schema(SchemaId::Guid([0xab; 16]), found()), &mut part).unwrap();
    stage.seal(&readings(), &mut part).unwrap();
    assert_eq!(offsets(&part), [0]);
}

#[test]
fn an_unknown_schema_rejects_and_is_asked_for_again_after_a_while() {
    let mut stage = stage();
    run(&mut stage, &[at(0, NOW, reading(9, 1))]).unwrap();
    let part = answer(&mut stage, 9, Lookup::Missing);
    assert_eq!((codes(&part), part.through), (vec!["unknown-schema".to_owned()], Some(1)));

    let part = run(&mut stage, &[at(1, NOW + MISSING, reading(9, 2))]).unwrap();
    assert_eq!((codes(&part).len(), asked(&mut stage).len()), (1, 0));
    let part = run(&mut stage, &[at(2, NOW + MISSING + 1, reading(9, 3))]).unwrap();
    assert!(part.is_empty());
    assert_eq!(asked(&mut stage).len(), 1);
    assert_eq!(offsets(&answer(&mut stage, 9, found())), [2]);
}

#[test]
fn a_schema_that_does_not_fit_rejects_with_its_reason() {
    let mut stage = stage();
    let records = [
        at(0, NOW, reading(1, 1)),
        at(1, NOW, reading(2, 1)),
        at(2, NOW, reading(3, 1)),
        at(3, NOW, framed(4, b"")),
    ];
    run(&mut stage, &records).unwrap();
    answer(&mut stage, 4, found());
    answer(&mut stage, 3, Lookup::Found(vec![r#"{"type": "map", "values": "string"}"#.into()]));
    answer(&mut stage, 2, Lookup::Unfit("it is PROTOBUF".into()));
    let part = answer(&mut stage, 1, Lookup::Found(vec!["\"strnig\"".into()]));
    assert_eq!(codes(&part), ["unfit-schema", "unfit-schema", "malformed", "malformed"]);
}

#[test]
fn our_own_envelope_is_read_in_other_versions_of_its_schema() {
    let ours = killick_schemas::schema("event").unwrap();
    let newer = ours.replacen("\"fields\": [", "\"fields\": [{\"name\": \"line\", \"type\": \"int\"},", 1);
    let mut stage = stage();
    let own = |offset, value| record("own", 0, offset, NOW, value);
    let event = signed(1, "7", NOW, b"21.5");
    let records = [
        own(0, framed(1, &event)),
        own(1, framed(2, &[&[8][..], &event].concat())),
        own(2, framed(2, &event)),
        own(3, framed(3, &event)),
    ];
    let partition = Partition::new("own", 0);
    let mut part = Part::default();
    for record in &records {
        stage.step(record, &mut part).unwrap();
    }
    for (id, text) in [(1, ours), (2, &newer), (3, READING)] {
        let answer = Answer::Schema(SchemaId::Number(id), Lookup::Found(vec![text.into()]));
        stage.answer(&partition, answer, &mut part).unwrap();
    }
    stage.seal(&partition, &mut part).unwrap();
    assert_eq!((offsets(&part), codes(&part)), (vec![0, 1], vec!["malformed".into(), "unfit-schema".into()]));
    let frame = AcceptedFrame::decode(&to(&part, "accepted")[0].value).unwrap();
    assert_eq!(frame.events[0].statement, frame.events[1].statement);
}

#[test]
fn a_partition_that_is_lost_takes_what_it_holds_with_it_and_voids_its_questions() {
    let mut stage = stage();
    run(&mut stage, &[at(0, NOW, reading(7, 1))]).unwrap();
    stage.revoke(&readings());
    assert_eq!((stage.held(), asked(&mut stage).len()), (0, 0));
    assert!(answer(&mut stage, 7, found()).is_empty());

    // Another partition asks for itself.
    run(&mut stage, &[at(0, NOW, reading(7, 1))]).unwrap();
    assert_eq!(asked(&mut stage).len(), 1);
}

#[test]
fn one_partition_waits_and_another_goes_on() {
    let mut stage = stage();
    run(&mut stage, &[at(0, NOW, reading(7, 1))]).unwrap();
    let other = record("readings", 1, 0, NOW, Bytes::from_static(b"broken"));
    assert_eq!(run(&mut stage, std::slice::from_ref(&other)).unwrap().through, Some(1));
    // Each partition's question is its own, and its records move at its own answer.
    run(&mut stage, &[record("readings", 1, 1, NOW, reading(7, 1))]).unwrap();
    assert_eq!(asked(&mut stage).len(), 2);
    assert_eq!(offsets(&answer(&mut stage, 7, found())), [0]);
}

#[test]
fn however_many_ids_come_few_are_asked_for_at_a_time_and_all_in_the_end() {
    let mut stage = stage();
    let records: Vec<_> = (0..200).map(|offset| at(offset, NOW, reading(1_000 + offset as u32, 1))).collect();
    run(&mut stage, &records).unwrap();
    let mut rejected = 0;
    let mut rounds = 0;
    loop {
        let ids = asked(&mut stage);
        if ids.is_empty() {
            break;
        }
        assert!(ids.len() <= 64);
        rounds += 1;
        for (_, id) in ids {
            let SchemaId::Number(id) = id else { panic!("{id}") };
            rejected += codes(&answer(&mut stage, id, Lookup::Missing)).len();
        }
    }
    assert_eq!((rejected, stage.held()), (200, 0));
    assert!(rounds < 200, "{rounds}");
}

#[test]
fn what_waited_long_goes_on_in_transactions_of_a_bounded_size() {
    let mut stage = stage();
    let large = |offset| {
        let value = [&reading(7, 1)[..], &vec![0; 500_000]].concat();
        at(offset, NOW, value.into())
    };
    let records: Vec<_> = (0..40).map(large).collect();
    run(&mut stage, &records).unwrap();
    assert!(stage.held() > 40 * 500_000);
    assert_eq!(asked(&mut stage).len(), 1);
    let mut part = answer(&mut stage, 7, found());
    let mut through = Vec::new();
    while stage.held() > 0 {
        let size: usize = part.outputs.iter().map(|output| output.value.len()).sum();
        assert!((1_000_000..5_000_000).contains(&size), "{size}");
        through.push(part.through.unwrap());
        assert!(matches!(stage.requests()[..], [(_, Request::Again)]));
        part = Part::default();
        stage.answer(&readings(), Answer::Again, &mut part).unwrap();
    }
    through.push(part.through.unwrap());
    assert!(through.is_sorted() && through.len() > 4, "{through:?}");
    assert_eq!(through.last(), Some(&40));
    assert!(stage.requests().is_empty());
}
