//! The command line: says what to run, and how it ended.
//!
//! Answers go to stdout, everything else to stderr. Exit codes: 0 ok, 1 failed
//! at run time, 2 bad input.

mod check;
mod demo;
mod edit;
mod print;
mod serve;
mod simulate;
mod watch;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use tracing::Level;

use self::print::{Unwritable, answer, say};
use crate::telemetry::{LogFormat, init};

/// A lookaside load balancer for gRPC: the server side of grpc.lb.v1.
#[derive(Debug, Parser)]
#[command(name = "lookaside", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What to log to stderr: a level, or targets as in RUST_LOG [default: RUST_LOG, or info; warn for demo]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,

    /// How log lines look
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the balancer
    Serve(serve::ServeArgs),
    /// Run a balancer, three backends and clients in one process, and watch weights move
    Demo(demo::DemoArgs),
    /// Say whether a configuration is valid
    Check(check::CheckArgs),
    /// Follow a service as a client does, and print every list that comes
    Watch(watch::WatchArgs),
    /// Change a backend's weight in the configuration file
    Weight(edit::WeightArgs),
    /// Take backends out of the lists, in the configuration file
    ///
    /// A backend that the file does not list can be drained where the service has
    /// `register`: an entry with `drain = true` is added, which holds whatever the
    /// backend registers. A comment marks that entry, and `lookaside undrain` removes it.
    ///
    /// The last listed backend that gets calls is drained with --force only, unless the
    /// service has `register`: those that register are not in the file.
    Drain(edit::DrainArgs),
    /// Put drained backends back into the lists, in the configuration file
    ///
    /// An entry that `lookaside drain` added for a backend that registers is removed,
    /// unless it was given more than the drain since. A weight of 0, which drains as well,
    /// becomes 1.
    Undrain(edit::UndrainArgs),
    /// Compare policies in virtual time, before they serve
    Simulate(simulate::SimulateArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// How a command ended.
#[derive(Debug)]
enum Failure {
    /// What it was given is wrong: exit code 2.
    Input(anyhow::Error),
    /// It failed at run time: exit code 1.
    Run(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Run(error.into())
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return report_usage(&error),
    };
    // The demo has a table on the terminal, and its summary says what went wrong.
    let level = match cli.command {
        Command::Demo(_) => Level::WARN,
        _ => Level::INFO,
    };
    if let Err(error) = init(cli.log.as_deref(), level, cli.log_format) {
        return report(&Failure::Input(error.into()));
    }
    let ended = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => return check::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Weight(args) => return edit::run_weight(&args),
        Command::Drain(args) => return edit::run_drain(&args),
        Command::Undrain(args) => return edit::run_undrain(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Completions { shell } => {
            // Into a buffer: it panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lookaside", &mut script);
            print::print_as_is(&script).map_err(Failure::from)
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    let (error, code) = match failure {
        Failure::Input(error) => (error, 2),
        Failure::Run(error) => (error, 1),
    };
    if error.downcast_ref().is_some_and(Unwritable::is_closed) {
        return ExitCode::SUCCESS;
    }
    say(&format_args!("lookaside: {error:#}"));
    ExitCode::from(code)
}

/// Prints help, the version, or what is wrong with the arguments.
fn report_usage(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    let is_answer = !error.use_stderr();
    match printed.map_err(Unwritable::from) {
        Err(unwritable) if is_answer => report(&Failure::Run(unwritable.into())),
        _ => ExitCode::from(if is_answer { 0 } else { 2 }),
    }
}

/// Runs a command that does I/O. It ends when `command` does, whatever its threads
/// still wait for: a disk, or a name server.
fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(command);
    runtime.shutdown_background();
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
