//! Collectors: what a run of each produces, which parameters it takes, and the one table of metrics.
//!
//! Built-in collectors are synchronous and run inline on the loop: one pass of the whole host set costs
//! microseconds, and nothing here waits on what may hang (a mount behind a network is probed by a helper
//! thread, see `filesystems`). Scripts are another matter: see [`exec`].
//! A collector reads the host through [`HostRoot`], is told the time, and never talks to the outbox or a socket
//! (the kernel's own socket listing aside). To add one: a file, a line in [`COLLECTORS`], a fixture.

pub mod exec;
mod params;
mod points;
pub mod portable;
mod root;
pub(crate) mod text;

mod agent;
mod cpu;
mod disks;
mod files;
mod filesystems;
mod links;
mod load;
mod memory;
mod network;
mod pressure;
mod prober;
mod processes;
#[cfg_attr(not(target_os = "linux"), path = "no_sock_diag.rs")]
mod sock_diag;
mod tcp;
mod temperature;
mod timekeeping;
mod vm;

pub use agent::own_memory;
pub use params::{ParamError, ParamKind, ParamSpec, ParamValue, Params};
pub use points::{Draft, MAX_POINTS, Points};
pub use root::{FsStat, HostRoot, ProcFile, StatFs};

use crate::clock::Now;
use crate::record::{Point, RunError};
use crate::wire::MetaMetric;

/// Version of the metric table, published in `meta`: raised when a name, unit or meaning changes.
pub const METRICS_VERSION: u32 = 2;

/// The agent's own collector.
pub const OWN: &str = agent::SPEC.name;

/// What one run is given.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub host: &'a HostRoot,
    pub now: &'a Now,
    /// The agent's own figures, for the collector `agent`; others ignore them.
    pub agent: &'a AgentFigures,
}

/// What the agent knows about itself and no file in /proc does. Counters are since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentFigures {
    /// Of shedding load; 0: none is shed.
    pub stage: u8,
    /// A connection to a broker stands.
    pub connected: bool,
    /// Records recorded and not settled.
    pub outbox_depth: u64,
    /// Bytes on disk that the outbox occupies, and may at most.
    pub outbox_bytes: u64,
    pub outbox_limit: u64,
    /// Milliseconds since the oldest pending record was made; 0 when there is none.
    pub outbox_age_ms: u64,
    pub commits: u64,
    pub records_recorded: u64,
    pub records_settled: u64,
    pub records_lost: u64,
    pub runs: u64,
    pub runs_failed: u64,
    pub runs_skipped: u64,
    pub connections: u64,
    pub publishes: u64,
    pub bytes_sent: u64,
}

/// A source of points. Built by its [`CollectorSpec`], then run again and again by one owner, so it may keep what
/// the next run needs (an open file, the counters of this run).
pub trait Collector: Send {
    /// Adds the points of one run. What is missing on this host is left out; what cannot be read at all is the
    /// error, and points added before it are kept.
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError>;
}

/// How a metric's values behave over time, in OpenTelemetry's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A value of now.
    Gauge,
    /// A total that only grows, until a restart sets it back to 0.
    Counter,
    /// A total that may also shrink: bytes used, processes running.
    UpDownCounter,
}

impl MetricKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::UpDownCounter => "updowncounter",
        }
    }
}

/// One row of the metric table: what a field of a record means.
#[derive(Clone, Copy, Debug)]
pub struct MetricSpec {
    /// Name of the record.
    pub name: &'static str,
    pub field: &'static str,
    /// UCUM: `1` for ratios in 0..=1, `By`, `s`, `{packet}`.
    pub unit: &'static str,
    pub kind: MetricKind,
    pub about: &'static str,
    /// OpenTelemetry's metric, with the attribute that our field name stands for in braces; empty where it defines none.
    pub otel: &'static str,
}

impl MetricSpec {
    const fn new(name: &'static str, field: &'static str, unit: &'static str, kind: MetricKind) -> Self {
        Self { name, field, unit, kind, about: "", otel: "" }
    }

    /// A gauge of the record `name`.
    const fn gauge(name: &'static str, field: &'static str, unit: &'static str) -> Self {
        Self::new(name, field, unit, MetricKind::Gauge)
    }

    const fn counter(name: &'static str, field: &'static str, unit: &'static str) -> Self {
        Self::new(name, field, unit, MetricKind::Counter)
    }

    const fn updown(name: &'static str, field: &'static str, unit: &'static str) -> Self {
        Self::new(name, field, unit, MetricKind::UpDownCounter)
    }

    /// As OpenTelemetry defines it, in this very unit and type (`tests/fixtures/opentelemetry.txt`).
    const fn is(mut self, otel: &'static str, about: &'static str) -> Self {
        self.otel = otel;
        self.about = about;
        self
    }

    /// Defined by nobody else.
    const fn ours(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }
}

impl From<&MetricSpec> for MetaMetric {
    fn from(m: &MetricSpec) -> Self {
        Self {
            name: m.name.into(),
            field: m.field.into(),
            unit: m.unit.into(),
            kind: m.kind.as_str().into(),
            description: m.about.into(),
            otel: m.otel.into(),
        }
    }
}

/// A built-in collector: everything that configuration, documentation and `meta` need to know about it.
#[derive(Clone, Copy, Debug)]
pub struct CollectorSpec {
    /// The name in the configuration, and by default in the topic.
    pub name: &'static str,
    pub about: &'static str,
    /// As written after `every =`.
    pub default_schedule: &'static str,
    /// Whether it runs when the configuration does not mention it.
    pub default_on: bool,
    pub params: &'static [ParamSpec],
    /// The fields it may emit; the first row's `name` also names the record of a failed run.
    pub metrics: &'static [MetricSpec],
    pub build: fn(&Params) -> Result<Box<dyn Collector>, ParamError>,
}

/// All built-in collectors, in the order of documentation.
pub static COLLECTORS: &[CollectorSpec] = &[
    cpu::SPEC,
    memory::SPEC,
    vm::SPEC,
    load::SPEC,
    pressure::SPEC,
    filesystems::SPEC,
    disks::SPEC,
    network::SPEC,
    links::SPEC,
    tcp::SPEC,
    files::SPEC,
    temperature::SPEC,
    timekeeping::SPEC,
    processes::SPEC,
    agent::SPEC,
];

/// The built-in collector of that name.
pub fn find(name: &str) -> Option<&'static CollectorSpec> {
    COLLECTORS.iter().find(|spec| spec.name == name)
}

/// One run: the points, and a record with `status: "err"` when the collector failed.
pub fn run(spec: &CollectorSpec, collector: &mut dyn Collector, ctx: &Context<'_>) -> Vec<Point> {
    let mut out = Points::new(ctx.now);
    let name = spec.metrics.first().map_or(spec.name, |m| m.name);
    if let Err(error) = collector.collect(ctx, &mut out) {
        out.fail(name, error);
    }
    out.finish(name)
}
