//! What is wrong, counted, with some of it in words.

use std::fmt;

/// How much of a kind is told in words.
const TOLD: usize = 20;

/// One kind of what must not be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bad {
    /// How often.
    pub count: u64,
    /// The first of them: the event's number, if it is known, and what is wrong.
    pub told: Vec<(Option<u64>, String)>,
}

impl Bad {
    /// One more.
    pub fn add(&mut self, number: Option<u64>, why: String) {
        self.count += 1;
        if self.told.len() < TOLD {
            self.told.push((number, why));
        }
    }

    /// So many more of one sort.
    pub fn add_all(&mut self, count: u64, why: String) {
        if count > 0 {
            self.add(None, why);
            self.count += count - 1;
        }
    }

    /// The numbers that are told of.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.told.iter().filter_map(|(number, _)| *number)
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Accepted, or to be rejected, and nothing came of it.
    pub lost: Bad,
    /// More than one proof, more than one message about a batch, rejected more than once.
    pub duplicated: Bad,
    /// A proof for what nobody sent, or for what has to be rejected.
    pub phantom: Bad,
    /// A proof that does not verify or proves another payload; a rejection of what is fine; a catalog that says another
    /// thing than the proofs.
    pub wrong: Bad,
    /// Ranges of input that no transaction took, and batches that are missing.
    pub gaps: u64,
    /// Ranges of input that two transactions took.
    pub overlaps: u64,
    /// What `killick fsck` found.
    pub fsck: Bad,
    /// How much `killick audit` found: all of it is counted above as well.
    pub audit: u64,
    /// Numbers that are accepted.
    pub accepted: u64,
    /// Numbers of which the sender does not know.
    pub unknown: u64,
    /// Receipts that were verified.
    pub receipts: u64,
    /// Rejected records that were looked at.
    pub rejected: u64,
}

impl Findings {
    /// One of those that are told of in words.
    pub fn first(&self) -> Option<&str> {
        let Self { lost, duplicated, phantom, wrong, fsck, .. } = self;
        [lost, duplicated, phantom, wrong, fsck]
            .into_iter()
            .find_map(|bad| bad.told.first())
            .map(|(_, why)| why.as_str())
    }

    /// Whether the promise holds.
    pub fn are_clean(&self) -> bool {
        let Self { lost, duplicated, phantom, wrong, gaps, overlaps, fsck, audit, .. } = self;
        [lost, duplicated, phantom, wrong, fsck].iter().all(|bad| bad.count == 0)
            && [gaps, overlaps, audit].iter().all(|count| **count == 0)
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, duplicated, phantom, wrong, gaps, overlaps, fsck, audit, .. } = self;
        let word = |count: u64| if count == 0 { "clean".to_owned() } else { count.to_string() };
        write!(
            f,
            "lost={} duplicated={} phantom={} wrong={} gaps={gaps} overlaps={overlaps} audit={} fsck={}",
            lost.count,
            duplicated.count,
            phantom.count,
            wrong.count,
            word(*audit),
            word(fsck.count)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_found_is_not_clean_and_is_told() {
        let clean = "lost=0 duplicated=0 phantom=0 wrong=0 gaps=0 overlaps=0 audit=clean fsck=clean";
        assert!(Findings::default().are_clean());
        assert_eq!(Findings::default().to_string(), clean);
        let one = |set: fn(&mut Findings)| {
            let mut findings = Findings::default();
            set(&mut findings);
            assert!(!findings.are_clean());
            findings.to_string()
        };
        assert!(one(|found| found.lost.add(Some(7), "gone".to_owned())).contains("lost=1 "));
        assert!(one(|found| found.duplicated.add_all(3, "twice".to_owned())).contains("duplicated=3 "));
        assert!(one(|found| found.phantom.add(None, "nobody's".to_owned())).contains("phantom=1 "));
        assert!(one(|found| found.wrong.add(None, "forged".to_owned())).contains("wrong=1 "));
        assert!(one(|found| found.gaps = 2).contains("gaps=2 "));
        assert!(one(|found| found.overlaps = 2).contains("overlaps=2 "));
        assert!(one(|found| found.audit = 4).contains("audit=4 "));
        assert!(one(|found| found.fsck.add(None, "a node".to_owned())).ends_with("fsck=1"));
    }

    #[test]
    fn only_the_first_of_a_kind_are_told_in_words() {
        let mut bad = Bad::default();
        for number in 0..100 {
            bad.add(Some(number), "lost".to_owned());
        }
        assert_eq!((bad.count, bad.numbers().count()), (100, TOLD));
    }
}
