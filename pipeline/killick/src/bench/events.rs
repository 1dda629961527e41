//! The events that are measured with: of 64 devices, 128 bytes of payload, in our own envelope.

use anyhow::Result;
use bytes::Bytes;
use killick_proof::Algorithm;
use killick_proof::encoding::base64url;
use killick_proof::signature::SecretKey;
use killick_proof::statement::{self, Attestation, Statement};
use killick_stages::devices::Device;
use killick_stages::envelope;
use killick_stages::ingest::{self, Secret, Tenant};
use killick_stages::record::{Micros, Partition, Record};
use killick_stages::source::{Freshness, Source, Unsigned};

use crate::input::Event;

/// Whose events they are.
pub const TENANT: &str = "plant";
/// Their devices.
pub const DEVICES: usize = 64;
/// Bytes of payload in each.
pub const PAYLOAD: usize = 128;
/// Their topic.
pub const TOPIC: &str = "events";
/// The time of the first.
const START: Micros = 1_790_000_000_000_000;
/// Between the times of two.
const STEP: Micros = 10;
const KIND: &str = "reading";

/// Makes events.
#[derive(Debug, Clone)]
pub struct Maker {
    keys: Vec<SecretKey>,
    sources: Vec<String>,
}

impl Maker {
    /// Knows its devices.
    pub fn new() -> Self {
        let key = |device: usize| {
            SecretKey::from_seed(
                Algorithm::Sha256.digest(format!("device {device} of a benchmark").as_bytes()).as_bytes(),
            )
        };
        let source = |device| format!("press/{device}");
        Self { keys: (0..DEVICES).map(key).collect(), sources: (0..DEVICES).map(source).collect() }
    }

    /// The event of a number, as an input has it.
    pub fn event(&self, number: usize) -> Event {
        Event {
            line: 0,
            source: self.sources[number % DEVICES].clone(),
            id: format!("reading-{number}"),
            time: START + number as Micros * STEP,
            kind: KIND.to_owned(),
            payload: payload(number).into(),
        }
    }

    /// The key of the device that makes the event of a number.
    pub fn key(&self, number: usize) -> &SecretKey {
        &self.keys[number % DEVICES]
    }

    /// The record of the event of a number in the topic of ingest, signed by its device or not.
    pub fn record(&self, number: usize, is_signed: bool) -> Record {
        Record {
            partition: Partition::new(TOPIC, 0),
            offset: number as u64,
            append_time: START + number as Micros * STEP,
            key: Bytes::new(),
            value: self.value(number, is_signed),
            headers: Vec::new(),
        }
    }

    /// The same record's value.
    pub fn value(&self, number: usize, is_signed: bool) -> Bytes {
        let (source, id, payload) =
            (&*self.sources[number % DEVICES], format!("reading-{number}"), payload(number));
        let time = START + number as Micros * STEP;
        let key = self.key(number);
        let public = key.public();
        let signature = is_signed.then(|| {
            let digest = Algorithm::Sha256.digest(&payload);
            let event = statement::Event { tenant: TENANT, source, id: &id, time, kind: KIND, digest };
            key.sign(&event.signing_bytes().expect("these names keep the rules"))
        });
        let signed = signature.as_ref().map(|signature| (public.as_bytes(), signature));
        envelope::Event { tenant: TENANT, source, id: &id, time, kind: KIND, payload: &payload, signed }
            .encode()
    }

    /// The statement of the unsigned event of a number, in CBOR.
    ///
    /// # Errors
    /// Its names break a rule.
    pub fn statement(&self, number: usize) -> Result<Bytes> {
        let event = self.event(number);
        let attestation = Attestation::Unsigned { salt: &[7; 16] };
        Ok(Statement { event: event.statement(TENANT), attestation }.encode()?.into())
    }

    /// What lets them in, signed or not, from `topic`.
    pub fn ingest(&self, topic: &str) -> ingest::Config {
        let device = |(source, key): (&String, &SecretKey)| Device {
            tenant: TENANT.into(),
            source: source.clone(),
            key: base64url(key.public().as_bytes()),
            from: None,
            until: None,
        };
        let source = Source { unsigned: Unsigned::Accept, freshness: Freshness::Off, ..Source::new(topic) };
        let tenant = Tenant { secret: Secret::new("the salt of a benchmark") };
        ingest::Config {
            sources: vec![source],
            devices: self.sources.iter().zip(&self.keys).map(device).collect(),
            tenants: [(TENANT.to_owned(), tenant)].into(),
            registry: false,
        }
    }
}

/// Letters at random, the same for each number: SplitMix64 (Steele, Lea, Flood, 2014).
fn payload(number: usize) -> Vec<u8> {
    let mut state = (number as u64).wrapping_mul(0xd134_2543_de82_ef95);
    let mut letters = Vec::with_capacity(PAYLOAD);
    while letters.len() < PAYLOAD {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        letters.extend(mixed.to_le_bytes().map(|byte| b'A' + byte % 26));
    }
    letters
}
