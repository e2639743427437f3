//! `holdover test-collector NAME`: one run, in the sandbox that the agent uses, and a judgement of it for a person.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::args::TestCollectorArgs;
use super::exit::{Exit, Failure};
use super::{load, once, output};
use crate::agent::{self, Source};
use crate::collect::exec;
use crate::config::{Checked, Collector, Exec, What};
use crate::record::{Fields, Point};

/// What one run was, beside its records.
struct Outcome {
    points: Vec<Point>,
    /// What a script's run used, as far as it could be measured.
    used: Fields,
    took: Duration,
    /// Of the records, encoded.
    bytes: usize,
}

pub fn run(args: &TestCollectorArgs) -> Result<Exit, Failure> {
    let checked = load::guarded(&args.config)?;
    let collector = find(&checked, &args.collector)?;
    let root = load::root(&checked.config);
    let identity = agent::identify(&checked.config, &root);
    let mut source = agent::source(collector, agent::script_groups(&checked.config).as_deref())
        .map_err(|error| Failure::config(error.to_string()))?;
    if let Source::Script(script) = &mut source {
        Arc::make_mut(script).usage = true;
    }
    let (mut points, took) = once::one(source, &identity.host.id, &collector.name, &root)?;
    let used = used(&mut points, collector);
    let bytes = once::encoded(&points);
    let outcome = Outcome { points, used, took, bytes };
    let failed = outcome.points.iter().any(|point| point.error.is_some());
    let mut out = output::stdout();
    if args.json {
        writeln!(out, "{}", document(collector, &outcome))?;
    } else {
        print(&mut out, &checked, collector, &outcome)?;
    }
    out.flush()?;
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

/// Takes the account of a script's run from its records, where it is not one that is wanted at every run.
fn used(points: &mut Vec<Point>, collector: &Collector) -> Fields {
    let wanted = matches!(&collector.what, What::Exec(exec) if exec.usage);
    match points.last() {
        Some(last) if last.name == exec::RUN => {
            let fields = last.fields.clone();
            points.truncate(points.len() - usize::from(!wanted));
            fields
        }
        _ => Fields::default(),
    }
}

fn find<'c>(checked: &'c Checked, name: &str) -> Result<&'c Collector, Failure> {
    checked.config.collectors.iter().find(|collector| &*collector.name == name).ok_or_else(|| {
        let known: Vec<&str> = checked.config.collectors.iter().map(|collector| &*collector.name).collect();
        let off = checked.config.disabled.iter().any(|off| &**off == name);
        let why = if off { "is switched off" } else { "is not configured" };
        Failure::new(Exit::Usage, format!("collector {name} {why}; those that run are {}", known.join(", ")))
    })
}

fn print(out: &mut impl Write, checked: &Checked, collector: &Collector, outcome: &Outcome) -> Result<(), Failure> {
    let line = |out: &mut dyn Write, name: &str, value: String| writeln!(out, "{name:<10}{value}");
    line(out, "collector", collector.name.to_string())?;
    let (what, key) = match &collector.what {
        What::Builtin { spec, .. } => (format!("built-in {}", spec.name), "use"),
        What::Exec(exec) => (exec.argv.join(" "), "exec"),
    };
    let origin = checked.origin_of(&format!("collector.{}.{key}", collector.name));
    line(out, "runs", format!("{what}  # {origin}"))?;
    line(out, "schedule", collector.schedule.to_string())?;
    for point in &outcome.points {
        writeln!(out, "{}", once::line(point.clone(), &collector.name))?;
    }
    let errors = outcome.points.iter().filter(|point| point.error.is_some()).count();
    line(
        out,
        "records",
        format!("{}, {errors} of them err; {} encoded", outcome.points.len(), output::bytes(outcome.bytes as u64)),
    )?;
    line(out, "time", format!("{:.3} s of {:.3} s", outcome.took.as_secs_f64(), collector.timeout.as_secs_f64()))?;
    if let What::Exec(exec) = &collector.what {
        budgets(out, exec, &outcome.used)?;
    }
    for error in outcome.points.iter().filter_map(|point| point.error.as_ref()) {
        let kind = serde_json::to_value(error.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
        line(out, "error", format!("{}: {}", kind.unwrap_or_default(), error.message))?;
    }
    if outcome.points.is_empty() {
        line(out, "note", "it ended well and printed nothing: nothing is recorded".to_owned())?;
    }
    Ok(())
}

/// What was used of each budget, a line each.
fn budgets(out: &mut dyn Write, exec: &Exec, used: &Fields) -> Result<(), Failure> {
    let no_limit = || "no limit".to_owned();
    let of = |key: &str, shown: &dyn Fn(&Json) -> String| {
        used.get(key).map_or_else(|| "not measured".to_owned(), |value| shown(&json!(value)))
    };
    let seconds = |value: &Json| format!("{:.3} s", value.as_f64().unwrap_or_default());
    let bytes = |value: &Json| output::bytes(value.as_u64().unwrap_or_default());
    let limits = &exec.limits;
    let cpu = limits.cpu.map_or_else(no_limit, |cpu| format!("{:.3} s", cpu.as_secs_f64()));
    let memory = limits.memory.map_or_else(no_limit, output::bytes);
    let processes = limits.processes.map_or_else(no_limit, |most| most.to_string());
    writeln!(out, "{:<10}{} of {cpu}", "cpu", of("run_cpu_time", &seconds))?;
    writeln!(out, "{:<10}{} of {memory}", "memory", of("run_memory_peak", &bytes))?;
    writeln!(out, "{:<10}{} of {processes}", "processes", of("run_processes_peak", &Json::to_string))?;
    writeln!(out, "{:<10}{} of {}", "output", of("run_output", &bytes), output::bytes(exec.max_output))?;
    Ok(())
}

fn document(collector: &Collector, outcome: &Outcome) -> Json {
    let records: Vec<Json> = outcome.points.iter().map(|point| once::line(point.clone(), &collector.name)).collect();
    json!({
        "collector": &*collector.name,
        "schedule": collector.schedule.to_string(),
        "records": records,
        "failed": outcome.points.iter().filter(|point| point.error.is_some()).count(),
        "bytes": outcome.bytes,
        "used": outcome.used,
        "took_ms": outcome.took.as_millis() as u64,
        "timeout_ms": collector.timeout.as_millis() as u64,
    })
}
