//! What must hold at the end, told from what stands in the log, the catalog and the chain alone.

use std::collections::{BTreeMap, BTreeSet};

use killick_proof::batch::BatchHeader;
use killick_proof::receipt::{Anchor, Block, Receipt};
use killick_proof::report::{Level, Verdict};
use killick_proof::statement::{Attestation, Statement};
use killick_proof::trust::{LogKey, Trust, TrustFile};
use killick_proof::verify::Verifier;
use killick_stages::batch::Batch;
use killick_stages::dedup::{self, Dedup};
use killick_stages::derive::{Deriver, Receipts};
use killick_stages::frame::{AcceptedFrame, AnchorFrame, Copy, UniqueFrame};
use killick_stages::ports::{AnchorRecord, BatchRecord, Catalog, Place};
use killick_stages::ready::{ProofReady, ReceiptReady, event_key, is_correction};
use killick_stages::record::{Partition, Record};
use killick_stages::series::{OWN, anchors_in};
use killick_stages::stage::{Part, Stage};

use super::audit::{audited, settings};
use super::registry;
use super::world::{INPUT_TOPICS, SERIES_CHAIN, Sim, prove_config, signers};

type Verdicts<T = ()> = Result<T, String>;

/// Every rule, one after another.
pub fn judge(sim: &Sim) -> Verdicts {
    one_verdict_a_record(sim)?;
    one_leaf_or_a_name(sim)?;
    logs_have_no_gap(sim)?;
    one_proof_a_batch(sim)?;
    what_was_told_last_holds(sim)?;
    one_receipt_an_event(sim)?;
    no_batch_is_anchored_twice(sim)?;
    later_anchors_are_lent_once(sim)?;
    receipts_verify(sim)?;
    a_replay_is_the_same(sim)?;
    the_audit_is_clean(sim)
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Verdicts {
    if holds { Ok(()) } else { Err(why()) }
}

fn real<'s>(sim: &'s Sim, topic: &'s str, log: u32) -> impl Iterator<Item = &'s Record> {
    sim.world.log.records(topic, log).iter().filter(|record| !record.is_tick())
}

fn batches(sim: &Sim, log: u32) -> Vec<BatchRecord> {
    real(sim, "batches", log).map(|record| BatchRecord::decode(&record.value).unwrap()).collect()
}

fn accepted(sim: &Sim, log: u32) -> Vec<AcceptedFrame> {
    real(sim, "accepted", log).map(|record| AcceptedFrame::decode(&record.value).unwrap()).collect()
}

fn header(record: &Record, name: &str) -> String {
    let value = record.header(&format!("__connect.errors.{name}")).unwrap();
    String::from_utf8(value.to_vec()).unwrap()
}

/// Each record that came in is in `accepted` once, or in `rejected` once; and where its schema decides, as that says.
fn one_verdict_a_record(sim: &Sim) -> Verdicts {
    let mut verdicts: BTreeMap<(String, u32, u64), Vec<String>> = BTreeMap::new();
    for topic in INPUT_TOPICS {
        for record in sim.world.log.all(topic) {
            verdicts.insert((topic.to_owned(), record.partition.number, record.offset), Vec::new());
        }
    }
    ensure(verdicts.len() as u64 == sim.produced, || "the log lost its input".to_owned())?;
    let mut count = |place: (String, u32, u64), verdict: String| -> Verdicts {
        verdicts.get_mut(&place).ok_or_else(|| format!("{place:?} was never produced"))?.push(verdict);
        Ok(())
    };
    for log in 0..sim.deployment.logs() {
        let mut last: BTreeMap<(Box<str>, u32), u64> = BTreeMap::new();
        for frame in accepted(sim, log) {
            for event in &frame.events {
                let before = last.insert((frame.topic.clone(), frame.partition), event.offset);
                ensure(before.is_none_or(|before| before < event.offset), || {
                    format!(
                        "log {log}: {}/{} lost its order at {}",
                        frame.topic, frame.partition, event.offset
                    )
                })?;
                count((frame.topic.to_string(), frame.partition, event.offset), "accepted".to_owned())?;
            }
        }
    }
    for record in sim.world.log.all("rejected").filter(|record| header(record, "stage") == "ingest") {
        let number = |name| header(record, name).parse::<u64>().unwrap();
        let place = (header(record, "topic"), number("partition") as u32, number("offset"));
        count(place, header(record, "exception.class.name"))?;
    }
    if let Some((place, verdicts)) = verdicts.iter().find(|(_, verdicts)| verdicts.len() != 1) {
        return Err(format!("{place:?} has the verdicts {verdicts:?}"));
    }
    for record in sim.world.log.all(registry::TOPIC) {
        let place = (registry::TOPIC.to_owned(), record.partition.number, record.offset);
        let allowed = registry::verdicts(&record.value, record.append_time);
        ensure(allowed.contains(&verdicts[&place][0].as_str()), || {
            format!("{place:?} has the verdict {:?}, and not {allowed:?}", verdicts[&place])
        })?;
    }
    Ok(())
}

/// What the device said, without signature and salt.
fn said(statement: &Statement<'_>) -> String {
    let key = match statement.attestation {
        Attestation::Signed { key, .. } => Some(*key),
        Attestation::Unsigned { .. } => None,
    };
    format!("{:?} {key:?}", statement.event)
}

/// Each accepted event is a leaf if it is the first of its name in its log; else it is named, as what it is.
fn one_leaf_or_a_name(sim: &Sim) -> Verdicts {
    let mut leaves: BTreeMap<(String, String, String), Vec<(u32, String)>> = BTreeMap::new();
    for log in 0..sim.deployment.logs() {
        let mut expected: (Vec<_>, Vec<Copy>, Vec<Copy>) = Default::default();
        let mut first: BTreeMap<(String, String, String), String> = BTreeMap::new();
        for frame in accepted(sim, log) {
            for event in &frame.events {
                let statement = Statement::decode(&event.statement).unwrap();
                let of = statement.event;
                let name = (of.tenant.to_owned(), of.source.to_owned(), of.id.to_owned());
                let copy = Copy {
                    tenant: of.tenant.into(),
                    source: of.source.into(),
                    id: of.id.into(),
                    topic: frame.topic.clone(),
                    partition: frame.partition,
                    offset: event.offset,
                };
                match first.get(&name) {
                    None => {
                        first.insert(name, said(&statement));
                        expected.0.push(event.statement.clone());
                    }
                    Some(before) if *before == said(&statement) => expected.1.push(copy),
                    Some(_) => expected.2.push(copy),
                }
            }
        }
        let frames: Vec<UniqueFrame> =
            real(sim, "unique", log).map(|record| UniqueFrame::decode(&record.value).unwrap()).collect();
        let duplicates: Vec<Copy> = frames.iter().flat_map(|frame| frame.duplicates.clone()).collect();
        let conflicts: Vec<Copy> = frames.iter().flat_map(|frame| frame.conflicts.clone()).collect();
        let statements: Vec<_> = batches(sim, log).into_iter().flat_map(|batch| batch.statements).collect();
        ensure(statements == expected.0, || {
            format!("log {log}: the leaves are not the first of their names")
        })?;
        ensure(duplicates == expected.1, || format!("log {log}: not each duplicate is named"))?;
        ensure(conflicts == expected.2, || format!("log {log}: not each conflict is named"))?;
        for statement in &statements {
            let statement = Statement::decode(statement).unwrap();
            let of = statement.event;
            let name = (of.tenant.to_owned(), of.source.to_owned(), of.id.to_owned());
            leaves.entry(name).or_default().push((log, said(&statement)));
        }
        let rejected = sim.world.log.records("rejected", log).iter();
        let rejected = rejected.filter(|record| header(record, "exception.class.name") == "conflict").count();
        ensure(rejected == conflicts.len(), || format!("log {log}: {rejected} conflicts are kept"))?;
    }
    match leaves.into_iter().find(|(_, leaves)| leaves.len() != 1) {
        Some((name, leaves)) => Err(format!("{name:?} is {} leaves", leaves.len())),
        None => Ok(()),
    }
}

/// The offsets of a log's batches follow each other, and their headers count what their range holds.
fn logs_have_no_gap(sim: &Sim) -> Verdicts {
    for log in 0..sim.deployment.logs() {
        let mut next = 0;
        for (number, batch) in (0..).zip(batches(sim, log)) {
            let header = BatchHeader::decode(&batch.header).unwrap();
            ensure(header.number == number && header.first_offset == next, || {
                format!(
                    "log {log}: batch {} from {} stands at {number} from {next}",
                    header.number, header.first_offset
                )
            })?;
            next = header.last_offset + 1;
            let range = header.first_offset..=header.last_offset;
            let frames = real(sim, "unique", log).filter(|record| range.contains(&record.offset));
            let frames: Vec<_> = frames.map(|record| UniqueFrame::decode(&record.value).unwrap()).collect();
            let count = |of: fn(&UniqueFrame) -> usize| frames.iter().map(of).sum::<usize>() as u64;
            let counts = (
                count(|frame| frame.statements.len()),
                count(|frame| frame.duplicates.len()),
                count(|frame| frame.conflicts.len()),
            );
            ensure(counts == (header.leaf_count, header.duplicates, header.conflicts), || {
                format!("log {log}: batch {number} counts not what {range:?} holds")
            })?;
        }
    }
    Ok(())
}

/// `proofs` tells of each batch once, in order; and again, as a correction, only where a deep block was lost.
fn one_proof_a_batch(sim: &Sim) -> Verdicts {
    for log in 0..sim.deployment.logs() {
        let (mut told, mut ids) = (Vec::new(), BTreeSet::new());
        for record in real(sim, "proofs", log) {
            let number = ProofReady::decode(&record.value).unwrap().number;
            let id = record.header("ce_id").unwrap().to_vec();
            ensure(ids.insert(id), || format!("log {log}: two messages about batch {number} have one id"))?;
            if is_correction(record) {
                ensure(sim.faults.deep && told.contains(&number), || {
                    format!("log {log}: a correction of batch {number}, and nothing was wrong")
                })?;
            } else {
                told.push(number);
            }
        }
        let batches = batches(sim, log).len() as u64;
        ensure(told.iter().copied().eq(0..batches), || {
            format!("log {log}: {batches} batches, told of {told:?}")
        })?;
    }
    Ok(())
}

/// What `proofs` said last of a batch stands on the branch that won.
fn what_was_told_last_holds(sim: &Sim) -> Verdicts {
    for log in 0..sim.deployment.logs() {
        let told = real(sim, "proofs", log).map(|record| ProofReady::decode(&record.value).unwrap());
        let last: BTreeMap<_, _> = told.map(|ready| (ready.number, ready.block.unwrap())).collect();
        for (number, block) in last {
            let chain = &sim.world.chains[&block.chain];
            ensure(chain.has(&block.hash), || {
                format!("log {log}: the block in the last message about batch {number} is orphaned")
            })?;
        }
    }
    Ok(())
}

/// `receipts` has the receipt of each leaf once, in order, as it is derived from the catalog and from `proofs`.
fn one_receipt_an_event(sim: &Sim) -> Verdicts {
    let mut deriver = Deriver::new(&sim.world.catalog);
    for log in 0..sim.deployment.logs() {
        let mut published = real(sim, "receipts", log);
        for record in real(sim, "proofs", log) {
            let proof = ProofReady::decode(&record.value).unwrap();
            let derived = Receipts::of(&proof)?;
            for index in 0..proof.leaves {
                let about = || format!("log {log}: event {index} of batch {}", proof.number);
                let record = published.next().ok_or_else(|| format!("{} has no receipt", about()))?;
                let ready = ReceiptReady::decode(&record.value).unwrap();
                ensure((&ready.batch, ready.index) == (&proof.batch, index), || {
                    format!("{} is not the next", about())
                })?;
                let place = Place { origin: proof.origin.clone(), number: proof.number, index };
                let mut stored = deriver.receipt_of(&place).map_err(|error| error.to_string())?;
                // Later anchors come after the receipt was published.
                let later = |anchor: &Anchor| anchor.block.chain == u64::from(SERIES_CHAIN);
                stored.iter_mut().for_each(|receipt| receipt.anchors.retain(|anchor| !later(anchor)));
                let (stored, derived) = (stored.unwrap(), derived.get(index).unwrap());
                // A smaller checkpoint may be final later than a larger one: from then on the catalog derives by it. And
                // where a block was lost, it has the anchor that came after it as well.
                let is_same = *stored.log.checkpoint == *proof.checkpoint && stored.anchors.len() == 1;
                let is_its = |receipt: &Receipt| *receipt.to_json() == *ready.receipt;
                ensure(is_its(&derived) && (!is_same || is_its(&stored)), || {
                    format!("{}: not its receipt", about())
                })?;
                let key = event_key(&ready.tenant, &ready.source, &ready.id);
                ensure(record.key == key && ready.block == proof.block, || format!("{}: its key", about()))?;
                ensure(record.value[..5] == [0, 0, 0, 0, prove_config().schema_ids.receipt as u8], about)?;
            }
        }
        ensure(published.next().is_none(), || format!("log {log}: more receipts than events"))?;
    }
    Ok(())
}

/// An interval is told of once, or as another version where a deep block was lost; only one of its commands succeeded for
/// good; and each batch has one anchor in receipts, or more of which the last one counts.
fn no_batch_is_anchored_twice(sim: &Sim) -> Verdicts {
    let mut told: BTreeMap<_, u32> = BTreeMap::new();
    let mut keys: BTreeMap<(u32, String), BTreeSet<String>> = BTreeMap::new();
    for log in 0..sim.deployment.logs() {
        for record in real(sim, "anchors", log) {
            let frame = AnchorFrame::decode(&record.value).unwrap();
            let version = told.entry((log, frame.interval.to_string())).or_default();
            *version += 1;
            ensure(frame.version == *version && (*version == 1 || sim.faults.deep), || {
                format!("log {log}: interval {} is told of {version} times", frame.interval)
            })?;
            keys.entry((frame.chain, frame.interval.to_string())).or_default().insert(frame.key.to_string());
        }
        let origin = sim.deployment.origin(log).unwrap();
        for number in 0..batches(sim, log).len() as u64 {
            let anchors = anchors_in(&sim.world.catalog, origin, OWN, number).unwrap();
            ensure(anchors.len() == 1 || sim.faults.deep && !anchors.is_empty(), || {
                format!("log {log}: batch {number} has {} anchors", anchors.len())
            })?;
        }
    }
    for ((chain, interval), keys) in keys {
        // One that was lost may have died before it came to a block again.
        ensure(keys.len() == 1 || sim.faults.deep, || {
            format!("chain {chain}: interval {interval} has {} commands", keys.len())
        })?;
    }
    // Of the commands with one text at most one is a success on the branch that won.
    for (id, chain) in &sim.world.chains {
        ensure(chain.too_soon == 0, || {
            format!(
                "chain {id}: {} roots were sent anew while the last command could be mined",
                chain.too_soon
            )
        })?;
        let mut texts = BTreeSet::new();
        for block in &chain.blocks {
            for ((_, success), (transaction, _)) in block.commands.iter().zip(&block.payload.transactions) {
                let command: serde_json::Value = serde_json::from_slice(transaction).unwrap();
                let cmd: serde_json::Value = serde_json::from_str(command["cmd"].as_str().unwrap()).unwrap();
                let text = cmd["payload"]["exec"]["data"]["killick"].to_string();
                // A turn deeper than what counts as final can revive a command that was dead for certain.
                ensure(!success || texts.insert(text) || sim.faults.deep, || {
                    format!("chain {id}: one root succeeded twice")
                })?;
            }
        }
    }
    Ok(())
}

/// Each checkpoint that is anchored later is lent once, as the catalog has it; and told of once, or as another version where a
/// deep block was lost.
fn later_anchors_are_lent_once(sim: &Sim) -> Verdicts {
    let mut told: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut frames = BTreeSet::new();
    for record in real(sim, "reanchors", 0) {
        let frame = AnchorFrame::decode(&record.value).unwrap();
        let version = told.entry((frame.interval.to_string(), frame.origin.to_string())).or_default();
        *version += 1;
        ensure(frame.version == *version && (*version == 1 || sim.faults.deep), || {
            format!("{} of {} is told of {version} times", frame.interval, frame.origin)
        })?;
        frames.insert((frame.origin, frame.size));
    }
    let mut lent = BTreeSet::new();
    for record in real(sim, "lent", 0) {
        let anchor = AnchorRecord::decode(&record.value).unwrap();
        let stored = sim.world.catalog.anchors_of(&anchor.origin, anchor.size - 1).unwrap();
        ensure(stored.contains(&anchor), || format!("the catalog lacks {anchor:?}"))?;
        let is_new = lent.insert((anchor.origin.clone(), anchor.size));
        ensure(is_new || sim.faults.deep, || format!("{} at {} is lent twice", anchor.origin, anchor.size))?;
    }
    ensure(lent == frames, || format!("told of {frames:?}, lent {lent:?}"))
}

/// The receipt of each leaf verifies in a verifier that shares nothing with the pipeline, and its block is on the chain.
fn receipts_verify(sim: &Sim) -> Verdicts {
    let keys = signers(&sim.deployment);
    let logs = keys.iter().map(|key| LogKey { key: key.verifier(), until: None }).collect();
    let mut verifier = Verifier::new(Trust::new(&TrustFile { logs, ..TrustFile::default() }).unwrap());
    let mut deriver = Deriver::new(&sim.world.catalog);
    let mut receipts = 0;
    for log in 0..sim.deployment.logs() {
        for (number, batch) in (0..).zip(batches(sim, log)) {
            for (index, statement) in (0..).zip(&batch.statements) {
                let place = Place { origin: sim.deployment.origin(log).unwrap().into(), number, index };
                let receipt = deriver.receipt_of(&place).map_err(|error| error.to_string())?;
                let receipt = receipt.ok_or_else(|| format!("{place:?} has no receipt"))?;
                ensure(receipt.statement == *statement, || format!("{place:?} is another event"))?;
                // The last of each place counts.
                let last: BTreeMap<bool, &Block> = receipt
                    .anchors
                    .iter()
                    .map(|anchor| (anchor.block.chain == u64::from(SERIES_CHAIN), &anchor.block))
                    .collect();
                ensure(last.len() == 2, || format!("{place:?} has not both anchors"))?;
                for block in last.values() {
                    let chain = &sim.world.chains[&(block.chain as u32)];
                    ensure(chain.is_canonical(block.hash.as_bytes()), || {
                        format!("{place:?}: the block is orphaned")
                    })?;
                }
                let report = verifier.verify(receipt.to_json().as_bytes(), None);
                ensure(report.verdict(Level::Anchored) == Verdict::Reached, || {
                    format!("{place:?}: {report:?}")
                })?;
                receipts += 1;
            }
        }
    }
    let places = sim.world.catalog.places().len();
    ensure(places == receipts, || format!("{places} places, {receipts} receipts"))
}

/// Stepped anew from what stands in the log, dedup and batch put out what stands behind them, byte for byte.
fn a_replay_is_the_same(sim: &Sim) -> Verdicts {
    let deployment = &sim.deployment;
    let mut dedup = Dedup::new(deployment, &dedup::Config::default()).unwrap();
    let mut batch = Batch::new(deployment, &sim.batch, signers(deployment)).unwrap();
    let stages: [(&mut dyn Stage, &str, &[&str]); 2] =
        [(&mut dedup, "accepted", &["unique"]), (&mut batch, "unique", &["batches", "checkpoints"])];
    for (stage, input, outputs) in stages {
        for log in 0..deployment.logs() {
            let partition = Partition::new(input, log);
            stage.assign(&partition, 0);
            let mut part = Part::default();
            for record in sim.world.log.records(input, log) {
                stage.step(record, &mut part).map_err(|halt| halt.to_string())?;
            }
            for topic in outputs {
                let again = part.outputs.iter().filter(|output| output.partition.topic.as_str() == *topic);
                let number = if *topic == "checkpoints" { deployment.chain_of(log).unwrap().1 } else { log };
                // The logs of one chain share a partition of `checkpoints`, each with its own key.
                let origin = deployment.origin(log).unwrap().as_bytes();
                let stands = real(sim, topic, number)
                    .filter(|record| record.key.is_empty() || &*record.key == origin)
                    .map(|record| &record.value);
                ensure(again.map(|output| &output.value).eq(stands), || {
                    format!("log {log}: a replay puts other bytes into {topic}")
                })?;
            }
        }
    }
    Ok(())
}

/// The audit finds nothing, and has looked at everything.
fn the_audit_is_clean(sim: &Sim) -> Verdicts {
    let world = &sim.world;
    let (report, findings) = audited(&world.log, sim.deployment.logs(), &settings(world.now + 1));
    ensure(report.is_clean() && findings.is_empty(), || format!("the audit finds {findings:#?}"))?;
    ensure(report.not_covered.is_empty(), || format!("not audited: {:?}", report.not_covered))?;
    let leaves: usize = (0..sim.deployment.logs())
        .map(|log| batches(sim, log).iter().map(|batch| batch.statements.len()).sum::<usize>())
        .sum();
    let events = &report.events;
    ensure(events.proven == leaves as u64, || format!("{leaves} leaves, audited {events:?}"))?;
    let ends = events.proven + events.duplicates + events.conflicts;
    ensure(events.accepted == ends, || format!("not each event has an end: {events:?}"))
}
