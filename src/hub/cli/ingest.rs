//! `holdover-hub ingest`: its help, its flags, and what they come to.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::connect::{ArgsError, ConnectArgs, duration, value};
use super::{EXIT_CONFIG, EXIT_FAILED, EXIT_UNAVAILABLE};
use crate::hub::ingest::{IngestError, NIGHTLY, Options, check_schedule};
use crate::hub::link::Keeps;
use crate::hub::sinks::{SINKS, SinkKind, SinkOptions};
use crate::wire::check_name;

/// Seconds for which the broker keeps our subscriptions and what it has for us: a long weekend and a day.
const SESSION_KEPT_S: u32 = 5 * 86_400;
/// QoS 1 messages that are not committed, at most; a broker may send fewer (mosquitto as shipped: 40).
const RECEIVE_MAX: u16 = 1000;
/// Four times what an agent sends.
const MAX_PACKET: u32 = 256 << 10;
const WINDOW_IN_FLIGHT: u16 = 32;
const COMMIT_WINDOW: Duration = Duration::from_millis(100);
const DAY: Duration = Duration::from_secs(86_400);

const INGEST_HELP: &str = "\
Examples:
  Store a fleet's records under /var/lib/holdover-hub:
    holdover-hub ingest --broker mqtts://broker.example --ca ca.crt --cert hub.crt --key hub.key \\
      --hub hub --dir /var/lib/holdover-hub
  Who is there, what is missing, and ask for it by hand:
    holdover-hub hosts --dir /var/lib/holdover-hub
    holdover-hub gaps --dir /var/lib/holdover-hub
    holdover-hub resend edge-01 1042-1100 --dir /var/lib/holdover-hub

Every record is stored once, in DIR/records-*.ndjson: numbers rise, only the newest file grows, whoever reads
them may take or delete the others. A line is what `tail` calls a record, without a verdict; `time` is corrected
where the host's clock was wrong and a right one is known (`corrected`: true). When it becomes known only later, a line
of `type` clock tells how to correct what was stored before. DIR/ledger.redb knows what is stored: an older copy of it
learns at the start what the files hold, and so does a new one.

The broker is acknowledged when the record is safe here, and then the host is told. What hosts have numbered and
neither sent nor declared lost is asked for again after two heartbeats. When the disk is full nothing is acknowledged
until there is room again.

Each night the hub writes DIR/audit/audit-*.json (what it has, lacks and was told to be lost, by host; the last 60 are
kept) and forgets epochs that are complete and long silent.

The broker keeps messages for this client id while it is away. Run one ingest for each --hub and --worker; the broker's
ACL must let it write v1/+/+/ack/HUB, v1/+/+/cmd and v1/_hubs/HUB/WORKER/state.

Environment: HOLDOVER_HUB_BROKER, _CA, _CERT, _KEY, _USERNAME, _PASSWORD_FILE, _PREFIX, _NAME, _WORKER and _DIR stand in
for the flags.

Exit status:
  0   ended by SIGINT or SIGTERM
  1   the work cannot go on
  2   wrong usage
  69  not now: the ledger is in use by another hub; start it again
  77  certificate, password or subscription refused by the broker
  78  DIR cannot be used (a wrong path, no right to it), the ledger is damaged or of a newer version, a certificate or key
      file cannot be used, or the broker's certificate is not trusted";

#[derive(Debug, Args)]
#[command(after_help = INGEST_HELP)]
pub struct IngestArgs {
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Our name in topics: the same for all that acknowledge together
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    hub: Option<String>,
    /// Name of this process within the hub [default: w0]
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    worker: Option<String>,
    /// MQTT client id; holdover-HUB-WORKER if not given. It names our place with the broker: keep it
    #[arg(long, value_name = "ID", help_heading = "Connection")]
    client_id: Option<String>,

    /// Directory of the records, the ledger and the socket
    #[arg(long, value_name = "DIR", help_heading = "Storage")]
    dir: Option<PathBuf>,
    /// Where records go: ndjson
    #[arg(long, value_name = "SINK", default_value = "ndjson", help_heading = "Storage")]
    sink: String,
    /// A file is closed when it is this large, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1 << 20), help_heading = "Storage")]
    file_mib: u64,
    /// A file is closed when it is this old
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration, help_heading = "Storage")]
    file_age: Duration,
    /// Forget an epoch when it is complete and nothing was heard of it for so many days
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=36_500), help_heading = "Storage")]
    forget_after_days: u32,

    /// When to audit and to forget: cron with seconds, in UTC
    #[arg(long, value_name = "CRON", default_value = NIGHTLY, value_parser = schedule, help_heading = "Storage")]
    housekeeping: String,

    /// More about the connection on standard error
    #[arg(long, short, help_heading = "Output")]
    pub verbose: bool,
}

impl IngestArgs {
    /// See [`ConnectArgs::with_env`].
    pub fn with_env(mut self, env: impl Fn(&str) -> Option<String>) -> Self {
        let var = |name: &str| env(&format!("HOLDOVER_HUB_{name}")).filter(|v| !v.is_empty());
        self.hub = self.hub.or_else(|| var("NAME"));
        self.worker = self.worker.or_else(|| var("WORKER"));
        self.dir = self.dir.or_else(|| var("DIR").map(PathBuf::from));
        Self { connect: self.connect.with_env(env), ..self }
    }

    pub fn options(&self) -> Result<Options, ArgsError> {
        let hub = self.hub.clone().ok_or(ArgsError::Needed { flag: "--hub NAME", var: "NAME" })?;
        let worker = self.worker.clone().unwrap_or_else(|| "w0".to_owned());
        check_name(&hub).map_err(|e| value("--hub", e))?;
        check_name(&worker).map_err(|e| value("--worker", e))?;
        let dir = self.dir.clone().ok_or(ArgsError::Needed { flag: "--dir DIR", var: "DIR" })?;
        let client_id = self.client_id.clone().unwrap_or_else(|| format!("holdover-{hub}-{worker}"));
        let mut link = self.connect.link(client_id)?;
        let topics = self.connect.topics()?;
        let [status, ..] = topics.host_filters();
        let data = topics.data_filters(None).map_err(|e| value("--prefix", e))?;
        link.needed = data.into_iter().chain([status]).collect();
        link.wanted = vec![topics.reply_filter(&hub).map_err(|e| value("--hub", e))?];
        link.keeps = Keeps::Always(SESSION_KEPT_S);
        link.receive_max = RECEIVE_MAX;
        link.max_packet = MAX_PACKET;
        link.window = WINDOW_IN_FLIGHT;
        link.presence = Some(topics.worker_state(&hub, &worker).map_err(|e| value("--worker", e))?);
        let sink_options = SinkOptions { dir: dir.clone(), file_bytes: self.file_mib << 20, file_age: self.file_age };
        Ok(Options {
            link,
            prefix: self.connect.prefix(),
            hub,
            worker,
            dir,
            sink: self.sink()?,
            sink_options,
            window: COMMIT_WINDOW,
            housekeeping: self.housekeeping.clone(),
            forget_after: DAY * self.forget_after_days,
        })
    }

    fn sink(&self) -> Result<&'static SinkKind, ArgsError> {
        SINKS.iter().find(|kind| kind.name == self.sink).ok_or_else(|| {
            let known: Vec<_> = SINKS.iter().map(|kind| kind.name).collect();
            value("--sink", format!("no sink is called {:?}; there is: {}", self.sink, known.join(", ")))
        })
    }
}

fn schedule(text: &str) -> Result<String, String> {
    check_schedule(text).map(|()| text.to_owned())
}

impl IngestError {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Link(error) => error.exit_code(),
            Self::Ledger(error) => error.exit_code(),
            Self::Sink(_) | Self::Dir { .. } => EXIT_UNAVAILABLE,
            Self::Unusable(_) => EXIT_CONFIG,
            Self::Internal(_) => EXIT_FAILED,
        }
    }
}
