//! The anchors of a log, series by series: one receipt for each, passed by the verifier.

use std::collections::{BTreeMap, BTreeSet};

use killick_proof::receipt::{Parts, Receipt};
use killick_proof::report::{Level, Report, Verdict};

use super::batch::checkpoint;
use super::{Fsck, FsckError, Mark, Part};
use crate::derive::{DeriveError, Deriver};
use crate::ports::{AnchorRecord, Place};
use crate::series::{self, OWN};

impl Fsck<'_> {
    /// Checks the anchors of every series but the own behind where they were checked; gives how far each is now.
    pub(super) fn check_series(
        &mut self,
        origin: &str,
        size: u64,
        from: &Mark,
    ) -> Result<BTreeMap<Box<str>, u64>, FsckError> {
        let read = series::names(self.catalog, origin);
        let mut names: BTreeSet<_> =
            self.sound(Part::Anchor, origin, 0, read)?.into_iter().flatten().collect();
        names.remove(OWN);
        for lost in from.series.keys().filter(|name| !names.contains(*name)) {
            self.find(Part::Anchor, origin, 0, format!("the series {lost} is gone"));
        }
        let mut checked = BTreeMap::new();
        for name in names {
            let from = from.series.get(&name).copied().unwrap_or(0);
            let anchored = self.check_anchors(origin, size, &name, from)?;
            checked.insert(name, anchored);
        }
        Ok(checked)
    }

    /// Checks the anchors of a series behind a size; gives the size of the largest checkpoint that is anchored in it.
    pub(super) fn check_anchors(
        &mut self,
        origin: &str,
        size: u64,
        series: &str,
        from: u64,
    ) -> Result<u64, FsckError> {
        let mut anchored = from;
        loop {
            let read = series::anchors_in(self.catalog, origin, series, anchored);
            let Some(anchors) = self.sound(Part::Anchor, origin, anchored, read)? else {
                return Ok(anchored);
            };
            let Some(first) = anchors.first() else { return Ok(anchored) };
            if first.size <= anchored || first.size > size {
                let why = format!("it is filed behind size {anchored} of {size}, where it does not belong");
                self.find(Part::Anchor, origin, first.size, why);
                return Ok(anchored);
            }
            anchored = first.size;
            for anchor in &anchors {
                self.check_record(origin, anchored, anchor);
            }
            self.check_receipts(origin, anchored, series)?;
            self.figures.anchors += anchors.len() as u64;
        }
    }

    fn check_record(&mut self, origin: &str, size: u64, anchor: &AnchorRecord) {
        if (&*anchor.origin, anchor.size) != (origin, size) {
            let why = format!("it says that it is of {} at size {}", anchor.origin, anchor.size);
            self.find(Part::Anchor, origin, size, why);
        }
        if let Err(why) = checkpoint(&anchor.checkpoint, origin, size) {
            self.find(Part::Anchor, origin, size, format!("its checkpoint: {why}"));
        }
    }

    /// Has the verifier pass a receipt with each anchor of this series, of the newest batch that they cover.
    fn check_receipts(&mut self, origin: &str, size: u64, series: &str) -> Result<(), FsckError> {
        let number = size.saturating_sub(1);
        let place = Place { origin: origin.into(), number, index: 0 };
        let receipt = match Deriver::new(self.catalog).receipt_of(&place) {
            Ok(Some(receipt)) => receipt,
            Ok(None) => {
                self.find(Part::Anchor, origin, size, format!("there is no receipt of batch {number}"));
                return Ok(());
            }
            Err(DeriveError::Catalog(error)) => {
                return self.sound(Part::Anchor, origin, size, Err::<(), _>(error)).map(|_| ());
            }
            Err(error) => {
                self.find(Part::Anchor, origin, size, error.to_string());
                return Ok(());
            }
        };
        let read = self.catalog.anchors_of(origin, number);
        let Some(records) = self.sound(Part::Anchor, origin, size, read)? else { return Ok(()) };
        if receipt.anchors.len() != records.len() {
            let why = format!("{} of {} anchors are in receipts", receipt.anchors.len(), records.len());
            self.find(Part::Anchor, origin, size, why);
            return Ok(());
        }
        for (anchor, _) in
            receipt.anchors.iter().zip(&records).filter(|(_, record)| &*record.series == series)
        {
            let alone = Receipt { anchors: vec![anchor.clone()], ..receipt.clone() };
            let report = self.verifier.verify_parts(&Parts::from(alone), None);
            self.figures.trusted += u64::from(report.level == Level::Trusted);
            if let Some(why) = refusal(&report) {
                let why = format!("the receipt of leaf 0 of batch {number} {why}");
                self.find(Part::Anchor, origin, size, why);
            }
        }
        Ok(())
    }
}

fn refusal(report: &Report) -> Option<String> {
    match (report.verdict(Level::Anchored), &report.fault) {
        (Verdict::Reached, _) => None,
        (_, Some(fault)) => Some(format!("does not verify: {fault}")),
        (_, None) => Some(format!("reaches only the level {}", report.level)),
    }
}
