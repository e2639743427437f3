//! Virtual memory in detail: what waits to be written, the kernel's own memory, swapping, faults, and the OOM killer's
//! victims. The figures that need no record every ten seconds; those that do are in `memory`.

use super::text::{self, words};
use super::{Collector, CollectorSpec, Context, Draft, MetricSpec, ParamError, Params, Points, ProcFile};
use crate::record::{ErrorKind, RunError};

pub const SPEC: CollectorSpec = CollectorSpec {
    name: "vm",
    about: "memory and swap in detail: dirty pages, slab, swapping, page faults, OOM kills",
    default_schedule: "60s",
    default_on: true,
    params: &[],
    metrics: METRICS,
    build,
};

const NAME: &str = "system.vm";

const METRICS: &[MetricSpec] = &[
    MetricSpec::updown(NAME, "dirty", "By").ours("changed pages that wait to be written"),
    MetricSpec::updown(NAME, "writeback", "By").ours("changed pages that are being written"),
    MetricSpec::updown(NAME, "shared", "By").is("system.memory.linux.shared", "shared memory, mostly of tmpfs"),
    MetricSpec::updown(NAME, "slab_reclaimable", "By").is(
        "system.memory.linux.slab.usage{system.memory.linux.slab.state=reclaimable}",
        "the kernel's own caches that it gives back when memory is short",
    ),
    MetricSpec::updown(NAME, "slab_unreclaimable", "By").is(
        "system.memory.linux.slab.usage{system.memory.linux.slab.state=unreclaimable}",
        "the kernel's own objects that stay",
    ),
    MetricSpec::updown(NAME, "committed", "By").ours("memory that programs asked for, whether or not they use it"),
    MetricSpec::counter(NAME, "swap_in", "{operation}").is(
        "system.paging.operations{system.paging.direction=in,system.paging.fault.type=major}",
        "pages read from swap since boot",
    ),
    MetricSpec::counter(NAME, "swap_out", "{operation}").is(
        "system.paging.operations{system.paging.direction=out,system.paging.fault.type=major}",
        "pages written to swap since boot",
    ),
    MetricSpec::counter(NAME, "faults", "{fault}").is("system.paging.faults", "page faults since boot, of both types"),
    MetricSpec::counter(NAME, "faults_major", "{fault}").is(
        "system.paging.faults{system.paging.fault.type=major}",
        "page faults that had to read from a disk since boot",
    ),
    MetricSpec::counter(NAME, "oom_kills", "{process}")
        .ours("processes killed for lack of memory since boot (Linux 4.13 and later)"),
];

/// Lines in KiB, with their fields.
const MEMINFO: [(&[u8], &str); 6] = [
    (b"Dirty:", "dirty"),
    (b"Writeback:", "writeback"),
    (b"Shmem:", "shared"),
    (b"SReclaimable:", "slab_reclaimable"),
    (b"SUnreclaim:", "slab_unreclaimable"),
    (b"Committed_AS:", "committed"),
];
const VMSTAT: [(&[u8], &str); 5] = [
    (b"pswpin", "swap_in"),
    (b"pswpout", "swap_out"),
    (b"pgfault", "faults"),
    (b"pgmajfault", "faults_major"),
    (b"oom_kill", "oom_kills"),
];

struct Vm {
    meminfo: ProcFile,
    vmstat: ProcFile,
}

fn build(_: &Params) -> Result<Box<dyn Collector>, ParamError> {
    Ok(Box::new(Vm { meminfo: ProcFile::new("proc/meminfo"), vmstat: ProcFile::new("proc/vmstat") }))
}

impl Collector for Vm {
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        let (meminfo, vmstat) = (self.meminfo.read(ctx.host), self.vmstat.read(ctx.host));
        let draft = fill(out.add(NAME), meminfo.as_deref().unwrap_or_default(), &MEMINFO, 1024);
        let draft = fill(draft, vmstat.as_deref().unwrap_or_default(), &VMSTAT, 1);
        if !draft.is_empty() {
            return Ok(());
        }
        // Neither gave anything: one that was read is malformed, else the first error is the reason.
        match (meminfo, vmstat) {
            (Err(error), Err(_)) => Err(error),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) if error.kind != ErrorKind::Unsupported => Err(error),
            (_, Ok(text)) => Err(malformed("proc/vmstat", "a line `pgfault n`", text)),
            (Ok(text), _) => Err(malformed("proc/meminfo", "a line `Dirty: n kB`", text)),
        }
    }
}

fn malformed(file: &str, what: &str, text: &[u8]) -> RunError {
    text::malformed(file, what, text::lines(text).next().unwrap_or_default())
}

/// `pswpin 0` and `Dirty:   120 kB`; a line that is not like these is left out.
fn fill<'a>(mut draft: Draft<'a>, text: &[u8], wanted: &[(&[u8], &'static str)], unit: u64) -> Draft<'a> {
    for line in text::lines(text) {
        let mut words = words(line);
        let Some(key) = words.next() else { continue };
        if let Some((_, field)) = wanted.iter().find(|(name, _)| *name == key) {
            draft = draft.uint(field, words.next().and_then(text::uint).and_then(|n| n.checked_mul(unit)));
        }
    }
    draft
}
