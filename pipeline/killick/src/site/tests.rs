use std::collections::BTreeMap;

use bytes::Bytes;
use killick_stages::frame::AcceptedFrame;
use killick_stages::mapping::{Mapping, Place};
use killick_stages::ports::Producer;
use killick_stages::record::Output;
use killick_stages::route::{REANCHORING, ROUTE};
use killick_stages::source::{Framing, Source};
use serde::Deserialize;

use super::*;

fn some_plan() -> Plan {
    Plan {
        deployment: deployment::Config { logs: 3, chains: vec![4, 9], ..Default::default() },
        ingest: ingest::Config { sources: vec![Source::new(route::EVENTS)], ..Default::default() },
        registry: None,
        dedup: dedup::Config::default(),
        batch: batch::Config::default(),
        anchor: anchor::Config::default(),
        prove: prove::Config::default(),
        block_interval: Duration::ZERO,
        retention: Duration::from_secs(3_600),
        reanchor: BTreeMap::from([("elsewhere".to_owned(), reanchor::Settings::default())]),
        stages: Vec::new(),
    }
}

#[test]
fn the_topics_of_a_site_are_those_that_are_published() {
    #[derive(Deserialize)]
    struct Published {
        topics: BTreeMap<String, Topic>,
    }
    #[derive(Deserialize)]
    struct Topic {
        partitions: String,
        cleanup: String,
    }
    let published: Published = serde_yaml_ng::from_str(killick_schemas::TOPICS).unwrap();
    let plan = some_plan();
    let ours = topics(&plan, &Deployment::new(&plan.deployment).unwrap());
    let ours: BTreeMap<_, _> = ours.iter().map(|topic| (topic.name.to_string(), topic)).collect();
    assert_eq!(ours.keys().collect::<Vec<_>>(), published.topics.keys().collect::<Vec<_>>());
    for (name, topic) in published.topics {
        let partitions = match topic.partitions.as_str() {
            "logs" => 3,
            "chains" => 2,
            "one" => 1,
            "free" => INPUT_PARTITIONS,
            other => panic!("{name}: {other}"),
        };
        assert_eq!(ours[&name].partitions, partitions, "{name}");
        assert_eq!(topic.cleanup == "compact", ours[&name].cleanup == Cleanup::Compact, "{name}");
    }
}

#[test]
fn nothing_goes_before_the_stage_that_reads_it_has_read_it() {
    let plan = some_plan();
    let topics = topics(&plan, &Deployment::new(&plan.deployment).unwrap());
    for hop in ROUTE.iter().chain(&REANCHORING[1..]) {
        for read in hop.reads {
            let topic = topics.iter().find(|topic| *topic.name == **read).unwrap();
            let is_it = |reader: &str| reader == hop.stage || reader == route::group(hop.stage, "elsewhere");
            assert!(topic.readers.iter().any(|reader| is_it(reader)), "{read}");
        }
    }
}

#[test]
fn the_table_of_the_readme_is_the_route() {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).unwrap();
    let list = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    for hop in ROUTE.iter().chain(&REANCHORING) {
        let state = hop.state.map_or("–".to_owned(), |state| format!("`{state}`"));
        let row =
            format!("| {} | {} | {} | {state} | {} |", hop.stage, list(hop.reads), list(hop.writes), hop.key);
        assert!(readme.contains(&row), "the README lacks {row}");
    }
    assert!(readme.contains(&format!("`{}`", route::AUDIT)), "the README lacks {}", route::AUDIT);
}

#[test]
fn a_stage_that_is_none_is_refused_with_the_names_of_all() {
    let place = tempfile::tempdir().unwrap();
    let plan = Plan { stages: vec!["batches".into()], ..some_plan() };
    let error = Site::open(place.path(), plan).err().unwrap().to_string();
    assert!(error.contains("ingest, dedup, batch, anchor, prove"), "{error}");
}

/// Runs until `done`, for a minute at most.
fn wait_until(site: &Site, what: &str, done: impl Fn(&Site) -> bool) {
    let begun = std::time::Instant::now();
    while !done(site) {
        assert!(!site.stopping().is_cancelled() && begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn events_wait_for_a_registry_that_is_away_and_go_on_when_it_comes() {
    let at = |pointer: &str| Some(Place::Pointer(pointer.into()));
    let readings = Source {
        framing: Framing::Registry,
        mapping: Some(Mapping { id: at("/id"), ..Mapping::default() }),
        tenant: Some("plant".into()),
        unsigned: Unsigned::Accept,
        ..Source::new("readings")
    };
    // A port that nobody listens on yet.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}/apis/ccompat/v7");
    let mut plan = some_plan();
    plan.ingest.sources.push(readings);
    plan.ingest.registry = true;
    plan.registry = Some(registry::Settings { url, ..registry::Settings::default() });
    plan.stages = vec!["ingest".into()];
    let place = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut site = Site::open(place.path(), plan).unwrap();
    site.start(runtime.handle(), None).unwrap();

    let partition = Partition::new("readings", 0);
    let record = |value: &'static [u8]| Output::new(partition.clone(), Bytes::new(), value);
    // Schema 7 twice, a broken one, schema 99.
    let records = [&b"\0\0\0\0\x07\x02a"[..], b"{}", b"\0\0\0\0\x07\x02b", b"\0\0\0\0\x63\x02c"].map(record);
    site.log.produce(&records).unwrap();
    let taken = |site: &Site| site.log.committed("ingest", &partition).unwrap().unwrap_or(0);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(taken(&site), 0);

    let schema = r#"{"schema":"{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"id\",\"type\":\"string\"}]}"}"#;
    let missing = r#"{"error_code":40403,"message":"Schema 99 not found"}"#;
    let by_id = "GET /apis/ccompat/v7/schemas/ids/7?deleted=true";
    let answers = vec![(by_id, 200, schema.to_owned()), ("any other", 404, missing.to_owned())];
    let server = registry::server::Server::on(std::net::TcpListener::bind(address).unwrap(), answers);
    wait_until(&site, "the records are taken", |site| taken(site) == 4);
    site.stop().unwrap();
    let read = |topic| {
        let partitions = site.log.partitions(topic).into_iter();
        partitions.flat_map(|partition| site.log.read(&partition, 0, usize::MAX).unwrap()).collect::<Vec<_>>()
    };
    let codes: Vec<_> = read(route::REJECTED)
        .iter()
        .map(|record| record.header("__connect.errors.exception.class.name").unwrap().to_vec())
        .collect();
    assert_eq!(codes, [&b"malformed"[..], b"unknown-schema"]);
    let events = read(route::ACCEPTED);
    let events: usize =
        events.iter().map(|record| AcceptedFrame::decode(&record.value).unwrap().events.len()).sum();
    assert_eq!(events, 2);
    // One question for each schema; the one that is not there is asked for twice.
    let asked = |id: &str| server.asked().iter().filter(|(what, ..)| what.contains(id)).count();
    assert_eq!((asked("ids/7"), asked("ids/99")), (1, 2));
}
