//! Bugs that are planted, to see that they are caught.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use bytes::Bytes;
use chainweb::pact::{Command, command_hash};
use killick_proof::signature::SecretKey;
use killick_sim::SECOND;
use killick_stages::frame::AnchorFrame;
use killick_stages::ports::{Look, Mined};
use killick_stages::record::{Partition, Record};
use killick_stages::route::ANCHORS;
use killick_stages::stage::Part;

use crate::ground::KEYS;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A command that is sent again is signed anew, with another nonce.
    SignedAnew,
    /// An attempt counts as dead while it can still be mined.
    AttemptTooSoon,
    /// A block counts as final with one above it.
    DepthOne,
    /// Only the newest attempt is looked for.
    NewestOnly,
    /// A worker that starts does not read its state back.
    StateNotRestored,
    /// A command is sent before it is in the log.
    SentBeforeLogged,
    /// A worker that lost a partition can commit for it.
    NotFenced,
    /// Once a block was told of, it counts as there for ever.
    LossUnnoticed,
    /// What is told of again is not taken notice of.
    CorrectionUnread,
    /// Alarms go nowhere.
    AlarmUnheard,
}

impl Bug {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 10] = [
        ("signed-anew", Self::SignedAnew),
        ("attempt-too-soon", Self::AttemptTooSoon),
        ("depth-one", Self::DepthOne),
        ("newest-only", Self::NewestOnly),
        ("state-not-restored", Self::StateNotRestored),
        ("sent-before-logged", Self::SentBeforeLogged),
        ("not-fenced", Self::NotFenced),
        ("loss-unnoticed", Self::LossUnnoticed),
        ("correction-unread", Self::CorrectionUnread),
        ("alarm-unheard", Self::AlarmUnheard),
    ];
}

/// What a worker with a bug remembers, and one without does not need.
#[derive(Default)]
pub struct Memory {
    sent: BTreeSet<Box<str>>,
    told: BTreeMap<Box<str>, (u64, Box<str>)>,
}

impl Memory {
    /// Takes note of what was committed.
    pub fn committed(&mut self, parts: &[(Partition, Part)]) -> Result<()> {
        for output in parts.iter().flat_map(|(_, part)| &part.outputs) {
            if output.partition.topic.as_str() == ANCHORS {
                let frame = AnchorFrame::decode(&output.value)?;
                self.told.insert(frame.key, (frame.height, frame.block));
            }
        }
        Ok(())
    }

    /// The bytes that are sent for a command.
    pub fn signed<'c>(&mut self, bug: Option<Bug>, key: &str, command: &'c Bytes) -> Cow<'c, [u8]> {
        let is_first = self.sent.insert(key.into());
        match signed_anew(command) {
            Some(other) if bug == Some(Bug::SignedAnew) && !is_first => Cow::Owned(other),
            _ => Cow::Borrowed(command),
        }
    }

    /// What is seen of commands.
    pub fn seen(&self, bug: Option<Bug>, keys: &[Box<str>], mut look: Look, depth: u64) -> Look {
        match bug {
            Some(Bug::DepthOne) => look.tip_height += depth - 1,
            Some(Bug::AttemptTooSoon) if look.mined.is_none() => {
                // Every block counts as deep, and as younger than it is.
                look.deep_time = Some(look.tip_time + 125 * SECOND);
            }
            Some(Bug::LossUnnoticed) => {
                let told = keys.iter().find_map(|key| Some((key, self.told.get(key)?)));
                if let Some((key, (height, block))) = told {
                    let (key, block) = (key.clone(), block.clone());
                    look.mined = Some(Mined { key, height: *height, block, success: true });
                }
            }
            _ => {}
        }
        look
    }
}

/// The attempts that are looked for.
pub fn looked_for(bug: Option<Bug>, keys: &[Box<str>]) -> &[Box<str>] {
    match keys {
        [.., newest] if bug == Some(Bug::NewestOnly) => std::slice::from_ref(newest),
        _ => keys,
    }
}

/// Whether a record is passed over.
pub fn is_overlooked(bug: Option<Bug>, record: &Record) -> bool {
    bug == Some(Bug::CorrectionUnread)
        && record.partition.topic.as_str() == ANCHORS
        && AnchorFrame::decode(&record.value).is_ok_and(|frame| frame.version > 1)
}

/// A command as it comes out where every retry signs anew: another nonce, and so another request key.
fn signed_anew(command: &[u8]) -> Option<Vec<u8>> {
    let cmd = Command::parse(command).ok()?.cmd.replace("\"nonce\":\"", "\"nonce\":\"again/");
    let hash = command_hash(&cmd);
    let sigs = KEYS.iter().map(SecretKey::from_seed).find_map(|key| {
        let is_its = cmd.contains(&hex::encode(key.public().as_bytes()));
        is_its.then(|| vec![Some(hex::encode(key.sign(&hash.0)))])
    });
    Some(Command { hash, sigs: sigs?, cmd }.to_transaction().into_bytes())
}
