//! The measurements: each stage alone with its input as a backlog, and all of them at once.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use killick_stages::route::{self, CHECKPOINTS};
use serde::Serialize;
use serde_json::Value;

use crate::events::Events;
use crate::eye::Eye;
use crate::meter::{LOAD, Meter, Used};
use crate::process::{self, Running};
use crate::site::{Deployment, INGEST_WORKERS, LOGS, Site};

/// How long workers may take to get their partitions.
const JOIN: Duration = Duration::from_secs(120);
/// Between two looks at their logs.
const LOOK: Duration = Duration::from_millis(5);

/// What a process of ours cost.
#[derive(Debug, Serialize)]
pub struct Worker {
    /// Its stages.
    pub stages: String,
    /// CPU time for each event, in microseconds.
    pub cpu_micros: f64,
    /// The most memory that it had, in bytes.
    pub peak_memory: u64,
    /// Its transactions.
    pub commits: u64,
    /// How long each took, in microseconds.
    pub mean_commit_micros: f64,
}

/// What others used meanwhile, for each event in microseconds, where their processes are known.
#[derive(Debug, Serialize)]
pub struct Beside {
    /// The brokers.
    pub broker_cpu_micros: Option<f64>,
    /// The catalog.
    pub catalog_cpu_micros: Option<f64>,
    /// The node of the chain.
    pub chain_cpu_micros: Option<f64>,
    /// What went elsewhere of the machine's CPU time: 0 to 1. The more, the less these figures say.
    pub elsewhere: f64,
}

/// One stage alone.
#[derive(Debug, Serialize)]
pub struct Hop {
    /// From when its workers had their partitions, and these their records, to when the end of its input was committed.
    pub seconds: f64,
    /// None for anchor, which waits for blocks.
    pub events_per_second: Option<f64>,
    /// Its process.
    #[serde(flatten)]
    pub worker: Worker,
    /// The others.
    #[serde(flatten)]
    pub beside: Beside,
}

/// All stages at once, while the events come in as fast as they can.
#[derive(Debug, Serialize)]
pub struct Line {
    /// From the first event sent to the last one durable.
    pub produced_seconds: f64,
    /// CPU time for each event of who sent them, in microseconds.
    pub sender_cpu_micros: f64,
    /// Up to the last event in a signed checkpoint.
    pub checkpoint: Until,
    /// Up to the last event proven: with the time that the chain and the catalog take.
    pub proof: Until,
    /// The processes; the CPU time of each is up to when its stages were through.
    pub workers: Vec<Worker>,
}

/// The line up to a moment.
#[derive(Debug, Serialize)]
pub struct Until {
    /// Since the first event was sent.
    pub seconds: f64,
    /// All events in that time.
    pub events_per_second: f64,
    /// CPU time of all stages for each event, in microseconds.
    pub cpu_micros: f64,
    /// The others.
    #[serde(flatten)]
    pub beside: Beside,
}

/// Lets one stage after the other work off what there is for it, each in a process of its own.
///
/// # Errors
/// A server or a process fails; or not every event is proven once.
pub fn hops(site: &Site, events: &Events, tell: &dyn Fn(String)) -> Result<Vec<Hop>> {
    let deployment = Deployment::make(site, "hops", events)?;
    let mut eye = Eye::open(&deployment.settings)?;
    let mut hops = Vec::new();
    for hop in &route::ROUTE {
        let measured = alone(site, &deployment, &mut eye, hop, events);
        let measured = measured.with_context(|| format!("{} alone", hop.stage))?;
        tell(format!(
            "{}: {:.1} s, {:.2} µs an event",
            hop.stage, measured.seconds, measured.worker.cpu_micros
        ));
        hops.push(measured);
    }
    eye.expect_all_proven(events.count())?;
    deployment.remove()?;
    Ok(hops)
}

fn alone(
    site: &Site,
    deployment: &Deployment<'_>,
    eye: &mut Eye,
    hop: &route::Hop,
    events: &Events,
) -> Result<Hop> {
    let (input, is_first) = ([deployment.input.as_str()], hop.stage == "ingest");
    let inputs = if is_first { &input } else { hop.reads };
    let mut ends = eye.ends(inputs)?;
    let mut workers = vec![deployment.start(hop.stage, Some(hop.stage))?];
    if is_first {
        // The first of its workers would begin with all partitions, and share them much later: so they wait, paused, for
        // their input.
        await_partitions(&mut workers, INGEST_WORKERS)?;
        workers[0].pause()?;
        events.send(&deployment.settings, &deployment.input, LOGS)?;
        ends = eye.ends(inputs)?;
    } else {
        await_partitions(&mut workers, 1)?;
    }
    let (meter, count) = (meter(site, deployment, [(hop.stage, &workers[0])]), events.count());
    let begun = meter.read()?;
    workers[0].resume()?;
    match inputs {
        // Its input is done when it is written down; the work, when it is anchored.
        [CHECKPOINTS] => eye.wait_for_anchors(&mut workers)?,
        _ => eye.wait_for(hop.stage, &ends, &mut workers)?,
    }
    let used = meter.since(&begun)?;
    let (seconds, beside) = (used.time.as_secs_f64(), beside(&used, count));
    let worker = end(hop.stage, workers.remove(0), &used, count)?;
    let rate = count as f64 / seconds;
    Ok(Hop { seconds, events_per_second: (inputs != [CHECKPOINTS]).then_some(rate), worker, beside })
}

/// Sends the events to stages that wait for them: one process for each name, or one for all.
///
/// # Errors
/// As for [`hops`].
pub fn line(site: &Site, events: &Events, is_one_process: bool, tell: &dyn Fn(String)) -> Result<Line> {
    let name = if is_one_process { "one" } else { "line" };
    let deployment = Deployment::make(site, name, events)?;
    let mut eye = Eye::open(&deployment.settings)?;
    let stages: Vec<_> = route::ROUTE.iter().map(|hop| hop.stage).collect();
    let names = if is_one_process { vec!["all"] } else { stages.clone() };
    let start = |name: &&str| deployment.start(name, Some(*name).filter(|_| !is_one_process));
    let mut workers = names.iter().map(start).collect::<Result<Vec<_>>>()?;
    await_partitions(&mut workers, stages.len() - 1 + INGEST_WORKERS)?;
    let meter = meter(site, &deployment, names.iter().copied().zip(&workers));
    let begun = meter.read()?;
    let produced = events.send(&deployment.settings, &deployment.input, LOGS)?;
    let sending = meter.since(&begun)?;
    tell(format!("{} events sent in {produced:.1?}", events.count()));
    let mut used = BTreeMap::new();
    for hop in &route::ROUTE {
        if hop.reads == [CHECKPOINTS] {
            eye.wait_for_anchors(&mut workers)?;
        } else {
            let inputs = if hop.stage == "ingest" { &[deployment.input.as_str()][..] } else { hop.reads };
            let ends = eye.ends(inputs)?;
            eye.wait_for(hop.stage, &ends, &mut workers)?;
        }
        let now = meter.since(&begun)?;
        tell(format!("{} is through after {:.1?}", hop.stage, now.time));
        used.insert(hop.stage, now);
    }
    let (Some(batched), Some(proven)) = (used.get("batch"), used.get("prove")) else {
        bail!("the route is another")
    };
    let count = events.count();
    let of = |name: &str| if is_one_process { proven } else { used.get(name).unwrap_or(proven) };
    let ended = names.iter().zip(workers).map(|(name, worker)| end(name, worker, of(name), count));
    let workers = ended.collect::<Result<Vec<_>>>()?;
    eye.expect_all_proven(count)?;
    deployment.remove()?;
    let until = |used: &Used| Until {
        seconds: used.time.as_secs_f64(),
        events_per_second: count as f64 / used.time.as_secs_f64(),
        cpu_micros: names.iter().filter_map(|name| used.micros_each(name, count)).sum(),
        beside: beside(used, count),
    };
    Ok(Line {
        produced_seconds: produced.as_secs_f64(),
        sender_cpu_micros: sending.micros_each(LOAD, count).unwrap_or(0.0),
        checkpoint: until(batched),
        proof: until(proven),
        workers,
    })
}

/// Reads the servers, the chain and these workers.
pub fn meter<'n>(
    site: &Site,
    deployment: &Deployment<'_>,
    workers: impl IntoIterator<Item = (&'n str, &'n Running)>,
) -> Meter {
    let servers = [("broker", site.broker), ("catalog", site.catalog), ("chain", deployment.chain())];
    Meter::new(servers.into_iter().chain(workers.into_iter().map(|(name, worker)| (name, Some(worker.id())))))
}

/// What the others used, for each of so many events.
pub fn beside(used: &Used, count: usize) -> Beside {
    Beside {
        broker_cpu_micros: used.micros_each("broker", count),
        catalog_cpu_micros: used.micros_each("catalog", count),
        chain_cpu_micros: used.micros_each("chain", count),
        elsewhere: used.elsewhere,
    }
}

/// Waits until so many workers have partitions.
pub fn await_partitions(processes: &mut [Running], wanted: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        let mut members = 0;
        for process in &mut *processes {
            process.expect_alive()?;
            let log = process.log()?;
            let assigned =
                lines(&log).filter(|line| line["message"] == "assigned" && line["partitions"] != 0);
            let names: std::collections::BTreeSet<_> =
                assigned.map(|line| line["member"].to_string()).collect();
            members += names.len();
        }
        if members >= wanted {
            return Ok(());
        }
        ensure!(begun.elapsed() < JOIN, "{members} of {wanted} workers have partitions after {JOIN:?}");
        sleep(LOOK);
    }
}

/// Ends a process, and takes what it says of its work.
pub fn end(stages: &str, worker: Running, used: &Used, count: usize) -> Result<Worker> {
    let peak_memory = process::peak_memory(worker.id())?;
    let log = worker.log_file();
    worker.stop()?;
    let (commits, mean_commit_micros) = commits(&std::fs::read_to_string(log)?)?;
    let cpu_micros = used.micros_each(stages, count).context("it was not read")?;
    Ok(Worker { stages: stages.to_owned(), cpu_micros, peak_memory, commits, mean_commit_micros })
}

/// How many commits the workers of a process had in the end, and how long each took, in microseconds.
fn commits(log: &str) -> Result<(u64, f64)> {
    let mut last = BTreeMap::new();
    for line in lines(log).filter(|line| line["message"] == "at work") {
        let commits = line["commits"].as_u64().context("a worker says no number of commits")?;
        let mean =
            line["mean_commit"].as_str().and_then(micros).context("a worker says no time of commits")?;
        last.insert(line["worker"].to_string(), (commits, mean));
    }
    let all: u64 = last.values().map(|(commits, _)| commits).sum();
    let time: f64 = last.values().map(|(commits, mean)| *commits as f64 * mean).sum();
    Ok((all, time / all.max(1) as f64))
}

/// The lines of a log that are JSON.
fn lines(log: &str) -> impl Iterator<Item = Value> {
    log.lines().filter_map(|line| serde_json::from_str(line).ok())
}

/// A time as Rust's `Duration` is shown.
fn micros(text: &str) -> Option<f64> {
    let units = [("ns", 1e-3), ("µs", 1.0), ("ms", 1e3), ("s", 1e6)];
    units.into_iter().find_map(|(unit, micros)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_each_worker_counts() {
        let log = r#"no JSON
            {"message":"at work","worker":"ingest-0.0","commits":3,"mean_commit":"1ms"}
            {"message":"at work","worker":"ingest-0.0","commits":10,"mean_commit":"2.5ms"}
            {"message":"at work","worker":"ingest-0.1","commits":30,"mean_commit":"500µs"}"#;
        assert_eq!(commits(log).unwrap(), (40, 1_000.0));
        assert_eq!(commits("").unwrap(), (0, 0.0));
        assert!(commits(r#"{"message":"at work","worker":"x","commits":1,"mean_commit":"soon"}"#).is_err());
    }

    #[test]
    fn times_are_read_as_they_are_shown() {
        for time in [Duration::from_nanos(7), Duration::from_micros(12_345), Duration::from_millis(2_500)] {
            assert_eq!(micros(&format!("{time:?}")), Some(time.as_nanos() as f64 / 1e3));
        }
        assert_eq!(micros("1h"), None);
    }
}
