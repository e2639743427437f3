//! `holdover-hub`: process concerns only (arguments, logs, signals, exit codes); the work is in `holdover::hub`.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, IsTerminal, Write};
use std::pin::Pin;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use holdover::hub::cli::{AccountsError, Cli, Command, EXIT_FAILED, IngestArgs, Said, TailArgs};
use holdover::hub::ingest;
use holdover::hub::tail::{self, Options, Show};
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

fn main() -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    match Cli::parse().command {
        Command::Tail(args) => run_tail(&args.with_env(env)),
        Command::Ingest(args) => run_ingest(&args.with_env(env)),
        Command::Hosts(args) => told(args.run()),
        Command::Gaps(args) => told(args.run()),
        Command::Resend(args) => told(args.run()),
    }
}

fn run_tail(args: &TailArgs) -> ExitCode {
    let options = match args.options(RandomState::new().hash_one("client id"), !no_color()) {
        Ok(options) => options,
        Err(error) => return fail(&error.to_string(), error.exit_code()),
    };
    start_log(tail_level(&options, args.verbose), args.verbose);
    ended(listen(args, options))
}

fn run_ingest(args: &IngestArgs) -> ExitCode {
    let options = match args.options() {
        Ok(options) => options,
        Err(error) => return fail(&error.to_string(), error.exit_code()),
    };
    start_log(if args.verbose { LevelFilter::DEBUG } else { LevelFilter::INFO }, args.verbose);
    ended(until_signal(|stop| ingest::run(options, stop)).map(|result| match result {
        Ok(()) => 0,
        Err(error) => {
            say(&format!("holdover-hub: {error}\n"));
            error.exit_code()
        }
    }))
}

fn told(said: Result<Said, AccountsError>) -> ExitCode {
    match said {
        // A reader that has gone wants no more.
        Ok(Said { text, code }) => {
            io::stdout().write_all(text.as_bytes()).ok();
            ExitCode::from(code)
        }
        Err(error) => fail(&error.to_string(), error.exit_code()),
    }
}

fn ended(result: anyhow::Result<u8>) -> ExitCode {
    result.map_or_else(|error| fail(&format!("{error:#}"), EXIT_FAILED), ExitCode::from)
}

fn listen(args: &TailArgs, options: Options) -> anyhow::Result<u8> {
    Ok(match until_signal(|stop| tail::run(options, io::stdout(), stop))? {
        Ok(report) => {
            if args.wants_summary(&report) {
                say(&report.summary.text());
            }
            args.exit_code(&report)
        }
        Err(error) => {
            say(&format!("holdover-hub: {error}\n"));
            error.exit_code()
        }
    })
}

/// Runs what `work` makes of the signals that ask us to end.
fn until_signal<T, F: Future<Output = T>>(
    work: impl FnOnce(Pin<Box<dyn Future<Output = ()>>>) -> F,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let stop = async move {
            tokio::select! {
                _ = interrupt.recv() => (),
                _ = terminate.recv() => (),
                _ = hangup.recv() => (),
            }
        };
        Ok(work(Box::pin(stop)).await)
    })
}

fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
}

/// On a terminal with the table logs would write across it, and the table shows them.
fn tail_level(options: &Options, verbose: bool) -> LevelFilter {
    match (options.show, verbose) {
        (Show::Table { .. }, _) => LevelFilter::OFF,
        (Show::Lines { .. }, true) => LevelFilter::DEBUG,
        (Show::Lines { .. }, false) => LevelFilter::INFO,
    }
}

/// Logs go to standard error.
fn start_log(level: LevelFilter, verbose: bool) {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && !no_color())
        .with_max_level(level)
        .with_target(verbose)
        .init();
}

fn fail(text: &str, code: u8) -> ExitCode {
    say(&format!("holdover-hub: {text}\n"));
    ExitCode::from(code)
}

/// Nobody can be told when standard error fails.
fn say(text: &str) {
    io::stderr().write_all(text.as_bytes()).ok();
}
