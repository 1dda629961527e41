//! The settings in effect as a configuration file that says the same, with `***` for secrets.

use killick_stages::mapping::{Mapping, Place, TimeFormat};
use killick_stages::source::{Decoder, Framing, Freshness, Source, Timestamps, Unsigned};
use toml::{Table, Value};

use super::Config;

/// The whole configuration as TOML.
pub fn toml(config: &Config) -> String {
    let Config {
        deployment,
        sources,
        devices,
        tenants,
        dedup,
        batch,
        anchor,
        prove,
        registry,
        kafka,
        catalog,
        keys,
        reanchor,
        chainweb,
        devnet,
        embedded,
        admin,
    } = config;
    let mut root = Table::new();
    let mut section = |name: &str, settings: Vec<(&str, Option<Value>)>| {
        root.insert(name.to_owned(), table(settings));
    };
    let chains = deployment.chains.iter().map(|chain| Value::from(i64::from(*chain))).collect();
    section(
        "deployment",
        vec![
            ("name", text(&deployment.name)),
            ("generation", number(deployment.generation)),
            ("hash", text(&deployment.hash)),
            ("logs", number(deployment.logs)),
            ("network", text(&deployment.network)),
            ("chains", Some(Value::Array(chains))),
        ],
    );
    section("dedup", vec![("window", text(dedup.window))]);
    section(
        "batch",
        vec![
            ("max_leaves", number(batch.max_leaves as u64)),
            ("max_bytes", number(batch.max_bytes as u64)),
            ("width", text(batch.width)),
        ],
    );
    section("anchor", anchor_settings(anchor));
    let ids = [("proof_ready", prove.schema_ids.proof_ready), ("receipt", prove.schema_ids.receipt)];
    section(
        "prove",
        vec![
            ("poll", text(prove.poll)),
            ("receipts", Some(Value::Boolean(prove.receipts))),
            ("schema_ids", Some(table(ids.map(|(name, id)| (name, number(id))).to_vec()))),
        ],
    );
    if let Some(kafka) = kafka {
        section("kafka", kafka_settings(kafka));
    }
    if let Some(catalog) = catalog {
        section("catalog", catalog_settings(catalog));
    }
    if let Some(folder) = &keys.folder {
        section("keys", vec![("folder", text(folder.display()))]);
    }
    if let Some(chainweb) = chainweb {
        section("chainweb", chainweb_settings(chainweb));
    }
    if let Some(registry) = registry {
        section(
            "registry",
            vec![
                ("url", text(&registry.url)),
                ("username", registry.username.as_ref().and_then(text)),
                ("password_file", registry.password_file.as_ref().and_then(|file| text(file.display()))),
                ("ca_file", registry.ca_file.as_ref().and_then(|file| text(file.display()))),
                ("connect_timeout", text(registry.connect_timeout)),
                ("timeout", text(registry.timeout)),
            ],
        );
    }
    section("devnet", vec![("block_interval", text(devnet.block_interval))]);
    section("embedded", vec![("retention", text(embedded.retention))]);
    if let Some(listen) = admin.listen {
        section("admin", vec![("listen", text(listen))]);
    }
    let device = |device: &killick_stages::devices::Device| {
        table(vec![
            ("tenant", text(&device.tenant)),
            ("source", text(&device.source)),
            ("key", text(&device.key)),
            ("from", device.from.map(Value::from)),
            ("until", device.until.map(Value::from)),
        ])
    };
    let lists = [
        ("source", sources.iter().map(source).collect::<Vec<_>>()),
        ("device", devices.iter().map(device).collect()),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        root.insert(name.to_owned(), Value::Array(list));
    }
    if !reanchor.is_empty() {
        let series = reanchor.iter().map(|(name, series)| {
            let chains = series.chains.iter().map(|chain| Value::from(i64::from(*chain))).collect();
            let settings = vec![
                ("network", series.network.as_ref().and_then(text)),
                ("chains", Some(Value::Array(chains))),
                ("key_file", series.key_file.as_ref().and_then(|file| text(file.display()))),
                ("anchor", Some(table(anchor_settings(&series.anchor)))),
                ("chainweb", series.chainweb.as_ref().map(|nodes| table(chainweb_settings(nodes)))),
            ];
            (name.clone(), table(settings))
        });
        root.insert("reanchor".to_owned(), Value::Table(series.collect()));
    }
    if !tenants.is_empty() {
        let tenants = tenants.iter().map(|(name, tenant)| {
            let file = tenant.secret_file.as_ref().and_then(|file| text(file.display()));
            let secret = if file.is_none() { text("***") } else { None };
            (name.clone(), table(vec![("secret", secret), ("secret_file", file)]))
        });
        root.insert("tenant".to_owned(), Value::Table(tenants.collect()));
    }
    toml::to_string(&root).expect("a table of texts and numbers can be written")
}

fn anchor_settings(anchor: &killick_stages::anchor::Config) -> Vec<(&'static str, Option<Value>)> {
    vec![
        ("interval", text(anchor.interval)),
        ("depth", number(anchor.depth)),
        ("watch", number(anchor.watch)),
        ("poll", text(anchor.poll)),
        ("ttl", text(anchor.ttl)),
        ("in_flight", number(anchor.in_flight as u64)),
        ("gas_limit", number(anchor.gas_limit)),
        ("gas_price", text(&anchor.gas_price)),
        ("spend_limit", anchor.spend_limit.as_ref().and_then(text)),
        ("chain", text(anchor.chain.name())),
        ("sender", anchor.sender.as_ref().and_then(text)),
        ("balance_poll", text(anchor.balance_poll)),
        ("balance_alarm_days", number(anchor.balance_alarm_days)),
    ]
}

fn chainweb_settings(chainweb: &killick_nodes::Settings) -> Vec<(&'static str, Option<Value>)> {
    let nodes = chainweb.nodes.iter().map(|node| Value::from(node.as_str())).collect();
    vec![
        ("nodes", Some(Value::Array(nodes))),
        ("connect_timeout", text(chainweb.connect_timeout)),
        ("timeout", text(chainweb.timeout)),
        ("ca_file", chainweb.ca_file.as_ref().and_then(|file| text(file.display()))),
    ]
}

fn kafka_settings(kafka: &killick_kafka::Settings) -> Vec<(&'static str, Option<Value>)> {
    let brokers = kafka.brokers.iter().map(|broker| Value::from(broker.as_str())).collect();
    let security = &kafka.security;
    let file = |path: &Option<std::path::PathBuf>| path.as_ref().and_then(|path| text(path.display()));
    let shown = table(vec![
        ("tls", Some(Value::Boolean(security.tls))),
        ("ca_file", file(&security.ca_file)),
        ("certificate_file", file(&security.certificate_file)),
        ("key_file", file(&security.key_file)),
        ("mechanism", security.mechanism.and_then(text)),
        ("username", security.username.as_ref().and_then(text)),
        ("password_file", file(&security.password_file)),
    ]);
    vec![
        ("brokers", Some(Value::Array(brokers))),
        ("prefix", text(&kafka.prefix)),
        ("slot", kafka.slot.as_ref().and_then(text)),
        ("ingest_workers", kafka.ingest_workers.and_then(number)),
        ("replication", number(kafka.replication)),
        ("min_in_sync", number(kafka.min_in_sync)),
        ("session_timeout", text(kafka.session_timeout)),
        ("poll_timeout", text(kafka.poll_timeout)),
        ("transaction_timeout", text(kafka.transaction_timeout)),
        ("max_record", number(kafka.max_record as u64)),
        ("compression", text(kafka.compression)),
        ("security", Some(shown)),
    ]
}

fn catalog_settings(catalog: &killick_catalog::Settings) -> Vec<(&'static str, Option<Value>)> {
    let nodes = catalog.nodes.iter().map(|node| Value::from(node.as_str())).collect();
    let replication = catalog.replication.iter();
    let replication = replication.map(|(name, count)| (name.clone(), Value::from(i64::from(*count))));
    let tenants = catalog.tenants.iter();
    let tenants = tenants.map(|(name, class)| (name.clone(), Value::from(class.name())));
    let security = &catalog.security;
    let file = |path: &Option<std::path::PathBuf>| path.as_ref().and_then(|path| text(path.display()));
    let shown = table(vec![
        ("tls", Some(Value::Boolean(security.tls))),
        ("ca_file", file(&security.ca_file)),
        ("server_name", security.server_name.as_ref().and_then(text)),
        ("certificate_file", file(&security.certificate_file)),
        ("key_file", file(&security.key_file)),
        ("username", security.username.as_ref().and_then(text)),
        ("password_file", file(&security.password_file)),
    ]);
    vec![
        ("nodes", Some(Value::Array(nodes))),
        ("keyspace", text(&catalog.keyspace)),
        ("datacenter", text(&catalog.datacenter)),
        ("replication", Some(Value::Table(replication.collect()))),
        ("connect_timeout", text(catalog.connect_timeout)),
        ("read_timeout", text(catalog.read_timeout)),
        ("write_timeout", text(catalog.write_timeout)),
        ("in_flight", number(catalog.in_flight as u64)),
        ("retention", text(catalog.retention)),
        ("tenants", Some(Value::Table(tenants.collect()))),
        ("security", Some(shown)),
    ]
}

fn source(source: &Source) -> Value {
    let decoder = match source.decoder {
        Decoder::Avro => "avro",
        Decoder::CloudEvents => "cloudevents",
        Decoder::Raw => "raw",
    };
    let framing = match source.framing {
        Framing::Bare => "bare",
        Framing::Registry => "registry",
    };
    let timestamps = match source.timestamps {
        Timestamps::Log => "log",
        Timestamps::Producer => "producer",
    };
    let unsigned = match source.unsigned {
        Unsigned::Reject => "reject",
        Unsigned::Accept => "accept",
    };
    let (freshness, ahead) = match source.freshness {
        Freshness::Off => (text("off"), None),
        Freshness::Within(span) => (text(span), text(source.ahead)),
    };
    table(vec![
        ("topic", text(&source.topic)),
        ("decoder", text(decoder)),
        ("framing", text(framing).filter(|_| source.decoder != Decoder::CloudEvents)),
        ("schema_file", source.schema_file.as_ref().and_then(|file| text(file.display()))),
        ("mapping", source.mapping.as_ref().map(mapping)),
        ("tenant", source.tenant.as_ref().and_then(text)),
        ("unsigned", text(unsigned)),
        ("freshness", freshness),
        ("ahead", ahead),
        ("timestamps", text(timestamps)),
        ("max_payload", number(source.max_payload as u64)),
    ])
}

fn mapping(mapping: &Mapping) -> Value {
    let time_format = match mapping.time_format {
        TimeFormat::Rfc3339 => "rfc3339",
        TimeFormat::S => "s",
        TimeFormat::Ms => "ms",
        TimeFormat::Us => "us",
    };
    table(vec![
        ("tenant", mapping.tenant.as_ref().map(place)),
        ("source", mapping.source.as_ref().map(place)),
        ("id", mapping.id.as_ref().map(place)),
        ("type", mapping.r#type.as_ref().map(place)),
        ("time", mapping.time.as_ref().map(place)),
        ("time_format", text(time_format)),
        ("key", mapping.key.as_ref().map(place)),
        ("signature", mapping.signature.as_ref().map(place)),
    ])
}

fn place(place: &Place) -> Value {
    match place {
        Place::Constant(constant) => table(vec![("constant", text(constant))]),
        Place::Header(name) => table(vec![("header", text(name))]),
        Place::Key => Value::from("key"),
        Place::Pointer(pointer) => table(vec![("pointer", text(pointer))]),
    }
}

fn table(settings: Vec<(&str, Option<Value>)>) -> Value {
    Value::Table(settings.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

fn text(value: impl ToString) -> Option<Value> {
    Some(Value::String(value.to_string()))
}

/// A number as TOML has it; none of ours is larger.
fn number(value: impl Into<u64>) -> Option<Value> {
    Some(Value::Integer(i64::try_from(value.into()).unwrap_or(i64::MAX)))
}
