//! What a run may use, and what it has used. Words and numbers; nothing here acts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::{Fields, Point, Value};

/// The record of what a run used, where a collector asks for it.
pub const RUN: &str = "holdover.collector.run";

/// The budgets of a run beside its time and its output; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time of all its processes together.
    pub cpu: Option<Duration>,
    /// Bytes of memory of all its processes together.
    pub memory: Option<u64>,
    pub processes: Option<u32>,
}

/// A budget that a run went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Over {
    Cpu,
    Memory,
    Processes,
}

/// What a run used; what could not be measured is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    pub wall: Duration,
    pub cpu: Option<Duration>,
    /// The most bytes at a time, of all its processes together.
    pub memory: Option<u64>,
    /// The most processes at a time.
    pub processes: Option<u64>,
    /// Bytes taken from standard output.
    pub output: u64,
}

impl Used {
    /// As fields of a record: seconds, bytes, a count.
    pub fn fields(&self) -> Fields {
        let seconds = |d: Duration| Value::Float((d.as_secs_f64() * 1e6).round() / 1e6);
        let named: [(&'static str, Option<Value>); 5] = [
            ("run_duration", Some(seconds(self.wall))),
            ("run_cpu_time", self.cpu.map(seconds)),
            ("run_memory_peak", self.memory.map(Value::uint)),
            ("run_processes_peak", self.processes.map(Value::uint)),
            ("run_output", Some(Value::uint(self.output))),
        ];
        named.into_iter().filter_map(|(name, value)| Some((Cow::Borrowed(name), value?))).collect()
    }

    /// The record of one run's use, dated like `like`.
    pub(super) fn point(&self, collector: &str, like: Point) -> Point {
        let tags = BTreeMap::from([(Cow::Borrowed("collector"), Cow::Owned(collector.to_owned()))]);
        Point { name: Cow::Borrowed(RUN), tags, fields: self.fields(), error: None, ..like }
    }
}
