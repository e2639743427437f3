//! The command line of `holdover-hub`: flags and environment to checked [`Options`], outcomes to exit codes.
//!
//! Owns the help texts. Opens nothing but the password file.

use std::fmt::Display;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::filter::Filter;
use super::tail::{Options, Report, Show, TailError};
use crate::uplink::transport::tls::{IdentityFiles, Roots, TlsFiles};
use crate::uplink::transport::{BrokerUrl, Credentials};
use crate::wire::{HubTopics, Lane};

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

const MAX_PASSWORD_FILE: u64 = 4096;

/// Subscriber side of Holdover: shows what hosts send, and proves what is missing.
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

#[cfg(feature = "demo")]
const DEMO_HELP: &str = "\
Starts an MQTT 5 broker with TLS, three agents that measure this host, and a hub, all on 127.0.0.1; cuts the
connection, kills an agent, reconnects, and compares what the agents have on disk with what arrived. Piped, it prints
plain text; NO_COLOR is honoured. Ctrl-C ends everything.

Exit status:
  0    every record is delivered or declared lost
  1    a record is silently lost, the numbers do not add up, or the demo could not run
  2    wrong usage
  130  interrupted";

#[cfg(feature = "demo")]
#[derive(Debug, Args)]
#[command(after_help = DEMO_HELP)]
pub struct DemoArgs {
    /// How long the show takes, about
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=3600))]
    pub seconds: u64,
    /// Keep the directory with outboxes, configurations, certificates and logs
    #[arg(long)]
    pub keep: bool,
    /// Make the broker swallow one message that it acknowledged: the demo has to fail and name it
    #[arg(long)]
    pub plant_loss: bool,
}

const TAIL_HELP: &str = "\
Examples:
  Watch a fleet:
    holdover-hub tail --broker mqtts://broker.example --ca ca.crt --cert viewer.crt --key viewer.key
  Which CPU is busy, as it happens:
    holdover-hub tail ... --name system.cpu --lane live | jq -c 'select(.fields.utilization > 0.9)'
  A check for scripts: ten minutes of one host, and exit 1 if anything is missing:
    holdover-hub tail ... --host edge-01 --for 10m --linger 2m --fail-on-gap > /dev/null

Each line of NDJSON has a `type`:
  record   one record, with `verdict` new, duplicate or late (it had been missing or declared lost)
  event    a copy of a holdover.event record
  gap      seqs that became missing: `state` pending (the host says that they are to come), open, or
           confirmed (two heartbeats neither promised nor declared them)
  loss     seqs that the host declares lost
  epoch    the first message of an outbox
  status   a host's heartbeat, or that it went offline
  bad      a message that was not used: not readable, or of another host than its topic says
  bound    the memory for tracking is full: what can no longer be told
  summary  the account at the end, with --json

What was sent before we listened is unknown, not missing. Filters hide lines; they do not change what is tracked.

Environment: HOLDOVER_HUB_BROKER, _CA, _CERT, _KEY, _USERNAME, _PASSWORD_FILE and _PREFIX stand in for the flags.

Exit status:
  0   ended by --count, --for, SIGINT or SIGTERM, or the reader of the output closed it
  1   --fail-on-gap and something is missing or bad, or nothing was heard; or the output could not be written
  2   wrong usage
  69  no connection came to be
  77  certificate, password or subscription refused by the broker
  78  a certificate or key file cannot be used, or the broker's certificate is not trusted";

#[derive(Debug, Args)]
#[command(after_help = TAIL_HELP)]
pub struct TailArgs {
    /// The broker, mqtts://host[:port]; the port is 8883 unless given
    #[arg(long, value_name = "URL", help_heading = "Connection")]
    broker: Option<String>,
    /// CA certificates that the broker's is checked against (PEM); the system's if not given
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    ca: Option<PathBuf>,
    /// Client certificate, chain included (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    cert: Option<PathBuf>,
    /// Private key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    key: Option<PathBuf>,
    /// User name, where the broker wants one
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    username: Option<String>,
    /// File with the password: never on the command line, where others can read it
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    password_file: Option<PathBuf>,
    /// MQTT client id; random if not given
    #[arg(long, value_name = "ID", help_heading = "Connection")]
    client_id: Option<String>,
    /// Topic levels in front of v1/, as the hosts are configured
    #[arg(long, value_name = "LEVELS", help_heading = "Connection")]
    prefix: Option<String>,
    /// Share the messages with other subscribers of this group; gaps cannot be judged then
    #[arg(long, value_name = "GROUP", help_heading = "Connection", conflicts_with = "fail_on_gap")]
    share: Option<String>,
    /// Allow mqtt:// (clear text) to a loopback address
    #[arg(long, help_heading = "Connection")]
    allow_clear_text: bool,

    /// Only these hosts; * stands for any characters; may be repeated
    #[arg(long, value_name = "PATTERN", help_heading = "Filters")]
    host: Vec<String>,
    /// Only these sites
    #[arg(long, value_name = "PATTERN", help_heading = "Filters")]
    site: Vec<String>,
    /// Only live records of these collectors (history does not name the collector: use --name)
    #[arg(long, value_name = "PATTERN", help_heading = "Filters")]
    collector: Vec<String>,
    /// Only records of these names, such as 'system.*'
    #[arg(long, value_name = "PATTERN", help_heading = "Filters")]
    name: Vec<String>,
    /// Only records that came by this lane
    #[arg(long, help_heading = "Filters")]
    lane: Option<LaneArg>,

    /// NDJSON even on a terminal, and the summary as its last line
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// No summary on standard error
    #[arg(long, short, help_heading = "Output")]
    quiet: bool,
    /// More about the connection on standard error
    #[arg(long, short, help_heading = "Output")]
    pub verbose: bool,

    /// End after N records were shown
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "End")]
    count: Option<u64>,
    /// End after this long, such as 30s, 10m or 1h30m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, help_heading = "End")]
    duration: Option<Duration>,
    /// After --for, listen on for up to this long while a gap is open: records in reach may yet fill it
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "duration", help_heading = "End")]
    linger: Option<Duration>,
    /// Give up (exit 69) when the first connection takes longer; without it, keep trying
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "End")]
    connect_within: Option<Duration>,
    /// Exit 1 if at the end a gap is open or confirmed, a message was bad, or no host was heard of. Seqs that the
    /// host's last status lists as pending, and declared losses, do not count
    #[arg(long, help_heading = "End")]
    fail_on_gap: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LaneArg {
    Live,
    History,
}

/// The command line asks for something that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    #[error("no broker given; use --broker mqtts://host or set HOLDOVER_HUB_BROKER")]
    NoBroker,
    #[error("{flag} needs {other} as well")]
    Alone { flag: &'static str, other: &'static str },
    #[error("{flag}: {why}")]
    Value { flag: &'static str, why: String },
    #[error("cannot use password file {path}: {why}")]
    Password { path: PathBuf, why: String },
}

impl ArgsError {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Password { .. } => EXIT_CONFIG,
            _ => EXIT_USAGE,
        }
    }
}

impl TailArgs {
    /// Fills what flags left open from the environment, which is `env` in tests.
    pub fn with_env(mut self, env: impl Fn(&str) -> Option<String>) -> Self {
        let var = |name: &str| env(&format!("HOLDOVER_HUB_{name}")).filter(|v| !v.is_empty());
        let path = |name: &str| var(name).map(PathBuf::from);
        self.broker = self.broker.or_else(|| var("BROKER"));
        self.ca = self.ca.or_else(|| path("CA"));
        self.cert = self.cert.or_else(|| path("CERT"));
        self.key = self.key.or_else(|| path("KEY"));
        self.username = self.username.or_else(|| var("USERNAME"));
        self.password_file = self.password_file.or_else(|| path("PASSWORD_FILE"));
        self.prefix = self.prefix.or_else(|| var("PREFIX"));
        self
    }

    /// `random` names the client where the user does not; `color`: the terminal may be given colors.
    pub fn options(&self, random: u64, color: bool) -> Result<Options, ArgsError> {
        let broker = self.broker.as_deref().ok_or(ArgsError::NoBroker)?;
        let url = BrokerUrl::parse(broker, self.allow_clear_text).map_err(|e| value("--broker", e))?;
        let prefix = self.prefix.clone().unwrap_or_default();
        let topics = HubTopics::new(&prefix).map_err(|e| value("--prefix", e))?;
        let data = topics.data_filters(self.share.as_deref()).map_err(|e| value("--share", e))?;
        let [status, _, event] = topics.host_filters();
        let client_id = self.client_id.clone().unwrap_or_else(|| format!("holdover-tail-{random:016x}"));
        let table = std::io::stdout().is_terminal() && !self.json;
        Ok(Options {
            url,
            tls: self.tls()?,
            credentials: self.credentials()?,
            client_id,
            prefix,
            needed: data.into_iter().chain([status]).collect(),
            wanted: vec![event],
            alone: self.share.is_none(),
            filter: self.filter(),
            show: if table { Show::Table { color } } else { Show::Lines { summary: self.json } },
            count: self.count,
            duration: self.duration,
            linger: self.linger.unwrap_or_default(),
            connect_within: self.connect_within,
        })
    }

    fn filter(&self) -> Filter {
        Filter {
            hosts: self.host.clone(),
            sites: self.site.clone(),
            collectors: self.collector.clone(),
            names: self.name.clone(),
            lane: self.lane.map(|lane| match lane {
                LaneArg::Live => Lane::Live,
                LaneArg::History => Lane::History,
            }),
        }
    }

    fn tls(&self) -> Result<TlsFiles, ArgsError> {
        let identity = match (&self.cert, &self.key) {
            (Some(certificate), Some(key)) => {
                Some(IdentityFiles { certificate: certificate.clone(), key: key.clone() })
            }
            (None, None) => None,
            (Some(_), None) => return Err(ArgsError::Alone { flag: "--cert", other: "--key" }),
            (None, Some(_)) => return Err(ArgsError::Alone { flag: "--key", other: "--cert" }),
        };
        Ok(TlsFiles { roots: self.ca.clone().map_or(Roots::System, Roots::File), identity })
    }

    fn credentials(&self) -> Result<Option<Credentials>, ArgsError> {
        match (&self.username, &self.password_file) {
            (None, None) => Ok(None),
            (Some(username), Some(path)) => {
                Ok(Some(Credentials { username: username.clone(), password: password(path)? }))
            }
            (Some(_), None) => Err(ArgsError::Alone { flag: "--username", other: "--password-file" }),
            (None, Some(_)) => Err(ArgsError::Alone { flag: "--password-file", other: "--username" }),
        }
    }

    /// What the run comes to.
    pub fn exit_code(&self, report: &Report) -> u8 {
        if self.fail_on_gap && !report.summary.complete { EXIT_FAILED } else { EXIT_OK }
    }

    /// Whether a summary belongs on standard error.
    pub fn wants_summary(&self, report: &Report) -> bool {
        !self.quiet && !report.reader_gone
    }
}

impl TailError {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unavailable(_) => EXIT_UNAVAILABLE,
            Self::Refused(_) => EXIT_REFUSED,
            Self::Config(_) => EXIT_CONFIG,
            Self::Output(_) => EXIT_FAILED,
        }
    }
}

fn value(flag: &'static str, why: impl Display) -> ArgsError {
    ArgsError::Value { flag, why: why.to_string() }
}

/// The first line of the file.
fn password(path: &Path) -> Result<String, ArgsError> {
    let bad = |why: String| ArgsError::Password { path: path.to_owned(), why };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| bad(e.to_string()))?;
    file.take(MAX_PASSWORD_FILE + 1).read_to_string(&mut text).map_err(|e| bad(e.to_string()))?;
    if text.len() as u64 > MAX_PASSWORD_FILE {
        return Err(bad(format!("it is longer than {MAX_PASSWORD_FILE} bytes")));
    }
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(bad("its first line is empty".to_owned())),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let hint = "write it as 30s, 10m or 1h30m";
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| format!("not a duration; {hint}"))?;
    match Duration::try_from(parsed) {
        Ok(positive) if !positive.is_zero() && positive <= Duration::from_secs(10 * 366 * 86_400) => Ok(positive),
        Ok(_) => Err("must be above zero and at most ten years".to_owned()),
        Err(_) => Err(format!("must not be negative; {hint}")),
    }
}

#[cfg(test)]
mod tests;
