//! CPU and memory where there is no /proc, through sysinfo: the fallback on other systems than Linux.
//!
//! It has no modes and no counters, so it fills a subset of the fields of `cpu` and `memory`. Always compiled, so that
//! it is checked and tested where we develop.

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, System};

use super::{Collector, Context, Points};
use crate::record::{ErrorKind, RunError};

fn unsupported(error: &sysinfo::Error) -> RunError {
    RunError::new(ErrorKind::Unsupported, format!("this system does not tell its CPU and memory use: {error:?}"))
}

/// `system.cpu` with `utilization` and `logical_count`.
#[derive(Default)]
pub struct Cpu {
    system: Option<System>,
}

impl Collector for Cpu {
    fn collect(&mut self, _: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        let first = self.system.is_none();
        let system = match &mut self.system {
            Some(system) => system,
            none => none.insert(System::new().map_err(|e| unsupported(&e))?),
        };
        system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
        let draft = out.add("system.cpu").uint("logical_count", system.cpus().len() as u64);
        if !first {
            draft.ratio("utilization", f64::from(system.global_cpu_usage()), 100.0);
        }
        Ok(())
    }
}

/// `system.memory` and `system.paging`, without buffers and cached.
#[derive(Default)]
pub struct Memory;

impl Collector for Memory {
    fn collect(&mut self, _: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        let mut system = System::new().map_err(|e| unsupported(&e))?;
        system.refresh_memory_specifics(MemoryRefreshKind::everything());
        let (total, available) = (system.total_memory(), system.available_memory());
        let usage = total.saturating_sub(available);
        let draft = out.add("system.memory").uint("limit", total).uint("usage", usage).uint("available", available);
        draft.uint("free", system.free_memory()).ratio("utilization", usage as f64, total as f64);
        let (limit, usage) = (system.total_swap(), system.used_swap());
        let draft = out.add("system.paging").uint("limit", limit).uint("usage", usage);
        draft.ratio("utilization", usage as f64, limit as f64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AgentFigures, HostRoot, Params, find, run};
    use super::*;
    use crate::clock;
    use crate::record::Value;

    #[test]
    fn it_agrees_with_proc_where_both_work() {
        let (host, now) = (HostRoot::default(), clock::now());
        let ctx = Context { host: &host, now: &now, agent: &AgentFigures::default() };
        for (name, other, same) in [
            ("memory", &mut Memory as &mut dyn Collector, &["limit"][..]),
            ("cpu", &mut Cpu::default(), &["logical_count"]),
        ] {
            let spec = find(name).unwrap();
            let theirs = run(spec, other, &ctx);
            let ours = run(spec, (spec.build)(&Params::new()).unwrap().as_mut(), &ctx);
            for field in same {
                assert_eq!(theirs[0].fields[*field], ours[0].fields[*field], "{name}.{field}");
            }
            for point in theirs.iter().chain(&run(spec, other, &ctx)) {
                let row = |field: &str| spec.metrics.iter().any(|m| m.name == point.name && m.field == field);
                assert!(point.fields.keys().all(|field| row(field)), "{point:?}");
                assert!(
                    point.fields.values().all(|v| !matches!(v, Value::Float(x) if !(0.0..=1.0).contains(x))),
                    "{point:?}"
                );
            }
        }
    }
}
