//! The agent itself: what its process uses, and the figures of its outbox and uplink that only it knows.

use super::cpu::TICKS_PER_SECOND;
use super::processes::{parse_stat, private, resident};
use super::root::{read_limited, unreadable};
use super::{
    AgentFigures, Collector, CollectorSpec, Context, Draft, HostRoot, MetricSpec, ParamError, Params, Points, text,
};
use crate::record::RunError;

pub const SPEC: CollectorSpec = CollectorSpec {
    name: "agent",
    about: "this agent: memory, CPU time, open files, outbox and uplink",
    default_schedule: "60s",
    default_on: true,
    params: &[],
    metrics: METRICS,
    build,
};

const NAME: &str = "holdover.agent";

const METRICS: &[MetricSpec] = &[
    MetricSpec::updown(NAME, "memory_usage", "By").is("process.memory.usage", "resident memory of this agent"),
    MetricSpec::updown(NAME, "memory_private", "By")
        .ours("memory of this agent that no file backs, swapped out or not: what agent.max_memory limits"),
    MetricSpec::counter(NAME, "cpu_time", "s").is("process.cpu.time", "CPU time of this agent since it started"),
    MetricSpec::updown(NAME, "threads", "{thread}").is("process.thread.count", "threads of this agent"),
    MetricSpec::updown(NAME, "open_files", "{file_descriptor}")
        .is("process.unix.file_descriptor.count", "file descriptors that this agent holds"),
    MetricSpec::gauge(NAME, "stage", "1").ours("how much load is shed to stay within the limits of [agent]: 0 is none"),
    MetricSpec::gauge(NAME, "connected", "1").ours("whether a connection to a broker stands"),
    MetricSpec::updown(NAME, "outbox_depth", "{record}").ours("records recorded and not settled"),
    MetricSpec::updown(NAME, "outbox_bytes", "By").ours("disk that the outbox occupies"),
    MetricSpec::updown(NAME, "outbox_limit", "By").ours("disk that the outbox may occupy"),
    MetricSpec::gauge(NAME, "outbox_utilization", "1").ours("outbox_bytes / outbox_limit"),
    MetricSpec::gauge(NAME, "outbox_age", "s").ours("since the oldest pending record was made"),
    MetricSpec::counter(NAME, "commits", "{commit}").ours("commits since the agent started"),
    MetricSpec::counter(NAME, "records_recorded", "{record}").ours("records recorded since the agent started"),
    MetricSpec::counter(NAME, "records_settled", "{record}").ours("records settled since the agent started"),
    MetricSpec::counter(NAME, "records_lost", "{record}").ours("records declared lost since the agent started"),
    MetricSpec::counter(NAME, "runs", "{run}").ours("runs of collectors since the agent started"),
    MetricSpec::counter(NAME, "runs_failed", "{run}").ours("runs with an err record since the agent started"),
    MetricSpec::counter(NAME, "runs_skipped", "{run}")
        .ours("runs that were due and did not start since the agent started"),
    MetricSpec::counter(NAME, "connections", "{connection}").ours("connections to a broker since the agent started"),
    MetricSpec::counter(NAME, "publishes", "{message}").ours("messages published since the agent started"),
    MetricSpec::counter(NAME, "bytes_sent", "By").ours("payload published since the agent started"),
];

struct Agent;

fn build(_: &Params) -> Result<Box<dyn Collector>, ParamError> {
    Ok(Box::new(Agent))
}

impl Collector for Agent {
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        let draft = figures(out.add(NAME), ctx.agent);
        let stat = read_limited(&ctx.host.own("stat")).map_err(|e| unreadable("proc/self/stat", &e))?;
        let Some(used) = parse_stat(&stat) else {
            return Err(text::malformed("proc/self/stat", "a line of 22 columns or more", &stat));
        };
        let memory = read_limited(&ctx.host.own("status")).ok();
        // The directory being read is one of them.
        let files = std::fs::read_dir(ctx.host.own("fd")).ok().map(|entries| entries.count() as u64);
        draft
            .uint("memory_usage", memory.as_deref().and_then(resident))
            .uint("memory_private", memory.as_deref().and_then(private))
            .float("cpu_time", used.ticks as f64 / TICKS_PER_SECOND)
            .uint("threads", used.threads)
            .uint("open_files", files);
        Ok(())
    }
}

/// Memory of this process that no file backs, in bytes; all that is resident where the kernel does not tell it apart.
pub fn own_memory(host: &HostRoot) -> Option<u64> {
    let status = read_limited(&host.own("status")).ok()?;
    private(&status).or_else(|| resident(&status))
}

fn figures<'a>(draft: Draft<'a>, f: &AgentFigures) -> Draft<'a> {
    draft
        .uint("stage", u64::from(f.stage))
        .bool("connected", f.connected)
        .uint("outbox_depth", f.outbox_depth)
        .uint("outbox_bytes", f.outbox_bytes)
        .uint("outbox_limit", f.outbox_limit)
        .ratio("outbox_utilization", f.outbox_bytes as f64, f.outbox_limit as f64)
        .float("outbox_age", f.outbox_age_ms as f64 / 1e3)
        .uint("commits", f.commits)
        .uint("records_recorded", f.records_recorded)
        .uint("records_settled", f.records_settled)
        .uint("records_lost", f.records_lost)
        .uint("runs", f.runs)
        .uint("runs_failed", f.runs_failed)
        .uint("runs_skipped", f.runs_skipped)
        .uint("connections", f.connections)
        .uint("publishes", f.publishes)
        .uint("bytes_sent", f.bytes_sent)
}
