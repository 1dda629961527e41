//! The verdict: from the log, the catalog, the chain as it is in the end, and what was seen on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context as _, Result, anyhow};
use chainweb::ChainId;
use killick_proof::report::{Level, Verdict as Reached};
use killick_proof::trust::{LogKey, Trust, TrustFile};
use killick_proof::verify::Verifier;
use killick_stages::derive::{Deriver, Receipts};
use killick_stages::frame::AnchorFrame;
use killick_stages::ports::Place;
use killick_stages::ready::ProofReady;
use killick_stages::route::{ANCHORS, BATCHES, PROOFS};

use crate::witness::is_success;
use crate::world::World;

/// What was counted in a scenario, each with what is wrong with it.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Intervals that are anchored in the end.
    pub anchors: usize,
    /// Batches without a proof that verifies; and whatever keeps the stages from their work.
    pub unanchored: BTreeSet<String>,
    /// Intervals with two commands on the chain, or two that could have been; and whatever was told of twice.
    pub doubled: BTreeSet<String>,
    /// What was told of in a block that was not deep enough, or is not on the chain in the end and was not corrected.
    pub above_orphan: BTreeSet<String>,
    /// Attempts that were sent with other bytes than those in the log.
    pub changed_bytes: BTreeSet<String>,
    /// Deep blocks that were lost without an alarm, and alarms without a cause.
    pub alarms_missed: BTreeSet<String>,
}

impl Verdict {
    /// The counted, with their names.
    pub fn counted(&self) -> [(&'static str, &BTreeSet<String>); 5] {
        [
            ("unanchored", &self.unanchored),
            ("doubled", &self.doubled),
            ("above_orphan", &self.above_orphan),
            ("changed_bytes", &self.changed_bytes),
            ("alarms_missed", &self.alarms_missed),
        ]
    }

    /// Whether nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.counted().iter().all(|(_, wrong)| wrong.is_empty())
    }
}

impl fmt::Display for Verdict {
    /// What is wrong, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong = self.counted().into_iter().filter(|(_, wrong)| !wrong.is_empty());
        let texts: Vec<_> = wrong
            .map(|(name, wrong)| format!("{name}: {}", wrong.iter().cloned().collect::<Vec<_>>().join("; ")))
            .collect();
        f.write_str(&texts.join(" | "))
    }
}

/// Judges a world that came to rest, or `halted`.
///
/// # Errors
/// What is in the log is none of what stages write.
pub fn judge(world: &mut World, halted: Option<&anyhow::Error>) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    if let Some(why) = halted {
        verdict.unanchored.insert(format!("{why:#}"));
    }
    the_chain(world, &mut verdict);
    anchors_are_told_of_once(world, &mut verdict)?;
    alarms_have_causes(world, &mut verdict);
    proofs_verify(world, &mut verdict, halted.is_some())?;
    let wrong = std::mem::take(&mut world.witness.wrong);
    verdict.changed_bytes.extend(wrong.changed);
    verdict.doubled.extend(wrong.doubled);
    verdict.above_orphan.extend(wrong.shallow);
    Ok(verdict)
}

/// Counts the commands of each interval that succeeded on the chain.
fn the_chain(world: &World, verdict: &mut Verdict) {
    let mut successes: BTreeMap<&str, usize> = BTreeMap::new();
    world.ground.nodes[0].read(|network| {
        for (key, command) in &world.witness.commands {
            let chain = ChainId(command.chain);
            if network.find(chain, key).is_some() && is_success(network, chain, key) {
                *successes.entry(&command.interval).or_default() += 1;
            }
        }
    });
    verdict.anchors = successes.len();
    for (interval, count) in successes {
        // Where blocks were lost that were deep, a command that was dead for certain can be there again.
        if count > 1 && !world.witness.is_deep && !world.witness.is_revived() {
            verdict.doubled.insert(format!("{interval} has {count} commands on the chain"));
        }
    }
}

/// Each log is told of each interval once; again only as another version.
fn anchors_are_told_of_once(world: &World, verdict: &mut Verdict) -> Result<()> {
    let mut told = BTreeSet::new();
    for record in world.log.all(ANCHORS) {
        let frame = AnchorFrame::decode(&record.value)?;
        let place = (record.partition.number, frame.interval.to_string(), frame.version);
        if !told.insert(place) {
            let why = format!("{} is told of twice as version {}", frame.interval, frame.version);
            verdict.doubled.insert(why);
        }
    }
    Ok(())
}

/// Each block that was told of and is lost has an alarm, and each alarm such a block.
fn alarms_have_causes(world: &World, verdict: &mut Verdict) {
    let witness = &world.witness;
    for told in &witness.told {
        let is_there = world.ground.block_at(0, told.chain, told.height).as_ref() == Some(&told.block);
        let is_heard = witness.alarms.iter().any(|alarm| alarm.contains(&told.block));
        if !is_there && !is_heard {
            verdict.alarms_missed.insert(format!("{}: block {} is lost", told.interval, told.block));
        }
    }
    let (purses, lost): (Vec<_>, Vec<_>) =
        witness.alarms.iter().partition(|alarm| alarm.starts_with("account "));
    if let Some(alarm) = purses.first().filter(|_| !world.plan.is_poor) {
        verdict.alarms_missed.insert(format!("without a cause: {alarm}"));
    }
    for alarm in lost {
        let mut named = witness.told.iter().filter(|told| alarm.contains(&told.block));
        if !named.any(|told| told.was_missed) {
            verdict.alarms_missed.insert(format!("without a cause: {alarm}"));
        }
    }
}

/// Each batch is told of, as what stands on the chain, and each of its receipts verifies.
fn proofs_verify(world: &World, verdict: &mut Verdict, is_halted: bool) -> Result<()> {
    let logs = world.log_keys().into_iter().map(|key| LogKey { key, until: None }).collect();
    let trust = Trust::new(&TrustFile { logs, ..TrustFile::default() })?;
    let mut verifier = Verifier::new(trust);
    let mut deriver = Deriver::new(&world.catalog);
    for log in 0..world.deployment.logs() {
        let origin = world.deployment.origin(log).context("a log without an origin")?;
        let mut latest: BTreeMap<u64, ProofReady> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for record in world.log.records(PROOFS, log) {
            let ready = ProofReady::decode(&record.value)?;
            if !ids.insert(record.header("ce_id").map(<[u8]>::to_vec)) {
                verdict.doubled.insert(format!("batch {} of {origin} is told of twice", ready.number));
            }
            latest.insert(ready.number, ready);
        }
        for number in 0..world.log.records(BATCHES, log).len() as u64 {
            let name = format!("batch {number} of {origin}");
            let Some(ready) = latest.get(&number) else {
                if !is_halted || verdict.unanchored.is_empty() {
                    verdict.unanchored.insert(name);
                }
                continue;
            };
            let is_there = |height: u64, hash: &str| {
                let chain = ready.block.as_ref().map_or(0, |block| block.chain);
                world.ground.block_at(0, chain, height).as_deref() == Some(hash)
            };
            if !ready.block.as_ref().is_some_and(|block| is_there(block.height, &block.hash)) {
                verdict.above_orphan.insert(format!("{name}: its block {:?} is lost", ready.block));
            }
            if let Err(why) = receipts(world, ready, origin, &mut verifier, &mut deriver) {
                verdict.unanchored.insert(format!("{name}: {why:#}"));
            }
        }
    }
    Ok(())
}

/// The receipts of a batch verify in a verifier that shares nothing with the pipeline: those that its message holds, and
/// those that the catalog gives, of which one anchor at least stands on the chain.
fn receipts(
    world: &World,
    ready: &ProofReady,
    origin: &str,
    verifier: &mut Verifier,
    deriver: &mut Deriver<'_>,
) -> Result<()> {
    let told = Receipts::of(ready).map_err(|why| anyhow!(why))?;
    for index in 0..ready.leaves {
        let receipt = told.get(index).with_context(|| format!("no receipt {index}"))?;
        let place = Place { origin: origin.into(), number: ready.number, index };
        let derived =
            deriver.receipt_of(&place)?.with_context(|| format!("the catalog has no receipt {index}"))?;
        for receipt in [&receipt, &derived] {
            let report = verifier.verify(receipt.to_json().as_bytes(), None);
            anyhow::ensure!(
                report.verdict(Level::Anchored) == Reached::Reached,
                "receipt {index}: {report:?}"
            );
            let is_there = receipt.anchors.iter().any(|anchor| {
                let chain = u32::try_from(anchor.block.chain).unwrap_or(u32::MAX);
                world.ground.block_at(0, chain, anchor.block.height) == Some(anchor.block.hash.to_string())
            });
            anyhow::ensure!(is_there, "receipt {index} has no anchor on the chain");
        }
    }
    Ok(())
}
