mod registry;

use killick_proof::encoding::base64url;

use killick_proof::Algorithm;
use killick_proof::statement::Statement;

use super::*;
use crate::envelope;
use crate::record::Header;
use crate::rejected::Code;
use crate::source::{Decoder, Framing, Freshness, Unsigned};
use crate::span::Span;
use crate::testing::{HOUR, NOW, SECOND, device_key, record, run, signed, to, with_headers};

fn deployment() -> Deployment {
    Deployment::new(&crate::deployment::Config::default()).unwrap()
}

fn device(seed: u8, from: Option<Micros>, until: Option<Micros>) -> Device {
    let key = base64url(device_key(seed).public().as_bytes());
    Device { tenant: "acme".into(), source: "pump-1".into(), key, from, until }
}

/// Signed events on `events`; anything on `raw`, `cloud` and `imports`.
fn config() -> Config {
    let open = |topic: &str, decoder| Source {
        decoder,
        tenant: Some("acme".into()),
        unsigned: Unsigned::Accept,
        ..Source::new(topic)
    };
    let tenant = Tenant { secret: Secret::new("a secret of some length") };
    Config {
        sources: vec![
            Source::new("events"),
            open("raw", Decoder::Raw),
            open("cloud", Decoder::CloudEvents),
            Source { freshness: Freshness::Off, max_payload: 10, ..open("imports", Decoder::Raw) },
        ],
        devices: vec![device(1, None, None), device(2, Some(NOW + HOUR), None), device(3, None, Some(NOW))],
        tenants: BTreeMap::from([("acme".to_owned(), tenant)]),
        registry: false,
    }
}

fn checker() -> Checker {
    Checker::new(&deployment(), &config()).unwrap()
}

/// The verdict where no schema has to be known.
fn verdict(checker: &Checker, record: &Record) -> Verdict {
    checker.check(record, &Schemas::default())
}

fn event(value: impl Into<Bytes>) -> Record {
    record("events", 0, 0, NOW, value)
}

fn code(verdict: Verdict) -> Option<Code> {
    match verdict {
        Verdict::Accepted { .. } | Verdict::Awaits(_) => None,
        Verdict::Rejected { code, .. } => Some(code),
    }
}

#[test]
fn a_signed_event_becomes_the_statement_that_the_device_signed() {
    let Verdict::Accepted { log, statement } = verdict(&checker(), &event(signed(1, "7", NOW, b"21.5")))
    else {
        panic!("rejected")
    };
    let statement = Statement::decode(&statement).unwrap();
    statement.verify().unwrap();
    assert_eq!(log, deployment().log_of("acme", "pump-1", "7"));
    assert_eq!((statement.event.id, statement.event.time, statement.event.kind), ("7", NOW, "reading"));
    assert_eq!(statement.event.digest, Algorithm::Sha256.digest(b"21.5"));
}

#[test]
fn each_kind_of_bad_input_has_its_own_reason() {
    let mut forged = signed(1, "7", NOW, b"21.5").to_vec();
    let place = forged.len() - 1;
    forged[place] ^= 1;
    let weak = envelope::Event {
        tenant: "acme",
        source: "pump-1",
        id: "7",
        time: NOW,
        kind: "",
        payload: b"",
        signed: Some((&[0; 32], &[0; 64])),
    };
    let cases = [
        (Bytes::from_static(b"{}"), Code::Malformed),
        (Bytes::new(), Code::Malformed),
        (envelope::Event { id: "", ..weak }.encode(), Code::Malformed),
        (envelope::Event { source: "a\u{7}", ..weak }.encode(), Code::Malformed),
        (signed(1, "7", NOW - 24 * HOUR - 1, b""), Code::Stale),
        (signed(1, "7", NOW + 600 * SECOND + 1, b""), Code::Future),
        (signed(1, "7", NOW, &vec![0; (256 << 10) + 1]), Code::TooLarge),
        (signed(1, "7", NOW, &vec![0; 900_000]), Code::TooLarge),
        (envelope::Event { signed: None, ..weak }.encode(), Code::Unsigned),
        (weak.encode(), Code::WeakKey),
        (signed(4, "7", NOW, b""), Code::UnknownKey),
        (signed(2, "7", NOW, b""), Code::EarlyKey),
        (signed(3, "7", NOW, b""), Code::RevokedKey),
        (forged.into(), Code::WrongSignature),
        (envelope::Event { tenant: "", ..weak }.encode(), Code::Malformed),
    ];
    for (value, expected) in cases {
        assert_eq!(code(verdict(&checker(), &event(value.clone()))), Some(expected), "{value:?}");
    }
}

#[test]
fn events_at_the_edge_of_freshness_pass() {
    for time in [NOW - 24 * HOUR, NOW + 600 * SECOND] {
        assert_eq!(code(verdict(&checker(), &event(signed(1, "7", time, b"")))), None);
    }
}

#[test]
fn a_key_is_judged_by_the_time_of_the_log_and_not_by_the_devices() {
    let value = signed(3, "7", NOW - HOUR, b"");
    assert_eq!(code(verdict(&checker(), &record("events", 0, 0, NOW - 1, value.clone()))), None);
    assert_eq!(code(verdict(&checker(), &record("events", 0, 0, NOW, value))), Some(Code::RevokedKey));
}

#[test]
fn an_unsigned_event_gets_a_salt_that_a_replay_makes_again_and_nobody_else() {
    let raw = record("raw", 0, 5, NOW, "21.5");
    let accepted = verdict(&checker(), &raw);
    let Verdict::Accepted { statement, .. } = &accepted else { panic!("rejected") };
    assert_eq!(verdict(&checker(), &raw), accepted);
    let decoded = Statement::decode(statement).unwrap();
    assert_eq!((decoded.event.source, decoded.event.id), ("raw", "raw/0/5"));
    let mut other = config();
    other.tenants.get_mut("acme").unwrap().secret = Secret::new("another secret of some length");
    assert_ne!(verdict(&Checker::new(&deployment(), &other).unwrap(), &raw), accepted);
    other.tenants.clear();
    assert_eq!(code(verdict(&Checker::new(&deployment(), &other).unwrap(), &raw)), Some(Code::Tenant));
}

#[test]
fn a_source_of_one_tenant_takes_no_event_of_another() {
    let mut config = config();
    config.sources[0].tenant = Some("other".into());
    let checker = Checker::new(&deployment(), &config).unwrap();
    assert_eq!(code(verdict(&checker, &event(signed(1, "7", NOW, b"")))), Some(Code::Tenant));
}

#[test]
fn imports_may_be_old_and_are_bounded() {
    let old = |value: &'static str| record("imports", 0, 0, NOW, value);
    let source = |time: &str| {
        let mut config = config();
        let time = Some(crate::mapping::Place::Constant(time.to_owned()));
        config.sources[3].mapping = Some(crate::mapping::Mapping { time, ..Default::default() });
        Checker::new(&deployment(), &config).unwrap()
    };
    assert_eq!(code(verdict(&source("1999-01-01T00:00:00Z"), &old("0123456789"))), None);
    assert_eq!(code(verdict(&source("1999-01-01T00:00:00Z"), &old("0123456789a"))), Some(Code::TooLarge));
    assert_eq!(code(verdict(&source("yesterday"), &old("0"))), Some(Code::Malformed));
}

#[test]
fn a_record_of_a_topic_without_a_source_is_rejected() {
    assert_eq!(code(verdict(&checker(), &record("other", 9, 0, NOW, "x"))), Some(Code::Malformed));
}

#[test]
fn every_record_has_one_verdict_and_the_offset_moves_with_them() {
    let mut ingest = Ingest::new(&deployment(), &config()).unwrap();
    let mut records: Vec<Record> = (0..100)
        .map(|offset| record("events", 0, offset, NOW, signed(1, &offset.to_string(), NOW, b"x")))
        .collect();
    records[40].value = Bytes::from_static(b"broken");
    records[40].headers.push(Header { name: "trace".into(), value: Bytes::from_static(b"kept") });
    let part = run(&mut ingest, &records).unwrap();
    assert_eq!(part.through, Some(100));
    assert_eq!(ingest.held(), 0);

    let mut offsets = Vec::new();
    for output in to(&part, "accepted") {
        let frame = AcceptedFrame::decode(&output.value).unwrap();
        assert_eq!((&*frame.topic, frame.partition), ("events", 0));
        assert!(frame.events.is_sorted_by_key(|event| event.offset));
        for event in frame.events {
            let named = Statement::decode(&event.statement).unwrap().event.id.to_owned();
            assert_eq!(named, event.offset.to_string());
            assert_eq!(output.partition.number, deployment().log_of("acme", "pump-1", &named));
            offsets.push(event.offset);
        }
    }
    offsets.sort_unstable();
    assert!(offsets.iter().copied().eq((0..100).filter(|offset| *offset != 40)));
    let [rejected] = to(&part, "rejected")[..] else { panic!("not one rejection") };
    assert_eq!(rejected.value, "broken");
    assert_eq!(&*rejected.headers[0].name, "trace");
}

#[test]
fn records_taken_together_put_out_the_same() {
    // Signed and not, well-formed and not, each kind among the others.
    let mut config = config();
    config.sources[0].unsigned = Unsigned::Accept;
    let event = envelope::Event {
        tenant: "acme",
        source: "pump-1",
        id: "7",
        time: NOW,
        kind: "reading",
        payload: b"21.5",
        signed: None,
    };
    let records: Vec<Record> = (0..200)
        .map(|offset| {
            let id = offset.to_string();
            let long = vec![offset as u8; 20 * offset as usize];
            let value = match offset % 7 {
                0 | 1 => signed(1 + offset as u8 % 4, &id, NOW, b"x"),
                2 => envelope::Event { id: "", ..event }.encode(),
                3 => Bytes::from_static(b"broken"),
                4 => envelope::Event { tenant: "other", ..event }.encode(),
                _ => envelope::Event { id: &id, payload: &long, ..event }.encode(),
            };
            record("events", 1, offset, NOW, value)
        })
        .collect();
    let mut one = Ingest::new(&deployment(), &config).unwrap();
    let mut other = Ingest::new(&deployment(), &config).unwrap();
    let mut part = Part::default();
    other.step_all(&records, &mut part).unwrap();
    other.seal(&records[0].partition, &mut part).unwrap();
    assert_eq!(run(&mut one, &records).unwrap(), part);
    let taken: usize = to(&part, "accepted")
        .iter()
        .map(|frame| AcceptedFrame::decode(&frame.value).unwrap().events.len())
        .sum();
    assert_eq!(taken + to(&part, "rejected").len(), 200);
    assert!(taken > 60);
}

#[test]
fn frames_stay_far_below_the_size_of_a_record() {
    let mut ingest = Ingest::new(&deployment(), &config()).unwrap();
    let long = "s".repeat(250);
    let records: Vec<Record> = (0..4_000)
        .map(|offset| {
            with_headers(
                record("cloud", 0, offset, NOW, "x"),
                &[
                    ("ce_specversion", b"1.0"),
                    ("ce_id", format!("{offset}").as_bytes()),
                    ("ce_source", long.as_bytes()),
                    ("ce_type", long.as_bytes()),
                ],
            )
        })
        .collect();
    let part = run(&mut ingest, &records).unwrap();
    let frames = to(&part, "accepted");
    assert!(frames.len() > 4);
    assert!(frames.iter().all(|frame| frame.value.len() < 400 << 10));
    let events: usize =
        frames.iter().map(|frame| AcceptedFrame::decode(&frame.value).unwrap().events.len()).sum();
    assert_eq!(events, 4_000);
}

#[test]
fn a_partition_that_is_lost_leaves_nothing_behind() {
    let mut ingest = Ingest::new(&deployment(), &config()).unwrap();
    let mut part = Part::default();
    ingest.step(&event(signed(1, "7", NOW, b"")), &mut part).unwrap();
    assert!(ingest.held() > 0);
    ingest.revoke(&Partition::new("events", 0));
    assert_eq!(ingest.held(), 0);
    let mut after = Part::default();
    ingest.seal(&Partition::new("events", 0), &mut after).unwrap();
    assert!(after.is_empty());
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let with = |change: &dyn Fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        Checker::new(&deployment(), &config).unwrap_err()
    };
    let twice = with(&|config| config.sources.push(Source::new("events")));
    assert_eq!(twice, ConfigError::TopicTwice("events".into()));
    assert!(matches!(with(&|config| config.sources[0].max_payload = 0), ConfigError::MaxPayload { .. }));
    assert!(matches!(with(&|config| config.devices[0].key.clear()), ConfigError::Device(_)));
    let short = Tenant { secret: Secret::new("short") };
    assert_eq!(
        with(&|config| _ = config.tenants.insert("acme".into(), short.clone())),
        ConfigError::ShortSecret("acme".into())
    );
}

#[test]
fn no_secret_is_printed() {
    assert!(!format!("{:?}", config()).contains("a secret"));
}

#[test]
fn a_configuration_file_reads_as_meant_and_a_typo_is_refused() {
    let json = serde_json::json!({
        "source": [{
            "topic": "lines", "decoder": "raw", "unsigned": "accept", "freshness": "off", "tenant": "acme",
            "mapping": {"id": {"pointer": "/id"}, "source": {"header": "device"}, "time": "key", "time_format": "ms"},
        }, {"topic": "avro", "framing": "registry", "freshness": "2h", "ahead": "1m"}],
        "device": [{"tenant": "acme", "source": "pump-1", "key": "AA", "until": 5}],
        "tenant": {"acme": {"secret": "0123456789abcdef"}},
    });
    let config: Config = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(config.sources[0].mapping.as_ref().unwrap().time, Some(crate::mapping::Place::Key));
    assert_eq!(config.sources[0].freshness, Freshness::Off);
    assert_eq!(config.sources[1].framing, Framing::Registry);
    assert_eq!(config.sources[1].freshness, Freshness::Within(Span::secs(7_200)));
    for path in ["/source/0", "/source/0/mapping", "/device/0", "/tenant/acme", ""] {
        let mut typo = json.clone();
        let place = typo.pointer_mut(path).unwrap().as_object_mut().unwrap();
        place.insert("tpoic".into(), "x".into());
        assert!(serde_json::from_value::<Config>(typo).is_err(), "{path}");
    }
}

#[test]
fn a_few_events_of_a_frame_that_their_producers_record_are_followed() {
    let mut ingest = Ingest::new(&deployment(), &config()).unwrap();
    let parent =
        |number: u64, flags: &str| format!("00-0af7651916cd43dd8448eb211c80319c-{number:016x}-{flags}");
    let records: Vec<_> = (0..400)
        .map(|number| {
            let record = record("raw", 0, number, NOW, "21.5");
            let name = if number % 2 == 0 { "traceparent" } else { "ce_traceparent" };
            // The third kind breaks the form.
            let value = parent(number + 1, ["01", "00", "1"][number as usize % 3]);
            with_headers(record, &[("other", b"header"), (name, value.as_bytes())])
        })
        .collect();
    let part = run(&mut ingest, &records).unwrap();
    let frames = to(&part, ACCEPTED);
    assert_eq!(frames.len(), 4, "one for each log");
    for frame in frames {
        let followed = crate::trace::of_events(&frame.headers);
        assert_eq!((followed.len(), frame.headers.len()), (IN_FRAME, IN_FRAME));
        let events = AcceptedFrame::decode(&frame.value).unwrap().events;
        for (offset, followed) in followed {
            assert!(events.iter().any(|event| event.offset == offset));
            assert_eq!(followed.to_string(), parent(offset + 1, "01"));
        }
    }
    let part = run(&mut ingest, &[record("raw", 0, 400, NOW, "21.5")]).unwrap();
    assert!(to(&part, ACCEPTED)[0].headers.is_empty());
}
