//! A running `killick run` with events on its standard input, which can be killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::events::Event;
use crate::program::killick;

/// Lines that may be on their way to the program without being accepted: what a kill can leave in doubt.
const IN_DOUBT: u64 = 4_000;

/// A process of the pipeline that is being fed.
pub struct Running {
    child: Child,
    accepted: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    feeder: JoinHandle<u64>,
    listener: JoinHandle<String>,
}

/// How a process ended.
pub struct Ended {
    /// Its exit status; none if it was killed.
    pub status: ExitStatus,
    /// How many of its lines it said were accepted.
    pub accepted: u64,
    /// How many lines were written to it: those beyond `accepted` are in doubt.
    pub written: u64,
    /// The last line of its standard output.
    pub summary: String,
}

impl Running {
    /// Starts the pipeline in `folder` and feeds it these events, one a line.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(folder: &Path, config: &Path, events: Vec<Event>) -> Result<Self> {
        let mut child = Command::new(killick())
            .arg("run")
            .arg("--embedded")
            .arg(folder)
            .arg("--config")
            .arg(config)
            .args(["--input", "-", "--format", "ndjson", "--tenant", crate::events::TENANT])
            .args(["--source-column", "source", "--id-column", "id", "--output", "json", "--log", "error"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("killick run does not start")?;
        let (accepted, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut stdin = child.stdin.take().context("no standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let told = Arc::clone(&accepted);
        let over = Arc::clone(&is_over);
        let listener = std::thread::spawn(move || {
            let mut last = String::new();
            // A process that is killed may leave half a line.
            for line in stdout.lines().map_while(Result::ok) {
                let accepted = serde_json::from_str::<serde_json::Value>(&line).ok();
                match accepted.and_then(|line| line["accepted"].as_u64()) {
                    Some(accepted) => told.store(accepted, Ordering::SeqCst),
                    None => last = line,
                }
            }
            over.store(true, Ordering::SeqCst);
            last
        });
        let (known, over) = (Arc::clone(&accepted), Arc::clone(&is_over));
        let feeder = std::thread::spawn(move || {
            let mut written = 0;
            for event in events {
                while written >= known.load(Ordering::SeqCst) + IN_DOUBT && !over.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                if writeln!(stdin, "{}", event.line()).is_err() {
                    break;
                }
                written += 1;
            }
            written
        });
        Ok(Self { child, accepted, is_over, feeder, listener })
    }

    /// How many of its lines are accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Whether it has ended by itself.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Kills it: no handler runs, nothing is flushed.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(mut self) -> Result<Ended> {
        // It may have ended meanwhile, which is as good.
        let _ = self.child.kill();
        self.end()
    }

    /// Waits until it ends by itself, having taken all that it was fed.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn end(mut self) -> Result<Ended> {
        let status = self.child.wait()?;
        self.is_over.store(true, Ordering::SeqCst);
        let gone = |_| anyhow::anyhow!("a helper thread panicked");
        let summary = self.listener.join().map_err(gone)?;
        let written = self.feeder.join().map_err(gone)?;
        Ok(Ended { status, accepted: self.accepted.load(Ordering::SeqCst), written, summary })
    }
}

/// Only one test at a time may have the machine: they measure out their kills by the clock.
pub fn alone() -> impl Drop {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
