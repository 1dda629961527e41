//! Reads the log outside of any group.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use killick_stages::ports::{LogError, Reader};
use killick_stages::record::{Micros, Partition, Record};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::client::{self, ASK, Plain, consumer_config, failed, failed_at};
use crate::leftover::{Mark, stays_open};
use crate::message;
use crate::names::Names;
use crate::settings::Settings;

/// How long nothing may come where something has to.
const SILENCE: Duration = Duration::from_secs(30);
/// Between two looks at a transaction that is open.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes read at once when state is read back.
const REPLAY_BYTES: usize = 4 << 20;

/// A reader of committed records.
pub struct KafkaReader {
    settings: Settings,
    names: Names,
    name: String,
    clients: Clients,
    /// Where the consumer stands: the partition, and the offset behind the last record that it gave.
    stands: Option<(Partition, u64)>,
}

/// What asks the brokers.
struct Clients {
    consumer: BaseConsumer<Plain>,
    /// Sees the end of a partition with what is not committed yet.
    uncommitted: BaseConsumer<Plain>,
    groups: HashMap<String, BaseConsumer<Plain>>,
}

impl Clients {
    fn new(settings: &Settings, name: &str) -> Result<Self, LogError> {
        // It never joins this group: a consumer that reads wants to have one.
        let group = Names::new(&settings.prefix).group("reader");
        let mut config = consumer_config(settings, name, &group).map_err(failed)?;
        config
            .set("enable.partition.eof", "true")
            .set("statistics.interval.ms", "0")
            .set("fetch.wait.max.ms", "10");
        let mut uncommitted = consumer_config(settings, name, &group).map_err(failed)?;
        uncommitted
            .set("isolation.level", "read_uncommitted")
            .set("statistics.interval.ms", "0")
            .set("fetch.wait.max.ms", "10");
        Ok(Self {
            consumer: config.create_with_context(Plain).map_err(failed)?,
            uncommitted: uncommitted.create_with_context(Plain).map_err(failed)?,
            groups: HashMap::new(),
        })
    }
}

impl KafkaReader {
    /// A reader; `name` tells it apart in the brokers' logs.
    ///
    /// # Errors
    /// [`LogError::Failed`] if the settings cannot work.
    pub fn open(settings: &Settings, name: &str) -> Result<Self, LogError> {
        Ok(Self {
            settings: settings.clone(),
            names: Names::new(&settings.prefix),
            name: name.to_owned(),
            clients: Clients::new(settings, name)?,
            stands: None,
        })
    }

    /// Makes the clients anew after a failure: one that was told once that its cluster has no brokers, as a broker says that
    /// was just started or was stopped for long, never asks anyone again.
    fn or_anew<T>(&mut self, outcome: Result<T, LogError>) -> Result<T, LogError> {
        if matches!(outcome, Err(LogError::Failed(_))) {
            self.stands = None;
            self.clients = Clients::new(&self.settings, &self.name)?;
        }
        outcome
    }

    /// Gives all records of a partition that were appended at or after `since`, up to its end as it is now: waits for
    /// transactions that are open there, at most until `deadline`.
    pub(crate) fn replay(
        &mut self,
        partition: &Partition,
        since: Option<Micros>,
        deadline: Instant,
        beat: &dyn Fn(),
        each: &mut dyn FnMut(Record),
    ) -> Result<(), LogError> {
        let (start, _) = self.range(partition)?;
        let seen = watermarks(&self.clients.uncommitted, &self.names, partition);
        let (_, end) = self.or_anew(seen)?;
        while self.range(partition)?.1 < end {
            if Instant::now() > deadline {
                return Err(stays_open(&partition.to_string()));
            }
            beat();
            std::thread::sleep(LOOK);
        }
        let mut next = match since {
            Some(since) => {
                let found = self.offset_at(partition, since);
                self.or_anew(found)?.unwrap_or(end)
            }
            None => start,
        };
        while next < end {
            let records = self.gather(partition, next, REPLAY_BYTES, beat);
            let records = self.or_anew(records)?;
            let Some(last) = records.last() else { break };
            next = last.offset + 1;
            records.into_iter().filter(|record| record.offset < end).for_each(&mut *each);
        }
        Ok(())
    }

    /// The ends of partitions, with what is not committed yet.
    pub(crate) fn ends(&mut self, partitions: &[Partition]) -> Result<BTreeMap<Partition, u64>, LogError> {
        let ends = ends(&self.clients.uncommitted, &self.names, partitions);
        self.or_anew(ends)
    }

    /// The ends of what is beyond all transactions that are open.
    pub(crate) fn stable_ends(
        &mut self,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, u64>, LogError> {
        let ends = ends(&self.clients.consumer, &self.names, partitions);
        self.or_anew(ends)
    }

    /// The mark on the first record of a partition that belongs to a transaction which is open there.
    pub(crate) fn first_mark(&mut self, partition: &Partition) -> Result<Option<Mark>, LogError> {
        let stable = self.stable_ends(std::slice::from_ref(partition))?.remove(partition).unwrap_or_default();
        let found = self.mark_at(partition, stable);
        let unassigned = self.clients.uncommitted.unassign().map_err(failed);
        self.or_anew(found.and_then(|found| unassigned.map(|()| found)))
    }

    /// The mark on the record at an offset or next behind it, committed or not; none if none comes soon.
    fn mark_at(&self, partition: &Partition, offset: u64) -> Result<Option<Mark>, LogError> {
        let mut list = TopicPartitionList::new();
        let name = self.names.topic(partition.topic.as_str());
        list.add_partition_offset(&name, client::number(partition), client::offset(offset)?)
            .map_err(failed)?;
        let consumer = &self.clients.uncommitted;
        consumer.assign(&list).map_err(failed)?;
        let deadline = Instant::now() + ASK;
        while Instant::now() < deadline {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => return Ok(message::mark(&message)),
                Some(Err(error)) if client::is_away(&error) => {}
                // Who may only write there cannot know.
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::TopicAuthorizationFailed))) => {
                    return Ok(None);
                }
                Some(Err(error)) => {
                    return Err(failed_at(format_args!("{partition} at offset {offset}"), &error));
                }
                None => {}
            }
        }
        Ok(None)
    }

    /// The offset of the first record appended at or after a time; none if there is none.
    fn offset_at(&mut self, partition: &Partition, since: Micros) -> Result<Option<u64>, LogError> {
        let mut list = TopicPartitionList::new();
        // Times at the brokers are whole milliseconds.
        let millis = Offset::Offset(since.div_euclid(1_000).max(0));
        let name = self.names.topic(partition.topic.as_str());
        list.add_partition_offset(&name, client::number(partition), millis).map_err(failed)?;
        let found = self.clients.uncommitted.offsets_for_times(list, ASK).map_err(|error| {
            failed_at(format_args!("the first offset of {partition} since a time"), &error)
        })?;
        let Some(entry) = found.elements().into_iter().next() else { return Ok(None) };
        entry.error().map_err(failed)?;
        match entry.offset() {
            Offset::Offset(offset) => Ok(u64::try_from(offset).ok()),
            _ => Ok(None),
        }
    }

    /// Lets the consumer stand before `from`, if it does not.
    fn stand(&mut self, partition: &Partition, from: u64) -> Result<(), LogError> {
        if self.stands.as_ref().is_some_and(|(stands, next)| stands == partition && *next == from) {
            return Ok(());
        }
        self.stands = None;
        let mut list = TopicPartitionList::new();
        let name = self.names.topic(partition.topic.as_str());
        list.add_partition_offset(&name, client::number(partition), client::offset(from)?).map_err(failed)?;
        self.clients.consumer.assign(&list).map_err(failed)?;
        self.stands = Some((partition.clone(), from));
        Ok(())
    }
}

/// Asked together, as this client's isolation level sees them.
fn ends(
    consumer: &BaseConsumer<Plain>,
    names: &Names,
    partitions: &[Partition],
) -> Result<BTreeMap<Partition, u64>, LogError> {
    let mut ends = BTreeMap::new();
    if partitions.is_empty() {
        return Ok(ends);
    }
    let mut list = client::list(names, partitions);
    list.set_all_offsets(Offset::End).map_err(failed)?;
    let found = consumer
        .offsets_for_times(list, ASK)
        .map_err(|error| failed_at(format_args!("the end of {}", partitions[0]), &error))?;
    for entry in found.elements() {
        let partition = names.partition_of(entry.topic(), entry.partition());
        entry.error().map_err(|error| failed_at(format_args!("the end of {partition}"), &error))?;
        let Offset::Offset(end) = entry.offset() else {
            return Err(failed(format!("the brokers do not say where {partition} ends")));
        };
        ends.insert(partition, u64::try_from(end).unwrap_or_default());
    }
    Ok(ends)
}

fn watermarks(
    consumer: &BaseConsumer<Plain>,
    names: &Names,
    partition: &Partition,
) -> Result<(u64, u64), LogError> {
    let name = names.topic(partition.topic.as_str());
    let (low, high) = consumer
        .fetch_watermarks(&name, client::number(partition), ASK)
        .map_err(|error| failed_at(format_args!("the range of {partition}"), &error))?;
    Ok((u64::try_from(low).unwrap_or_default(), u64::try_from(high).unwrap_or_default()))
}

impl Reader for KafkaReader {
    fn partitions(&mut self, topic: &str) -> Result<Vec<Partition>, LogError> {
        let count = client::partition_count(&self.clients.consumer, &self.names.topic(topic));
        let count = self.or_anew(count)?.unwrap_or(0);
        Ok((0..count).map(|number| Partition::new(topic, number)).collect())
    }

    fn range(&mut self, partition: &Partition) -> Result<(u64, u64), LogError> {
        let range = watermarks(&self.clients.consumer, &self.names, partition);
        self.or_anew(range)
    }

    fn committed(&mut self, group: &str, partition: &Partition) -> Result<Option<u64>, LogError> {
        let committed = self.ask_committed(group, partition);
        self.or_anew(committed)
    }

    fn read(&mut self, partition: &Partition, from: u64, max_bytes: usize) -> Result<Vec<Record>, LogError> {
        let records = self.gather(partition, from, max_bytes, &|| {});
        self.or_anew(records)
    }
}

impl KafkaReader {
    fn ask_committed(&mut self, group: &str, partition: &Partition) -> Result<Option<u64>, LogError> {
        let groups = &mut self.clients.groups;
        if !groups.contains_key(group) {
            let mut config =
                consumer_config(&self.settings, &self.name, &self.names.group(group)).map_err(failed)?;
            config.set("statistics.interval.ms", "0");
            groups.insert(group.to_owned(), config.create_with_context(Plain).map_err(failed)?);
        }
        let Some(consumer) = groups.get(group) else { return Ok(None) };
        let list = client::list(&self.names, [partition]);
        let found = consumer
            .committed_offsets(list, ASK)
            .map_err(|error| failed_at(format_args!("the offset of {group} in {partition}"), &error))?;
        let Some(entry) = found.elements().into_iter().next() else { return Ok(None) };
        entry.error().map_err(failed)?;
        match entry.offset() {
            Offset::Offset(offset) => Ok(u64::try_from(offset).ok()),
            _ => Ok(None),
        }
    }

    /// Reads; whoever reads is alive as long as `beat` is heard.
    fn gather(
        &mut self,
        partition: &Partition,
        from: u64,
        max_bytes: usize,
        beat: &dyn Fn(),
    ) -> Result<Vec<Record>, LogError> {
        beat();
        let (start, _) = self.range(partition)?;
        self.stand(partition, from.max(start))?;
        let mut records = Vec::new();
        let (mut bytes, mut trouble) = (0, None);
        let deadline = Instant::now() + SILENCE;
        while bytes < max_bytes {
            beat();
            match self.clients.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let record = message::record(&message, partition.clone());
                    bytes += message.payload_len() + message.key_len() + 100;
                    self.stands = Some((partition.clone(), record.offset + 1));
                    records.push(record);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    // The end is told once: whoever asks again has to stand anew.
                    self.stands = None;
                    break;
                }
                // News of the connections, often old: librdkafka makes new ones by itself.
                Some(Err(error)) if client::is_away(&error) && Instant::now() < deadline => {
                    trouble = Some(error)
                }
                Some(Err(error)) => {
                    self.stands = None;
                    return Err(failed_at(format_args!("{partition} from offset {from}"), &error));
                }
                None if Instant::now() < deadline => {}
                None => {
                    self.stands = None;
                    let why = trouble.map(|error| format!(": {error}")).unwrap_or_default();
                    let why = format!("the brokers gave nothing of {partition} for {SILENCE:?}{why}");
                    return Err(failed(why));
                }
            }
        }
        Ok(records)
    }
}
