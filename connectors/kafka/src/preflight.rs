//! Whether stages can run: looked at before they start, so that what is wrong is said once, with its remedy.

use std::collections::{BTreeMap, BTreeSet};

use killick_stages::route::{self, Hop, REANCHORING, ROUTE};

use crate::access::{self, Acl, Denied};
use crate::link::{Found, Link, side_by_side};
use crate::settings::Settings;
use crate::topics::{Finding, Findings, Look, Topic, TopicsError, Wanted, look};

/// A worker that is about to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Starting<'a> {
    /// Its stage.
    pub stage: &'a str,
    /// Its consumer group: mostly called like the stage.
    pub group: &'a str,
    /// Its slot.
    pub slot: &'a str,
}

/// Looks whether these workers can run: the brokers, the topics they read and write, where their groups stand, and
/// whether they may do what they will do. Ends transactions that were left open by workers in the same slots, as the
/// workers themselves would. Gives what is not well, but can be run.
///
/// # Errors
/// [`TopicsError::Unfit`] with all that is wrong; [`TopicsError::Link`] within 10 seconds if no broker can be used.
pub fn preflight(
    settings: &Settings,
    wanted: &Wanted<'_>,
    workers: &[Starting<'_>],
) -> Result<Vec<Finding>, TopicsError> {
    let link = Link::open(settings, &format!("{}preflight", settings.prefix))?;
    let is_starting = |hop: &&Hop| workers.iter().any(|worker| worker.stage == hop.stage);
    let hops: Vec<&Hop> = ROUTE.iter().chain(&REANCHORING).filter(is_starting).collect();
    let stages: Vec<&str> = hops.iter().map(|hop| hop.stage).collect();
    // First: where a transaction is open, nobody learns how far its group is.
    let denied = start_transactions(&link, workers)?;
    let Look { topics, found, mut findings, mut rights, .. } = look(&link, wanted, &stages)?;
    rights.extend(tried(&link, &topics, &found, (&hops, workers))?);
    for denied in denied {
        match denied {
            Denied::Right(right) => rights.push(right),
            Denied::Other(finding) => findings.push(finding),
        }
    }
    findings.extend(access::missing(settings, rights));
    let (breaking, advice): (Vec<_>, Vec<_>) = findings.into_iter().partition(Finding::is_breaking);
    if breaking.is_empty() { Ok(advice) } else { Err(TopicsError::Unfit(Findings(breaking))) }
}

/// Whether a stage writes to a topic: also ticks, to what batch, anchor and reanchor read.
fn is_written(hop: &Hop, topic: &Topic) -> bool {
    let ticks = [route::UNIQUE, route::CHECKPOINTS, route::REANCHOR].contains(&&*topic.topic);
    topic.writers.contains(&hop.stage) || (ticks && hop.reads.contains(&&*topic.topic))
}

/// The rights that these stages lack to read and write.
fn tried(
    link: &Link,
    topics: &[Topic],
    found: &BTreeMap<String, Found>,
    (hops, workers): (&[&Hop], &[Starting<'_>]),
) -> Result<Vec<Acl>, TopicsError> {
    let (mut rights, mut writes) = (Vec::new(), BTreeSet::new());
    let mut groups = Vec::new();
    for hop in hops {
        let mut reads = Vec::new();
        for topic in topics {
            let is_read = topic.readers.contains(&hop.stage);
            match found.get(&topic.name) {
                Some(Found::There { partitions, .. }) => {
                    reads.extend(is_read.then(|| (topic.name.clone(), *partitions)));
                    writes.extend(is_written(hop, topic).then(|| topic.name.clone()));
                }
                // Whoever may read or write may know of the topic, too.
                Some(Found::Forbidden) => {
                    rights.extend(is_read.then(|| Acl::topic("Read", &topic.name)));
                    rights.extend(is_written(hop, topic).then(|| Acl::topic("Write", &topic.name)));
                }
                Some(Found::Missing) | None => {}
            }
        }
        let of_hop = workers.iter().filter(|worker| worker.stage == hop.stage).map(|worker| worker.group);
        let names: BTreeSet<_> = of_hop.collect();
        groups.extend(names.into_iter().map(|group| (link.names.group(group), reads.clone())));
    }
    let mut outcomes = side_by_side(&groups, |(group, reads)| access::readable(link, group, reads));
    outcomes.push(access::writable(link, &writes));
    for outcome in outcomes {
        rights.extend(outcome?);
    }
    Ok(rights)
}

/// Starts a producer for each worker, side by side.
fn start_transactions(link: &Link, workers: &[Starting<'_>]) -> Result<Vec<Denied>, TopicsError> {
    let outcomes = side_by_side(workers, |worker| {
        access::transacts(link, &link.names.worker(worker.group, worker.slot))
    });
    let mut denied = Vec::new();
    for outcome in outcomes {
        denied.extend(outcome?.err());
    }
    Ok(denied)
}
