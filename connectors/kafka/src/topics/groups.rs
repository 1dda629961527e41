//! Where the stages' groups stand: whether each of them has begun, and whether what it reads next is still there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use killick_stages::route::{self, Hop, REANCHORING, ROUTE};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::TopicsError;
use super::finding::{Finding, Fix, Weight};
use super::judge::tool;
use super::plan::{Owner, Topic};
use crate::client::{ASK, Plain, consumer_config};
use crate::link::{Found, Link, passes};

/// How long brokers may take to agree who answers for a group.
const COORDINATED: Duration = Duration::from_secs(10);
/// Between two questions meanwhile.
const AGAIN: Duration = Duration::from_millis(200);

/// A stage's group and what it reads.
pub struct Group {
    /// The stage.
    pub hop: &'static Hop,
    /// What the brokers call the group.
    pub name: String,
    /// The topics that it reads and that are there, with the numbers of their partitions.
    inputs: Vec<(String, u32, Owner)>,
    /// The topic of its state, if it has one that is there.
    state: Option<(String, u32)>,
    consumer: BaseConsumer<Plain>,
}

/// Where a group stands in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It reads the offset `next` next; the topic ends before `end`.
    At { next: u64, end: u64 },
    /// It never was there: it may begin at this offset.
    New(u64),
    /// Its offset was removed: it was there, and nobody knows how far.
    Lost,
    /// What it reads next is not there; the topic has what is between.
    Gone { next: u64, first: u64, end: u64 },
}

/// Where a group stands in each partition of each topic that it reads.
pub type Standings = BTreeMap<String, Vec<Standing>>;

/// The groups of these stages, with these series of later anchors.
pub fn groups(
    link: &Link,
    topics: &[Topic],
    found: &BTreeMap<String, Found>,
    (stages, series): (&[&str], &[&str]),
) -> Result<Vec<Group>, TopicsError> {
    let count = |topic: &Topic| match found.get(&topic.name) {
        Some(Found::There { partitions, .. }) => Some((topic.name.clone(), *partitions)),
        _ => None,
    };
    let own = ROUTE.iter().map(|hop| (hop, hop.stage.to_owned()));
    let later = |hop: &'static Hop| series.iter().map(move |series| (hop, route::group(hop.stage, series)));
    let all = own.chain(REANCHORING.iter().flat_map(later));
    let mut groups = Vec::new();
    for (hop, group) in all.filter(|(hop, _)| stages.contains(&hop.stage)) {
        let reads = |topic: &&Topic| topic.readers.contains(&hop.stage) && hop.state != Some(&*topic.topic);
        let inputs = topics.iter().filter(reads);
        let inputs = inputs.filter_map(|topic| count(topic).map(|(name, count)| (name, count, topic.owner)));
        let name = link.names.group(&group);
        let mut config = consumer_config(&link.settings, &name, &name)?;
        config.set("statistics.interval.ms", "0");
        let consumer = config.create_with_context(Plain);
        groups.push(Group {
            hop,
            inputs: inputs.collect(),
            state: topics.iter().find(|topic| hop.state == Some(&*topic.topic)).and_then(count),
            consumer: consumer.map_err(|error| link.failed(format_args!("a consumer of {name}"), error))?,
            name,
        });
    }
    Ok(groups)
}

impl Group {
    /// The consumer that asks for the group; it never joins it.
    pub fn consumer(&self) -> &BaseConsumer<Plain> {
        &self.consumer
    }

    /// How many records the group has not read yet, of what is known; the ends of transactions count as records.
    pub fn lag(standings: &Standings) -> u64 {
        let behind = |stands: &Standing| match stands {
            Standing::At { next, end } => end.saturating_sub(*next),
            Standing::Gone { first, end, .. } => end.saturating_sub(*first),
            Standing::New(_) | Standing::Lost => 0,
        };
        standings.values().flatten().map(behind).fold(0, u64::saturating_add)
    }

    /// Who is at work in the group, by the names that clients gave themselves: those of their slots.
    pub fn members(&self, link: &Link) -> Result<Vec<String>, TopicsError> {
        let list = self.consumer.fetch_group_list(Some(&self.name), ASK);
        let list =
            list.map_err(|error| link.failed(format_args!("the members of group {}", self.name), error))?;
        let mut members: Vec<_> = list
            .groups()
            .iter()
            .filter(|group| group.name() == self.name)
            .flat_map(|group| group.members())
            .map(|member| member.client_id().to_owned())
            .collect();
        members.sort();
        Ok(members)
    }

    /// The group's offsets; none where it has none.
    fn committed(&self, link: &Link) -> Result<BTreeMap<String, Vec<Option<u64>>>, Unknown> {
        let mut list = TopicPartitionList::new();
        for (topic, count, _) in &self.inputs {
            for number in 0..i32::try_from(*count).unwrap_or(i32::MAX) {
                list.add_partition(topic, number);
            }
        }
        if list.count() == 0 {
            return Ok(BTreeMap::new());
        }
        let what = format!("the offsets of group {}", self.name);
        let deadline = Instant::now() + COORDINATED;
        let answer = loop {
            let answer = self.consumer.committed_offsets(list.clone(), ASK);
            let answer =
                answer.and_then(|list| list.elements().iter().try_for_each(|it| it.error()).map(|()| list));
            match answer {
                Ok(answer) => break answer,
                // A coordinator that may not be known is not found; why is told aside.
                Err(error) if is_denied(&error) || self.hears_denial() => return Err(Unknown::Denied),
                // The first question for any group makes the brokers choose who answers for it.
                Err(error) if passes(&error) && Instant::now() < deadline => std::thread::sleep(AGAIN),
                Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::OperationTimedOut) => {
                    // Brokers that restart can forget the end of a transaction; only an operator can end it then.
                    let tool = tool(&link.settings, "kafka-transactions");
                    let what = format!(
                        "{what} (a transaction that commits them has not ended; if it does not by its timeout, the brokers \
                         have forgotten it: `{tool} find-hanging --broker-id N` shows it, and `{tool} abort` ends it, in \
                         __consumer_offsets last)"
                    );
                    return Err(link.failed(&what, error).into());
                }
                Err(error) => return Err(link.failed(&what, error).into()),
            }
        };
        let mut committed: BTreeMap<String, Vec<Option<u64>>> = BTreeMap::new();
        for entry in answer.elements() {
            let offset = match entry.offset() {
                Offset::Offset(offset) => u64::try_from(offset).ok(),
                _ => None,
            };
            committed.entry(entry.topic().to_owned()).or_default().push(offset);
        }
        Ok(committed)
    }

    /// Whether the brokers have said that we may not use the group.
    fn hears_denial(&self) -> bool {
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            if event.is_err_and(|error| is_denied(&error)) {
                return true;
            }
        }
        false
    }

    /// Where the group stands.
    pub fn standings(&self, link: &Link, topics: &[Topic]) -> Result<Standings, Unknown> {
        let committed = self.committed(link)?;
        let state = match &self.state {
            Some((name, count)) => link.ranges(name, *count)?,
            None => Vec::new(),
        };
        let is_known = committed.values().flatten().any(Option::is_some);
        let has_written = self.hop.state.is_none() && !is_known && has_written(link, topics, self.hop)?;
        let mut standings = Standings::new();
        for (topic, count, owner) in &self.inputs {
            let offsets = committed.get(topic).map_or(&[][..], Vec::as_slice);
            let ranges = link.ranges(topic, *count)?;
            let stands = ranges.into_iter().enumerate().map(|(number, (first, end))| {
                let state_end = state.get(number).map_or(0, |(_, end)| *end);
                match offsets.get(number).copied().flatten() {
                    Some(next) if next < first || next > end => Standing::Gone { next, first, end },
                    Some(next) => Standing::At { next, end },
                    None if has_written || state_end > 0 => Standing::Lost,
                    None if first > 0 && *owner == Owner::Deployment => {
                        Standing::Gone { next: 0, first, end }
                    }
                    None => Standing::New(first),
                }
            });
            standings.insert(topic.clone(), stands.collect());
        }
        Ok(standings)
    }
}

/// Whether a stage without state has written anything.
fn has_written(link: &Link, topics: &[Topic], hop: &Hop) -> Result<bool, TopicsError> {
    let own = |topic: &&Topic| hop.writes.contains(&&*topic.topic) && topic.topic != route::REJECTED;
    for topic in topics.iter().filter(own) {
        if let Found::There { partitions, .. } = link.topic(&topic.name)?
            && link.ranges(&topic.name, partitions)?.iter().any(|(_, end)| *end > 0)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is wrong with where a group stands.
pub fn judge(link: &Link, group: &Group, standings: &Standings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (topic, stands) in standings {
        let which = |is: fn(&Standing) -> bool| numbers(stands, is);
        let mut finding = |found: String, wanted: &str, remedy: String, fix| {
            let about = format!("group {}", group.name);
            findings.push(Finding {
                about,
                found,
                wanted: wanted.to_owned(),
                remedy,
                weight: Weight::Breaks,
                fix,
            });
        };
        let reset = format!(
            "{} --group {} --topic {topic}",
            tool(&link.settings, "kafka-consumer-groups"),
            group.name
        );
        if let Some(numbers) = which(|stands| matches!(stands, Standing::New(_))) {
            finding(
                format!("it has not begun in {topic} (partitions {numbers})"),
                "an offset to begin at, so that one that was removed is found out",
                "`killick topics apply` sets it".to_owned(),
                Some(Fix::Begin),
            );
        }
        if let Some(numbers) = which(|stands| matches!(stands, Standing::Lost)) {
            finding(
                format!("it has no offset in {topic} (partitions {numbers}), though the stage has worked"),
                "the offset where it stopped, or events are proven twice",
                format!(
                    "find in topic {} how far it was, then {reset}:PARTITION --reset-offsets --to-offset OFFSET --execute; \
                     --to-earliest for a topic that it never read",
                    link.names.topic(route::AUDIT)
                ),
                None,
            );
        }
        let gone = stands.iter().enumerate().find_map(|(number, stands)| match stands {
            Standing::Gone { next, first, end } => Some((number, next, first, end)),
            _ => None,
        });
        if let Some((number, next, first, end)) = gone {
            finding(
                format!("offset {next} of {topic}/{number} is next, and the topic has {first} to {end}"),
                "an offset that is there: records were removed before they were read, or the topic was made anew",
                format!(
                    "find out which; to go on without them {reset}:{number} --reset-offsets --to-earliest --execute"
                ),
                None,
            );
        }
    }
    findings
}

/// Why it is not known where a group stands.
pub enum Unknown {
    /// We may not use the group.
    Denied,
    /// Anything else.
    Failed(TopicsError),
}

impl<E: Into<TopicsError>> From<E> for Unknown {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn is_denied(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
}

/// Numbers of partitions as people read them: `0-3, 7`.
fn numbers(stands: &[Standing], is: fn(&Standing) -> bool) -> Option<String> {
    let mut text = String::new();
    let mut run: Option<(usize, usize)> = None;
    let mut write = |(first, last): (usize, usize)| {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a text cannot fail.
        let _ = if first == last {
            write!(text, "{comma}{first}")
        } else {
            write!(text, "{comma}{first}-{last}")
        };
    };
    for number in stands.iter().enumerate().filter(|(_, stands)| is(stands)).map(|(number, _)| number) {
        run = match run {
            Some((first, last)) if last + 1 == number => Some((first, number)),
            Some(whole) => {
                write(whole);
                Some((number, number))
            }
            None => Some((number, number)),
        };
    }
    write(run?);
    Some(text)
}
