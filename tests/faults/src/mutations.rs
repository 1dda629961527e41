//! Proves the checker: bugs are planted one after another, and each has to be caught.
//!
//! Every bug comes with what takes it to where it does harm, so that little luck is needed; a bug that had none is tried
//! again, twice at most. The same faults without a bug come first, and have to leave nothing to find. What the stages decide, and not their shell, is planted in the
//! simulation (`pipeline/stages/tests/sim.rs`), where a run takes a moment.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::runtime::Handle;

use crate::checker::Findings;
use crate::events::Mix;
use crate::faults::Action;
use crate::fleet::Bug;
use crate::proxy::Fault;
use crate::run::{Options, Outcome, run};
use crate::stand::{Ground, Recipe};

/// A planted bug, and what is done to it.
pub struct Mutation {
    /// Its name.
    pub name: &'static str,
    /// What is wrong.
    pub what: &'static str,
    bug: Bug,
    plan: &'static [(f64, Action)],
}

/// Runs in which a bug may do its harm.
const TRIES: u64 = 3;
/// How long events are sent.
const SPAN: Duration = Duration::from_secs(12);
/// How many.
const EVENTS: u64 = 6_000;
/// Nothing here stands still for longer than that.
const PATIENCE: Duration = Duration::from_secs(18);
/// The stage whose shell has the bug: it has state, and what it does twice nobody after it takes back.
const STAGE: &str = "dedup";

const fn bug(always: &'static str, once: &'static str) -> Bug {
    Bug { stage: STAGE, always, once }
}

/// It works for longer on a transaction than the brokers let it be open.
const TOO_LONG: &str = "after_send=20*off->1*sleep(8000)";

const KILL: Action = Action::Kill { stage: STAGE, down: Duration::from_millis(100) };
const LATE_END: Action = Action::LateEnd { stage: STAGE };
const ZOMBIE: Action =
    Action::PausePoint { stage: STAGE, point: "before_begin", span: Duration::from_secs(11) };
const STORM: Action = Action::Storm { stage: STAGE, rounds: 3 };
const CUT: Action = Action::Link { link: "catalog", fault: Fault::Cut, span: Duration::from_secs(5) };

/// The bugs.
pub const ALL: [Mutation; 9] = [
    Mutation {
        name: "offsets_first",
        what: "offsets are committed before what came of them",
        bug: bug("offsets_first=return", "after_offsets_first=10*off->1*return(exit)"),
        plan: &[],
    },
    Mutation {
        name: "auto_commit",
        what: "the consumer commits what it has read, and nobody has worked on",
        bug: bug(
            "auto_commit=return",
            "before_begin=10*off->1*sleep(1500);after_send=10*off->1*return(exit)",
        ),
        plan: &[],
    },
    Mutation {
        name: "metadata_of_nobody",
        what: "offsets are committed in the name of no member of the group",
        bug: bug("metadata_of_nobody=return", ""),
        plan: &[(3.0, ZOMBIE)],
    },
    Mutation {
        name: "errors_ignored",
        what: "a transaction that failed counts as committed",
        bug: bug("errors_ignored=return", TOO_LONG),
        plan: &[],
    },
    Mutation {
        name: "applied_before_commit",
        what: "the stage goes on from what was not committed",
        bug: bug("applied_before_commit=return", TOO_LONG),
        plan: &[],
    },
    Mutation {
        name: "doubt_ignored",
        what: "a producer is kept whose requests may have been sent twice",
        bug: bug("doubt_ignored=return;after_send=sleep(40)", ""),
        plan: &[
            (2.0, LATE_END),
            (3.5, LATE_END),
            (5.0, LATE_END),
            (6.5, LATE_END),
            (8.0, LATE_END),
            (9.5, LATE_END),
            (11.0, LATE_END),
        ],
    },
    Mutation {
        name: "revoke_ignored",
        what: "work goes on in partitions that are another's",
        // Longer than it takes the group to give a partition to the next one.
        bug: bug("revoke_ignored=return;in_hand=80%sleep(2500)", ""),
        plan: &[(2.0, STORM), (6.0, STORM)],
    },
    Mutation {
        name: "state_not_restored",
        what: "state is not read back",
        bug: bug("state_not_restored=return", ""),
        plan: &[(5.0, KILL), (7.0, KILL), (9.0, KILL)],
    },
    Mutation {
        name: "anchor_not_put",
        what: "a proof is published though the catalog does not have its anchor",
        bug: Bug { stage: "prove", always: "anchor_not_put=return", once: "" },
        plan: &[],
    },
];

/// What is done to the bugs, without a bug.
const CONTROL: Mutation = Mutation {
    name: "none",
    what: "the same faults without a bug",
    bug: bug("", "before_begin=10*off->1*sleep(1500);after_send=60*off->1*sleep(8000)"),
    plan: &[
        (2.0, LATE_END),
        (3.0, CUT),
        (4.0, KILL),
        (5.0, LATE_END),
        (6.0, ZOMBIE),
        (7.0, LATE_END),
        (8.0, STORM),
    ],
};

/// Plants the bugs that are named, or all, and says of each what caught it; whether all were caught.
///
/// # Errors
/// The servers do not come up or do not come back: then there is no verdict.
pub fn suite(names: &[String], program: &Path, folder: &Path, seed: u64, runtime: &Handle) -> Result<bool> {
    let begun = Instant::now();
    let known = || ALL.map(|mutation| mutation.name).join(", ");
    for name in names {
        ALL.iter()
            .find(|mutation| mutation.name == name)
            .with_context(|| format!("there is no bug {name:?}; there are {}", known()))?;
    }
    let ground = Ground::up(&folder.join("servers"), runtime)?;
    let mut caught = 0;
    let wanted: Vec<_> = ALL
        .iter()
        .filter(|mutation| names.is_empty() || names.iter().any(|name| name == mutation.name))
        .collect();
    let control = plant(&CONTROL, program, folder, seed, &ground)?;
    println!(
        "{:7} {}: {}",
        if control.findings.are_clean() { "clean" } else { "NOT CLEAN" },
        CONTROL.what,
        control
    );
    for mutation in &wanted {
        let mut tries = 1;
        let mut outcome = plant(mutation, program, folder, seed, &ground)?;
        while outcome.findings.are_clean() && tries < TRIES {
            outcome = plant(mutation, program, folder, seed + tries, &ground)?;
            tries += 1;
        }
        let is_caught = !outcome.findings.are_clean();
        caught += usize::from(is_caught);
        let word = if is_caught { "caught" } else { "MISSED" };
        let (Mutation { name, what, .. }, by) = (mutation, by(&outcome.findings));
        println!("{word:7} {name}, {what}: {by} tries={tries} time={}s", outcome.took.as_secs());
    }
    println!(
        "bugs={} caught={caught} control={} time={}s",
        wanted.len(),
        if control.findings.are_clean() { "clean" } else { "unclean" },
        begun.elapsed().as_secs()
    );
    Ok(control.findings.are_clean() && caught == wanted.len())
}

fn plant(mutation: &Mutation, program: &Path, folder: &Path, seed: u64, ground: &Ground) -> Result<Outcome> {
    let folder = folder.join(format!("{}-{seed}", mutation.name));
    std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
    eprintln!("{}: {}", mutation.name, mutation.what);
    let options = Options {
        recipe: Recipe {
            folder,
            program: program.to_owned(),
            planted: Some(program.to_owned()),
            bug: Some(mutation.bug),
            processes: (2, 3),
            is_told: false,
        },
        events: EVENTS,
        senders: 1,
        mix: Mix { seed, start: 0, signed: 200, poison: 5, repeated: 150, changed: 5, hot: 100 },
        plan: mutation
            .plan
            .iter()
            .map(|(at, action)| (Duration::from_secs_f64(*at), action.clone()))
            .collect(),
        span: SPAN,
        patience: PATIENCE,
    };
    run(&options, ground)
}

/// What caught a bug, in words.
fn by(findings: &Findings) -> String {
    let counts: Vec<_> = findings
        .to_string()
        .split(' ')
        .filter(|count| !count.ends_with("=0") && !count.ends_with("=clean"))
        .map(str::to_owned)
        .collect();
    let first = findings.first().map(|why| format!(" ({why})")).unwrap_or_default();
    format!("{}{first}", counts.join(" "))
}
