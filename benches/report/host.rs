//! This host as the agent's own collectors see it, pass by pass.

use std::error::Error;
use std::sync::Arc;

use holdover::agent::run_builtin;
use holdover::clock::{self, Now};
use holdover::collect::{self, AgentFigures, COLLECTORS, Collector, CollectorSpec, Context, HostRoot};
use holdover::collect::{ParamValue, Params};
use holdover::record::{ClockContext, Run};

/// What the budgets call the host set.
pub const SET: [&str; 6] = ["cpu", "memory", "load", "disks", "network", "filesystems"];

/// Collectors that are run again and again, as the agent's loop does.
pub struct Host {
    root: HostRoot,
    figures: AgentFigures,
    context: ClockContext,
    sources: Vec<(&'static CollectorSpec, Box<dyn Collector>)>,
}

impl Host {
    /// Those of these names.
    pub fn of(names: &[&str]) -> Result<Self, Box<dyn Error>> {
        let root = HostRoot::default();
        let context = ClockContext { boot: holdover::host::boot_id(&root).into(), synced: true };
        let mut sources = Vec::new();
        for name in names {
            let spec = collect::find(name).ok_or_else(|| format!("there is no collector {name:?}"))?;
            sources.push((spec, (spec.build)(&params(spec)?)?));
        }
        Ok(Self { root, figures: AgentFigures::default(), context, sources })
    }

    /// All that there are.
    pub fn all() -> Result<Self, Box<dyn Error>> {
        Self::of(&COLLECTORS.iter().map(|spec| spec.name).collect::<Vec<_>>())
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.sources.iter().map(|(spec, _)| spec.name).collect()
    }

    /// One pass of the collector at `index` in [`Host::names`].
    pub fn run(&mut self, index: usize, now: &Now) -> Run {
        let context = Context { host: &self.root, now, agent: &self.figures };
        let (spec, collector) = &mut self.sources[index];
        let points = run_builtin(spec, collector.as_mut(), &context);
        Run { collector: Arc::from(spec.name), context: self.context.clone(), points }
    }

    /// One pass of all.
    pub fn pass(&mut self) -> Vec<Run> {
        let now = clock::now();
        (0..self.sources.len()).map(|index| self.run(index, &now)).filter(|run| !run.points.is_empty()).collect()
    }
}

/// The defaults, and for what has none a process that exists on every host.
fn params(spec: &CollectorSpec) -> Result<Params, Box<dyn Error>> {
    let mut params = Params::new();
    if spec.name == "processes" {
        let own = std::fs::read_to_string("/proc/self/comm")?;
        params.set(spec.params, "names", ParamValue::List(vec![own.trim().to_owned()]))?;
    }
    Ok(params)
}

/// How many values are in these.
pub fn values(runs: &[Run]) -> usize {
    runs.iter().flat_map(|run| &run.points).map(|point| point.fields.len()).sum()
}
