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
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

fn main() -> ExitCode {
    // The demo is an agent too.
    #[cfg(feature = "demo")]
    if let Some(ended) = holdover::collect::exec::entry() {
        return ended;
    }
    let env = |name: &str| std::env::var(name).ok();
    match Cli::parse().command {
        Command::Tail(args) => run_tail(&args.with_env(env)),
        Command::Ingest(args) => run_ingest(&args.with_env(env)),
        Command::Hosts(args) => told(args.run()),
        Command::Gaps(args) => told(args.run()),
        Command::Resend(args) => told(args.run()),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::show(&args),
        #[cfg(feature = "demo")]
        Command::DemoAgent { config } => demo::agent(config),
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
    let Said { text, code } = match said {
        Ok(said) => said,
        Err(error) => return fail(&error.to_string(), error.exit_code()),
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::from(code),
        // A reader that has gone wants no more, and changes nothing.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(code),
        Err(error) => fail(&format!("cannot write to standard output: {error}"), EXIT_FAILED),
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
        let stop = stop_signal()?;
        Ok(work(Box::pin(stop)).await)
    })
}

/// Ends with the first signal that asks the program to.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
            _ = hangup.recv() => (),
        }
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

/// Logs go to standard error. The scheduler tells of itself at info what only its makers want to know.
fn start_log(level: LevelFilter, verbose: bool) {
    let scheduler = if verbose { level } else { level.min(LevelFilter::WARN) };
    let filter = Targets::new().with_default(level).with_target("tokio_cron_scheduler", scheduler);
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && !no_color())
        .with_max_level(level)
        .with_target(verbose)
        .finish()
        .with(filter)
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

/// The demo, and the agents that it starts: the one place where subscriber side and agent meet.
#[cfg(feature = "demo")]
mod demo {
    use std::io::Read;
    use std::path::PathBuf;

    use holdover::hub::cli::{DemoArgs, EXIT_OK};
    use holdover::hub::demo::{self, Options, Verdict};

    use super::*;

    const EXIT_INTERRUPTED: u8 = 130;

    pub fn show(args: &DemoArgs) -> ExitCode {
        let terminal = io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let DemoArgs { seconds, keep, plant_loss } = *args;
        let options = Options { seconds, keep, plant_loss, terminal, color: terminal && !no_color() };
        match play(options) {
            Ok(code) => ExitCode::from(code),
            Err(error) => fail(&format!("the demo failed: {error:#}"), EXIT_FAILED),
        }
    }

    fn play(options: Options) -> anyhow::Result<u8> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.context("cannot start")?;
        let verdict = runtime.block_on(async {
            let stop = stop_signal()?;
            demo::run(options, stop).await
        });
        runtime.shutdown_background();
        Ok(match verdict? {
            Verdict::Good => EXIT_OK,
            // Of a show that was not over nothing good can be said.
            Verdict::Bad | Verdict::Unread => EXIT_FAILED,
            Verdict::Interrupted => {
                say("holdover-hub: interrupted; everything is stopped\n");
                EXIT_INTERRUPTED
            }
        })
    }

    /// The agent, which is asked to stop when whoever started it has gone, however it went.
    pub fn agent(config: PathBuf) -> ExitCode {
        let watch = std::thread::Builder::new().name("parent".to_owned()).spawn(|| {
            let mut byte = [0];
            while io::stdin().read(&mut byte).is_ok_and(|read| read > 0) {}
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).ok();
        });
        match watch {
            Ok(_) => holdover::cli::run_agent(config),
            Err(error) => {
                fail(&format!("the agent is not started: no thread to watch its parent: {error}"), EXIT_FAILED)
            }
        }
    }
}
