//! Memory and swap from `/proc/meminfo`. What a container may use is not in that file: it shows the host's memory.

use super::text::{self, words};
use super::{Collector, CollectorSpec, Context, MetricSpec, ParamError, Params, Points, ProcFile, portable};
use crate::record::RunError;

pub const SPEC: CollectorSpec = CollectorSpec {
    name: "memory",
    about: "memory and swap in use, of the whole host",
    default_schedule: "10s",
    default_on: true,
    params: &[],
    metrics: METRICS,
    build,
};

const MEMORY: &str = "system.memory";
const PAGING: &str = "system.paging";

const METRICS: &[MetricSpec] = &[
    MetricSpec::updown(MEMORY, "limit", "By").is("system.memory.limit", "memory that the kernel manages"),
    MetricSpec::updown(MEMORY, "usage", "By").is(
        "system.memory.usage{system.memory.state=used}",
        "limit less available: what could not be had without swapping",
    ),
    MetricSpec::updown(MEMORY, "available", "By").is(
        "system.memory.linux.available",
        "what a new program could get without swapping (kernel's estimate; free + buffers + cached before Linux 3.14)",
    ),
    MetricSpec::updown(MEMORY, "free", "By")
        .is("system.memory.usage{system.memory.state=free}", "memory used for nothing at all"),
    MetricSpec::updown(MEMORY, "buffers", "By")
        .is("system.memory.usage{system.memory.state=buffers}", "cache of block devices"),
    MetricSpec::updown(MEMORY, "cached", "By")
        .is("system.memory.usage{system.memory.state=cached}", "cache of files, tmpfs included"),
    MetricSpec::gauge(MEMORY, "utilization", "1")
        .is("system.memory.utilization{system.memory.state=used}", "usage / limit"),
    MetricSpec::updown(PAGING, "limit", "By").ours("swap space there is"),
    MetricSpec::updown(PAGING, "usage", "By").is("system.paging.usage{system.paging.state=used}", "swap space in use"),
    MetricSpec::gauge(PAGING, "utilization", "1")
        .is("system.paging.utilization{system.paging.state=used}", "usage / limit; absent without swap"),
];

struct Memory {
    file: ProcFile,
}

fn build(_: &Params) -> Result<Box<dyn Collector>, ParamError> {
    if cfg!(not(target_os = "linux")) {
        return Ok(Box::new(portable::Memory));
    }
    Ok(Box::new(Memory { file: ProcFile::new("proc/meminfo") }))
}

#[derive(Default)]
struct Meminfo {
    total: Option<u64>,
    free: Option<u64>,
    available: Option<u64>,
    buffers: Option<u64>,
    cached: Option<u64>,
    swap_total: Option<u64>,
    swap_free: Option<u64>,
}

/// `MemTotal:       24682416 kB`, in bytes here; a line that is not like this is left out.
fn parse(text: &[u8]) -> Meminfo {
    let mut info = Meminfo::default();
    for line in text::lines(text) {
        let mut words = words(line);
        let slot = match words.next() {
            Some(b"MemTotal:") => &mut info.total,
            Some(b"MemFree:") => &mut info.free,
            Some(b"MemAvailable:") => &mut info.available,
            Some(b"Buffers:") => &mut info.buffers,
            Some(b"Cached:") => &mut info.cached,
            Some(b"SwapTotal:") => &mut info.swap_total,
            Some(b"SwapFree:") => &mut info.swap_free,
            _ => continue,
        };
        *slot = words.next().and_then(text::uint).and_then(|kib| kib.checked_mul(1024));
        if info.swap_total.is_some() && info.swap_free.is_some() {
            break; // nothing that we need comes after the two
        }
    }
    info
}

impl Collector for Memory {
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        let text = self.file.read(ctx.host)?;
        let info = parse(text);
        let Some(total) = info.total.filter(|&t| t > 0) else {
            let first = text::lines(text).next().unwrap_or_default();
            return Err(text::malformed("proc/meminfo", "a line `MemTotal: n kB`", first));
        };
        let estimate = || Some(info.free?.saturating_add(info.buffers?).saturating_add(info.cached?));
        let available = info.available.or_else(estimate).filter(|&a| a <= total);
        let usage = available.map(|a| total - a);
        let mut draft = out.add(MEMORY).uint("limit", total).uint("usage", usage).uint("available", available);
        draft = draft.uint("free", info.free).uint("buffers", info.buffers).uint("cached", info.cached);
        if let Some(usage) = usage {
            draft.ratio("utilization", usage as f64, total as f64);
        }
        let swap_usage = info.swap_total.zip(info.swap_free).and_then(|(total, free)| total.checked_sub(free));
        let draft = out.add(PAGING).uint("limit", info.swap_total).uint("usage", swap_usage);
        if let (Some(limit), Some(usage)) = (info.swap_total, swap_usage) {
            draft.ratio("utilization", usage as f64, limit as f64);
        }
        Ok(())
    }
}
