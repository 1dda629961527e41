//! What topics, groups and workers are called at the brokers.

use killick_stages::record::{Partition, Topic};
use killick_stages::route;

/// Names at the brokers: inner topics, groups and slots stand behind a prefix, so that one cluster can serve several
/// deployments; topics of others are called what they are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    prefix: Box<str>,
}

impl Names {
    /// Names behind a prefix, which may be empty.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// What a topic is called at the brokers.
    pub fn topic(&self, topic: &str) -> String {
        if route::is_inner(topic) { format!("{}{topic}", self.prefix) } else { topic.to_owned() }
    }

    /// The topic that is called so at the brokers.
    pub fn topic_of(&self, name: &str) -> Topic {
        name.strip_prefix(&*self.prefix).filter(|topic| route::is_inner(topic)).unwrap_or(name).into()
    }

    /// A partition, by its topic's name at the brokers and its number.
    pub fn partition_of(&self, name: &str, number: i32) -> Partition {
        Partition::new(self.topic_of(name), u32::try_from(number).unwrap_or_default())
    }

    /// What a consumer group is called: a stage's, or that of a tool.
    pub fn group(&self, group: &str) -> String {
        format!("{}{group}", self.prefix)
    }

    /// What a worker is called: its `group.instance.id` and `transactional.id`.
    pub fn worker(&self, group: &str, slot: &str) -> String {
        format!("{}{group}-{slot}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_topics_stand_behind_the_prefix_and_others_are_left_alone() {
        let names = Names::new("plant.");
        for (topic, name) in [
            (route::ACCEPTED, "plant.accepted"),
            (route::DEDUP_LOG, "plant.dedup-log"),
            (route::PROOFS, "plant.proofs"),
            (route::EVENTS, "events"),
            ("machines", "machines"),
            ("plant.machines", "plant.machines"),
        ] {
            assert_eq!(names.topic(topic), name);
            assert_eq!(names.topic_of(name).as_str(), topic);
        }
        assert_eq!(names.worker("dedup", "0"), "plant.dedup-0");
    }
}
