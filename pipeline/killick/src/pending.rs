//! What is not done yet of all that was accepted.

use anyhow::{Context as _, Result};
use killick_stages::deployment::Deployment;
use killick_stages::frame::UniqueFrame;
use killick_stages::ports::{Catalog, Reader};
use killick_stages::record::{Partition, Record};
use killick_stages::route::{ROUTE, UNIQUE};
use killick_stages::series::{OWN, covered};

/// Bytes of records read at a time.
const TOGETHER: usize = 4 << 20;

/// Says what is not done yet; `None` when everything that `sources`, the topics of ingest, hold has its end.
///
/// # Errors
/// The log or the catalog cannot be read.
pub fn pending<'s>(
    reader: &mut dyn Reader,
    catalog: &dyn Catalog,
    deployment: &Deployment,
    sources: impl IntoIterator<Item = &'s str>,
) -> Result<Option<String>> {
    let sources: Vec<_> = sources.into_iter().collect();
    for hop in ROUTE {
        for topic in if hop.stage == "ingest" { &sources[..] } else { hop.reads } {
            for partition in reader.partitions(topic)? {
                if has_work(reader, hop.stage, &partition)? {
                    return Ok(Some(format!("records of {partition} wait for {}", hop.stage)));
                }
            }
        }
    }
    for origin in deployment.origins() {
        let size = catalog.log_size(origin)?;
        let anchored = covered(catalog, origin, OWN, size)?;
        if anchored < size {
            return Ok(Some(format!("{} batches of {origin} wait for their anchor", size - anchored)));
        }
    }
    Ok(None)
}

/// Whether a stage has something to read. The end of a partition may be the marker of a transaction, and ticks carry time
/// alone: neither is work.
fn has_work(reader: &mut dyn Reader, stage: &str, partition: &Partition) -> Result<bool> {
    let (start, end) = reader.range(partition)?;
    let mut next = reader.committed(stage, partition)?.unwrap_or(start).max(start);
    while next < end {
        let records = reader.read(partition, next, TOGETHER)?;
        let Some(last) = records.last() else { break };
        next = last.offset + 1;
        for record in records.iter().filter(|record| !record.is_tick()) {
            if !are_copies(record)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether a record is of `unique` and holds copies alone: they make no batch, and are counted with the next one.
fn are_copies(record: &Record) -> Result<bool> {
    if record.partition.topic.as_str() != UNIQUE {
        return Ok(false);
    }
    let frame = UniqueFrame::decode(&record.value);
    let frame = frame.with_context(|| format!("{} at offset {}", record.partition, record.offset))?;
    Ok(frame.statements.is_empty())
}
