//! CPU time per mode from `/proc/stat`: seconds since boot as counters, and the shares of the time between two runs.
//!
//! A mode that ran backwards (the kernel lets `iowait` do so, and a core that is unplugged takes its share with it)
//! counts as 0 for that run; a run after which nothing went forward gives no shares.

use std::collections::BTreeMap;

use super::text::{self, words};
use super::{
    Collector, CollectorSpec, Context, MetricSpec, ParamError, ParamKind, ParamSpec, Params, Points, ProcFile, portable,
};
use crate::record::RunError;

pub const SPEC: CollectorSpec = CollectorSpec {
    name: "cpu",
    about: "CPU time and utilization per mode, of the whole host and on request per core",
    default_schedule: "10s",
    default_on: true,
    params: &[ParamSpec {
        name: "per_core",
        kind: ParamKind::Bool,
        about: "also one record per logical core, tagged `cpu`",
        default: "false",
    }],
    metrics: METRICS,
    build,
};

const NAME: &str = "system.cpu";
/// Kernel ticks per second in files (`USER_HZ`): 100 on every architecture that we build for.
pub(super) const TICKS_PER_SECOND: f64 = 100.0;

const METRICS: &[MetricSpec] = &[
    MetricSpec::gauge(NAME, "utilization", "1")
        .is("system.cpu.utilization", "share of the time not idle, nor waiting for I/O"),
    MetricSpec::gauge(NAME, "utilization_user", "1")
        .is("system.cpu.utilization{cpu.mode=user}", "share in user mode, guests included"),
    MetricSpec::gauge(NAME, "utilization_nice", "1")
        .is("system.cpu.utilization{cpu.mode=nice}", "share in user mode at low priority"),
    MetricSpec::gauge(NAME, "utilization_system", "1")
        .is("system.cpu.utilization{cpu.mode=system}", "share in the kernel"),
    MetricSpec::gauge(NAME, "utilization_iowait", "1")
        .is("system.cpu.utilization{cpu.mode=iowait}", "share idle while I/O was pending"),
    MetricSpec::gauge(NAME, "utilization_interrupt", "1")
        .is("system.cpu.utilization{cpu.mode=interrupt}", "share in hard and soft interrupts"),
    MetricSpec::gauge(NAME, "utilization_steal", "1")
        .is("system.cpu.utilization{cpu.mode=steal}", "share that the hypervisor gave to others"),
    MetricSpec::counter(NAME, "time_user", "s")
        .is("system.cpu.time{cpu.mode=user}", "time in user mode since boot, guests included"),
    MetricSpec::counter(NAME, "time_nice", "s")
        .is("system.cpu.time{cpu.mode=nice}", "time in user mode at low priority since boot"),
    MetricSpec::counter(NAME, "time_system", "s")
        .is("system.cpu.time{cpu.mode=system}", "time in the kernel since boot"),
    MetricSpec::counter(NAME, "time_idle", "s").is("system.cpu.time{cpu.mode=idle}", "idle time since boot"),
    MetricSpec::counter(NAME, "time_iowait", "s")
        .is("system.cpu.time{cpu.mode=iowait}", "time idle while I/O was pending since boot"),
    MetricSpec::counter(NAME, "time_interrupt", "s")
        .is("system.cpu.time{cpu.mode=interrupt}", "time in hard and soft interrupts since boot"),
    MetricSpec::counter(NAME, "time_steal", "s")
        .is("system.cpu.time{cpu.mode=steal}", "time that the hypervisor gave to others since boot"),
    MetricSpec::updown(NAME, "logical_count", "{cpu}").is("system.cpu.logical.count", "logical cores online"),
];

/// Field of the time and of the share, per mode in the order of [`Ticks`]; the share of `idle` is what is left.
const MODES: [(&str, Option<&str>); 7] = [
    ("time_user", Some("utilization_user")),
    ("time_nice", Some("utilization_nice")),
    ("time_system", Some("utilization_system")),
    ("time_idle", None),
    ("time_iowait", Some("utilization_iowait")),
    ("time_interrupt", Some("utilization_interrupt")),
    ("time_steal", Some("utilization_steal")),
];
const IDLE: usize = 3;
const IOWAIT: usize = 4;

/// Ticks per mode since boot; `None` where the line ended early (kernels before 2.6.11 know fewer modes).
type Ticks = [Option<u64>; MODES.len()];

struct Cpu {
    file: ProcFile,
    per_core: bool,
    total: Option<Ticks>,
    cores: BTreeMap<u32, Ticks>,
}

fn build(params: &Params) -> Result<Box<dyn Collector>, ParamError> {
    if cfg!(not(target_os = "linux")) {
        return Ok(Box::new(portable::Cpu::default()));
    }
    let per_core = params.bool("per_core").unwrap_or(false);
    Ok(Box::new(Cpu { file: ProcFile::new("proc/stat"), per_core, total: None, cores: BTreeMap::new() }))
}

impl Collector for Cpu {
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        let text = match self.file.read(ctx.host) {
            Ok(text) => text,
            Err(error) => {
                self.total = None;
                return Err(error);
            }
        };
        let first = text::lines(text).next().unwrap_or_default();
        let Some((Core::All, total)) = parse(first) else {
            self.total = None;
            return Err(text::malformed("proc/stat", "a line `cpu` with at least 4 numbers", first));
        };
        let mut cores = BTreeMap::new();
        let mut unread = 0;
        for line in text::lines(text).skip(1).take_while(|line| line.starts_with(b"cpu")) {
            match parse(line) {
                Some((Core::One(n), ticks)) => drop(cores.insert(n, ticks)),
                _ => unread += 1,
            }
        }
        let count = (!cores.is_empty() && unread == 0).then_some(cores.len() as u64);
        emit(out, None, &total, self.total.as_ref(), count);
        if self.per_core {
            for (n, ticks) in &cores {
                emit(out, Some(*n), ticks, self.cores.get(n), None);
            }
        }
        self.total = Some(total);
        self.cores = if self.per_core { cores } else { BTreeMap::new() };
        Ok(())
    }
}

enum Core {
    All,
    One(u32),
}

/// `cpu  63965 0 9504 175928 1802 0 73 52 0 0`: user nice system idle iowait irq softirq steal, guest times within user.
fn parse(line: &[u8]) -> Option<(Core, Ticks)> {
    let mut words = words(line);
    let core = match words.next()?.strip_prefix(b"cpu")? {
        b"" => Core::All,
        n => Core::One(u32::try_from(text::uint(n)?).ok()?),
    };
    let mut raw = [None; 8];
    for (slot, word) in raw.iter_mut().zip(words) {
        *slot = Some(text::uint(word)?);
    }
    let [user, nice, system, idle, iowait, irq, softirq, steal] = raw;
    idle?;
    let interrupt = irq.map(|irq| irq.saturating_add(softirq.unwrap_or(0)));
    Some((core, [user, nice, system, idle, iowait, interrupt, steal]))
}

fn emit(out: &mut Points, core: Option<u32>, now: &Ticks, before: Option<&Ticks>, count: Option<u64>) {
    let mut draft = out.add(NAME).uint("logical_count", count);
    if let Some(core) = core {
        draft = draft.tag("cpu", core.to_string());
    }
    for (ticks, (time, _)) in now.iter().zip(MODES) {
        draft = draft.float(time, ticks.map(|t| t as f64 / TICKS_PER_SECOND));
    }
    let Some(before) = before else { return };
    let mut gone = [0u64; MODES.len()];
    for (gone, (now, before)) in gone.iter_mut().zip(now.iter().zip(before)) {
        *gone = now.unwrap_or(0).saturating_sub(before.unwrap_or(0));
    }
    let whole: f64 = gone.iter().map(|&g| g as f64).sum();
    let busy = whole - gone[IDLE] as f64 - gone[IOWAIT] as f64;
    draft = draft.ratio("utilization", busy, whole);
    for ((gone, now), (_, share)) in gone.iter().zip(now).zip(MODES) {
        if let (Some(share), Some(_)) = (share, now) {
            draft = draft.ratio(share, *gone as f64, whole);
        }
    }
}
