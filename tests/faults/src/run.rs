//! One run from its beginning to its verdict.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use killick_catalog::CqlCatalog;
use killick_kafka::KafkaReader;

use crate::checker::{Checker, Findings, Sample, check_catalog, lives, suspects, trust};
use crate::events::{Events, Mix};
use crate::faults::{Action, perform};
use crate::ledger::{Ledger, Plan};
use crate::load::{Load, Pace};
use crate::proxy::{Fault, Late};
use crate::rest::Rest;
use crate::stand::{Ground, Recipe, Stand, tool};

/// Between two looks of an operator at the broker's transactions.
const OPERATOR: Duration = Duration::from_secs(60);
/// Between two lines about how it goes.
const TELL: Duration = Duration::from_secs(10);
/// How long the pipeline may take to come to rest when nothing is done to it any more.
const REST: Duration = Duration::from_mins(30);

/// Why a run ends early.
const INTERRUPTED: &str = "interrupted";
static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends the run as soon as everything that was begun is undone; there is no verdict then.
pub fn interrupt() {
    IS_INTERRUPTED.store(true, Ordering::Relaxed);
}

fn is_interrupted() -> bool {
    IS_INTERRUPTED.load(Ordering::Relaxed)
}

/// What a run is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Servers, programs and processes.
    pub recipe: Recipe,
    /// How many events.
    pub events: u64,
    /// Threads that send them.
    pub senders: usize,
    /// What they are like; its start is set when the run begins.
    pub mix: Mix,
    /// What is done, and when.
    pub plan: Vec<(Duration, Action)>,
    /// How long events are sent.
    pub span: Duration,
    /// The pipeline is stuck when nothing moves for so long, though nothing is done to it any more.
    pub patience: Duration,
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What the run was made of.
    pub seed: u64,
    /// Numbers that were to be sent.
    pub events: u64,
    /// Processes that were killed.
    pub kills: u64,
    /// Processes that were stopped and went on.
    pub pauses: u64,
    /// Processes that came and went again.
    pub moves: u64,
    /// Brokers, catalogs and nodes of the chain that were away.
    pub outages: u64,
    /// Transactions that a restarted broker forgot, and that were ended as an operator does.
    pub hanging: u64,
    /// What is wrong.
    pub findings: Findings,
    /// What all of it took, checking included.
    pub took: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, events, kills, pauses, moves, outages, hanging, findings, took } = self;
        write!(
            f,
            "seed={seed} events={events} kills={kills} pauses={pauses} moves={moves} outages={outages} \
             hanging={hanging} {findings} \
             time={}s",
            took.as_secs()
        )
    }
}

/// Runs, and looks at what came of it. What is told goes to standard error.
///
/// # Errors
/// The servers do not come up or do not come back, or nothing can be read from them: then there is no verdict.
pub fn run(options: &Options, ground: &Ground) -> Result<Outcome> {
    let begun = Instant::now();
    let micros = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    let mix = Mix { start: i64::try_from(micros)?, ..options.mix.clone() };
    let events = Events::new(mix.clone());
    let stand = Stand::up(&options.recipe, &events, ground)?;
    let ledger = options.recipe.folder.join("ledger");
    let mut log = KafkaReader::open(&stand.kafka, "faults")?;
    let mut rest = Rest::new();

    let pace = Pace { senders: options.senders, span: options.span };
    let load = Load::start(&stand.load, &Plan { events: options.events, mix }, &pace, &ledger)?;
    let ended_late = disturb(options, &stand, &load, &mut log, &mut rest)?;
    let sent = load.join()?;
    stand.scene.timeline.note(format_args!("all is sent: {sent:?}"));
    settle(options.patience, &stand, &mut log, &mut rest)?;
    let unclean = stand.stop_processes();

    let ledger = Ledger::read(&ledger)?;
    let mut findings = judge(options, &stand, &ledger, &events, &mut log)?;
    for client in ended_late {
        findings
            .wrong
            .add(None, format!("a late end of {client} was taken for that of the next transaction"));
    }
    // With a bug that is no proof of anything.
    if let Err(error) = unclean
        && options.recipe.bug.is_none()
    {
        findings.wrong.add(None, format!("a process did not end as it should: {error:#}"));
    }
    if options.recipe.bug.is_none() {
        explain(&findings, &mut log)?;
    }
    let counts = &stand.scene.fleet.counts;
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let outcome = Outcome {
        seed: options.mix.seed,
        events: options.events,
        kills: read(&counts.kills),
        pauses: read(&counts.pauses),
        moves: read(&counts.moves),
        outages: read(&stand.scene.outages),
        hanging: read(&stand.scene.hanging),
        findings,
        took: begun.elapsed(),
    };
    stand.scene.timeline.note(&outcome);
    stand.down();
    Ok(outcome)
}

/// Does what is planned while the load is sent. Returns whose transactions were ended by the late end of an earlier one.
fn disturb(
    options: &Options,
    stand: &Stand,
    load: &Load,
    log: &mut KafkaReader,
    rest: &mut Rest,
) -> Result<Vec<String>> {
    let scene = &stand.scene;
    std::thread::scope(|scope| {
        let faults = scope.spawn(|| perform(scene, &options.plan));
        let mut operator = Instant::now();
        while !(faults.is_finished() && load.is_over()) {
            std::thread::sleep(Duration::from_millis(200));
            if scene.is_broken.load(Ordering::Relaxed) || is_interrupted() {
                load.stop();
                break;
            }
            tell(stand, load, log, rest);
            if operator.elapsed() > OPERATOR {
                scene.end_hanging();
                operator = Instant::now();
            }
        }
        scene.stop.store(true, Ordering::Relaxed);
    });
    ensure!(!is_interrupted(), INTERRUPTED);
    if scene.is_broken.load(Ordering::Relaxed) {
        bail!("a server did not come back: see {}", options.recipe.folder.display());
    }
    for proxy in scene.links.values() {
        proxy.set(Fault::None);
        proxy.let_go();
    }
    let mut taken = Vec::new();
    for (link, proxy) in &scene.links {
        for Late { client, error } in proxy.take_late() {
            scene.timeline.note(format_args!("{link}: a late end of {client}: {error:?}"));
            if error == Some(0) {
                taken.push(client);
            }
        }
    }
    Ok(taken)
}

/// Tells how it goes, now and then.
fn tell(stand: &Stand, load: &Load, log: &mut KafkaReader, rest: &mut Rest) {
    static LAST: std::sync::Mutex<Option<Instant>> = std::sync::Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if last.is_some_and(|last| last.elapsed() < TELL) {
        return;
    }
    *last = Some(Instant::now());
    drop(last);
    // The broker may be away now: then the next line will tell.
    let proven = rest.proven(log).map_or_else(|_| "?".to_owned(), |proven| proven.to_string());
    let (sent, counts) = (load.sent(), &stand.scene.fleet.counts);
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    eprintln!(
        "{:4}s accepted {} unknown {} proven {proven} kills {} pauses {} outages {} exits {}",
        stand.scene.timeline.begun().elapsed().as_secs(),
        sent.accepted,
        sent.unknown,
        read(&counts.kills),
        read(&counts.pauses),
        read(&stand.scene.outages),
        read(&counts.exits),
    );
}

/// Waits until the pipeline has come to rest, or does not move any more.
fn settle(patience: Duration, stand: &Stand, log: &mut KafkaReader, rest: &mut Rest) -> Result<()> {
    let (begun, timeline) = (Instant::now(), &stand.scene.timeline);
    let (mut last, mut moved, mut told) = (String::new(), Instant::now(), Instant::now());
    let mut operator = Instant::now();
    loop {
        ensure!(!is_interrupted(), INTERRUPTED);
        let Some(unfinished) = rest.unfinished(log)? else { break };
        if unfinished != last {
            (last, moved) = (unfinished, Instant::now());
        }
        if told.elapsed() > TELL {
            told = Instant::now();
            eprintln!("{:4}s {last}", timeline.begun().elapsed().as_secs());
        }
        if moved.elapsed() > patience || begun.elapsed() > REST {
            timeline.note(format_args!("no rest: {last}"));
            eprintln!("the pipeline does not come to rest: {last}");
            return Ok(());
        }
        if operator.elapsed() > OPERATOR / 2 {
            stand.scene.end_hanging();
            operator = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    timeline.note(format_args!("at rest after {:.1} s", begun.elapsed().as_secs_f64()));
    Ok(())
}

/// Looks at everything that can be seen from outside.
fn judge(
    options: &Options,
    stand: &Stand,
    ledger: &Ledger,
    events: &Events,
    log: &mut KafkaReader,
) -> Result<Findings> {
    let (folder, program) = (&options.recipe.folder, &options.recipe.program);
    let trusted = folder.join("trust.json");
    let path = trusted.to_str().context("the folder's path is no text")?;
    tool(program, &stand.config, &["trust", "own", "--out", path])?;
    let mut checker = Checker::new(ledger, events, trust(&trusted)?)?;
    let mut told = Instant::now();
    checker.read(log, &mut |topic, count| {
        if told.elapsed() > TELL {
            told = Instant::now();
            eprintln!("checking: {count} records of {topic}");
        }
    })?;
    let (mut findings, proven) = checker.conclude();
    let catalog = CqlCatalog::new(&catalog_settings(&stand.config)?)?;
    let receipts = folder.join("receipts");
    let sample = Sample { receipts: 2_000, names: 5_000 };
    check_catalog(&catalog, (ledger, events), &proven, sample, &receipts, &mut findings)?;
    verify_files(program, &receipts, &trusted, &mut findings)?;
    // A planted bug is caught by the first who sees it.
    if options.recipe.bug.is_none() || findings.are_clean() {
        fsck(program, &stand.config, &mut findings)?;
        audit(program, &stand.config, &mut findings)?;
    }
    Ok(findings)
}

/// Lets the program compute the catalog anew from its bytes, and hold it against the log.
fn fsck(program: &Path, config: &Path, findings: &mut Findings) -> Result<()> {
    let mut command = Command::new(program);
    command.args(["fsck", "--output", "json", "--limit", "20", "--config"]).arg(config);
    let output = command.output().context("fsck does not start")?;
    if !output.status.success() {
        for text in [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)) {
            text.lines().for_each(|line| findings.fsck.add(None, format!("fsck: {line}")));
        }
        findings.fsck.count = findings.fsck.count.max(1);
    }
    Ok(())
}

fn catalog_settings(config: &Path) -> Result<killick_catalog::Settings> {
    let mut table: toml::Table = std::fs::read_to_string(config)?.parse()?;
    let section = table.remove("catalog").context("the configuration has no [catalog]")?;
    Ok(section.try_into()?)
}

/// Lets a fresh process that sees only files verify them.
fn verify_files(program: &Path, receipts: &Path, trust: &Path, findings: &mut Findings) -> Result<()> {
    let files = std::fs::read_dir(receipts)?.count();
    let mut command = Command::new(program);
    command.args(["verify", "--output", "json", "--trust"]).arg(trust).arg(receipts);
    let output = command.output().context("the verifier does not start")?;
    let mut told = 0;
    for line in String::from_utf8(output.stdout)?.lines() {
        let verdict: serde_json::Value = serde_json::from_str(line)?;
        told += 1;
        if verdict["level"] != "trusted" || !verdict["error"].is_null() {
            findings.wrong.add(None, verdict.to_string());
        }
    }
    if told != files {
        let said = String::from_utf8_lossy(&output.stderr);
        findings.wrong.add(None, format!("the verifier spoke of {told} of {files} receipts: {said}"));
    }
    Ok(())
}

/// Lets the program audit itself: manifests and sums, which nothing here looks at.
fn audit(program: &Path, config: &Path, findings: &mut Findings) -> Result<()> {
    let mut command = Command::new(program);
    command.args(["audit", "--output", "json", "--objective", "1s", "--config"]).arg(config);
    let output = command.output().context("the audit does not start")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8(output.stdout)?;
    let last =
        text.lines().last().with_context(|| format!("killick audit ended with {}: {said}", output.status))?;
    let report: serde_json::Value = serde_json::from_str(last)?;
    let counts =
        report["findings"].as_object().with_context(|| format!("an audit without findings: {last}"))?;
    for (kind, count) in counts {
        let count = count.as_u64().with_context(|| format!("a count that is none: {last}"))?;
        let why = format!("audit: {count} of {kind}");
        findings.audit += count;
        match kind.as_str() {
            "gap" => findings.gaps += count,
            "overlap" => findings.overlaps += count,
            "lost" | "late" => findings.lost.add_all(count, why),
            "twice" => findings.duplicated.add_all(count, why),
            "extra" => findings.phantom.add_all(count, why),
            _ => findings.wrong.add_all(count, why),
        }
    }
    if report["clean"] != true {
        findings.audit = findings.audit.max(1);
        eprintln!("the audit: {text}");
    }
    Ok(())
}

/// Tells of what is wrong, with the life of each event concerned.
fn explain(findings: &Findings, log: &mut KafkaReader) -> Result<()> {
    let kinds = [
        ("lost", &findings.lost),
        ("duplicated", &findings.duplicated),
        ("phantom", &findings.phantom),
        ("wrong", &findings.wrong),
        ("fsck", &findings.fsck),
    ];
    for (kind, bad) in kinds {
        for (number, why) in &bad.told {
            let number = number.map_or_else(|| "-".to_owned(), |number| number.to_string());
            eprintln!("{kind}: {number}: {why}");
        }
    }
    let numbers = suspects(findings);
    if !numbers.is_empty() {
        for (number, life) in lives(log, &numbers)? {
            eprintln!("the life of {number}:");
            life.iter().for_each(|line| eprintln!("  {line}"));
        }
    }
    Ok(())
}

/// Where a run of that seed is kept.
pub fn folder_of(seed: u64) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/faults").join(seed.to_string())
}
