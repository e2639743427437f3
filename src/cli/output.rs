//! The only file of the command line that prints.

use std::io::{self, IsTerminal, Write};

/// Standard output, line-buffered by the caller's choice; errors are returned, so that `| head` ends quietly.
pub fn stdout() -> io::BufWriter<io::StdoutLock<'static>> {
    io::BufWriter::new(io::stdout().lock())
}

/// One complaint on stderr. Nothing can be done when stderr itself is gone.
pub fn complain(message: &str) {
    let mut err = io::stderr().lock();
    let bold = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let (start, end) = if bold { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    // Nobody is left to tell when stderr itself is gone.
    writeln!(err, "{start}holdover:{end} {}", harmless(message)).unwrap_or(());
}

/// Without what would steer the terminal: others' words may be in it.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Rows under a header, columns padded to the widest cell; numbers are the caller's to format.
pub fn table(out: &mut impl Write, header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> =
            cells.zip(&widths).map(|(cell, width)| format!("{:<width$}", harmless(cell))).collect();
        writeln!(out, "{}", padded.join("  ").trim_end())
    };
    line(&mut header.iter().copied())?;
    for row in rows {
        line(&mut row.iter().map(String::as_str))?;
    }
    Ok(())
}

/// `12.3 MiB`
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `3 d 4 h`, `12 s`: the two largest units that are not zero.
pub fn duration(seconds: u64) -> String {
    let parts = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut words = Vec::new();
    for (size, unit) in parts {
        if rest >= size && words.len() < 2 {
            words.push(format!("{} {unit}", rest / size));
            rest %= size;
        }
    }
    if words.is_empty() { "0 s".into() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_as_a_person_says_them() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(268_435_456), "256.0 MiB");
        assert_eq!(duration(0), "0 s");
        assert_eq!(duration(93_784), "1 d 2 h");
    }

    #[test]
    fn a_cell_steers_no_terminal() {
        let mut out = Vec::new();
        table(&mut out, &["a"], &[vec!["x\u{1b}[2J".into()]]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\nx\u{fffd}[2J\n");
        assert_eq!(harmless("two\nlines\r"), "two\nlines\u{fffd}");
    }

    #[test]
    fn tables_pad_to_the_widest_cell() {
        let mut out = Vec::new();
        table(&mut out, &["a", "long"], &[vec!["wide cell".into(), "1".into()]]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a          long\nwide cell  1\n");
    }
}
