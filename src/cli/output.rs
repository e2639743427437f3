//! The only file of the command line that prints.

use std::io::{self, IsTerminal, Write};

/// Standard output, until whoever reads it goes away (`| head`): what comes after that goes nowhere, and is no error. So a
/// command ends quietly, with the exit code of its work.
#[derive(Debug)]
pub struct Output<W> {
    to: W,
    gone: bool,
}

pub type Stdout = Output<io::BufWriter<io::StdoutLock<'static>>>;

pub fn stdout() -> Stdout {
    Output::new(io::BufWriter::new(io::stdout().lock()))
}

impl<W> Output<W> {
    fn new(to: W) -> Self {
        Self { to, gone: false }
    }

    /// For work that is done for the reader's sake alone: that nobody reads is an error there, which ends it.
    pub fn while_read(&mut self) -> WhileRead<'_, W> {
        WhileRead(self)
    }

    /// `instead` where nobody reads.
    fn unless_gone<T>(&mut self, instead: T, write: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if self.gone {
            return Ok(instead);
        }
        match write(&mut self.to) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(instead)
            }
            written => written,
        }
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_gone(bytes.len(), |to| to.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_gone((), Write::flush)
    }
}

/// See [`Output::while_read`].
#[derive(Debug)]
pub struct WhileRead<'a, W>(&'a mut Output<W>);

impl<W: Write> Write for WhileRead<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        if self.0.gone { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(written) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
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

    /// A pipe that takes so many bytes and is then closed, or a disk that is full then.
    struct Ends(usize, io::ErrorKind);

    impl Write for Ends {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken > 0 { Ok(taken) } else { Err(self.1.into()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            if self.0 > 0 { Ok(()) } else { Err(self.1.into()) }
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is_one() {
        for room in 0..20 {
            let mut out = Output::new(Ends(room, io::ErrorKind::BrokenPipe));
            for _ in 0..5 {
                writeln!(out, "abc").and_then(|()| out.flush()).unwrap();
            }
            assert!(out.gone);
            assert_eq!(out.while_read().write(b"a").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            let mut full = Output::new(Ends(room, io::ErrorKind::StorageFull));
            let written = (0..6).try_for_each(|_| writeln!(full, "abc").and_then(|()| full.flush()));
            assert_eq!((written.unwrap_err().kind(), full.gone), (io::ErrorKind::StorageFull, false));
        }
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
