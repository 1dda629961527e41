//! How a log goes on in another: the event that the next log has as its first leaf, and that says so of both.
//!
//! A generation of logs ends where another hash or another number of logs is wanted. Then each of its logs says where it
//! ends: its last checkpoint is the payload of an event, which names the log as its source and which the log's own key
//! signs as a device's does. The next generation takes these events before any other.

use killick_proof::Hash;
use killick_proof::origin::Origin;
use killick_proof::statement::{Attestation, Event, Statement};

use crate::deployment::log_of;

/// The type of such an event.
pub const CONTINUED: &str = "killick.log.continued.v1";
/// Ids that are tried until one leads to the log that is wanted: 256 times as many as there are logs at the most.
const TRIES: u64 = 1 << 20;

/// A log as it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// Its origin.
    pub origin: Box<str>,
    /// The size of its last checkpoint.
    pub size: u64,
    /// The root of that.
    pub root: Hash,
}

impl Continuation {
    /// The id under which its event comes to log number `log` of `logs`: size, root, and a number that was tried. So what
    /// is signed says where the log ended, also to who does not have the payload.
    pub fn id(&self, tenant: &str, log: u32, logs: u32) -> Option<String> {
        let id = |number: u64| format!("{}.{}.{number}", self.size, self.root);
        (0..TRIES).map(id).find(|id| log_of(tenant, &self.origin, id, logs) == log)
    }

    /// What a statement says of another log, if it is such an event and signed. Whose key it is, is not asked: ingest takes
    /// only keys that are enrolled.
    pub fn of(statement: &Statement<'_>) -> Option<Self> {
        let Event { source, id, kind, .. } = statement.event;
        let is_signed =
            matches!(statement.attestation, Attestation::Signed { .. }) && statement.verify().is_ok();
        if kind != CONTINUED || !is_signed {
            return None;
        }
        Origin::parse(source).ok()?;
        let mut parts = id.splitn(3, '.');
        let (size, root) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let of = Self { origin: source.into(), size, root };
        let number: u64 = parts.next()?.parse().ok()?;
        // One way to write it.
        (id == format!("{}.{}.{number}", of.size, of.root)).then_some(of)
    }
}

/// Which of `old` logs goes on in which of `new` ones: log *i* in log *i* mod `new`, and, where there are more new ones,
/// each of these from log *i* mod `old`. So every log goes on, and every new one begins with another.
pub fn pairs(old: usize, new: u32) -> impl Iterator<Item = (usize, u32)> {
    let count = if old == 0 { 0 } else { old.max(usize::try_from(new).unwrap_or(usize::MAX)) };
    let new_logs = (0..new.max(1)).cycle();
    (0..count).map(move |number| number % old.max(1)).zip(new_logs)
}

#[cfg(test)]
mod tests {
    use killick_proof::Algorithm;
    use killick_proof::signature::SecretKey;

    use super::*;

    fn ended() -> Continuation {
        let root = Algorithm::Sha256.digest(b"root");
        Continuation { origin: "plant.example/1/sha256/3".into(), size: 812, root }
    }

    #[test]
    fn its_id_leads_to_each_log_and_reads_back_where_it_is_signed() {
        let key = SecretKey::from_seed(&[4; 32]);
        for logs in [1, 2, 7, 64, 4_096] {
            for log in [0, logs / 2, logs - 1] {
                let id = ended().id("killick", log, logs).unwrap();
                assert_eq!(log_of("killick", "plant.example/1/sha256/3", &id, logs), log);
                let digest = Algorithm::Sha256.digest(b"note");
                let source = "plant.example/1/sha256/3";
                let event = Event { tenant: "killick", source, id: &id, time: 0, kind: CONTINUED, digest };
                let signature = key.sign(&event.signing_bytes().unwrap());
                let public = key.public();
                let attestation = Attestation::Signed { key: public.as_bytes(), signature: &signature };
                assert_eq!(Continuation::of(&Statement { event, attestation }), Some(ended()));
                for wrong in [
                    Statement { event: Event { kind: "reading", ..event }, attestation },
                    Statement { event: Event { time: 1, ..event }, attestation },
                    Statement { event, attestation: Attestation::Unsigned { salt: &[1; 16] } },
                ] {
                    assert_eq!(Continuation::of(&wrong), None);
                }
            }
        }
        assert_eq!(ended().id("killick", 4, 4), None, "there is no such log");
    }

    #[test]
    fn an_id_has_one_form() {
        let key = SecretKey::from_seed(&[4; 32]);
        let root = ended().root;
        let digest = Algorithm::Sha256.digest(b"note");
        for (source, id) in [
            ("plant", format!("812.{root}.0")),
            ("plant.example/1/sha256/3", format!("0812.{root}.0")),
            ("plant.example/1/sha256/3", format!("812.{root}.00")),
            ("plant.example/1/sha256/3", format!("812.{root}.0.1")),
            ("plant.example/1/sha256/3", format!("812.{root}")),
            ("plant.example/1/sha256/3", "812.AAAA.0".to_owned()),
            ("plant.example/1/sha256/3", format!("-1.{root}.0")),
        ] {
            let event = Event { tenant: "killick", source, id: &id, time: 0, kind: CONTINUED, digest };
            let signature = key.sign(&event.signing_bytes().unwrap());
            let public = key.public();
            let attestation = Attestation::Signed { key: public.as_bytes(), signature: &signature };
            assert_eq!(Continuation::of(&Statement { event, attestation }), None, "{source} {id}");
        }
    }

    #[test]
    fn every_log_goes_on_and_every_new_one_begins_with_another() {
        for (old, new) in [(1, 1), (4, 4), (4, 3), (3, 8), (1, 5), (5, 1)] {
            let pairs: Vec<_> = pairs(old, new).collect();
            assert!((0..old).all(|log| pairs.iter().any(|(from, _)| *from == log)), "{pairs:?}");
            assert!((0..new).all(|log| pairs.iter().any(|(_, to)| *to == log)), "{pairs:?}");
            assert_eq!(pairs.len(), old.max(new as usize));
            for (from, to) in pairs.iter().take(old) {
                assert_eq!(*to as usize, from % new as usize);
            }
        }
        assert_eq!(pairs(0, 4).count(), 0);
    }
}
