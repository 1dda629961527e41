//! Looks at a deployment's topics and groups.

use std::collections::BTreeMap;

use serde::Serialize;

use super::TopicsError;
use super::finding::{Finding, Fix, Weight};
use super::groups::{self, Group, Standing, Standings, Unknown};
use super::judge;
use super::plan::{Topic, Wanted, hops, plan};
use crate::access::{self, Acl};
use crate::link::{Found, Link, side_by_side};
use crate::settings::Settings;

/// How far a stage's group is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reading {
    /// The stage.
    pub stage: &'static str,
    /// What the brokers call the group.
    pub group: String,
    /// Records of its topics that it has not read yet, with the ends of transactions among them. `None` if we may not know.
    pub lag: Option<u64>,
    /// Who is at work in it: a name for each slot. `None` if nobody says.
    pub members: Option<Vec<String>>,
}

/// What the brokers say of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The number of brokers of the cluster.
    pub brokers: usize,
    /// The topics that were looked at, as the brokers call them.
    pub topics: Vec<String>,
    /// The groups of the stages.
    pub groups: Vec<Reading>,
    /// What is wrong, what breaks promises first.
    pub findings: Vec<Finding>,
}

/// What was looked at, and what is wrong with it.
pub struct Look {
    pub topics: Vec<Topic>,
    pub found: BTreeMap<String, Found>,
    pub groups: Vec<Group>,
    /// How far each group is, in the same order.
    pub lags: Vec<Option<u64>>,
    pub findings: Vec<Finding>,
    /// Rights that were missing in looking.
    pub rights: Vec<Acl>,
}

/// Every stage of a deployment.
pub fn all_stages(wanted: &Wanted<'_>) -> Vec<&'static str> {
    hops(wanted).map(|hop| hop.stage).collect()
}

/// Looks at the topics and groups of these stages.
pub fn look(link: &Link, wanted: &Wanted<'_>, stages: &[&str]) -> Result<Look, TopicsError> {
    let settings = &link.settings;
    let mut topics = plan(settings, wanted);
    topics.retain(|topic| topic.readers.iter().chain(&topic.writers).any(|stage| stages.contains(stage)));
    let found = link.topics(topics.iter().map(|topic| topic.name.as_str()))?;
    let (mut findings, mut rights) = (judge::collisions(&topics), Vec::new());
    findings.extend(too_few_brokers(link));
    for topic in &topics {
        let found = found.get(&topic.name).unwrap_or(&Found::Missing);
        findings.extend(judge::judge(settings, topic, found, &mut rights));
    }
    let groups = groups::groups(link, &topics, &found, (stages, &wanted.series))?;
    let standings = side_by_side(&groups, |group| group.standings(link, &topics));
    let mut lags = Vec::with_capacity(groups.len());
    for (group, standings) in groups.iter().zip(standings) {
        lags.push(standings.as_ref().ok().map(Group::lag));
        match standings {
            Ok(standings) => {
                findings.extend(groups::judge(link, group, &standings));
                keep_from_making_state(link, group, &standings, &mut findings);
            }
            Err(Unknown::Denied) => rights.push(Acl::group("Read", &group.name)),
            Err(Unknown::Failed(error)) => return Err(error),
        }
    }
    Ok(Look { topics, found, groups, lags, findings, rights })
}

fn too_few_brokers(link: &Link) -> Option<Finding> {
    let wanted = usize::from(link.settings.replication);
    (link.brokers < wanted).then(|| Finding {
        about: "brokers".to_owned(),
        found: format!("the cluster has {}", link.brokers),
        wanted: format!("{wanted} or more, as [kafka] replication says"),
        remedy: "start the others; or for trying out set [kafka] replication = 1 and min_in_sync = 1"
            .to_owned(),
        weight: Weight::Breaks,
        fix: None,
    })
}

/// State that is missing though the stage has worked was removed: an empty one in its place would let the stage begin
/// anew, and its logs fork.
fn keep_from_making_state(link: &Link, group: &Group, standings: &Standings, findings: &mut [Finding]) {
    let Some(state) = group.hop.state else { return };
    let has_worked = |stands: &Standing| {
        matches!(stands, Standing::At { next: 1.., .. } | Standing::Gone { next: 1.., .. })
    };
    if !standings.values().flatten().any(has_worked) {
        return;
    }
    let about = format!("topic {}", link.names.topic(state));
    for finding in
        findings.iter_mut().filter(|finding| finding.about == about && finding.fix == Some(Fix::Make))
    {
        finding.fix = None;
        finding.found =
            format!("there is no such topic, though {} has worked: its state was removed", group.hop.stage);
        finding.remedy =
            "restore it from a copy; without one, begin another [deployment] generation with another \
                          [kafka] prefix"
                .to_owned();
    }
}

/// What is wrong with the topics and groups of a deployment: what breaks promises first.
///
/// # Errors
/// [`TopicsError`] if the brokers cannot be asked.
pub fn check(settings: &Settings, wanted: &Wanted<'_>) -> Result<Vec<Finding>, TopicsError> {
    let link = Link::open(settings, &link_name(settings))?;
    Ok(all_that_is_wrong(settings, look(&link, wanted, &all_stages(wanted))?))
}

/// The same, with who is at work and how much waits for them.
///
/// # Errors
/// [`TopicsError`] if the brokers cannot be asked.
pub fn survey(settings: &Settings, wanted: &Wanted<'_>) -> Result<Survey, TopicsError> {
    let link = Link::open(settings, &link_name(settings))?;
    let look = look(&link, wanted, &all_stages(wanted))?;
    let members = side_by_side(&look.groups, |group| group.members(&link).ok());
    let readings = look.groups.iter().zip(&look.lags).zip(members).map(|((group, lag), members)| Reading {
        stage: group.hop.stage,
        group: group.name.clone(),
        lag: *lag,
        members,
    });
    Ok(Survey {
        brokers: link.brokers,
        topics: look.topics.iter().map(|topic| topic.name.clone()).collect(),
        groups: readings.collect(),
        findings: all_that_is_wrong(settings, look),
    })
}

/// What the brokers' logs call us.
pub fn link_name(settings: &Settings) -> String {
    format!("{}topics", settings.prefix)
}

/// What was found with the rights that are missing, what breaks promises first.
pub fn all_that_is_wrong(settings: &Settings, look: Look) -> Vec<Finding> {
    let mut findings = look.findings;
    findings.extend(access::missing(settings, look.rights));
    findings.sort_by_key(|finding| !finding.is_breaking());
    findings
}
