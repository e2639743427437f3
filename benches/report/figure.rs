//! What a section of the report gives, and how the report is written.

use std::error::Error;
use std::io::Write;

/// The figures of a section; an error names what is missing or went wrong.
pub type Outcome = Result<Vec<Figure>, Box<dyn Error>>;

/// A part of the report.
pub struct Section {
    pub name: &'static str,
    /// What it measures, in one line.
    pub about: &'static str,
    /// Takes whether amounts are to be small.
    pub run: fn(bool) -> Outcome,
}

/// One line of the report.
pub struct Figure {
    pub what: String,
    pub value: f64,
    pub unit: &'static str,
    /// The budget, as in "<= 0.1" or ">= 0.7"; empty where there is none.
    pub budget: &'static str,
    /// What it was compared with or how it came about; may be empty.
    pub note: String,
}

impl Figure {
    pub fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, budget: "", note: String::new() }
    }

    pub fn budget(mut self, budget: &'static str) -> Self {
        self.budget = budget;
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Whether the budget is kept; `None` without one.
    fn kept(&self) -> Option<bool> {
        let (sign, number) = self.budget.split_once(' ')?;
        let limit: f64 = number.parse().ok()?;
        match sign {
            "<=" => Some(self.value <= limit),
            ">=" => Some(self.value >= limit),
            _ => None,
        }
    }
}

#[derive(Default)]
pub struct Options {
    pub only: Vec<String>,
    pub short: bool,
    pub json: Option<String>,
    pub list: bool,
}

impl Options {
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                // cargo adds it.
                "--bench" => {}
                "--short" => options.short = true,
                "--list" => options.list = true,
                "--only" => {
                    let names = args.next().ok_or("--only needs the names of sections")?;
                    options.only.extend(names.split(',').map(str::to_owned));
                }
                "--json" => options.json = Some(args.next().ok_or("--json needs a file")?),
                other => return Err(format!("unknown argument {other:?}")),
            }
        }
        Ok(options)
    }
}

/// All figures of one run.
pub struct Report {
    short: bool,
    sections: Vec<(&'static str, &'static str, Vec<Figure>)>,
}

impl Report {
    pub fn new(short: bool) -> Self {
        Self { short, sections: Vec::new() }
    }

    pub fn add(&mut self, section: &Section, figures: Vec<Figure>) {
        self.sections.push((section.name, section.about, figures));
    }

    pub fn write(&self, json: Option<&str>) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        match json {
            Some("-") => writeln!(out, "{:#}", self.json()),
            Some(path) => {
                out.write_all(self.text().as_bytes())?;
                std::fs::write(path, format!("{:#}\n", self.json()))
            }
            None => out.write_all(self.text().as_bytes()),
        }
    }

    /// What the figures were taken on, without names.
    fn machine() -> String {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        format!("{cores} cores, {}, Linux {}", std::env::consts::ARCH, kernel.trim())
    }

    fn text(&self) -> String {
        let mut text = format!("\nHoldover {}, {}", env!("CARGO_PKG_VERSION"), Self::machine());
        text += if self.short { ", SHORT RUN: the figures are rough\n" } else { "\n" };
        for (name, about, figures) in &self.sections {
            text += &format!("\n{name}: {about}\n");
            let width = figures.iter().map(|f| f.what.chars().count()).max().unwrap_or(0);
            for f in figures {
                let budget = match f.kept() {
                    // Small amounts, and perhaps an unoptimised build, prove nothing.
                    Some(_) if self.short => format!("  budget {}", f.budget),
                    Some(true) => format!("  budget {}: kept", f.budget),
                    Some(false) => format!("  budget {}: MISSED", f.budget),
                    None => String::new(),
                };
                let note = if f.note.is_empty() { String::new() } else { format!("  ({})", f.note) };
                text += &format!("  {:<width$}  {:>12} {}{budget}{note}\n", f.what, number(f.value), f.unit);
            }
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let figure = |f: &Figure| {
            serde_json::json!({
                "what": f.what, "value": f.value, "unit": f.unit, "budget": f.budget, "kept": f.kept().filter(|_| !self.short), "note": f.note,
            })
        };
        let section = |(name, about, figures): &(&str, &str, Vec<Figure>)| {
            serde_json::json!({
                "name": name, "about": about, "figures": figures.iter().map(figure).collect::<Vec<_>>(),
            })
        };
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "machine": Self::machine(),
            "short": self.short,
            "sections": self.sections.iter().map(section).collect::<Vec<_>>(),
        })
    }
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
