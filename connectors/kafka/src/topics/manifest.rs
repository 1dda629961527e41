//! `schemas/topics.yaml`: what the topics of every deployment are.

use killick_stages::span::Span;
use serde::{Deserialize, Deserializer};

/// The list, in its own order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `message.timestamp.type` of all topics.
    pub timestamps: String,
    #[serde(deserialize_with = "in_order")]
    pub topics: Vec<(String, Entry)>,
}

/// One topic.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    #[serde(rename = "for")]
    pub purpose: String,
    pub partitions: Count,
    #[serde(rename = "schema")]
    _schema: String,
    #[serde(rename = "key")]
    _key: String,
    pub cleanup: Cleanup,
    #[serde(default)]
    pub retention: Option<Retention>,
}

/// How many partitions a topic has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Count {
    /// One for each log.
    Logs,
    /// One for each chain.
    Chains,
    /// One.
    One,
    /// As its producers like.
    Free,
}

/// What becomes of old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cleanup {
    /// They go after a time.
    Delete,
    /// The last record of each key stays.
    Compact,
}

/// How long records stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    Forever,
    For(Span),
    /// So much longer than dedup's window.
    Beyond(Span),
}

impl Manifest {
    /// The list that this program was built with.
    pub fn ours() -> Self {
        serde_yaml_ng::from_str(killick_schemas::TOPICS).expect("a test reads the list of topics")
    }
}

impl Retention {
    /// Milliseconds, with this window of dedup; none for ever.
    pub fn millis(self, window: Span) -> Option<i64> {
        match self {
            Self::Forever => None,
            Self::For(span) => Some(span.micros() / 1_000),
            Self::Beyond(span) => Some((window.micros() + span.micros()) / 1_000),
        }
    }
}

impl<'de> Deserialize<'de> for Retention {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span = |text: &str| text.parse().map_err(serde::de::Error::custom);
        match text.strip_prefix("window + ") {
            Some(more) => span(more).map(Self::Beyond),
            None if text == "forever" => Ok(Self::Forever),
            None => span(&text).map(Self::For),
        }
    }
}

fn in_order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, Entry)>, D::Error> {
    let mapping = serde_yaml_ng::Mapping::deserialize(deserializer)?;
    let entry = |(name, entry)| {
        Ok((serde_yaml_ng::from_value::<String>(name)?, serde_yaml_ng::from_value::<Entry>(entry)?))
    };
    let entries: Result<Vec<_>, serde_yaml_ng::Error> = mapping.into_iter().map(entry).collect();
    entries.map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_topics_reads_as_it_stands() {
        let manifest = Manifest::ours();
        assert_eq!(manifest.timestamps, "LogAppendTime");
        let entry = |wanted| &manifest.topics.iter().find(|(name, _)| name == wanted).unwrap().1;
        let window = Span::secs(25 * 3_600);
        let days = |days: i64| days * 86_400_000;
        let millis = |name| entry(name).retention.map(|retention| retention.millis(window));
        assert_eq!(millis("accepted"), Some(Some(days(7) + 25 * 3_600_000)));
        assert_eq!(millis("rejected"), Some(Some(days(30))));
        assert_eq!(millis("batches"), Some(None));
        assert_eq!((millis("batch-log"), entry("batch-log").cleanup), (None, Cleanup::Compact));
        assert_eq!(
            (entry("events").partitions, entry("anchor-log").partitions),
            (Count::Free, Count::Chains)
        );
    }
}
