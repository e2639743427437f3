//! `holdover next`: the runs of the coming hour, as the agent would make them on this host.

use std::io::{self, IsTerminal, Write};

use serde_json::json;

use super::args::NextArgs;
use super::exit::{Exit, Failure};
use super::{load, output};
use crate::agent;
use crate::clock::{self, Now};
use crate::config::{Collector, Config};
use crate::schedule;

/// Of one collector; a second's interval over a week is more.
const MAX_RUNS: usize = 100_000;
/// A collector with more in the table has one row.
const ROWS: usize = 12;
/// Times listed in JSON; the count is of all.
const LISTED: usize = 1_000;

/// The runs of one collector within the span.
struct Coming<'c> {
    collector: &'c Collector,
    /// Wall-clock milliseconds, ascending.
    at: Vec<i64>,
    /// Times that a blackout takes.
    dark: usize,
}

pub fn run(args: &NextArgs) -> Result<Exit, Failure> {
    let checked = load::config(&args.config)?;
    let config = &checked.config;
    let wanted =
        |collector: &&Collector| args.collectors.is_empty() || args.collectors.iter().any(|n| **n == *collector.name);
    for name in &args.collectors {
        known(config, name)?;
    }
    let host = agent::identify(config, &load::root(config)).host.id;
    let now = clock::now();
    let end = now.wall_ms + args.span.as_millis() as i64;
    let coming: Vec<Coming<'_>> =
        config.collectors.iter().filter(wanted).map(|c| coming(config, c, &host, now, end)).collect();
    let mut out = output::stdout();
    if args.json {
        writeln!(out, "{}", document(&coming, now, end))?;
    } else if io::stdout().is_terminal() {
        table(&mut out, &coming, now)?;
    } else {
        plain(&mut out, &coming)?;
    }
    out.flush()?;
    Ok(Exit::Ok)
}

fn known(config: &Config, name: &str) -> Result<(), Failure> {
    if config.collectors.iter().any(|collector| &*collector.name == name) {
        return Ok(());
    }
    let off = config.disabled.iter().any(|disabled| &**disabled == name);
    let known: Vec<&str> = config.collectors.iter().map(|collector| &*collector.name).collect();
    let why = if off { format!("collector {name} is switched off") } else { format!("no collector {name}") };
    Err(Failure::new(Exit::Usage, format!("{why}; those that run are {}", known.join(", "))))
}

fn coming<'c>(config: &Config, collector: &'c Collector, host: &str, now: Now, end: i64) -> Coming<'c> {
    let jitter = schedule::jitter(host, &collector.name, collector.jitter);
    let mut at = collector.schedule.next_runs(now, jitter, LISTED.min(ROWS + 1));
    if at.last().is_some_and(|&last| last <= end) {
        at = collector.schedule.next_runs(now, jitter, MAX_RUNS);
    }
    at.retain(|&at| at <= end);
    let (windows, all) = (config.windows(&collector.name), at.len());
    at.retain(|&at| !windows.iter().any(|window| window.covers(at)));
    let dark = all - at.len();
    Coming { collector, at, dark }
}

/// In the order of time; a collector with many runs has one row, at its first.
fn table(out: &mut impl Write, coming: &[Coming<'_>], now: Now) -> io::Result<()> {
    let mut rows: Vec<(i64, Vec<String>)> = Vec::new();
    for Coming { collector, at, .. } in coming {
        let row = |at: i64, more: String| {
            let wait = output::duration((at - now.wall_ms).max(0) as u64 / 1000);
            let time = collector.schedule.display_time(at);
            (at, vec![time, wait, collector.name.to_string(), collector.schedule.to_string(), more])
        };
        match at.as_slice() {
            [] => {}
            [first, ..] if at.len() > ROWS => rows.push(row(*first, format!("{} runs", at.len()))),
            few => rows.extend(few.iter().map(|&at| row(at, String::new()))),
        }
    }
    rows.sort_by_key(|(at, _)| *at);
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, row)| row).collect();
    output::table(out, &["time", "in", "collector", "schedule", "of many, the first"], &rows)?;
    let idle: Vec<&str> = coming.iter().filter(|c| c.at.is_empty()).map(|c| &*c.collector.name).collect();
    if !idle.is_empty() {
        writeln!(out, "\nno run of {}", idle.join(", "))?;
    }
    for Coming { collector, dark, .. } in coming.iter().filter(|c| c.dark > 0) {
        writeln!(out, "a blackout takes {dark} runs of {}", collector.name)?;
    }
    Ok(())
}

/// A line for each run.
fn plain(out: &mut impl Write, coming: &[Coming<'_>]) -> io::Result<()> {
    let each = |c: &Coming<'_>| c.at.iter().map(|&at| (at, c.collector.name.clone())).collect::<Vec<_>>();
    let mut runs: Vec<_> = coming.iter().flat_map(each).collect();
    runs.sort();
    for (at, name) in runs {
        let collector = coming.iter().find(|c| c.collector.name == name).map(|c| c.collector);
        let time = collector.map(|c| c.schedule.display_time(at)).unwrap_or_default();
        writeln!(out, "{time} {name}")?;
    }
    Ok(())
}

fn document(coming: &[Coming<'_>], now: Now, end: i64) -> serde_json::Value {
    let entry = |c: &Coming<'_>| {
        let listed: Vec<i64> = c.at.iter().copied().take(LISTED).collect();
        json!({
            "collector": &*c.collector.name,
            "schedule": c.collector.schedule.to_string(),
            "runs": c.at.len(),
            "blackout": c.dark,
            "next_ms": listed,
        })
    };
    json!({"from_ms": now.wall_ms, "to_ms": end, "collectors": coming.iter().map(entry).collect::<Vec<_>>()})
}
