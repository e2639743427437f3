//! `holdover status`: asks the running agent over its local socket; without one, tells what the outbox holds.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::args::StatusArgs;
use super::exit::{Exit, Failure};
use super::{load, output};
use crate::agent;
use crate::clock;

pub fn run(args: &StatusArgs) -> Result<Exit, Failure> {
    let (dir, spoilt) = load::outbox_dir(&args.config)?;
    let dir = &dir;
    let mut out = output::stdout();
    let exit = match (agent::ask(dir), spoilt) {
        (Ok(answer), spoilt) => {
            if let Some(failure) = spoilt {
                output::complain(&failure.message);
            }
            let document: Value = serde_json::from_slice(answer.as_bytes())
                .map_err(|error| Failure::failed(format!("the agent's answer is not JSON: {error}")))?;
            if args.json {
                writeln!(out, "{document}")?
            } else {
                print(&mut out, &document)?
            }
            Exit::Ok
        }
        (Err(_), Some(failure)) => return Err(failure),
        (Err(error), None) if is_absent(&error) => {
            let hint = "start it with 'holdover run', or see 'holdover outbox stats' for what it has stored";
            if args.json {
                writeln!(out, "{}", json!({"running": false, "outbox": dir}))?;
            } else {
                writeln!(out, "no agent runs on {}; {hint}", dir.display())?;
            }
            Exit::Failed
        }
        (Err(error), None) => {
            let path = dir.join("agent.sock");
            let (exit, hint) = match error.kind() {
                io::ErrorKind::TimedOut => (Exit::Temporary, "; it is stopped or overloaded"),
                io::ErrorKind::PermissionDenied => {
                    (Exit::Failed, "; ask as the user that the agent runs as, or as root")
                }
                io::ErrorKind::InvalidInput => {
                    (Exit::Failed, "; a socket's path has a limit: use a shorter outbox.dir")
                }
                _ => (Exit::Failed, ""),
            };
            return Err(Failure::new(exit, format!("cannot ask the agent at {}: {error}{hint}", path.display())));
        }
    };
    out.flush()?;
    Ok(exit)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn print(out: &mut impl Write, document: &Value) -> io::Result<()> {
    let (status, connection, outbox) = (&document["status"], &document["connection"], &document["outbox"]);
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let line = |out: &mut dyn Write, name: &str, value: String| writeln!(out, "{name:<12}{}", output::harmless(&value));
    line(out, "host", format!("{} (site {})", text(&status["host"]), text(&status["site"])))?;
    line(
        out,
        "agent",
        format!(
            "{}, pid {}, up {}",
            text(&status["version"]),
            number(&document["pid"]),
            output::duration(number(&document["up_s"]))
        ),
    )?;
    let connected = if connection["connected"] == true {
        format!("connected to {}", text(&connection["address"]))
    } else {
        format!("not connected; {}", text(&connection["last_close"]))
    };
    line(out, "broker", connected)?;
    line(
        out,
        "level",
        match text(&status["level"]).as_str() {
            "broker" => "broker: delivered as far as the broker, unproven past it".into(),
            other => other.to_owned(),
        },
    )?;
    line(out, "backlog", backlog(status))?;
    line(
        out,
        "outbox",
        format!(
            "{} of {}, epoch {}, next seq {}",
            output::bytes(number(&outbox["disk_bytes"])),
            output::bytes(number(&outbox["max_bytes"])),
            number(&status["epoch"]),
            number(&status["next_seq"])
        ),
    )?;
    line(out, "losses", losses(status, outbox))?;
    line(out, "limits", limits(&document["limits"]))?;
    if document["put"].is_object() {
        line(out, "put", applications(&document["put"]))?;
    }
    for problem in status["problems"].as_array().into_iter().flatten() {
        line(out, "problem", text(problem))?;
    }
    writeln!(out)?;
    let rows: Vec<Vec<String>> = document["collectors"].as_array().into_iter().flatten().map(collector).collect();
    output::table(out, &["collector", "runs", "failed", "missed", "last run", "last error"], &rows)
}

fn backlog(status: &Value) -> String {
    let records = status["backlog"].as_u64().unwrap_or(0);
    let mut text = format!("{records} records");
    if let Some(oldest) = status["oldest"].as_i64() {
        let age = clock::now().wall_ms.saturating_sub(oldest).max(0) / 1000;
        text.push_str(&format!(", the oldest {} old", output::duration(age as u64)));
    }
    match status["eta_s"].as_u64() {
        Some(0) | None => {}
        Some(eta) => text.push_str(&format!(", drained in {}", output::duration(eta))),
    }
    text
}

/// What the agent itself uses, of what it may.
fn limits(limits: &Value) -> String {
    let of = |value: Option<String>, limit: Option<String>| match (value, limit) {
        (None, _) => "unknown".to_owned(),
        (Some(value), None) => format!("{value}, no limit"),
        (Some(value), Some(limit)) => format!("{value} of {limit}"),
    };
    let limit = |key: &str| limits[key].as_u64().filter(|&limit| limit > 0);
    let memory = of(limits["memory"].as_u64().map(output::bytes), limit("max_memory").map(output::bytes));
    let cpu = of(limits["cpu"].as_f64().map(|p| format!("{p} %")), limit("max_cpu").map(|p| format!("{p} %")));
    match limits["stage"].as_u64() {
        Some(0) | None => format!("memory {memory}, cpu {cpu}"),
        Some(stage) => format!("memory {memory}, cpu {cpu}; stage {stage}: less is collected"),
    }
}

fn losses(status: &Value, outbox: &Value) -> String {
    let lost = outbox["lost"].as_u64().unwrap_or(0);
    let unsettled = status["losses"].as_array().map_or(0, Vec::len);
    match (lost, unsettled) {
        (0, _) => "none".into(),
        (lost, 0) => format!("{lost} records, all declared and delivered"),
        (lost, n) => format!("{lost} records; {n} declarations wait for delivery"),
    }
}

/// What applications handed over.
fn applications(put: &Value) -> String {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let mut text = format!("{} records stored, in {} batches", number(&put["stored"]), number(&put["batches"]));
    match number(&put["refused"]) {
        0 => {}
        refused => text.push_str(&format!(", {refused} lines refused")),
    }
    for (kind, count) in put["failed"].as_object().into_iter().flatten().filter(|(_, count)| number(count) > 0) {
        text.push_str(&format!(", {count} batches {kind}"));
    }
    if let Some(error) = put["last_error"].as_str() {
        text.push_str(&format!("; last: {error}"));
    }
    text
}

fn collector(entry: &Value) -> Vec<String> {
    let number = |key: &str| entry[key].as_u64().unwrap_or(0).to_string();
    let last = entry["last_ms"].as_i64().map_or("-".to_owned(), |ms| {
        let age = clock::now().wall_ms.saturating_sub(ms).max(0) / 1000;
        format!("{} ago", output::duration(age as u64))
    });
    vec![
        entry["name"].as_str().unwrap_or("-").to_owned(),
        number("runs"),
        number("failed"),
        number("missed"),
        last,
        entry["last_error"].as_str().unwrap_or("").to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_applications_put_is_told_as_far_as_there_is_something() {
        let failed = json!({"invalid": 0, "oversize": 0, "busy": 0, "unwritable": 0, "unknown": 0});
        let mut put = json!({"batches": 2, "stored": 300, "refused": 0, "failed": failed, "last_error": null});
        assert_eq!(applications(&put), "300 records stored, in 2 batches");
        put["refused"] = 3.into();
        put["failed"]["busy"] = 4.into();
        put["last_error"] = "no field".into();
        assert_eq!(
            applications(&put),
            "300 records stored, in 2 batches, 3 lines refused, 4 batches busy; last: no field"
        );
    }
}
