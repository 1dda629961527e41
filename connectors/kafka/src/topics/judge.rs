//! Holds topics as they are against what they have to be.

use killick_stages::route;

use super::finding::{Finding, Fix, Weight};
use super::plan::{Allows, Owner, Partitions, Rule, Topic};
use crate::access::Acl;
use crate::link::{Configs, Found};
use crate::settings::Settings;

/// What is wrong with a topic; `rights` gets those that were missing in looking.
pub fn judge(settings: &Settings, topic: &Topic, found: &Found, rights: &mut Vec<Acl>) -> Vec<Finding> {
    match found {
        Found::Missing => vec![missing(settings, topic)],
        Found::Forbidden => {
            rights
                .extend(["Describe", "DescribeConfigs"].map(|operation| Acl::topic(operation, &topic.name)));
            Vec::new()
        }
        Found::There { partitions, replication, configs } => {
            let mut findings = Vec::new();
            findings.extend(counted(topic, *partitions));
            findings.extend(replicated(settings, topic, *replication));
            match configs {
                Some(configs) => {
                    for rule in &topic.rules {
                        findings.extend(ruled(settings, topic, rule, configs));
                    }
                    findings.extend(writable(settings, topic, *replication, configs));
                }
                None => rights.push(Acl::topic("DescribeConfigs", &topic.name)),
            }
            findings
        }
    }
}

/// What is wrong with the names of sources: a topic of the deployment is no source of it.
pub fn collisions(topics: &[Topic]) -> Vec<Finding> {
    let is_inner = |name: &str| {
        route::is_inner(name)
            || topics.iter().any(|topic| topic.owner == Owner::Deployment && topic.name == name)
    };
    let sources = topics.iter().filter(|topic| topic.owner != Owner::Deployment);
    sources
        .filter(|source| is_inner(&source.name))
        .map(|source| Finding {
            about: format!("topic {}", source.name),
            found: "it is a source, and a topic that the stages write".to_owned(),
            wanted: "a topic that others write".to_owned(),
            remedy: "name another topic in [[source]], or set another [kafka] prefix".to_owned(),
            weight: Weight::Breaks,
            fix: None,
        })
        .collect()
}

fn missing(settings: &Settings, topic: &Topic) -> Finding {
    let count = topic.partitions.initial();
    let (remedy, fix) = match topic.owner {
        Owner::Deployment | Owner::Producers { is_made: true } => {
            ("`killick topics apply` makes it".to_owned(), Some(Fix::Make))
        }
        Owner::Producers { is_made: false } => (
            format!(
                "is it the right name in [[source]]? else {} --create --topic {} --partitions {count} \
                 --replication-factor {} --config message.timestamp.type=LogAppendTime",
                tool(settings, "kafka-topics"),
                topic.name,
                settings.replication
            ),
            None,
        ),
    };
    Finding {
        about: format!("topic {}", topic.name),
        found: "there is no such topic".to_owned(),
        wanted: format!("a topic with {count} partitions"),
        remedy,
        weight: Weight::Breaks,
        fix,
    }
}

fn counted(topic: &Topic, found: u32) -> Option<Finding> {
    let (wanted, remedy, fix) = match topic.partitions {
        Partitions::Any(_) => return None,
        Partitions::Exactly(count) | Partitions::Growing(count) if found == count => return None,
        Partitions::Growing(count) if found < count => (
            format!("{count}, one for each of [deployment] chains"),
            "`killick topics apply` adds them".to_owned(),
            Some(Fix::Grow(count)),
        ),
        Partitions::Growing(count) => (
            format!("{count}, one for each of [deployment] chains"),
            "chains are added at the end and never removed: list all of them again".to_owned(),
            None,
        ),
        Partitions::Exactly(count) => (
            format!(
                "{count}, one for each of [deployment] logs: which log an event is in goes by that number"
            ),
            format!(
                "set [deployment] logs = {found} again if this deployment began so; another number of logs needs another \
                 [deployment] generation and [kafka] prefix"
            ),
            None,
        ),
    };
    Some(Finding {
        about: format!("topic {}", topic.name),
        found: format!("it has {found} partitions"),
        wanted,
        remedy,
        weight: Weight::Breaks,
        fix,
    })
}

fn replicated(settings: &Settings, topic: &Topic, found: u32) -> Option<Finding> {
    (found < u32::from(topic.replication)).then(|| Finding {
        about: format!("topic {}", topic.name),
        found: format!("its partitions have {found} replicas"),
        wanted: format!("{}, as [kafka] replication says", topic.replication),
        remedy: format!(
            "{} --execute with a plan of {} replicas for each partition",
            tool(settings, "kafka-reassign-partitions"),
            topic.replication
        ),
        weight: if topic.owner == Owner::Deployment { Weight::Breaks } else { Weight::Advice },
        fix: None,
    })
}

fn ruled(settings: &Settings, topic: &Topic, rule: &Rule, configs: &Configs) -> Option<Finding> {
    // What a broker does not know it does not do; all that we ask for is as old as Kafka 2.
    let (found, _) = configs.get(rule.key)?;
    if rule.allows(found) {
        return None;
    }
    let Rule { key, value, otherwise, .. } = rule;
    let bound = match rule.allows {
        Allows::Same => "",
        Allows::More => " or more",
        Allows::Less => " or less",
    };
    let command = format!(
        "{} --alter --entity-type topics --entity-name {} --add-config {key}={value}",
        tool(settings, "kafka-configs"),
        topic.name
    );
    let is_ours = topic.owner == Owner::Deployment;
    let remedy = match (is_ours, *key) {
        (true, _) => format!("`killick topics apply` sets it, or {command}"),
        (false, "message.timestamp.type") => {
            format!(
                "{command}; or trust its producers with the time: timestamps = \"producer\" in its [[source]]"
            )
        }
        (false, "retention.ms") => format!("{command}; or a shorter freshness in its [[source]]"),
        _ => command,
    };
    Some(Finding {
        about: format!("topic {}", topic.name),
        found: format!("{key} is {}", shown(key, found)),
        wanted: format!("{}{bound}, or {otherwise}", shown(key, value)),
        remedy,
        weight: if rule.is_promise { Weight::Breaks } else { Weight::Advice },
        fix: is_ours.then(|| Fix::Set(key, value.clone())),
    })
}

/// More replicas that have to be in sync than there are: then nothing can be written.
fn writable(settings: &Settings, topic: &Topic, replication: u32, configs: &Configs) -> Option<Finding> {
    let in_sync: u32 = configs.get("min.insync.replicas")?.0.parse().ok()?;
    (in_sync > replication).then(|| Finding {
        about: format!("topic {}", topic.name),
        found: format!("min.insync.replicas is {in_sync}, and its partitions have {replication} replicas"),
        wanted: format!("{replication} or less, or nothing can be written"),
        remedy: format!(
            "{} --alter --entity-type topics --entity-name {} --add-config min.insync.replicas={}",
            tool(settings, "kafka-configs"),
            topic.name,
            u32::from(settings.min_in_sync).min(replication)
        ),
        weight: Weight::Breaks,
        fix: None,
    })
}

impl Rule {
    /// Whether a value will do.
    pub fn allows(&self, found: &str) -> bool {
        // −1 is more than any number.
        let number =
            |text: &str| text.parse::<i64>().ok().map(|number| if number < 0 { i64::MAX } else { number });
        match (self.allows, number(found), number(&self.value)) {
            (Allows::More, Some(found), Some(wanted)) => found >= wanted,
            (Allows::Less, Some(found), Some(wanted)) => found <= wanted,
            _ => found == self.value,
        }
    }
}

/// A value with its meaning beside it.
fn shown(key: &str, value: &str) -> String {
    match value.parse::<u64>() {
        Ok(millis) if key.ends_with(".ms") && millis > 0 => {
            let hours = millis / 3_600_000;
            let (count, unit) = match millis {
                _ if millis % 3_600_000 == 0 && hours % 24 == 0 => (hours / 24, "d"),
                _ if millis % 3_600_000 == 0 => (hours, "h"),
                _ if millis % 60_000 == 0 => (millis / 60_000, "m"),
                _ if millis % 1_000 == 0 => (millis / 1_000, "s"),
                _ => return value.to_owned(),
            };
            format!("{value} ({count}{unit})")
        }
        Err(_) if value == "-1" => "-1 (no limit)".to_owned(),
        _ => value.to_owned(),
    }
}

/// A tool of Kafka's with what it needs to reach the brokers.
pub fn tool(settings: &Settings, name: &str) -> String {
    let brokers = settings.brokers.join(",");
    let is_secure = settings.security.tls || settings.security.mechanism.is_some();
    let credentials = if is_secure { " --command-config admin.properties" } else { "" };
    format!("{name} --bootstrap-server {brokers}{credentials}")
}
