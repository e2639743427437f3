//! Tests of the configuration: every kind of bad input has a place, a reason and a hint; nothing read is ever half used.

mod alarms;
mod blackouts;
mod broker;
mod collectors;
mod keys;
mod limits;
mod owners;
mod report;
mod sides;
mod sources;

use std::path::Path;
use std::time::Duration;

use super::{Checked, Config, Rejected, Severity, Surroundings};
use crate::clock::Now;

const BROKER: &str = "[broker]\nurl = \"mqtts://b.example\"\n";

/// 2026-09-21 13:33:20 UTC.
const NOW: Now = Now { mono: Duration::from_secs(100), boot: Duration::from_secs(100), wall_ms: 1_789_997_600_000 };

fn around<'a>(env: &'a [(String, String)]) -> Surroundings<'a> {
    Surroundings { env, now: NOW, file_system_bytes: |_| Some(100 << 30), guarded: false }
}

fn parse(text: &str) -> Result<Checked, Rejected> {
    Config::parse(Path::new("/etc/holdover/holdover.toml"), text, &around(&[]))
}

/// A good broker section before the given text, whose line 1 is the configuration's line 4.
fn with_broker(text: &str) -> Result<Checked, Rejected> {
    parse(&format!("{BROKER}\n{text}"))
}

/// The errors as printed.
fn errors(result: Result<Checked, Rejected>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(rejected) => rejected.errors().map(ToString::to_string).collect(),
    }
}

/// The one error as printed.
fn error(result: Result<Checked, Rejected>) -> String {
    let errors = errors(result);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.into_iter().next().unwrap()
}

fn warnings(checked: &Checked) -> Vec<String> {
    assert!(checked.warnings.iter().all(|problem| problem.severity == Severity::Warning));
    checked.warnings.iter().map(ToString::to_string).collect()
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
