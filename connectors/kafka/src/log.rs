//! A worker's hold on the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use killick_stages::ports::{Log, LogError, Polled, Producer as _};
use killick_stages::record::{Micros, Output, Partition, Record};
use killick_stages::stage::Part;

use crate::client::{client_config, consumer_config, failed};
use crate::figures::Figures;
use crate::hold::{Hold, Member, Owned};
use crate::inbox::Event;
use crate::leftover::{MARK_BYTES, OTHERS};
use crate::message;
use crate::names::Names;
use crate::plant;
use crate::producer::KafkaProducer;
use crate::reader::KafkaReader;
use crate::settings::Settings;
use crate::transactor::{Group, Transaction, Transactor};
use crate::watch::RETRY_MILLIS;

/// Bytes of records that one poll gives.
const POLL_BYTES: usize = 8 << 20;

/// How the partitions of a group are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Each worker keeps what it has as far as that is fair (`cooperative-sticky`): for stages with much state.
    Sticky,
    /// By number, the same for every topic (`range`): for stages that need the same partition of two topics.
    Range,
}

/// Where a group begins in a partition in which it never was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first record that is kept.
    FirstKept,
    /// Nowhere: its first offset has to be set by whoever makes the topic. So offsets that went are found out.
    Committed,
}

/// What a worker joins.
#[derive(Debug, Clone)]
pub struct Join<'a> {
    /// The group: the stage's name.
    pub group: &'a str,
    /// The worker's place in the group, the same again after a restart. A second worker in the same place ends the first.
    pub slot: &'a str,
    /// The topics it reads.
    pub topics: &'a [String],
    /// The topics that its transactions write to, as far as they are known: what a worker before it in its slot left open
    /// there is ended first.
    pub writes: &'a [String],
    /// How partitions are shared out; the same for all workers of the group.
    pub sharing: Sharing,
    /// Where it begins.
    pub start: Start,
}

/// One worker of a group.
pub struct KafkaLog {
    // Before the transactor: what is ours goes first.
    hold: Hold,
    transactor: Transactor,
    settings: Settings,
    name: String,
    reads: Vec<String>,
    writes: Vec<String>,
    /// What the stage was told to be ours.
    told: BTreeMap<Partition, Owned>,
    /// The numbers of partitions of topics that were written to.
    counts: BTreeMap<Box<str>, u32>,
    producer: Option<KafkaProducer>,
    reader: Option<KafkaReader>,
    is_paused: bool,
    figures: Arc<Figures>,
}

impl KafkaLog {
    /// Joins a group; partitions come later, by [`Log::poll`].
    ///
    /// # Errors
    /// [`LogError::Failed`] if the settings cannot work.
    pub fn join(settings: &Settings, join: &Join<'_>) -> Result<Self, LogError> {
        let names = Names::new(&settings.prefix);
        let name = names.worker(join.group, join.slot);
        let figures = Arc::new(Figures::default());
        let millis = |span: killick_stages::span::Span| (span.micros() / 1_000).to_string();
        let mut config = consumer_config(settings, &name, &names.group(join.group)).map_err(failed)?;
        config
            .set("group.instance.id", &name)
            .set(
                "partition.assignment.strategy",
                match join.sharing {
                    Sharing::Sticky => "cooperative-sticky",
                    Sharing::Range => "range",
                },
            )
            .set("session.timeout.ms", millis(settings.session_timeout))
            .set("heartbeat.interval.ms", (settings.session_timeout.micros() / 4_000).to_string())
            .set("max.poll.interval.ms", millis(settings.poll_timeout));
        if plant::has("auto_commit") {
            config
                .set("enable.auto.commit", "true")
                .set("enable.auto.offset.store", "true")
                .set("auto.commit.interval.ms", "200");
        }
        let member = Member {
            config,
            names: names.clone(),
            member: name.clone(),
            topics: join.topics,
            start: join.start,
            poll_timeout: settings.poll_timeout.duration(),
            figures: Arc::clone(&figures),
        };
        let mut config = client_config(settings, &name).map_err(failed)?;
        config
            .set("transactional.id", &name)
            .set("message.max.bytes", (settings.max_record + MARK_BYTES).to_string())
            .set("transaction.timeout.ms", millis(settings.transaction_timeout))
            // As long as librdkafka lets it be: a request that times out is sent again, and its late first copy could end
            // the next transaction.
            .set("socket.timeout.ms", millis(settings.transaction_timeout))
            .set("retry.backoff.ms", RETRY_MILLIS.to_string())
            // A record that is not taken by then spoils its transaction.
            .set("message.timeout.ms", (settings.transaction_timeout.micros() / 1_000 * 9 / 10).to_string())
            .set("linger.ms", "1")
            .set("compression.type", settings.compression.to_string())
            .set("queue.buffering.max.kbytes", "131072")
            .set("statistics.interval.ms", "1000");
        let timeout = settings.transaction_timeout.duration();
        let transactor = Transactor::new(config, names.clone(), name.clone(), timeout, Arc::clone(&figures));
        Ok(Self {
            hold: Hold::join(member)?,
            transactor,
            settings: settings.clone(),
            name,
            reads: join.topics.to_vec(),
            writes: join.writes.to_vec(),
            told: BTreeMap::new(),
            counts: BTreeMap::new(),
            producer: None,
            reader: None,
            is_paused: false,
            figures,
        })
    }

    /// What this worker does, in numbers.
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// Whether a record could be written there: found out before anything is.
    fn check(&mut self, output: &Output) -> Result<(), LogError> {
        let (size, limit) = (message::size(output), self.settings.max_record);
        if size > limit {
            return Err(LogError::TooLarge { partition: output.partition.clone(), size, limit });
        }
        let topic = output.partition.topic.as_str();
        if self.counts.get(topic).is_none_or(|count| output.partition.number >= *count) {
            let count = self.hold.partition_count(topic)?;
            self.counts.insert(topic.into(), count);
            if output.partition.number >= count {
                return Err(LogError::Unknown(output.partition.clone()));
            }
        }
        Ok(())
    }
}

impl KafkaLog {
    /// Ends what a broker forgot to end: in these partitions, where the transaction before wrote, and in the group's offsets.
    fn make_clear(&mut self, written: &BTreeSet<Partition>) -> Result<(), LogError> {
        self.hold.beat();
        let reader = open(&mut self.reader, &self.settings, &self.name)?;
        let hold = &self.hold;
        let metadata = hold.metadata();
        let group = Group {
            metadata: metadata.as_ref(),
            is_lost: &|| hold.is_lost(),
            committed: &|partitions| hold.committed(partitions.iter().cloned()),
            inputs: &|| partitions(hold, &self.reads),
            outputs: &|| partitions(hold, &self.writes),
        };
        self.transactor.settle(&group)?;
        self.transactor.make_clear(written, &group, reader)
    }
}

/// The reader, made when it is first needed.
fn open<'a>(
    reader: &'a mut Option<KafkaReader>,
    settings: &Settings,
    name: &str,
) -> Result<&'a mut KafkaReader, LogError> {
    match reader {
        Some(reader) => Ok(reader),
        None => Ok(reader.insert(KafkaReader::open(settings, name)?)),
    }
}

/// All partitions of some topics, of those that there are.
fn partitions(hold: &Hold, topics: &[String]) -> Result<Vec<Partition>, LogError> {
    let mut partitions = Vec::new();
    for topic in topics {
        let count = match hold.partition_count(topic) {
            Err(LogError::Unknown(_)) => 0,
            count => count?,
        };
        partitions.extend((0..count).map(|number| Partition::new(topic.as_str(), number)));
    }
    Ok(partitions)
}

impl Log for KafkaLog {
    fn poll(&mut self, wait: Duration) -> Result<Vec<Polled>, LogError> {
        if self.transactor.has_tried() && self.hold.waits_for_offsets(OTHERS) {
            // They may be waited for because of a transaction of ours.
            self.make_clear(&BTreeSet::new())?;
        }
        let mut polled = Vec::new();
        for event in self.hold.take(wait, POLL_BYTES, self.is_paused)? {
            polled.push(match event {
                Event::Assigned(partition, owned) => {
                    self.told.insert(partition.clone(), owned);
                    Polled::Assigned(partition, owned.committed)
                }
                Event::Revoked(partition) => {
                    self.told.remove(&partition);
                    self.transactor.forget(&partition);
                    Polled::Revoked(partition)
                }
                Event::Record(record) => Polled::Record(record),
            });
        }
        Ok(polled)
    }

    fn commit(&mut self, parts: &[(Partition, Part)]) -> Result<(), LogError> {
        self.hold.beat();
        for output in parts.iter().flat_map(|(_, part)| &part.outputs) {
            self.check(output)?;
        }
        plant::point("in_hand");
        // From here to the end of the transaction nothing of what is ours goes.
        let mut ownership = self.hold.ownership();
        let mut offsets = BTreeMap::new();
        for (partition, part) in parts {
            let owned = ownership.partitions.get(partition).filter(|owned| {
                self.told.get(partition).is_some_and(|told| told.assignment == owned.assignment)
            });
            let Some(owned) = owned.filter(|_| !self.hold.is_lost()) else {
                return Err(LogError::Lost(partition.clone()));
            };
            // Also where it does not move: so every transaction is bound to the group's generation, and can be found.
            offsets.insert(partition.clone(), part.through.unwrap_or(owned.committed));
        }
        let moves = |(_, part): &&(Partition, Part)| part.through.is_some();
        let witness = parts.iter().find(moves).or_else(|| parts.first());
        let transaction = Transaction {
            outputs: parts.iter().flat_map(|(_, part)| &part.outputs).collect(),
            witness: witness.and_then(|(partition, _)| offsets.get(partition).map(|next| (partition, *next))),
            offsets: offsets.clone(),
        };
        let metadata = plant::metadata(ownership.metadata.clone(), &self.settings, &self.name);
        let group = Group {
            metadata: metadata.as_deref(),
            is_lost: &|| self.hold.is_lost(),
            committed: &|partitions| self.hold.committed(partitions.iter().cloned()),
            inputs: &|| partitions(&self.hold, &self.reads),
            outputs: &|| partitions(&self.hold, &self.writes),
        };
        let reader = open(&mut self.reader, &self.settings, &self.name)?;
        self.transactor.run(&transaction, &group, reader)?;
        for (partition, next) in offsets {
            if let Some(owned) = ownership.partitions.get_mut(&partition) {
                owned.committed = next;
            }
        }
        Ok(())
    }

    fn tick(&mut self, partition: &Partition) -> Result<(), LogError> {
        self.hold.beat();
        let told = self.told.get(partition).map(|told| told.assignment);
        let owned = self.hold.ownership().partitions.get(partition).map(|owned| owned.assignment);
        if told.is_none() || told != owned {
            return Err(LogError::Lost(partition.clone()));
        }
        if self.producer.is_none() {
            self.producer = Some(KafkaProducer::open(&self.settings, &self.name)?);
        }
        let Some(producer) = &self.producer else { return Err(failed("no producer")) };
        producer.produce(&[Output::tick(partition.clone())])
    }

    fn replay(
        &mut self,
        partition: &Partition,
        since: Option<Micros>,
        each: &mut dyn FnMut(Record),
    ) -> Result<(), LogError> {
        // A transaction of the worker before us may be open for as long as it may last, and for the brokers' round.
        let patience = self.settings.transaction_timeout.duration() * 2 + Duration::from_secs(15);
        let deadline = Instant::now() + patience;
        // What we left open ourselves would be waited for in vain.
        self.make_clear(&BTreeSet::from([partition.clone()]))?;
        let reader = open(&mut self.reader, &self.settings, &self.name)?;
        let hold = &self.hold;
        reader.replay(partition, since, deadline, &|| hold.beat(), each)
    }

    fn pause(&mut self, paused: bool) {
        self.is_paused = paused;
    }

    fn now(&self) -> Micros {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
    }
}
