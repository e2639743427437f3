//! Prometheus' text format and OpenMetrics: samples put together to records.
//!
//! Names are those of Telegraf's `metric_version = 1`: the record is called like the metric family, labels are tags,
//! and the field says what the value is: `counter`, `gauge`, `value` where the type is not known; histograms and
//! summaries are one record each with `count`, `sum` and a field per bucket bound or quantile. That way a histogram
//! is one record and not a dozen, and what kind of number it is stays with it. NaN and infinite values are left out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::exposition::{self, Kind, Line, Sample};
use super::reading::{self, MAX_FIELDS, Reading};
use super::{HEAD, Likeness, Output, Spec};
use crate::collect::MAX_POINTS;
use crate::record::{Point, Tags, Value};

pub(super) const PROMETHEUS: Spec = Spec {
    name: "prometheus",
    about: "Prometheus' text format, times in milliseconds; OpenMetrics if it ends with `# EOF`",
    exit_is_data: false,
    detect: |output| if has_eof(output) { Likeness::No } else { detect(output) },
    parse: |output, reading| parse(output, has_eof(output), reading),
};

pub(super) const OPENMETRICS: Spec = Spec {
    name: "openmetrics",
    about: "OpenMetrics text, times in seconds; without `# EOF` at its end it is an error",
    exit_is_data: false,
    detect: |output| if has_eof(output) { detect(output) } else { Likeness::No },
    parse: |output, reading| {
        parse(output, true, reading);
        if output.whole && !has_eof(output) {
            reading.refuse_all("no `# EOF` at the end: the output is cut off, or is not OpenMetrics");
        }
    },
};

/// Metrics whose type is kept in mind; a run may record fewer.
const MAX_FAMILIES: usize = 4 * MAX_POINTS;

/// Which of the two it is decides what times mean.
fn has_eof(output: &Output<'_>) -> bool {
    output.lines().any(|(_, line)| line == b"# EOF")
}

/// Sure by a `TYPE` line or labels; bare names with values may be mere text, and have to be good throughout.
fn detect(output: &Output<'_>) -> Likeness {
    let lines = || output.lines().filter_map(|(_, line)| std::str::from_utf8(line).ok()).take(HEAD);
    let typed = lines().any(|line| matches!(exposition::line(line), Ok(Line::Type(..))));
    let mut samples = output.head().map(exposition::line).peekable();
    let labelled = matches!(samples.peek(), Some(Ok(Line::Sample(sample))) if !sample.labels.is_empty());
    if typed || labelled {
        Likeness::Surely
    } else if samples.peek().is_some() && samples.all(|line| line.is_ok()) {
        Likeness::Perhaps
    } else {
        Likeness::No
    }
}

fn parse(output: &Output<'_>, open: bool, reading: &mut Reading<'_>) {
    let mut families = Families { open, known: BTreeMap::new(), index: BTreeMap::new(), made: Vec::new() };
    let mut ended = false;
    for (at, line) in output.lines() {
        let read = match ended {
            true => Err("after `# EOF`, which ends the text".to_owned()),
            false => reading::utf8(line).and_then(exposition::line),
        };
        let done = match read {
            Ok(Line::Eof) => {
                ended = open;
                Ok(())
            }
            Ok(line_read) => families.take(line_read, at, line, reading),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = done {
            reading.refuse(at, line, reason);
        }
    }
    for (at, line, point) in families.made {
        // Nothing but NaN: there was nothing to measure.
        if !point.fields.is_empty() {
            reading.line(at, line, Ok(point));
        }
    }
}

#[derive(Default)]
struct Family {
    kind: Option<Kind>,
    unit: Option<String>,
}

/// Which record a sample belongs to: family, labels less those that say which field it is, and time.
type Key = (String, Tags, i64);

struct Families<'a> {
    /// OpenMetrics, not 0.0.4.
    open: bool,
    known: BTreeMap<String, Family>,
    index: BTreeMap<Key, usize>,
    /// With the line that it began with.
    made: Vec<(usize, &'a [u8], Point)>,
}

impl<'a> Families<'a> {
    fn take(&mut self, line: Line<'_>, at: usize, text: &'a [u8], reading: &mut Reading<'_>) -> Result<(), String> {
        match line {
            Line::Type(name, kind) => match &mut self.family(name)?.kind {
                Some(_) => Err("a second `# TYPE` of one metric, or one behind its samples".to_owned()),
                slot => {
                    *slot = Some(kind);
                    Ok(())
                }
            },
            Line::Unit(name, unit) => {
                self.family(name)?.unit = Some(unit.to_owned());
                Ok(())
            }
            Line::Sample(sample) => self.sample(sample, at, text, reading),
            Line::Comment | Line::Eof => Ok(()),
        }
    }

    fn family(&mut self, name: String) -> Result<&mut Family, String> {
        if self.known.len() >= MAX_FAMILIES && !self.known.contains_key(&name) {
            return Err(format!("more than {MAX_FAMILIES} metrics"));
        }
        Ok(self.known.entry(name).or_default())
    }

    fn sample(
        &mut self,
        sample: Sample<'_>,
        at: usize,
        text: &'a [u8],
        reading: &mut Reading<'_>,
    ) -> Result<(), String> {
        if sample.exemplar && !self.open {
            return Err("only OpenMetrics has exemplars, and that ends with `# EOF`".to_owned());
        }
        let ts = sample.time.map_or(Ok(reading.defaults().ts), |time| self.time(time))?;
        let (family, part) = self.place(&sample.name);
        let mut labels: Vec<_> = sample.labels;
        let field = part.field(&family, &mut labels)?;
        let value = part.value(sample.value)?;
        let mut tags: Tags = labels.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        // An empty label is none.
        tags.retain(|_, value| !value.is_empty());
        if let Some(unit) = self.known.get(&family).and_then(|known| known.unit.as_ref()).filter(|u| !u.is_empty()) {
            tags.entry("unit".into()).or_insert_with(|| unit.clone().into());
        }
        if let (Part::Itself(Kind::Unknown), Ok(known)) = (part, self.family(family.clone())) {
            known.kind = Some(Kind::Unknown);
        }
        let Some(point) = self.point((family, tags, ts), at, text, reading) else { return Ok(()) };
        match value {
            Some(_) if point.fields.contains_key(&*field) => {
                Err("the same metric with the same labels twice".to_owned())
            }
            Some(_) if point.fields.len() >= MAX_FIELDS => {
                Err(format!("more than {MAX_FIELDS} buckets, quantiles or states"))
            }
            Some(value) => {
                point.fields.insert(field.into(), value);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The record of that key, a new one if need be; `None` when there is no room for it.
    fn point(&mut self, key: Key, at: usize, text: &'a [u8], reading: &mut Reading<'_>) -> Option<&mut Point> {
        let place = match self.index.entry(key) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(_) if self.made.len() >= MAX_POINTS => {
                reading.leave_out(1);
                return None;
            }
            Entry::Vacant(place) => {
                let (family, tags, ts) = place.key().clone();
                let point = Point { name: family.into(), tags, ts, ..reading.defaults().point() };
                self.made.push((at, text, point));
                *place.insert(self.made.len() - 1)
            }
        };
        Some(&mut self.made[place].2)
    }

    /// In milliseconds.
    fn time(&self, text: &str) -> Result<i64, String> {
        let seconds = |text| exposition::number(text).filter(|seconds| seconds.is_finite());
        match self.open {
            true => seconds(text).map(|s| (s * 1000.0).round() as i64).ok_or("no time in seconds"),
            false => text.parse().map_err(|_| "no time in milliseconds"),
        }
        .map_err(|reason| format!("`{text}` is {reason}"))
    }

    /// The family that a sample is part of, and which part it is.
    fn place(&self, name: &str) -> (String, Part) {
        let kind = |name: &str| self.known.get(name).and_then(|family| family.kind);
        if let Some(kind) = kind(name) {
            return (name.to_owned(), Part::Itself(kind));
        }
        for (suffix, kinds, part) in SUFFIXES {
            if let Some(family) = name.strip_suffix(suffix)
                && kind(family).is_some_and(|kind| kinds.contains(&kind))
            {
                return (family.to_owned(), *part);
            }
        }
        (name.to_owned(), Part::Itself(Kind::Unknown))
    }
}

/// What a sample is of its family.
#[derive(Clone, Copy)]
enum Part {
    Itself(Kind),
    Bucket,
    Named(&'static str),
}

/// What the names of samples end in, beyond the name of their family.
const SUFFIXES: &[(&str, &[Kind], Part)] = &[
    ("_bucket", &[Kind::Histogram, Kind::GaugeHistogram], Part::Bucket),
    ("_count", &[Kind::Histogram, Kind::Summary], Part::Named("count")),
    ("_sum", &[Kind::Histogram, Kind::Summary], Part::Named("sum")),
    ("_gcount", &[Kind::GaugeHistogram], Part::Named("count")),
    ("_gsum", &[Kind::GaugeHistogram], Part::Named("sum")),
    ("_created", &[Kind::Counter, Kind::Histogram, Kind::Summary], Part::Named("created")),
    ("_total", &[Kind::Counter], Part::Named("counter")),
    ("_info", &[Kind::Info], Part::Named("value")),
];

impl Part {
    /// The name of the field; a label that says it is taken out.
    fn field(self, family: &str, labels: &mut Vec<(String, String)>) -> Result<String, String> {
        let mut take = |label: &str| {
            let at = labels.iter().position(|(name, _)| name == label);
            at.map(|at| labels.remove(at).1).ok_or_else(|| format!("`{family}` without the label `{label}`"))
        };
        let bound = |text: String| {
            exposition::number(&text).filter(|x| !x.is_nan()).map(shortest).ok_or(format!("`{text}` is no bound"))
        };
        match self {
            Self::Bucket => bound(take("le")?),
            Self::Itself(Kind::Summary) => bound(take("quantile")?),
            Self::Itself(Kind::StateSet) => take(family),
            Self::Itself(Kind::Counter) => Ok("counter".to_owned()),
            Self::Itself(Kind::Gauge) => Ok("gauge".to_owned()),
            Self::Itself(Kind::Unknown) => Ok("value".to_owned()),
            Self::Itself(Kind::Histogram | Kind::GaugeHistogram) => {
                Err(format!("of the histogram `{family}` only buckets, count and sum can be samples"))
            }
            Self::Itself(Kind::Info) => Err(format!("the sample of `{family}` must be called `{family}_info`")),
            Self::Named(name) => Ok(name.to_owned()),
        }
    }

    /// `None` is NaN or infinite.
    fn value(self, value: f64) -> Result<Option<Value>, String> {
        match (self, value) {
            (Self::Itself(Kind::StateSet), 0.0) => Ok(Some(Value::Bool(false))),
            (Self::Itself(Kind::StateSet), 1.0) => Ok(Some(Value::Bool(true))),
            (Self::Itself(Kind::StateSet), _) => Err("a state is 0 or 1".to_owned()),
            _ => Ok(Value::float(value)),
        }
    }
}

/// A bound as Go prints it, and so Telegraf and most exporters: 0.005, 1, 1e+06, +Inf.
fn shortest(x: f64) -> String {
    if x.is_infinite() {
        return if x > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        _ => format!("{x}"),
    }
}
