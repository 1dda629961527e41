//! The topics of a deployment: what they have to be, what they are, and how they come to be so.
//!
//! `schemas/topics.yaml` says what each topic is for, and its partitions and retention; the rest follows from what is
//! promised. [`check`] finds what would break a promise, [`apply`] makes and sets what takes nobody's decision.

mod apply;
mod check;
mod describe;
mod finding;
mod groups;
mod judge;
mod manifest;
mod plan;

use rdkafka::error::RDKafkaErrorCode;

pub use apply::{Applied, apply};
pub use check::{Reading, Survey, check, survey};
pub use describe::{Description, Shape, describe};
pub use finding::{Finding, Findings, Weight};
pub use plan::{Allows, Owner, Partitions, Rule, Topic, Wanted, plan};

pub(crate) use check::{Look, look};
pub(crate) use judge::tool;

use crate::link::LinkError;
use crate::settings::SettingsError;

/// Why topics cannot be looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// The brokers cannot be asked.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The brokers refuse to make or change something.
    #[error("{what}: {code}; {remedy}")]
    Refused {
        /// What they refuse.
        what: String,
        /// Why, in their words.
        code: RDKafkaErrorCode,
        /// What to do.
        remedy: String,
    },
    /// The stages cannot run like this.
    #[error("{0}")]
    Unfit(Findings),
}

impl From<SettingsError> for TopicsError {
    fn from(error: SettingsError) -> Self {
        Self::Link(error.into())
    }
}
