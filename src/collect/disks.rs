//! Disk I/O from `/proc/diskstats`: totals since boot, and the share of the time between two runs with I/O under way.
//!
//! Whole devices only, unless named: a partition is a device whose name continues that of another one. Devices that
//! never did anything, loop devices, RAM disks, compressed swap and optical drives are left out, unless named.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::text::{self, words};
use super::{
    Collector, CollectorSpec, Context, MetricSpec, ParamError, ParamKind, ParamSpec, Params, Points, ProcFile,
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
    MetricSpec::counter(NAME, "io_time", "s").is("system.disk.io_time", "time with I/O under way since boot"),
    MetricSpec::updown(NAME, "pending", "{operation}").is("system.disk.pending_operations", "I/O under way now"),
    MetricSpec::gauge(NAME, "utilization", "1")
        .is("system.disk.utilization", "share of the time since the last run with I/O under way"),
];

/// Columns after the name, since boot; times in milliseconds.
#[derive(Clone, Copy)]
struct Counts {
    reads: u64,
    sectors_read: u64,
    read_ms: u64,
    writes: u64,
    sectors_written: u64,
    write_ms: u64,
    pending: u64,
    busy_ms: u64,
}

struct Disks {
    file: ProcFile,
    only: BTreeSet<Vec<u8>>,
    before: Option<(Duration, BTreeMap<Vec<u8>, u64>)>,
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
        let mut busy = BTreeMap::new();
        for (name, counts) in &devices {
            let Some(counts) = counts.filter(|counts| wants(&self.only, name, counts, &devices)) else { continue };
            let mut draft = out.add(NAME).tag("device", text::name(name));
            draft = draft.uint("io_read", counts.sectors_read.checked_mul(SECTOR));
            draft = draft.uint("io_write", counts.sectors_written.checked_mul(SECTOR));
            draft = draft.uint("operations_read", counts.reads).uint("operations_write", counts.writes);
            draft = draft.float("operation_time_read", seconds(counts.read_ms));
            draft = draft.float("operation_time_write", seconds(counts.write_ms));
            draft = draft.float("io_time", seconds(counts.busy_ms)).uint("pending", counts.pending);
            let since = before.as_ref().and_then(|(then, busy)| Some((*then, *busy.get(*name)?)));
            if let Some((then, was)) = since
                && let Some(worked) = counts.busy_ms.checked_sub(was)
            {
                draft.ratio("utilization", worked as f64 / 1e3, ctx.now.mono.saturating_sub(then).as_secs_f64());
            }
            busy.insert(name.to_vec(), counts.busy_ms);
        }
        for name in self.only.iter().filter(|name| !devices.contains_key(name.as_slice())) {
            let message = format!("there is no disk {}", text::excerpt(name));
            out.fail(NAME, RunError::new(ErrorKind::Unsupported, message)).tag("device", text::name(name));
        }
        self.before = Some((ctx.now.mono, busy));
        Ok(())
    }
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
    let [reads, _, sectors_read, read_ms, writes, _, sectors_written, write_ms, pending, busy_ms, _] = columns;
    Some((name, Some(Counts { reads, sectors_read, read_ms, writes, sectors_written, write_ms, pending, busy_ms })))
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
