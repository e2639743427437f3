//! How the output of a script is read: one file a format, all of them in [`FORMATS`].
//!
//! Pure: what was printed and how the process ended come in, points go out. To add a format: a file with its [`Spec`]
//! and a line in the slice. What is printed may be anything; limits and the refusal of what no record may be are in
//! `reading`, for all formats alike.

mod exposition;
mod influx;
mod json;
mod lines;
mod nagios;
mod ndjson;
mod perfdata;
mod prometheus;
mod reading;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;

pub use lines::Lines;
#[cfg(feature = "schema")]
pub use ndjson::Line as NdjsonLine;
pub(super) use reading::Defaults;
use reading::Reading;

use crate::collect::text;
use crate::record::Point;

/// How many lines of an output are looked at to tell its format.
const HEAD: usize = 100;

/// One format: how it is known, and what reads it.
pub struct Spec {
    /// What `format = "..."` calls it.
    pub name: &'static str,
    pub about: &'static str,
    /// Whether exit codes 1 to 3 are a result like 0, and no failure of the run.
    pub(super) exit_is_data: bool,
    detect: fn(&Output<'_>) -> Likeness,
    parse: fn(&Output<'_>, &mut Reading<'_>),
}

/// Of two formats that an output is equally like, the earlier one is taken.
pub const FORMATS: &[Spec] = &[
    ndjson::SPEC,
    json::SPEC,
    influx::SPEC,
    nagios::SPEC,
    prometheus::OPENMETRICS,
    prometheus::PROMETHEUS,
    value::SPEC,
];

/// How much an output is like a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    No,
    /// It may be this if it is nothing else.
    Perhaps,
    /// A sign that is hardly there by chance.
    Probably,
    /// It reads as this from its first line on.
    Surely,
}

/// What a process left behind.
pub(super) struct Output<'a> {
    pub stdout: &'a [u8],
    /// It ended by itself and well.
    pub whole: bool,
    /// Its exit code, if it ended by itself.
    pub exit: Option<i32>,
    /// What was run, as configured.
    pub program: &'a str,
}

impl<'a> Output<'a> {
    /// What it printed; less an unfinished last line unless it ended well.
    fn complete(&self) -> &'a [u8] {
        let end = self.stdout.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        if self.whole { self.stdout } else { &self.stdout[..end] }
    }

    /// The lines that are not empty, without the white space around them, with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &'a [u8])> + use<'a> {
        let lines = self.complete().split(|&b| b == b'\n').map(<[u8]>::trim_ascii).zip(1..);
        lines.filter(|(line, _)| !line.is_empty()).map(|(line, at)| (at, line))
    }

    /// The first lines that are neither empty nor a `#` comment and are text.
    fn head(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let lines = self.lines().map(|(_, line)| line).filter(|line| !line.starts_with(b"#"));
        lines.take(HEAD).filter_map(|line| std::str::from_utf8(line).ok())
    }
}

/// The format of a script: one of [`FORMATS`], or told by each output anew.
#[derive(Clone, Copy, Default)]
pub struct Format(Option<&'static Spec>);

impl Format {
    /// What an output looks like decides.
    pub const AUTO: Self = Self(None);

    pub const NAMES: [&'static str; FORMATS.len() + 1] = {
        let mut names = ["auto"; FORMATS.len() + 1];
        let mut at = 0;
        while at < FORMATS.len() {
            names[at + 1] = FORMATS[at].name;
            at += 1;
        }
        names
    };

    /// The format of that name, one of [`Format::NAMES`].
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "auto" {
            return Some(Self::AUTO);
        }
        FORMATS.iter().find(|spec| spec.name == name).map(|spec| Self(Some(spec)))
    }

    pub fn name(self) -> &'static str {
        self.0.map_or("auto", |spec| spec.name)
    }

    /// What reads this output; nothing when it is like no format.
    pub(super) fn of(self, output: &Output<'_>) -> Option<&'static Spec> {
        // Of equal ones the last is taken, hence from behind.
        self.0.or_else(|| {
            let liked = FORMATS.iter().rev().map(|spec| ((spec.detect)(output), spec));
            liked.max_by_key(|(likeness, _)| *likeness).filter(|(likeness, _)| *likeness > Likeness::No).map(|(_, s)| s)
        })
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Format {}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The points of an output, then at most one err record for what cannot be read and one for what is too much.
pub(super) fn read(spec: Option<&Spec>, output: &Output<'_>, defaults: &Defaults<'_>) -> Vec<Point> {
    let mut reading = Reading::new(defaults);
    match spec {
        Some(spec) => (spec.parse)(output, &mut reading),
        None => unknown(output, &mut reading),
    }
    reading.finish()
}

/// Nothing that is known; comments alone are no output.
fn unknown(output: &Output<'_>, reading: &mut Reading<'_>) {
    let Some((at, line)) = output.lines().find(|(_, line)| !line.starts_with(b"#")) else { return };
    let Ok(text) = reading::utf8(line).map_err(|reason| reading.refuse(at, line, reason)) else { return };
    let influx = match influx::parse_line(text, reading.defaults()) {
        Err(reason) if text.contains('=') => format!(" (as that: {reason})"),
        _ => String::new(),
    };
    let message = format!(
        "line {at}: in no known format: neither JSON, nor Influx line protocol{influx}, nor Prometheus text, nor a \
         plugin's `STATUS - text | label=value` with the exit code of its status, nor one number; print one of these, \
         or say which it is with `format`: {}",
        text::excerpt(line)
    );
    reading.refuse_all(message);
}
