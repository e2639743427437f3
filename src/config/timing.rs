//! When a `[[collector]]` runs: `every`, or `cron` with its zone, and the jitter. The rules of cron are the schedule's.

use std::time::Duration;

use super::problem::Problem;
use super::reader::{Reader, Section};
use super::units;
use crate::schedule::{Schedule, ScheduleError, Zone};

/// `usual` is what a built-in runs at; `known` says that the rest of the entry is understood.
pub(super) fn check(
    section: &mut Section,
    known: bool,
    usual: Option<&'static str>,
    reader: &mut Reader<'_>,
) -> Option<Schedule> {
    let (path, zone_given) = (section.path.clone(), reader.given(section, "zone"));
    let (every_given, cron_given) = (reader.given(section, "every"), reader.given(section, "cron"));
    let every = reader.duration(section, "every");
    let cron = reader.text(section, "cron");
    if zone_given && !cron_given {
        reader.text(section, "zone");
        reader.error(
            &format!("{path}.zone"),
            "it has no meaning without cron",
            "remove it, or use cron instead of every",
        );
        return None;
    }
    match (every_given, cron_given) {
        (true, true) => {
            reader.error(&format!("{path}.cron"), "every and cron are both given", "keep one of the two");
            None
        }
        (true, false) => Some(Schedule::Every(every?)),
        (false, true) => {
            let zone = reader.text(section, "zone")?;
            check_cron(&path, &cron?, &zone, reader)
        }
        (false, false) => match usual {
            Some(usual) => {
                let period = units::parse_duration(usual)?;
                reader.derive(&format!("{path}.every"), super::reader::quote(&units::duration(period)));
                Some(Schedule::Every(period))
            }
            None => {
                if known {
                    let problem = Problem::error(&section.origin, format!("{path}: neither every nor cron is given"));
                    reader.problems.push(problem.hint("write every = \"60s\", or cron = \"0 0/5 * * * ?\""));
                }
                None
            }
        },
    }
}

fn check_cron(path: &str, expression: &str, zone: &str, reader: &mut Reader<'_>) -> Option<Schedule> {
    let cron_path = format!("{path}.cron");
    let refuse = |reader: &mut Reader<'_>, path: &str, error: &ScheduleError| reader.error(path, error, &error.hint());
    let zone = match Zone::get(zone) {
        Ok(zone) => Some(zone),
        Err(error) => {
            refuse(reader, &format!("{path}.zone"), &error);
            None
        }
    };
    // Checked even with a bad zone: all errors at once.
    let schedule = match Schedule::cron(expression, zone.clone().unwrap_or_else(Zone::utc)) {
        Ok(schedule) => schedule,
        Err(error) => {
            refuse(reader, &cron_path, &error);
            return None;
        }
    };
    if schedule.next_runs(reader.around.now, Duration::ZERO, 1).is_empty() {
        reader.error(&cron_path, format!("{expression:?} names only times that are over"), "check its year field");
        return None;
    }
    zone.map(|_| schedule)
}

/// The most by which a host may run later; less than the interval.
pub(super) fn jitter(section: &mut Section, schedule: Option<&Schedule>, reader: &mut Reader<'_>) -> Option<Duration> {
    let jitter = reader.duration(section, "jitter")?;
    if let Some(&Schedule::Every(period)) = schedule
        && jitter >= period
    {
        let message =
            format!("{} is not shorter than the interval of {}", units::duration(jitter), units::duration(period));
        reader.error(&format!("{}.jitter", section.path), message, "choose a jitter below every");
    }
    Some(jitter)
}
