//! The log on Apache Kafka.
//!
//! One event's way through it: [`KafkaLog`] takes records of the partitions that its consumer group gave it, the stage
//! steps them, and what comes out goes back as one transaction with the input offsets. Kafka's transactions alone are
//! not enough (librdkafka does not have the second protocol version, KIP-890): so every transaction carries a token that
//! is read back when there is a doubt, and a producer that gave a reason to doubt is thrown away.

mod access;
mod client;
mod figures;
mod hold;
mod inbox;
mod leftover;
mod link;
mod log;
mod message;
mod names;
pub mod plant;
mod preflight;
mod producer;
mod reader;
mod settings;
pub mod topics;
mod transactor;
mod watch;

pub use client::client_config;
pub use figures::{Figures, Lag};
pub use link::{Asked, LinkError, Said, Unreachable};
pub use log::{Join, KafkaLog, Sharing, Start};
pub use names::Names;
pub use preflight::{Starting, preflight};
pub use producer::KafkaProducer;
pub use reader::KafkaReader;
pub use settings::{Compression, Mechanism, Security, Settings, SettingsError};
