//! What the viewer sees: sentences that stay, and below them, on a terminal, a block that is redrawn.
//!
//! Piped, there is no control code; the block becomes one line now and then, as on a terminal too small for it. Pure
//! but for [`Screen`]'s writing.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use super::account::{Row, text};
use crate::hub::text::{grouped, padded, shown};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";
/// Columns of a progress bar.
const BAR: usize = 24;
/// Columns of everything: the narrowest terminal of old.
const WIDTH: usize = 80;
/// Rows that the block and the newest sentence need.
const HEIGHT: usize = 12;
/// Without a terminal, the least time between two lines about the same.
const QUIET: Duration = Duration::from_secs(4);

/// How a host is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Starting,
    Live,
    CutOff,
    Killed,
    Draining,
    Stopped,
}

/// A line of the block.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub host: &'static str,
    pub doing: Doing,
    pub recorded: u64,
    pub delivered: u64,
    pub waiting: u64,
    /// The largest backlog so far of any host: a full bar.
    pub most: u64,
    pub cpu: Option<f64>,
    pub memory: Option<f64>,
    pub load: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    pub terminal: bool,
    pub color: bool,
}

pub(super) struct Screen {
    out: io::Stdout,
    style: Style,
    /// Lines of the block that is on the screen now.
    drawn: usize,
    last_line: Option<Duration>,
    /// It was said that the terminal is too small.
    apologized: bool,
    closed: Option<io::Error>,
}

impl Screen {
    pub fn new(style: Style) -> Self {
        Self { out: io::stdout(), style, drawn: 0, last_line: None, apologized: false, closed: None }
    }

    /// Why nothing more can be shown.
    pub fn closed(&self) -> Option<&io::Error> {
        self.closed.as_ref()
    }

    /// A sentence that stays, at `at` since the beginning.
    pub fn say(&mut self, at: Duration, title: &str, sentence: &str) {
        let mut out = self.erase();
        out += &said(self.style, at, title, sentence);
        self.last_line = None;
        self.put(&out);
    }

    pub fn block(&mut self, at: Duration, rows: &[Shown]) {
        if self.style.terminal && self.fits() {
            let mut out = self.erase();
            let block = block(self.style, rows);
            self.drawn = block.lines().count();
            out += &block;
            return self.put(&out);
        }
        if self.style.terminal && !std::mem::replace(&mut self.apologized, true) {
            self.plain(&format!("  (from {WIDTH} columns and {HEIGHT} rows on there is a live picture here)\n"));
        }
        if self.last_line.is_none_or(|last| at.saturating_sub(last) >= QUIET) {
            self.last_line = Some(at);
            self.put(&brief(at, rows));
        }
    }

    /// The end: nothing is redrawn after it.
    pub fn table(&mut self, rows: &[(&'static str, Row)]) {
        let mut out = self.erase();
        out += &table(self.style, rows);
        self.put(&out);
    }

    pub fn plain(&mut self, text: &str) {
        let out = self.erase() + text;
        self.put(&out);
    }

    /// Leaves the terminal as it was found, the cursor below what was shown.
    pub fn leave(&mut self) {
        let out = self.erase();
        self.put(&out);
    }

    /// Whether the block has room: it can be redrawn only while no line of it is broken or scrolled away. A terminal
    /// that does not tell its size is taken for a usual one.
    fn fits(&self) -> bool {
        let size = rustix::termios::tcgetwinsize(&self.out).map_or((0, 0), |size| (size.ws_col, size.ws_row));
        roomy(size)
    }

    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            // Whatever was typed meanwhile stands on the line below the block.
            lines => format!("\r\x1b[{lines}A\x1b[J"),
        }
    }

    fn put(&mut self, text: &str) {
        if let Err(error) = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            self.closed.get_or_insert(error);
        }
    }
}

fn roomy((columns, rows): (u16, u16)) -> bool {
    (columns == 0 || usize::from(columns) >= WIDTH) && (rows == 0 || usize::from(rows) >= HEIGHT)
}

impl Style {
    fn paint(self, color: &str, text: &str) -> String {
        if self.color { format!("{color}{text}{PLAIN}") } else { text.to_owned() }
    }

    /// Green for zero.
    fn alarm(self, number: u64, text: &str) -> String {
        self.paint(if number == 0 { GREEN } else { RED }, text)
    }
}

/// Title and sentence, wrapped beside the title.
fn said(style: Style, at: Duration, title: &str, sentence: &str) -> String {
    let margin = 19;
    let mut lines = vec![String::new()];
    for word in sentence.split(' ') {
        let line = lines.last_mut().expect("there is always one");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH - margin {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    let clock = style.paint(DIM, &format!("{:>4} s", at.as_secs()));
    let mut out = format!("{clock}  {}{}\n", style.paint(BOLD, &padded(title, margin - 8)), lines[0]);
    for line in &lines[1..] {
        writeln!(out, "{:1$}{line}", "", margin).expect("a String takes all");
    }
    out
}

fn block(style: Style, rows: &[Shown]) -> String {
    let heading = format!("  {:<8}{:<10}{:>9}{:>10}{:>8}  {:<24}", "host", "is", "recorded", "arrived", "waiting", "");
    let mut out = format!("\n{}\n", style.paint(DIM, heading.trim_end()));
    for row in rows {
        let color = row.doing.color();
        let numbers = format!("{:>9}{:>10}{:>8}", grouped(row.recorded), grouped(row.delivered), grouped(row.waiting));
        let state = style.paint(color, &padded(row.doing.word(), 10));
        writeln!(out, "  {:<8}{state}{numbers}  {}", row.host, bar(style, row)).expect("a String takes all");
    }
    let values = rows.iter().rev().find_map(values).unwrap_or_default();
    writeln!(out, "\n{}", style.paint(DIM, &values)).expect("a String takes all");
    out
}

/// The newest values that arrived, to show that they are real.
fn values(row: &Shown) -> Option<String> {
    let (cpu, memory, load) = (row.cpu?, row.memory?, row.load?);
    let text = format!(
        "  newest live values at the hub, of {}: cpu {:.0} %, memory {:.0} %, load {load:.1}",
        row.host,
        cpu * 100.0,
        memory * 100.0
    );
    Some(shown(&text, WIDTH))
}

fn bar(style: Style, row: &Shown) -> String {
    if row.most == 0 {
        return String::new();
    }
    let full = (row.waiting * BAR as u64).div_ceil(row.most).min(BAR as u64) as usize;
    let bar = style.paint(row.doing.color(), &"█".repeat(full));
    bar + &style.paint(DIM, &"░".repeat(BAR - full))
}

impl Doing {
    fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Live => "live",
            Self::CutOff => "cut off",
            Self::Killed => "killed",
            Self::Draining => "catching",
            Self::Stopped => "stopped",
        }
    }

    fn color(self) -> &'static str {
        match self {
            Self::Starting | Self::Stopped => DIM,
            Self::Live => GREEN,
            Self::CutOff => YELLOW,
            Self::Killed => RED,
            Self::Draining => CYAN,
        }
    }
}

/// The block in one line.
fn brief(at: Duration, rows: &[Shown]) -> String {
    let one = |row: &Shown| format!("{} {}, {} waiting", row.host, row.doing.word(), grouped(row.waiting));
    let all: Vec<String> = rows.iter().map(one).collect();
    format!("{:>4} s  - {}\n", at.as_secs(), all.join("; "))
}

fn table(style: Style, rows: &[(&'static str, Row)]) -> String {
    let heading = format!(
        "  {:<8}{:>10}{:>11}{:>20}{:>15}{:>14}",
        "host", "recorded", "delivered", "duplicates removed", "declared lost", "silently lost"
    );
    let mut out = format!("\n{}\n", style.paint(BOLD, &heading));
    for (host, row) in rows {
        let lost = style.alarm(row.lost(), &format!("{:>14}", grouped(row.lost())));
        writeln!(
            out,
            "  {host:<8}{:>10}{:>11}{:>20}{:>15}{lost}",
            grouped(row.recorded),
            grouped(row.delivered),
            grouped(row.duplicates),
            grouped(row.declared)
        )
        .expect("a String takes all");
    }
    out.push('\n');
    for (host, row) in rows {
        if !row.held.is_empty() {
            let what = format!("  {host}: {} wait in its outbox for its next start (not lost)", text(&row.held));
            writeln!(out, "{}", style.paint(DIM, &what)).expect("a String takes all");
        }
        if row.lost() > 0 {
            let what = format!("  SILENTLY LOST: {host} {}", text(&row.silent));
            writeln!(out, "{}", style.paint(RED, &what)).expect("a String takes all");
        }
        for wrong in &row.wrong {
            let what = format!("  DOES NOT ADD UP: {host}: {}", shown(wrong, 200));
            writeln!(out, "{}", style.paint(RED, &what)).expect("a String takes all");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::demo::account::insert;

    const PIPED: Style = Style { terminal: false, color: false };
    const COLOR: Style = Style { terminal: true, color: true };

    fn row(doing: Doing, waiting: u64) -> Shown {
        let (cpu, memory, load) = (Some(0.5), Some(0.25), Some(1.0));
        Shown {
            host: "demo-a",
            doing,
            recorded: 1234,
            delivered: 1234 - waiting,
            waiting,
            most: 100,
            cpu,
            memory,
            load,
        }
    }

    #[test]
    fn without_color_there_is_no_control_code() {
        let rows = [row(Doing::CutOff, 40)];
        let mut lost = Row { recorded: 3, delivered: 2, ..Row::default() };
        insert(&mut lost.silent, 1, 2, 2);
        let all = [
            said(PIPED, Duration::from_secs(3), "cut", "a sentence"),
            block(PIPED, &rows),
            brief(Duration::ZERO, &rows),
            table(PIPED, &[("demo-a", lost)]),
        ];
        assert!(all.concat().chars().all(|c| c == '\n' || !c.is_control()));
        assert!(all[3].contains("SILENTLY LOST: demo-a seq 2"), "{}", all[3]);
    }

    #[test]
    fn nothing_is_wider_than_a_terminal() {
        let sentence = "word ".repeat(60);
        let text = said(PIPED, Duration::from_secs(99), "reconnected", sentence.trim_end());
        let busy = Shown { cpu: Some(1.0), memory: Some(1.0), load: Some(1e9), ..row(Doing::Draining, 100) };
        let text = text + &block(PIPED, &[busy]) + &table(PIPED, &[("demo-a", Row::default())]);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
        }
    }

    #[test]
    fn the_picture_is_drawn_only_where_it_fits() {
        for (size, fits) in [((80, 24), true), ((80, 12), true), ((0, 0), true), ((79, 24), false), ((80, 11), false)] {
            assert_eq!(roomy(size), fits, "{size:?}");
        }
        let block = block(PIPED, &[row(Doing::Live, 0), row(Doing::Live, 0), row(Doing::Live, 0)]);
        let sentence = said(PIPED, Duration::ZERO, "title", &"word ".repeat(36));
        assert!(block.lines().count() + sentence.lines().count() < HEIGHT, "{sentence}{block}");
    }

    #[test]
    fn a_bar_is_full_at_the_most_and_never_empty_while_something_waits() {
        let blocks = |waiting| bar(PIPED, &row(Doing::CutOff, waiting)).matches('█').count();
        assert_eq!((blocks(0), blocks(1), blocks(50), blocks(100), blocks(200)), (0, 1, 12, 24, 24));
        assert!(bar(COLOR, &row(Doing::CutOff, 1)).starts_with(YELLOW));
    }
}
