//! The whole embedded line: from an input to receipts that are there, in a folder of its own and in this process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use killick_proof::trust::DeviceKey;
use killick_stages::manifest::Manifest;
use killick_stages::record::Partition;
use killick_stages::route::{ANCHORS, AUDIT};
use killick_stages::span::Span;
use killick_stages::stage::Part;
use killick_stages::{anchor, prove};
use tokio::runtime::Runtime;

use super::events::{Maker, TENANT, TOPIC};
use super::floor::Floor;
use super::meter::{a_second, median, thread_cpu};
use super::table::{Figures, Goal};
use crate::config::Config;
use crate::feed::{Feed, Form};
use crate::latency::{Latencies, Quantiles};
use crate::process;
use crate::site::{Plan, Site};

/// Events of the rounds that are set beside the floor.
const ROUND: usize = 100_000;
/// Rounds, one of each side in turn.
const ROUNDS: usize = 3;
/// One in so many is followed from the input to its proof.
const FOLLOWED: usize = 97;
/// Events that are made at a time.
const MADE: usize = 4_096;
/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(2);

/// What one run took.
pub struct Run {
    /// Until the last event's checkpoint was signed and durable.
    pub to_checkpoint: Duration,
    /// CPU time of the process until every event had its proof, without that of making the events.
    pub cpu: Duration,
    /// The largest resident memory that was seen, in bytes.
    pub resident: u64,
    /// To the checkpoint, and to the proof.
    pub latencies: (Option<Quantiles>, Option<Quantiles>),
}

/// How many events have come how far.
#[derive(Default)]
struct Progress {
    batched: AtomicU64,
    proven: AtomicU64,
}

impl Progress {
    fn committed(&self, parts: &[(Partition, Part)]) {
        let outputs = parts.iter().flat_map(|(_, part)| &part.outputs);
        for output in outputs.filter(|output| output.partition.topic.as_str() == AUDIT) {
            let Ok(Manifest { stage, input, tally, .. }) = Manifest::decode(&output.value) else { continue };
            match &*stage {
                "batch" => self.batched.fetch_add(tally.passed.events, Ordering::Relaxed),
                "prove" if input.topic.as_str() == ANCHORS => {
                    self.proven.fetch_add(tally.passed.events, Ordering::Relaxed)
                }
                _ => 0,
            };
        }
    }
}

/// A site that takes events in.
pub struct Line<'m> {
    /// The site.
    pub site: Site,
    maker: &'m Maker,
    path: PathBuf,
    progress: Arc<Progress>,
    latencies: Arc<Latencies>,
    fed: usize,
    // Last: the stages use it until they are stopped.
    _runtime: Runtime,
}

impl<'m> Line<'m> {
    /// Opens a site in a new folder and starts it.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn open(path: &Path, maker: &'m Maker) -> Result<Self> {
        let mut config = Config::default();
        config.devnet.block_interval = Span::millis(250);
        let plan = Plan {
            ingest: maker.ingest(TOPIC),
            anchor: anchor::Config {
                interval: Span::secs(2),
                depth: 2,
                poll: Span::millis(100),
                ..anchor::Config::default()
            },
            prove: prove::Config { poll: Span::millis(100), ..prove::Config::default() },
            ..Plan::of(&config)
        };
        let mut site = Site::open(path, plan)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (progress, latencies) = (Arc::<Progress>::default(), Arc::<Latencies>::default());
        let (of_progress, of_latencies) = (Arc::clone(&progress), Arc::clone(&latencies));
        site.start(
            runtime.handle(),
            Some(Arc::new(move |_: &str, parts: &[(Partition, Part)]| {
                of_latencies.committed(parts);
                of_progress.committed(parts);
            })),
        )?;
        Ok(Self { site, maker, path: path.to_owned(), progress, latencies, fed: 0, _runtime: runtime })
    }

    /// Feeds `count` events, at most `rate` a second, and waits until all are proven.
    ///
    /// # Errors
    /// The line stops, or nothing happens for [`PATIENCE`].
    pub fn run(&mut self, count: usize, is_signed: bool, rate: Option<f64>) -> Result<Run> {
        let (site, first, end) = (&self.site, self.fed, self.fed + count);
        let (log, counters) = (site.log.clone(), Arc::clone(site.counters()));
        let form = Form::new(TOPIC, TENANT, site.deployment().logs());
        let mut feed = Feed::new(log, &form, counters, site.stopping().clone());
        let (begun, cpu) = (Instant::now(), process::cpu_time());
        let mut made = Duration::ZERO;
        let mut resident = 0;
        for start in (first..end).step_by(MADE) {
            // Made together: to ask for the time costs about as much as to make one.
            let making = thread_cpu();
            let events: Vec<_> =
                (start..end.min(start + MADE)).map(|number| self.maker.event(number)).collect();
            made += thread_cpu() - making;
            for (number, event) in (start..).zip(&events) {
                if let Some(rate) = rate {
                    let due = begun + Duration::from_secs_f64((number - first) as f64 / rate);
                    if due > Instant::now() {
                        feed.flush()?;
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    }
                }
                if number % FOLLOWED == 0 {
                    self.latencies.begin(&event.source, &event.id);
                }
                feed.add(form.event(event, is_signed.then(|| self.maker.key(number)))?)?;
            }
            resident = resident.max(process::resident_memory().unwrap_or_default());
        }
        feed.flush()?;
        self.fed = end;
        self.wait("checkpoint", &self.progress.batched)?;
        let to_checkpoint = begun.elapsed();
        self.wait("proof", &self.progress.proven)?;
        let cpu = (process::cpu_time() - cpu).saturating_sub(made);
        resident = resident.max(process::resident_memory().unwrap_or_default());
        Ok(Run { to_checkpoint, cpu, resident, latencies: self.latencies.quantiles() })
    }

    fn wait(&self, what: &str, count: &AtomicU64) -> Result<()> {
        let (mut known, mut since) = (0, Instant::now());
        loop {
            let now = count.load(Ordering::Relaxed);
            ensure!(now <= self.fed as u64, "{now} events have a {what}, of {}", self.fed);
            if now == self.fed as u64 {
                return Ok(());
            }
            if now > known {
                (known, since) = (now, Instant::now());
            }
            if self.site.stopping().is_cancelled() || since.elapsed() > PATIENCE {
                bail!("{now} of {} events have a {what}, and no more come", self.fed);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Stops it, and gives the catalog's site with its trust file: receipts can be derived.
    ///
    /// # Errors
    /// A stage had failed.
    pub fn stop(mut self, devices: &[DeviceKey]) -> Result<(Site, PathBuf)> {
        let trust = self.site.write_trust(devices)?;
        self.site.stop()?;
        Ok((self.site, trust))
    }

    /// Stops it and removes its folder.
    ///
    /// # Errors
    /// As for [`Line::stop`].
    pub fn end(self) -> Result<()> {
        let path = self.path.clone();
        drop(self.stop(&[])?);
        std::fs::remove_dir_all(&path).with_context(|| path.display().to_string())
    }
}

/// `e_embedded`, and how fast so many events are beside the first 100,000: `slope`.
///
/// # Errors
/// The line does not do what it should.
pub fn measure(maker: &Maker, folder: &Path, counts: &[usize], figures: &mut Figures) -> Result<()> {
    figures.says(&format!("line: {ROUNDS} rounds of {ROUND} unsigned events, then {counts:?}"));
    let mut ratios = Vec::new();
    let (mut rates, mut cpus, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let least = durable_floor(maker, &folder.join("floor"))?;
        let mut line = Line::open(&folder.join(format!("round-{round}")), maker)?;
        let run = line.run(ROUND, false, None)?;
        line.end()?;
        ratios.push(least.as_secs_f64() / run.cpu.as_secs_f64());
        rates.push(a_second(run.to_checkpoint, ROUND));
        cpus.push(run.cpu.as_secs_f64() * 1e6 / ROUND as f64);
        floors.push(least.as_secs_f64() * 1e6 / ROUND as f64);
    }
    figures.add("e_embedded", median(ratios), "", None);
    figures.add("floor.embedded.cpu", median(floors), "µs/event", None);
    figures.add("line.cpu", median(cpus), "µs/event", None);
    let base = median(rates);
    figures.add("line.rate", base, "events/s", None);
    for count in counts {
        figures.says(&format!("line: {count} unsigned events"));
        let mut line = Line::open(&folder.join(format!("line-{count}")), maker)?;
        let run = line.run(*count, false, None)?;
        line.end()?;
        let millions = count / 1_000_000;
        let rate = a_second(run.to_checkpoint, *count);
        let name = |of: &str| format!("line.{millions}m.{of}");
        let goal = Goal::Least(0.95);
        figures.add(&format!("slope_{millions}m"), rate / base, "", (*count >= 10_000_000).then_some(goal));
        figures.add(&name("rate"), rate, "events/s", None);
        figures.add(&name("cpu"), run.cpu.as_secs_f64() * 1e6 / *count as f64, "µs/event", None);
        figures.add(&name("resident"), run.resident as f64 / 1e6, "MB", None);
        tell(figures, "saturated", &run, Some(500.0));
    }
    Ok(())
}

/// CPU time of the floor that is durable, for [`ROUND`] events.
fn durable_floor(maker: &Maker, path: &Path) -> Result<Duration> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let mut floor = Floor::default();
    let mut took = Duration::ZERO;
    for first in (0..ROUND).step_by(10_000) {
        let events: Vec<_> = (first..first + 10_000).map(|number| maker.record(number, false)).collect();
        let begun = thread_cpu();
        floor.take_durably(&events, &mut file, &key)?;
        took += thread_cpu() - begun;
    }
    std::fs::remove_file(path)?;
    Ok(took)
}

/// How long events take at half and at nine tenths of the highest rate, held for so long.
///
/// # Errors
/// The line does not do what it should.
pub fn latency(maker: &Maker, folder: &Path, held: Duration, figures: &mut Figures) -> Result<()> {
    let highest = match figures.get("line.rate") {
        Some(rate) => rate,
        None => {
            let mut line = Line::open(&folder.join("highest"), maker)?;
            let run = line.run(ROUND, false, None)?;
            line.end()?;
            a_second(run.to_checkpoint, ROUND)
        }
    };
    for (name, share, goal) in [("half", 0.5, 250.0), ("ninety", 0.9, 500.0)] {
        let rate = highest * share;
        figures.says(&format!("latency: {rate:.0} events/s for {} s", held.as_secs()));
        let mut line = Line::open(&folder.join(name), maker)?;
        let run = line.run((rate * held.as_secs_f64()) as usize, false, Some(rate))?;
        line.end()?;
        figures.add(&format!("latency.{name}.rate"), rate, "events/s", None);
        tell(figures, name, &run, Some(goal));
    }
    Ok(())
}

fn tell(figures: &mut Figures, name: &str, run: &Run, most: Option<f64>) {
    for (until, quantiles) in [("checkpoint", run.latencies.0), ("proof", run.latencies.1)] {
        let Some(Quantiles { p50, p95, p99 }) = quantiles else { continue };
        for (quantile, time) in [("p50", p50), ("p95", p95), ("p99", p99)] {
            let goal = most.filter(|_| until == "checkpoint" && quantile == "p95").map(Goal::Most);
            figures.add(&format!("latency.{name}.{until}.{quantile}"), time.as_secs_f64() * 1e3, "ms", goal);
        }
    }
}
