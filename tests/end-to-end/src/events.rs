//! The events of a test: made from their number alone, so that whoever checks needs no list.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// The tenant of all events made here.
pub const TENANT: &str = "plant";

/// An event, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event(pub u64);

/// What names an event: source and id.
pub type Name = (String, String);

impl Event {
    /// Its source and its id.
    pub fn name(self) -> Name {
        (format!("press/{}", self.0 % 7), format!("reading-{}", self.0))
    }

    /// Its line in an NDJSON file, which is also its payload.
    pub fn line(self) -> String {
        let (source, id) = self.name();
        let celsius = 20.0 + (self.0 % 977) as f64 / 13.0;
        format!(r#"{{"source":"{source}","id":"{id}","celsius":{celsius:.3},"run":{}}}"#, self.0 / 977)
    }

    /// The digest that its statement has to carry.
    pub fn digest(self) -> [u8; 32] {
        Sha256::digest(self.line()).into()
    }
}

/// What a sender knows of its events: which of them it was told are accepted.
#[derive(Debug, Default, Clone)]
pub struct Ledger {
    accepted: HashMap<Name, (Event, bool)>,
}

impl Ledger {
    /// The event was sent; whether it arrived is not known.
    pub fn sent(&mut self, event: Event) {
        self.accepted.entry(event.name()).or_insert((event, false));
    }

    /// The event was accepted: from now on it must not be lost.
    pub fn accepted(&mut self, event: Event) {
        self.accepted.insert(event.name(), (event, true));
    }

    /// The event of that name, and whether it was accepted.
    pub fn get(&self, name: &Name) -> Option<(Event, bool)> {
        self.accepted.get(name).copied()
    }

    /// The names of all accepted events.
    pub fn all_accepted(&self) -> impl Iterator<Item = &Name> {
        self.accepted.iter().filter(|(_, (_, accepted))| *accepted).map(|(name, _)| name)
    }
}
