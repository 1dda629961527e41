//! Topics of a deployment on real brokers: made, damaged, found out, made right.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use killick_kafka::topics::{self, Applied, Finding, TopicsError, Wanted, Weight};
use killick_kafka::{
    Join, KafkaLog, KafkaProducer, KafkaReader, Names, Settings, Sharing, Start, Starting, preflight,
};
use killick_stages::deployment::{self, Deployment};
use killick_stages::ports::{Log, Polled, Producer, Reader};
use killick_stages::record::{Output, Partition};
use killick_stages::route::{self, ROUTE};
use killick_stages::source::{Freshness, Source, Timestamps};
use killick_stages::span::Span;
use killick_stages::stage::Part;

mod damage;
mod support;

/// A deployment that nobody else has.
struct Site {
    settings: Settings,
    deployment: Deployment,
    sources: Vec<Source>,
    series: Vec<String>,
}

impl Site {
    /// With one source, whose topic is there.
    fn new() -> Self {
        let settings = Settings { prefix: support::unique(""), ..support::settings() };
        let sources = vec![source(&settings)];
        let site = Self { sources, series: Vec::new(), deployment: deployment(3, 2), settings };
        support::make_topic(&site.sources[0].topic, 2, &[]);
        site
    }

    /// With all its topics.
    fn applied() -> Self {
        let site = Self::new();
        assert_eq!(site.apply().left, []);
        site
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            deployment: &self.deployment,
            window: Span::secs(25 * 3_600),
            sources: &self.sources,
            series: self.series.iter().map(String::as_str).collect(),
            input_partitions: None,
        }
    }

    fn apply(&self) -> Applied {
        topics::apply(&self.settings, &self.wanted()).unwrap()
    }

    fn check(&self) -> Vec<Finding> {
        topics::check(&self.settings, &self.wanted()).unwrap()
    }

    fn name(&self, topic: &str) -> String {
        Names::new(&self.settings.prefix).topic(topic)
    }

    fn reader(&self) -> KafkaReader {
        KafkaReader::open(&self.settings, "test").unwrap()
    }

    /// The one thing that is wrong.
    fn only_finding(&self) -> Finding {
        let mut findings = self.check();
        assert_eq!(findings.len(), 1, "{findings:#?}");
        findings.remove(0)
    }

    fn partition_counts(&self) -> Vec<(&'static str, usize)> {
        let mut reader = self.reader();
        inner_topics().into_iter().map(|topic| (topic, reader.partitions(topic).unwrap().len())).collect()
    }

    /// Passes the first record of a partition through a stage.
    fn work(&self, stage: &str, input: &Partition, outputs: Vec<Output>) {
        let producer = KafkaProducer::open(&self.settings, "test").unwrap();
        producer.produce(&[Output::new(input.clone(), "", "input")]).unwrap();
        let join = Join {
            group: stage,
            slot: "0",
            topics: &[input.topic.as_str().to_owned()],
            writes: &[],
            sharing: Sharing::Sticky,
            start: Start::Committed,
        };
        let mut log = KafkaLog::join(&self.settings, &join).unwrap();
        let deadline = Instant::now() + Duration::from_secs(40);
        loop {
            assert!(Instant::now() < deadline, "no record comes");
            let polled = log.poll(Duration::from_millis(100)).unwrap();
            let Some(offset) = polled.into_iter().find_map(|event| match event {
                Polled::Record(record) if record.partition == *input => Some(record.offset),
                _ => None,
            }) else {
                continue;
            };
            let part = Part { outputs, through: Some(offset + 1) };
            log.commit(&[(input.clone(), part)]).unwrap();
            break;
        }
    }
}

fn source(settings: &Settings) -> Source {
    Source::new(&format!("{}machines", settings.prefix))
}

fn deployment(logs: u32, chains: u32) -> Deployment {
    let config = deployment::Config { logs, chains: (0..chains).collect(), ..Default::default() };
    Deployment::new(&config).unwrap()
}

fn inner_topics() -> BTreeSet<&'static str> {
    let of = |hop: &'static route::Hop| hop.writes.iter().copied().chain(hop.state);
    ROUTE.iter().flat_map(of).chain([route::AUDIT]).collect()
}

fn says(finding: &Finding, parts: &[&str]) {
    let text = finding.to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{text}\nlacks one of {parts:?}");
}

#[test]
fn apply_makes_every_topic_and_lets_every_group_begin() {
    let site = Site::new();
    let found = site.check();
    for topic in inner_topics() {
        let finding = found.iter().find(|finding| finding.about == format!("topic {}", site.name(topic)));
        says(finding.unwrap(), &["no such topic", "killick topics apply"]);
    }
    let applied = site.apply();
    assert_eq!(applied.left, []);
    assert_eq!(applied.done.len(), inner_topics().len() + ROUTE.len(), "{:#?}", applied.done);
    assert_eq!(site.check(), []);
    for (topic, count) in site.partition_counts() {
        let is_by_chain = [route::CHECKPOINTS, route::ANCHOR_LOG].contains(&topic);
        assert_eq!(count, if is_by_chain { 2 } else { 3 }, "{topic}");
    }
    let mut reader = site.reader();
    for hop in ROUTE {
        let own = [site.sources[0].topic.as_str()];
        for topic in if hop.stage == "ingest" { &own } else { hop.reads } {
            for partition in reader.partitions(topic).unwrap() {
                assert_eq!(reader.committed(hop.stage, &partition).unwrap(), Some(0), "{partition}");
            }
        }
    }
}

#[test]
fn apply_again_does_nothing() {
    let site = Site::applied();
    assert_eq!(site.apply(), Applied { done: Vec::new(), left: Vec::new() });
}

#[test]
fn two_who_apply_at_once_make_what_one_makes() {
    let site = Site::new();
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| topics::apply(&site.settings, &site.wanted()));
        let other = scope.spawn(|| topics::apply(&site.settings, &site.wanted()));
        (one.join().unwrap(), other.join().unwrap())
    });
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!((one.left, other.left), (Vec::new(), Vec::new()));
    // Each thing was done by one of them.
    assert_eq!(one.done.len() + other.done.len(), inner_topics().len() + ROUTE.len());
    assert_eq!(site.check(), []);
    assert_eq!(site.apply().done, Vec::<String>::new());
}

#[test]
fn a_topic_that_was_deleted_is_found_and_made_again() {
    let site = Site::applied();
    damage::delete_topic(&site.name(route::PROOFS));
    says(&site.only_finding(), &[&site.name(route::PROOFS), "no such topic"]);
    assert_eq!(site.apply().left, []);
}

#[test]
fn state_that_was_deleted_after_work_is_never_made_again() {
    let site = Site::applied();
    let input = Partition::new(route::ACCEPTED, 1);
    site.work("dedup", &input, vec![Output::new(Partition::new(route::DEDUP_LOG, 1), "", "state")]);
    damage::delete_topic(&site.name(route::DEDUP_LOG));
    let applied = site.apply();
    assert_eq!(applied.done, Vec::<String>::new());
    assert_eq!(applied.left.len(), 1, "{:#?}", applied.left);
    says(&applied.left[0], &["dedup has worked", "restore it"]);
}

#[test]
fn another_number_of_logs_is_refused_and_more_chains_are_added() {
    let mut site = Site::applied();
    site.deployment = deployment(4, 2);
    let applied = site.apply();
    assert_eq!(applied.done, Vec::<String>::new());
    let by_log = inner_topics().len() - 2;
    assert_eq!(applied.left.len(), by_log);
    for finding in &applied.left {
        says(finding, &["it has 3 partitions", "4, one for each", "logs = 3 again", "generation"]);
        assert_eq!(finding.weight, Weight::Breaks);
    }
    site.deployment = deployment(3, 3);
    let findings = site.check();
    assert_eq!(findings.len(), 2, "{findings:#?}");
    assert_eq!(site.apply().left, []);
    let mut reader = site.reader();
    assert_eq!(reader.partitions(route::CHECKPOINTS).unwrap().len(), 3);
    assert_eq!(reader.committed("anchor", &Partition::new(route::CHECKPOINTS, 2)).unwrap(), Some(0));
    site.deployment = deployment(3, 2);
    assert!(site.apply().left.iter().all(|finding| finding.remedy.contains("never removed")));
}

#[test]
fn settings_that_break_a_promise_are_found_and_set_right() {
    let site = Site::applied();
    for (topic, key, wrong, right) in [
        (route::ACCEPTED, "retention.ms", "3600000", "694800000"),
        (route::BATCHES, "retention.ms", "86400000", "-1"),
        (route::UNIQUE, "retention.bytes", "1000000", "-1"),
        (route::BATCH_LOG, "cleanup.policy", "delete", "compact"),
        (route::DEDUP_LOG, "cleanup.policy", "compact", "delete"),
        (route::ANCHOR_LOG, "delete.retention.ms", "1000", "86400000"),
        (route::CHECKPOINTS, "message.timestamp.type", "CreateTime", "LogAppendTime"),
        (route::PROOFS, "max.message.bytes", "100000", "965536"),
        (route::ANCHORS, "unclean.leader.election.enable", "true", "false"),
    ] {
        let name = site.name(topic);
        damage::configure(&name, key, wrong);
        let finding = site.only_finding();
        says(
            &finding,
            &[&format!("topic {name}"), &format!("{key} is {wrong}"), right, "kafka-configs", "apply"],
        );
        assert!(finding.is_breaking());
        let applied = site.apply();
        assert_eq!(applied.left, [], "{topic} {key}");
        assert_eq!(applied.done, [format!("set {key}={right} of topic {name}")]);
    }
}

#[test]
fn apply_shortens_no_retention_and_keeps_what_others_set() {
    let site = Site::applied();
    let name = site.name(route::ACCEPTED);
    damage::configure(&name, "retention.ms", "-1");
    damage::configure(&name, "file.delete.delay.ms", "12345");
    assert_eq!(site.apply().done, Vec::<String>::new());
    damage::configure(&name, "retention.bytes", "5000");
    site.apply();
    assert_eq!(damage::configuration(&name, "retention.ms"), "-1");
    assert_eq!(damage::configuration(&name, "file.delete.delay.ms"), "12345");
    assert_eq!(damage::configuration(&name, "retention.bytes"), "-1");
}

#[test]
fn replicas_that_cannot_be_are_refused_with_their_number() {
    let mut site = Site::new();
    site.settings.replication = 3;
    site.settings.min_in_sync = 2;
    let findings = site.check();
    let brokers = findings.iter().find(|finding| finding.about == "brokers").unwrap();
    says(brokers, &["the cluster has 1", "3 or more", "replication = 1"]);
    let error = topics::apply(&site.settings, &site.wanted()).unwrap_err().to_string();
    assert!(error.contains("the cluster has 1 brokers") && error.contains("[kafka] replication"), "{error}");
    // Made for one broker, and then asked for three.
    site.settings.replication = 1;
    site.settings.min_in_sync = 1;
    site.apply();
    site.settings.replication = 3;
    site.settings.min_in_sync = 2;
    let accepted = format!("topic {}", site.name(route::ACCEPTED));
    let found: Vec<_> = site.check().into_iter().filter(|finding| finding.about == accepted).collect();
    says(&found[0], &["have 1 replicas", "kafka-reassign-partitions"]);
    says(&found[1], &["min.insync.replicas is 1", "2 or more"]);
}

#[test]
fn sources_are_looked_at_and_never_touched() {
    let mut site = Site::applied();
    let name = site.sources[0].topic.clone();
    for (key, wrong, right, parts) in [
        (
            "message.timestamp.type",
            "CreateTime",
            "LogAppendTime",
            ["kafka-configs", "timestamps = \"producer\""],
        ),
        ("cleanup.policy", "compact", "delete", ["kafka-configs", "nobody has read"]),
        ("retention.ms", "3600000", "-1", ["kafka-configs", "freshness"]),
    ] {
        damage::configure(&name, key, wrong);
        let applied = site.apply();
        assert_eq!(applied.done, Vec::<String>::new());
        assert_eq!(applied.left.len(), 1, "{:#?}", applied.left);
        says(&applied.left[0], &[&format!("{key} is {wrong}"), parts[0], parts[1]]);
        assert!(applied.left[0].is_breaking());
        damage::configure(&name, key, right);
    }
    // Said explicitly, each of these is the operator's choice.
    damage::configure(&name, "message.timestamp.type", "CreateTime");
    damage::configure(&name, "retention.ms", "3600000");
    site.sources[0].timestamps = Timestamps::Producer;
    site.sources[0].freshness = Freshness::Within(Span::secs(60));
    assert_eq!(site.check(), []);
    damage::configure(&name, "min.insync.replicas", "2");
    says(&site.only_finding(), &["min.insync.replicas is 2", "nothing can be written"]);
    site.sources = vec![Source::new("nowhere-at-all")];
    says(&site.only_finding(), &["topic nowhere-at-all", "no such topic", "kafka-topics", "--create"]);
    site.sources = vec![Source::new(&site.name(route::PROOFS))];
    assert!(site.check().iter().any(|finding| finding.found.contains("a topic that the stages write")));
}

#[test]
fn new_partitions_of_a_source_begin_where_they_begin() {
    let site = Site::applied();
    let name = &site.sources[0].topic;
    damage::grow(name, 4);
    let finding = site.only_finding();
    says(&finding, &["ingest", "has not begun", "partitions 2-3", "killick topics apply"]);
    assert_eq!(site.apply().left, []);
    let mut reader = site.reader();
    assert_eq!(reader.committed("ingest", &Partition::new(name.as_str(), 3)).unwrap(), Some(0));
}

#[test]
fn offsets_that_were_removed_are_not_made_up() {
    let site = Site::applied();
    let input = Partition::new(route::ACCEPTED, 1);
    site.work("dedup", &input, vec![Output::new(Partition::new(route::DEDUP_LOG, 1), "", "state")]);
    damage::delete_group(&Names::new(&site.settings.prefix).group("dedup"));
    let applied = site.apply();
    // Where the stage has no state it has done nothing: there it may begin.
    assert_eq!(applied.done.len(), 1, "{:?}", applied.done);
    assert_eq!(applied.left.len(), 1, "{:#?}", applied.left);
    says(&applied.left[0], &["no offset", "partitions 1)", "has worked", "--reset-offsets"]);
    let mut reader = site.reader();
    assert_eq!(reader.committed("dedup", &input).unwrap(), None);
    assert_eq!(reader.committed("dedup", &Partition::new(route::ACCEPTED, 0)).unwrap(), Some(0));
    // Ingest has no state: what it wrote says that it has worked.
    damage::delete_group(&Names::new(&site.settings.prefix).group("ingest"));
    let found = site.check();
    let ingest = found.iter().find(|finding| finding.about.contains("ingest")).unwrap();
    says(ingest, &["no offset", "partitions 0-1)", "has worked"]);
}

#[test]
fn records_that_went_before_they_were_read_are_found() {
    let site = Site::applied();
    let input = Partition::new(route::UNIQUE, 2);
    let producer = KafkaProducer::open(&site.settings, "test").unwrap();
    producer.produce(&[Output::new(input.clone(), "", "a"), Output::new(input, "", "b")]).unwrap();
    support::delete_records(&site.name(route::UNIQUE), 2, 1);
    let finding = site.only_finding();
    says(&finding, &["batch", "offset 0 of", "1 to 2", "--to-earliest"]);
    assert_eq!(site.apply().left, [finding]);
}

#[test]
fn stages_start_where_all_is_right_and_are_told_what_is_wrong_elsewhere() {
    let site = Site::applied();
    let all: Vec<_> =
        ROUTE.iter().map(|hop| Starting { stage: hop.stage, group: hop.stage, slot: "0" }).collect();
    let begun = Instant::now();
    assert_eq!(preflight(&site.settings, &site.wanted(), &all).unwrap(), []);
    println!("preflight of five stages: {:?}", begun.elapsed());
    let mut reader = site.reader();
    for topic in inner_topics() {
        for partition in reader.partitions(topic).unwrap() {
            assert_eq!(reader.range(&partition).unwrap(), (0, 0), "{partition} was written to");
        }
    }
    // What is not well, but can be run, is told and refuses nothing.
    let segments = site.name(route::BATCH_LOG);
    damage::configure(&segments, "segment.bytes", "1073741824");
    let advice = preflight(&site.settings, &site.wanted(), &all).unwrap();
    assert_eq!(advice.len(), 1, "{advice:?}");
    says(&advice[0], &["segment.bytes is 1073741824", "read back at every start"]);
    damage::configure(&site.name(route::ACCEPTED), "retention.ms", "3600000");
    damage::delete_topic(&site.name(route::CHECKPOINTS));
    let refusal = |stage| match preflight(
        &site.settings,
        &site.wanted(),
        &[Starting { stage, group: stage, slot: "0" }],
    ) {
        Ok(_) => String::new(),
        Err(error @ TopicsError::Unfit(_)) => error.to_string(),
        Err(other) => panic!("{other}"),
    };
    let dedup = refusal("dedup");
    assert!(dedup.contains("retention.ms is 3600000") && dedup.contains("killick topics apply"), "{dedup}");
    assert!(!dedup.contains("checkpoints"), "{dedup}");
    let anchor = refusal("anchor");
    assert!(anchor.contains("checkpoints: there is no such topic"), "{anchor}");
    // Others have nothing to do with either.
    assert_eq!(refusal("prove"), "");
}

#[test]
fn descriptions_say_what_is_wanted_and_what_there_is() {
    let site = Site::new();
    let described = topics::describe(&site.settings, &site.wanted()).unwrap();
    assert!(described.iter().all(|topic| topic.is_source == topic.found.is_some()));
    site.apply();
    let producer = KafkaProducer::open(&site.settings, "test").unwrap();
    producer.produce(&[Output::new(Partition::new(route::UNIQUE, 2), "", "a")]).unwrap();
    let described = topics::describe(&site.settings, &site.wanted()).unwrap();
    let topic = |name: &str| described.iter().find(|topic| topic.topic == name).unwrap();
    for inner in inner_topics() {
        assert_eq!(topic(inner).found.as_ref(), Some(&topic(inner).wanted), "{inner}");
    }
    let unique = topic(route::UNIQUE);
    assert_eq!(
        (unique.records, &unique.writers[..], &unique.readers[..]),
        (Some(1), &["dedup"][..], &["batch"][..])
    );
    assert_eq!(topic(route::AUDIT).writers.len(), ROUTE.len());
}
