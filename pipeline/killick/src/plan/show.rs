//! A plan as people read it, and as values for the Helm chart.

use std::io::{self, Write};

use super::model::{Plan, Stage};

/// The plan as text.
pub fn text(out: &mut impl Write, plan: &Plan) -> io::Result<()> {
    let Plan { load, logs, input_partitions, .. } = plan;
    let signed = if load.signed { "signed" } else { "unsigned" };
    let (rate, bytes) = (count(load.events_per_second as f64), count(load.event_bytes as f64));
    writeln!(out, "{rate} {signed} events a second of {bytes} bytes; figures of {}", plan.measured)?;
    writeln!(out)?;
    writeln!(out, "partitions   {logs} logs, {input_partitions} of the input")?;
    writeln!(
        out,
        "batches      {} a second, of {} events ([batch] width {})",
        count(plan.batches_per_second),
        count(plan.batch_events),
        load.window
    )?;
    writeln!(out)?;
    writeln!(out, "stage     processes   cores busy   memory each")?;
    for Stage { stage, replicas, cores, memory_megabytes } in &plan.stages {
        writeln!(out, "{stage:<10}{replicas:>9}{:>13}{:>14}", decimal(*cores), size(memory_megabytes * 1e6))?;
    }
    writeln!(out)?;
    let kafka = &plan.kafka;
    writeln!(out, "log          {} a second before replication", size(kafka.bytes_per_second))?;
    writeln!(
        out,
        "             {} on disk with three replicas, and {} more each year for what is kept for ever",
        size(kafka.bytes_kept),
        size(kafka.bytes_per_year)
    )?;
    let kept = load
        .retention
        .span()
        .map_or("for each year".to_owned(), |_| format!("for {}", load.retention.name()));
    let catalog = &plan.catalog;
    writeln!(
        out,
        "catalog      {} {kept} with three replicas; {} cores busy",
        size(catalog.bytes),
        decimal(catalog.cores)
    )?;
    writeln!(out, "receipts     {} each, when the logs are a year old", size(plan.receipt_bytes))?;
    writeln!(
        out,
        "anchors      {} a day on {} chains, one each {}: {} coins a day",
        count(plan.anchors_per_day),
        load.chains,
        load.interval,
        coins(plan.coins_per_day)
    )?;
    let (checkpoint, proof) = plan.times_measured;
    writeln!(
        out,
        "measured     {} times this rate to the checkpoint, {} times to the proof, in one piece on that machine",
        decimal(1.0 / checkpoint),
        decimal(1.0 / proof)
    )?;
    writeln!(out)?;
    writeln!(out, "left out:")?;
    plan.leaves_out.iter().try_for_each(|what| writeln!(out, "- {what}"))
}

/// The plan as values for the Helm chart: what follows from the load, and nothing else.
pub fn helm(out: &mut impl Write, plan: &Plan) -> io::Result<()> {
    let load = &plan.load;
    let chains: Vec<_> = (0..load.chains).map(|chain| chain.to_string()).collect();
    writeln!(
        out,
        "# killick plan: {} events a second of {} bytes.",
        load.events_per_second, load.event_bytes
    )?;
    writeln!(out, "# Figures of {}.", plan.measured)?;
    writeln!(
        out,
        "# The number of logs is fixed for the life of a generation; which chains there are is yours to say."
    )?;
    writeln!(out, "config:")?;
    writeln!(out, "  deployment:\n    logs: {}\n    chains: [{}]", plan.logs, chains.join(", "))?;
    writeln!(out, "  dedup:\n    window: {}", load.dedup_window)?;
    writeln!(out, "  batch:\n    width: {}", load.window)?;
    writeln!(out, "  anchor:\n    interval: {}", load.interval)?;
    writeln!(out, "  kafka:\n    ingest_workers: 2")?;
    writeln!(out, "  catalog:\n    retention: {}", load.retention.name())?;
    writeln!(out, "inputPartitions:\n  events: {}", plan.input_partitions)?;
    writeln!(out, "stages:")?;
    for Stage { stage, replicas, cores, memory_megabytes } in &plan.stages {
        let millis = (cores * 1e3 / f64::from(*replicas)).ceil().max(50.0);
        let (asked, limit) = (mebibytes(memory_megabytes * 1.3), mebibytes(memory_megabytes * 2.0));
        writeln!(out, "  {stage}:\n    replicas: {replicas}")?;
        writeln!(
            out,
            "    resources: {{requests: {{cpu: {millis}m, memory: {asked}Mi}}, limits: {{memory: {limit}Mi}}}}"
        )?;
    }
    let (asked, limit) = (mebibytes(plan.audit_megabytes * 0.25), mebibytes(plan.audit_megabytes));
    writeln!(out, "audit:")?;
    writeln!(
        out,
        "  resources: {{requests: {{cpu: 100m, memory: {asked}Mi}}, limits: {{memory: {limit}Mi}}}}"
    )?;
    Ok(())
}

/// Mebibytes of so many megabytes, as a container is given them.
fn mebibytes(megabytes: f64) -> f64 {
    (megabytes * 1e6 / f64::from(1 << 20)).ceil().max(64.0)
}

/// A whole number, in groups of three digits.
fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with as many places as matter.
fn decimal(number: f64) -> String {
    match number {
        number if number >= 100.0 => count(number),
        number if number >= 1.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Coins, with as many places as an anchor has.
fn coins(coins: f64) -> String {
    format!("{coins:.4}")
}

/// Bytes in units of a thousand.
fn size(bytes: f64) -> String {
    let units = [(1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit);
    unit.map_or_else(|| format!("{bytes:.0} B"), |(unit, name)| format!("{} {name}", decimal(bytes / unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_people_read_them() {
        assert_eq!([0.0, 999.0, 1_000.0, 1_234_567.0].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.014, 1.25, 99.96, 1_000.0].map(decimal), ["0.01", "1.2", "100.0", "1,000"]);
        assert_eq!([12.0, 1_500.0, 2.5e13].map(size), ["12 B", "1.5 KB", "25.0 TB"]);
    }
}
