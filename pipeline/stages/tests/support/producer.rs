//! Producers of all kinds: honest ones, forgetful ones, broken ones and thieves.

use bytes::Bytes;
use killick_proof::Algorithm;
use killick_proof::encoding::base64url;
use killick_proof::signature::SecretKey;
use killick_stages::devices::Device;
use killick_stages::envelope;
use killick_stages::ingest::{Config, Secret, Tenant};
use killick_stages::record::{Micros, Output, Partition};
use killick_stages::source::{Decoder, Source, Unsigned};

use super::{Dice, SECOND, START, registry};

/// Partitions of each input topic.
pub const INPUTS: u32 = 2;
/// When the key of `pump-2` is revoked.
const REVOKED: Micros = START + 20 * SECOND;

pub struct Producer {
    made: Vec<(Partition, Bytes)>,
    count: u64,
}

fn key(device: u64) -> SecretKey {
    SecretKey::from_seed(&[device as u8 + 1; 32])
}

/// Signed events on `events`, anything on `open`, what names its schema on `readings`.
pub fn config() -> Config {
    let device = |number| Device {
        tenant: "acme".into(),
        source: format!("pump-{number}"),
        key: base64url(key(number).public().as_bytes()),
        from: None,
        until: (number == 2).then_some(REVOKED),
    };
    let open = Source {
        decoder: Decoder::Raw,
        tenant: Some("acme".into()),
        unsigned: Unsigned::Accept,
        ..Source::new("open")
    };
    let tenant = Tenant { secret: Secret::new("a secret of some length") };
    Config {
        sources: vec![Source::new("events"), open, registry::source()],
        devices: (0..3).map(device).collect(),
        tenants: [("acme".to_owned(), tenant)].into(),
        registry: true,
    }
}

impl Producer {
    pub fn new() -> Self {
        Self { made: Vec::new(), count: 0 }
    }

    /// The next record: an event, a copy of one, a changed copy, or nonsense.
    pub fn next(&mut self, now: Micros, dice: &mut Dice) -> Output {
        let events = Partition::new("events", dice.below(INPUTS.into()) as u32);
        let (partition, value) = match dice.below(20) {
            0..2 if !self.made.is_empty() => {
                let (_, value) = self.made[dice.below(self.made.len() as u64) as usize].clone();
                (events, value)
            }
            2 if self.count > 0 => {
                let id = dice.below(self.count);
                (events, self.event(id % 3, &id.to_string(), now, b"another payload"))
            }
            3 => (events, Bytes::from_static(b"nonsense")),
            4 => (events, self.event(7, "stolen", now, b"by a device that nobody knows")),
            5 => (Partition::new("open", events.number), Bytes::from(format!("line {}", dice.next()))),
            6..9 => {
                let partition = Partition::new(registry::TOPIC, events.number);
                (partition, registry::reading(dice.below(200), now, dice))
            }
            _ => {
                let id = self.count;
                self.count += 1;
                let value = self.event(id % 3, &id.to_string(), now, format!("{}", dice.next()).as_bytes());
                self.made.push((events.clone(), value.clone()));
                (events, value)
            }
        };
        Output::new(partition, Bytes::new(), value)
    }

    fn event(&self, device: u64, id: &str, time: Micros, payload: &[u8]) -> Bytes {
        let source = format!("pump-{device}");
        let digest = Algorithm::Sha256.digest(payload);
        let (tenant, kind) = ("acme", "reading");
        let event = killick_proof::statement::Event { tenant, source: &source, id, time, kind, digest };
        let signature = key(device).sign(&event.signing_bytes().unwrap());
        let public = key(device).public();
        let signed = Some((public.as_bytes(), &signature));
        envelope::Event { tenant, source: &source, id, time, kind, payload, signed }.encode()
    }
}
