//! Tells how far the pipeline is, and when it has come to rest.

use std::collections::BTreeMap;

use anyhow::Result;
use killick_stages::frame::UniqueFrame;
use killick_stages::ports::Reader;
use killick_stages::ready::ProofReady;
use killick_stages::record::{Partition, Record};
use killick_stages::route::{BATCHES, PROOFS, ROUTE, UNIQUE};

use crate::events::TOPICS;

/// Bytes that are read at once.
const AT_ONCE: usize = 4 << 20;

/// Looks at the log again and again.
pub struct Rest {
    /// Of each partition that is counted: the next offset, and what was counted.
    counted: BTreeMap<Partition, (u64, u64)>,
    /// Events in the proofs.
    proven: u64,
}

impl Rest {
    /// Nothing is looked at yet.
    pub fn new() -> Self {
        Self { counted: BTreeMap::new(), proven: 0 }
    }

    /// Events in proofs by now.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn proven(&mut self, log: &mut dyn Reader) -> Result<u64> {
        self.count(log, PROOFS)?;
        Ok(self.proven)
    }

    /// What is not done yet, in words; nothing once all that came in is proven or rejected.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn unfinished(&mut self, log: &mut dyn Reader) -> Result<Option<String>> {
        for hop in ROUTE {
            let inputs = if hop.stage == "ingest" { &TOPICS[..] } else { hop.reads };
            for topic in inputs {
                for partition in log.partitions(topic)? {
                    let (first, _) = log.range(&partition)?;
                    let next = log.committed(hop.stage, &partition)?.unwrap_or(0).max(first);
                    // The end of a partition may be the marker of a transaction: only a record is work.
                    let unread = log.read(&partition, next, AT_ONCE)?;
                    if let Some(record) = unread.iter().find(|record| is_work(record, topic)) {
                        return Ok(Some(format!(
                            "{} has not read {partition} from {}",
                            hop.stage, record.offset
                        )));
                    }
                }
            }
        }
        let (batches, proofs) = (self.count(log, BATCHES)?, self.count(log, PROOFS)?);
        Ok((batches != proofs).then(|| format!("{proofs} of {batches} batches are proven")))
    }

    /// Records of a topic.
    fn count(&mut self, log: &mut dyn Reader, topic: &str) -> Result<u64> {
        let mut sum = 0;
        for partition in log.partitions(topic)? {
            let (next, count) = self.counted.entry(partition.clone()).or_default();
            loop {
                let records = log.read(&partition, *next, AT_ONCE)?;
                let Some(last) = records.last() else { break };
                *next = last.offset + 1;
                for record in records.iter().filter(|record| !record.is_tick()) {
                    *count += 1;
                    if topic == PROOFS {
                        // One that does not decode is the checker's business.
                        self.proven += ProofReady::decode(&record.value).map_or(0, |ready| ready.leaves);
                    }
                }
            }
            sum += *count;
        }
        Ok(sum)
    }
}

/// Whether something has to come of a record; copies alone wait for the next leaf, and are counted with it.
fn is_work(record: &Record, topic: &str) -> bool {
    let is_copies = || UniqueFrame::decode(&record.value).is_ok_and(|frame| frame.statements.is_empty());
    !(record.is_tick() || topic == UNIQUE && is_copies())
}

impl Default for Rest {
    fn default() -> Self {
        Self::new()
    }
}
