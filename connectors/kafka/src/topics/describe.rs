//! What a deployment's topics are, and what has come of them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::TopicsError;
use super::check::link_name;
use super::plan::{Owner, Topic, Wanted, plan};
use crate::link::{Configs, Found, Link};
use crate::settings::Settings;

/// A topic for people and programs to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// What the brokers call it.
    pub name: String,
    /// What the route calls it.
    pub topic: String,
    /// What it is for.
    pub purpose: String,
    /// Whether it is a source: others write it.
    pub is_source: bool,
    /// The stages that write it.
    pub writers: Vec<&'static str>,
    /// The stages that read it.
    pub readers: Vec<&'static str>,
    /// What it has to be.
    pub wanted: Shape,
    /// What it is; none if there is no such topic.
    pub found: Option<Shape>,
    /// Records that it keeps, about: marks of transactions count too. None if that cannot be known.
    pub records: Option<u64>,
}

/// What a topic is like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// The number of its partitions.
    pub partitions: u32,
    /// Replicas of each.
    pub replication: u32,
    /// Its configuration, as far as it matters here.
    pub configs: BTreeMap<String, String>,
}

/// Describes all topics of a deployment.
///
/// # Errors
/// [`TopicsError`] if the brokers cannot be asked.
pub fn describe(settings: &Settings, wanted: &Wanted<'_>) -> Result<Vec<Description>, TopicsError> {
    let link = Link::open(settings, &link_name(settings))?;
    let topics = plan(settings, wanted);
    let found = link.topics(topics.iter().map(|topic| topic.name.as_str()))?;
    let mut descriptions = Vec::new();
    for topic in topics {
        let mut records = None;
        let shape = match found.get(&topic.name) {
            Some(Found::There { partitions, replication, configs }) => {
                let ranges = link.ranges(&topic.name, *partitions)?;
                records = Some(ranges.iter().map(|(first, end)| end.saturating_sub(*first)).sum());
                Some(shape(&topic, *partitions, *replication, configs.as_ref()))
            }
            _ => None,
        };
        descriptions.push(Description {
            is_source: topic.owner != Owner::Deployment,
            wanted: wanted_shape(&topic),
            found: shape,
            records,
            name: topic.name,
            topic: topic.topic,
            purpose: topic.purpose,
            writers: topic.writers,
            readers: topic.readers,
        });
    }
    Ok(descriptions)
}

fn wanted_shape(topic: &Topic) -> Shape {
    let rules = topic.rules.iter().map(|rule| (rule.key.to_owned(), rule.value.clone()));
    Shape {
        partitions: topic.partitions.initial(),
        replication: topic.replication.into(),
        configs: rules.collect(),
    }
}

fn shape(topic: &Topic, partitions: u32, replication: u32, configs: Option<&Configs>) -> Shape {
    let keys = topic.rules.iter().map(|rule| rule.key);
    let keys = keys.chain((topic.owner != Owner::Deployment).then_some("retention.ms"));
    let configs = keys.filter_map(|key| Some((key.to_owned(), configs?.get(key)?.0.clone())));
    Shape { partitions, replication, configs: configs.collect() }
}
