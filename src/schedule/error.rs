//! Why a schedule is refused, and what to write instead. Each message names the field; each hint is something to type.

use std::time::Duration;

use super::{MAX_EVERY, MIN_EVERY, seconds};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("cron expression {text:?} has {found} fields, 6 or 7 are needed")]
    FieldCount { text: String, found: usize },
    #[error("cron expression {text:?} is a nickname, which Quartz does not know")]
    Nickname { text: String },
    #[error("{field} field {text:?}: {why}")]
    Field { field: &'static str, text: String, why: String },
    #[error("day-of-month {month:?} and day-of-week {week:?} are both restricted, which Quartz does not define")]
    BothDays { month: String, week: String },
    #[error("day-of-month and day-of-week are both '?', so that no day is named")]
    NoDay,
    #[error("cron expression {text:?} names a date that never comes")]
    Impossible { text: String },
    #[error("interval of {} is outside {} to {} days", seconds(*.0), seconds(MIN_EVERY), MAX_EVERY.as_secs() / 86_400)]
    Period(Duration),
    #[error("time zone {name:?} is not known on this host: {why}")]
    Zone { name: String, why: String },
}

impl ScheduleError {
    /// What to write instead.
    pub fn hint(&self) -> String {
        match self {
            Self::FieldCount { text, found: 5 } => five_field_hint(text),
            Self::FieldCount { .. } => {
                "Quartz order is `second minute hour day-of-month month day-of-week [year]`, as in \"0 0/5 * * * ?\""
                    .into()
            }
            Self::Nickname { text } => nickname_hint(text),
            Self::Field { field, .. } => field_hint(field).into(),
            Self::BothDays { .. } => {
                "put '?' into one of the two; for \"either day\" write two collectors, one for each".into()
            }
            Self::NoDay => "put '*' into one of the two for every day".into(),
            Self::Impossible { .. } => {
                "check day, month and year against each other; years run from 1970 to 2199".into()
            }
            Self::Period(_) => "use every = \"10s\", or cron for something rarer than a week".into(),
            Self::Zone { .. } => {
                "use a name such as \"Europe/Berlin\", \"UTC\" or \"local\"; names need the system's tzdata package"
                    .into()
            }
        }
    }
}

fn field_hint(field: &str) -> &'static str {
    match field {
        "second" | "minute" => "0-59, with '*', ranges 1-5, lists 1,5 and steps 0/15",
        "hour" => "0-23, with '*', ranges 22-2, lists 1,5 and steps 0/6",
        "day-of-month" => "1-31, '*', '?', 'L' (last), 'L-3', 'LW' (last weekday), '15W' (weekday nearest the 15th)",
        "month" => "1-12 or JAN-DEC, with '*', ranges NOV-FEB, lists and steps",
        "day-of-week" => "1-7 with SUN=1, or SUN-SAT; 'FRIL' is the last Friday, 'FRI#3' the third",
        _ => "1970-2199, with '*', ranges, lists and steps",
    }
}

/// Unix cron counts weekdays from SUN=0 and has no seconds: rewrite what can be rewritten safely.
fn five_field_hint(text: &str) -> String {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let numeric_weekday = fields.get(4).is_some_and(|week| week.bytes().any(|b| b.is_ascii_digit()));
    match fields.as_slice() {
        [minute, hour, day, month, "*" | "?"] => {
            format!("this looks like Unix cron; with Quartz's seconds it is \"0 {minute} {hour} {day} {month} ?\"")
        }
        [minute, hour, "*" | "?", month, week] if !numeric_weekday => {
            format!("this looks like Unix cron; with Quartz's seconds it is \"0 {minute} {hour} ? {month} {week}\"")
        }
        _ => "this looks like Unix cron; Quartz puts seconds first and counts weekdays from SUN=1 (names such as MON are \
              safer), with '?' in the day field that is not used"
            .into(),
    }
}

fn nickname_hint(text: &str) -> String {
    let cron = match text.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 0 1 1 ?",
        "@monthly" => "0 0 0 1 * ?",
        "@weekly" => "0 0 0 ? * SUN",
        "@daily" | "@midnight" => "0 0 0 * * ?",
        "@hourly" => "0 0 * * * ?",
        _ => return "write every = \"10s\" for an interval, or six fields such as \"0 0/5 * * * ?\"".into(),
    };
    format!("write \"{cron}\"")
}
