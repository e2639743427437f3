//! `holdover-hub tail`: its help, its flags, and what they come to.

use std::io::IsTerminal;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::connect::{ArgsError, ConnectArgs, duration, value};
use super::{EXIT_FAILED, EXIT_OK};
use crate::hub::filter::Filter;
use crate::hub::tail::{Options, Report, Show, TailError};
use crate::wire::Lane;

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
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// MQTT client id; random if not given
    #[arg(long, value_name = "ID", help_heading = "Connection")]
    client_id: Option<String>,
    /// Share the messages with other subscribers of this group; gaps cannot be judged then
    #[arg(long, value_name = "GROUP", help_heading = "Connection", conflicts_with = "fail_on_gap")]
    share: Option<String>,

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

impl TailArgs {
    /// See [`ConnectArgs::with_env`].
    pub fn with_env(self, env: impl Fn(&str) -> Option<String>) -> Self {
        Self { connect: self.connect.with_env(env), ..self }
    }

    /// `random` names the client where the user does not; `color`: the terminal may be given colors.
    pub fn options(&self, random: u64, color: bool) -> Result<Options, ArgsError> {
        let client_id = self.client_id.clone().unwrap_or_else(|| format!("holdover-tail-{random:016x}"));
        let mut link = self.connect.link(client_id)?;
        let topics = self.connect.topics()?;
        let data = topics.data_filters(self.share.as_deref()).map_err(|e| value("--share", e))?;
        let [status, _, event] = topics.host_filters();
        link.needed = data.into_iter().chain([status]).collect();
        link.wanted = vec![event];
        let table = std::io::stdout().is_terminal() && !self.json;
        Ok(Options {
            link,
            prefix: self.connect.prefix(),
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
            Self::Link(error) => error.exit_code(),
            Self::Output(_) => EXIT_FAILED,
        }
    }
}
