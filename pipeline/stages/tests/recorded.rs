//! Records as published libraries of other people write them: what ingest makes of each.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use killick_proof::Algorithm;
use killick_proof::encoding::base64url;
use killick_proof::signature::SecretKey;
use killick_proof::statement::{Attestation, Statement};
use killick_stages::deployment::{self, Deployment};
use killick_stages::devices::Device;
use killick_stages::ingest::{Checker, Config, Secret, Tenant, Verdict};
use killick_stages::record::{Header, Partition, Record};
use killick_stages::registry::{Lookup, SCHEMA_ID, SchemaId, Schemas};
use killick_stages::source::{Freshness, Source};
use serde_json::{Value, json};

fn vectors(file: &str) -> Value {
    let path = format!("{}/../../schemas/vectors/records/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn base64(value: &Value) -> Bytes {
    STANDARD.decode(value.as_str().unwrap()).unwrap().into()
}

fn record(vector: &Value, header: impl Fn(&Value) -> Bytes) -> Record {
    let headers = vector["headers"].as_array().unwrap().iter();
    let headers =
        headers.map(|pair| Header { name: pair[0].as_str().unwrap().into(), value: header(&pair[1]) });
    Record {
        partition: Partition::new("records", 0),
        offset: 0,
        append_time: 1_767_225_600_000_000,
        key: Bytes::new(),
        value: base64(&vector["value"]),
        headers: headers.collect(),
    }
}

fn checker(source: Value) -> Checker {
    let mut source: Source = serde_json::from_value(source).unwrap();
    source.freshness = Freshness::Off;
    let key = base64url(SecretKey::from_seed(&[1; 32]).public().as_bytes());
    let device = Device { tenant: "acme".into(), source: "pump-1".into(), key, from: None, until: None };
    let tenant = Tenant { secret: Secret::new("a secret of some length") };
    let config = Config {
        sources: vec![source],
        devices: vec![device],
        tenants: [("acme".to_owned(), tenant)].into(),
        registry: true,
    };
    let deployment = Deployment::new(&deployment::Config::default()).unwrap();
    Checker::new(&deployment, &config).unwrap()
}

fn accepted(verdict: Verdict, name: &str) -> Bytes {
    match verdict {
        Verdict::Accepted { statement, .. } => statement,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn cloud_events_of_published_libraries_are_accepted_with_their_payload_as_it_stands() {
    let checker = checker(json!({"topic": "records", "decoder": "cloudevents", "unsigned": "accept"}));
    let vectors = vectors("cloudevents.json");
    for vector in vectors.as_array().unwrap() {
        let name = format!("{} {}", vector["origin"], vector["name"]);
        let record = record(vector, |text| text.as_str().unwrap().to_owned().into());
        let statement = accepted(checker.check(&record, &Schemas::default()), &name);
        let statement = Statement::decode(&statement).unwrap();
        let (event, expected) = (statement.event, &vector["expected"]);
        assert_eq!((event.tenant, event.source), ("acme", expected["source"].as_str().unwrap()), "{name}");
        assert_eq!(
            (event.id, event.kind),
            (expected["id"].as_str().unwrap(), expected["type"].as_str().unwrap())
        );
        assert_eq!(event.time, expected["time"].as_i64().unwrap(), "{name}");
        assert_eq!(event.digest, Algorithm::Sha256.digest(&base64(&expected["payload"])), "{name}");
        let is_signed = matches!(statement.attestation, Attestation::Signed { .. });
        assert_eq!(is_signed, expected["signed"].as_bool().unwrap(), "{name}");
    }
    assert_eq!(vectors.as_array().unwrap().len(), 10);
}

#[test]
fn avro_of_published_libraries_is_mapped_and_its_payload_is_the_value_with_its_prefix() {
    let at = |pointer: &str| json!({ "pointer": pointer });
    let checker = checker(json!({
        "topic": "records", "framing": "registry", "tenant": "acme", "unsigned": "accept",
        "mapping": {"source": at("/machine/name"), "id": at("/reading"), "time": at("/at"), "type": at("/kind")},
    }));
    let vectors = vectors("avro.json");
    let schema = vectors["schema"].as_str().unwrap();
    for vector in vectors["records"].as_array().unwrap() {
        let name = format!("{} {}", vector["origin"], vector["name"]);
        let record = record(vector, base64);
        let mut schemas = Schemas::default();
        let Verdict::Awaits(id) = checker.check(&record, &schemas) else { panic!("{name}") };
        assert_eq!(matches!(id, SchemaId::Guid(_)), record.header(SCHEMA_ID).is_some(), "{name}");
        schemas.learn(id, Lookup::Found(vec![schema.into()]), record.append_time);
        let statement = accepted(checker.check(&record, &schemas), &name);
        let (event, expected) = (Statement::decode(&statement).unwrap().event, &vector["expected"]);
        assert_eq!(
            (event.source, event.id),
            (expected["source"].as_str().unwrap(), expected["id"].as_str().unwrap())
        );
        assert_eq!(
            (event.time, event.kind),
            (expected["time"].as_i64().unwrap(), expected["type"].as_str().unwrap())
        );
        assert_eq!(event.digest, Algorithm::Sha256.digest(&record.value), "{name}");
    }
    assert_eq!(vectors["records"].as_array().unwrap().len(), 3);
}

#[test]
fn a_pinned_schema_reads_whatever_id_a_record_names() {
    let vectors = vectors("avro.json");
    let source = json!({
        "topic": "records", "framing": "registry", "tenant": "acme", "unsigned": "accept", "schema_file": "reading.avsc",
        "mapping": {"id": {"pointer": "/tags/line"}},
    });
    let mut pinned: Source = serde_json::from_value(source).unwrap();
    pinned.schema = Some(vectors["schema"].as_str().unwrap().into());
    let tenant = Tenant { secret: Secret::new("a secret of some length") };
    let tenants = [("acme".to_owned(), tenant)].into();
    let config = Config { sources: vec![pinned], tenants, ..Config::default() };
    let deployment = Deployment::new(&deployment::Config::default()).unwrap();
    let checker = Checker::new(&deployment, &config).unwrap();
    for vector in vectors["records"].as_array().unwrap() {
        let mut record = record(vector, base64);
        record.headers.iter_mut().for_each(|header| header.value = Bytes::from_static(b"any"));
        let statement = accepted(checker.check(&record, &Schemas::default()), &vector["name"].to_string());
        assert_eq!(Statement::decode(&statement).unwrap().event.id, "7");
    }
}
