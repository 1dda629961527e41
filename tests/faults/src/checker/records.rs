//! Reading topics from their first record to their last.

use anyhow::{Context as _, Result};
use killick_stages::ports::Reader;
use killick_stages::record::Record;

/// Bytes that are read at once.
const AT_ONCE: usize = 4 << 20;

/// Gives every committed record of a topic, partition by partition, but no ticks; `progress` hears how many it were.
///
/// # Errors
/// The log cannot be read.
pub fn each_record(
    log: &mut dyn Reader,
    topic: &str,
    each: &mut dyn FnMut(Record),
    progress: &mut dyn FnMut(&str, u64),
) -> Result<()> {
    let mut count = 0;
    for partition in log.partitions(topic)? {
        let (mut next, _) = log.range(&partition)?;
        loop {
            let records =
                log.read(&partition, next, AT_ONCE).with_context(|| format!("{partition} from {next}"))?;
            let Some(last) = records.last() else { break };
            next = last.offset + 1;
            for record in records.into_iter().filter(|record| !record.is_tick()) {
                count += 1;
                each(record);
            }
            progress(topic, count);
        }
    }
    Ok(())
}
