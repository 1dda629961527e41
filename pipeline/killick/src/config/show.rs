//! The settings in effect as a configuration file that says the same, with `***` for secrets.

use killick_stages::mapping::{Mapping, Place, TimeFormat};
use killick_stages::source::{Decoder, Framing, Freshness, Source, Unsigned};
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
        chainweb,
        devnet,
        embedded,
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
    section(
        "anchor",
        vec![
            ("interval", text(anchor.interval)),
            ("depth", number(anchor.depth)),
            ("poll", text(anchor.poll)),
            ("ttl", text(anchor.ttl)),
            ("in_flight", number(anchor.in_flight as u64)),
            ("gas_limit", number(anchor.gas_limit)),
            ("gas_price", text(&anchor.gas_price)),
            ("sender", anchor.sender.as_ref().and_then(text)),
        ],
    );
    let ids = [("proof_ready", prove.schema_ids.proof_ready), ("receipt", prove.schema_ids.receipt)];
    section(
        "prove",
        vec![
            ("poll", text(prove.poll)),
            ("receipts", Some(Value::Boolean(prove.receipts))),
            ("schema_ids", Some(table(ids.map(|(name, id)| (name, number(id))).to_vec()))),
        ],
    );
    if let Some(chainweb) = chainweb {
        let nodes = chainweb.nodes.iter().map(|node| Value::from(node.as_str())).collect();
        section(
            "chainweb",
            vec![
                ("nodes", Some(Value::Array(nodes))),
                ("connect_timeout", text(chainweb.connect_timeout)),
                ("timeout", text(chainweb.timeout)),
                ("ca_file", chainweb.ca_file.as_ref().and_then(|file| text(file.display()))),
            ],
        );
    }
    section("devnet", vec![("block_interval", text(devnet.block_interval))]);
    section("embedded", vec![("retention", text(embedded.retention))]);
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
        ("framing", text(framing).filter(|_| source.decoder == Decoder::Avro)),
        ("mapping", source.mapping.as_ref().map(mapping)),
        ("tenant", source.tenant.as_ref().and_then(text)),
        ("unsigned", text(unsigned)),
        ("freshness", freshness),
        ("ahead", ahead),
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
