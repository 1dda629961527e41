//! The events that are measured with: signed or not, in our own envelope, each told apart by the number in its id.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use killick_kafka::{KafkaProducer, Settings};
use killick_proof::Algorithm;
use killick_proof::encoding::base64url;
use killick_proof::signature::SecretKey;
use killick_proof::statement;
use killick_stages::envelope;
use killick_stages::ports::Producer as _;
use killick_stages::record::{Micros, Output, Partition};
use sha2::{Digest as _, Sha256};

/// Whose events they are.
const TENANT: &str = "plant";
/// Their devices.
const DEVICES: usize = 64;
/// Between the times of two events.
const STEP: Micros = 10;
/// Events that are sent together: one wait for the brokers.
const TOGETHER: usize = 4_000;
/// Threads that make and send events.
const SENDERS: usize = 2;

/// What is measured with.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// How many events.
    pub count: usize,
    /// Bytes of payload in each.
    pub payload: usize,
    /// Whether devices sign them.
    pub signed: bool,
}

/// Events, made and not sent.
pub struct Events {
    kind: Kind,
    keys: Vec<SecretKey>,
    values: Vec<Bytes>,
}

impl Events {
    /// Makes the events; `start` is the time of the first.
    ///
    /// # Errors
    /// There are no threads to be had.
    pub fn make(kind: Kind, start: Micros) -> Result<Self> {
        let key = |device| SecretKey::from_seed(&Sha256::digest(format!("device {device} of a load")).into());
        let keys: Vec<_> = (0..DEVICES).map(key).collect();
        let share = kind.count.div_ceil(SENDERS).max(1);
        let made = thread::scope(|scope| {
            let sides: Vec<_> = (0..SENDERS)
                .map(|side| (side * share).min(kind.count)..((side + 1) * share).min(kind.count))
                .map(|numbers| {
                    scope.spawn(|| numbers.map(|number| value(kind, &keys, start, number)).collect())
                })
                .collect();
            let join = |side: thread::ScopedJoinHandle<'_, Vec<Bytes>>| side.join();
            sides.into_iter().map(join).collect::<Result<Vec<_>, _>>()
        });
        let values = made.map_err(|_| anyhow!("the events cannot be made"))?.concat();
        Ok(Self { kind, keys, values })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.values.len()
    }

    /// Mean bytes of a record.
    pub fn record_bytes(&self) -> usize {
        self.values.iter().map(Bytes::len).sum::<usize>() / self.count().max(1)
    }

    /// The sections of a configuration that let these events in by a topic.
    pub fn configuration(&self, topic: &str) -> String {
        let unsigned = if self.kind.signed { "reject" } else { "accept" };
        let mut text = format!(
            "[[source]]\ntopic = \"{topic}\"\nunsigned = \"{unsigned}\"\n\n\
             [tenant.{TENANT}]\nsecret = \"the salt of a load\"\n"
        );
        for (device, key) in self.keys.iter().enumerate().filter(|_| self.kind.signed) {
            let (source, key) = (source(device), base64url(key.public().as_bytes()));
            text += &format!("\n[[device]]\ntenant = \"{TENANT}\"\nsource = \"{source}\"\nkey = \"{key}\"\n");
        }
        text
    }

    /// Sends all of them, and returns how long that took: all are durable then.
    ///
    /// # Errors
    /// The brokers did not take them.
    pub fn send(&self, settings: &Settings, topic: &str, partitions: u32) -> Result<Duration> {
        let begun = Instant::now();
        let share = self.values.len().div_ceil(SENDERS).max(1);
        thread::scope(|scope| {
            let senders: Vec<_> = (0..)
                .zip(self.values.chunks(share))
                .map(|(side, values)| scope.spawn(move || send(settings, side, values, topic, partitions)))
                .collect();
            senders
                .into_iter()
                .try_for_each(|sender| sender.join().map_err(|_| anyhow!("a sender panicked"))?)
        })?;
        Ok(begun.elapsed())
    }
}

fn send(settings: &Settings, side: u32, values: &[Bytes], topic: &str, partitions: u32) -> Result<()> {
    let producer = KafkaProducer::open(settings, &format!("load-{side}"))?;
    let partitions: Vec<_> = (0..partitions).map(|number| Partition::new(topic, number)).collect();
    for values in values.chunks(TOGETHER) {
        let places = partitions.iter().cycle();
        let records: Vec<_> = values
            .iter()
            .zip(places)
            .map(|(value, place)| Output::new(place.clone(), "", value.clone()))
            .collect();
        producer.produce(&records).context("the brokers do not take the events")?;
    }
    Ok(())
}

fn source(device: usize) -> String {
    format!("press/{device}")
}

/// The record of a number.
fn value(kind: Kind, keys: &[SecretKey], start: Micros, number: usize) -> Bytes {
    let (device, id) = (number % DEVICES, format!("reading-{number}"));
    let (source, payload) = (source(device), letters(number as u64, kind.payload));
    let time = start + number as Micros * STEP;
    let sign = |key: &SecretKey| {
        let digest = Algorithm::Sha256.digest(&payload);
        let event =
            statement::Event { tenant: TENANT, source: &source, id: &id, time, kind: "reading", digest };
        let signature = key.sign(&event.signing_bytes().expect("these names keep the rules"));
        (*key.public().as_bytes(), signature)
    };
    let signed = kind.signed.then(|| sign(&keys[device]));
    let signed = signed.as_ref().map(|(key, signature)| (key, signature));
    let (source, id, payload) = (&*source, &*id, &*payload);
    envelope::Event { tenant: TENANT, source, id, time, kind: "reading", payload, signed }.encode()
}

/// Letters at random, as the brokers' own tool has them: compression finds as much in both (SplitMix64).
fn letters(number: u64, count: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0xd134_2543_de82_ef95);
    let mut letter = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        b'A' + ((mixed ^ (mixed >> 31)) % 26) as u8
    };
    (0..count).map(|_| letter()).collect()
}

/// The number in an id, if it is one of ours.
pub fn number_of(id: &str) -> Option<usize> {
    let number = id.strip_prefix("reading-")?.parse().ok()?;
    (id == format!("reading-{number}")).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use killick_stages::ingest;

    use super::*;

    #[test]
    fn every_event_reads_back_and_has_a_number_of_its_own() {
        for signed in [false, true] {
            let events =
                Events::make(Kind { count: 501, payload: 100, signed }, 1_770_000_000_000_000).unwrap();
            let read = |value: &Bytes| {
                let event = envelope::read(value).unwrap();
                assert_eq!((event.payload.len(), event.key.is_some()), (100, signed));
                number_of(&event.id).unwrap()
            };
            let numbers: BTreeSet<_> = events.values.iter().map(read).collect();
            assert!(numbers.into_iter().eq(0..501));
            let config: ingest::Config = toml::from_str(&events.configuration("in")).unwrap();
            assert_eq!((config.sources.len(), config.devices.len()), (1, if signed { DEVICES } else { 0 }));
        }
    }

    #[test]
    fn an_id_of_others_has_no_number() {
        for id in ["", "reading-", "reading-01", "reading-x", "x1"] {
            assert_eq!(number_of(id), None, "{id:?}");
        }
    }
}
