//! The catalog on ScyllaDB or Apache Cassandra: the port [`Catalog`](killick_stages::ports::Catalog) for a cluster.
//!
//! ```text
//! logs            a log: the state of its tree, its largest anchored checkpoint     one row a log
//! tiles           the leaf hashes of its tree, 256 a partition                      33 bytes a batch, 0.1 an event
//! anchored        the sizes at which it is anchored    }  an anchor is found by the smallest size
//! anchors         the anchors of each of these sizes   }  above a batch's number
//! batches_CLASS   a batch's record of the topic `batches`, in parts of 64 KiB       what statements take
//! events_CLASS    where an event is                                                 one row an event
//! days_CLASS      the runs of batches that a tenant has on a day  }  65,536 batches of one log are a run, so
//! runs_CLASS      the batches of a run                            }  that no partition grows without a bound
//! ```
//!
//! The tables stand in `schemas/cql`. No path is stored: a receipt's are derived when it is read, that of the batch from
//! its statements, that of the log from two or three tiles.
//!
//! **Writes** are whole rows whose values, times of writing and ends of life are functions of the log: who writes again,
//! writes the same. Nothing is deleted or updated, but for the state of a log, which only grows, and whose time of writing
//! is its size. How a batch is seen whole or not at all stands in the module that writes it. There is no lightweight
//! transaction: which batch has a number is decided in the log, and a second one is a fault that is found and refused.
//!
//! **The index of events** is what costs. It has one row an event, in a partition of its own, found by the hash of the
//! event's names: one read finds it among however many, in however many logs, however old; a second proof of the same
//! event is a second row beside the first; and a cluster spreads it over all its nodes. To gather the events of a batch in
//! fewer, wider rows would save writes only while all partitions together are fewer than the events of a batch: soon
//! either partitions have no bound, or a search has to look through every span of time of every log. So the rows stay as
//! they are, and it is the requests that are few: rows of ten events, all kept by the same nodes (and the same shard of a
//! node), go to one of these nodes in one unlogged batch. Ten partitions are as many as Cassandra takes in one without a
//! warning. `examples/bench_catalog.rs` shows what that brings beside one request an event.
//!
//! **Classes** keep their rows in tables of their own, whose files expire as a whole. Events are kept by their tenant's
//! class, a batch by the longest of its tenants'; the trees and anchors of the logs stay, since what is kept is proven by
//! them. Time is counted from when the log took an event. A tenant's class may change: reading asks all classes, and what
//! was written stays where it is.
//!
//! **Reads** are of one partition each (but for the list of all logs), paged, and at the same level as writes,
//! LOCAL_QUORUM: what was put is seen. All who write and read one log do so in one datacenter.
mod catalog;
mod error;
mod given;
mod link;
mod migrate;
mod put;
mod read;
mod schema;
mod settings;
mod side;
mod statements;
mod tiles;
mod tls;

pub use catalog::CqlCatalog;
pub use error::Error;
pub use migrate::Migrated;
pub use schema::Difference;
pub use settings::{Class, Security, Settings, SettingsError};
