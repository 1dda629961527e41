//! Who saw everything: each block on each node, each command that was sent, each record that was committed, each alarm.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use chainweb::devnet::Network;
use chainweb::{ChainId, Hash};
use killick_sim::SECOND;
use killick_stages::frame::AnchorFrame;
use killick_stages::record::{Micros, Output};
use killick_stages::route::{ANCHOR_LOG, ANCHORS};
use killick_stages::state::{AnchorState, Attempt};

use crate::ground::Ground;

/// How long a command may still be sent though another one of its interval stands deep on all nodes, and nothing has
/// happened to them since: longer than a stage needs to look, whatever goes wrong with its questions.
const GRACE: Micros = 90 * SECOND;

/// What was seen.
#[derive(Default)]
pub struct Witness {
    /// Blocks above a command's that make it final.
    pub depth: u64,
    /// Commands that were logged, by request key.
    pub commands: BTreeMap<Hash, Command>,
    /// The same by their bytes.
    keys: BTreeMap<Bytes, Hash>,
    /// The bytes of each interval's attempts.
    pub attempts: BTreeMap<(String, u64), Bytes>,
    /// What `anchors` told of, by block and interval.
    pub told: Vec<Told>,
    /// Alarms, with the blocks that they name.
    pub alarms: Vec<Box<str>>,
    /// Blocks that had commands, and how deep they were at most, on any node.
    deepest: BTreeMap<String, u64>,
    /// When something happened to the nodes last, or to whoever asks them.
    pub disturbed: Micros,
    /// Whether blocks that were deep are lost, on any node.
    pub is_deep: bool,
    /// What was wrong as it was done.
    pub wrong: Wrong,
}

/// What was wrong as it was done, and not only in the end.
#[derive(Default)]
pub struct Wrong {
    /// Commands that were sent with other bytes than were logged before, or attempts that were logged twice, unlike.
    pub changed: BTreeSet<String>,
    /// Intervals of which two commands could be mined.
    pub doubled: BTreeSet<String>,
    /// Intervals that were told of before their blocks were deep.
    pub shallow: BTreeSet<String>,
}

/// A command of an attempt.
pub struct Command {
    /// The chain.
    pub chain: u32,
    /// The interval: its lane and its id there.
    pub interval: String,
    /// The attempt.
    pub number: u64,
    expires: Micros,
    is_sent: bool,
    /// Whether, on a node, no block above its tip could take it, and that tip's block was deep.
    was_dead: bool,
    /// Whether a block had it after that.
    was_revived: bool,
    /// Since when it is a success on all nodes, as deep as it has to be.
    stands_since: Option<Micros>,
}

/// An anchor that was told of.
pub struct Told {
    /// The chain.
    pub chain: u32,
    /// The interval.
    pub interval: String,
    /// How often it was told of.
    pub version: u32,
    /// The block's height.
    pub height: u64,
    /// The block's hash.
    pub block: String,
    /// Whether a node, at least so high that it was final there, had another block in its place.
    pub was_missed: bool,
}

impl Witness {
    /// One who knows how deep a block has to be.
    pub fn new(depth: u64) -> Self {
        Self { depth, ..Self::default() }
    }

    /// Takes note of what a transaction wrote.
    pub fn committed(&mut self, outputs: &[Output], ground: &Ground) -> Result<()> {
        for output in outputs {
            match output.partition.topic.as_str() {
                ANCHOR_LOG if !output.value.is_empty() => {
                    if let AnchorState::Interval(interval) = AnchorState::decode(&output.value)? {
                        let name = format!("{}/{}", output.partition.number, interval.id);
                        interval
                            .attempts
                            .iter()
                            .try_for_each(|one| self.logged(interval.chain, &name, one))?;
                    }
                }
                ANCHORS => self.told_of(AnchorFrame::decode(&output.value)?, ground),
                _ => {}
            }
        }
        // What was found on a node meanwhile counts from now on.
        self.look_around(ground, None);
        Ok(())
    }

    fn logged(&mut self, chain: u32, interval: &str, attempt: &Attempt) -> Result<()> {
        let place = (interval.to_owned(), attempt.number);
        let first = self.attempts.entry(place).or_insert_with(|| attempt.command.clone());
        if *first != attempt.command {
            self.wrong.changed.insert(format!("{interval}: two commands are attempt {}", attempt.number));
        }
        let key: Hash = attempt.key.parse().ok().context("a request key that is none")?;
        self.keys.insert(attempt.command.clone(), key);
        self.commands.entry(key).or_insert_with(|| Command {
            chain,
            interval: interval.to_owned(),
            number: attempt.number,
            expires: attempt.expires,
            is_sent: false,
            was_dead: false,
            was_revived: false,
            stands_since: None,
        });
        Ok(())
    }

    fn told_of(&mut self, frame: AnchorFrame, ground: &Ground) {
        let is_known = |told: &Told| *told.interval == *frame.interval && told.version == frame.version;
        if let Some(told) = self.told.iter().find(|told| is_known(told)) {
            // Each log of the interval has a record of its own.
            if *told.block != *frame.block {
                self.wrong.doubled.insert(format!("{} is told of in two blocks at once", frame.interval));
            }
            return;
        }
        self.told.push(Told {
            chain: frame.chain,
            interval: frame.interval.to_string(),
            version: frame.version,
            height: frame.height,
            block: frame.block.to_string(),
            was_missed: false,
        });
        self.look_around(ground, None);
        if self.deepest.get(&*frame.block).is_none_or(|deepest| *deepest < self.depth) {
            let deepest = self.deepest.get(&*frame.block);
            self.wrong.shallow.insert(format!("{} is told of at depth {deepest:?}", frame.interval));
        }
    }

    /// Takes note of bytes that go to a node now, for a request that was made at `asked`.
    pub fn sent(&mut self, bytes: &[u8], asked: Micros) {
        let Some(key) = self.keys.get(bytes).copied() else {
            let command = String::from_utf8_lossy(bytes);
            let nonce = command.split_once("nonce").map_or("", |(_, rest)| rest);
            let nonce: String = nonce.chars().take(60).collect();
            self.wrong.changed.insert(format!("bytes that were not logged were sent: nonce{nonce}"));
            return;
        };
        let Some(command) = self.commands.get_mut(&key) else { return };
        let is_first = !std::mem::replace(&mut command.is_sent, true);
        let (interval, number) = (command.interval.clone(), command.number);
        for other in
            self.commands.values().filter(|other| other.interval == interval && other.number != number)
        {
            if is_first && other.number < number && !other.was_dead {
                let why = format!("{interval}: attempt {number} is sent while {} can be mined", other.number);
                self.wrong.doubled.insert(why);
            }
            let stands_since = other.stands_since.map(|since| since.max(self.disturbed));
            if stands_since.is_some_and(|since| asked > since + GRACE) {
                let why = format!("{interval}: attempt {number} is sent though {} stands", other.number);
                self.wrong.doubled.insert(why);
            }
        }
    }

    /// Whether a command is on some node's chain that was dead for certain.
    pub fn is_revived(&self) -> bool {
        self.commands.values().any(|command| command.was_dead && command.was_revived)
    }

    /// Looks at all nodes, after each change of their blocks. Where there is no time, nothing has changed but what is known.
    pub fn look_around(&mut self, ground: &Ground, now: Option<Micros>) {
        let mut stands: BTreeMap<Hash, bool> = self.commands.keys().map(|key| (*key, true)).collect();
        for (index, node) in ground.nodes.iter().enumerate() {
            let is_down = node.state().is_down;
            node.read(|network| {
                for (key, command) in &mut self.commands {
                    let depth = look_for(network, key, command, self.depth, &mut self.deepest);
                    if !is_down && depth.is_none_or(|depth| depth < self.depth) {
                        stands.insert(*key, false);
                    }
                }
            });
            for told in &mut self.told {
                let is_high = ground.height(index, told.chain) >= told.height + self.depth;
                if is_high && ground.block_at(index, told.chain, told.height).as_ref() != Some(&told.block) {
                    told.was_missed = true;
                    self.is_deep = true;
                }
            }
        }
        let Some(now) = now else { return };
        for (key, command) in &mut self.commands {
            command.stands_since = stands[key].then(|| command.stands_since.unwrap_or(now));
        }
    }
}

/// How deep the block of a command is on a node, where it is a success; and takes note of what is seen there.
fn look_for(
    network: &Network,
    key: &Hash,
    command: &mut Command,
    deep: u64,
    deepest: &mut BTreeMap<String, u64>,
) -> Option<u64> {
    let chain = ChainId(command.chain);
    let tip = network.tip(chain)?;
    let Some((height, _, block)) = network.find(chain, key) else {
        let old = tip.height.checked_sub(deep).and_then(|height| network.header_at(chain, height));
        command.was_dead |= old.is_some_and(|header| command.expires <= header.creation_time);
        return None;
    };
    let depth = tip.height.saturating_sub(height);
    let known = deepest.entry(block.to_string()).or_default();
    *known = depth.max(*known);
    if is_success(network, chain, key) {
        command.was_revived |= command.was_dead;
        return Some(depth);
    }
    command.was_dead |= depth >= deep;
    None
}

/// Whether a command that is in a block did what it should.
pub fn is_success(network: &Network, chain: ChainId, key: &Hash) -> bool {
    let result = network.poll(chain, std::slice::from_ref(key), 0).pop();
    result.is_some_and(|(_, text)| {
        serde_json::from_str::<serde_json::Value>(&text)
            .is_ok_and(|json| json["result"]["status"] == "success")
    })
}
