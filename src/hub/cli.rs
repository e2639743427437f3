//! The command line of `holdover-hub`: flags and environment to checked options, outcomes to exit codes.
//!
//! Owns the help texts, one file for each command.

mod accounts;
mod connect;
#[cfg(feature = "demo")]
mod demo;
mod ingest;
mod tail;

#[cfg(feature = "demo")]
use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use self::accounts::{AccountsError, GapsArgs, HostsArgs, ResendArgs, Said};
pub use self::connect::{ArgsError, ConnectArgs};
#[cfg(feature = "demo")]
pub use self::demo::DemoArgs;
pub use self::ingest::IngestArgs;
pub use self::tail::TailArgs;

pub const EXIT_OK: u8 = 0;
/// A gap, or silence, with `--fail-on-gap`; or the output failed.
pub const EXIT_FAILED: u8 = 1;
pub const EXIT_USAGE: u8 = 2;
/// `EX_UNAVAILABLE`: no connection came to be.
pub const EXIT_UNAVAILABLE: u8 = 69;
/// `EX_NOPERM`: certificate, password or subscription refused.
pub const EXIT_REFUSED: u8 = 77;
/// `EX_CONFIG`: a file cannot be used, or the broker's certificate is not the right one.
pub const EXIT_CONFIG: u8 = 78;

/// Subscriber side of Holdover: shows and stores what hosts send, and proves what is missing.
#[derive(Debug, Parser)]
#[command(name = "holdover-hub", version, disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show records as they arrive: NDJSON when piped, a live table on a terminal.
    Tail(Box<TailArgs>),
    /// Store every record once, acknowledge it to its host, and ask for what is missing.
    Ingest(Box<IngestArgs>),
    /// List the hosts of a hub and how complete they are.
    Hosts(HostsArgs),
    /// List what is missing and what was declared lost; exit 1 when something is missing.
    Gaps(GapsArgs),
    /// Have a host send records again, or declare them lost.
    Resend(ResendArgs),
    /// See it all work on this host: an outage, a kill -9, and an account of every record.
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
    /// What the demo starts three times; ends with its standard input.
    #[cfg(feature = "demo")]
    #[command(name = super::demo::SUBCOMMAND, hide = true)]
    DemoAgent {
        #[arg(long)]
        config: PathBuf,
    },
}

#[cfg(test)]
mod tests;
