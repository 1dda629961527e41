//! What was measured, as a person wants it.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::baseline::{Baseline, Tool};
use crate::runs::{Hop, Line, Until, Worker};

/// All of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Events of each measurement.
    pub events: usize,
    /// Whether devices signed them.
    pub signed: bool,
    /// Bytes of payload in each.
    pub payload: usize,
    /// Mean bytes of an input record.
    pub record_bytes: usize,
    /// Cores that may be used.
    pub cores: usize,
    /// The machine's load, averaged over a minute, before the first measurement.
    pub load_before: f64,
    /// The brokers' own tools, the better of a run before and one after the rest.
    pub tools: Baseline,
    /// The same, each run.
    pub tools_each: [Baseline; 2],
    /// Each stage alone.
    pub hops: Vec<Hop>,
    /// All stages, five processes and then one.
    pub lines: Vec<Line>,
}

/// The rate of a stage beside the tools', and its CPU time beside theirs.
fn beside_tools(hop: &Hop, tools: &Baseline) -> (Option<f64>, f64) {
    let share = hop.events_per_second.map(|rate| rate / tools.hop_rate());
    (share, hop.worker.cpu_micros / tools.hop_micros())
}

impl Report {
    /// One object, with the ratios of each stage to the tools.
    ///
    /// # Errors
    /// A figure is no number.
    pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        let mut report = serde_json::to_value(self)?;
        report["tools"]["hop"] = serde_json::json!({ "records_per_second": self.tools.hop_rate(), "cpu_micros": self.tools.hop_micros() });
        for (number, hop) in self.hops.iter().enumerate() {
            let (rate, cpu) = beside_tools(hop, &self.tools);
            report["hops"][number]["rate_to_tools"] = rate.into();
            report["hops"][number]["cpu_to_tools"] = cpu.into();
        }
        Ok(report)
    }

    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = if self.signed { "signed" } else { "unsigned" };
        writeln!(
            f,
            "{} {signed} events, payload {} bytes, record {} bytes; {} cores, load before {:.2}",
            grouped(self.events as f64),
            self.payload,
            self.record_bytes,
            self.cores,
            self.load_before
        )?;
        writeln!(
            f,
            "CPU in microseconds for each event; elsewhere: what other programs took of the machine meanwhile\n"
        )
    }

    fn tools(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<26} {:>11} {:>8} {:>8} {:>8} {:>10}",
            "the broker's own tools", "records/s", "MB/s", "CPU", "broker", "elsewhere"
        )?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, tool: &Tool| {
            writeln!(
                f,
                "{name:<26} {:>11} {:>8.1} {:>8.2} {:>8} {:>10}",
                grouped(tool.records_per_second),
                tool.megabytes_per_second,
                tool.cpu_micros,
                optional(tool.broker_cpu_micros),
                percent(tool.elsewhere)
            )
        };
        for (when, tools) in [("before", &self.tools_each[0]), ("after", &self.tools_each[1])] {
            row(f, &format!("producer-perf-test {when}"), &tools.producer)?;
            row(f, &format!("consumer-perf-test {when}"), &tools.consumer)?;
        }
        let (rate, cpu) = (self.tools.hop_rate(), self.tools.hop_micros());
        writeln!(f, "{:<26} {:>11} {:>8} {cpu:>8.2}\n", "in and out, the better", grouped(rate), "")
    }

    fn hops(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<14} {:>9} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>10}",
            "a stage alone",
            "events/s",
            "time",
            "CPU",
            "broker",
            "catalog",
            "peak",
            "commits",
            "a commit",
            "rate to",
            "CPU to",
            "elsewhere"
        )?;
        for hop in &self.hops {
            let (rate, cpu) = beside_tools(hop, &self.tools);
            let Worker { stages, cpu_micros, peak_memory, commits, mean_commit_micros } = &hop.worker;
            writeln!(
                f,
                "{stages:<14} {:>9} {:>6.1}s {cpu_micros:>8.2} {:>8} {:>8} {:>5} MB {commits:>8} {:>6.1} ms {:>9} {:>9} {:>10}",
                hop.events_per_second.map_or_else(|| "–".to_owned(), grouped),
                hop.seconds,
                optional(hop.beside.broker_cpu_micros),
                optional(hop.beside.catalog_cpu_micros),
                peak_memory / 1_000_000,
                mean_commit_micros / 1_000.0,
                rate.map_or_else(|| "–".to_owned(), percent),
                format!("{cpu:.2}×"),
                percent(hop.beside.elsewhere)
            )?;
        }
        writeln!(f, "(rate to, CPU to: of the tools that read and then write each record)\n")
    }

    fn line(f: &mut fmt::Formatter<'_>, line: &Line) -> fmt::Result {
        let name = match line.workers.len() {
            1 => "the whole line, one process".to_owned(),
            processes => format!("the whole line, {processes} processes"),
        };
        writeln!(
            f,
            "{name:<32} {:>9} {:>7} {:>8} {:>8} {:>8} {:>8} {:>10}",
            "events/s", "time", "CPU", "broker", "catalog", "chain", "elsewhere"
        )?;
        let (sent, cpu) = (line.produced_seconds, line.sender_cpu_micros);
        let rate = grouped(line.checkpoint.events_per_second * line.checkpoint.seconds / sent);
        writeln!(f, "{:<32} {rate:>9} {sent:>6.1}s {cpu:>8.2}", "  sent")?;
        for (what, until) in
            [("  to the signed checkpoint", &line.checkpoint), ("  to the proof", &line.proof)]
        {
            let Until { seconds, events_per_second, cpu_micros, beside } = until;
            writeln!(
                f,
                "{what:<32} {:>9} {seconds:>6.1}s {cpu_micros:>8.2} {:>8} {:>8} {:>8} {:>10}",
                grouped(*events_per_second),
                optional(beside.broker_cpu_micros),
                optional(beside.catalog_cpu_micros),
                optional(beside.chain_cpu_micros),
                percent(beside.elsewhere)
            )?;
        }
        for Worker { stages, cpu_micros, peak_memory, commits, mean_commit_micros } in &line.workers {
            let (memory, commit) = (peak_memory / 1_000_000, mean_commit_micros / 1_000.0);
            writeln!(
                f,
                "    {stages:<8} CPU {cpu_micros:>6.2}, peak {memory:>4} MB, {commits:>6} commits of {commit:.1} ms"
            )?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        self.tools(f)?;
        self.hops(f)?;
        self.lines.iter().try_for_each(|line| Self::line(f, line))?;
        write!(f, "every event is proven, and once, in {} deployments", 1 + self.lines.len())
    }
}

/// A number with its thousands apart.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn optional(micros: Option<f64>) -> String {
    let mut text = String::new();
    match micros {
        Some(micros) => write!(text, "{micros:.2}").unwrap_or_default(),
        None => text.push('–'),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0.0, "0"), (999.4, "999"), (1_000.0, "1,000"), (1_234_567.0, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
