//! The contracts of the ports, on the embedded side.

use std::sync::Arc;
use std::time::Duration;

use killick_contract::{catalog, log};
use killick_embedded::{Cleanup, EmbeddedCatalog, EmbeddedLog, Folder, Settings, TopicSpec, Worker};
use killick_stages::ports::{Catalog, Producer};
use killick_stages::record::Partition;
use tempfile::TempDir;

/// Small segments, so that every test crosses some.
const SETTINGS: Settings = Settings { segment_bytes: 8_000, max_record: 2_000 };

struct Logs {
    place: TempDir,
    topics: Vec<TopicSpec>,
    open: Option<EmbeddedLog>,
}

impl Logs {
    fn fresh() -> Self {
        Self { place: tempfile::tempdir().expect("a folder"), topics: Vec::new(), open: None }
    }

    fn reopen(&mut self) {
        // Workers of the test are gone with their process: here, with the clones that they hold.
        self.open = None;
        let folder = Arc::new(Folder::open(self.place.path()).expect("the folder is free"));
        self.open = Some(EmbeddedLog::open(&folder, &self.topics, SETTINGS).expect("the log opens"));
    }

    fn log(&self) -> &EmbeddedLog {
        self.open.as_ref().expect("a topic was asked for first")
    }
}

impl log::Subject for Logs {
    type Log = Worker;

    fn worker(&self, group: &str, inputs: &[Partition]) -> Worker {
        self.log().worker(group, inputs).expect("the partitions are there")
    }

    fn producer(&self) -> Arc<dyn Producer> {
        Arc::new(self.log().clone())
    }

    fn crash(&mut self) {
        // The folder as a killed process leaves it: what is on the disk at this moment, copied under another name.
        let copy = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(copy.path().join("log")).expect("a folder");
        for file in std::fs::read_dir(self.place.path().join("log")).expect("the log's folder") {
            let file = file.expect("a file").path();
            let name = file.file_name().expect("files have names");
            std::fs::copy(&file, copy.path().join("log").join(name)).expect("a copy");
        }
        self.open = None;
        self.place = copy;
        self.reopen();
    }

    fn topic(&mut self, name: &str, compacted: bool) -> String {
        let cleanup = if compacted { Cleanup::Compact } else { Cleanup::Delete(Duration::from_secs(3_600)) };
        self.topics.push(TopicSpec { name: name.into(), partitions: 2, cleanup, readers: Vec::new() });
        self.reopen();
        name.to_owned()
    }

    fn too_large(&self) -> usize {
        SETTINGS.max_record
    }
}

struct Catalogs(TempDir);

impl catalog::Subject for Catalogs {
    fn open(&mut self) -> Arc<dyn Catalog> {
        let folder = Arc::new(Folder::open(self.0.path()).expect("the folder is free"));
        Arc::new(EmbeddedCatalog::open(&folder).expect("the catalog opens"))
    }
}

#[test]
fn the_log_keeps_its_contract() {
    log::suite(Logs::fresh);
}

#[test]
fn the_catalog_keeps_its_contract() {
    catalog::suite(|| Catalogs(tempfile::tempdir().expect("a folder")));
}
