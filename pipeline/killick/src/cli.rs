//! The command line: what a user can ask for, how it is logged, and how it ends.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::ConfigError;
use crate::input::OpenError;
use crate::telemetry::{self, Otlp};
use crate::{
    anchors, audit, backup, bench, catalog, config, demo, devnet, doctor, fsck, keys, logs, monitor, plan,
    produce, reanchor, receipts, rejected, run, topics, trust, verify,
};

/// Exit status of a call that makes no sense.
const USAGE: u8 = 2;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub enum Failure {
    /// The call or the configuration makes no sense: exit status 2.
    Usage(String),
    /// Anything else: exit status 1.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    /// What the user got wrong is told from what went wrong by the error's type.
    fn from(error: E) -> Self {
        let error = error.into();
        let is_usage = error.downcast_ref::<ConfigError>().is_some()
            || matches!(error.downcast_ref::<OpenError>(), Some(OpenError::Usage(_)));
        if is_usage { Self::Usage(format!("{error:#}")) } else { Self::Failed(error) }
    }
}

/// How a command ends.
pub type Outcome = Result<ExitCode, Failure>;

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// How the log is written to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Proves later that an event existed by a given time and has not changed since, with nothing but a file.
///
/// Results go to standard output, everything else to standard error. Exit status: 0 done, 1 failed, 2 usage; `verify` and
/// `monitor` have two more. Options marked with an environment variable can be set by it.
#[derive(Debug, Parser)]
#[command(version = env!("KILLICK_VERSION"), after_help = "Example: killick demo")]
struct Cli {
    /// How the log is written.
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        env = "KILLICK_LOG_FORMAT",
        default_value = "text",
        help_heading = "Logging"
    )]
    log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, also by module. Default: info for `run` and `devnet`, error for `bench`, else warn.
    #[arg(long, global = true, value_name = "FILTER", env = "KILLICK_LOG", help_heading = "Logging")]
    log: Option<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Run(run::RunArgs),
    Verify(verify::VerifyArgs),
    Produce(produce::ProduceArgs),
    Receipts(receipts::ReceiptsArgs),
    Rejected(rejected::RejectedArgs),
    Keys(keys::KeysArgs),
    Trust(trust::TrustArgs),
    Devnet(devnet::DevnetArgs),
    Anchors(anchors::AnchorsArgs),
    Reanchor(reanchor::ReanchorArgs),
    Logs(logs::LogsArgs),
    Monitor(monitor::MonitorArgs),
    Audit(audit::AuditArgs),
    Fsck(fsck::FsckArgs),
    Doctor(doctor::DoctorArgs),
    Plan(plan::PlanArgs),
    Bench(bench::BenchArgs),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    Topics(topics::TopicsCommand),
    Catalog(catalog::CatalogCommand),
    Config(config::ConfigCommand),
    /// Prints what completes commands in a shell.
    #[command(after_help = "Example: killick completions bash > /etc/bash_completion.d/killick")]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Only who works for long is followed.
    let is_followed = match &cli.command {
        Command::Run(_) => true,
        Command::Audit(args) => args.goes_on(),
        _ => false,
    };
    let otlp = if is_followed { Otlp::of_environment() } else { Ok(Otlp::default()) };
    let otlp = match otlp {
        Ok(otlp) => otlp,
        Err(error) => return report(Failure::Usage(format!("{error:#}"))),
    };
    if let Err(why) = log(&cli, &otlp) {
        return report(Failure::Usage(why));
    }
    let outcome = match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Run(args) => run::run(args, otlp),
        Command::Verify(args) => Ok(verify::run(&args)),
        Command::Produce(args) => produce::run(&args),
        Command::Receipts(args) => receipts::run(&args),
        Command::Rejected(args) => rejected::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Trust(args) => trust::run(&args),
        Command::Devnet(args) => devnet::run(args),
        Command::Anchors(args) => anchors::run(&args),
        Command::Reanchor(args) => reanchor::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Monitor(args) => monitor::run(&args),
        Command::Audit(args) => audit::run(&args, otlp),
        Command::Fsck(args) => fsck::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Topics(args) => topics::run(&args),
        Command::Catalog(args) => catalog::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Completions { shell } => completions(shell),
    };
    outcome.unwrap_or_else(report)
}

fn report(failure: Failure) -> ExitCode {
    match failure {
        Failure::Usage(why) => {
            complain(format_args!("{}", shown(&why)));
            ExitCode::from(USAGE)
        }
        // Whoever reads our output has seen enough: nothing to complain about.
        Failure::Failed(error) if is_broken_pipe(&error) => ExitCode::FAILURE,
        Failure::Failed(error) => {
            complain(format_args!("{}", shown(&format!("{error:#}"))));
            ExitCode::FAILURE
        }
    }
}

/// Says what is wrong; where nobody listens, the exit status has to do.
fn complain(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "error: {what}");
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_one = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    };
    error.chain().any(is_one)
}

/// A text from outside as it may be printed: no character that a terminal obeys, but the ends of our own lines.
pub fn shown(text: &str) -> String {
    text.lines().map(verify::shown_line).collect::<Vec<_>>().join("\n")
}

fn log(cli: &Cli, otlp: &Otlp) -> Result<(), String> {
    let is_service = match &cli.command {
        Command::Run(_) | Command::Devnet(_) => true,
        Command::Audit(args) => args.goes_on(),
        Command::Logs(args) => args.goes_on(),
        Command::Monitor(args) => args.goes_on(),
        _ => false,
    };
    let default = match &cli.command {
        // Its development networks need not say each time what they are.
        Command::Bench(_) => "error",
        _ if is_service => "info",
        _ => "warn",
    };
    // Whoever waits for the catalog says so, with the cause; the driver need not at each try.
    let default = format!("{default},scylla::cluster::metadata::cc_establisher=off");
    let filter = cli.log.as_deref().filter(|filter| !filter.is_empty()).unwrap_or(&default);
    telemetry::logs::begin(filter, cli.log_format == LogFormat::Json, otlp)
}

fn completions(shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "killick", &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        fn walk(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                let path = format!("{path} {}", sub.get_name());
                let mut sub = sub.clone();
                let help = sub.render_long_help().to_string();
                assert!(help.contains("Example") && help.contains("killick"), "{path}: {help}");
                walk(&sub, &path);
            }
        }
        walk(&Cli::command(), "killick");
    }
}
