//! Where the catalog finds events and lists batches.

use std::collections::BTreeSet;

use killick_proof::batch::BatchHeader;
use killick_proof::statement::{Event, Statement};

use super::{Fsck, FsckError, Part};
use crate::audit::Name;
use crate::ports::{BatchRecord, Place};

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// Batches of a day that are read at once.
const PAGE: usize = 1_000;

impl Fsck<'_> {
    /// Each statement decodes and is found at its place, and its tenant's day lists the batch.
    pub(super) fn check_index(
        &mut self,
        origin: &str,
        number: u64,
        batch: &BatchRecord,
    ) -> Result<(), FsckError> {
        let mut tenants = BTreeSet::new();
        let count = batch.statements.len() as u64;
        // One of each batch, and not always the same, unless all are asked for.
        let chosen = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).checked_rem(count).unwrap_or(0);
        for (index, statement) in (0..).zip(&batch.statements) {
            let event = match Statement::decode(statement) {
                Ok(statement) => statement.event,
                Err(error) => {
                    self.find(Part::Batch, origin, number, format!("statement {index}: {error}"));
                    continue;
                }
            };
            tenants.insert(event.tenant);
            if self.is_full || index == chosen {
                self.check_event(&Place { origin: origin.into(), number, index }, &event)?;
            }
        }
        if let Ok(header) = BatchHeader::decode(&batch.header) {
            let day = i32::try_from(header.first_time.div_euclid(DAY)).unwrap_or(i32::MAX);
            for tenant in tenants {
                self.check_day(origin, number, tenant, day)?;
            }
        }
        Ok(())
    }

    fn check_event(&mut self, place: &Place, event: &Event<'_>) -> Result<(), FsckError> {
        let Place { origin, number, index } = place;
        self.figures.events += 1;
        let read = self.catalog.find(event.tenant, event.source, event.id);
        let Some(found) = self.sound(Part::Event, origin, *number, read)? else { return Ok(()) };
        let name =
            || Some(Name { tenant: event.tenant.into(), source: event.source.into(), id: event.id.into() });
        let here = found.iter().filter(|at| *at == place).count();
        if here != 1 {
            let why = format!("the index has its place, leaf {index}, {here} times");
            self.find_event(Part::Event, origin, *number, name(), why);
        }
        for at in found.iter().filter(|at| *at != place) {
            let read = self.catalog.batch(&at.origin, at.number);
            // What cannot be read is told of where its log is checked.
            let other = read.ok().flatten();
            let index = usize::try_from(at.index).unwrap_or(usize::MAX);
            let statement = other.as_ref().and_then(|batch| batch.statements.get(index));
            let is_it =
                statement.and_then(|statement| Statement::decode(statement).ok()).is_some_and(|statement| {
                    let of = statement.event;
                    (of.tenant, of.source, of.id) == (event.tenant, event.source, event.id)
                });
            if !is_it {
                let why = format!(
                    "the index has it at leaf {} of batch {} of {} too, where it is not",
                    at.index, at.number, at.origin
                );
                self.find_event(Part::Event, origin, *number, name(), why);
            }
        }
        Ok(())
    }

    fn check_day(&mut self, origin: &str, number: u64, tenant: &str, day: i32) -> Result<(), FsckError> {
        let wanted: (Box<str>, u64) = (origin.into(), number);
        // The batch before it, whether it is listed or not; before the first one of a log, whatever there is.
        let mut after = number.checked_sub(1).map(|before| (Box::from(origin), before));
        loop {
            let limit = if number > 0 { 1 } else { PAGE };
            let read = self.catalog.list(tenant, day, after.as_ref(), limit);
            let Some(listed) = self.sound(Part::Day, origin, number, read)? else { return Ok(()) };
            if listed.contains(&wanted) {
                return Ok(());
            }
            match listed.into_iter().next_back() {
                Some(last) if number == 0 && last < wanted => after = Some(last),
                _ => break,
            }
        }
        self.find(Part::Day, origin, number, format!("day {day} of tenant {tenant} does not list it"));
        Ok(())
    }
}
