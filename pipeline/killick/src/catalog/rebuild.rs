//! `killick catalog rebuild`: the catalog as a function of the log.
//!
//! Each log is written by one thread: first its batches, in order, then the anchors that its proofs carry. At the end come the
//! later anchors of all logs. Every put can be repeated, so nothing has to be remembered between two calls but the catalog itself.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use killick_catalog::CqlCatalog;
use killick_embedded::{EmbeddedCatalog, EmbeddedLog, Folder, Settings};
use killick_kafka::KafkaReader;
use killick_proof::batch::BatchHeader;
use killick_stages::ports::{AnchorRecord, BatchRecord, Catalog, CatalogError, Reader};
use killick_stages::ready::ProofReady;
use killick_stages::record::{Partition, Record};
use killick_stages::route::{BATCHES, LENT, PROOFS};
use serde::Serialize;
use tracing::warn;

use crate::cli::Output;
use crate::config::{Config, ConfigArgs, needed};

/// Logs that are written at the same time.
const AT_ONCE: usize = 8;
/// Bytes that are read at a time.
const READ: usize = 4 << 20;
/// Tries of one put, with pauses that double from the first one to some seconds.
const TRIES: u32 = 10;
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

#[derive(Debug, Args)]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// The folder of the embedded side whose log is read; no other process may have it open.
    #[arg(long, value_name = "DIR", env = "KILLICK_EMBEDDED")]
    embedded: Option<PathBuf>,

    /// Write what the catalog has already as well: so that rows come back which the cluster has lost.
    #[arg(long)]
    all: bool,

    /// Text for people, or one JSON object at the end.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Where it is read from.
enum Source {
    Folder(EmbeddedLog),
    Kafka(Box<killick_kafka::Settings>),
}

impl Source {
    fn reader(&self) -> Result<Box<dyn Reader>> {
        Ok(match self {
            Self::Folder(log) => Box::new(log.clone()),
            Self::Kafka(settings) => Box::new(KafkaReader::open(settings, "killick-rebuild")?),
        })
    }
}

/// Where it is written to.
enum Target {
    Folder(EmbeddedCatalog),
    Cluster(Box<CqlCatalog>),
}

impl Target {
    fn catalog(&self) -> &dyn Catalog {
        match self {
            Self::Folder(catalog) => catalog,
            Self::Cluster(catalog) => catalog.as_ref(),
        }
    }

    fn put_batch(&self, batch: &BatchRecord, again: bool) -> Result<(), CatalogError> {
        match self {
            Self::Cluster(catalog) if again => catalog.put_batch_again(batch),
            _ => self.catalog().put_batch(batch),
        }
    }
}

/// What was done.
#[derive(Debug, Default)]
struct Tally {
    written: AtomicU64,
    kept: AtomicU64,
    events: AtomicU64,
    anchors: AtomicU64,
}

/// How it ended.
#[derive(Debug, Serialize)]
struct Summary {
    logs: usize,
    batches: u64,
    events: u64,
    anchors: u64,
    kept: u64,
    seconds: f64,
}

/// What all threads share.
struct Work {
    source: Source,
    target: Target,
    all: bool,
    waiting: Mutex<VecDeque<u32>>,
    is_over: AtomicBool,
    tally: Tally,
    bar: ProgressBar,
}

pub(super) fn run(args: &RebuildArgs) -> Result<ExitCode> {
    let begun = Instant::now();
    let config = Config::load(&args.config)?;
    let folder = args.embedded.as_deref().map(Folder::open_existing).transpose()?.map(Arc::new);
    let source = match &folder {
        Some(folder) => Source::Folder(EmbeddedLog::open(folder, &[], Settings::default())?),
        None => {
            let settings =
                needed(config.kafka.as_ref(), "kafka", "where is the log? (or give --embedded DIR)")?;
            Source::Kafka(Box::new(settings.clone()))
        }
    };
    let target = match (&config.catalog, &folder) {
        (Some(settings), _) => {
            let catalog = CqlCatalog::new(settings)?;
            catalog.open()?;
            Target::Cluster(Box::new(catalog))
        }
        (None, Some(folder)) => Target::Folder(EmbeddedCatalog::open(folder)?),
        (None, None) => {
            needed(None::<&()>, "catalog", "where is the catalog to be written?")?;
            bail!("there is no catalog to write");
        }
    };
    let (logs, records) = extent(source.reader()?.as_mut())?;
    let work = Work {
        source,
        target,
        all: args.all,
        waiting: Mutex::new(logs.iter().copied().collect()),
        is_over: AtomicBool::new(false),
        tally: Tally::default(),
        bar: bar(records),
    };
    let outcome = work.all_logs(logs.len()).and_then(|()| work.later_anchors());
    work.bar.finish_and_clear();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let summary = Summary {
        logs: logs.len(),
        batches: count(&work.tally.written),
        events: count(&work.tally.events),
        anchors: count(&work.tally.anchors),
        kept: count(&work.tally.kept),
        seconds: begun.elapsed().as_secs_f64(),
    };
    tell(&summary, args.output)?;
    outcome?;
    Ok(ExitCode::SUCCESS)
}

fn tell(summary: &Summary, output: Output) -> io::Result<()> {
    let Summary { logs, batches, events, anchors, kept, seconds } = summary;
    let mut out = io::stdout().lock();
    if output == Output::Json {
        return writeln!(out, "{}", serde_json::json!(summary));
    }
    writeln!(out, "{batches} batches of {logs} logs written, with {events} events, and {anchors} anchors")?;
    writeln!(out, "{kept} batches were there already; {seconds:.1} s")
}

/// The logs, and how many records they and their proofs have at the most.
fn extent(reader: &mut dyn Reader) -> Result<(Vec<u32>, u64)> {
    let mut records = 0;
    let logs = reader.partitions(BATCHES)?;
    if logs.is_empty() {
        bail!("the log has no topic {BATCHES}: is this the right one?");
    }
    for partition in logs.iter().chain(&reader.partitions(PROOFS)?).chain(&reader.partitions(LENT)?) {
        let (first, end) = reader.range(partition)?;
        records += end.saturating_sub(first);
    }
    Ok((logs.iter().map(|partition| partition.number).collect(), records))
}

fn bar(records: u64) -> ProgressBar {
    let bar = ProgressBar::new(records);
    if io::stderr().is_terminal() {
        let style = ProgressStyle::with_template("{bar:40} {pos} of {len} records, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    } else {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

impl Work {
    /// Writes all logs, some at a time. The first failure ends all.
    fn all_logs(&self, logs: usize) -> Result<()> {
        std::thread::scope(|scope| {
            let one = || {
                let outcome = self.some_logs();
                if outcome.is_err() {
                    self.is_over.store(true, Ordering::Relaxed);
                }
                outcome
            };
            let threads: Vec<_> = (0..logs.min(AT_ONCE)).map(|_| scope.spawn(one)).collect();
            let outcomes = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err(anyhow!("a thread of the rebuild panicked")))
            });
            // Each of them, so that none is left waiting.
            outcomes.collect::<Vec<_>>().into_iter().collect()
        })
    }

    fn some_logs(&self) -> Result<()> {
        let mut reader = self.source.reader()?;
        loop {
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(log) = next else { return Ok(()) };
            self.batches(reader.as_mut(), &Partition::new(BATCHES, log))?;
            self.anchors(reader.as_mut(), &Partition::new(PROOFS, log))?;
        }
    }

    fn batches(&self, reader: &mut dyn Reader, partition: &Partition) -> Result<()> {
        let mut known: Option<(String, u64)> = None;
        self.each(reader, partition, |record| {
            let batch = BatchRecord::decode(&record.value)?;
            let header = BatchHeader::decode(&batch.header)?;
            let (origin, number) = (header.origin.as_str(), header.number);
            let size = match &known {
                Some((of, size)) if of == origin => *size,
                _ => {
                    let size = self.patiently(|| self.target.catalog().log_size(origin))?;
                    known.insert((origin.to_owned(), size)).1
                }
            };
            if number < size && !self.all {
                self.tally.kept.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            self.patiently(|| self.target.put_batch(&batch, self.all))
                .with_context(|| format!("batch {number} of {origin}"))?;
            self.tally.written.fetch_add(1, Ordering::Relaxed);
            self.tally.events.fetch_add(batch.statements.len() as u64, Ordering::Relaxed);
            Ok(())
        })
    }

    fn anchors(&self, reader: &mut dyn Reader, partition: &Partition) -> Result<()> {
        // All batches that one anchor covers carry it.
        let mut last: Vec<AnchorRecord> = Vec::new();
        self.each(reader, partition, |record| {
            let anchors: Vec<_> = ProofReady::decode(&record.value)?.anchor_records().collect();
            for anchor in anchors.iter().filter(|anchor| !last.contains(anchor)) {
                self.put_anchor(anchor)?;
            }
            last = anchors;
            Ok(())
        })
    }

    fn later_anchors(&self) -> Result<()> {
        self.each(self.source.reader()?.as_mut(), &Partition::new(LENT, 0), |record| {
            self.put_anchor(&AnchorRecord::decode(&record.value)?)
        })
    }

    fn put_anchor(&self, anchor: &AnchorRecord) -> Result<()> {
        self.patiently(|| self.target.catalog().put_anchor(anchor))
            .with_context(|| format!("an anchor of {} at {}", anchor.origin, anchor.size))?;
        self.tally.anchors.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Does something with each record that a partition has now.
    fn each(
        &self,
        reader: &mut dyn Reader,
        partition: &Partition,
        mut act: impl FnMut(&Record) -> Result<()>,
    ) -> Result<()> {
        if !reader.partitions(partition.topic.as_str())?.contains(partition) {
            return Ok(()); // no proofs yet
        }
        let (mut next, end) = reader.range(partition)?;
        while next < end {
            let records = reader.read(partition, next, READ)?;
            let Some(last) = records.last() else { break };
            let behind = last.offset + 1;
            for record in records.iter().filter(|record| record.offset < end && !record.is_tick()) {
                if self.is_over.load(Ordering::Relaxed) {
                    return Ok(()); // another thread has failed and says why
                }
                act(record).with_context(|| format!("{partition} at offset {}", record.offset))?;
            }
            self.bar.inc(behind.min(end) - next);
            next = behind;
        }
        // Offsets that are no records' end a partition too.
        self.bar.inc(end.saturating_sub(next));
        Ok(())
    }

    /// Tries for a while what may fail for a while.
    fn patiently<T>(&self, mut act: impl FnMut() -> Result<T, CatalogError>) -> Result<T> {
        let mut pause = PAUSE.0;
        let mut tried = 1;
        loop {
            match act() {
                Err(CatalogError::Failed(error)) if tried < TRIES => {
                    warn!(%error, ?pause, "the catalog does not answer; trying again");
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(PAUSE.1);
                    tried += 1;
                }
                Err(CatalogError::Failed(error)) => {
                    return Err(
                        anyhow!(error).context("the catalog failed; call again to go on where this ends")
                    );
                }
                outcome => return Ok(outcome?),
            }
        }
    }
}
