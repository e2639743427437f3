//! `holdover collectors`: what the built-in collectors are, from the table that `meta` is made of.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use serde_json::{Value, json};

use super::args::CollectorsArgs;
use super::exit::{Exit, Failure};
use super::output;
use crate::collect::{self, COLLECTORS, CollectorSpec, METRICS_VERSION, MetricSpec};

pub fn run(args: &CollectorsArgs) -> Result<Exit, Failure> {
    let chosen = match &args.name {
        Some(name) => vec![find(name)?],
        None => COLLECTORS.iter().collect(),
    };
    let mut out = output::stdout();
    if args.markdown {
        write!(out, "{}", page())?;
    } else if args.json {
        let collectors: Vec<_> = chosen.into_iter().map(document).collect();
        writeln!(out, "{}", json!({"metrics_version": METRICS_VERSION, "collectors": collectors}))?;
    } else {
        match (&args.name, chosen.as_slice()) {
            (Some(_), [spec]) => one(&mut out, spec)?,
            _ => all(&mut out)?,
        }
    }
    out.flush()?;
    Ok(Exit::Ok)
}

fn find(name: &str) -> Result<&'static CollectorSpec, Failure> {
    collect::find(name).ok_or_else(|| {
        let known: Vec<&str> = COLLECTORS.iter().map(|spec| spec.name).collect();
        Failure::new(Exit::Usage, format!("no built-in collector {name}; there are {}", known.join(", ")))
    })
}

fn schedule(spec: &CollectorSpec) -> String {
    format!("{}{}", spec.default_schedule, if spec.default_on { "" } else { ", off" })
}

fn all(out: &mut impl Write) -> io::Result<()> {
    let row = |spec: &CollectorSpec| {
        vec![spec.name.into(), schedule(spec), spec.metrics.len().to_string(), spec.about.into()]
    };
    let rows: Vec<Vec<String>> = COLLECTORS.iter().map(row).collect();
    output::table(out, &["collector", "every", "metrics", "what"], &rows)?;
    if io::stdout().is_terminal() {
        writeln!(out, "\n'holdover collectors NAME' lists the metrics and parameters of one.")?;
    }
    Ok(())
}

fn one(out: &mut impl Write, spec: &CollectorSpec) -> io::Result<()> {
    writeln!(out, "{}: {}", spec.name, spec.about)?;
    let on = if spec.default_on { "on by default" } else { "off unless configured" };
    writeln!(out, "every {}, {on}\n", spec.default_schedule)?;
    if !spec.params.is_empty() {
        let row =
            |p: &collect::ParamSpec| vec![p.name.into(), p.kind.as_str().into(), p.default.into(), p.about.into()];
        let rows: Vec<Vec<String>> = spec.params.iter().map(row).collect();
        output::table(out, &["parameter", "is", "default", "what"], &rows)?;
        writeln!(out)?;
    }
    let row = |m: &MetricSpec| {
        vec![m.name.into(), m.field.into(), m.unit.into(), m.kind.as_str().into(), m.about.into(), m.otel.into()]
    };
    let rows: Vec<Vec<String>> = spec.metrics.iter().map(row).collect();
    output::table(out, &["record", "field", "unit", "type", "what", "OpenTelemetry"], &rows)
}

fn document(spec: &CollectorSpec) -> Value {
    let param = |p: &collect::ParamSpec| json!({"name": p.name, "type": p.kind.as_str(), "default": p.default, "about": p.about});
    json!({
        "name": spec.name,
        "about": spec.about,
        "every": spec.default_schedule,
        "default_on": spec.default_on,
        "params": spec.params.iter().map(param).collect::<Vec<_>>(),
        "metrics": spec.metrics.iter().map(crate::wire::MetaMetric::from).collect::<Vec<_>>(),
    })
}

const HEAD: &str = "\
# Built-in collectors

<!-- Made by `holdover collectors --markdown`; a test compares. Change the tables in src/collect/ instead. -->

One row of the tables below is one field of a record; the same table is published in `meta` and printed by
`holdover collectors`. Units are UCUM. A counter only grows until the host (or, for `agent`, the agent) restarts.
The last column is OpenTelemetry's metric where it defines one, in the same unit and type (semantic conventions 1.44, of
which none is stable yet); where it is empty the metric is Holdover's own.

What a host does not have is left out. A collector whose whole source is missing (no pressure files in an old kernel, no
sensors in a virtual machine) says so in one record with `error.kind` `unsupported`, and is silent until that changes.
";

/// `docs/collectors.md`.
fn page() -> String {
    let mut page =
        format!("{HEAD}\nVersion of the table: {METRICS_VERSION}.\n\n| collector | every | what |\n|---|---|---|\n");
    for spec in COLLECTORS {
        line(&mut page, &[&format!("[{0}](#{0})", spec.name), &schedule(spec), spec.about]);
    }
    for spec in COLLECTORS {
        page.push_str(&format!("\n## {}\n\n", spec.name));
        for p in spec.params {
            page.push_str(&format!("- `{}`: {}, default `{}`: {}\n", p.name, p.kind.as_str(), p.default, p.about));
        }
        let gap = if spec.params.is_empty() { "" } else { "\n" };
        page.push_str(&format!(
            "{gap}| record | field | unit | type | what | OpenTelemetry |\n|---|---|---|---|---|---|\n"
        ));
        for m in spec.metrics {
            let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
            line(&mut page, &[&code(m.name), &code(m.field), &code(m.unit), m.kind.as_str(), m.about, &code(m.otel)]);
        }
    }
    page
}

fn line(page: &mut String, cells: &[&str]) {
    // Writing into a String cannot fail.
    writeln!(page, "| {} |", cells.join(" | ")).unwrap_or(());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/collectors.md");
        let stored = std::fs::read_to_string(path).unwrap();
        assert!(
            stored == page(),
            "docs/collectors.md is not what the code says: run `cargo run -- collectors --markdown > docs/collectors.md`"
        );
    }

    #[test]
    fn one_collector_is_shown_with_its_parameters_and_metrics() {
        let mut out = Vec::new();
        one(&mut out, find("cpu").map_err(|e| e.message).unwrap()).unwrap();
        let text = String::from_utf8(out).unwrap();
        for word in ["every 10s, on by default", "per_core", "utilization_iowait", "system.cpu.time{cpu.mode=idle}"] {
            assert!(text.contains(word), "{word} in {text}");
        }
        let json = document(find("disks").map_err(|e| e.message).unwrap());
        assert_eq!(
            (&json["params"][0]["name"], &json["metrics"][0]["otel"]),
            (&json!("devices"), &json!("system.disk.io{disk.io.direction=read}"))
        );
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_that_exist() {
        let error = find("cpus").map(|spec| spec.name).map_err(|e| e.message).unwrap_err();
        assert!(error.contains("cpus") && error.contains("cpu, memory"), "{error}");
    }
}
