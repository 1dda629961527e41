//! `killick demo`: the whole pipeline in one process, from real readings to receipts that are verified offline.

use std::collections::{BTreeMap, VecDeque};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use killick_proof::Algorithm;
use killick_proof::report;
use killick_proof::signature::SecretKey;
use killick_proof::trust::{DeviceKey, Trust};
use killick_proof::verify::Verifier;
use killick_stages::devices::Device;
use killick_stages::source::{Freshness, Source};
use killick_stages::span::Span;
use killick_stages::{anchor, deployment, ingest, prove};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::cli::{Outcome, Output};
use crate::config::Config;
use crate::counters::Counts;

use crate::feed::{self, Feed, Form};
use crate::input::machine::Machine;
use crate::input::{Event, Input, InputArgs, Item};
use crate::latency::{Latencies, Quantiles};
use crate::process;
use crate::receipts::{event_name, export_all};
use crate::secrets;
use crate::site::{Plan, Site};
use crate::watch::Watch;

/// The tenant of the demo's events.
const TENANT: &str = "demo";
/// Devices that an input may have: each has a key in the trust file.
const MOST_DEVICES: usize = 10_000;
/// How far behind its original a copy is sent.
const COPIES_BEHIND: usize = 300;
/// Readings if nothing says how many.
const READINGS: u64 = 300;

/// Shows the whole pipeline at work on this machine, and verifies every receipt from its file alone.
///
/// Takes real readings of this machine, or a file, as signed events of several devices; batches, logs and anchors them
/// on a development network in this process; leaves receipts/, payloads/ and trust.json in a folder. Imported history is
/// older than any rule of freshness, which is off for files: their receipts date from now.
///
/// Exit status: 0 if every accepted event has exactly one receipt and all verify to `trusted`.
///
/// Example: killick demo --input readings.csv --duplicates 5 --keep out
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct DemoArgs {
    /// A CSV or NDJSON file instead of readings of this machine.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,

    #[command(flatten)]
    parts: InputArgs,

    /// At most so many events. Default: 300 readings, or the whole file.
    #[arg(long, value_name = "N")]
    events: Option<u64>,

    /// So many of a hundred events are sent a second time.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    duplicates: u8,

    /// Readings a second.
    #[arg(long, value_name = "R", default_value_t = 100.0, value_parser = rate)]
    rate: f64,

    /// The folder to leave everything in; may be one of an earlier demo. Default: a new temporary folder, which stays.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,

    /// Milliseconds between two blocks of a chain of the development network.
    #[arg(long, value_name = "MS", default_value_t = 250, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    block_interval: u64,

    /// Text for people, or one JSON object at the end.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 && rate <= 1e6 => Ok(rate),
        _ => Err("a number above 0, at most 1000000".into()),
    }
}

/// What a demo did.
#[derive(Debug, Serialize)]
struct Summary {
    #[serde(flatten)]
    counts: Counts,
    /// Receipts in the folder, those of earlier runs too.
    receipts: u64,
    verified: u64,
    failed: u64,
    seconds: f64,
    /// Without the verification at the end.
    pipeline_seconds: f64,
    cpu_us_per_event: f64,
    receipt_bytes: u64,
    to_checkpoint_ms: Option<Milliseconds>,
    to_proof_ms: Option<Milliseconds>,
    folder: PathBuf,
}

#[derive(Debug, Serialize)]
struct Milliseconds {
    p50: f64,
    p95: f64,
    p99: f64,
}

impl From<Quantiles> for Milliseconds {
    fn from(times: Quantiles) -> Self {
        let [p50, p95, p99] = [times.p50, times.p95, times.p99].map(|time| time.as_secs_f64() * 1e3);
        Self { p50, p95, p99 }
    }
}

impl Summary {
    /// Whether every event has its one end, and every receipt is good.
    fn promise_holds(&self) -> bool {
        let Counts { events, proven, duplicates, conflicts, rejected, .. } = self.counts;
        let ended = proven + duplicates + conflicts + rejected;
        self.failed == 0 && self.verified == self.receipts && events == ended && self.receipts >= proven
    }
}

/// Runs the demo.
pub fn run(args: DemoArgs) -> Outcome {
    let summary = demo(&args)?;
    tell(&args, &summary)?;
    Ok(if summary.promise_holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn demo(args: &DemoArgs) -> Result<Summary> {
    let begun = Instant::now();
    let folder = folder(args)?;
    eprintln!("killick demo in {}", folder.display());
    let devices = Devices::of(args, &folder)?;
    let mut site = Site::open(&folder, plan(args, &devices))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let latencies = Arc::new(Latencies::default());
    let tap = Arc::clone(&latencies);
    site.start(runtime.handle(), Some(Arc::new(move |_: &str, parts: &_| tap.committed(parts))))?;
    process::drain_at_signals(runtime.handle(), site.stopping().clone())?;

    let watch = Watch::begin(args.output == Output::Json);
    let mut feeder = Feeder::new(args, &site, &folder, &devices, &latencies)?;
    let stop = site.stopping().clone();
    let feeding = std::thread::Builder::new().name("feed".into()).spawn(move || {
        let outcome = feeder.feed();
        if outcome.is_err() {
            stop.cancel();
        }
        outcome
    })?;
    watch.until(&site, || Ok(feeding.is_finished() && site.unfinished()?.is_none()))?;
    let was_stopped = site.stopping().is_cancelled();
    site.stop()?;
    feeding.join().map_err(|_| anyhow::anyhow!("the feed ended in a panic"))??;
    if was_stopped {
        bail!(
            "stopped before every event had its receipt; the same command with --keep {} goes on",
            folder.display()
        );
    }
    let pipeline_seconds = begun.elapsed().as_secs_f64();
    let cpu = process::cpu_time().as_secs_f64();

    let devices: Vec<DeviceKey> = devices.trusted().collect();
    let trust = site.write_trust(&devices)?;
    eprintln!("writing receipts to {}", folder.join("receipts").display());
    let exported = export_all(&site.catalog, &folder.join("receipts"), &mut |done| watch.note(done))?;
    let (verified, failed, receipt_bytes) = verify_all(&folder, &trust)?;
    write_duplicates(&site, &folder)?;
    let counts = site.counters().counts();
    let (to_checkpoint, to_proof) = latencies.quantiles();
    Ok(Summary {
        counts,
        receipts: exported.receipts,
        verified,
        failed: failed + exported.waiting + exported.doubled,
        seconds: begun.elapsed().as_secs_f64(),
        pipeline_seconds,
        cpu_us_per_event: cpu * 1e6 / counts.events.max(1) as f64,
        receipt_bytes: receipt_bytes.checked_div(exported.receipts).unwrap_or(0),
        to_checkpoint_ms: to_checkpoint.map(Into::into),
        to_proof_ms: to_proof.map(Into::into),
        folder,
    })
}

fn folder(args: &DemoArgs) -> Result<PathBuf> {
    let Some(folder) = &args.keep else {
        let name = format!("killick-demo-{:08x}", rand::random::<u32>());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).with_context(|| format!("{}", folder.display()))?;
        return Ok(folder);
    };
    std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    Ok(folder.clone())
}

fn plan(args: &DemoArgs, devices: &Devices) -> Plan {
    let mut source = Source::new(feed::TOPIC);
    if args.input.is_some() {
        source.freshness = Freshness::Off;
    }
    let poll = Span::millis((args.block_interval / 2).max(10));
    let config = deployment::Config {
        chains: (0..20).collect(),
        name: "demo.killick.local".into(),
        ..Default::default()
    };
    Plan {
        deployment: config,
        ingest: ingest::Config {
            sources: vec![source],
            devices: devices.enrolled().collect(),
            ..Default::default()
        },
        anchor: anchor::Config { interval: Span::millis(1_000), depth: 3, poll, ..Default::default() },
        prove: prove::Config { poll, ..prove::Config::default() },
        block_interval: Duration::from_millis(args.block_interval),
        retention: Duration::from_secs(48 * 3_600),
        ..Plan::of(&Config::default())
    }
}

/// The demo's devices: every source has a key of its own, made from one secret of the folder.
struct Devices(BTreeMap<String, SecretKey>);

impl Devices {
    fn of(args: &DemoArgs, folder: &Path) -> Result<Self> {
        let secret = secrets::seed(&folder.join("keys").join("devices.key"))?;
        let mut devices = BTreeMap::new();
        let mut enrol = |source: &str| {
            if !devices.contains_key(source) {
                let seed = Sha256::new()
                    .chain_update(b"killick/demo/device/v1\n")
                    .chain_update(secret.seed())
                    .chain_update(source)
                    .finalize();
                devices.insert(source.to_owned(), SecretKey::from_seed(&seed.into()));
            }
            if devices.len() > MOST_DEVICES {
                bail!("the input has more than {MOST_DEVICES} sources")
            } else {
                Ok(())
            }
        };
        match &args.input {
            None => Machine::here()?.sources().iter().try_for_each(|source| enrol(source))?,
            Some(path) if path == Path::new("-") => {
                bail!("the demo reads its input twice, so it has to be a file; for a pipe use `killick run`")
            }
            // Devices are enrolled before their events come, as in life: so the file is read once for its devices.
            Some(path) => {
                for item in Input::open(path, &args.parts)? {
                    if let Item::Event(event) = item? {
                        enrol(&event.source)?;
                    }
                }
            }
        }
        Ok(Self(devices))
    }

    fn enrolled(&self) -> impl Iterator<Item = Device> {
        self.0.iter().map(|(source, key)| Device {
            tenant: TENANT.into(),
            source: source.clone(),
            key: killick_proof::encoding::base64url(key.public().as_bytes()),
            from: None,
            until: None,
        })
    }

    fn trusted(&self) -> impl Iterator<Item = DeviceKey> {
        self.0.iter().map(|(source, key)| DeviceKey {
            tenant: TENANT.into(),
            source: source.clone(),
            key: key.public(),
            until: None,
        })
    }
}

/// Plays the devices.
struct Feeder {
    feed: Feed,
    form: Form,
    input: Option<(PathBuf, InputArgs)>,
    events: Option<u64>,
    rate: f64,
    duplicates: u64,
    payloads: PathBuf,
    keys: BTreeMap<String, SecretKey>,
    latencies: Arc<Latencies>,
    stop: tokio_util::sync::CancellationToken,
    /// Events that will be sent again.
    copies: VecDeque<Event>,
    sent: u64,
}

impl Feeder {
    fn new(
        args: &DemoArgs,
        site: &Site,
        folder: &Path,
        devices: &Devices,
        latencies: &Arc<Latencies>,
    ) -> Result<Self> {
        let payloads = folder.join("payloads");
        std::fs::create_dir_all(&payloads).with_context(|| format!("{}", payloads.display()))?;
        let stop = site.stopping().clone();
        let (log, counters) = (site.log.clone(), Arc::clone(site.counters()));
        let form = Form::new(feed::TOPIC, TENANT, site.deployment().logs());
        Ok(Self {
            feed: Feed::new(log, &form, counters, stop.clone()),
            form,
            input: args.input.clone().map(|path| (path, args.parts.clone())),
            events: args.events,
            rate: args.rate,
            duplicates: args.duplicates.into(),
            payloads,
            keys: devices
                .0
                .iter()
                .map(|(source, key)| (source.clone(), SecretKey::from_seed(key.seed())))
                .collect(),
            latencies: Arc::clone(latencies),
            stop,
            copies: VecDeque::new(),
            sent: 0,
        })
    }

    fn feed(&mut self) -> Result<()> {
        match self.input.take() {
            None => {
                let limit = Some(self.events.unwrap_or(READINGS));
                for event in Machine::here()?.paced(self.rate, limit, self.stop.clone()) {
                    self.event(event?)?;
                    self.feed.flush()?;
                }
            }
            Some((path, parts)) => {
                let mut input = Input::open(&path, &parts)?;
                let name = input.name().to_owned();
                while self.events.is_none_or(|limit| self.sent < limit) {
                    match input.next().transpose()? {
                        None => break,
                        Some(Item::Event(event)) => self.event(event)?,
                        Some(Item::CloudEvent { value, .. }) => {
                            self.feed.add(self.form.cloud_event(value))?
                        }
                        Some(Item::Bad(bad)) => self.feed.add(self.form.bad(&name, &bad))?,
                    }
                }
            }
        }
        for copy in std::mem::take(&mut self.copies) {
            self.send(&copy)?;
        }
        self.feed.flush().map(drop)
    }

    fn event(&mut self, event: Event) -> Result<()> {
        let payload = self.payloads.join(event_name(TENANT, &event.source, &event.id));
        std::fs::write(&payload, &event.payload).with_context(|| format!("{}", payload.display()))?;
        self.send(&event)?;
        self.latencies.begin(&event.source, &event.id);
        self.sent += 1;
        // Spread evenly: each hundred events has its share.
        if self.sent * self.duplicates / 100 > (self.sent - 1) * self.duplicates / 100 {
            self.copies.push_back(event);
        }
        if self.copies.len() > COPIES_BEHIND
            && let Some(copy) = self.copies.pop_front()
        {
            self.send(&copy)?;
        }
        Ok(())
    }

    fn send(&mut self, event: &Event) -> Result<()> {
        let key =
            self.keys.get(&event.source).context("a device turned up that had not been there at first")?;
        self.feed.add(self.form.event(event, Some(key))?)
    }
}

/// Verifies every receipt of the folder from its file alone, with the payload of the same name if there is one. Returns
/// how many are trusted, how many are not, and the bytes of all.
fn verify_all(folder: &Path, trust: &Path) -> Result<(u64, u64, u64)> {
    let trust = Trust::parse(&std::fs::read(trust)?)?;
    let mut verifier = Verifier::new(trust);
    let (mut verified, mut failed, mut bytes) = (0, 0, 0);
    for entry in std::fs::read_dir(folder.join("receipts"))? {
        let path = entry?.path();
        let receipt = std::fs::read(&path)?;
        bytes += receipt.len() as u64;
        let payload = folder.join("payloads").join(path.file_stem().unwrap_or_default());
        let payload = match std::fs::read(&payload) {
            Ok(payload) => Some(Algorithm::Sha256.digest(&payload)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("{}", payload.display())),
        };
        let report = verifier.verify(&receipt, payload.as_ref());
        let is_good = report.level == report::Level::Trusted && report.device == Some(report::Device::Valid);
        if is_good && report.fault.is_none() {
            verified += 1;
        } else {
            failed += 1;
            eprintln!("{}: {report:?}", path.display());
        }
    }
    Ok((verified, failed, bytes))
}

/// Names every copy that dedup found, one JSON object a line.
fn write_duplicates(site: &Site, folder: &Path) -> Result<()> {
    let path = folder.join("duplicates.ndjson");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
    crate::copies::each(&site.log, |copy| Ok(writeln!(file, "{copy}")?))?;
    file.flush().with_context(|| format!("{}", path.display()))
}

fn tell(args: &DemoArgs, summary: &Summary) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string(summary)?)?,
        Output::Text => tell_people(&mut out, summary)?,
    }
    Ok(())
}

fn tell_people(out: &mut impl Write, summary: &Summary) -> std::io::Result<()> {
    let Counts { events, duplicates, conflicts, rejected, proven, batches, anchors } = summary.counts;
    let bold = |text: &str| match std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        true => format!("\u{1b}[1m{text}\u{1b}[0m"),
        false => text.to_owned(),
    };
    writeln!(out)?;
    writeln!(
        out,
        "{}",
        bold(&format!("{} of {} receipts verify to trusted", summary.verified, summary.receipts))
    )?;
    writeln!(
        out,
        "events {events} = {proven} proven + {duplicates} duplicates + {conflicts} conflicts + {rejected} rejected"
    )?;
    writeln!(out, "batches {batches}, anchors {anchors}")?;
    let times = |name: &str, times: &Option<Milliseconds>| match times {
        Some(ms) => format!("{name} p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms", ms.p50, ms.p95, ms.p99),
        None => format!("{name}: no event"),
    };
    writeln!(out, "{}", times("event to checkpoint ", &summary.to_checkpoint_ms))?;
    writeln!(out, "{}", times("event to proof-ready", &summary.to_proof_ms))?;
    writeln!(
        out,
        "{:.1} s ({:.1} s of it the pipeline), {:.1} µs of CPU an event, {} bytes a receipt",
        summary.seconds, summary.pipeline_seconds, summary.cpu_us_per_event, summary.receipt_bytes
    )?;
    let folder = summary.folder.display();
    writeln!(out)?;
    writeln!(
        out,
        "A receipt says that its event existed no later than its block's time. It does not say that no other"
    )?;
    writeln!(
        out,
        "receipt exists, or that the payload is true. This block is of a development network in this process:"
    )?;
    writeln!(
        out,
        "it proves nothing about time to anyone else. Check them again, with nothing but the files:"
    )?;
    writeln!(
        out,
        "  killick verify {folder}/receipts --payload {folder}/payloads --trust {folder}/trust.json"
    )
}
