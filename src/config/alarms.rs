//! `[[alarm]]`: limits of collectors' values. What they mean is `events`' own; here they are read and checked.

use std::sync::Arc;

use super::problem::Problem;
use super::reader::{Reader, Section};
use super::{Collector, keys};
use crate::events::{Bound, Rule};

/// Each looks at each run of its collector.
const MAX_ALARMS: usize = 64;
const MAX_MESSAGE: usize = 256;

pub(super) fn check(
    sections: Vec<Section>,
    collectors: &[Collector],
    off: &[Arc<str>],
    reader: &mut Reader<'_>,
) -> Vec<Rule> {
    if sections.len() > MAX_ALARMS {
        let message = format!("{} alarms are configured, at most {MAX_ALARMS} are allowed", sections.len());
        reader.problems.push(Problem::general(message).hint("one watches all series of a collector"));
        return Vec::new();
    }
    let mut alarms: Vec<Rule> = Vec::new();
    for section in sections {
        let origin = section.origin.clone();
        let Some(alarm) = check_one(section, reader) else { continue };
        if alarms.iter().any(|other| other.name == alarm.name) {
            let problem = Problem::error(&origin, format!("alarm {:?} is configured twice", alarm.name));
            reader.problems.push(problem.hint("give one of them another name"));
            continue;
        }
        warn_unknown(&alarm, collectors, off, reader);
        alarms.push(alarm);
    }
    alarms
}

fn check_one(mut section: Section, reader: &mut Reader<'_>) -> Option<Rule> {
    let missing = ["name", "collector", "field"].into_iter().find(|key| !reader.given(&section, key));
    if let Some(key) = missing {
        let problem = Problem::error(&section.origin, format!("alarm.{key} is missing"));
        reader.problems.push(problem.hint(format!("write {key} = \"...\" under [[alarm]]")));
        return None;
    }
    let name = reader.text(&mut section, "name")?;
    reader.settings.retain(|setting| setting.path != "alarm.name");
    section.path = format!("{}.{name}", keys::ALARM);
    let collector = reader.text(&mut section, "collector");
    let record = reader.text(&mut section, "record");
    let tags = tags(&mut section, reader);
    let field = reader.text(&mut section, "field");
    let bound = bound(&mut section, reader);
    let runs = reader.int(&mut section, "runs");
    let lasting = reader.duration(&mut section, "for");
    let severity = reader.text(&mut section, "severity");
    let message = message(&mut section, reader);
    reader.finish(section);
    Some(Rule {
        name: Arc::from(name),
        collector: Arc::from(collector?),
        record,
        tags: tags?,
        field: field?,
        bound: bound?,
        runs: u32::try_from(runs?).ok()?,
        lasting: lasting?,
        severity: severity?,
        message,
    })
}

fn tags(section: &mut Section, reader: &mut Reader<'_>) -> Option<Vec<(String, String)>> {
    let path = format!("{}.tags", section.path);
    let mut tags = Vec::new();
    for text in reader.texts(section, "tags").unwrap_or_default() {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => tags.push((name.to_owned(), value.to_owned())),
            _ => {
                reader.error(&path, format!("{text:?} is no tag"), "write tags = [\"mountpoint=/\"]");
                return None;
            }
        }
    }
    Some(tags)
}

/// `above` or `below`, and `clear` on the good side of it.
fn bound(section: &mut Section, reader: &mut Reader<'_>) -> Option<Bound> {
    let above = reader.given(section, "above");
    if above == reader.given(section, "below") {
        let problem =
            Problem::error(&section.origin, format!("{}: it needs above or below, one of them", section.path));
        reader.problems.push(problem.hint("write above = 0.9"));
        ["above", "below", "clear"].iter().for_each(|key| drop(section.table.0.remove(*key)));
        return None;
    }
    let path = format!("{}.clear", section.path);
    let limit = reader.number(section, if above { "above" } else { "below" });
    let cleared_at = reader.given(section, "clear");
    let clear = reader.number(section, "clear");
    let limit = limit?;
    let clear = if cleared_at { clear? } else { limit };
    if above && clear > limit || !above && clear < limit {
        let (side, other) = if above { ("above", "at most") } else { ("below", "at least") };
        let message = format!("{clear} is beyond the limit: the alarm would be raised and over at once");
        reader.error(&path, message, &format!("with {side} = {limit}, clear is {other} {limit}"));
        return None;
    }
    Some(Bound { above, limit, clear })
}

fn message(section: &mut Section, reader: &mut Reader<'_>) -> Option<String> {
    let path = format!("{}.message", section.path);
    let text = reader.text(section, "message")?;
    if text.len() > MAX_MESSAGE {
        let message = format!("it has {} bytes, at most {MAX_MESSAGE} are allowed", text.len());
        reader.error(&path, message, "what was measured is in the event anyway");
        return None;
    }
    Some(text)
}

/// A collector may be switched off or not be there yet: no reason not to start.
fn warn_unknown(alarm: &Rule, collectors: &[Collector], off: &[Arc<str>], reader: &mut Reader<'_>) {
    let known: Vec<&str> = collectors.iter().map(|c| &*c.name).chain(off.iter().map(|name| &**name)).collect();
    if known.contains(&&*alarm.collector) {
        return;
    }
    let hint = match super::nearest(&alarm.collector, &known) {
        Some(close) => format!("did you mean {close:?}?"),
        None => format!("the collectors are {}", known.join(", ")),
    };
    let path = format!("{}.{}.collector", keys::ALARM, alarm.name);
    reader.warn(&path, format!("no collector is called {:?}", alarm.collector), &hint);
}
