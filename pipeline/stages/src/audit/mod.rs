//! The audit: shows from the log alone that nothing was lost and nothing done twice, or what was, and where.
//!
//! Three looks, each at something else that a torn, lost or repeated transaction leaves behind:
//! - The manifests of each stage and input partition tile its offsets, and end where the stage is committed.
//! - What each manifest tells, how many and which events went in and out, is what the log holds there. So what one stage
//!   passed on is what the next one took, and both are what stands between them.
//! - Each accepted event has exactly one end: it is a leaf of one batch that was told of once, or a named copy, or
//!   rejected. Since every step keeps the order of its log, this is a merge of `accepted`, `unique`, `batches` and
//!   `proofs`, in constant memory. Only that no name is a leaf twice within dedup's window takes room: 40 bytes a leaf,
//!   in [`Leaves`], for one log after another.
//!
//! Cost: each of these topics is read once, from `since` on. What retention has taken is told as not covered.

mod finding;
mod manifests;
mod merge;
mod start;
pub mod track;
mod verdicts;

use std::collections::BTreeMap;

use crate::cursor::Cursor;
use crate::ports::{LogError, Reader};
use crate::record::{Micros, Partition};
use crate::route;
pub use finding::{Events, Finding, Hop, Kind, Leaf, Name, Report, twice};
use track::{Span, Track};

/// What is looked at, and how hard.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How old an accepted event may be without a proof; `None`: only the manifests are looked at.
    pub objective: Option<Micros>,
    /// The present time: what is old is older than this.
    pub now: Micros,
    /// Only what the log took at this time or later; `None`: all that is kept.
    pub since: Option<Micros>,
    /// Findings about what the log took after this time are counted and not told: the log may not show all of it yet.
    /// `None` where a reader sees each transaction as a whole.
    pub settled: Option<Micros>,
    /// How long dedup finds copies.
    pub window: Micros,
    /// Input topics, besides those that manifests name.
    pub sources: Vec<String>,
}

/// How long before a time what belongs together may have been appended: the clocks of brokers differ.
const SLACK: Micros = 600_000_000;

/// Hears of what is found.
pub trait Observer {
    /// Something is wrong.
    fn found(&mut self, finding: Finding);

    /// A partition has been read up to an offset; it ends at another.
    fn progress(&mut self, partition: &Partition, offset: u64, end: u64);
}

/// Gathers the leaves of one log, which may be more than fit into memory.
pub trait Leaves {
    /// Takes a leaf in.
    ///
    /// # Errors
    /// There is no room.
    fn add(&mut self, leaf: Leaf) -> std::io::Result<()>;

    /// Does what [`twice`] does for all leaves taken in, and forgets them.
    ///
    /// # Errors
    /// They cannot be read back.
    fn twice(&mut self, window: Micros, each: &mut dyn FnMut(&Leaf, &Leaf)) -> std::io::Result<()>;
}

/// Why an audit cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log is not one that can be audited.
    #[error("{0}")]
    Unfit(String),
    /// The leaves could not be gathered.
    #[error("the leaves of a log cannot be gathered: {0}")]
    Leaves(#[source] std::io::Error),
}

/// Where each stage was committed at some time, by stage and input partition.
pub type Committed = BTreeMap<(Box<str>, Partition), u64>;

/// Tells where each stage is committed now: what an audit that begins later has to find at least. Of inputs only `sources`
/// are asked for: brokers may refuse to speak of others, also of `events` where that is none of ours.
///
/// # Errors
/// [`AuditError`]; [`AuditError::Unfit`] where there is nothing to audit.
pub fn committed(reader: &mut dyn Reader, sources: &[String]) -> Result<Committed, AuditError> {
    logs(reader)?;
    let mut committed = Committed::new();
    for hop in route::ROUTE {
        let inner = hop.reads.iter().copied().filter(|topic| route::is_inner(topic));
        let own = sources.iter().map(String::as_str).filter(|_| hop.stage == "ingest");
        for topic in inner.chain(own) {
            for partition in reader.partitions(topic)? {
                if let Some(offset) = reader.committed(hop.stage, &partition)? {
                    committed.insert((hop.stage.into(), partition), offset);
                }
            }
        }
    }
    Ok(committed)
}

/// The partitions of `accepted`, of a log that can be audited.
fn logs(reader: &mut dyn Reader) -> Result<Vec<Partition>, AuditError> {
    let logs = reader.partitions(route::ACCEPTED)?;
    if logs.is_empty() || reader.partitions(route::AUDIT)?.is_empty() {
        return Err(AuditError::Unfit(format!(
            "the log has no topics `{}` and `{}`: there is nothing to audit",
            route::ACCEPTED,
            route::AUDIT
        )));
    }
    Ok(logs)
}

/// Audits what a reader sees; `before` is what [`committed`] gave at some time before.
///
/// # Errors
/// [`AuditError`]; what is wrong with the pipeline is no error, but told to the observer.
pub fn audit(
    reader: &mut dyn Reader,
    settings: &Settings,
    before: &Committed,
    observer: &mut dyn Observer,
    leaves: &mut dyn Leaves,
) -> Result<Report, AuditError> {
    let logs = logs(reader)?;
    let tracks = BTreeMap::new();
    let mut audit =
        Audit { reader, settings, observer, leaves, tracks, is_whole: false, report: Report::default() };
    audit.read_manifests()?;
    audit.check_offsets(before)?;
    if settings.objective.is_some() {
        let starts = logs.iter().map(|log| audit.start(log.number)).collect::<Result<Vec<_>, _>>()?;
        audit.cover_ingest(&starts);
        for (log, start) in logs.iter().zip(starts) {
            audit.merge(log.number, start)?;
        }
        audit.read_rejected()?;
        audit.count_verdicts()?;
        audit.compare();
    }
    Ok(audit.sum_up())
}

struct Audit<'a> {
    reader: &'a mut dyn Reader,
    settings: &'a Settings,
    observer: &'a mut dyn Observer,
    leaves: &'a mut dyn Leaves,
    tracks: BTreeMap<(Box<str>, Partition), Track>,
    /// Whether every manifest there ever was is looked at.
    is_whole: bool,
    report: Report,
}

/// Where something is wrong, and since when.
struct Place<'a> {
    stage: Option<&'a str>,
    partition: &'a Partition,
    range: (u64, u64),
    /// The log's time of what shows it.
    time: Micros,
}

impl Audit<'_> {
    fn find(&mut self, kind: Kind, place: &Place<'_>, why: impl Into<String>) {
        self.find_event(kind, place, None, why);
    }

    fn find_event(&mut self, kind: Kind, place: &Place<'_>, event: Option<Name>, why: impl Into<String>) {
        if self.settings.settled.is_some_and(|settled| place.time > settled) {
            self.report.unsettled += 1;
            return;
        }
        *self.report.findings.entry(kind).or_default() += 1;
        let (from, to) = place.range;
        let (stage, partition) = (place.stage.map(Into::into), place.partition.clone());
        self.observer.found(Finding { kind, stage, partition, from, to, event, why: why.into() });
    }

    fn find_damaged(&mut self, partition: &Partition, offset: u64, time: Micros, why: impl Into<String>) {
        let range = (offset, offset.saturating_add(1));
        self.find(Kind::Damaged, &Place { stage: None, partition, range, time }, why);
    }

    fn not_covered(&mut self, what: String) {
        self.report.not_covered.push(what);
    }

    fn track(&mut self, stage: &str, topic: &str, number: u32) -> Option<&mut Track> {
        self.tracks.get_mut(&(stage.into(), Partition::new(topic, number)))
    }

    /// The span of a stage's manifests about an input partition that tells of an offset.
    fn span(&mut self, stage: &str, (topic, number): (&str, u32), offset: u64) -> Option<&mut Span> {
        self.track(stage, topic, number)?.at(offset)
    }

    fn cursor(&mut self, partition: &Partition, from: u64) -> Result<Cursor, LogError> {
        let (_, end) = self.reader.range(partition)?;
        Ok(Cursor::new(partition.clone(), from, end))
    }

    /// Holds what was told against what was found.
    fn compare(&mut self) {
        let tracks = std::mem::take(&mut self.tracks);
        for ((stage, input), track) in &tracks {
            for difference in track.differences() {
                let range = (difference.from, difference.to);
                let place = Place { stage: Some(stage), partition: input, range, time: difference.time };
                self.find(Kind::Difference, &place, difference.why);
            }
        }
        self.tracks = tracks;
    }

    fn sum_up(mut self) -> Report {
        for ((stage, input), track) in &self.tracks {
            let hop = self.report.hops.entry((stage.clone(), input.topic.as_str().into())).or_default();
            let (told, (from, to)) = (track.told(), track.range().unwrap_or_default());
            hop.partitions += 1;
            hop.manifests += track.manifests;
            hop.offsets = hop.offsets.saturating_add(to - from);
            hop.taken += told.taken;
            hop.passed += told.passed;
            hop.rejected = hop.rejected.saturating_add(told.rejected);
            hop.duplicates = hop.duplicates.saturating_add(told.duplicates);
        }
        self.report
    }
}

fn undecodable(error: impl std::fmt::Display) -> String {
    format!("it does not decode: {error}")
}

#[cfg(test)]
mod tests;
