//! How far a catalog was right when it was last checked, in a file.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use killick_proof::encoding::{base64url, from_base64url};
use killick_proof::log::Log;
use killick_stages::fsck::Mark;
use serde::{Deserialize, Serialize};

/// What the file says it is.
const FORMAT: &str = "killick-fsck/1";
/// Bytes in the largest file: far more logs than there are.
const LARGEST: u64 = 64 << 20;

/// How far each log was right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    format: String,
    /// Whether every event was looked for in the index.
    full: bool,
    logs: BTreeMap<Box<str>, Row>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// The tree: its size and right edge, in base64url.
    log: String,
    next_offset: Option<u64>,
    time: i64,
    anchored: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    series: BTreeMap<Box<str>, u64>,
}

impl State {
    /// Nothing was checked yet.
    pub fn new(full: bool) -> Self {
        Self { format: FORMAT.to_owned(), full, logs: BTreeMap::new() }
    }

    /// What an earlier check left; nothing if there is no such file.
    ///
    /// # Errors
    /// The file is not one that serves this check.
    pub fn read(path: &Path, full: bool) -> Result<Self, String> {
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::new(full)),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        let why = |why: &dyn std::fmt::Display| format!("{} is no state of a check: {why}", path.display());
        let state: Self = serde_json::from_slice(&bytes).map_err(|error| why(&error))?;
        if state.format != FORMAT {
            return Err(why(&format_args!("its format is {:?}", state.format)));
        }
        if full && !state.full {
            let path = path.display();
            return Err(format!("{path} is of a check without --full: remove it, and everything is checked"));
        }
        for origin in state.logs.keys() {
            state.mark(origin).map_err(|error| why(&format_args!("{error:#}")))?;
        }
        Ok(state)
    }

    /// How far a log was right.
    ///
    /// # Errors
    /// What is noted of it does not decode.
    pub fn mark(&self, origin: &str) -> Result<Option<Mark>> {
        let Some(row) = self.logs.get(origin) else { return Ok(None) };
        let bytes = from_base64url(&row.log).with_context(|| format!("the tree of {origin}"))?;
        let log = Log::decode(&bytes).with_context(|| format!("the tree of {origin}"))?;
        if let Some(anchored) =
            row.series.values().chain([&row.anchored]).find(|anchored| **anchored > log.size())
        {
            bail!("{origin} has {} batches, and {anchored} of them anchored", log.size());
        }
        let Row { next_offset, time, anchored, ref series, .. } = *row;
        Ok(Some(Mark { log, next_offset, time, anchored, series: series.clone() }))
    }

    /// Notes how far a log is right.
    pub fn set(&mut self, origin: &str, mark: &Mark) {
        let Mark { log, next_offset, time, anchored, series } = mark;
        let row = Row {
            log: base64url(&log.encode()),
            next_offset: *next_offset,
            time: *time,
            anchored: *anchored,
            series: series.clone(),
        };
        self.logs.insert(origin.into(), row);
    }

    /// Writes the file; never half of one under its name.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let fresh = path.with_file_name(name);
        fs::write(&fresh, serde_json::to_string_pretty(self)?)
            .with_context(|| fresh.display().to_string())?;
        fs::rename(&fresh, path).with_context(|| path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use killick_proof::Algorithm;

    use super::*;

    #[test]
    fn a_state_reads_back_and_one_that_does_not_serve_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert_eq!(State::read(&path, true), Ok(State::new(true)));
        let mut log = Log::new(Algorithm::Sha256);
        log.append(Algorithm::Sha256.leaf(b"batch"), |_, _| {}).unwrap();
        let series = [("mainnet01-4".into(), 1)].into();
        let mark = Mark { log, next_offset: Some(7), time: -3, anchored: 1, series };
        let mut state = State::new(false);
        state.set("plant.example/1/sha256/0", &mark);
        state.write(&path).unwrap();
        let read = State::read(&path, false).unwrap();
        assert_eq!(read.mark("plant.example/1/sha256/0").unwrap(), Some(mark));
        assert_eq!(read.mark("plant.example/1/sha256/1").unwrap(), None);
        assert!(State::read(&path, true).unwrap_err().contains("without --full"));
        for bad in ["", "{}", "[]", r#"{"format":"killick-fsck/2","full":true,"logs":{}}"#] {
            fs::write(&path, bad).unwrap();
            assert!(State::read(&path, false).is_err(), "{bad}");
        }
        let row = r#"{"log":"AAAA","next_offset":0,"time":0,"anchored":0}"#;
        fs::write(&path, format!(r#"{{"format":"killick-fsck/1","full":true,"logs":{{"a":{row}}}}}"#))
            .unwrap();
        assert!(State::read(&path, false).unwrap_err().contains("the tree of a"));
    }
}
