//! The agent's command line: arguments in, an exit code out. Each command is one file; all of them print
//! through [`output`], so that a pipe gets plain text or JSON and a terminal gets colour.

mod args;
mod check_config;
mod collectors;
mod exit;
mod load;
mod logging;
mod next;
mod once;
mod outbox;

mod output;
mod put;
mod quarantine;
mod run;
mod status;
mod test_collector;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
pub use exit::{Exit, Failure};

/// Parses the arguments, runs the command, says what failed. The binary's whole `main`.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    let done = match &cli.command {
        Command::Run(args) => run::run(args),
        Command::CheckConfig(args) => check_config::run(args),
        Command::Collectors(args) => collectors::run(args),
        Command::Once(args) => once::run(args),
        Command::TestCollector(args) => test_collector::run(args),
        Command::Next(args) => next::run(args),
        Command::Status(args) => status::run(args),
        Command::Put(args) => put::run(args),
        Command::Outbox(args) => outbox::run(args),
    };
    exit::finish(done)
}

/// `holdover run --config FILE`, for `holdover-hub demo`, which starts itself as the agent.
#[cfg(feature = "demo")]
pub fn run_agent(config: std::path::PathBuf) -> ExitCode {
    exit::finish(run::run(&args::RunArgs { config: args::ConfigArg { config } }))
}
