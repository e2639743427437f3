//! `holdover-hub`: process concerns only (arguments, logs, signals, exit codes); the work is in `holdover::hub`.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use holdover::hub::cli::{Cli, Command, EXIT_FAILED, TailArgs};
use holdover::hub::tail::{self, Options, Show};
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

fn main() -> ExitCode {
    let Command::Tail(args) = Cli::parse().command;
    let args = args.with_env(|name| std::env::var(name).ok());
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let options = match args.options(RandomState::new().hash_one("client id"), !no_color) {
        Ok(options) => options,
        Err(error) => return fail(&error.to_string(), error.exit_code()),
    };
    start_log(&options, args.verbose, no_color);
    match listen(&args, options) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&format!("{error:#}"), EXIT_FAILED),
    }
}

fn listen(args: &TailArgs, options: Options) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let result = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let stop = async {
            tokio::select! {
                _ = interrupt.recv() => (),
                _ = terminate.recv() => (),
                _ = hangup.recv() => (),
            }
        };
        anyhow::Ok(tail::run(options, io::stdout(), stop).await)
    })?;
    match result {
        Ok(report) => {
            if args.wants_summary(&report) {
                say(&report.summary.text());
            }
            Ok(args.exit_code(&report))
        }
        Err(error) => {
            say(&format!("holdover-hub: {error}\n"));
            Ok(error.exit_code())
        }
    }
}

/// Logs go to standard error; on a terminal with the table they would write across it, and the table shows them.
fn start_log(options: &Options, verbose: bool, no_color: bool) {
    let level = match (options.show, verbose) {
        (Show::Table { .. }, _) => LevelFilter::OFF,
        (Show::Lines { .. }, true) => LevelFilter::DEBUG,
        (Show::Lines { .. }, false) => LevelFilter::INFO,
    };
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && !no_color)
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
