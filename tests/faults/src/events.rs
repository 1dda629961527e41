//! The events of a run: made of a seed and their number alone, so that whoever checks needs no list of them.
//!
//! Three topics, as people have them: JSON of machines that sign nothing, our own Avro envelope, and CloudEvents in both
//! modes. Some numbers are poison and have to be rejected, some events come more than once, and of some a changed copy
//! follows that has to be named a conflict.

mod poison;

use bytes::Bytes;
use killick_proof::Algorithm;
use killick_proof::Hash;
use killick_proof::encoding::base64url;
use killick_proof::signature::SecretKey;
use killick_proof::statement;
use killick_stages::envelope;
use killick_stages::record::{Header, Micros, Output, Partition};
use killick_stages::rejected::Code;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use self::poison::Poison;

/// The topic of unsigned JSON.
pub const MACHINES: &str = "machines";
/// The topic of envelopes.
pub const ENVELOPES: &str = "envelopes";
/// The topic of CloudEvents.
pub const CLOUD: &str = "cloud";
/// The input topics.
pub const TOPICS: [&str; 3] = [MACHINES, ENVELOPES, CLOUD];
/// Partitions of each.
pub const PARTITIONS: u32 = 4;
/// Devices of each tenant.
const DEVICES: u64 = 16;
/// Bytes in the longest payload that is let through.
pub const MAX_PAYLOAD: usize = 4_096;
/// The header that says which number a record is: rejected records are told apart by it, whatever their value is.
pub const NUMBER: &str = "faults-number";
/// Between the times of two events, so that no two have the same.
const STEP: Micros = 10;

/// What is sent. All shares are in a thousand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mix {
    /// What everything is made of.
    pub seed: u64,
    /// When the run begins, in log time: the events' own times count from it.
    pub start: Micros,
    /// Events that are signed; the others are JSON.
    pub signed: u64,
    /// Records that are to be rejected.
    pub poison: u64,
    /// Events that are sent again, one to five times.
    pub repeated: u64,
    /// Events of which changed copies follow, one or two.
    pub changed: u64,
    /// Events of one device of each tenant, and so of one partition.
    pub hot: u64,
}

/// How a record looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// JSON with its parts at places that the configuration maps.
    Json,
    /// Our own envelope, signed.
    Envelope,
    /// A signed CloudEvent in binary mode; some have an attribute twice, of which the last counts.
    Binary,
    /// A signed CloudEvent in structured mode.
    Structured,
    /// What has to be rejected.
    Poison(Poison),
}

/// What names an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The tenant.
    pub tenant: &'static str,
    /// The device.
    pub source: String,
    /// The id: it holds the number.
    pub id: String,
}

/// What salts different questions about a number.
#[derive(Clone, Copy)]
enum Salt {
    Shape = 1,
    Poison,
    Repeated,
    Copies,
    Changed,
    Hot,
    Noise,
    GivesUp,
    Delay,
}

/// Makes the records.
#[derive(Debug)]
pub struct Events {
    /// What is sent.
    pub mix: Mix,
    keys: Vec<SecretKey>,
    stranger: SecretKey,
}

impl Mix {
    /// A number that depends on the seed, a number and what is asked (SplitMix64).
    fn dice(&self, number: u64, salt: Salt) -> u64 {
        let mut mixed = self.seed ^ (salt as u64) << 56;
        for word in [number, 0] {
            mixed = mixed.wrapping_add(word).wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
        }
        mixed
    }

    fn chance(&self, number: u64, salt: Salt, per_mille: u64) -> bool {
        self.dice(number, salt) % 1_000 < per_mille
    }

    /// How the record of a number looks.
    pub fn shape(&self, number: u64) -> Shape {
        if self.chance(number, Salt::Poison, self.poison) {
            let kinds = Poison::ALL;
            let kind = self.dice(number, Salt::Shape) % kinds.len() as u64;
            return Shape::Poison(kinds[kind as usize]);
        }
        match self.dice(number, Salt::Shape) % 1_000 {
            share if share >= self.signed => Shape::Json,
            share => [Shape::Envelope, Shape::Binary, Shape::Structured][(share % 3) as usize],
        }
    }

    /// What is to become of a number: proven, or rejected for this reason.
    pub fn fate(&self, number: u64) -> Result<(), Code> {
        match self.shape(number) {
            Shape::Poison(poison) => Err(poison.code()),
            _ => Ok(()),
        }
    }

    /// How often the very same record is sent after the first time.
    pub fn copies(&self, number: u64) -> u64 {
        match self.chance(number, Salt::Repeated, self.repeated) && self.fate(number).is_ok() {
            true => 1 + self.dice(number, Salt::Copies) % 5,
            false => 0,
        }
    }

    /// How many changed copies are sent once the first one is accepted.
    pub fn changes(&self, number: u64) -> u64 {
        match self.chance(number, Salt::Changed, self.changed) && self.fate(number).is_ok() {
            true => 1 + self.dice(number, Salt::Copies) % 2,
            false => 0,
        }
    }

    /// Whether the sender of a portion gives up at the first error: one in `of` does.
    pub fn gives_up(&self, portion: u64, of: u64) -> bool {
        self.dice(portion, Salt::GivesUp).is_multiple_of(of)
    }

    /// How many portions later a copy of a number comes, less than `most`.
    pub fn delay(&self, number: u64, copy: u64, most: u64) -> u64 {
        self.dice(number.wrapping_mul(8).wrapping_add(copy), Salt::Delay) % most
    }

    fn device(&self, number: u64) -> u64 {
        if self.chance(number, Salt::Hot, self.hot) { 0 } else { number % DEVICES }
    }

    /// The name of the event of a number.
    pub fn name(&self, number: u64) -> Name {
        let tenant = match self.shape(number) {
            Shape::Json => "plant",
            Shape::Binary | Shape::Structured => "fleet",
            Shape::Envelope => "works",
            Shape::Poison(poison) => poison.tenant(),
        };
        Name { tenant, source: format!("press/{}", self.device(number)), id: format!("reading-{number}") }
    }

    /// The time that the event of a number claims.
    pub fn time(&self, number: u64) -> Micros {
        self.start + number as Micros * STEP
    }

    /// The payload of a number; version 0 is what is proven, the others are changed.
    pub fn payload(&self, number: u64, version: u64) -> Vec<u8> {
        let celsius = 20.0 + (number % 977) as f64 / 13.0 + version as f64;
        let Name { source, id, .. } = self.name(number);
        let at = self.time(number);
        format!(r#"{{"device":"{source}","id":"{id}","at":{at},"celsius":{celsius:.3}}}"#).into_bytes()
    }

    /// The digest that the statement of a number has to carry.
    pub fn digest(&self, number: u64) -> Hash {
        Algorithm::Sha256.digest(&self.payload(number, 0))
    }
}

/// The number in an id, if it is one of ours.
pub fn number_of(id: &str) -> Option<u64> {
    let number = id.strip_prefix("reading-")?.parse().ok()?;
    (id == format!("reading-{number}")).then_some(number)
}

impl Events {
    /// The events of a mix.
    pub fn new(mix: Mix) -> Self {
        let key = |text: String| SecretKey::from_seed(&Sha256::digest(text).into());
        let keys = (0..DEVICES).map(|device| key(format!("key {} of {device}", mix.seed))).collect();
        let stranger = key(format!("no key {}", mix.seed));
        Self { mix, keys, stranger }
    }

    /// The sections of the configuration that let these events through: sources, devices and tenants.
    pub fn configuration(&self) -> String {
        let mut text = format!(
            r#"
[[source]]
topic = "{MACHINES}"
decoder = "raw"
tenant = "plant"
unsigned = "accept"
max_payload = {MAX_PAYLOAD}
[source.mapping]
source = {{ pointer = "/device" }}
id = {{ pointer = "/id" }}
time = {{ pointer = "/at" }}
time_format = "us"

[[source]]
topic = "{ENVELOPES}"
decoder = "avro"
tenant = "works"
max_payload = {MAX_PAYLOAD}

[[source]]
topic = "{CLOUD}"
decoder = "cloudevents"
max_payload = {MAX_PAYLOAD}

[tenant.plant]
secret = "the salt of faults {}"
"#,
            self.mix.seed
        );
        for tenant in ["works", "fleet"] {
            for (device, key) in self.keys.iter().enumerate() {
                let key = base64url(key.public().as_bytes());
                text += &format!(
                    "\n[[device]]\ntenant = \"{tenant}\"\nsource = \"press/{device}\"\nkey = \"{key}\"\n"
                );
            }
        }
        text
    }

    /// The record of a number: version 0, or a changed copy.
    pub fn record(&self, number: u64, version: u64) -> Output {
        let (topic, key, value, mut headers) = match self.mix.shape(number) {
            Shape::Json => (MACHINES, Bytes::new(), self.mix.payload(number, version).into(), Vec::new()),
            Shape::Envelope => (ENVELOPES, Bytes::new(), self.envelope(number, version), Vec::new()),
            Shape::Binary => {
                let (value, headers) = self.binary(number, version);
                (CLOUD, Bytes::from_static(b"any key"), value, headers)
            }
            Shape::Structured => {
                let kind = header("content-type", "application/cloudevents+json");
                (CLOUD, Bytes::new(), self.structured(number, version).into(), vec![kind])
            }
            Shape::Poison(poison) => {
                let (topic, value, headers) = poison.record(self, number);
                (topic, Bytes::new(), value, headers)
            }
        };
        headers.push(header(NUMBER, number.to_string()));
        let partition = (self.mix.device(number) % u64::from(PARTITIONS)) as u32;
        Output { partition: Partition::new(topic, partition), key, value, headers }
    }

    fn key(&self, number: u64) -> &SecretKey {
        &self.keys[self.mix.device(number) as usize]
    }

    /// Signature of the event of a number, with the time and the key given.
    fn sign(&self, number: u64, payload: &[u8], time: Micros, key: &SecretKey) -> [u8; 64] {
        let Name { tenant, source, id } = self.mix.name(number);
        let digest = Algorithm::Sha256.digest(payload);
        let event = statement::Event { tenant, source: &source, id: &id, time, kind: "reading", digest };
        key.sign(&event.signing_bytes().expect("names of ours keep the rules"))
    }

    fn envelope(&self, number: u64, version: u64) -> Bytes {
        self.envelope_with(
            number,
            &self.mix.payload(number, version),
            self.mix.time(number),
            self.key(number),
        )
    }

    fn envelope_with(&self, number: u64, payload: &[u8], time: Micros, key: &SecretKey) -> Bytes {
        let Name { tenant, source, id } = self.mix.name(number);
        let signature = self.sign(number, payload, time, key);
        let (source, id, public) = (&*source, &*id, key.public());
        let signed = Some((public.as_bytes(), &signature));
        envelope::Event { tenant, source, id, time, kind: "reading", payload, signed }.encode()
    }

    /// The attributes of a CloudEvent.
    fn attributes(&self, number: u64, payload: &[u8]) -> Vec<(&'static str, String)> {
        let (Name { tenant, source, id }, time) = (self.mix.name(number), self.mix.time(number));
        let key = self.key(number);
        vec![
            ("specversion", "1.0".to_owned()),
            ("id", id),
            ("source", source),
            ("type", "reading".to_owned()),
            ("time", rfc3339(time)),
            ("killicktenant", tenant.to_owned()),
            ("killickkey", base64url(key.public().as_bytes())),
            ("killicksignature", base64url(&self.sign(number, payload, time, key))),
        ]
    }

    fn binary(&self, number: u64, version: u64) -> (Bytes, Vec<Header>) {
        let payload = self.mix.payload(number, version);
        let mut headers = Vec::new();
        if number.is_multiple_of(10) {
            headers.push(header("ce_id", "not this one"));
        }
        let attributes = self.attributes(number, &payload);
        headers.extend(attributes.into_iter().map(|(name, value)| header(&format!("ce_{name}"), value)));
        (payload.into(), headers)
    }

    fn structured(&self, number: u64, version: u64) -> String {
        let payload = self.mix.payload(number, version);
        let mut text = String::from("{");
        for (name, value) in self.attributes(number, &payload) {
            text += &format!("\"{name}\":\"{value}\",");
        }
        text + "\"data\": " + &String::from_utf8_lossy(&payload) + " }"
    }
}

fn header(name: &str, value: impl Into<Bytes>) -> Header {
    Header { name: name.into(), value: value.into() }
}

fn rfc3339(time: Micros) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time) * 1_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .expect("runs are in years of four digits")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use killick_proof::statement::Statement;
    use killick_stages::deployment::{self, Deployment};
    use killick_stages::frame::AcceptedFrame;
    use killick_stages::ingest::{self, Ingest};
    use killick_stages::record::Record;
    use killick_stages::rejected::PREFIX;
    use killick_stages::route::ACCEPTED;
    use killick_stages::stage::{Part, Stage as _};

    use super::*;

    const START: Micros = 1_770_000_000_000_000;

    fn events() -> Events {
        let (signed, poison, repeated, changed, hot) = (500, 100, 100, 50, 200);
        Events::new(Mix { seed: 7, start: START, signed, poison, repeated, changed, hot })
    }

    fn stage(events: &Events) -> Ingest {
        let config: ingest::Config = toml::from_str(&events.configuration()).unwrap();
        Ingest::new(&Deployment::new(&deployment::Config::default()).unwrap(), &config).unwrap()
    }

    /// The statement that ingest makes of a record, or the reason for which it rejects it.
    fn verdict(stage: &mut Ingest, output: Output) -> Result<Bytes, String> {
        let Output { partition, key, value, headers } = output;
        let mut part = Part::default();
        let append_time = START + 1_000_000;
        let record = Record { partition: partition.clone(), offset: 5, append_time, key, value, headers };
        stage.step(&record, &mut part).unwrap();
        stage.seal(&partition, &mut part).unwrap();
        let [output] = &part.outputs[..] else { panic!("{part:?}") };
        if output.partition.topic.as_str() == ACCEPTED {
            return Ok(AcceptedFrame::decode(&output.value).unwrap().events[0].statement.clone());
        }
        let name = format!("{PREFIX}exception.class.name");
        let code = output.headers.iter().find(|header| *header.name == name).unwrap();
        Err(String::from_utf8(code.value.to_vec()).unwrap())
    }

    #[test]
    fn ingest_says_of_every_record_what_its_fate_says() {
        let events = events();
        let mut stage = stage(&events);
        let mut seen = BTreeSet::new();
        for number in 0..4_000 {
            let shape = events.mix.shape(number);
            seen.insert(format!("{shape:?}"));
            match (verdict(&mut stage, events.record(number, 0)), events.mix.fate(number)) {
                (Ok(statement), Ok(())) => {
                    let event = Statement::decode(&statement).unwrap().event;
                    let name = events.mix.name(number);
                    assert_eq!(
                        (event.tenant, event.source, event.id),
                        (name.tenant, &*name.source, &*name.id)
                    );
                    assert_eq!(event.digest, events.mix.digest(number));
                    assert_eq!(number_of(event.id), Some(number));
                }
                (Err(code), Err(expected)) if code == expected.name() => {}
                (verdict, fate) => panic!("{number}, {shape:?}: {verdict:?}, and not {fate:?}"),
            }
        }
        assert_eq!(seen.len(), 4 + Poison::ALL.len(), "{seen:?}");
    }

    #[test]
    fn a_changed_copy_is_the_same_event_with_another_payload() {
        let events = events();
        let mut stage = stage(&events);
        let changed: Vec<_> = (0..2_000).filter(|number| events.mix.changes(*number) > 0).collect();
        assert!(changed.len() > 50);
        for number in changed {
            let (first, second) = (events.record(number, 0), events.record(number, 1));
            assert_eq!(first.partition, second.partition, "or the second could overtake the first");
            let statement = verdict(&mut stage, second).unwrap();
            let event = Statement::decode(&statement).unwrap().event;
            assert_eq!((event.id, event.time), (&*events.mix.name(number).id, events.mix.time(number)));
            assert_ne!(event.digest, events.mix.digest(number));
        }
    }

    #[test]
    fn shares_are_what_the_mix_says() {
        let mix = events().mix;
        let share = |is: &dyn Fn(u64) -> bool| (0..20_000).filter(|number| is(*number)).count() / 20;
        assert!((90..110).contains(&share(&|number| mix.fate(number).is_err())));
        assert!((80..110).contains(&share(&|number| mix.copies(number) > 0)));
        assert!((430..550).contains(&share(&|number| mix.shape(number) == Shape::Json)));
        assert!((220..280).contains(&share(&|number| mix.name(number).source == "press/0")));
    }
}
