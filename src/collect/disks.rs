//! Disk I/O from `/proc/diskstats`: totals since boot, and the share of the time between two runs with I/O under way.
//!
//! Whole devices only, unless named: a partition is a device whose name continues that of another one. Devices that
//! never did anything, loop devices, RAM disks, compressed swap and optical drives are left out, unless named.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::text::{self, words};
use super::{
    Collector, CollectorSpec, Context, Draft, MetricSpec, ParamError, ParamKind, ParamSpec, Params, Points, ProcFile,
};
use crate::record::{ErrorKind, RunError};

pub const SPEC: CollectorSpec = CollectorSpec {
    name: "disks",
    about: "disk I/O, one record per device",
    default_schedule: "10s",
    default_on: true,
    params: &[ParamSpec {
        name: "devices",
        kind: ParamKind::List,
        about: "only these devices, such as sda or nvme0n1p2",
        default: "[]",
    }],
    metrics: METRICS,
    build,
};

const NAME: &str = "system.disk";
/// Of `/proc/diskstats`, whatever the device's own.
const SECTOR: u64 = 512;
const SKIPPED: &[&str] = &["loop", "ram", "zram", "sr", "fd"];

const METRICS: &[MetricSpec] = &[
    MetricSpec::counter(NAME, "io_read", "By").is("system.disk.io{disk.io.direction=read}", "bytes read since boot"),
    MetricSpec::counter(NAME, "io_write", "By")
        .is("system.disk.io{disk.io.direction=write}", "bytes written since boot"),
    MetricSpec::counter(NAME, "operations_read", "{operation}")
        .is("system.disk.operations{disk.io.direction=read}", "reads completed since boot"),
    MetricSpec::counter(NAME, "operations_write", "{operation}")
        .is("system.disk.operations{disk.io.direction=write}", "writes completed since boot"),
    MetricSpec::counter(NAME, "operation_time_read", "s").is(
        "system.disk.operation_time{disk.io.direction=read}",
        "time that reads took since boot, overlapping ones added up",
    ),
    MetricSpec::counter(NAME, "operation_time_write", "s").is(
        "system.disk.operation_time{disk.io.direction=write}",
        "time that writes took since boot, overlapping ones added up",
    ),
    MetricSpec::counter(NAME, "merged_read", "{operation}")
        .is("system.disk.merged{disk.io.direction=read}", "reads since boot that were joined to one next to them"),
    MetricSpec::counter(NAME, "merged_write", "{operation}")
        .is("system.disk.merged{disk.io.direction=write}", "writes since boot that were joined to one next to them"),
    MetricSpec::gauge(NAME, "latency_read", "s")
        .ours("mean time of the reads completed since the last run, queueing included; absent without any"),
    MetricSpec::gauge(NAME, "latency_write", "s")
        .ours("mean time of the writes completed since the last run, queueing included; absent without any"),
    MetricSpec::counter(NAME, "io_time", "s").is("system.disk.io_time", "time with I/O under way since boot"),
    MetricSpec::updown(NAME, "pending", "{operation}").ours("I/O under way now"),
    MetricSpec::gauge(NAME, "utilization", "1").ours("share of the time since the last run with I/O under way"),
];

/// Columns after the name, since boot; times in milliseconds.
#[derive(Clone, Copy)]
struct Counts {
    reads: u64,
    reads_merged: u64,
    sectors_read: u64,
    read_ms: u64,
    writes: u64,
    writes_merged: u64,
    sectors_written: u64,
    write_ms: u64,
    pending: u64,
    busy_ms: u64,
}

struct Disks {
    file: ProcFile,
    only: BTreeSet<Vec<u8>>,
    before: Option<(Duration, BTreeMap<Vec<u8>, Counts>)>,
}

fn build(params: &Params) -> Result<Box<dyn Collector>, ParamError> {
    let only =
        params.list("devices").iter().map(|d| d.strip_prefix("/dev/").unwrap_or(d).as_bytes().to_vec()).collect();
    Ok(Box::new(Disks { file: ProcFile::new("proc/diskstats"), only, before: None }))
}

impl Collector for Disks {
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        let text = self.file.read(ctx.host)?;
        let devices: BTreeMap<&[u8], Option<Counts>> = text::lines(text).filter_map(parse).collect();
        // A host without any disk has an empty file; text without any device is something else.
        if devices.is_empty() && !text.trim_ascii().is_empty() {
            return Err(text::malformed("proc/diskstats", "devices with at least 11 numbers", text));
        }
        let before = self.before.take();
        let mut now = BTreeMap::new();
        for (name, counts) in &devices {
            let Some(counts) = counts.filter(|counts| wants(&self.only, name, counts, &devices)) else { continue };
            let draft = counts.emit(out.add(NAME).tag("device", text::name(name)));
            if let Some((then, was)) = before.as_ref().and_then(|(then, was)| Some((*then, was.get(*name)?))) {
                counts.emit_since(was, ctx.now.mono.saturating_sub(then), draft);
            }
            now.insert(name.to_vec(), counts);
        }
        for name in self.only.iter().filter(|name| !devices.contains_key(name.as_slice())) {
            let message = format!("there is no disk {}", text::excerpt(name));
            out.fail(NAME, RunError::new(ErrorKind::Unsupported, message)).tag("device", text::name(name));
        }
        self.before = Some((ctx.now.mono, now));
        Ok(())
    }
}

impl Counts {
    fn emit<'a>(&self, draft: Draft<'a>) -> Draft<'a> {
        let bytes = |sectors: u64| sectors.checked_mul(SECTOR);
        draft
            .uint("io_read", bytes(self.sectors_read))
            .uint("io_write", bytes(self.sectors_written))
            .uint("operations_read", self.reads)
            .uint("operations_write", self.writes)
            .uint("merged_read", self.reads_merged)
            .uint("merged_write", self.writes_merged)
            .float("operation_time_read", seconds(self.read_ms))
            .float("operation_time_write", seconds(self.write_ms))
            .float("io_time", seconds(self.busy_ms))
            .uint("pending", self.pending)
    }

    /// What needs the counts of the run before; a count that went backwards (another device of that name) gives nothing.
    fn emit_since(&self, was: &Self, passed: Duration, draft: Draft<'_>) {
        let draft = draft
            .float("latency_read", latency((was.reads, was.read_ms), (self.reads, self.read_ms)))
            .float("latency_write", latency((was.writes, was.write_ms), (self.writes, self.write_ms)));
        if let Some(worked) = self.busy_ms.checked_sub(was.busy_ms) {
            draft.ratio("utilization", worked as f64 / 1e3, passed.as_secs_f64());
        }
    }
}

/// Seconds per operation between two pairs of operations and milliseconds, to the microsecond.
fn latency((operations, ms): (u64, u64), (operations_now, ms_now): (u64, u64)) -> Option<f64> {
    let (done, took) = (operations_now.checked_sub(operations)?, ms_now.checked_sub(ms)?);
    (done > 0).then(|| (took as f64 / done as f64 * 1e3).round() / 1e6)
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

/// `254 0 vda 4936 1 284090 1320 9012 7133 513936 9412 0 7312 10732 ...`. A device whose numbers cannot be read is known,
/// but has none: it still tells which names are partitions.
fn parse(line: &[u8]) -> Option<(&[u8], Option<Counts>)> {
    let mut words = words(line);
    text::uint(words.next()?)?;
    text::uint(words.next()?)?;
    let name = words.next()?;
    let mut columns = [0u64; 11];
    for column in &mut columns {
        match words.next().and_then(text::uint) {
            Some(n) => *column = n,
            None => return Some((name, None)),
        }
    }
    let [reads, reads_merged, sectors_read, read_ms, writes, writes_merged, sectors_written, write_ms, ..] = columns;
    let [.., pending, busy_ms, _] = columns;
    let counts = Counts {
        reads,
        reads_merged,
        sectors_read,
        read_ms,
        writes,
        writes_merged,
        sectors_written,
        write_ms,
        pending,
        busy_ms,
    };
    Some((name, Some(counts)))
}

fn wants(only: &BTreeSet<Vec<u8>>, name: &[u8], counts: &Counts, all: &BTreeMap<&[u8], Option<Counts>>) -> bool {
    if !only.is_empty() {
        return only.contains(name);
    }
    let kind = name.trim_ascii_end();
    let letters = kind.iter().position(|b| !b.is_ascii_lowercase()).unwrap_or(kind.len());
    let skipped = SKIPPED.iter().any(|s| s.as_bytes() == &kind[..letters]);
    let idle = counts.reads == 0 && counts.writes == 0;
    !skipped && !idle && whole_device(name).is_none_or(|whole| !all.contains_key(whole))
}

/// Of what device this would be a partition, going by the name: `sda1` of `sda`, `nvme0n1p2` of `nvme0n1`.
fn whole_device(name: &[u8]) -> Option<&[u8]> {
    let digits = name.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let stem = &name[..name.len() - digits];
    match stem.strip_suffix(b"p") {
        _ if digits == 0 => None,
        Some(whole) if whole.last().is_some_and(u8::is_ascii_digit) => Some(whole),
        _ => Some(stem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_told_by_name() {
        for (name, whole) in [
            ("sda1", Some("sda")),
            ("sda", None),
            ("nvme0n1p2", Some("nvme0n1")),
            ("nvme0n1", Some("nvme0n")),
            ("mmcblk0p1", Some("mmcblk0")),
            ("dm-10", Some("dm-")),
            ("loop1", Some("loop")),
            ("", None),
            ("7", Some("")),
        ] {
            assert_eq!(whole_device(name.as_bytes()), whole.map(str::as_bytes), "{name}");
        }
    }
}
