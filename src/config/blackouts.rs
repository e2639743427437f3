//! `[[blackout]]`: windows in which collectors are not run. A run that is due in one is counted as missed, with that reason.

use std::sync::Arc;

use super::problem::{Origin, Problem};
use super::reader::{Reader, Section};
use super::{Collector, Config, keys};
use crate::schedule::{self, Cron, Zone};

/// Each is asked about each run.
const MAX_BLACKOUTS: usize = 64;
const DAY_S: u32 = 86_400;
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// One window and whom it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blackout {
    pub name: Arc<str>,
    pub window: schedule::Blackout,
    /// Empty: all.
    pub collectors: Vec<String>,
}

impl Blackout {
    pub fn concerns(&self, collector: &str) -> bool {
        self.collectors.is_empty() || self.collectors.iter().any(|name| name == collector)
    }
}

impl Config {
    /// When a collector is not to run.
    pub fn windows(&self, collector: &str) -> Arc<[schedule::Blackout]> {
        self.blackouts.iter().filter(|b| b.concerns(collector)).map(|b| b.window.clone()).collect()
    }
}

pub(super) fn check(
    sections: Vec<Section>,
    collectors: &[Collector],
    off: &[Arc<str>],
    reader: &mut Reader<'_>,
) -> Vec<Blackout> {
    if sections.len() > MAX_BLACKOUTS {
        let message = format!("{} blackouts are configured, at most {MAX_BLACKOUTS} are allowed", sections.len());
        reader.problems.push(Problem::general(message).hint("one can concern several collectors"));
        return Vec::new();
    }
    let mut blackouts: Vec<Blackout> = Vec::new();
    for section in sections {
        let origin = section.origin.clone();
        let Some(blackout) = check_one(section, reader) else { continue };
        if blackouts.iter().any(|other| other.name == blackout.name) {
            let problem = Problem::error(&origin, format!("blackout {:?} is configured twice", blackout.name));
            reader.problems.push(problem.hint("give one of them another name"));
            continue;
        }
        warn_unknown(&blackout, collectors, off, reader);
        blackouts.push(blackout);
    }
    warn_dark(&blackouts, collectors, reader);
    blackouts
}

fn check_one(mut section: Section, reader: &mut Reader<'_>) -> Option<Blackout> {
    if !reader.given(&section, "name") {
        let problem = Problem::error(&section.origin, "blackout.name is missing");
        reader.problems.push(problem.hint("write name = \"...\" under [[blackout]]"));
        return None;
    }
    let name = reader.text(&mut section, "name")?;
    reader.settings.retain(|setting| setting.path != "blackout.name");
    section.path = format!("{}.{name}", keys::BLACKOUT);
    let collectors = reader.texts(&mut section, "collectors").unwrap_or_default();
    let zone = check_zone(&mut section, reader);
    let window = window(&mut section, reader, zone);
    reader.finish(section);
    Some(Blackout { name: Arc::from(name), window: window?, collectors })
}

fn check_zone(section: &mut Section, reader: &mut Reader<'_>) -> Option<Zone> {
    let path = format!("{}.zone", section.path);
    let name = reader.text(section, "zone")?;
    Zone::get(&name).inspect_err(|error| reader.error(&path, error, &error.hint())).ok()
}

/// Two forms: `from` and `to`, or `cron` and `lasts`.
fn window(section: &mut Section, reader: &mut Reader<'_>, zone: Option<Zone>) -> Option<schedule::Blackout> {
    let given = |key: &str| section.table.0.contains_key(key);
    let (daily, after) = (given("from") || given("to") || given("days"), given("cron") || given("lasts"));
    let whole = if after { given("cron") && given("lasts") } else { given("from") && given("to") };
    if daily == after || !whole {
        let message = format!("{}: it needs from and to, or cron and lasts", section.path);
        let hint = "write from = \"22:00\", to = \"06:00\"; or cron = \"0 0 2 ? * SUN\", lasts = \"2h\"";
        reader.problems.push(Problem::error(&section.origin, message).hint(hint));
        ["from", "to", "days", "cron", "lasts"].iter().for_each(|key| drop(section.table.0.remove(*key)));
        return None;
    }
    if after {
        let lasts = reader.duration(section, "lasts");
        let cron = check_cron(section, reader);
        return Some(schedule::Blackout::after(cron?, lasts?, zone?));
    }
    let (from, to) = (time(section, "from", reader), time(section, "to", reader));
    let days = days(section, reader);
    let (from, to) = (from?, to?);
    if from % DAY_S == to % DAY_S && (from, to) != (0, DAY_S) {
        let hint = "for whole days write from = \"00:00\", to = \"24:00\"";
        reader.error(&format!("{}.to", section.path), "the window ends when it begins", hint);
        return None;
    }
    Some(schedule::Blackout::daily(days?, from, to, zone?))
}

fn check_cron(section: &mut Section, reader: &mut Reader<'_>) -> Option<Cron> {
    let path = format!("{}.cron", section.path);
    let text = reader.text(section, "cron")?;
    Cron::parse(&text).inspect_err(|error| reader.error(&path, error, &error.hint())).ok()
}

/// `22:00`, `22:00:30`, `24:00`, as seconds of the day.
fn time(section: &mut Section, key: &str, reader: &mut Reader<'_>) -> Option<u32> {
    let path = format!("{}.{key}", section.path);
    let text = reader.text(section, key)?;
    let parsed = seconds_of_day(&text);
    if parsed.is_none() {
        let hint = "write hours and minutes, 00:00 to 24:00: \"22:30\"";
        reader.error(&path, format!("{text:?} is no time of day"), hint);
    }
    parsed
}

fn seconds_of_day(text: &str) -> Option<u32> {
    let part = |part: &str, max: u32| match part.parse::<u32>() {
        Ok(value) if part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()) && value <= max => Some(value),
        _ => None,
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (hour, minute, second) = match parts.as_slice() {
        [hour, minute] => (part(hour, 24)?, part(minute, 59)?, 0),
        [hour, minute, second] => (part(hour, 24)?, part(minute, 59)?, part(second, 59)?),
        _ => return None,
    };
    let seconds = hour * 3600 + minute * 60 + second;
    (seconds <= DAY_S).then_some(seconds)
}

fn days(section: &mut Section, reader: &mut Reader<'_>) -> Option<u8> {
    if !reader.given(section, "days") {
        return Some(schedule::Blackout::ALL_DAYS);
    }
    let path = format!("{}.days", section.path);
    let names = reader.texts(section, "days")?;
    let mut mask = 0;
    for name in &names {
        match DAYS.iter().position(|day| day.eq_ignore_ascii_case(name)) {
            Some(day) => mask |= 1 << day,
            None => {
                reader.error(&path, format!("{name:?} is no day"), &format!("the days are {}", DAYS.join(", ")));
                return None;
            }
        }
    }
    if mask == 0 {
        reader.error(&path, "the list is empty", "leave it out for every day");
        return None;
    }
    Some(mask)
}

/// Collectors that never run are a mistake more often than a wish.
fn warn_dark(blackouts: &[Blackout], collectors: &[Collector], reader: &mut Reader<'_>) {
    let Some(first) = blackouts.first() else { return };
    let of = |name: &str| blackouts.iter().filter(|b| b.concerns(name)).map(|b| b.window.clone()).collect::<Vec<_>>();
    let now = reader.around.now;
    let dark = |c: &&Collector| schedule::Blackout::takes_all(&of(&c.name), &c.schedule, now);
    let dark: Vec<&str> = collectors.iter().filter(dark).map(|collector| &*collector.name).collect();
    if dark.is_empty() {
        return;
    }
    let concerned = |b: &&Blackout| dark.iter().any(|name| b.concerns(name));
    let path = format!("{}.{}", keys::BLACKOUT, blackouts.iter().find(concerned).unwrap_or(first).name);
    let path = ["from", "cron"].map(|key| format!("{path}.{key}"));
    let path = path.iter().find(|path| reader.origin_of(path) != Origin::Default).unwrap_or(&path[0]);
    let days = schedule::LOOKED_AT.as_secs() / u64::from(DAY_S);
    let message = format!("blackouts take every run of the coming {days} days and more from {}", dark.join(", "));
    reader.warn(path, message, "look at from, to, days and lasts; 'holdover next' shows what runs");
}

/// A collector may be withdrawn or not be there yet: no reason not to start.
fn warn_unknown(blackout: &Blackout, collectors: &[Collector], off: &[Arc<str>], reader: &mut Reader<'_>) {
    let known: Vec<&str> = collectors.iter().map(|c| &*c.name).chain(off.iter().map(|name| &**name)).collect();
    let path = format!("{}.{}.collectors", keys::BLACKOUT, blackout.name);
    for name in blackout.collectors.iter().filter(|name| !known.contains(&name.as_str())) {
        let hint = match super::nearest(name, &known) {
            Some(close) => format!("did you mean {close:?}?"),
            None => format!("the collectors are {}", known.join(", ")),
        };
        reader.warn(&path, format!("no collector is called {name:?}"), &hint);
    }
}
