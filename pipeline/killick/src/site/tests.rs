use std::collections::BTreeMap;

use killick_stages::route::ROUTE;
use killick_stages::source::Source;
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
    for hop in ROUTE {
        for read in hop.reads {
            let topic = topics.iter().find(|topic| *topic.name == **read).unwrap();
            assert!(topic.readers.iter().any(|reader| **reader == *hop.stage), "{read}");
        }
    }
}

#[test]
fn the_table_of_the_readme_is_the_route() {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).unwrap();
    let list = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    for hop in ROUTE {
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
