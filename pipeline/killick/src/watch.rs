//! Shows a running site: a table redrawn in place on a terminal, else a line a second.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use killick_stages::ports::Catalog;
use killick_stages::route;

use crate::counters::Counts;
use crate::receipts::Exported;
use crate::site::Site;

/// How often a terminal is redrawn.
const REDRAW: Duration = Duration::from_millis(200);
/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(1);
/// How often it is asked whether all is done.
const ASK: Duration = Duration::from_millis(20);

/// Shows what a site does, on standard error.
pub struct Watch {
    begun: Instant,
    shown: Cell<Option<Instant>>,
    /// Lines of the table that stands on the terminal.
    drawn: Cell<usize>,
    in_place: bool,
    is_quiet: bool,
}

/// What is shown of a site.
struct Figures {
    counts: Counts,
    /// Records of the input topics that ingest has not read.
    lag: u64,
    log_sizes: Vec<u64>,
    heights: (u64, u64),
    seconds: f64,
}

impl Watch {
    /// A watch; a quiet one shows nothing.
    pub fn begin(is_quiet: bool) -> Self {
        let in_place =
            io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { begun: Instant::now(), shown: Cell::new(None), drawn: Cell::new(0), in_place, is_quiet }
    }

    /// Shows the site until `done` says so or it stops.
    ///
    /// # Errors
    /// What `done` says; the log or the catalog cannot be read.
    pub fn until(&self, site: &Site, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        while !site.stopping().is_cancelled() && !done()? {
            self.show(site, false)?;
            std::thread::sleep(ASK);
        }
        self.show(site, true)
    }

    /// Shows the site if it is time.
    fn show(&self, site: &Site, at_once: bool) -> Result<()> {
        let pause = if self.in_place { REDRAW } else { LINE };
        if self.is_quiet || !at_once && self.shown.get().is_some_and(|shown| shown.elapsed() < pause) {
            return Ok(());
        }
        self.shown.set(Some(Instant::now()));
        let figures = Figures::of(site, self.begun)?;
        let mut err = io::stderr().lock();
        // Whoever looked may have gone; the work goes on.
        let _ = if self.in_place {
            let table = figures.table();
            let up = match self.drawn.replace(table.len()) {
                0 => String::new(),
                lines => format!("\u{1b}[{lines}A"),
            };
            let lines: String = table.iter().map(|line| format!("{line}\u{1b}[K\n")).collect();
            write!(err, "{up}{lines}").and_then(|()| err.flush())
        } else {
            writeln!(err, "{}", figures.line())
        };
        Ok(())
    }

    /// Tells about the export, if it is time.
    pub fn note(&self, done: &Exported) {
        if !self.is_quiet && self.shown.get().is_none_or(|shown| shown.elapsed() > LINE) {
            self.shown.set(Some(Instant::now()));
            let _ = writeln!(io::stderr(), "{} receipts written", done.receipts);
        }
    }
}

impl Figures {
    fn of(site: &Site, begun: Instant) -> Result<Self> {
        let mut lag = 0;
        for partition in site.log.partitions(route::EVENTS) {
            let (start, end) = site.log.range(&partition)?;
            lag += end - site.log.committed("ingest", &partition)?.unwrap_or(start).max(start);
        }
        let origins = site.deployment().origins();
        let sizes = origins.iter().take(16).map(|origin| site.catalog.log_size(origin));
        let heights: Vec<u64> = site
            .deployment()
            .chains()
            .iter()
            .filter_map(|chain| Some(site.devnet.tip(chainweb::ChainId(*chain))?.height))
            .collect();
        Ok(Self {
            counts: site.counters().counts(),
            lag,
            log_sizes: sizes.collect::<Result<_, _>>()?,
            heights: (heights.iter().min().copied().unwrap_or(0), heights.iter().max().copied().unwrap_or(0)),
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    fn table(&self) -> Vec<String> {
        let Counts { events, duplicates, conflicts, rejected, proven, batches, anchors } = self.counts;
        let sizes: Vec<_> = self.log_sizes.iter().map(u64::to_string).collect();
        let rows = [
            ("events", format!("{events:>10}   {:.0}/s", events as f64 / self.seconds.max(0.001))),
            ("duplicates", format!("{duplicates:>10}   conflicts {conflicts}, rejected {rejected}")),
            ("batches", format!("{batches:>10}   log sizes {}", sizes.join(" "))),
            ("anchors", format!("{anchors:>10}   block heights {}–{}", self.heights.0, self.heights.1)),
            ("proof-ready", format!("{proven:>10}   lag {} records, {:.1} s", self.lag, self.seconds)),
        ];
        rows.iter().map(|(name, value)| format!("{name:<12}{value}")).map(|line| fitted(&line)).collect()
    }

    fn line(&self) -> String {
        let Counts { events, duplicates, conflicts, rejected, proven, batches, anchors } = self.counts;
        let (seconds, height, lag) = (self.seconds, self.heights.1, self.lag);
        format!(
            "{seconds:.0}s events {events} duplicates {duplicates} conflicts {conflicts} rejected {rejected} \
             batches {batches} anchors {anchors} height {height} proof-ready {proven} lag {lag}"
        )
    }
}

/// A line that wraps would spoil the table; a terminal that does not say its width has 80 columns.
fn fitted(line: &str) -> String {
    let width = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    let width = if width == 0 { 80 } else { width.max(20) };
    line.chars().take(width - 1).collect()
}
