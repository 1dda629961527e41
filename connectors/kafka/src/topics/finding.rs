//! What is wrong with a deployment's topics, groups and rights, and what to do about it.

use std::fmt;

use serde::Serialize;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about: `topic killick.accepted`, `group killick.dedup`, `brokers`.
    pub about: String,
    /// How it is.
    pub found: String,
    /// How it should be, and what happens otherwise.
    pub wanted: String,
    /// What to do, with a command where one does it.
    pub remedy: String,
    /// How much it matters.
    pub weight: Weight,
    /// What [`super::apply`] would do.
    #[serde(skip)]
    pub(crate) fix: Option<Fix>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// A promise breaks, or nothing works: a deployment is not run like that.
    Breaks,
    /// It can be run like that.
    Advice,
}

/// What can be done without anybody's decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fix {
    /// Make the topic.
    Make,
    /// Give it so many partitions.
    Grow(u32),
    /// Set one setting.
    Set(&'static str, String),
    /// Let the group begin where it has not begun.
    Begin,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { about, found, wanted, remedy, .. } = self;
        write!(f, "{about}: {found}; wanted: {wanted}; remedy: {remedy}")
    }
}

impl Finding {
    /// What somebody else has found, and [`super::apply`] does nothing about.
    pub fn new(weight: Weight, about: String, found: String, wanted: String, remedy: String) -> Self {
        Self { about, found, wanted, remedy, weight, fix: None }
    }

    /// Whether a promise breaks.
    pub fn is_breaking(&self) -> bool {
        self.weight == Weight::Breaks
    }
}

/// All that is wrong, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings(pub Vec<Finding>);

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.0.iter().enumerate() {
            write!(f, "{}{finding}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}
