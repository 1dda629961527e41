//! Faults of the disk, for tests: each effect can fail, in each way in which it can.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

/// How an effect fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It does not happen.
    Before,
    /// Of a write, half of it does.
    Half,
    /// It happens, and an error is answered.
    After,
    /// It does not happen, nor does anything after it: the power is off.
    Off,
}

/// Fails some effects.
#[derive(Debug, Clone, Default)]
pub struct Faults(pub Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
pub struct Plan {
    /// Effects so far.
    pub count: usize,
    /// What fails.
    pub faults: Vec<(usize, Mode)>,
    /// What has failed so far.
    fired: Vec<Mode>,
    /// How long each file was when it was last made durable, by inode.
    pub durable: BTreeMap<u64, u64>,
}

impl Faults {
    /// Fails these effects, counted from 1.
    pub fn at(faults: &[(usize, Mode)]) -> Self {
        Self(Arc::new(Mutex::new(Plan { faults: faults.to_vec(), ..Plan::default() })))
    }

    /// How many effects there were.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().count
    }

    /// None, on a simulated disk.
    pub fn none() -> Self {
        Self::at(&[(usize::MAX, Mode::Off)])
    }

    /// Whether this is a simulation, on which real disks need not wait.
    pub fn are_planned(&self) -> bool {
        !self.0.lock().unwrap().faults.is_empty()
    }

    /// Whether something has failed in this way.
    pub fn has_fired(&self, mode: Mode) -> bool {
        self.0.lock().unwrap().fired.contains(&mode)
    }

    fn fails(&self, next: usize, modes: &[Mode]) -> io::Result<()> {
        let mut plan = self.0.lock().unwrap();
        plan.count += next;
        let count = plan.count;
        let due = |(effect, mode): &&(usize, Mode)| {
            modes.contains(mode) && (count == *effect || *mode == Mode::Off && count > *effect)
        };
        match plan.faults.iter().find(due).copied() {
            None => Ok(()),
            Some((_, mode)) => {
                plan.fired.push(mode);
                Err(io::Error::other("a planned fault"))
            }
        }
    }

    /// Before an effect: whether it fails without having happened.
    pub fn before(&self) -> io::Result<()> {
        self.fails(1, &[Mode::Before, Mode::Half, Mode::Off])
    }

    /// After an effect: whether it fails though it happened.
    pub fn after(&self) -> io::Result<()> {
        self.fails(0, &[Mode::After])
    }

    /// What a write that is about to fail leaves.
    pub fn part_of<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let plan = self.0.lock().unwrap();
        plan.faults.contains(&(plan.count + 1, Mode::Half)).then(|| &bytes[..bytes.len() / 2])
    }

    /// Notes how much of a file is durable.
    pub fn synced(&self, file: &File) -> io::Result<()> {
        let file = file.metadata()?;
        self.0.lock().unwrap().durable.insert(file.ino(), file.len());
        Ok(())
    }
}
