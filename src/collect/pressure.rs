//! Pressure stall information from `/proc/pressure`: how long tasks waited for CPU, memory or I/O that others had.
//!
//! `some` is the time in which at least one task waited, `full` that in which all did. Kernels before 4.20 have none,
//! and one booted with `psi=0` refuses to read the files; a kernel may give a resource no line `full`.

use super::text::{self, words};
use super::{Collector, CollectorSpec, Context, MetricSpec, ParamError, Params, Points, ProcFile};
use crate::record::RunError;

pub const SPEC: CollectorSpec = CollectorSpec {
    name: "pressure",
    about: "pressure stall information (PSI), one record each for cpu, memory and io",
    default_schedule: "60s",
    default_on: true,
    params: &[],
    metrics: METRICS,
    build,
};

const NAME: &str = "system.pressure";
const RESOURCES: [&str; 3] = ["cpu", "memory", "io"];

const METRICS: &[MetricSpec] = &[
    MetricSpec::gauge(NAME, "some_10s", "1").ours("share of the last 10 s in which some task waited"),
    MetricSpec::gauge(NAME, "some_60s", "1").ours("as some_10s, of the last 60 s"),
    MetricSpec::gauge(NAME, "some_300s", "1").ours("as some_10s, of the last 300 s"),
    MetricSpec::counter(NAME, "some_time", "s").ours("time since boot in which some task waited"),
    MetricSpec::gauge(NAME, "full_10s", "1").ours("share of the last 10 s in which all tasks waited"),
    MetricSpec::gauge(NAME, "full_60s", "1").ours("as full_10s, of the last 60 s"),
    MetricSpec::gauge(NAME, "full_300s", "1").ours("as full_10s, of the last 300 s"),
    MetricSpec::counter(NAME, "full_time", "s").ours("time since boot in which all tasks waited"),
];

/// First word of a line, and its fields in the order of the kernel's.
const LINES: [(&[u8], [&str; 4]); 2] = [
    (b"some", ["some_10s", "some_60s", "some_300s", "some_time"]),
    (b"full", ["full_10s", "full_60s", "full_300s", "full_time"]),
];

struct Pressure {
    files: [(&'static str, ProcFile); 3],
}

fn build(_: &Params) -> Result<Box<dyn Collector>, ParamError> {
    let file = |resource| (resource, ProcFile::new(format!("proc/pressure/{resource}")));
    Ok(Box::new(Pressure { files: RESOURCES.map(file) }))
}

impl Collector for Pressure {
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        // A kernel that has one of the three has all of them: the first that is not there is the reason. One that
        // cannot be understood costs its own record only.
        for (resource, file) in &mut self.files {
            let rel = file.rel().to_owned();
            let text = file.read(ctx.host)?;
            let mut draft = out.add(NAME).tag("resource", *resource);
            let mut any = false;
            for line in text::lines(text) {
                for (field, number) in parse(line).into_iter().flatten() {
                    any = true;
                    draft = match field.ends_with("_time") {
                        true => draft.float(field, number / 1e6),
                        false => draft.ratio(field, number, 100.0),
                    };
                }
            }
            if !any {
                let first = text::lines(text).next().unwrap_or_default();
                let error = text::malformed(&rel, "a line `some avg10=n avg60=n avg300=n total=n`", first);
                out.fail(NAME, error).tag("resource", *resource);
            }
        }
        Ok(())
    }
}

/// `some avg10=0.02 avg60=0.22 avg300=1.34 total=187202677`: percent, and microseconds. All four, or the line is none.
fn parse(line: &[u8]) -> Option<[(&'static str, f64); 4]> {
    const KEYS: [&[u8]; 4] = [b"avg10=", b"avg60=", b"avg300=", b"total="];
    let mut words = words(line);
    let kind = words.next()?;
    let (_, fields) = LINES.iter().find(|(first, _)| *first == kind)?;
    let mut parsed = [("", 0.0); 4];
    for ((slot, field), key) in parsed.iter_mut().zip(fields).zip(KEYS) {
        let number = words.next()?.strip_prefix(key)?;
        let number = if key == b"total=" { text::uint(number)? as f64 } else { text::float(number)? };
        *slot = (*field, Some(number).filter(|&n| n >= 0.0)?);
    }
    Some(parsed)
}
