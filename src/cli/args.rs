//! The arguments, and their help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::collect::exec::Lines;

/// Where the configuration is looked for when no `--config` is given.
pub const DEFAULT_CONFIG: &str = "/etc/holdover/holdover.toml";

/// Collects this host's metrics, keeps them through outages, and publishes them over MQTT with an account of every loss.
#[derive(Debug, Parser)]
#[command(name = "holdover", version, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent until SIGTERM or SIGINT.
    Run(RunArgs),
    /// Check the configuration; print what is in force, the next runs, and how many days of outage the outbox holds.
    CheckConfig(CheckConfigArgs),
    /// Run collectors once, print their records as NDJSON, store and send nothing.
    Once(OnceArgs),
    /// Run one collector in the real sandbox and say what came of it: records, time and output used of what it may, errors.
    TestCollector(TestCollectorArgs),
    /// When collectors run within the coming hour.
    Next(NextArgs),
    /// What the built-in collectors measure; with a name, the metrics and parameters of one.
    Collectors(CollectorsArgs),
    /// What the running agent is doing: connection, backlog, losses, collectors.
    Status(StatusArgs),
    /// Hand over records on standard input (NDJSON or Influx line protocol) to the running agent; 0 when all are durable.
    Put(PutArgs),
    /// Look into the outbox: `ls`, `stats`, `losses`, `verify`, `export` (safe while the agent runs); `quarantine`, `forget-hub`.
    Outbox(OutboxArgs),
}

#[derive(Debug, Args)]
pub struct ConfigArg {
    /// Configuration file; `conf.d/*.toml` beside it and HOLDOVER__SECTION__KEY variables are read after it.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG, env = "HOLDOVER_CONFIG")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub config: ConfigArg,
}

#[derive(Debug, Args)]
pub struct CheckConfigArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// Print as one JSON document.
    #[arg(long)]
    pub json: bool,
    /// Print a commented reference file with every key and its default, and stop.
    #[arg(long)]
    pub reference: bool,
}

#[derive(Debug, Args)]
pub struct OnceArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// Collectors to run; all of them when none is named.
    #[arg(value_name = "COLLECTOR")]
    pub collectors: Vec<String>,
}

#[derive(Debug, Args)]
pub struct TestCollectorArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// The collector, as `check-config` names it.
    #[arg(value_name = "COLLECTOR")]
    pub collector: String,
    /// Print as one JSON document.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct NextArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// Only these; all of them when none is named.
    #[arg(value_name = "COLLECTOR")]
    pub collectors: Vec<String>,
    /// How far ahead, up to a week.
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = ahead)]
    pub span: std::time::Duration,
    /// Print as one JSON document.
    #[arg(long)]
    pub json: bool,
}

fn ahead(text: &str) -> Result<std::time::Duration, String> {
    let week = std::time::Duration::from_secs(7 * 86_400);
    match crate::config::parse_duration(text) {
        Some(span) if !span.is_zero() && span <= week => Ok(span),
        _ => Err("a duration such as 30m or 1h, up to 7d, is expected".to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct CollectorsArgs {
    /// Only this one, with its metrics and parameters.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Print as one JSON document.
    #[arg(long)]
    pub json: bool,
    /// Print the page docs/collectors.md.
    #[arg(long, hide = true)]
    pub markdown: bool,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// Print as one JSON document.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PutArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// The agent's socket; read from the configuration unless given.
    #[arg(long, value_name = "FILE")]
    pub socket: Option<PathBuf>,
    /// What the records come from: names their topic, and those that have no name. None of the agent's own collectors.
    #[arg(long, value_name = "NAME", value_parser = collector)]
    pub collector: String,
    /// What a line is; `auto` takes one that begins with `{` for NDJSON.
    #[arg(long, default_value = "auto", value_parser = lines)]
    pub format: Lines,
    /// A tag for each record that has none of that name; may be repeated.
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = tag)]
    pub tags: Vec<(String, String)>,
    /// How long the agent may refuse because it is busy.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = ahead)]
    pub patience: std::time::Duration,
    /// Print the agent's answers, one JSON document a batch.
    #[arg(long)]
    pub json: bool,
}

fn collector(text: &str) -> Result<String, String> {
    crate::wire::check_name(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

fn lines(text: &str) -> Result<Lines, String> {
    Lines::from_name(text).ok_or_else(|| format!("one of {} is expected", Lines::NAMES.join(", ")))
}

fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("NAME=VALUE is expected".to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct OutboxArgs {
    #[command(subcommand)]
    pub command: OutboxCommand,
}

#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// List the segments.
    Ls(OutboxView),
    /// Count what is settled, lost, quarantined and held, and the disk it takes.
    Stats(OutboxView),
    /// List the declared losses: which seqs, why, from when, and whether the other side has confirmed them.
    Losses(OutboxView),
    /// Check every checksum and that every seq is accounted for exactly once; exit 1 when not.
    Verify(OutboxView),
    /// Print every stored record as NDJSON.
    Export(OutboxView),
    /// List the records that no broker would take, send them again, or delete them.
    Quarantine(QuarantineArgs),
    /// Go back to level `broker`, under `level = "auto"`, until a hub acknowledges this host again. The agent must be stopped.
    ForgetHub(ForgetHubArgs),
}

#[derive(Debug, Args)]
pub struct ForgetHubArgs {
    #[command(flatten)]
    pub config: ConfigArg,
}

#[derive(Debug, Args)]
pub struct QuarantineArgs {
    #[command(subcommand)]
    pub command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List what was set aside.
    Ls(OutboxView),
    /// Send records again, under new seqs, as after a broker's limits were raised. The agent must be stopped.
    Retry(QuarantineChoice),
    /// Delete records; they stay declared lost. The agent must be stopped.
    Drop(QuarantineChoice),
}

#[derive(Debug, Args)]
pub struct QuarantineChoice {
    #[command(flatten)]
    pub config: ConfigArg,
    /// Seqs as `ls` lists them: `17` or `17-20`; every value that has one of them.
    #[arg(value_name = "SEQS", required_unless_present = "all", value_parser = seqs)]
    pub seqs: Option<(u64, u64)>,
    /// Of this epoch only; needed when more than one has such seqs set aside.
    #[arg(long)]
    pub epoch: Option<u64>,
    /// Everything that was set aside.
    #[arg(long, conflicts_with = "seqs")]
    pub all: bool,
}

fn seqs(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) if from <= to => Ok((from, to)),
        _ => Err("a seq such as 17, or a range such as 17-20, is expected".to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct OutboxView {
    #[command(flatten)]
    pub config: ConfigArg,
    /// Print as JSON (one document; `export` is always NDJSON).
    #[arg(long)]
    pub json: bool,
}
