//! Where a run puts its points. It stamps them with the time of the run, bounds their number, and drops those
//! that ended up with nothing in them. It never reads a clock.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::clock::Now;
use crate::record::{ErrorKind, Name, Point, RunError, Value};

/// The most points of one run; what is beyond is counted and reported by one err record.
pub const MAX_POINTS: usize = 1000;

/// The points of one run.
#[derive(Debug)]
pub struct Points {
    ts: i64,
    mono: u64,
    points: Vec<Point>,
    /// Points refused because of [`MAX_POINTS`].
    refused: usize,
    /// Takes what is written to a refused point.
    discard: Point,
}

fn empty(ts: i64, mono: u64, name: Name) -> Point {
    Point { ts, mono, name, tags: BTreeMap::new(), fields: BTreeMap::new(), error: None }
}

impl Points {
    pub fn new(now: &Now) -> Self {
        let (ts, mono) = (now.wall_ms, now.boot_ms());
        Self { ts, mono, points: Vec::new(), refused: 0, discard: empty(ts, mono, Cow::Borrowed("")) }
    }

    /// A new point of the time of the run. One that gets no field is dropped at the end.
    pub fn add(&mut self, name: impl Into<Name>) -> Draft<'_> {
        if self.points.len() >= MAX_POINTS {
            self.refused += 1;
            self.discard = empty(self.ts, self.mono, name.into());
            return Draft(&mut self.discard);
        }
        self.points.push(empty(self.ts, self.mono, name.into()));
        let last = self.points.len() - 1;
        Draft(&mut self.points[last])
    }

    /// A record with `status: "err"`.
    pub fn fail(&mut self, name: impl Into<Name>, error: RunError) -> Draft<'_> {
        let draft = self.add(name);
        draft.0.error = Some(error);
        draft
    }

    pub fn len(&self) -> usize {
        self.points.len()
    }

    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The points of the run; `name` is given to the err record about points beyond [`MAX_POINTS`].
    pub fn finish(mut self, name: &'static str) -> Vec<Point> {
        if self.refused > 0 {
            let message = format!(
                "{} points more than the {MAX_POINTS} that one run may record were left out; \
                 name what you need in this collector's parameters",
                self.refused
            );
            let mut point = empty(self.ts, self.mono, Cow::Borrowed(name));
            point.error = Some(RunError::new(ErrorKind::Output, message));
            self.points.push(point);
        }
        self.points.retain(|p| !p.fields.is_empty() || p.error.is_some());
        self.points
    }
}

/// One point being filled in. A value that is not there (`None`), not finite or not measurable is left out.
#[derive(Debug)]
pub struct Draft<'a>(&'a mut Point);

impl Draft<'_> {
    /// Measured at another time than that of the run.
    pub fn at(self, then: &Now) -> Self {
        (self.0.ts, self.0.mono) = (then.wall_ms, then.boot_ms());
        self
    }

    pub fn tag(self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.0.tags.insert(Cow::Borrowed(name), value.into());
        self
    }

    /// Whether it has no field yet.
    pub fn is_empty(&self) -> bool {
        self.0.fields.is_empty()
    }

    pub fn value(self, field: &'static str, value: Option<Value>) -> Self {
        if let Some(value) = value {
            self.0.fields.insert(Cow::Borrowed(field), value);
        }
        self
    }

    pub fn uint(self, field: &'static str, value: impl Into<Option<u64>>) -> Self {
        let value = value.into().map(Value::uint);
        self.value(field, value)
    }

    pub fn float(self, field: &'static str, value: impl Into<Option<f64>>) -> Self {
        let value = value.into().and_then(Value::float);
        self.value(field, value)
    }

    pub fn bool(self, field: &'static str, value: impl Into<Option<bool>>) -> Self {
        let value = value.into().map(Value::Bool);
        self.value(field, value)
    }

    /// `part / whole` within 0..=1; left out when `whole` is 0.
    pub fn ratio(self, field: &'static str, part: f64, whole: f64) -> Self {
        let value = Value::ratio(part.clamp(0.0, whole.max(0.0)), whole);
        self.value(field, value)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn points() -> Points {
        Points::new(&Now { mono: Duration::ZERO, boot: Duration::from_millis(5), wall_ms: 7 })
    }

    #[test]
    fn points_without_fields_are_dropped_and_errors_kept() {
        let mut out = points();
        out.add("a").uint("x", None).float("y", f64::NAN).ratio("z", 0.0, 0.0);
        out.add("b").uint("x", 1);
        out.fail("c", RunError::new(ErrorKind::Parse, "no"));
        let names: Vec<_> = out.finish("d").into_iter().map(|p| (p.name.into_owned(), p.ts, p.mono)).collect();
        assert_eq!(names, [("b".to_owned(), 7, 5), ("c".to_owned(), 7, 5)]);
    }

    #[test]
    fn ratios_stay_within_0_and_1() {
        let mut out = points();
        out.add("a").ratio("over", 3.0, 2.0).ratio("under", -1.0, 2.0).ratio("none", 1.0, -1.0);
        let fields = out.finish("a").remove(0).fields;
        assert_eq!(fields["over"], Value::Float(1.0));
        assert_eq!(fields["under"], Value::Float(0.0));
        assert_eq!(fields["none"], Value::Float(0.0));
    }

    #[test]
    fn points_beyond_the_limit_are_reported_not_stored() {
        let mut out = points();
        for _ in 0..MAX_POINTS + 3 {
            out.add("a").uint("x", 1);
        }
        let made = out.finish("a");
        assert_eq!(made.len(), MAX_POINTS + 1);
        let error = made.last().and_then(|p| p.error.clone()).unwrap();
        assert_eq!(error.kind, ErrorKind::Output);
        assert!(error.message.starts_with("3 points"), "{}", error.message);
    }
}
