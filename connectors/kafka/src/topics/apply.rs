//! Makes topics and sets what may be set; lets groups begin.
//!
//! Everything here may be done again, and by two at once: what the other made is there, what both set is the same, and
//! groups begin in a transaction of one name, of which the brokers let only the latest go on.

use std::time::{Duration, Instant};

use rdkafka::admin::{AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::util::Timeout;

use super::TopicsError;
use super::check::{Look, all_stages, all_that_is_wrong, link_name, look};
use super::finding::{Finding, Fix};
use super::groups::{Group, Standing, Standings, Unknown};
use super::judge::tool;
use super::plan::{Owner, Topic, Wanted};
use crate::access;
use crate::client::client_config;
use crate::link::{Found, Link, LinkError, options, wait};
use crate::settings::Settings;

/// What is committed beside an offset where a group begins.
const BEGUN: &str = "killick";
/// How long what was made may take to be seen.
const SEEN: Duration = Duration::from_secs(20);
/// How often groups are tried to begin where another who applies is in between.
const TRIES: usize = 5;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What was done, a line each; nothing if all was right.
    pub done: Vec<String>,
    /// What is still wrong: it takes somebody's decision.
    pub left: Vec<Finding>,
}

/// Makes the topics that are missing, sets what may be set without losing anything, and lets groups begin at the first
/// record that is kept where they have not begun. Shortens no retention, removes nothing, and adds no log.
///
/// # Errors
/// [`TopicsError`] if the brokers cannot be asked, or refuse; what was done until then stays.
pub fn apply(settings: &Settings, wanted: &Wanted<'_>) -> Result<Applied, TopicsError> {
    let link = Link::open(settings, &link_name(settings))?;
    let stages = all_stages(wanted);
    let mut done = Vec::new();
    let mut seen = look(&link, wanted, &stages)?;
    let is_forbidden = |topic: &&Topic| {
        topic.owner == Owner::Deployment && matches!(seen.found.get(&topic.name), Some(Found::Forbidden))
    };
    if let Some(topic) = seen.topics.iter().find(is_forbidden) {
        let what = format!("topic {}", topic.name);
        return Err(refused(&link, what, RDKafkaErrorCode::TopicAuthorizationFailed));
    }
    let changed = change_topics(&link, &seen, &mut done)?;
    if changed {
        seen = settled(&link, wanted, &stages)?;
    }
    let mut tries = 0;
    while seen.findings.iter().any(|finding| finding.fix == Some(Fix::Begin)) && tries < TRIES {
        tries += 1;
        match begin(&link, &seen, &mut done) {
            Err(error) if is_overtaken(&error) && tries < TRIES => {
                // Not in step with the other.
                std::thread::sleep(LOOK.mul_f64(1.0 + rand::random::<f64>()));
            }
            outcome => outcome?,
        }
        seen = look(&link, wanted, &stages)?;
    }
    Ok(Applied { done, left: all_that_is_wrong(settings, seen) })
}

/// Looks until nothing is left to make, or for as long as that may take to be seen.
fn settled(link: &Link, wanted: &Wanted<'_>, stages: &[&str]) -> Result<Look, TopicsError> {
    let deadline = Instant::now() + SEEN;
    loop {
        let seen = look(link, wanted, stages)?;
        let is_open = |finding: &Finding| finding.fix.as_ref().is_some_and(|fix| *fix != Fix::Begin);
        if !seen.findings.iter().any(is_open) || Instant::now() > deadline {
            return Ok(seen);
        }
        std::thread::sleep(LOOK);
    }
}

/// Whether anything was changed.
fn change_topics(link: &Link, seen: &Look, done: &mut Vec<String>) -> Result<bool, TopicsError> {
    let before = done.len();
    for topic in &seen.topics {
        let about = format!("topic {}", topic.name);
        let fixes = seen.findings.iter().filter(|finding| finding.about == about);
        let fixes: Vec<&Fix> = fixes.filter_map(|finding| finding.fix.as_ref()).collect();
        if fixes.contains(&&Fix::Make) {
            done.extend(make(link, topic)?);
            continue;
        }
        for fix in &fixes {
            if let Fix::Grow(count) = fix {
                done.extend(grow(link, topic, *count)?);
            }
        }
        let set: Vec<(&str, &str)> = fixes
            .iter()
            .filter_map(|fix| match fix {
                Fix::Set(key, value) => Some((*key, value.as_str())),
                _ => None,
            })
            .collect();
        if !set.is_empty() {
            done.extend(configure(link, topic, seen.found.get(&topic.name), &set)?);
        }
    }
    Ok(done.len() > before)
}

fn make(link: &Link, topic: &Topic) -> Result<Option<String>, TopicsError> {
    let count = topic.partitions.initial();
    let partitions = i32::try_from(count).unwrap_or(i32::MAX);
    let mut new = NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(topic.replication.into()));
    for (key, value) in &topic.made_with {
        new = new.set(key, value);
    }
    let what = format!("topic {}", topic.name);
    let answer = wait(link.admin.create_topics([&new], &options()));
    let made = answer.map_err(|error| link.failed(&what, error))?.into_iter().next();
    match made {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(None),
        Some(Err((_, code))) => Err(refused(link, what, code)),
        Some(Ok(_)) | None => Ok(Some(format!("made {what} with {count} partitions"))),
    }
}

fn grow(link: &Link, topic: &Topic, count: u32) -> Result<Option<String>, TopicsError> {
    let total = usize::try_from(count).unwrap_or(usize::MAX);
    let what = format!("partitions of {}", topic.name);
    let answer = wait(link.admin.create_partitions([&NewPartitions::new(&topic.name, total)], &options()));
    let grown = answer.map_err(|error| link.failed(&what, error))?.into_iter().next();
    match grown {
        // The other who applies has added them.
        Some(Err((_, RDKafkaErrorCode::InvalidPartitions))) => Ok(None),
        Some(Err((_, code))) => Err(refused(link, what, code)),
        Some(Ok(_)) | None => Ok(Some(format!("topic {} has {count} partitions now", topic.name))),
    }
}

/// Sets what is to be set beside all that was set for this topic before: the request replaces the whole.
fn configure(
    link: &Link,
    topic: &Topic,
    found: Option<&Found>,
    set: &[(&str, &str)],
) -> Result<Option<String>, TopicsError> {
    let Some(Found::There { configs: Some(configs), .. }) = found else { return Ok(None) };
    let mut alter = AlterConfig::new(ResourceSpecifier::Topic(&topic.name));
    for (key, (value, is_own)) in configs {
        if *is_own {
            alter = alter.set(key, value);
        }
    }
    for (key, value) in set {
        alter = alter.set(key, value);
    }
    let what = format!("the configuration of {}", topic.name);
    wait(link.admin.alter_configs([&alter], &options())).map_err(|error| link.failed(&what, error))?;
    let set: Vec<_> = set.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Ok(Some(format!("set {} of topic {}", set.join(", "), topic.name)))
}

/// Whether that is the lack of a right.
fn is_denied(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
    )
}

/// What whoever applies needs.
fn rights(link: &Link) -> String {
    let Settings { prefix, .. } = &link.settings;
    let pattern = match prefix.as_str() {
        "" => "--topic '*' --group '*' --transactional-id '*'".to_owned(),
        _ => format!(
            "--resource-pattern-type prefixed --topic {prefix} --group {prefix} --transactional-id {prefix}"
        ),
    };
    format!(
        "whoever applies needs all rights on what is the deployment's, and Read and DescribeConfigs on its sources: {} --add \
         --allow-principal '{}' --operation All {pattern}",
        tool(&link.settings, "kafka-acls"),
        access::principal(&link.settings),
    )
}

fn refused(link: &Link, what: String, code: RDKafkaErrorCode) -> TopicsError {
    let remedy = match code {
        code if is_denied(code) => rights(link),
        RDKafkaErrorCode::InvalidReplicationFactor => {
            format!("the cluster has {} brokers: see [kafka] replication", link.brokers)
        }
        RDKafkaErrorCode::PolicyViolation | RDKafkaErrorCode::InvalidConfig => {
            "the cluster does not allow its settings; `killick topics describe --output json` shows them: make it by \
             hand with what is allowed, and see what `killick topics check` says"
                .to_owned()
        }
        _ => "see the brokers' log".to_owned(),
    };
    TopicsError::Refused { what, code, remedy }
}

/// Lets groups begin where they have not. One transactional id for all who apply: whoever starts it ends those before,
/// and reads the offsets only then. So nobody sets an offset where another has, however long they slept in between.
fn begin(link: &Link, seen: &Look, done: &mut Vec<String>) -> Result<(), TopicsError> {
    let name = link.names.worker("topics", "apply");
    let mut config: ClientConfig = client_config(&link.settings, &name)?;
    config.set("transactional.id", &name).set("transaction.timeout.ms", "15000");
    let what = "the first offsets of the groups";
    let denied = |code| refused(link, what.to_owned(), code);
    let failed = |error: KafkaError| match error.rdkafka_error_code() {
        Some(code) if is_denied(code) => denied(code),
        _ => link.failed(what, error).into(),
    };
    let producer: BaseProducer<DefaultProducerContext> = config.create().map_err(&failed)?;
    producer.init_transactions(Duration::from_secs(20)).map_err(&failed)?;
    for group in &seen.groups {
        let standings = match group.standings(link, &seen.topics) {
            Ok(standings) => standings,
            Err(Unknown::Denied) => return Err(denied(RDKafkaErrorCode::GroupAuthorizationFailed)),
            Err(Unknown::Failed(error)) => return Err(error),
        };
        let Some((list, count)) = beginnings(&standings).map_err(&failed)? else { continue };
        commit(&producer, group, &list).map_err(&failed)?;
        done.push(format!("group {} begins in {count} partitions", group.name));
    }
    Ok(())
}

/// Whether another who applies has taken over.
fn is_overtaken(error: &TopicsError) -> bool {
    use RDKafkaErrorCode as Code;
    let TopicsError::Link(LinkError::Asked(asked)) = error else { return false };
    matches!(
        asked.cause.rdkafka_error_code(),
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::ConcurrentTransactions)
    )
}

fn commit(producer: &BaseProducer, group: &Group, list: &TopicPartitionList) -> Result<(), KafkaError> {
    // Of no member: the group may be at work in other partitions.
    let Some(metadata) = group.consumer().group_metadata() else {
        return Err(KafkaError::ClientCreation("the consumer has no group".to_owned()));
    };
    producer.begin_transaction()?;
    producer.send_offsets_to_transaction(list, &metadata, Timeout::Never)?;
    producer.commit_transaction(Timeout::Never)
}

fn beginnings(standings: &Standings) -> Result<Option<(TopicPartitionList, usize)>, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (topic, stands) in standings {
        for (number, stands) in stands.iter().enumerate() {
            let Standing::New(first) = stands else { continue };
            let (number, first) =
                (i32::try_from(number).unwrap_or(i32::MAX), i64::try_from(*first).unwrap_or(i64::MAX));
            let mut entry = list.add_partition(topic, number);
            entry.set_offset(Offset::Offset(first))?;
            entry.set_metadata(BEGUN);
        }
    }
    let count = list.count();
    Ok((count > 0).then_some((list, count)))
}
