//! What a deployment's topics have to be.

use killick_stages::deployment::Deployment;
use killick_stages::route::{self, REANCHORING, ROUTE};
use killick_stages::source::{Freshness, Source, Timestamps};
use killick_stages::span::Span;

use super::manifest::{Cleanup, Count, Entry, Manifest};
use crate::names::Names;
use crate::settings::Settings;

/// Bytes that a record may be longer at the brokers than its key, value and headers: what frames it and its batch.
const FRAMING: usize = 64 << 10;
/// Bytes in a segment of a compacted topic: only closed segments are compacted, and all is read back at a start.
const STATE_SEGMENT: usize = 16 << 20;
/// How long a segment of a topic whose records go may stay open: so late they go after their time.
const SEGMENT_MILLIS: i64 = 86_400_000;
/// How long the end of a key stays: longer than any reading back of state takes.
const ENDED_KEY_MILLIS: i64 = 86_400_000;

/// What the topics of a deployment depend on.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The logs and chains.
    pub deployment: &'a Deployment,
    /// Dedup's window.
    pub window: Span,
    /// The sources.
    pub sources: &'a [Source],
    /// The names of the series of later anchors.
    pub series: Vec<&'a str>,
    /// Partitions of `events` where it has to be made. Default: as many as there are logs.
    pub input_partitions: Option<u32>,
}

/// A topic as a deployment needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// What the route calls it.
    pub topic: String,
    /// What the brokers call it.
    pub name: String,
    /// What it is for.
    pub purpose: String,
    /// Whose it is.
    pub owner: Owner,
    /// How many partitions it has.
    pub partitions: Partitions,
    /// Replicas of each.
    pub replication: u16,
    /// What it is made with.
    pub made_with: Vec<(&'static str, String)>,
    /// What its configuration has to be.
    pub rules: Vec<Rule>,
    /// The stages that read it.
    pub readers: Vec<&'static str>,
    /// The stages that write it; for a source, others do.
    pub writers: Vec<&'static str>,
}

/// Whose a topic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The deployment's: made and changed as it needs.
    Deployment,
    /// Its producers': never changed; made only if it is one that we describe ourselves.
    Producers {
        /// Whether it is made where it is missing.
        is_made: bool,
    },
}

/// How many partitions a topic has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitions {
    /// So many and no other number: what stands in them goes by their number.
    Exactly(u32),
    /// So many; fewer may become more, at the end.
    Growing(u32),
    /// Any number; so many where it is made.
    Any(u32),
}

impl Partitions {
    /// How many it has where it is made.
    pub fn initial(self) -> u32 {
        match self {
            Self::Exactly(count) | Self::Growing(count) | Self::Any(count) => count,
        }
    }
}

/// What one setting of a topic has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name at the brokers.
    pub key: &'static str,
    /// The value that it is given.
    pub value: String,
    /// What else it may be.
    pub allows: Allows,
    /// Whether a promise breaks where it is something else.
    pub is_promise: bool,
    /// What happens then.
    pub otherwise: &'static str,
}

/// Which values a rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allows {
    /// This one only.
    Same,
    /// This number or more; −1 is more than any.
    More,
    /// This number or less.
    Less,
}

/// The topics of a deployment: all inner ones, then those of the sources.
pub fn plan(settings: &Settings, wanted: &Wanted<'_>) -> Vec<Topic> {
    let names = Names::new(&settings.prefix);
    let manifest = Manifest::ours();
    let logs = wanted.deployment.logs();
    let chains = u32::try_from(wanted.deployment.chains().len()).unwrap_or(u32::MAX);
    let mut topics = Vec::new();
    let is_wanted =
        |topic: &str| route::is_inner(topic) && (!wanted.series.is_empty() || !route::is_reanchoring(topic));
    for (topic, entry) in manifest.topics.iter().filter(|(topic, _)| is_wanted(topic)) {
        let rules = inner_rules(settings, entry, &manifest.timestamps, wanted.window);
        topics.push(Topic {
            topic: topic.clone(),
            name: names.topic(topic),
            purpose: entry.purpose.clone(),
            owner: Owner::Deployment,
            partitions: match entry.partitions {
                Count::Logs => Partitions::Exactly(logs),
                Count::Chains => Partitions::Growing(chains),
                Count::One => Partitions::Exactly(1),
                Count::Free => Partitions::Any(logs),
            },
            replication: settings.replication,
            made_with: made_with(&rules),
            rules,
            readers: readers(topic, wanted),
            writers: writers(topic, wanted),
        });
    }
    for source in wanted.sources {
        let own = manifest.topics.iter().find(|(topic, _)| *topic == source.topic);
        let made_with = own.map_or_else(Vec::new, |(_, entry)| {
            made_with(&inner_rules(settings, entry, &manifest.timestamps, wanted.window))
        });
        topics.push(Topic {
            topic: source.topic.clone(),
            name: source.topic.clone(),
            purpose: own.map_or_else(|| "A source.".to_owned(), |(_, entry)| entry.purpose.clone()),
            owner: Owner::Producers { is_made: own.is_some() },
            partitions: Partitions::Any(wanted.input_partitions.unwrap_or(logs)),
            replication: settings.replication,
            made_with,
            rules: source_rules(settings, source),
            readers: vec!["ingest"],
            writers: Vec::new(),
        });
    }
    topics
}

fn made_with(rules: &[Rule]) -> Vec<(&'static str, String)> {
    rules.iter().map(|rule| (rule.key, rule.value.clone())).collect()
}

/// The stages of a deployment.
pub fn hops(wanted: &Wanted<'_>) -> impl Iterator<Item = &'static route::Hop> {
    let later = REANCHORING.iter().filter(|_| !wanted.series.is_empty());
    ROUTE.iter().chain(later)
}

fn readers(topic: &str, wanted: &Wanted<'_>) -> Vec<&'static str> {
    let reads = |hop: &&route::Hop| hop.reads.contains(&topic) || hop.state == Some(topic);
    hops(wanted).filter(reads).map(|hop| hop.stage).collect()
}

fn writers(topic: &str, wanted: &Wanted<'_>) -> Vec<&'static str> {
    let writes =
        |hop: &&route::Hop| topic == route::AUDIT || hop.writes.contains(&topic) || hop.state == Some(topic);
    hops(wanted).filter(writes).map(|hop| hop.stage).collect()
}

fn inner_rules(settings: &Settings, entry: &Entry, timestamps: &str, window: Span) -> Vec<Rule> {
    let largest = settings.max_record + FRAMING;
    let mut rules = Vec::new();
    let mut rule = |key, value: &dyn ToString, allows, is_promise, otherwise| {
        rules.push(Rule { key, value: value.to_string(), allows, is_promise, otherwise });
    };
    rule(
        "message.timestamp.type",
        &timestamps,
        Allows::Same,
        true,
        "whoever writes chooses the time that windows and dedup go by",
    );
    match entry.cleanup {
        Cleanup::Delete => {
            let millis = entry.retention.and_then(|retention| retention.millis(window));
            rule("cleanup.policy", &"delete", Allows::Same, true, "records go though nobody has read them");
            rule(
                "retention.ms",
                &millis.unwrap_or(-1),
                Allows::More,
                true,
                "records go before they are done with",
            );
            rule("retention.bytes", &-1, Allows::Same, true, "records go before their time");
            if millis.is_some() {
                rule(
                    "segment.ms",
                    &SEGMENT_MILLIS,
                    Allows::Less,
                    false,
                    "records stay much longer than their time",
                );
            }
        }
        Cleanup::Compact => {
            rule(
                "cleanup.policy",
                &"compact",
                Allows::Same,
                true,
                "state goes with its age, or grows for ever",
            );
            rule(
                "delete.retention.ms",
                &ENDED_KEY_MILLIS,
                Allows::More,
                true,
                "state that was ended can come back while it is read",
            );
            rule(
                "segment.bytes",
                &STATE_SEGMENT.max(2 * largest),
                Allows::Less,
                false,
                "much that is void is read back at every start",
            );
            rule(
                "segment.ms",
                &SEGMENT_MILLIS,
                Allows::Less,
                false,
                "much that is void is read back at every start",
            );
        }
    }
    rule(
        "min.insync.replicas",
        &settings.min_in_sync,
        Allows::More,
        true,
        "the loss of a broker loses what was accepted",
    );
    rule(
        "unclean.leader.election.enable",
        &false,
        Allows::Same,
        true,
        "a broker that comes back first undoes what was accepted",
    );
    rule("max.message.bytes", &largest, Allows::More, true, "records that the stages make are refused");
    rules
}

/// What we ask of topics that are not ours.
fn source_rules(settings: &Settings, source: &Source) -> Vec<Rule> {
    let mut rules = vec![Rule {
        key: "cleanup.policy",
        value: "delete".to_owned(),
        allows: Allows::Same,
        is_promise: true,
        otherwise: "events go though nobody has read them",
    }];
    if source.timestamps == Timestamps::Log {
        rules.push(Rule {
            key: "message.timestamp.type",
            value: "LogAppendTime".to_owned(),
            allows: Allows::Same,
            is_promise: true,
            otherwise: "its producers choose the time that freshness goes by",
        });
    }
    if let Freshness::Within(span) = source.freshness {
        rules.push(Rule {
            key: "retention.ms",
            value: (span.micros() / 1_000).to_string(),
            allows: Allows::More,
            is_promise: true,
            otherwise: "events go before they are read, though they would be fresh enough",
        });
    }
    let advice = [
        ("retention.bytes", "-1".to_owned(), Allows::Same, "events can go before their time"),
        (
            "min.insync.replicas",
            settings.min_in_sync.to_string(),
            Allows::More,
            "the loss of a broker loses events that producers believe to be taken",
        ),
        (
            "unclean.leader.election.enable",
            "false".to_owned(),
            Allows::Same,
            "a broker that comes back first undoes what producers believe to be taken",
        ),
    ];
    rules.extend(advice.map(|(key, value, allows, otherwise)| Rule {
        key,
        value,
        allows,
        is_promise: false,
        otherwise,
    }));
    rules
}

#[cfg(test)]
mod tests {
    use killick_stages::deployment;

    use super::*;

    fn planned(sources: &[Source], input_partitions: Option<u32>) -> Vec<Topic> {
        let config = deployment::Config { logs: 8, chains: vec![0, 1, 2], ..Default::default() };
        let deployment = Deployment::new(&config).unwrap();
        let window = Span::secs(25 * 3_600);
        let wanted =
            Wanted { deployment: &deployment, window, sources, series: Vec::new(), input_partitions };
        plan(&Settings::default(), &wanted)
    }

    #[test]
    fn inner_topics_stand_behind_the_prefix_and_sources_do_not() {
        let topics = planned(&[Source::new("machines")], None);
        assert!(topics.iter().all(|topic| {
            (topic.owner == Owner::Deployment) == (topic.name == format!("killick.{}", topic.topic))
        }));
        let machines = topics.last().unwrap();
        assert_eq!(
            (machines.name.as_str(), machines.owner),
            ("machines", Owner::Producers { is_made: false })
        );
        // What no source reads is not asked for.
        assert!(topics.iter().all(|topic| topic.topic != route::EVENTS));
    }

    #[test]
    fn the_topic_of_our_own_envelopes_is_made_and_otherwise_its_producers() {
        let topics = planned(&[Source::new(route::EVENTS)], Some(6));
        let events = topics.last().unwrap();
        assert_eq!(
            (events.owner, events.partitions),
            (Owner::Producers { is_made: true }, Partitions::Any(6))
        );
        let made_with =
            |key| events.made_with.iter().find(|(made, _)| *made == key).map(|(_, value)| value.as_str());
        assert_eq!(made_with("retention.ms"), Some("694800000"));
        assert_eq!(made_with("message.timestamp.type"), Some("LogAppendTime"));
        // Made with more than is asked of it: a day is enough for events that may be a day old.
        let asked = events.rules.iter().find(|rule| rule.key == "retention.ms").unwrap();
        assert_eq!(asked.value, "86400000");
    }

    #[test]
    fn segments_of_state_hold_the_largest_record() {
        let config = deployment::Config::default();
        let deployment = Deployment::new(&config).unwrap();
        let settings = Settings { max_record: 100_000_000, ..Settings::default() };
        let window = Span::secs(25 * 3_600);
        let wanted = Wanted {
            deployment: &deployment,
            window,
            sources: &[],
            series: vec!["elsewhere"],
            input_partitions: None,
        };
        assert_eq!(
            plan(&settings, &wanted).iter().filter(|topic| route::is_reanchoring(&topic.topic)).count(),
            4
        );
        for topic in plan(&settings, &wanted) {
            let value = |key| {
                let rule = topic.rules.iter().find(|rule| rule.key == key)?;
                rule.value.parse::<u64>().ok()
            };
            let Some(segment) = value("segment.bytes") else { continue };
            assert!(segment > value("max.message.bytes").unwrap(), "{}", topic.name);
        }
    }
}
