//! Stages on real brokers: one hop, and three, beside what the same client takes to read and write the same records.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use killick_kafka::{KafkaProducer, Settings, client_config, topics};
use killick_stages::deployment::Deployment;
use killick_stages::manifest::Manifest;
use killick_stages::ports::Producer as _;
use killick_stages::record::{Output, Partition};
use killick_stages::route::AUDIT;
use killick_stages::stage::Part;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::util::Timeout;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::events::{Maker, TENANT};
use super::meter::{a_second, median};
use super::table::{Figures, Goal};
use crate::cluster::Cluster;
use crate::config::{Config, ConfigArgs};
use crate::{process, secrets};

/// Events of a backlog.
const EVENTS: usize = 200_000;
/// Rounds, one of each side in turn.
const ROUNDS: usize = 3;
/// Logs, and partitions of the input.
const LOGS: u32 = 4;
/// Events that are sent together: one wait for the brokers.
const TOGETHER: usize = 4_000;
/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(2);
/// Hops from an event's topic to its signed checkpoint.
const LINE: [&str; 3] = ["ingest", "dedup", "batch"];

/// `e_kafka_hop` and `e_kafka_line`; and how fast `many` events are beside so few, if there are to be many.
///
/// # Errors
/// The brokers are not there, or do not do what they should.
pub fn measure(
    maker: &Maker,
    brokers: &[String],
    folder: &Path,
    many: Option<usize>,
    figures: &mut Figures,
) -> Result<()> {
    figures.says(&format!("kafka: {ROUNDS} rounds of {EVENTS} unsigned events"));
    let values: Vec<_> = (0..EVENTS).map(|number| maker.value(number, false)).collect();
    let (mut hops, mut lines) = (Vec::new(), Vec::new());
    let mut columns = [const { Vec::new() }; 6];
    // What the stages have to do beside reading and writing.
    let own = figures.get("floor.unsigned.cpu").unwrap_or_default() / 1e3;
    for round in 0..ROUNDS {
        let place = Place::make(brokers, &folder.join(format!("kafka-{round}")))?;
        place.fill(values.iter().cloned())?;
        let (consume, produce) = (place.consume()?, place.produce(&values)?);
        let hop = place.run(&LINE[..1], EVENTS)?;
        let line = place.beside()?;
        line.fill(values.iter().cloned())?;
        let whole = line.run(&LINE, EVENTS)?;
        hops.push((consume + produce) / hop.cpu);
        lines.push((3.0 * (consume + produce) + own) / whole.cpu);
        let row = [consume, produce, hop.cpu, hop.rate, whole.cpu, whole.rate];
        columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        line.remove()?;
        place.remove()?;
    }
    figures.add("e_kafka_hop", median(hops), "", Some(Goal::Least(0.55)));
    figures.add("e_kafka_line", median(lines), "", None);
    let names = ["consume.cpu", "produce.cpu", "hop.cpu", "hop.rate", "line.cpu", "line.rate"];
    for (name, column) in names.iter().zip(columns) {
        let unit = if name.ends_with("rate") { "events/s" } else { "µs/event" };
        figures.add(&format!("kafka.{name}"), median(column), unit, None);
    }
    many.map_or(Ok(()), |count| measure_many(maker, brokers, folder, count, figures))
}

/// `kafka_slope`.
fn measure_many(
    maker: &Maker,
    brokers: &[String],
    folder: &Path,
    count: usize,
    figures: &mut Figures,
) -> Result<()> {
    figures.says(&format!("kafka: {count} unsigned events"));
    let place = Place::make(brokers, &folder.join("kafka-many"))?;
    place.fill((0..count).map(|number| maker.value(number, false)))?;
    let run = place.run(&LINE, count)?;
    place.remove()?;
    let millions = count / 1_000_000;
    let base = figures.get("kafka.line.rate").unwrap_or_default();
    figures.add(&format!("kafka_slope_{millions}m"), run.rate / base, "", Some(Goal::Least(0.95)));
    figures.add(&format!("kafka.{millions}m.rate"), run.rate, "events/s", None);
    figures.add(&format!("kafka.{millions}m.cpu"), run.cpu, "µs/event", None);
    figures.add(&format!("kafka.{millions}m.resident"), run.resident as f64 / 1e6, "MB", None);
    Ok(())
}

/// A deployment of its own on the brokers.
struct Place {
    folder: std::path::PathBuf,
    settings: Settings,
    config: Config,
    input: String,
}

/// What a run took.
struct Ran {
    /// CPU time of this process, in microseconds an event.
    cpu: f64,
    /// Events a second.
    rate: f64,
    /// The largest resident memory, in bytes.
    resident: u64,
}

impl Place {
    fn make(brokers: &[String], folder: &Path) -> Result<Self> {
        let name = format!("bench-{:08x}", rand::random::<u32>());
        let (folder, input) = (folder.join(&name), format!("{name}.events"));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let text = format!(
            "[deployment]\nname = \"{name}.example\"\nlogs = {LOGS}\n[keys]\nfolder = \"keys\"\n\
             [kafka]\nbrokers = {brokers:?}\nprefix = \"{name}.\"\nreplication = 1\nmin_in_sync = 1\n\
             [[source]]\ntopic = \"{input}\"\nunsigned = \"accept\"\nfreshness = \"off\"\n\
             [tenant.{TENANT}]\nsecret = \"the salt of a benchmark\"\n"
        );
        let path = folder.join("killick.toml");
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        let config = Config::load(&ConfigArgs { config: Some(path) })?;
        let settings = config.kafka.clone().context("a configuration of brokers")?;
        let place = Self { folder, settings, config, input };
        place.prepare()?;
        Ok(place)
    }

    /// Another one on the same brokers.
    fn beside(&self) -> Result<Self> {
        Self::make(&self.settings.brokers, &self.folder)
    }

    fn prepare(&self) -> Result<()> {
        let deployment = Deployment::new(&self.config.deployment)?;
        let keys = self.folder.join("keys");
        std::fs::create_dir_all(&keys)?;
        for (number, origin) in deployment.origins().iter().enumerate() {
            secrets::log_key(&keys.join(format!("log-{number}.key")), origin)?;
        }
        self.topic(&self.input)?;
        topics::apply(&self.settings, &self.config.wanted_topics(&deployment))?;
        Ok(())
    }

    fn topic(&self, name: &str) -> Result<()> {
        let topic = NewTopic::new(name, i32::try_from(LOGS)?, TopicReplication::Fixed(1))
            .set("message.timestamp.type", "LogAppendTime");
        let made = self.admin(async |admin, options| admin.create_topics([&topic], options).await)?;
        made.into_iter().try_for_each(|made| made.map(drop).map_err(|(name, why)| anyhow!("{name}: {why}")))
    }

    fn admin<T>(
        &self,
        ask: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> rdkafka::error::KafkaResult<T>,
    ) -> Result<T> {
        let admin = client_config(&self.settings, "bench")?.create()?;
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        let asked = Runtime::new()?.block_on(ask(&admin, &options));
        asked.with_context(|| format!("the brokers at {} do not answer", self.settings.brokers.join(",")))
    }

    /// Puts the events into the input, each in the partition of its number.
    fn fill(&self, values: impl Iterator<Item = Bytes>) -> Result<()> {
        let producer = KafkaProducer::open(&self.settings, "bench")?;
        let places: Vec<_> = (0..LOGS).map(|number| Partition::new(self.input.as_str(), number)).collect();
        let mut records =
            values.zip(places.iter().cycle()).map(|(value, place)| Output::new(place.clone(), "", value));
        loop {
            let records: Vec<_> = records.by_ref().take(TOGETHER).collect();
            if records.is_empty() {
                return Ok(());
            }
            producer.produce(&records).context("the brokers do not take the events")?;
        }
    }

    /// CPU time to read the input and do nothing with it, in microseconds an event.
    fn consume(&self) -> Result<f64> {
        let consumer: BaseConsumer = client_config(&self.settings, "bench")?
            .set("group.id", format!("{}floor", self.settings.prefix))
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .create()?;
        let mut places = TopicPartitionList::new();
        for number in 0..LOGS {
            places.add_partition_offset(&self.input, i32::try_from(number)?, Offset::Beginning)?;
        }
        consumer.assign(&places)?;
        let cpu = process::cpu_time();
        let (mut count, mut bytes) = (0, 0);
        while count < EVENTS {
            let message = consumer.poll(PATIENCE).context("the brokers give no more events")??;
            bytes += message.payload().unwrap_or_default().len();
            count += 1;
        }
        ensure!(bytes > 0, "the events are empty");
        Ok(micros_each(process::cpu_time() - cpu, EVENTS))
    }

    /// CPU time to write the same records to another topic, in microseconds an event.
    fn produce(&self, values: &[Bytes]) -> Result<f64> {
        let topic = format!("{}floor", self.settings.prefix);
        self.topic(&topic)?;
        let producer: BaseProducer = client_config(&self.settings, "bench")?
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "5")
            .set("compression.type", "lz4")
            .set("queue.buffering.max.messages", "1000000")
            .create()?;
        let cpu = process::cpu_time();
        for (number, value) in values.iter().enumerate() {
            let mut record = BaseRecord::<(), [u8]>::to(&topic).payload(value).partition((number % 4) as i32);
            while let Err((error, again)) = producer.send(record) {
                if error.rdkafka_error_code() != Some(rdkafka::types::RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                producer.poll(Duration::from_millis(10));
                record = again;
            }
            if number % 1_000 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        producer.flush(Timeout::After(PATIENCE))?;
        Ok(micros_each(process::cpu_time() - cpu, EVENTS))
    }

    /// Has these stages do with the whole backlog of so many events, in this process.
    fn run(&self, stages: &[&str], events: usize) -> Result<Ran> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let last = stages.last().copied().unwrap_or_default().to_owned();
        // A group takes its time to form: the rate is from the first commit of any stage on.
        let (passed, first) = (Arc::new(AtomicU64::new(0)), Arc::new(OnceLock::new()));
        let (counter, at_first) = (Arc::clone(&passed), Arc::clone(&first));
        let tap = move |stage: &str, parts: &[(Partition, Part)]| {
            let outputs = parts.iter().flat_map(|(_, part)| &part.outputs);
            let outputs = outputs.filter(|output| output.partition.topic.as_str() == AUDIT);
            let manifests = outputs.filter_map(|output| Manifest::decode(&output.value).ok());
            let events: u64 = manifests.map(|manifest| manifest.tally.passed.events).sum();
            let through = if *stage == *last { events } else { 0 };
            if events > 0 {
                at_first.get_or_init(|| (Instant::now(), through));
            }
            counter.fetch_add(through, Ordering::Relaxed);
        };
        let stages: Vec<_> = stages.iter().map(|stage| (*stage).to_owned()).collect();
        let stop = CancellationToken::new();
        let cpu = process::cpu_time();
        let tap: crate::worker::Tap = Arc::new(tap);
        let mut cluster =
            Cluster::start(&self.config, &stages, runtime.handle(), &stop, Arc::default(), Some(tap))?;
        let (mut since, mut known) = (Instant::now(), 0);
        let mut resident = 0;
        loop {
            let now = passed.load(Ordering::Relaxed);
            ensure!(now <= events as u64, "{now} events came out of {events}");
            if now > known {
                (known, since) = (now, Instant::now());
                resident = resident.max(process::resident_memory().unwrap_or_default());
            }
            if now == events as u64 {
                break;
            }
            if cluster.stopping().is_cancelled() || since.elapsed() > PATIENCE {
                bail!("{now} of {events} events came through {stages:?}, and no more come");
            }
            std::thread::sleep(LOOK);
        }
        let cpu = micros_each(process::cpu_time() - cpu, events);
        let &(begun, beyond) =
            first.get().context("events came through before any stage had committed one")?;
        let rate = a_second(begun.elapsed(), events - usize::try_from(beyond)?);
        cluster.stop()?;
        // What was on its way when they stopped has come by now.
        let now = passed.load(Ordering::Relaxed);
        ensure!(now == events as u64, "{now} events came out of {events}");
        Ok(Ran { cpu, rate, resident })
    }

    /// Removes its topics.
    fn remove(&self) -> Result<()> {
        let consumer: BaseConsumer = client_config(&self.settings, "bench")?.create()?;
        let known = consumer.fetch_metadata(None, Duration::from_secs(30))?;
        let names: Vec<_> = known.topics().iter().map(rdkafka::metadata::MetadataTopic::name).collect();
        let ours: Vec<_> = names.into_iter().filter(|name| name.starts_with(&self.settings.prefix)).collect();
        self.admin(async |admin, options| admin.delete_topics(&ours, options).await).map(drop)
    }
}

fn micros_each(time: Duration, events: usize) -> f64 {
    time.as_secs_f64() * 1e6 / events as f64
}
