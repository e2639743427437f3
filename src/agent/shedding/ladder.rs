//! The stages of shedding load, and when to go up and down them. Pure: samples come in, with the time they were taken.
//!
//! At the end of each window the agent's use is compared with its limits. Beyond one in [`RAISE`] windows in a row: one
//! stage up. Below [`CALM`] of each for a while: one stage down. That while begins at [`PATIENCE`] windows and doubles,
//! up to [`MAX_PATIENCE`], each time a descent turns out to have come too early. So flapping is bounded: up and down again
//! takes `RAISE + PATIENCE` windows at least, and `RAISE + MAX_PATIENCE` in the end for a cause that always comes back soon.

use std::time::Duration;

/// The highest stage.
pub const TOP: u8 = 3;
/// Windows in a row beyond a limit that lead one stage up.
pub const RAISE: u32 = 2;
/// The share of a limit below which a window is calm.
pub const CALM: f64 = 0.8;
/// Calm windows in a row that lead one stage down.
pub const PATIENCE: u32 = 5;
pub const MAX_PATIENCE: u32 = 80;

/// What the agent may use; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub memory: u64,
    /// Percent of one core.
    pub cpu: u32,
    /// Over which CPU time is measured, and after which both are judged.
    pub window: Duration,
}

/// The agent's use at one moment; what this system does not tell is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Monotonic.
    pub at: Duration,
    pub memory: Option<u64>,
    /// CPU time since the process started.
    pub cpu: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Memory,
    Cpu,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    pub stage: u8,
    pub up: bool,
    /// What led up; on the way down, what had.
    pub resource: Resource,
    /// Bytes, or percent of a core.
    pub value: f64,
    pub limit: f64,
}

#[derive(Debug)]
pub struct Ladder {
    limits: Limits,
    /// Where the window begins.
    begin: Sample,
    /// Percent of one core, over the last window.
    cpu: Option<f64>,
    stage: u8,
    cause: Resource,
    /// Windows in a row beyond a limit, and calm ones.
    beyond: u32,
    calm: u32,
    patience: u32,
    /// Windows since the last step down; `None` before the first.
    descended: Option<u32>,
}

impl Ladder {
    pub fn new(limits: Limits, begin: Sample) -> Self {
        Self {
            limits,
            begin,
            cpu: None,
            stage: 0,
            cause: Resource::Memory,
            beyond: 0,
            calm: 0,
            patience: PATIENCE,
            descended: None,
        }
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    pub fn stage(&self) -> u8 {
        self.stage
    }

    /// At the end of the last window.
    pub fn memory(&self) -> Option<u64> {
        self.begin.memory
    }

    /// Percent of one core, over the last window.
    pub fn cpu(&self) -> Option<f64> {
        self.cpu
    }

    /// Whether the system tells the use of it.
    pub fn knows(&self, resource: Resource) -> bool {
        match resource {
            Resource::Memory => self.begin.memory.is_some(),
            Resource::Cpu => self.begin.cpu.is_some(),
        }
    }

    /// The last window was within the limits.
    pub fn is_within(&self) -> bool {
        self.share(Resource::Memory) <= 1.0 && self.share(Resource::Cpu) <= 1.0
    }

    /// When the window ends.
    pub fn next_look(&self) -> Duration {
        self.begin.at + self.limits.window
    }

    /// Other limits from now on. The stage stays; what was learnt under the former limits is forgotten.
    pub fn set_limits(&mut self, limits: Limits) {
        if limits != self.limits {
            self.limits = limits;
            (self.beyond, self.calm, self.patience, self.descended) = (0, 0, PATIENCE, None);
        }
    }

    /// Judges the window that ends with this sample.
    pub fn look(&mut self, sample: Sample) -> Option<Change> {
        self.measure(sample);
        self.descended = self.descended.map(|windows| windows.saturating_add(1));
        let shares = [Resource::Memory, Resource::Cpu].map(|resource| (self.share(resource), resource));
        let (share, worst) = if shares[0].0 >= shares[1].0 { shares[0] } else { shares[1] };
        self.beyond = if share > 1.0 { self.beyond + 1 } else { 0 };
        self.calm = if share < CALM { self.calm.saturating_add(1) } else { 0 };
        if self.beyond >= RAISE && self.stage < TOP {
            return Some(self.step_up(worst));
        }
        if self.calm >= self.patience && self.stage > 0 {
            return Some(self.step_down());
        }
        self.beyond = self.beyond.min(RAISE);
        None
    }

    fn measure(&mut self, sample: Sample) {
        let passed = sample.at.saturating_sub(self.begin.at).as_secs_f64();
        let spent = sample.cpu.zip(self.begin.cpu).map(|(now, before)| now.saturating_sub(before).as_secs_f64());
        self.cpu = spent.filter(|_| passed > 0.0).map(|spent| 100.0 * spent / passed);
        self.begin = sample;
    }

    /// Of its limit; 0 where there is none, or no figure.
    fn share(&self, resource: Resource) -> f64 {
        let (value, limit) = self.figure(resource);
        if limit > 0.0 { value / limit } else { 0.0 }
    }

    fn figure(&self, resource: Resource) -> (f64, f64) {
        match resource {
            Resource::Memory => (self.begin.memory.unwrap_or(0) as f64, self.limits.memory as f64),
            Resource::Cpu => (self.cpu.unwrap_or(0.0), f64::from(self.limits.cpu)),
        }
    }

    fn step_up(&mut self, cause: Resource) -> Change {
        if let Some(windows) = self.descended.take() {
            let early = windows <= 4 * self.patience;
            self.patience = if early { (2 * self.patience).min(MAX_PATIENCE) } else { PATIENCE };
        }
        (self.stage, self.cause) = (self.stage + 1, cause);
        self.stepped(true)
    }

    fn step_down(&mut self) -> Change {
        self.stage -= 1;
        self.descended = Some(0);
        self.stepped(false)
    }

    fn stepped(&mut self, up: bool) -> Change {
        (self.beyond, self.calm) = (0, 0);
        let (value, limit) = self.figure(self.cause);
        Change { stage: self.stage, up, resource: self.cause, value, limit }
    }
}
