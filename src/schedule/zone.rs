//! Time zones by name, and the stretch of constant offset around an instant. The only user of jiff's zone database.

use std::fmt;
use std::ops::Range;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::ScheduleError;

/// A time zone and the name it was asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

/// The longest stretch around an instant with one offset. Times are UTC seconds, offsets seconds east of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub start: Option<i64>,
    pub end: Option<i64>,
    pub offset: i64,
    /// The offset just before `start`.
    pub before: i64,
}

impl Segment {
    /// Local seconds left out by the jump at the start.
    pub fn skipped(&self) -> Option<Range<i64>> {
        let start = self.start.filter(|_| self.offset > self.before)?;
        Some(start + self.before..start + self.offset)
    }

    /// Local seconds at the start that already happened under the offset before.
    pub fn repeated(&self) -> Option<Range<i64>> {
        let start = self.start.filter(|_| self.offset < self.before)?;
        Some(start + self.offset..start + self.before)
    }
}

impl Zone {
    /// An IANA name, `UTC`, or `local` for the zone of this host as it is now: a later change of it needs a
    /// reload. Reads the system's zone files.
    pub fn get(name: &str) -> Result<Self, ScheduleError> {
        let zone = match name {
            "UTC" => Ok(TimeZone::UTC),
            "local" => TimeZone::try_system(),
            _ => TimeZone::get(name),
        };
        match zone {
            Ok(zone) => Ok(Self { name: name.to_owned(), zone }),
            Err(error) => Err(ScheduleError::Zone { name: name.to_owned(), why: error.to_string() }),
        }
    }

    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// `2026-03-29 03:30:00 +02:00`.
    pub fn display(&self, wall_ms: i64) -> String {
        match Timestamp::from_millisecond(wall_ms) {
            Ok(at) => at.to_zoned(self.zone.clone()).strftime("%F %T %:z").to_string(),
            Err(_) => format!("{wall_ms} ms"),
        }
    }

    /// The local weekday (SUN=0) and second of the day.
    pub(super) fn local(&self, wall_ms: i64) -> Option<(u32, u32)> {
        let local = Timestamp::from_millisecond(wall_ms).ok()?.to_zoned(self.zone.clone());
        let second = (local.hour() as u32 * 60 + local.minute() as u32) * 60 + local.second() as u32;
        Some((local.weekday().to_sunday_zero_offset() as u32, second))
    }

    pub(super) fn segment(&self, at: i64) -> Segment {
        let after = timestamp(at + 1);
        let mut start = None;
        for transition in self.zone.preceding(after) {
            let second = transition.timestamp().as_second();
            // A change of name only is no change of offset.
            if self.offset(second - 1) != self.offset(second) {
                start = Some(second);
                break;
            }
        }
        let offset = self.offset(at);
        let end =
            self.zone.following(timestamp(at)).map(|t| t.timestamp().as_second()).find(|&t| self.offset(t) != offset);
        Segment { start, end, offset, before: start.map_or(offset, |start| self.offset(start - 1)) }
    }

    fn offset(&self, at: i64) -> i64 {
        i64::from(self.zone.to_offset(timestamp(at)).seconds())
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn timestamp(seconds: i64) -> Timestamp {
    let clamped = seconds.clamp(Timestamp::MIN.as_second() + 1, Timestamp::MAX.as_second() - 1);
    Timestamp::from_second(clamped).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Local seconds as a date and time.
pub(super) fn civil(local: i64) -> Option<DateTime> {
    Some(TimeZone::UTC.to_datetime(Timestamp::from_second(local).ok()?))
}

/// The inverse of [`civil`].
pub(super) fn local_seconds(civil: DateTime) -> Option<i64> {
    TimeZone::UTC.to_timestamp(civil).ok().map(Timestamp::as_second)
}
