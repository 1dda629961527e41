//! What is seen of one worker, on its way between the stage and the log.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use killick_kafka::{Figures, Lag};
use killick_proof::batch::BatchHeader;
use killick_stages::avro::Reader;
use killick_stages::manifest::Manifest;
use killick_stages::ports::LogError;
use killick_stages::ready::ProofReady;
use killick_stages::record::{Header, Micros, Output, Partition, Record};
use killick_stages::rejected::Code;
use killick_stages::route;
use killick_stages::stage::{Gauge, Part};
use opentelemetry::KeyValue;

use super::classes::Classes;
use super::health::Pulse;
use super::metrics::Instruments;
use super::progress::Progress;
use super::traces::Traces;
use crate::counters::Counters;

/// How often a stage is asked for its gauges.
const GAUGES: Duration = Duration::from_secs(1);
/// A second, in log time.
const SECOND: f64 = 1e6;

/// Tells how far the group of a worker is behind in each partition.
pub type Lags = Box<dyn Fn() -> BTreeMap<Partition, Lag> + Send + Sync>;

/// The present, as the log would stamp it.
pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}

/// What is known of a worker's side of the log beside what it does itself.
pub struct Side {
    /// What its hold on the brokers says, where it has one.
    pub figures: Option<Arc<Figures>>,
    /// How far its group is behind in what is its own.
    pub lags: Lags,
}

impl Side {
    /// A hold on the brokers.
    pub fn of_brokers(figures: Arc<Figures>) -> Self {
        let known = Arc::clone(&figures);
        Self { figures: Some(figures), lags: Box::new(move || known.lag()) }
    }
}

/// What all workers have in common.
#[derive(Debug, Clone)]
pub struct Shared {
    /// What is counted for the summary.
    pub counters: Arc<Counters>,
    /// What is counted for the metrics.
    pub instruments: Arc<Instruments>,
    /// Who counts as which class of tenants.
    pub classes: Arc<Classes>,
    /// What makes spans, where there are any.
    pub traces: Option<Traces>,
}

/// One worker.
pub struct Station {
    stage: &'static str,
    slot: Box<str>,
    shared: Shared,
    pulse: Pulse,
    side: Side,
    /// Whether the state of all that is ours was read back.
    is_settled: AtomicBool,
    has_begun: AtomicBool,
    /// Partitions that are ours.
    partitions: AtomicU64,
    /// Why what was last put out cannot be committed, if it cannot.
    fault: Mutex<Option<String>>,
    seen: Mutex<Seen>,
    /// The stage, as an attribute.
    own: [KeyValue; 1],
}

/// What was seen of the worker's records.
#[derive(Default)]
struct Seen {
    inputs: BTreeMap<Partition, Progress>,
    /// Of prove: the batches of each log, by number, that are stored or on their way there and were not told of.
    untold: BTreeMap<u32, Progress>,
    gauges: Vec<Gauge>,
    asked: Option<Instant>,
}

impl fmt::Debug for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Station").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl Station {
    /// A worker of this stage that is about to begin.
    pub fn new(stage: &'static str, slot: &str, side: Side, shared: Shared) -> Self {
        let own = [KeyValue::new("stage", stage)];
        let Instruments { commits, commit_failures, alarms, rebalances, .. } = &*shared.instruments;
        [commits, commit_failures, alarms].iter().for_each(|counter| counter.add(0, &own));
        for change in ["assigned", "revoked"] {
            rebalances.add(0, &[own[0].clone(), KeyValue::new("change", change)]);
        }
        Self {
            stage,
            slot: slot.into(),
            shared,
            pulse: Pulse::new(),
            side,
            is_settled: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            partitions: AtomicU64::new(0),
            fault: Mutex::default(),
            seen: Mutex::default(),
            own,
        }
    }

    /// Its stage.
    pub fn stage(&self) -> &'static str {
        self.stage
    }

    /// What tells the worker from all others.
    pub fn slot(&self) -> &str {
        &self.slot
    }

    /// Its pulse.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// What its hold on the brokers says, where it has one.
    pub fn figures(&self) -> Option<&Figures> {
        self.side.figures.as_deref()
    }

    /// Partitions that are its own.
    pub fn partitions(&self) -> u64 {
        self.partitions.load(Ordering::Relaxed)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it once had all that it was given, with its state.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Whether it has its partitions or stands by for some, and can write.
    ///
    /// # Errors
    /// Why not.
    pub fn is_ready(&self) -> Result<(), String> {
        if let Some(figures) = &self.side.figures {
            if !figures.is_connected() {
                return Err("no broker is connected".to_owned());
            }
            if !figures.joined.load(Ordering::Relaxed) {
                return Err("its group has not told it yet what it has".to_owned());
            }
        }
        if !self.is_settled.load(Ordering::Relaxed) {
            return Err("it reads its state back".to_owned());
        }
        match &*self.fault.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(fault) => Err(format!("it cannot commit: {fault}")),
            None => Ok(()),
        }
    }

    /// The figures that its stage gave last.
    pub fn gauges(&self) -> Vec<Gauge> {
        self.seen().gauges.clone()
    }

    /// Of each topic: records that are not done, and the largest age of one of them in seconds.
    pub fn lags(&self, now: Micros) -> Vec<(String, u64, f64)> {
        let lags = (self.side.lags)();
        let mut topics: BTreeMap<String, (u64, f64)> = BTreeMap::new();
        for (partition, progress) in &self.seen().inputs {
            let lag = lags.get(partition).copied().unwrap_or_default();
            let sums = topics.entry(partition.topic.as_str().to_owned()).or_default();
            *sums = (sums.0 + lag.records, sums.1.max(age(now, oldest(progress, lag))));
        }
        topics.into_iter().map(|(topic, (records, age))| (topic, records, age)).collect()
    }

    /// The age in seconds of the oldest event that waits here, be it read or not. 0 where none does.
    pub fn oldest_event(&self, now: Micros) -> f64 {
        let carries = |topic: &str| match self.stage {
            "ingest" | "dedup" | "batch" => true,
            // An anchor's own age is not its events'.
            "prove" => topic == route::BATCHES,
            _ => false,
        };
        let lags = (self.side.lags)();
        let seen = self.seen();
        let inputs = seen.inputs.iter().filter(|(partition, _)| carries(partition.topic.as_str()));
        let inputs = inputs.map(|(partition, progress)| {
            age(now, oldest(progress, lags.get(partition).copied().unwrap_or_default()))
        });
        inputs.chain(seen.untold.values().map(|batches| age(now, batches.oldest()))).fold(0.0, f64::max)
    }

    /// A log with batches that are stored and not told of, whose age nobody here knows, and the first of these batches.
    pub fn unknown(&self) -> Option<(u32, u64)> {
        let seen = self.seen();
        seen.gauges.iter().find_map(|gauge| match gauge {
            Gauge::Log { number, stored, told } if told < stored => {
                let known = seen.untold.get(number).and_then(Progress::first);
                known.is_none_or(|known| known > *told).then_some((*number, *told))
            }
            _ => None,
        })
    }

    /// Learns when the first event of that batch came, which waited when its stage was last asked; it may have been told of since, or be
    /// another worker's.
    pub fn learn(&self, log: u32, batch: u64, time: Micros) {
        let mut seen = self.seen();
        if seen.inputs.contains_key(&Partition::new(route::BATCHES, log)) {
            seen.untold.entry(log).or_default().learn(batch, time);
        }
    }

    /// The worker has turned; what its stage alone knows is asked for now and then.
    pub fn turned(&self, gauges: impl FnOnce() -> Vec<Gauge>) {
        let mut seen = self.seen();
        if seen.asked.is_none_or(|asked| asked.elapsed() >= GAUGES) {
            seen.asked = Some(Instant::now());
            seen.gauges = gauges();
        }
    }

    /// The stage has something that an operator has to look at.
    pub fn alarmed(&self) {
        self.shared.instruments.alarms.add(1, &self.own);
    }

    /// The worker asks for records: so it is done with what it was given before.
    pub(super) fn asks(&self) {
        let is_member =
            self.side.figures.as_ref().is_none_or(|figures| figures.joined.load(Ordering::Relaxed));
        if is_member && !self.is_settled.swap(true, Ordering::Relaxed) {
            self.has_begun.store(true, Ordering::Relaxed);
        }
    }

    /// A partition came.
    pub(super) fn assigned(&self, partition: &Partition) {
        self.is_settled.store(false, Ordering::Relaxed);
        if self.seen().inputs.insert(partition.clone(), Progress::default()).is_none() {
            self.partitions.fetch_add(1, Ordering::Relaxed);
        }
        self.changed("assigned");
    }

    /// A partition went.
    pub(super) fn revoked(&self, partition: &Partition) {
        let mut seen = self.seen();
        if seen.inputs.remove(partition).is_some() {
            self.partitions.fetch_sub(1, Ordering::Relaxed);
        }
        seen.untold.remove(&partition.number);
        drop(seen);
        if let Some(traces) = &self.shared.traces {
            traces.revoked(partition);
        }
        self.changed("revoked");
    }

    fn changed(&self, change: &'static str) {
        let labels = [self.own[0].clone(), KeyValue::new("change", change)];
        self.shared.instruments.rebalances.add(1, &labels);
    }

    /// Records came, in order.
    pub(super) fn read<'r>(&self, records: impl Iterator<Item = &'r Record> + Clone) {
        if let Some(traces) = &self.shared.traces {
            traces.read(self.stage, records.clone());
        }
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        let mut seen = self.seen();
        for record in records {
            *counts.entry(record.partition.topic.as_str()).or_default() += 1;
            if record.partition.topic.as_str() == route::BATCHES
                && let Some((number, time)) = first_event(&record.value)
            {
                seen.untold.entry(record.partition.number).or_default().take(number, time);
            }
            let Some(progress) = seen.inputs.get_mut(&record.partition) else { continue };
            if waits(record) {
                progress.take(record.offset, record.append_time);
            } else {
                progress.pass(record.offset, record.append_time);
            }
        }
        drop(seen);
        for (topic, count) in counts {
            let labels = [self.own[0].clone(), KeyValue::new("topic", topic.to_owned())];
            self.shared.instruments.read.add(count, &labels);
        }
    }

    /// A commit ended so.
    pub(super) fn wrote(&self, parts: &[(Partition, Part)], took: Duration, outcome: &Result<(), LogError>) {
        let fault = match outcome {
            Err(error @ (LogError::Failed(_) | LogError::Over(_) | LogError::Damaged(_))) => {
                Some(error.to_string())
            }
            // The partition or the record is not one that can be written; the producer is.
            Ok(()) | Err(LogError::Lost(_) | LogError::Unknown(_) | LogError::TooLarge { .. }) => None,
        };
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
        let instruments = &self.shared.instruments;
        match outcome {
            Ok(()) => {
                instruments.commits.add(1, &self.own);
                instruments.commit_time.record(took.as_secs_f64(), &self.own);
                self.committed(parts);
                if let Some(traces) = &self.shared.traces {
                    traces.committed(self.stage, parts, took);
                }
            }
            Err(_) => instruments.commit_failures.add(1, &self.own),
        }
    }

    /// Takes in what was committed.
    fn committed(&self, parts: &[(Partition, Part)]) {
        let mut seen = self.seen();
        for (partition, part) in parts {
            if let (Some(through), Some(progress)) = (part.through, seen.inputs.get_mut(partition)) {
                progress.done(through);
            }
        }
        drop(seen);
        self.shared.counters.committed(parts, |manifest| self.manifest(manifest));
        let now = now();
        let instruments = &self.shared.instruments;
        for output in parts.iter().flat_map(|(_, part)| &part.outputs) {
            match output.partition.topic.as_str() {
                route::BATCHES => {
                    instruments.batches.add(1, &[]);
                    if let Some((_, time)) = first_event(&output.value) {
                        let classes = self.shared.classes.of_batch(&output.value);
                        self.event_time("checkpoint", now, time, &classes);
                    }
                }
                route::ANCHORS => instruments.anchored.add(1, &[]),
                route::PROOFS => self.proof(output, now),
                route::REJECTED => {
                    let code = code(&output.headers).unwrap_or("unknown");
                    instruments.rejected.add(1, &[KeyValue::new("code", code)]);
                }
                _ => {}
            }
        }
    }

    fn manifest(&self, manifest: &Manifest) {
        let outcome = |name: &'static str, count: u64| {
            self.shared.instruments.events.add(count, &[KeyValue::new("outcome", name)]);
        };
        let Manifest { stage, input, tally, .. } = manifest;
        match &**stage {
            "ingest" => outcome("accepted", tally.passed.events),
            "dedup" => outcome("duplicate", tally.duplicates),
            "prove" if input.topic.as_str() == route::ANCHORS => {
                outcome("proven", tally.passed.events);
                if let Some(told) = tally.batches {
                    self.seen().untold.entry(input.number).or_default().done(told);
                }
            }
            _ => {}
        }
    }

    fn proof(&self, output: &Output, now: Micros) {
        self.shared.instruments.proofs.add(1, &[]);
        // What is told of again was timed when it was told of first.
        let is_first = output.headers.iter().any(|header| header.value == killick_stages::ready::PROOF_READY);
        let Ok(about) = ProofReady::about(&output.value) else { return };
        if is_first {
            let classes = self.shared.classes.of(about.tenants.iter().map(|tenant| &**tenant));
            self.event_time("proof", now, about.first_time, &classes);
            if let Some(block) = about.block {
                self.event_time("anchored", block.time, about.first_time, &classes);
            }
        }
    }

    fn event_time(&self, until: &'static str, end: Micros, begin: Micros, classes: &[&'static str]) {
        let took = age(end, Some(begin));
        for class in classes {
            let labels = [KeyValue::new("until", until), KeyValue::new("class", *class)];
            self.shared.instruments.event_time.record(took, &labels);
        }
    }
}

/// In seconds; 0 of nothing, and of what clocks say to come.
fn age(now: Micros, time: Option<Micros>) -> f64 {
    time.map_or(0.0, |time| (now.saturating_sub(time).max(0)) as f64 / SECOND)
}

/// The time of the oldest record of a partition that waits. Of one that was not read yet it is known that it is no older
/// than the last that was; what was read and holds nothing that waits has no age, be it committed or not.
fn oldest(progress: &Progress, lag: Lag) -> Option<Micros> {
    progress.oldest().or_else(|| progress.last().filter(|_| progress.end() < lag.end))
}

/// Whether there is something in a record that waits for anything: a tick has only time, and a frame may have only copies.
fn waits(record: &Record) -> bool {
    let is_hollow = || {
        let mut reader = Reader::new(&record.value);
        reader.count().and_then(|_| reader.long()) == Ok(0)
    };
    let is_copies = record.partition.topic.as_str() == route::UNIQUE && is_hollow();
    !(is_copies || record.is_tick())
}

/// A batch's number, and the log time of its first event, from the beginning of its record.
fn first_event(batch: &[u8]) -> Option<(u64, Micros)> {
    let header = BatchHeader::decode(Reader::new(batch).bytes().ok()?).ok()?;
    Some((header.number, header.first_time))
}

/// The code for which an event was rejected.
fn code(headers: &[Header]) -> Option<&'static str> {
    let named = headers.iter().find(|header| header.name.ends_with("exception.class.name"))?;
    Code::ALL.into_iter().map(Code::name).find(|name| *name.as_bytes() == *named.value)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use killick_stages::stage::{Sum, Tally};

    use super::super::health::Health;
    use super::super::metrics::Metrics;
    use super::*;

    /// The worker of stage `prove` that has log 3, without telemetry to anywhere.
    fn prove() -> Station {
        let health = Arc::<Health>::default();
        let metrics = Metrics::new(&health, opentelemetry_sdk::Resource::builder().build(), None).unwrap();
        let shared = Shared {
            counters: Arc::default(),
            instruments: metrics.instruments(),
            classes: Arc::default(),
            traces: None,
        };
        let side = Side { figures: None, lags: Box::new(BTreeMap::new) };
        let station = Station::new("prove", "0", side, shared);
        [route::BATCHES, route::ANCHORS]
            .iter()
            .for_each(|topic| station.assigned(&Partition::new(*topic, 3)));
        station
    }

    /// Commits that batches below `told` of log 3 were told of.
    fn tells(station: &Station, told: u64) {
        let input = Partition::new(route::ANCHORS, 3);
        let tally = Tally { passed: Sum { events: 1, hashes: 0 }, batches: Some(told), ..Tally::default() };
        let manifest = Manifest {
            stage: "prove".into(),
            input: input.clone(),
            from: 0,
            to: 1,
            tally,
            worker: "0".into(),
        };
        let output = Output::new(Partition::new(route::AUDIT, 0), Bytes::new(), manifest.encode());
        let part = Part { outputs: vec![output], ..Part::default() };
        station.wrote(&[(input, part)], Duration::ZERO, &Ok(()));
    }

    #[test]
    fn a_batch_that_was_told_of_while_it_was_asked_for_does_not_wait() {
        let station = prove();
        station.turned(|| vec![Gauge::Log { number: 3, stored: 1, told: 0 }]);
        assert_eq!(station.unknown(), Some((3, 0)));
        tells(&station, 1);
        station.learn(3, 0, now() - 9_000_000);
        assert_eq!(station.oldest_event(now()), 0.0);
        station.learn(3, 1, now() - 9_000_000);
        assert!(station.oldest_event(now()) >= 9.0, "the next one was not told of");
    }

    #[test]
    fn a_batch_whose_log_went_to_another_worker_does_not_wait_here() {
        let station = prove();
        station.turned(|| vec![Gauge::Log { number: 3, stored: 1, told: 0 }]);
        [route::BATCHES, route::ANCHORS].iter().for_each(|topic| station.revoked(&Partition::new(*topic, 3)));
        station.learn(3, 0, now() - 9_000_000);
        assert_eq!(station.oldest_event(now()), 0.0);
    }
}
