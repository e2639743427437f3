//! `holdover check-config`

use std::io::Write;

use serde_json::json;

use super::args::CheckConfigArgs;
use super::exit::{Exit, Failure};
use super::{load, once, output};
use crate::agent;
use crate::clock;
use crate::config::{self, Checked, FromLine, NextRuns, Origin, Volume};

/// Runs shown for each collector.
const RUNS: usize = 5;

pub fn run(args: &CheckConfigArgs) -> Result<Exit, Failure> {
    let mut out = output::stdout();
    if args.reference {
        write!(out, "{}", config::reference())?;
        out.flush()?;
        return Ok(Exit::Ok);
    }
    let checked = load::guarded(&args.config)?;
    let mut warnings: Vec<String> = checked.warnings.iter().map(ToString::to_string).collect();
    warnings.extend(load::check_certificates(&checked)?);
    let identity = agent::identify(&checked.config, &load::root(&checked.config));
    warnings.extend(identity.host.note.clone());
    let now = clock::now();
    warnings.extend(checked.advice(now).iter().map(ToString::to_string));
    let runs = checked.config.next_runs(&identity.host.id, now, RUNS);
    let sizes = once::measure(&checked.config, &identity)?;
    let volume = checked.config.volume(now, &|collector| sizes.get(&collector.name).copied().unwrap_or(0.0));
    let host = (identity.host.id.as_str(), identity.host.source.to_string());
    if args.json {
        print_json(&mut out, &checked, &warnings, (&runs, &volume), host)?;
    } else {
        print_text(&mut out, &checked, (&runs, &volume), host)?;
        for warning in warnings {
            output::complain(&warning);
        }
    }
    out.flush()?;
    Ok(if checked.left_out().count() > 0 { Exit::Failed } else { Exit::Ok })
}

fn print_text(
    out: &mut impl Write,
    checked: &Checked,
    (runs, volume): (&[NextRuns], &Volume),
    (host, source): (&str, String),
) -> Result<(), Failure> {
    writeln!(out, "# host id {host} ({source})")?;
    write!(out, "{}", checked.effective())?;
    print_lines(out, checked)?;
    writeln!(out, "\n# next runs")?;
    let rows: Vec<Vec<String>> =
        runs.iter().map(|r| vec![r.collector.to_string(), r.schedule.clone(), r.at.join("  ")]).collect();
    output::table(out, &["collector", "schedule", "next"], &rows)?;
    writeln!(out, "\n# volume, from a run of every built-in collector; scripts are taken to print 200 bytes")?;
    writeln!(
        out,
        "{:.0} runs a day, about {} a day in the outbox",
        volume.runs_per_day,
        output::bytes(volume.bytes_per_day as u64)
    )?;
    let held = volume.held().unwrap_or_else(|| "any outage: nothing is collected".into());
    writeln!(out, "{} hold an outage of {held}", output::bytes(checked.config.outbox.max_bytes))?;
    match checked.left_out().count() {
        0 => writeln!(out, "\nthe configuration is good")?,
        1 => writeln!(out, "\nthe configuration is good but for one entry, which is left out")?,
        n => writeln!(out, "\nthe configuration is good but for {n} entries, which are left out")?,
    }
    Ok(())
}

/// The collectors that lines ask for, and what the operator's side has put in place of the vendor's.
fn print_lines(out: &mut impl Write, checked: &Checked) -> Result<(), Failure> {
    if checked.from_lines.is_empty() {
        return Ok(());
    }
    let row = |from: &FromLine| {
        let instead = from.instead_of.clone().unwrap_or_default();
        vec![from.collector.to_string(), place(&from.origin), from.script.clone(), instead]
    };
    let rows: Vec<Vec<String>> = checked.from_lines.iter().map(row).collect();
    writeln!(out, "\n# collectors from lines")?;
    output::table(out, &["collector", "line", "script", "instead of"], &rows)?;
    Ok(())
}

/// A line needs no column.
fn place(origin: &Origin) -> String {
    match origin {
        Origin::File { file, line, .. } => format!("{file}:{line}"),
        other => other.to_string(),
    }
}

fn print_json(
    out: &mut impl Write,
    checked: &Checked,
    warnings: &[String],
    (runs, volume): (&[NextRuns], &Volume),
    (host, source): (&str, String),
) -> Result<(), Failure> {
    let runs: Vec<_> =
        runs.iter().map(|r| json!({"collector": &*r.collector, "schedule": r.schedule, "next_ms": r.at_ms})).collect();
    let document = json!({
        "host": host,
        "host_source": source,
        "settings": checked.effective_json(),
        "from_lines": checked.from_lines.iter().map(line_json).collect::<Vec<_>>(),
        "left_out": checked.left_out().count(),
        "next_runs": runs,
        "runs_per_day": volume.runs_per_day,
        "bytes_per_day": volume.bytes_per_day,
        "days_held": volume.days_held,
        "warnings": warnings,
    });
    writeln!(out, "{document}")?;
    Ok(())
}

fn line_json(from: &FromLine) -> serde_json::Value {
    let line = place(&from.origin);
    json!({"collector": &*from.collector, "line": line, "script": from.script, "instead_of": from.instead_of})
}
