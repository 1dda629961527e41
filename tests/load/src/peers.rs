//! Others beside us on the same brokers: the first three stages as a Kafka Streams program, and the brokers' own tools.

use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::baseline::{Baseline, Tools};
use crate::events::Events;
use crate::eye::Eye;
use crate::meter::{Meter, Used};
use crate::process::{self, Running};
use crate::runs::{self, Beside, Worker};
use crate::site::{Deployment, INGEST_WORKERS, LOGS, Site};

/// The stages that the program does the work of.
const STAGES: [&str; 3] = ["ingest", "dedup", "batch"];
/// Threads of the program.
const THREADS: &str = "2";
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(900);
/// Between two looks at what it says.
const LOOK: Duration = Duration::from_millis(5);

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Events of each measurement.
    pub events: usize,
    /// Mean bytes of an input record.
    pub record_bytes: usize,
    /// Cores that may be used.
    pub cores: usize,
    /// The machine's load, averaged over a minute, before the first measurement.
    pub load_before: f64,
    /// One after the other.
    pub rounds: Vec<Round>,
}

/// Each measured once.
#[derive(Debug, Serialize)]
pub struct Round {
    /// Our three stages.
    pub ours: Option<Ours>,
    /// The program.
    pub streams: Option<Program>,
    /// The program without a topic between decode and dedup, as for an input that is partitioned by the events' names.
    pub streams_keyed: Option<Program>,
    /// The tools.
    pub tools: Option<Baseline>,
}

/// Our three stages in one process.
#[derive(Debug, Serialize)]
pub struct Ours {
    /// From when the process has its records until all of them are in signed checkpoints.
    pub seconds: f64,
    /// All events in that time.
    pub events_per_second: f64,
    /// The process.
    #[serde(flatten)]
    pub worker: Worker,
    /// The others.
    #[serde(flatten)]
    pub beside: Beside,
}

/// The Kafka Streams program.
#[derive(Debug, Serialize)]
pub struct Program {
    /// From when its threads have their partitions until all is committed.
    pub seconds: f64,
    /// All events in that time.
    pub events_per_second: f64,
    /// CPU time for each event in that time, in microseconds.
    pub cpu_micros: f64,
    /// The same of the second half of the events, when most of its code is compiled.
    pub warm_cpu_micros: f64,
    /// CPU time before, in seconds.
    pub start_cpu_seconds: f64,
    /// The most memory that it had, in bytes.
    pub peak_memory: u64,
    /// Its batches.
    pub batches: u64,
    /// The others.
    #[serde(flatten)]
    pub beside: Beside,
}

/// Where the program is.
pub struct Streams {
    /// Java.
    pub java: PathBuf,
    /// The folder of its jars.
    pub jars: PathBuf,
}

/// Measures all of them so many times, one after the other.
///
/// # Errors
/// A server or a process fails; or not every event came through once.
pub fn rounds(
    site: &Site,
    events: &Events,
    streams: Option<&Streams>,
    tools: Option<&Tools<'_>>,
    rounds: u32,
    tell: &dyn Fn(String),
) -> Result<Vec<Round>> {
    let (count, bytes) = (events.count(), events.record_bytes());
    if let Some(tools) = tools {
        // The first run is for the brokers' compiler.
        tools.run(count, bytes)?;
    }
    let mut measured = Vec::new();
    for number in 1..=rounds {
        let mut round = Round { ours: None, streams: None, streams_keyed: None, tools: None };
        if let Some(streams) = streams {
            let name = format!("peers{number}");
            let deployment = Deployment::make_log(site, &name, events)?;
            let ours = ours(site, &deployment, events).context("our stages")?;
            tell(format!("round {number}: ours {:.2} µs an event", ours.worker.cpu_micros));
            let program = streams.run(site, &deployment, false, count).context("Kafka Streams")?;
            tell(format!("round {number}: Kafka Streams {:.2} µs, warm", program.warm_cpu_micros));
            let keyed = streams.run(site, &deployment, true, count).context("Kafka Streams, keyed")?;
            tell(format!("round {number}: the same on a keyed input {:.2} µs", keyed.warm_cpu_micros));
            deployment.remove()?;
            (round.ours, round.streams, round.streams_keyed) = (Some(ours), Some(program), Some(keyed));
        }
        if let Some(tools) = tools {
            round.tools = Some(tools.run(count, bytes)?);
            tell(format!("round {number}: the tools"));
        }
        measured.push(round);
    }
    Ok(measured)
}

/// Lets our stages work off the events, and leaves these in the input.
fn ours(site: &Site, deployment: &Deployment<'_>, events: &Events) -> Result<Ours> {
    let (name, count) = (STAGES.join(","), events.count());
    let mut eye = Eye::open(&deployment.settings)?;
    let mut workers = vec![deployment.start("ours", Some(&name))?];
    // Those who join when there is work begin with an unequal share: so they wait, paused, for their input.
    runs::await_partitions(&mut workers, INGEST_WORKERS + STAGES.len() - 1)?;
    workers[0].pause()?;
    events.send(&deployment.settings, &deployment.input, LOGS)?;
    let meter = runs::meter(site, deployment, [("ours", &workers[0])]);
    let begun = meter.read()?;
    workers[0].resume()?;
    for (stage, topic) in STAGES.into_iter().zip([&deployment.input, "accepted", "unique"]) {
        let ends = eye.ends(&[topic])?;
        eye.wait_for(stage, &ends, &mut workers)?;
    }
    let used = meter.since(&begun)?;
    let worker = runs::end("ours", workers.remove(0), &used, count)?;
    eye.expect_all_batched(count)?;
    let seconds = used.time.as_secs_f64();
    let beside = runs::beside(&used, count);
    Ok(Ours { seconds, events_per_second: count as f64 / seconds, worker, beside })
}

impl Streams {
    /// Lets the program work off what is in the input, on topics and with state of its own, which it leaves none of.
    fn run(&self, site: &Site, deployment: &Deployment<'_>, is_keyed: bool, count: usize) -> Result<Program> {
        let name = if is_keyed { "streams-keyed" } else { "streams" };
        let id = format!("{}{name}", deployment.settings.prefix);
        let (output, state) = (format!("{id}.out"), deployment.folder.join(format!("{name}.state")));
        site.make_topic(&output)?;
        let mut command = Command::new(&self.java);
        let path = std::env::join_paths([self.jars.join("*"), self.jars.join("lib").join("*")])?;
        command.args(["-Xmx1g", "-XX:+UseSerialGC", "-cp"]).arg(path).arg("killick.peers.Streams");
        command.args(["--brokers", &site.brokers, "--input", &deployment.input, "--output", &output]);
        command.args(["--id", &id, "--threads", THREADS, "--state"]).arg(&state);
        command.args(is_keyed.then_some("--keyed"));
        let mut running = Running::start(&mut command, &deployment.folder, name)?;
        let meter = Meter::new([("broker", site.broker), (name, Some(running.id()))]);
        await_word(&mut running, "ready")?;
        let (ready, start) = (meter.read()?, process::cpu(running.id())?);
        await_word(&mut running, "half")?;
        let half = meter.read()?;
        let said = await_word(&mut running, "done")?;
        let (used, warm) = (meter.since(&ready)?, meter.since(&half)?);
        let peak_memory = process::peak_memory(running.id())?;
        running.finish(PATIENCE)?;
        let inner = ["accepted-repartition", "seen-changelog", "open-changelog"];
        let mut topics: Vec<_> = inner.iter().map(|topic| format!("{id}-{topic}")).collect();
        topics.push(output);
        site.remove_topics(&topics)?;
        std::fs::remove_dir_all(&state).with_context(|| state.display().to_string())?;
        let counts: Value = serde_json::from_str(&said).with_context(|| format!("it said {said:?}"))?;
        ensure!(
            counts["unique"] == count && counts["duplicates"] == 0,
            "{count} events were sent, it counted {said}"
        );
        let micros = |used: &Used, count| used.micros_each(name, count).context("it was not read");
        Ok(Program {
            seconds: used.time.as_secs_f64(),
            events_per_second: count as f64 / used.time.as_secs_f64(),
            cpu_micros: micros(&used, count)?,
            warm_cpu_micros: micros(&warm, count - count / 2)?,
            start_cpu_seconds: start.as_secs_f64(),
            peak_memory,
            batches: counts["batches"].as_u64().context("it counts no batches")?,
            beside: runs::beside(&used, count),
        })
    }
}

/// Waits until a program says a word at the beginning of a line; returns what follows.
fn await_word(running: &mut Running, word: &str) -> Result<String> {
    let begun = Instant::now();
    loop {
        let said = running.output()?;
        let rest = said.lines().find_map(|line| line.strip_prefix(word));
        if let Some(rest) = rest.filter(|_| said.ends_with('\n')) {
            return Ok(rest.trim().to_owned());
        }
        running.expect_alive()?;
        ensure!(begun.elapsed() < PATIENCE, "it has not said {word} after {PATIENCE:?}");
        sleep(LOOK);
    }
}
