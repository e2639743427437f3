//! The agent's own limits: what it uses is looked at, and beyond a limit less is done. It never exits for that.
//!
//! [`ladder`] decides when; here is what a stage means, where the figures come from, and how it is said.

mod ladder;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;

use crate::clock::{self, Now};
use crate::collect::{self, HostRoot};
use crate::config;
use crate::events::Step;
use crate::record::{Fields, Value};
use crate::schedule::Share;
use ladder::{Change, Ladder, Limits, Resource, Sample, TOP};

/// For `status --json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct View {
    /// 0: nothing is shed.
    pub stage: u8,
    /// Memory of the agent's own, in bytes; null where the system does not tell.
    pub memory: Option<u64>,
    /// 0 is no limit.
    pub max_memory: u64,
    /// Percent of one core over the last window.
    pub cpu: Option<f64>,
    pub max_cpu: u32,
    /// Collectors that are off now.
    pub off: Vec<String>,
}

/// The agent's use against its limits.
pub struct Shedding {
    ladder: Ladder,
    /// Collectors that the highest stage turns off.
    named: Vec<String>,
}

impl Shedding {
    pub fn new(limits: &config::Limits, root: &HostRoot, now: Now) -> Self {
        Self { ladder: Ladder::new(ladder_limits(limits), sample(root, now)), named: limits.shed.clone() }
    }

    pub fn next_wake(&self) -> Duration {
        self.ladder.next_look()
    }

    /// Other limits from now on; the stage stays until they are judged by.
    pub fn configure(&mut self, limits: &config::Limits) {
        self.ladder.set_limits(ladder_limits(limits));
        self.named.clone_from(&limits.shed);
    }

    /// Looks at the agent's use when a window ends; `None` before that.
    pub fn look(&mut self, root: &HostRoot, now: Now) -> Option<Option<Change>> {
        (now.mono >= self.next_wake()).then(|| self.ladder.look(sample(root, now)))
    }

    pub fn stage(&self) -> u8 {
        self.ladder.stage()
    }

    /// How much of what is due is done at this stage.
    pub fn share(&self) -> Share {
        share(self.stage())
    }

    /// The collectors that are off at this stage.
    pub fn off(&self) -> &[String] {
        if self.stage() == TOP { &self.named } else { &[] }
    }

    pub fn view(&self) -> View {
        let limits = self.ladder.limits();
        View {
            stage: self.stage(),
            memory: self.ladder.memory(),
            max_memory: limits.memory,
            cpu: self.ladder.cpu().map(|percent| (percent * 100.0).round() / 100.0),
            max_cpu: limits.cpu,
            off: self.off().to_vec(),
        }
    }

    /// The step that tells how it stands: an earlier process did less, or the event of the step could not be stored. None
    /// while nothing is shed and the last window was beyond a limit all the same.
    pub fn anew(&self) -> Option<Step> {
        let (stage, measures) = (self.stage(), self.measures());
        let message = match stage {
            0 => format!("the agent is within its limits: stage 0 of {TOP}"),
            _ => format!("the agent is beyond its limits, or was lately: stage {stage} of {TOP}, {measures}"),
        };
        let fields = Fields::from([("stage".into(), Value::uint(stage.into()))]);
        let step = Step { collector: collect::OWN.into(), stage, up: stage > 0, fields, message };
        (stage > 0 || self.ladder.is_within()).then_some(step)
    }

    /// The limits that nothing is compared with, if any.
    pub fn unwatched(&self) -> Option<String> {
        let limits = self.ladder.limits();
        let memory = limits.memory > 0 && !self.ladder.knows(Resource::Memory);
        let cpu = limits.cpu > 0 && !self.ladder.knows(Resource::Cpu);
        let keys = match (memory, cpu) {
            (false, false) => return None,
            (true, false) => "agent.max_memory is",
            (false, true) => "agent.max_cpu is",
            (true, true) => "agent.max_memory and agent.max_cpu are",
        };
        Some(format!("{keys} not watched: this system does not tell what the agent uses; 0 asks for no limit"))
    }

    /// What is done at this stage, in words.
    pub fn measures(&self) -> String {
        let each = match self.share() {
            Share::OneOf(number) => format!("one of {number} due runs is made"),
            Share::All | Share::None => return "everything runs again".to_owned(),
        };
        match self.off() {
            [] => each,
            off => format!("{each}, {} off", off.join(", ")),
        }
    }
}

/// One line, for the log, the status and the event.
fn describe(change: &Change, measures: &str) -> String {
    let (stage, limit) = (change.stage, figure(change.resource, change.limit));
    let value = figure(change.resource, change.value);
    match (change.resource, change.up) {
        (Resource::Memory, true) => {
            format!("the agent uses {value} of memory, agent.max_memory is {limit}: stage {stage} of {TOP}, {measures}")
        }
        (Resource::Cpu, true) => {
            format!("the agent uses {value} of a core, agent.max_cpu is {limit}: stage {stage} of {TOP}, {measures}")
        }
        (_, false) => format!("the agent is within its limits again: stage {stage} of {TOP}, {measures}"),
    }
}

pub fn step(change: &Change, measures: &str) -> Step {
    let (collector, message) = (collect::OWN.into(), describe(change, measures));
    Step { collector, stage: change.stage, up: change.up, fields: fields(change), message }
}

fn fields(change: &Change) -> Fields {
    let resource = match change.resource {
        Resource::Memory => "memory",
        Resource::Cpu => "cpu",
    };
    Fields::from([
        ("stage".into(), Value::uint(change.stage.into())),
        ("resource".into(), Value::Str(resource.to_owned())),
        ("value".into(), Value::Float(change.value)),
        ("limit".into(), Value::Float(change.limit)),
    ])
}

fn figure(resource: Resource, value: f64) -> String {
    match resource {
        Resource::Memory => format!("{:.1} MiB", value / f64::from(1 << 20)),
        Resource::Cpu => format!("{value:.1} %"),
    }
}

fn share(stage: u8) -> Share {
    match stage {
        0 => Share::All,
        stage => Share::OneOf(1 << stage.min(TOP)),
    }
}

fn ladder_limits(limits: &config::Limits) -> Limits {
    Limits { memory: limits.max_memory, cpu: limits.max_cpu, window: limits.window }
}

fn sample(root: &HostRoot, now: Now) -> Sample {
    Sample { at: now.mono, memory: collect::own_memory(root), cpu: clock::cpu_time() }
}
