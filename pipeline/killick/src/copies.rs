//! The copies that dedup found, by name.

use anyhow::Result;
use killick_embedded::EmbeddedLog;
use killick_stages::frame::UniqueFrame;
use killick_stages::route;
use serde_json::{Value, json};

/// Gives every copy that the log still tells of: what it is a copy of, where it stood, and whether it differed.
///
/// # Errors
/// The log cannot be read, or `give` fails.
pub fn each(log: &EmbeddedLog, mut give: impl FnMut(Value) -> Result<()>) -> Result<()> {
    for partition in log.partitions(route::UNIQUE) {
        let (mut next, _) = log.range(&partition)?;
        loop {
            let records = log.read(&partition, next, 4 << 20)?;
            let Some(last) = records.last() else { break };
            next = last.offset + 1;
            for record in records.iter().filter(|record| !record.is_tick()) {
                let frame = UniqueFrame::decode(&record.value)?;
                let copies = frame.duplicates.iter().map(|copy| ("duplicate", copy));
                for (verdict, copy) in copies.chain(frame.conflicts.iter().map(|copy| ("conflict", copy))) {
                    give(json!({
                        "verdict": verdict,
                        "tenant": copy.tenant, "source": copy.source, "id": copy.id,
                        "topic": copy.topic, "partition": copy.partition, "offset": copy.offset,
                    }))?;
                }
            }
        }
    }
    Ok(())
}
