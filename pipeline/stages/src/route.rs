//! The way of an event, as one constant: the binary wires from it, and tests hold the README's table and
//! `schemas/topics.yaml` against it.

/// One stage of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// The stage; also the name of its consumer group.
    pub stage: &'static str,
    /// The topics it reads. Ingest reads also whatever topics its sources name.
    pub reads: &'static [&'static str],
    /// The topics it writes.
    pub writes: &'static [&'static str],
    /// The topic that holds its state, which only it writes and reads; same partition as its input.
    pub state: Option<&'static str>,
    /// What decides the partition of what it writes.
    pub key: &'static str,
}

/// The five stages in the order in which an event meets them.
pub const ROUTE: [Hop; 5] = [
    Hop {
        stage: "ingest",
        reads: &["events"],
        writes: &["accepted", "rejected"],
        state: None,
        key: "hash(tenant, source, id)",
    },
    Hop {
        stage: "dedup",
        reads: &["accepted"],
        writes: &["unique", "rejected"],
        state: Some("dedup-log"),
        key: "the log",
    },
    Hop {
        stage: "batch",
        reads: &["unique"],
        writes: &["batches", "checkpoints"],
        state: Some("batch-log"),
        key: "the log; the chain",
    },
    Hop {
        stage: "anchor",
        reads: &["checkpoints"],
        writes: &["anchors"],
        state: Some("anchor-log"),
        key: "the log",
    },
    Hop {
        stage: "prove",
        reads: &["batches", "anchors"],
        writes: &["proofs"],
        state: Some("prove-log"),
        key: "the log",
    },
];
