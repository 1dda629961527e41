//! Brokers that demand to know who we are, and what is said when they are not satisfied.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use killick_kafka::topics::{self, TopicsError, Wanted};
use killick_kafka::{Join, KafkaLog, KafkaReader, Settings, Sharing, Start, Starting, preflight};
use killick_stages::deployment::{self, Deployment};
use killick_stages::ports::{Log, LogError, Polled, Producer, Reader};
use killick_stages::record::{Output, Partition};
use killick_stages::route;
use killick_stages::span::Span;
use killick_stages::stage::Part;

use server::{Server, server};

mod server;
mod support;

fn deployment() -> Deployment {
    Deployment::new(&deployment::Config { logs: 1, ..Default::default() }).unwrap()
}

fn wanted(deployment: &Deployment) -> Wanted<'_> {
    Wanted {
        deployment,
        window: Span::secs(25 * 3_600),
        sources: &[],
        series: Vec::new(),
        input_partitions: None,
    }
}

const DEDUP: Starting<'static> = Starting { stage: "dedup", group: "dedup", slot: "0" };

/// The same settings with topics of their own, which are made.
fn site(server: &Server, settings: Settings) -> Settings {
    let prefix = support::unique("");
    let plain = Settings { prefix: prefix.clone(), ..server.plain() };
    assert_eq!(topics::apply(&plain, &wanted(&deployment())).unwrap().left, []);
    Settings { prefix, ..settings }
}

/// Runs the remedies of what preflight refuses until it refuses nothing; gives what they were about.
fn follow_remedies(server: &Server, settings: &Settings) -> Vec<String> {
    let mut about = Vec::new();
    loop {
        match preflight(settings, &wanted(&deployment()), &[DEDUP]) {
            Ok(advice) => {
                assert_eq!(advice, []);
                return about;
            }
            Err(TopicsError::Unfit(findings)) => {
                assert!(about.len() < 20, "it does not end: {findings}");
                for finding in findings.0 {
                    assert!(finding.found.contains("has no right to"), "{finding}");
                    about.push(format!(
                        "{}: {}",
                        finding.about,
                        finding.wanted.rsplit("allows ").next().unwrap()
                    ));
                    server.acl(&finding.remedy);
                }
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// A transaction as dedup makes it: reads, writes, and says how far it is.
fn transact(server: &Server, settings: &Settings) -> Result<(), LogError> {
    let input = Partition::new(route::ACCEPTED, 0);
    let plain = Settings { prefix: settings.prefix.clone(), ..server.plain() };
    let producer = killick_kafka::KafkaProducer::open(&plain, "test").unwrap();
    producer.produce(&[Output::new(input.clone(), "", "a statement")]).unwrap();
    let join = Join {
        group: "dedup",
        slot: "0",
        topics: &[route::ACCEPTED.to_owned()],
        writes: &[],
        sharing: Sharing::Sticky,
        start: Start::Committed,
    };
    let mut log = KafkaLog::join(settings, &join)?;
    log.replay(&Partition::new(route::DEDUP_LOG, 0), None, &mut |_| {})?;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < deadline, "no record comes");
        let Some(offset) = log.poll(Duration::from_millis(100))?.into_iter().find_map(|event| match event {
            Polled::Record(record) => Some(record.offset),
            _ => None,
        }) else {
            continue;
        };
        let output = |topic| Output::new(Partition::new(topic, 0), "", "dedup's word");
        let outputs = vec![output(route::UNIQUE), output(route::DEDUP_LOG), output(route::AUDIT)];
        return log.commit(&[(input, Part { outputs, through: Some(offset + 1) })]);
    }
}

fn assert_written(server: &Server, settings: &Settings) {
    let plain = Settings { prefix: settings.prefix.clone(), ..server.plain() };
    let mut reader = KafkaReader::open(&plain, "test").unwrap();
    let records = reader.read(&Partition::new(route::UNIQUE, 0), 0, 1 << 20).unwrap();
    assert_eq!(&records[0].value[..], b"dedup's word");
    assert_eq!(reader.committed("dedup", &Partition::new(route::ACCEPTED, 0)).unwrap(), Some(1));
}

/// Every right that dedup needs, and no other; `seeing` is what it takes to look at a topic's settings.
fn assert_least(settings: &Settings, mut about: Vec<String>, seeing: &str) {
    about.sort();
    let topic = |topic: &str, rights: &str| format!("topic {}{topic}: {seeing}{rights}", settings.prefix);
    let mut expected = vec![
        format!("group {}dedup: Read", settings.prefix),
        format!("transactional id {}dedup-0: Write", settings.prefix),
        topic("accepted", "Read"),
        topic("audit", "Write"),
        topic("dedup-log", "Read and Write"),
        topic("rejected", "Write"),
        topic("unique", "Write"),
    ];
    expected.sort();
    assert_eq!(about, expected);
}

#[test]
fn a_password_and_the_rights_that_preflight_names_are_enough() {
    let server = server();
    let settings = site(&server, server.scram());
    assert_least(&settings, follow_remedies(&server, &settings), "DescribeConfigs and ");
    transact(&server, &settings).unwrap();
    assert_written(&server, &settings);
}

#[test]
fn a_certificate_and_the_rights_that_preflight_names_are_enough() {
    let server = server();
    let settings = site(&server, server.mtls());
    // Whoever may see all may do nothing yet.
    server.acl(&format!(
        "kafka-acls --bootstrap-server x --command-config admin.properties --add --allow-principal User:CN=client \
         --operation Describe --operation DescribeConfigs --resource-pattern-type prefixed --topic {}",
        settings.prefix
    ));
    assert_least(&settings, follow_remedies(&server, &settings), "");
    transact(&server, &settings).unwrap();
    assert_written(&server, &settings);
}

#[test]
fn whoever_applies_is_told_the_rights_that_it_takes() {
    let server = server();
    let settings = Settings { prefix: support::unique(""), ..server.scram() };
    let error = topics::apply(&settings, &wanted(&deployment())).unwrap_err().to_string();
    let (said, command) = error.split_once("kafka-acls").unwrap();
    assert!(said.contains("whoever applies needs all rights"), "{error}");
    server.acl(&format!("kafka-acls{command}"));
    let applied = topics::apply(&settings, &wanted(&deployment())).unwrap();
    assert_eq!(applied.left, []);
    assert!(!applied.done.is_empty());
}

#[test]
fn settings_that_do_not_fit_the_brokers_are_told_from_each_other() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let wrong_password = folder.path().join("password");
    fs::write(&wrong_password, "not the password\n").unwrap();
    let wrong_ca = folder.path().join("ca.pem");
    fs::write(&wrong_ca, rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem())
        .unwrap();
    let nobody = format!("127.0.0.1:{}", free_port());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let with = |mut settings: Settings, change: &dyn Fn(&mut Settings)| {
        change(&mut settings);
        settings
    };
    let cases = [
        (
            "password",
            with(server.scram(), &|all| all.security.password_file = Some(wrong_password.clone())),
            "password_file right",
        ),
        (
            "user",
            with(server.scram(), &|all| all.security.username = Some("nobody".to_owned())),
            "user exist",
        ),
        (
            "mechanism",
            with(server.scram(), &|all| all.security.mechanism = Some(killick_kafka::Mechanism::ScramSha256)),
            "mechanism",
        ),
        (
            "authority",
            with(server.scram(), &|all| all.security.ca_file = Some(wrong_ca.clone())),
            "ca_file right",
        ),
        (
            "no TLS",
            with(server.scram(), &|all| all.security = killick_kafka::Security::default()),
            "expect TLS or SASL",
        ),
        (
            "TLS for nothing",
            with(server.mtls(), &|all| all.brokers = server.plain().brokers),
            "[kafka.security] tls",
        ),
        (
            "no certificate",
            with(server.mtls(), &|all| (all.security.certificate_file, all.security.key_file) = (None, None)),
            "certificate_file and key_file",
        ),
        ("no SASL", with(server.mtls(), &|all| all.brokers = server.scram().brokers), "mechanism"),
        (
            "nobody there",
            with(server.plain(), &|all| all.brokers = vec![nobody.clone()]),
            "nothing listens there",
        ),
        (
            "no such name",
            with(server.plain(), &|all| all.brokers = vec!["nowhere.invalid:9092".to_owned()]),
            "can this machine resolve it",
        ),
        ("silence", with(server.plain(), &|all| all.brokers = vec![address.clone()]), "firewall"),
    ];
    for (case, settings, remedy) in cases {
        let begun = Instant::now();
        let error = preflight(&settings, &wanted(&deployment()), &[DEDUP]).unwrap_err().to_string();
        let took = begun.elapsed();
        println!("{case}, {took:?}: {error}");
        assert!(error.contains("no broker can be used") && error.contains(remedy), "{case}: {error}");
        assert!(error.contains(&settings.brokers[0]), "{case}: {error}");
        assert!(took < Duration::from_secs(60), "{case}: {took:?}, and it was to give up by itself");
    }
    drop(silent);
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let server = server();
    for (name, change) in [
        (
            "ca_file",
            (|all: &mut Settings, path: &Path| all.security.ca_file = Some(path.to_owned()))
                as fn(&mut Settings, &Path),
        ),
        ("password_file", |all, path| all.security.password_file = Some(path.to_owned())),
    ] {
        let mut settings = server.scram();
        change(&mut settings, Path::new("/nowhere/at/all"));
        let error = preflight(&settings, &wanted(&deployment()), &[DEDUP]).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("/nowhere/at/all"), "{error}");
    }
}
