//! What is asked for at each scrape: of the workers, and of the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use killick_stages::stage::Gauge;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::health::Health;
use super::metrics::{
    ABORTS, BALANCE, BUILD, CPU, DAYS, INTERVALS, LAG_RECORDS, LAG_SECONDS, MEMORY, Named, OLDEST,
    PARTITIONS, REBUILDS, SPENT,
};
use super::station::{Station, now};
use crate::process;

/// More days than this are no figure to plan with.
const MANY_DAYS: u64 = 36_500;
/// The parts of a coin.
const PARTS: f64 = 1e12;

type Observe<'o> = dyn FnMut(f64, &[KeyValue]) + 'o;
/// Records, and seconds.
type LagOf = (f64, f64);
type ObserveLag<'o> = dyn FnMut(LagOf, &[KeyValue]) + 'o;

/// Has the workers that `health` knows looked at whenever the figures are wanted.
pub fn watch(meter: &Meter, health: &Arc<Health>) {
    gauge(meter, health, OLDEST, oldest);
    gauge(meter, health, LAG_RECORDS, |stations, observe| lags(stations, &mut |lag, of| observe(lag.0, of)));
    gauge(meter, health, LAG_SECONDS, |stations, observe| lags(stations, &mut |lag, of| observe(lag.1, of)));
    gauge(meter, health, PARTITIONS, |stations, observe| by_stage(stations, observe, Station::partitions));
    gauge(meter, health, INTERVALS, intervals);
    gauge(meter, health, SPENT, |stations, observe| purses(stations, observe, |purse| Some(purse.spent)));
    gauge(meter, health, BALANCE, |stations, observe| purses(stations, observe, |purse| purse.held));
    gauge(meter, health, DAYS, |stations, observe| purses(stations, observe, |purse| purse.days));
    counter(meter, health, ABORTS, |station| station.figures().map_or(0, |figures| read(&figures.aborts)));
    counter(meter, health, REBUILDS, |station| {
        station.figures().map_or(0, |figures| read(&figures.rebuilds))
    });
    let version = [KeyValue::new("version", env!("KILLICK_VERSION"))];
    let build = meter.u64_observable_gauge(BUILD.name).with_description(BUILD.says);
    build.with_callback(move |gauge| gauge.observe(1, &version)).build();
    let cpu = meter.f64_observable_counter(CPU.name).with_unit(CPU.unit).with_description(CPU.says);
    cpu.with_callback(|counter| counter.observe(process::cpu_time().as_secs_f64(), &[])).build();
    let memory = meter.u64_observable_gauge(MEMORY.name).with_unit(MEMORY.unit).with_description(MEMORY.says);
    memory
        .with_callback(|gauge| {
            if let Some(bytes) = process::resident_memory() {
                gauge.observe(bytes, &[]);
            }
        })
        .build();
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn gauge(
    meter: &Meter,
    health: &Arc<Health>,
    of: Named,
    look: impl Fn(&[Arc<Station>], &mut Observe<'_>) + Send + Sync + 'static,
) {
    let health = Arc::clone(health);
    let builder = meter.f64_observable_gauge(of.name).with_unit(of.unit).with_description(of.says);
    builder
        .with_callback(move |gauge| {
            look(&health.stations(), &mut |value, labels| gauge.observe(value, labels))
        })
        .build();
}

fn counter(
    meter: &Meter,
    health: &Arc<Health>,
    of: Named,
    count: impl Fn(&Station) -> u64 + Send + Sync + 'static,
) {
    let health = Arc::clone(health);
    let builder = meter.u64_observable_counter(of.name).with_unit(of.unit).with_description(of.says);
    let observe = move |counter: &dyn opentelemetry::metrics::AsyncInstrument<u64>| {
        let mut stages: BTreeMap<&'static str, u64> = BTreeMap::new();
        for station in health.stations() {
            *stages.entry(station.stage()).or_default() += count(&station);
        }
        stages.into_iter().for_each(|(stage, sum)| counter.observe(sum, &[KeyValue::new("stage", stage)]));
    };
    builder.with_callback(observe).build();
}

fn by_stage(stations: &[Arc<Station>], observe: &mut Observe<'_>, count: impl Fn(&Station) -> u64) {
    let mut stages: BTreeMap<&'static str, u64> = BTreeMap::new();
    for station in stations {
        *stages.entry(station.stage()).or_default() += count(station);
    }
    stages.into_iter().for_each(|(stage, sum)| observe(sum as f64, &[KeyValue::new("stage", stage)]));
}

/// The oldest events that wait: for a checkpoint, those that ingest, dedup and batch have not done with; for a proof, also
/// those whose batch is stored or on its way there.
fn oldest(stations: &[Arc<Station>], observe: &mut Observe<'_>) {
    let now = now();
    let mut ages = [("checkpoint", 0.0), ("proof", 0.0)];
    for station in stations {
        let age = station.oldest_event(now);
        let counts = if station.stage() == "prove" { 1.. } else { 0.. };
        for (_, oldest) in &mut ages[counts] {
            *oldest = age.max(*oldest);
        }
    }
    ages.into_iter().for_each(|(without, age)| observe(age, &[KeyValue::new("without", without)]));
}

/// The sum of records, and the largest age, of each stage and topic.
fn lags(stations: &[Arc<Station>], observe: &mut ObserveLag<'_>) {
    let now = now();
    let mut all: BTreeMap<(&'static str, String), LagOf> = BTreeMap::new();
    for station in stations {
        for (topic, records, age) in station.lags(now) {
            let lag = all.entry((station.stage(), topic)).or_default();
            *lag = (lag.0 + records as f64, lag.1.max(age));
        }
    }
    for ((stage, topic), lag) in all {
        observe(lag, &[KeyValue::new("stage", stage), KeyValue::new("topic", topic)]);
    }
}

fn of_chain(series: &str, chain: u32) -> [KeyValue; 2] {
    [KeyValue::new("series", series.to_owned()), KeyValue::new("chain", i64::from(chain))]
}

fn intervals(stations: &[Arc<Station>], observe: &mut Observe<'_>) {
    let mut all: BTreeMap<(Box<str>, u32), [u64; 4]> = BTreeMap::new();
    for gauge in stations.iter().flat_map(|station| station.gauges()) {
        if let Gauge::Intervals { series, chain, waiting, mined, deep, lost } = gauge {
            let sums = all.entry((series, chain)).or_default();
            [waiting, mined, deep, lost].iter().zip(sums).for_each(|(count, sum)| *sum += count);
        }
    }
    for ((series, chain), counts) in all {
        for (state, count) in ["waiting", "mined", "deep", "lost"].into_iter().zip(counts) {
            let [of_series, of_chain] = of_chain(&series, chain);
            observe(count as f64, &[of_series, of_chain, KeyValue::new("state", state)]);
        }
    }
}

/// What the accounts of one chain spend and hold.
struct Purse {
    spent: f64,
    held: Option<f64>,
    days: Option<f64>,
}

fn purses(stations: &[Arc<Station>], observe: &mut Observe<'_>, figure: impl Fn(&Purse) -> Option<f64>) {
    for gauge in stations.iter().flat_map(|station| station.gauges()) {
        let Gauge::Purse { series, chain, spent, held, days } = gauge else { continue };
        let purse = Purse {
            spent: spent as f64 / PARTS,
            held: held.map(|held| held as f64 / PARTS),
            days: days.map(|days| days.min(MANY_DAYS) as f64),
        };
        if let Some(value) = figure(&purse) {
            observe(value, &of_chain(&series, chain));
        }
    }
}
