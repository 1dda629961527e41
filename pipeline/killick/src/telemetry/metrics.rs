//! The metrics: their names, and where they are kept.
//!
//! A name is written once, in [`ALL`]: the document, `docs/metrics.md`, is held against it. What happens is counted as it is
//! committed, once a transaction and never once an event, but for events that are rejected; what is, is asked for at each scrape.
//! Attributes have few values: a stage, a topic, a chain, a series, a code, the class of a tenant; never a tenant or an event.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use killick_stages::audit::{Kind as Finding, Report};
use killick_stages::rejected::Code;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use super::health::Health;
use super::watching;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows, from 0 at the start of the process.
    Counter,
    /// Is as it is.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// Its name, as OpenTelemetry has it.
    pub name: &'static str,
    /// What it is.
    #[cfg_attr(not(test), expect(dead_code, reason = "the document is held against it"))]
    pub kind: Kind,
    /// Its unit, as UCUM has it.
    pub unit: &'static str,
    /// Its attributes.
    #[cfg_attr(not(test), expect(dead_code, reason = "the document is held against it"))]
    pub labels: &'static str,
    /// What it says.
    pub says: &'static str,
}

const fn named(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    labels: &'static str,
    says: &'static str,
) -> Named {
    Named { name, kind, unit, labels, says }
}

use Kind::{Counter as C, Gauge as G, Histogram as H};

/// See [`Named::says`].
pub const EVENTS: Named = named(
    "killick.events",
    C,
    "{event}",
    "outcome",
    "Events by what became of them: accepted (by ingest), duplicate (dedup), proven (prove: their receipts can be had); rejected ones are in killick_events_rejected_total",
);
/// See [`Named::says`].
pub const REJECTED: Named = named(
    "killick.events.rejected",
    C,
    "{event}",
    "code",
    "Events that were rejected, by the code in their header; conflict is dedup's, the others are ingest's",
);
/// See [`Named::says`].
pub const BATCHES: Named =
    named("killick.batches", C, "{batch}", "", "Batches that were cut, each with a signed checkpoint");
/// See [`Named::says`].
pub const ANCHORED: Named = named(
    "killick.checkpoints.anchored",
    C,
    "{checkpoint}",
    "",
    "Checkpoints of logs that were told to stand in a block deep enough",
);
/// See [`Named::says`].
pub const PROOFS: Named =
    named("killick.proofs", C, "{batch}", "", "Batches that were told of in proofs, corrections included");
/// See [`Named::says`].
pub const EVENT_TIME: Named = named(
    "killick.event.time",
    H,
    "s",
    "until, class",
    "From when the log took the oldest event of a batch until its checkpoint was signed (until=checkpoint), the creation time of the block of its anchor (anchored), and until its proof was told of (proof). One observation for each batch and class of tenants in it: all its events are at least as fast",
);
/// See [`Named::says`].
pub const OLDEST: Named = named(
    "killick.event.oldest_age",
    G,
    "s",
    "without",
    "Age of the oldest event that has no checkpoint or no proof yet, as far as this process knows: the largest over all processes holds. 0 where none waits",
);
/// See [`Named::says`].
pub const LAG_RECORDS: Named = named(
    "killick.consumer.lag_records",
    G,
    "{record}",
    "stage, topic",
    "Records of this worker's partitions that are not done; an open batch is one or more of them",
);
/// See [`Named::says`].
pub const LAG_SECONDS: Named = named(
    "killick.consumer.lag",
    G,
    "s",
    "stage, topic",
    "Age of the oldest of these records in the log; of one that was not read yet, at most",
);
/// See [`Named::says`].
pub const PARTITIONS: Named =
    named("killick.partitions", G, "{partition}", "stage", "Partitions that are this process's");
/// See [`Named::says`].
pub const READ: Named =
    named("killick.records.read", C, "{record}", "stage, topic", "Records that were read, ticks included");
/// See [`Named::says`].
pub const COMMITS: Named =
    named("killick.commits", C, "{transaction}", "stage", "Transactions that were committed");
/// See [`Named::says`].
pub const COMMIT_FAILURES: Named = named(
    "killick.commit.failures",
    C,
    "{transaction}",
    "stage",
    "Transactions that failed, and were tried again or left to another worker",
);
/// See [`Named::says`].
pub const COMMIT_TIME: Named = named("killick.commit.duration", H, "s", "stage", "How long a commit took");
/// See [`Named::says`].
pub const ABORTS: Named = named(
    "killick.kafka.aborts",
    C,
    "{transaction}",
    "stage",
    "Transactions that Kafka has not committed; 0 on the embedded side",
);
/// See [`Named::says`].
pub const REBUILDS: Named = named(
    "killick.kafka.rebuilds",
    C,
    "{producer}",
    "stage",
    "Producers that were thrown away for a doubt or an error; 0 on the embedded side",
);
/// See [`Named::says`].
pub const REBALANCES: Named = named(
    "killick.rebalances",
    C,
    "{partition}",
    "stage, change",
    "Partitions that came (assigned) and went (revoked)",
);
/// See [`Named::says`].
pub const ALARMS: Named =
    named("killick.alarms", C, "{alarm}", "stage", "What an operator has to look at, as the log says it");
/// See [`Named::says`].
pub const INTERVALS: Named = named(
    "killick.anchor.intervals",
    G,
    "{interval}",
    "series, chain, state",
    "Intervals that are looked after: waiting (in no block), mined, deep (told of), lost (told of, and its block is gone)",
);
/// See [`Named::says`].
pub const SPENT: Named = named(
    "killick.anchor.spent_coins",
    G,
    "",
    "series, chain",
    "What the commands of this day (UTC) may cost, in the chain's coin: each counts with all its gas",
);
/// See [`Named::says`].
pub const BALANCE: Named = named(
    "killick.anchor.balance_coins",
    G,
    "",
    "series, chain",
    "What the accounts that pay hold, in the chain's coin; there once it is known of each",
);
/// See [`Named::says`].
pub const DAYS: Named = named(
    "killick.anchor.balance_days",
    G,
    "",
    "series, chain",
    "For how many days the account that ends first lasts, at the spending of the last two; at most 36500",
);
/// See [`Named::says`].
pub const CATALOG_TIME: Named = named(
    "killick.catalog.call.duration",
    H,
    "s",
    "call, outcome",
    "How long a call of the catalog took: put_batch and put_anchor write; batch, log_hash, anchors_of and find look up what receipts are made of; log_size, origins and list say what there is. outcome: ok or failed",
);
/// See [`Named::says`].
pub const AUDIT_FINDINGS: Named = named(
    "killick.audit.findings",
    G,
    "{finding}",
    "kind",
    "What the last audit of killick audit --every found; all are 0 if nothing was lost and nothing done twice",
);
/// See [`Named::says`].
pub const AUDIT_TIME: Named = named(
    "killick.audit.time",
    G,
    "s",
    "",
    "When that audit began, in seconds since 1970; before the first that could read all that it has to, when its process did",
);
/// See [`Named::says`].
pub const AUDIT_FAILURES: Named =
    named("killick.audit.failures", C, "{audit}", "", "Audits that could not read all that they have to");
/// See [`Named::says`].
pub const BUILD: Named = named("killick.build_info", G, "", "version", "1, with the version of the program");
/// See [`Named::says`].
pub const CPU: Named = named("process.cpu", C, "s", "", "CPU time of the process");
/// See [`Named::says`].
pub const MEMORY: Named =
    named("process.resident_memory", G, "By", "", "Memory of the process that is in RAM");

/// Every metric, in the order in which they are explained.
#[cfg(test)]
const ALL: [Named; 29] = [
    EVENTS,
    REJECTED,
    BATCHES,
    ANCHORED,
    PROOFS,
    EVENT_TIME,
    OLDEST,
    LAG_RECORDS,
    LAG_SECONDS,
    PARTITIONS,
    READ,
    COMMITS,
    COMMIT_FAILURES,
    COMMIT_TIME,
    ABORTS,
    REBUILDS,
    REBALANCES,
    ALARMS,
    INTERVALS,
    SPENT,
    BALANCE,
    DAYS,
    CATALOG_TIME,
    AUDIT_FINDINGS,
    AUDIT_TIME,
    AUDIT_FAILURES,
    BUILD,
    CPU,
    MEMORY,
];

/// Upper bounds of the time of events, in seconds: from the target of a checkpoint to a day.
const EVENT_BOUNDS: [f64; 22] = [
    0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_200.0,
    1_800.0, 3_600.0, 10_800.0, 43_200.0, 86_400.0,
];
/// Upper bounds of the time of a commit, or of a call of the catalog, in seconds.
const CALL_BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// What is counted as it happens.
#[derive(Debug)]
pub struct Instruments {
    pub events: Counter<u64>,
    pub rejected: Counter<u64>,
    pub batches: Counter<u64>,
    pub anchored: Counter<u64>,
    pub proofs: Counter<u64>,
    pub event_time: Histogram<f64>,
    pub read: Counter<u64>,
    pub commits: Counter<u64>,
    pub commit_failures: Counter<u64>,
    pub commit_time: Histogram<f64>,
    pub catalog_time: Histogram<f64>,
    pub rebalances: Counter<u64>,
    pub alarms: Counter<u64>,
}

impl Instruments {
    fn new(meter: &Meter) -> Self {
        let counter =
            |of: Named| meter.u64_counter(of.name).with_unit(of.unit).with_description(of.says).build();
        let histogram = |of: Named, bounds: &[f64]| {
            let builder = meter.f64_histogram(of.name).with_unit(of.unit).with_description(of.says);
            builder.with_boundaries(bounds.to_vec()).build()
        };
        let all = Self {
            events: counter(EVENTS),
            rejected: counter(REJECTED),
            batches: counter(BATCHES),
            anchored: counter(ANCHORED),
            proofs: counter(PROOFS),
            event_time: histogram(EVENT_TIME, &EVENT_BOUNDS),
            read: counter(READ),
            commits: counter(COMMITS),
            commit_failures: counter(COMMIT_FAILURES),
            commit_time: histogram(COMMIT_TIME, &CALL_BOUNDS),
            catalog_time: histogram(CATALOG_TIME, &CALL_BOUNDS),
            rebalances: counter(REBALANCES),
            alarms: counter(ALARMS),
        };
        // A rate needs to have been 0.
        for outcome in ["accepted", "duplicate", "proven"] {
            all.events.add(0, &[KeyValue::new("outcome", outcome)]);
        }
        for code in Code::ALL {
            all.rejected.add(0, &[KeyValue::new("code", code.name())]);
        }
        for counter in [&all.batches, &all.anchored, &all.proofs] {
            counter.add(0, &[]);
        }
        all
    }
}

/// What came of audits, in a process that audits.
#[derive(Debug)]
pub struct Audits {
    findings: Gauge<u64>,
    time: Gauge<f64>,
    failures: Counter<u64>,
}

impl Audits {
    fn new(meter: &Meter) -> Self {
        let failures = meter.u64_counter(AUDIT_FAILURES.name).with_unit(AUDIT_FAILURES.unit);
        let findings = meter.u64_gauge(AUDIT_FINDINGS.name).with_unit(AUDIT_FINDINGS.unit);
        let time = meter.f64_gauge(AUDIT_TIME.name).with_unit(AUDIT_TIME.unit);
        let all = Self {
            findings: findings.with_description(AUDIT_FINDINGS.says).build(),
            time: time.with_description(AUDIT_TIME.says).build(),
            failures: failures.with_description(AUDIT_FAILURES.says).build(),
        };
        all.failures.add(0, &[]);
        all
    }

    /// The process began at a time since 1970: until an audit has read all, the promise is as old as this.
    pub fn begun(&self, at: Duration) {
        self.time.record(at.as_secs_f64(), &[]);
    }

    /// One that began at a time since 1970 found this.
    pub fn found(&self, begun: Duration, report: &Report) {
        for kind in Finding::ALL {
            let count = report.findings.get(&kind).copied().unwrap_or(0);
            self.findings.record(count, &[KeyValue::new("kind", kind.name())]);
        }
        self.time.record(begun.as_secs_f64(), &[]);
    }

    /// One could not read all.
    pub fn failed(&self) {
        self.failures.add(1, &[]);
    }
}

/// The metrics of this process.
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
    instruments: Arc<Instruments>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// The metrics of the workers that `health` knows, about this resource; `push` sends them, where that is wanted.
    ///
    /// # Errors
    /// They cannot be registered.
    pub fn new(
        health: &Arc<Health>,
        resource: Resource,
        push: Option<opentelemetry_otlp::MetricExporter>,
    ) -> Result<Self> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()?;
        let mut builder = SdkMeterProvider::builder().with_resource(resource).with_reader(exporter);
        if let Some(push) = push {
            builder = builder.with_periodic_exporter(push);
        }
        let provider = builder.build();
        let meter = provider.meter("killick");
        watching::watch(&meter, health);
        let instruments = Arc::new(Instruments::new(&meter));
        Ok(Self { registry, provider, instruments })
    }

    /// What is counted as it happens.
    pub fn instruments(&self) -> Arc<Instruments> {
        Arc::clone(&self.instruments)
    }

    /// What came of audits.
    pub fn audits(&self) -> Audits {
        Audits::new(&self.provider.meter("killick"))
    }

    /// All of them as text.
    ///
    /// # Errors
    /// A figure cannot be written.
    pub fn text(&self) -> Result<String> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    /// Sends the last of them, where they are sent.
    ///
    /// # Errors
    /// They did not arrive.
    pub fn end(&self) -> Result<()> {
        Ok(self.provider.shutdown()?)
    }
}

impl Default for Metrics {
    /// Metrics that nobody asks for: what is counted goes nowhere.
    fn default() -> Self {
        let provider = SdkMeterProvider::default();
        let instruments = Arc::new(Instruments::new(&provider.meter("killick")));
        Self { registry: Registry::new(), provider, instruments }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Named {
        /// Its name, as Prometheus has it.
        fn prometheus(&self) -> String {
            let unit = match self.unit {
                "s" => "_seconds",
                "By" => "_bytes",
                _ => "",
            };
            let total = if self.kind == C { "_total" } else { "" };
            format!("{}{unit}{total}", self.name.replace('.', "_"))
        }
    }

    #[test]
    fn the_document_says_what_there_is() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        let document = std::fs::read_to_string(path).unwrap();
        let told: Vec<_> = document.lines().filter(|line| line.starts_with("| `")).collect();
        let row = |of: &Named| {
            let kind = format!("{:?}", of.kind).to_lowercase();
            format!("| `{}` | {kind} | {} | {} |", of.prometheus(), of.labels, of.says)
        };
        let wanted: Vec<_> = ALL.iter().map(row).collect();
        assert_eq!(told, wanted, "the table should be:\n{}", wanted.join("\n"));
    }

    #[test]
    fn every_metric_has_a_name_of_its_own() {
        let mut names: Vec<_> = ALL.iter().map(Named::prometheus).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
