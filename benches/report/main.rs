//! One report of what Holdover costs, taken in one run: `cargo bench`.
//!
//! Figures that matter are ratios of two things measured side by side in this run, as medians; absolute times are
//! printed for orientation and mean little on another machine. Nothing here passes or fails on a time.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the report is the output")]
#![expect(clippy::disallowed_methods, reason = "measures real time")]

mod agent;
mod append;
mod broker;
mod drain;
mod edge;
mod figure;
mod fill;
mod host;
mod median;
mod packets;
mod passes;
mod raw;
mod relay;
mod rtt;
mod scratch;
mod start;
#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "made for the tests, which need more of it")]
mod support;
mod wire;

use std::process::ExitCode;

use figure::{Outcome, Report, Section};

/// In the order of the report.
#[rustfmt::skip]
const SECTIONS: &[Section] = &[
    append::SECTION,
    start::SECTION,
    drain::SECTION,
    rtt::SECTION,
    passes::SECTION,
    wire::SECTION,
    agent::SECTION,
    edge::SECTION,
];

const USAGE: &str = "usage: cargo bench [-- [--only SECTION[,SECTION]] [--short] [--json FILE] [--list]]

  --only     only these sections
  --short    small amounts: shows that every part works; the figures are rough
  --json     also write the report as JSON into FILE (- for standard output instead of the text)
  --list     the sections, and what each measures";

fn main() -> ExitCode {
    if let Some(code) = start::child() {
        return code;
    }
    let options = match figure::Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if options.list {
        for section in SECTIONS {
            println!("{:<12} {}", section.name, section.about);
        }
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = options.only.iter().find(|name| SECTIONS.iter().all(|s| s.name != name.as_str())) {
        eprintln!("there is no section {unknown:?}\n{USAGE}");
        return ExitCode::from(2);
    }
    scratch::clear();
    let mut report = Report::new(options.short);
    let mut code = ExitCode::SUCCESS;
    for section in SECTIONS {
        if !options.only.is_empty() && !options.only.iter().any(|name| name == section.name) {
            continue;
        }
        eprintln!("{}: {}", section.name, section.about);
        match run(section, options.short) {
            Ok(figures) => report.add(section, figures),
            Err(why) => {
                eprintln!("{}: FAILED: {why}", section.name);
                code = ExitCode::FAILURE;
            }
        }
    }
    scratch::clear();
    if let Err(why) = report.write(options.json.as_deref()) {
        eprintln!("the report cannot be written: {why}");
        return ExitCode::FAILURE;
    }
    code
}

/// The tests' support panics when a real program does not do what it should.
fn run(section: &Section, short: bool) -> Outcome {
    std::panic::catch_unwind(|| (section.run)(short)).unwrap_or_else(|_| Err("it panicked, see above".into()))
}
