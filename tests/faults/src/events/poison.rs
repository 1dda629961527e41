//! Records that have to be rejected: each once, and nothing else with them.

use bytes::Bytes;
use killick_stages::record::Header;
use killick_stages::rejected::Code;

use super::{CLOUD, ENVELOPES, Events, MACHINES, MAX_PAYLOAD, Salt, header};

const DAY: i64 = 86_400_000_000;

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poison {
    /// An envelope that ends half way.
    Cut,
    /// An envelope with bytes behind it.
    Prolonged,
    /// Random bytes.
    Noise,
    /// Nothing.
    Empty,
    /// JSON nested deeper than anyone reads.
    Deep,
    /// A CloudEvent of a version that nobody knows.
    Version,
    /// A CloudEvent with the same member twice.
    Twice,
    /// A payload one byte too long.
    TooLong,
    /// An id longer than ids are.
    LongId,
    /// A signature of another event.
    Forged,
    /// A good signature by a key that nobody knows.
    Stranger,
    /// No signature where one has to be.
    Unsigned,
    /// An event of another tenant than its topic's.
    Tenant,
    /// Three days old.
    Stale,
    /// A day ahead.
    Future,
}

impl Poison {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Cut,
        Self::Prolonged,
        Self::Noise,
        Self::Empty,
        Self::Deep,
        Self::Version,
        Self::Twice,
        Self::TooLong,
        Self::LongId,
        Self::Forged,
        Self::Stranger,
        Self::Unsigned,
        Self::Tenant,
        Self::Stale,
        Self::Future,
    ];

    /// The reason that it has to be rejected for.
    pub const fn code(self) -> Code {
        match self {
            Self::TooLong => Code::TooLarge,
            Self::Forged => Code::WrongSignature,
            Self::Stranger => Code::UnknownKey,
            Self::Unsigned => Code::Unsigned,
            Self::Tenant => Code::Tenant,
            Self::Stale => Code::Stale,
            Self::Future => Code::Future,
            Self::Cut
            | Self::Prolonged
            | Self::Noise
            | Self::Empty
            | Self::Deep
            | Self::Version
            | Self::Twice
            | Self::LongId => Code::Malformed,
        }
    }

    /// The tenant that it names, if it gets so far.
    pub(super) const fn tenant(self) -> &'static str {
        match self {
            Self::Version | Self::Twice => "fleet",
            Self::Empty | Self::Deep | Self::TooLong | Self::LongId => "plant",
            Self::Tenant => "others",
            _ => "works",
        }
    }

    /// Topic, value and headers.
    pub(super) fn record(self, events: &Events, number: u64) -> (&'static str, Bytes, Vec<Header>) {
        let mix = &events.mix;
        let payload = mix.payload(number, 0);
        let (time, key) = (mix.time(number), events.key(number));
        let envelope = |time| events.envelope_with(number, &payload, time, key);
        let json = |text: String| (MACHINES, Bytes::from(text), Vec::new());
        let name = mix.name(number);
        let value = match self {
            Self::Cut => envelope(time).split_to(40),
            Self::Prolonged => [&envelope(time)[..], b"more"].concat().into(),
            Self::Noise => {
                (0..8).flat_map(|part| mix.dice(number * 8 + part, Salt::Noise).to_be_bytes()).collect()
            }
            Self::Empty => return json(String::new()),
            Self::Deep => return json("[".repeat(900) + &"]".repeat(900)),
            Self::TooLong => {
                let start =
                    format!(r#"{{"device":"{}","id":"{}","at":{time},"filling":""#, name.source, name.id);
                let filling = "x".repeat(MAX_PAYLOAD + 1 - start.len() - 2);
                return json(format!("{start}{filling}\"}}"));
            }
            Self::LongId => {
                let id = format!("{}{}", name.id, "0".repeat(300));
                return json(format!(r#"{{"device":"{}","id":"{id}","at":{time}}}"#, name.source));
            }
            Self::Version | Self::Twice => {
                let text = events.structured(number, 0);
                let text = match self {
                    Self::Version => text.replacen("\"1.0\"", "\"0.3\"", 1),
                    _ => text.replacen("\"id\"", "\"type\":\"reading\",\"id\"", 1),
                };
                return (CLOUD, text.into(), vec![header("content-type", "application/cloudevents+json")]);
            }
            Self::Forged => {
                let mut forged = envelope(time).to_vec();
                // In the signature, which stands last.
                if let Some(byte) = forged.last_mut() {
                    *byte ^= 1;
                }
                forged.into()
            }
            Self::Stranger => events.envelope_with(number, &payload, time, &events.stranger),
            Self::Unsigned => {
                let (source, id) = (&*name.source, &*name.id);
                let (tenant, kind) = (name.tenant, "reading");
                killick_stages::envelope::Event {
                    tenant,
                    source,
                    id,
                    time,
                    kind,
                    payload: &payload,
                    signed: None,
                }
                .encode()
            }
            Self::Tenant => envelope(time),
            Self::Stale => envelope(time - 3 * DAY),
            Self::Future => envelope(time + DAY),
        };
        (ENVELOPES, value, Vec::new())
    }
}
