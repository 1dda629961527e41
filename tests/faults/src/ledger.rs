//! What the senders know: which events they were about to send, and which of them they were told are accepted.
//!
//! One file for each sender, lines of `intent FROM COUNT`, `accepted FROM COUNT` and `unknown FROM COUNT`. An intent is
//! on the disk before the first byte of it is sent; so whatever dies, no event is anywhere that is not in here.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::events::Mix;

/// The file that says what was to be sent.
const PLAN: &str = "plan.json";

/// What was to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How many numbers.
    pub events: u64,
    /// What stands behind them.
    pub mix: Mix,
}

/// What is known of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was never sent: it may be nowhere.
    Unsent,
    /// It was sent, and nobody knows what became of it: it may be proven once, or not at all.
    Unknown,
    /// It was accepted: it has to be proven once; or rejected once, if that is its fate.
    Accepted,
}

/// One sender's part of the ledger.
#[derive(Debug)]
pub struct Pen {
    file: File,
}

/// All of it, read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// What was to be sent.
    pub plan: Plan,
    outcomes: Vec<Outcome>,
}

impl Plan {
    /// Begins a ledger in a folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        std::fs::write(folder.join(PLAN), serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }
}

impl Pen {
    /// The part of sender `number`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(folder: &Path, number: usize) -> Result<Self> {
        let path = folder.join(format!("sender-{number}.txt"));
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Self { file: file.with_context(|| path.display().to_string())? })
    }

    /// These are about to be sent; on the disk when it returns.
    ///
    /// # Errors
    /// The disk.
    pub fn intent(&mut self, numbers: &Range<u64>) -> Result<()> {
        self.write("intent", numbers)?;
        Ok(self.file.sync_data()?)
    }

    /// These are accepted.
    ///
    /// # Errors
    /// The disk.
    pub fn accepted(&mut self, numbers: &Range<u64>) -> Result<()> {
        self.write("accepted", numbers)
    }

    /// Of these nobody will know.
    ///
    /// # Errors
    /// The disk.
    pub fn unknown(&mut self, numbers: &Range<u64>) -> Result<()> {
        self.write("unknown", numbers)
    }

    fn write(&mut self, what: &str, numbers: &Range<u64>) -> Result<()> {
        // In one piece, so that only the last line can be torn.
        let line = format!("{what} {} {}\n", numbers.start, numbers.end - numbers.start);
        Ok(self.file.write_all(line.as_bytes())?)
    }
}

impl Ledger {
    /// Reads a ledger back.
    ///
    /// # Errors
    /// It is not one.
    pub fn read(folder: &Path) -> Result<Self> {
        let plan =
            std::fs::read(folder.join(PLAN)).with_context(|| folder.join(PLAN).display().to_string())?;
        let plan: Plan = serde_json::from_slice(&plan)?;
        let outcomes = vec![Outcome::Unsent; usize::try_from(plan.events)?];
        let mut ledger = Self { plan, outcomes };
        for sender in 0.. {
            let path = folder.join(format!("sender-{sender}.txt"));
            if !path.exists() {
                break;
            }
            for line in BufReader::new(File::open(&path)?).lines() {
                ledger.take(&line?).with_context(|| path.display().to_string())?;
            }
        }
        Ok(ledger)
    }

    fn take(&mut self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let [what, from, count] = words[..] else { bail!("no line of a ledger: {line:?}") };
        let outcome = match what {
            "intent" | "unknown" => Outcome::Unknown,
            "accepted" => Outcome::Accepted,
            _ => bail!("no line of a ledger: {line:?}"),
        };
        let (from, count): (usize, usize) = (from.parse()?, count.parse()?);
        let numbers = self.outcomes.get_mut(from..from + count).context("more numbers than were planned")?;
        for known in numbers {
            // What was accepted once stays so, whatever is said of further copies.
            *known = outcome.max(*known);
        }
        Ok(())
    }

    /// What is known of a number.
    pub fn outcome(&self, number: u64) -> Outcome {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.outcomes.get(number))
            .copied()
            .unwrap_or(Outcome::Unsent)
    }

    /// All numbers of which that is known.
    pub fn all(&self, outcome: Outcome) -> impl Iterator<Item = u64> {
        (0..).zip(&self.outcomes).filter(move |(_, known)| **known == outcome).map(|(number, _)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let mix = Mix { seed: 1, start: 0, signed: 0, poison: 0, repeated: 0, changed: 0, hot: 0 };
        Plan { events: 100, mix }
    }

    #[test]
    fn a_ledger_reads_back_and_the_best_that_is_known_counts() {
        let folder = tempfile::tempdir().unwrap();
        plan().write(folder.path()).unwrap();
        let (mut first, mut second) =
            (Pen::new(folder.path(), 0).unwrap(), Pen::new(folder.path(), 1).unwrap());
        first.intent(&(0..10)).unwrap();
        first.accepted(&(0..10)).unwrap();
        first.intent(&(0..10)).unwrap();
        second.intent(&(20..30)).unwrap();
        second.unknown(&(20..25)).unwrap();
        let ledger = Ledger::read(folder.path()).unwrap();
        assert_eq!(ledger.plan, plan());
        assert!(ledger.all(Outcome::Accepted).eq(0..10));
        assert!(ledger.all(Outcome::Unknown).eq(20..30));
        assert_eq!([15, 99, 100].map(|number| ledger.outcome(number)), [Outcome::Unsent; 3]);
        drop((first, second));
        // Whoever goes on appends.
        Pen::new(folder.path(), 1).unwrap().accepted(&(29..30)).unwrap();
        assert_eq!(Ledger::read(folder.path()).unwrap().outcome(29), Outcome::Accepted);
    }

    #[test]
    fn what_is_no_ledger_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Ledger::read(folder.path()).is_err());
        plan().write(folder.path()).unwrap();
        for line in ["", "intent 1", "lost 1 1", "intent x 1", "accepted 95 6"] {
            std::fs::write(folder.path().join("sender-0.txt"), format!("{line}\n")).unwrap();
            assert!(Ledger::read(folder.path()).is_err(), "{line:?}");
        }
    }
}
