//! What the broker does alone: its own tools, with as many records of the same size.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::meter::Meter;
use crate::process::Running;
use crate::site::Site;

/// How long a tool may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// The broker's own tools, as they are published with it.
pub struct Tools<'s> {
    site: &'s Site,
    java: PathBuf,
    /// The folder of their jars.
    jars: PathBuf,
    topic: String,
    /// CPU time that each takes for one record: its start.
    starts: BTreeMap<&'static str, Duration>,
}

/// What a tool did.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Tool {
    /// By its own word.
    pub records_per_second: f64,
    /// By its own word, in units of 2^20 bytes.
    pub megabytes_per_second: f64,
    /// CPU time of the tool for each record, in microseconds, without its start.
    pub cpu_micros: f64,
    /// The same of the broker.
    pub broker_cpu_micros: Option<f64>,
    /// What went elsewhere of the machine's CPU time meanwhile: 0 to 1.
    pub elsewhere: f64,
}

/// Both tools, one after the other.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Baseline {
    /// `kafka-producer-perf-test`.
    pub producer: Tool,
    /// `kafka-consumer-perf-test`.
    pub consumer: Tool,
}

const PRODUCER: &str = "ProducerPerformance";
const CONSUMER: &str = "ConsumerPerformance";

impl<'s> Tools<'s> {
    /// Makes a topic for them, and finds out what they take to start.
    ///
    /// # Errors
    /// There is no Java, or the jars are not where they are said to be.
    pub fn new(site: &'s Site, java: PathBuf, jars: PathBuf) -> Result<Self> {
        let topic = format!("{}.tools", site.run);
        site.make_topic(&topic)?;
        let mut tools = Self { site, java, jars, topic, starts: BTreeMap::new() };
        for (name, arguments) in [(PRODUCER, tools.producing(1, 100)), (CONSUMER, tools.consuming(1))] {
            let start = || tools.start(name, &arguments)?.finish(PATIENCE);
            // The less of two: whatever else runs can only add to it.
            tools.starts.insert(name, start()?.min(start()?));
        }
        Ok(tools)
    }

    /// Runs both.
    ///
    /// # Errors
    /// One of them fails, or says something that is not understood.
    pub fn run(&self, records: usize, bytes: usize) -> Result<Baseline> {
        let (produced, mut producer) = self.measure(PRODUCER, &self.producing(records, bytes), records)?;
        (producer.records_per_second, producer.megabytes_per_second) =
            what_was_sent(&produced).with_context(|| format!("{PRODUCER} said {produced:?}"))?;
        let (consumed, mut consumer) = self.measure(CONSUMER, &self.consuming(records), records)?;
        (consumer.records_per_second, consumer.megabytes_per_second) =
            what_was_read(&consumed).with_context(|| format!("{CONSUMER} said {consumed:?}"))?;
        Ok(Baseline { producer, consumer })
    }

    /// Removes their topic.
    ///
    /// # Errors
    /// The brokers cannot be asked.
    pub fn remove(self) -> Result<()> {
        self.site.remove_topics(&[self.topic])
    }

    fn producing(&self, records: usize, bytes: usize) -> Vec<String> {
        let text = format!(
            "--bootstrap-server {} --topic {} --num-records {records} --record-size {bytes} --throughput -1 \
             --reporting-interval 600000 --command-property acks=all compression.type=lz4",
            self.site.brokers, self.topic
        );
        text.split(' ').map(str::to_owned).collect()
    }

    fn consuming(&self, records: usize) -> Vec<String> {
        let text = format!(
            "--bootstrap-server {} --topic {} --num-records {records} --reporting-interval 600000 --timeout 60000",
            self.site.brokers, self.topic
        );
        text.split(' ').map(str::to_owned).collect()
    }

    fn start(&self, class: &str, arguments: &[String]) -> Result<Running> {
        // As the scripts that come with Kafka start them.
        let mut command = Command::new(&self.java);
        command.args(["-Xmx512m", "-cp"]).arg(self.jars.join("*"));
        command.arg(format!("org.apache.kafka.tools.{class}")).args(arguments);
        Running::start(&mut command, &self.site.folder, class)
    }

    fn measure(&self, class: &str, arguments: &[String], records: usize) -> Result<(String, Tool)> {
        let meter = Meter::new([("broker", self.site.broker)]);
        let begun = meter.read()?;
        let cpu = self.start(class, arguments)?.finish(PATIENCE)?;
        let used = meter.since(&begun)?;
        let said = std::fs::read_to_string(self.site.folder.join(format!("{class}.out")))?;
        let start = self.starts.get(class).copied().unwrap_or_default();
        let whole = used.time.as_secs_f64() * crate::meter::cores() as f64;
        let tool = Tool {
            records_per_second: 0.0,
            megabytes_per_second: 0.0,
            cpu_micros: cpu.saturating_sub(start).as_secs_f64() * 1e6 / records as f64,
            broker_cpu_micros: used.micros_each("broker", records),
            elsewhere: (used.elsewhere - cpu.as_secs_f64() / whole).max(0.0),
        };
        Ok((said, tool))
    }
}

/// Records and megabytes a second in the producer's last line.
fn what_was_sent(said: &str) -> Result<(f64, f64)> {
    let line = said.lines().rfind(|line| line.contains(" records sent, ")).context("no last line")?;
    let (_, rest) = line.split_once(" records sent, ").context("no rate")?;
    let (records, rest) = rest.split_once(" records/sec (").context("no records")?;
    let (megabytes, _) = rest.split_once(" MB/sec)").context("no megabytes")?;
    Ok((number(records)?, number(megabytes)?))
}

/// The same in the consumer's table, for the time in which it fetched.
fn what_was_read(said: &str) -> Result<(f64, f64)> {
    let mut lines = said.lines().filter(|line| line.contains(", "));
    let (Some(head), Some(row)) = (lines.next(), lines.next()) else { anyhow::bail!("no table") };
    let columns: BTreeMap<_, _> =
        head.split(", ").zip(row.split(", ")).map(|(k, v)| (k.trim(), v.trim())).collect();
    let column = |name| columns.get(name).with_context(|| format!("no {name}")).and_then(|text| number(text));
    Ok((column("fetch.nMsg.sec")?, column("fetch.MB.sec")?))
}

fn number(text: &str) -> Result<f64> {
    let number: f64 = text.trim().parse()?;
    ensure!(number.is_finite() && number > 0.0, "{text} is no rate");
    Ok(number)
}

impl Baseline {
    /// The better of two runs in each figure: whatever else runs on the machine can only make it worse.
    pub fn better(one: &Self, other: &Self) -> Self {
        let tool = |a: &Tool, b: &Tool| Tool {
            records_per_second: a.records_per_second.max(b.records_per_second),
            megabytes_per_second: a.megabytes_per_second.max(b.megabytes_per_second),
            cpu_micros: a.cpu_micros.min(b.cpu_micros),
            broker_cpu_micros: a.broker_cpu_micros.zip(b.broker_cpu_micros).map(|(a, b)| a.min(b)),
            elsewhere: a.elsewhere.min(b.elsewhere),
        };
        Self {
            producer: tool(&one.producer, &other.producer),
            consumer: tool(&one.consumer, &other.consumer),
        }
    }

    /// CPU time for a record in and out again, in microseconds.
    pub fn hop_micros(&self) -> f64 {
        self.producer.cpu_micros + self.consumer.cpu_micros
    }

    /// Records a second of one that reads and then writes each, as fast as each tool alone.
    pub fn hop_rate(&self) -> f64 {
        1.0 / (1.0 / self.producer.records_per_second + 1.0 / self.consumer.records_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tools_say_is_understood() {
        let said = "500000 records sent, 311526.5 records/sec (59.42 MB/sec), 3.82 ms avg latency, 310.00 ms max latency, \
                    0 ms 50th, 20 ms 95th, 44 ms 99th, 53 ms 99.9th.\n";
        assert_eq!(what_was_sent(said).unwrap(), (311_526.5, 59.42));
        let said = "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, \
                    rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n\
                    2026-11-21 13:00:00:000, 2026-11-21 13:00:01:000, 95.4, 95.4, 500000, 500000.0, 400, 600, 159.0, 833333.3\n";
        assert_eq!(what_was_read(said).unwrap(), (833_333.3, 159.0));
        assert!(what_was_sent("Exception").is_err() && what_was_read("WARNING: nothing, was read").is_err());
        assert!(what_was_sent("5 records sent, NaN records/sec (0.00 MB/sec)").is_err());
    }
}
