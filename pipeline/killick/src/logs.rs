//! `killick logs`: the logs of a catalog, as files that others read, and how one generation of them goes on in the next.

mod close;
mod tiles;

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use killick_proof::statement::Statement;
use killick_stages::continuation::Continuation;
use killick_stages::ports::Catalog;
use killick_stages::series::{OWN, covered, names};
use serde_json::{Value, json};

use crate::cli::{Outcome, Output};
use crate::stores;

/// Lists logs, publishes and closes them.
#[derive(Debug, Args)]
#[command(visible_alias = "log", after_help = "Example: killick logs list --embedded site/")]
pub struct LogsArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists the logs: their batches, how many of these are anchored in each series, and which log they continue.
    ///
    /// As JSON each has its newest checkpoint too: of a closed log, the payload of the event that says how it goes on.
    #[command(
        after_help = "Examples:\n  killick logs list -c killick.toml\n  killick logs list --embedded site/ --output json | jq -j 'select(.origin == \"killick.local/1/sha256/0\").checkpoint' > last.note"
    )]
    List {
        #[command(flatten)]
        from: stores::From,
        /// Text for people, or one JSON object for each log and line.
        #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Ends a generation of logs: writes the events by which the next generation continues it.
    ///
    /// For each log that has batches, one CloudEvent whose payload is the last signed checkpoint, signed with the log's own
    /// key. Log i goes on in log i modulo the number of the new ones; where there are more new ones, each of them begins with
    /// one of the old. Refuses, with exit status 1, while anything that was accepted is not proven. Prints the [[device]]
    /// sections that the next configuration needs, and what verifiers add to their trust files. Every call with the same
    /// logs writes the same bytes.
    ///
    /// Order: stop what produces; let the stages finish, and stop them for good; close; give the next generation the file as
    /// its first input, alone, until it is proven; then let others produce.
    #[command(
        after_help = "Examples:\n  killick logs close --embedded old/ -c old.toml --next new.toml --out continued.ndjson >> new.toml\n  killick run --embedded new/ -c new.toml --input continued.ndjson --format cloudevents --freshness off"
    )]
    Close(close::CloseArgs),
    /// Publishes logs as static files that any web server can serve: C2SP tlog-tiles.
    ///
    /// Of each log its signed checkpoint, the tiles of its tree, and bundles of its entries, which are the batch headers; no
    /// event. Run again, it adds what is new, the checkpoint last; a file that is complete is never written again. Before
    /// anything is written the tree is computed from the headers, and has to be that of a checkpoint that the log signed.
    /// `killick monitor` follows what is published, and so does any client of C2SP tlog-tiles.
    ///
    /// Exit status: 0 done, 3 what is published is another history than the catalog's (nothing is overwritten), 1 any other
    /// failure, 2 usage: also for a log with another hash than SHA-256, which tlog-tiles does not know.
    #[command(
        after_help = "Examples:\n  killick log tiles --embedded site/ --out public/\n  killick log tiles -c killick.toml --out /srv/www/ --every 10s"
    )]
    Tiles(tiles::TilesArgs),
}

impl LogsArgs {
    /// Whether it goes on until it is told to end.
    pub fn goes_on(&self) -> bool {
        matches!(&self.command, Action::Tiles(args) if args.goes_on())
    }
}

/// Does what `killick logs` is asked to.
pub fn run(args: &LogsArgs) -> Outcome {
    match &args.command {
        Action::List { from, output } => list(&*from.find()?.catalog()?, *output)?,
        Action::Close(args) => close::close(args)?,
        Action::Tiles(args) => return tiles::tiles(args),
    }
    Ok(ExitCode::SUCCESS)
}

/// A log of the catalog.
struct Listed {
    origin: Box<str>,
    size: u64,
    checkpoint: Option<Box<str>>,
    anchored: u64,
    series: BTreeMap<Box<str>, u64>,
    continues: Vec<Continuation>,
}

impl Listed {
    fn read(catalog: &dyn Catalog, origin: Box<str>) -> Result<Self> {
        let size = catalog.log_size(&origin)?;
        let last = size.checked_sub(1).map(|last| catalog.batch(&origin, last)).transpose()?.flatten();
        let mut series = BTreeMap::new();
        for name in names(catalog, &origin)?.into_iter().filter(|name| &**name != OWN) {
            let covered = covered(catalog, &origin, &name, size)?;
            series.insert(name, covered);
        }
        Ok(Self {
            size,
            checkpoint: last.map(|last| last.checkpoint),
            anchored: covered(catalog, &origin, OWN, size)?,
            series,
            continues: continued(catalog, &origin)?,
            origin,
        })
    }

    fn json(&self) -> Value {
        let continues = self.continues.iter().map(|Continuation { origin, size, root }| {
            json!({ "origin": origin, "size": size, "root": root.to_string() })
        });
        json!({
            "origin": self.origin,
            "batches": self.size,
            "checkpoint": self.checkpoint,
            "anchored": self.anchored,
            "series": self.series,
            "continues": continues.collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let Self { origin, size, anchored, .. } = self;
        let mut text = format!("{origin}  {size} batches  {anchored} anchored");
        for (name, anchored) in &self.series {
            text += &format!("  {anchored} in {name}");
        }
        for Continuation { origin, size, .. } in &self.continues {
            text += &format!("  continues {origin} at size {size}");
        }
        text
    }
}

fn list(catalog: &dyn Catalog, output: Output) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for origin in catalog.origins()? {
        let listed = Listed::read(catalog, origin)?;
        match output {
            Output::Text => writeln!(out, "{}", listed.text())?,
            Output::Json => writeln!(out, "{}", listed.json())?,
        }
    }
    out.flush()?;
    Ok(())
}

/// The logs that this one continues: what its first leaves say, up to the first that says something else.
fn continued(catalog: &dyn Catalog, origin: &str) -> Result<Vec<Continuation>> {
    let mut continues = Vec::new();
    for number in 0..catalog.log_size(origin)? {
        let Some(batch) = catalog.batch(origin, number)? else { break };
        for (index, statement) in batch.statements.iter().enumerate() {
            let statement = Statement::decode(statement)
                .with_context(|| format!("leaf {index} of batch {number} of {origin}"))?;
            let Some(continuation) = Continuation::of(&statement) else { return Ok(continues) };
            continues.push(continuation);
        }
    }
    Ok(continues)
}
