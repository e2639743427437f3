//! `[[collector]]`: what runs, when, and under which limits. Merges the default set with what the files say.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::problem::{Origin, Problem};
use super::reader::{Reader, Section};
use super::{Agent, timing, what};
use crate::collect::exec::{Confinement, Format, Limits};
use crate::collect::{COLLECTORS, CollectorSpec, Params};
use crate::schedule::{Misfire, Schedule};

/// More is a mistake of some script that writes conf.d.
pub(super) const MAX_COLLECTORS: usize = 256;

/// One collector that will run.
#[derive(Clone, Debug, PartialEq)]
pub struct Collector {
    pub name: Arc<str>,
    pub what: What,
    pub schedule: Schedule,
    /// The most by which a host may run later; [`crate::schedule::jitter`] says by how much this one does.
    pub jitter: Duration,
    pub misfire: Misfire,
    pub timeout: Duration,
}

#[derive(Clone)]
pub enum What {
    /// A built-in collector; its parameters were tried on it.
    Builtin {
        spec: &'static CollectorSpec,
        params: Params,
    },
    Exec(Exec),
}

impl fmt::Debug for What {
    /// A built-in by its name: its spec is a page of text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin { spec, params } => f.debug_tuple(spec.name).field(params).finish(),
            Self::Exec(exec) => exec.fmt(f),
        }
    }
}

impl PartialEq for What {
    /// A built-in is its name.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Builtin { spec: a, params: x }, Self::Builtin { spec: b, params: y }) => a.name == b.name && x == y,
            (Self::Exec(a), Self::Exec(b)) => a == b,
            _ => false,
        }
    }
}

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The program, absolute or a name to be looked up in [`crate::collect::exec::DEFAULT_PATH`], then its arguments.
    pub argv: Vec<String>,
    pub format: Format,
    /// Bytes.
    pub max_output: u64,
    pub limits: Limits,
    pub confinement: Confinement,
    pub env: Vec<(String, String)>,
    pub dir: Option<PathBuf>,
    pub usage: bool,
}

/// Those that run and the names of those that are switched off. Defaults come first, then the rest as written.
pub(super) fn check(
    sections: Vec<Section>,
    agent: Option<&Agent>,
    reader: &mut Reader<'_>,
) -> (Vec<Collector>, Vec<Arc<str>>) {
    if sections.len() > MAX_COLLECTORS {
        let message = format!("{} collectors are configured, at most {MAX_COLLECTORS} are allowed", sections.len());
        reader.problems.push(Problem::general(message).hint("check what writes the files in conf.d"));
        return (Vec::new(), Vec::new());
    }
    let mut named: Vec<(Arc<str>, Section)> = Vec::new();
    for section in sections {
        if let Some((name, section)) = check_name(section, &named, reader) {
            named.push((name, section));
        }
    }
    let mut entries = Vec::new();
    let defaults = agent.is_some_and(|agent| agent.default_collectors);
    for spec in COLLECTORS.iter().filter(|spec| spec.default_on && defaults) {
        match named.iter().position(|(name, _)| **name == *spec.name) {
            Some(position) => entries.push(named.remove(position)),
            None => entries.push((Arc::from(spec.name), empty(spec.name))),
        }
    }
    entries.append(&mut named);
    let (mut collectors, mut disabled) = (Vec::new(), Vec::new());
    for (name, section) in entries {
        match check_one(name.clone(), section, reader) {
            Some((collector, true)) => collectors.push(collector),
            Some((_, false)) => disabled.push(name),
            None => {}
        }
    }
    (collectors, disabled)
}

/// A member of the default set that no file mentions.
fn empty(name: &str) -> Section {
    let keys = super::keys::section(super::keys::COLLECTOR).expect("it is in the key table").keys;
    let path = format!("{}.{name}", super::keys::COLLECTOR);
    Section { path, origin: Origin::Default, keys: keys.into(), table: super::tree::Table::default() }
}

/// Takes the name and gives the section its path; refuses the second of two with the same.
fn check_name(
    mut section: Section,
    named: &[(Arc<str>, Section)],
    reader: &mut Reader<'_>,
) -> Option<(Arc<str>, Section)> {
    if !reader.given(&section, "name") {
        let problem = Problem::error(&section.origin, "collector.name is missing");
        reader.problems.push(problem.hint("write name = \"...\" under [[collector]]; it names the topic"));
        return None;
    }
    let name = reader.text(&mut section, "name")?;
    // The name is part of every other path; it needs no line of its own.
    reader.settings.retain(|setting| setting.path != "collector.name");
    if let Some((_, first)) = named.iter().find(|(other, _)| **other == *name) {
        let message = format!("collector {name:?} is configured twice");
        let hint = format!("the first is at {}; give one of them another name", first.origin);
        reader.problems.push(Problem::error(&section.origin, message).hint(hint));
        return None;
    }
    section.path = format!("{}.{name}", super::keys::COLLECTOR);
    Some((Arc::from(name), section))
}

/// The collector, and whether it is enabled.
fn check_one(name: Arc<str>, mut section: Section, reader: &mut Reader<'_>) -> Option<(Collector, bool)> {
    let enabled = reader.bool(&mut section, "enabled")?;
    let what = what::check(&name, enabled, &mut section, reader);
    let usual = match &what {
        Some(What::Builtin { spec, .. }) => Some(spec.default_schedule),
        Some(What::Exec(_)) | None => None,
    };
    let schedule = timing::check(&mut section, what.is_some(), usual, reader);
    let jitter = timing::jitter(&mut section, schedule.as_ref(), reader);
    let misfire = if reader.text(&mut section, "misfire")? == "once" { Misfire::Once } else { Misfire::Skip };
    let timeout = reader.duration(&mut section, "timeout");
    reader.finish(section);
    let collector = Collector { name, what: what?, schedule: schedule?, jitter: jitter?, misfire, timeout: timeout? };
    Some((collector, enabled))
}
