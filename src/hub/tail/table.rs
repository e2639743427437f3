//! The live table: hosts above, what happened last below, redrawn in place with plain ANSI codes.
//!
//! Owns the layout. Text from the wire goes through [`shown`] before it gets here or as it is drawn; nothing else
//! writes escape codes. Bounded by the size of the terminal and a fixed number of remembered lines.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use crate::clock::Now;
use crate::hub::line::{Line, time_of};
use crate::hub::observer::{HostView, Observer};
use crate::hub::text::{fitted, grouped, padded, shown};
use crate::hub::tracker::{Missing, Tally};
use crate::wire::State;

/// Alternate screen, no cursor, no wrapping.
pub(super) const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
pub(super) const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Records and notable lines remembered, each; no terminal is higher.
const RECENT: usize = 200;
const LONGEST_LINE: usize = 512;

const NARROWEST_HOST: usize = 12;
const WIDEST_HOST: usize = 24;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

#[derive(Debug)]
pub(super) struct Table {
    color: bool,
    broker: String,
    pub listening: bool,
    /// What is not a record, which records would push out of sight.
    notable: VecDeque<String>,
    records: VecDeque<String>,
}

/// Columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub columns: usize,
    pub rows: usize,
}

/// Name, width, and what stands in it given the width.
type Column = (&'static str, usize, fn(&Row<'_>, usize) -> String);

struct Row<'a> {
    host: &'a str,
    view: &'a HostView,
    tally: Tally,
    missing: Missing,
    judges_gaps: bool,
    now: Now,
}

/// With the host they fill 80 columns; the site is for wider terminals.
const COLUMNS: &[Column] = &[
    ("STATE", 7, |r, _| r.state().to_owned()),
    ("SEEN", 4, |r, _| r.seen()),
    ("RECORDS", 9, |r, width| fitted(r.tally.records(), width)),
    ("RATE/s", 6, |r, _| rate(r.view.rate.per_second(r.now))),
    ("DUP", 5, |r, width| fitted(r.tally.duplicate, width)),
    ("LATE", 6, |r, width| fitted(r.tally.late, width)),
    ("GAPS", 6, |r, width| r.gaps(width)),
    ("LOST", 6, |r, width| fitted(r.missing.declared, width)),
    ("BACKLOG", 7, |r, width| r.view.backlog.map_or_else(|| "?".to_owned(), |n| fitted(n, width))),
    ("SITE", 12, |r, _| r.view.site.clone()),
];

impl Table {
    pub fn new(color: bool, broker: String) -> Self {
        Self { color, broker, listening: false, notable: VecDeque::new(), records: VecDeque::new() }
    }

    pub fn push(&mut self, line: &Line, now: Now) {
        match line {
            Line::Record(_) => remember(&mut self.records, line.text(LONGEST_LINE)),
            other => self.note(&other.text(LONGEST_LINE), now),
        }
    }

    pub fn note(&mut self, text: &str, now: Now) {
        let clock = time_of(now.wall_ms).and_then(|t| t.get(11..19).map(str::to_owned)).unwrap_or_default();
        remember(&mut self.notable, shown(&format!("{clock} {text}"), LONGEST_LINE));
    }

    /// One frame for the terminal as it is now.
    pub fn frame(&self, observer: &Observer, running: Duration, now: Now) -> String {
        self.draw(observer, running, now, terminal_size())
    }

    pub(super) fn draw(&self, observer: &Observer, running: Duration, now: Now, size: Size) -> String {
        let mut frame = Frame { out: String::from("\x1b[H"), size, used: 0, color: self.color };
        frame.line(&self.headline(observer, running), BOLD);
        frame.line("", "");
        let rows: Vec<Row<'_>> =
            observer.shown_hosts().map(|(host, view)| Row::new(observer, host, view, now)).collect();
        frame.line(&heading(size.columns), DIM);
        // Half of the screen at most; those in trouble first when not all fit.
        let room = (size.rows / 2).saturating_sub(3).max(1);
        let mut shown_rows: Vec<&Row<'_>> = rows.iter().collect();
        if rows.len() > room {
            shown_rows.sort_by_key(|row| std::cmp::Reverse(row.trouble()));
        }
        for row in shown_rows.iter().take(room) {
            frame.line(&row.text(size.columns), row.color());
        }
        if rows.len() > room {
            let hidden = shown_rows.iter().skip(room);
            let troubled = hidden.filter(|row| row.trouble() > 0).count();
            frame.line(&format!("... and {} more hosts, {troubled} of them in trouble", rows.len() - room), DIM);
        }
        frame.line("", "");
        let left = size.rows.saturating_sub(frame.used);
        for text in last(&self.notable, left / 3) {
            frame.line(text, line_color(text));
        }
        frame.line("", "");
        for text in last(&self.records, size.rows.saturating_sub(frame.used)) {
            frame.line(text, "");
        }
        if frame.used < size.rows {
            frame.out.push_str("\r\n\x1b[J");
        }
        frame.out
    }

    fn headline(&self, observer: &Observer, running: Duration) -> String {
        let seconds = running.as_secs();
        let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let state = if self.listening { "listening" } else { "NOT CONNECTED" };
        let counts = observer.counts;
        let mut text = format!(
            "holdover-hub tail  {} {state}  {h:02}:{m:02}:{s:02}  {} records in {} messages",
            self.broker,
            grouped(counts.records),
            grouped(counts.messages)
        );
        for (n, what) in [(counts.bad, "bad"), (observer.tracker.untracked(), "untracked")] {
            if n > 0 {
                text.push_str(&format!(", {} {what}", grouped(n)));
            }
        }
        text
    }
}

fn remember(lines: &mut VecDeque<String>, text: String) {
    if lines.len() == RECENT {
        lines.pop_front();
    }
    lines.push_back(text);
}

fn last(lines: &VecDeque<String>, count: usize) -> impl Iterator<Item = &String> {
    lines.iter().skip(lines.len().saturating_sub(count))
}

/// Builds a frame line by line and never beyond the terminal's size.
struct Frame {
    out: String,
    size: Size,
    used: usize,
    color: bool,
}

impl Frame {
    fn line(&mut self, text: &str, color: &str) {
        if self.used >= self.size.rows {
            return;
        }
        if self.used > 0 {
            self.out.push_str("\r\n");
        }
        self.used += 1;
        let text = shown(text, self.size.columns);
        // Erased first: behind a line that fills the width the cursor stands on its last character.
        let result = match self.color && !color.is_empty() {
            true => write!(self.out, "\x1b[K{color}{text}{PLAIN}"),
            false => write!(self.out, "\x1b[K{text}"),
        };
        debug_assert!(result.is_ok(), "a String takes all");
    }
}

/// The columns that fit, from the left, beside a host of at least 12.
fn fitting(columns: usize) -> &'static [Column] {
    let mut used = NARROWEST_HOST;
    let fit = COLUMNS.iter().take_while(|(_, width, _)| {
        used += width + 1;
        used <= columns
    });
    &COLUMNS[..fit.count()]
}

/// The host's column takes what the others leave.
fn host_width(columns: usize) -> usize {
    let others: usize = fitting(columns).iter().map(|(_, width, _)| width + 1).sum();
    columns.saturating_sub(others).clamp(NARROWEST_HOST, WIDEST_HOST)
}

fn heading(columns: usize) -> String {
    let mut text = padded("HOST", host_width(columns));
    for (name, width, _) in fitting(columns) {
        text.push(' ');
        text.push_str(&aligned(name, *width, *name == "SITE"));
    }
    text
}

fn aligned(text: &str, width: usize, left: bool) -> String {
    let text = shown(text, width);
    if left { format!("{text:<width$}") } else { format!("{text:>width$}") }
}

fn rate(per_second: f64) -> String {
    if per_second < 1000.0 { format!("{per_second:.1}") } else { fitted(per_second as u64, 6) }
}

impl<'a> Row<'a> {
    fn new(observer: &'a Observer, host: &'a str, view: &'a HostView, now: Now) -> Self {
        let tracker = &observer.tracker;
        let (tally, missing) = (tracker.tally(host), tracker.missing(host));
        Self { host, view, tally, missing, judges_gaps: observer.judges_gaps(), now }
    }

    fn text(&self, columns: usize) -> String {
        let mut text = padded(self.host, host_width(columns));
        for (name, width, value) in fitting(columns) {
            text.push(' ');
            text.push_str(&aligned(&value(self, *width), *width, *name == "SITE"));
        }
        text
    }

    fn state(&self) -> &'static str {
        match self.view.state {
            Some(State::Online) => "online",
            Some(State::Offline) => "OFFLINE",
            None => "?",
        }
    }

    fn seen(&self) -> String {
        let seconds = self.now.wall_ms.saturating_sub(self.view.seen_ms).max(0) / 1000;
        match seconds {
            0..100 => format!("{seconds}s"),
            100..6000 => format!("{}m", seconds / 60),
            _ => format!("{}h", seconds / 3600),
        }
    }

    /// Confirmed ones with a `!`, pending ones not at all: they are the backlog.
    fn gaps(&self, width: usize) -> String {
        if !self.judges_gaps {
            return "-".to_owned();
        }
        let confirmed = self.missing.confirmed.saturating_add(self.tally.overflowed);
        let mark = if confirmed > 0 { "!" } else { "" };
        fitted(self.missing.open.saturating_add(confirmed), width - mark.len()) + mark
    }

    /// 0 is none.
    fn trouble(&self) -> u8 {
        let Missing { open, confirmed, declared, .. } = self.missing;
        match () {
            () if self.judges_gaps && (confirmed > 0 || self.tally.overflowed > 0) => 3,
            () if self.view.state == Some(State::Offline) => 2,
            () if (self.judges_gaps && open > 0) || declared > 0 || self.view.problems > 0 => 1,
            () => 0,
        }
    }

    fn color(&self) -> &'static str {
        match (self.trouble(), self.view.state) {
            (2.., _) => RED,
            (1, _) => YELLOW,
            (_, Some(State::Online)) => GREEN,
            _ => "",
        }
    }
}

/// By the word after the time, which is ours.
fn line_color(text: &str) -> &'static str {
    match text.split(' ').nth(1) {
        Some("bad" | "bound") => RED,
        Some("gap") if text.contains("MISSING") => RED,
        Some("gap" | "loss" | "epoch") => YELLOW,
        Some("status") => DIM,
        _ => "",
    }
}

fn terminal_size() -> Size {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let known = size.filter(|s| s.ws_col > 0 && s.ws_row > 0);
    known.map_or(Size { columns: 80, rows: 24 }, |s| Size { columns: s.ws_col.into(), rows: s.ws_row.into() })
}

#[cfg(test)]
mod tests;
