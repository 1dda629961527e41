//! The way of an event, as one constant: the binary wires from it, and tests hold the README's table and
//! `schemas/topics.yaml` against it.

/// The topic of events in our own envelope.
pub const EVENTS: &str = "events";
/// The topic of accepted statements, by log.
pub const ACCEPTED: &str = "accepted";
/// The topic of what was not let through.
pub const REJECTED: &str = "rejected";
/// The topic of statements that are new, by log.
pub const UNIQUE: &str = "unique";
/// The topic of dedup's state.
pub const DEDUP_LOG: &str = "dedup-log";
/// The topic of batches, by log.
pub const BATCHES: &str = "batches";
/// The topic of signed checkpoints, by chain.
pub const CHECKPOINTS: &str = "checkpoints";
/// The topic of batch's state.
pub const BATCH_LOG: &str = "batch-log";
/// The topic of anchored checkpoints, by log.
pub const ANCHORS: &str = "anchors";
/// The topic of anchor's state: intents.
pub const ANCHOR_LOG: &str = "anchor-log";
/// The topic of batches whose events have receipts, by log.
pub const PROOFS: &str = "proofs";
/// The topic of receipts, one for each event, where they are wanted; by log.
pub const RECEIPTS: &str = "receipts";
/// The topic of prove's state.
pub const PROVE_LOG: &str = "prove-log";
/// The topic that lets time pass for re-anchoring, and takes the wish to do it now: key the series, value [`NOW`].
pub const REANCHOR: &str = "reanchor";
/// The topic of reanchor's state: intents.
pub const REANCHOR_LOG: &str = "reanchor-log";
/// The topic of checkpoints that are anchored once more, elsewhere.
pub const REANCHORS: &str = "reanchors";
/// The topic of the anchors that all earlier receipts of a log have gained.
pub const LENT: &str = "lent";
/// The wish to anchor a series now, as [`REANCHOR`] carries it.
pub const NOW: &[u8] = b"now";
/// The topic to which every stage writes what each of its transactions did; see [`crate::manifest`].
pub const AUDIT: &str = "audit";

/// One stage of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// The stage; also the name of its consumer group.
    pub stage: &'static str,
    /// The topics it reads. Ingest reads also whatever topics its sources name.
    pub reads: &'static [&'static str],
    /// The topics it writes, besides [`AUDIT`].
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
        reads: &[EVENTS],
        writes: &[ACCEPTED, REJECTED],
        state: None,
        key: "hash(tenant, source, id)",
    },
    Hop {
        stage: "dedup",
        reads: &[ACCEPTED],
        writes: &[UNIQUE, REJECTED],
        state: Some(DEDUP_LOG),
        key: "the log",
    },
    Hop {
        stage: "batch",
        reads: &[UNIQUE],
        writes: &[BATCHES, CHECKPOINTS],
        state: Some(BATCH_LOG),
        key: "the log; the chain",
    },
    Hop {
        stage: "anchor",
        reads: &[CHECKPOINTS],
        writes: &[ANCHORS],
        state: Some(ANCHOR_LOG),
        key: "the log",
    },
    Hop {
        stage: "prove",
        reads: &[BATCHES, ANCHORS],
        writes: &[PROOFS, RECEIPTS],
        state: Some(PROVE_LOG),
        key: "the log",
    },
];

/// The two stages of a series of later anchors, where one is configured. No event meets them: they take a log's newest
/// checkpoint to another chain or network, and lend its anchor to all that the log has.
pub const REANCHORING: [Hop; 2] = [
    Hop {
        stage: "reanchor",
        reads: &[REANCHOR],
        writes: &[REANCHORS],
        state: Some(REANCHOR_LOG),
        key: "one partition",
    },
    Hop { stage: "lend", reads: &[REANCHORS], writes: &[LENT], state: None, key: "one partition" },
];

/// The stage of that name.
pub fn hop(stage: &str) -> Option<&'static Hop> {
    const ALL: [&[Hop]; 2] = [&ROUTE, &REANCHORING];
    ALL.into_iter().flatten().find(|hop| hop.stage == stage)
}

/// The consumer group of a stage of a series of later anchors: each series has its own.
pub fn group(stage: &str, series: &str) -> String {
    format!("{stage}-{series}")
}

/// Whether a topic is one that stages write: it belongs to a deployment and to nobody else.
pub fn is_inner(topic: &str) -> bool {
    is_of(&ROUTE, topic) || is_of(&REANCHORING, topic) || topic == AUDIT || topic == REANCHOR
}

/// Whether a topic is there for a series of later anchors alone.
pub fn is_reanchoring(topic: &str) -> bool {
    is_of(&REANCHORING, topic) || topic == REANCHOR
}

fn is_of(hops: &[Hop], topic: &str) -> bool {
    hops.iter().any(|hop| hop.writes.contains(&topic) || hop.state == Some(topic))
}
