//! Text from the wire made fit for a terminal and for JSON that may be shown on one. Pure.
//!
//! Control characters (C0, DEL, C1), line separators and those that turn the direction of writing never get through:
//! they can move the cursor, rename the window or make one name look like another.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// Whether a terminal could act on it or a reader be misled by it.
fn unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Columns that `c` takes at most: counting too many costs space, counting too few breaks the line.
fn columns(c: char) -> usize {
    if c < '\u{1100}' { 1 } else { 2 }
}

/// `text` without anything unfit, cut to `width` columns; what is cut or replaced shows.
pub fn shown(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars().map(|c| if unfit(c) { '?' } else { c }) {
        if used + columns(c) > width {
            while used + 1 > width
                && out.pop().is_some_and(|last| {
                    used -= columns(last);
                    true
                })
            {}
            if width > 0 {
                out.push('~');
            }
            return out;
        }
        used += columns(c);
        out.push(c);
    }
    out
}

/// `text` cut or padded with spaces to exactly `width` columns.
pub fn padded(text: &str, width: usize) -> String {
    let mut out = shown(text, width);
    let used: usize = out.chars().map(columns).sum();
    out.extend(std::iter::repeat_n(' ', width.saturating_sub(used)));
    out
}

/// 1234567 as `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A count in at most `width` columns (5 or more): grouped, else rounded down as 123k, 45M, 6G and so on.
pub fn fitted(n: u64, width: usize) -> String {
    let full = grouped(n);
    if full.len() <= width {
        return full;
    }
    let units =
        [(1_000, 'k'), (1_000_000, 'M'), (1_000_000_000, 'G'), (1_000_000_000_000, 'T'), (1_000_000_000_000_000, 'P')];
    let fits = units.iter().map(|(size, unit)| format!("{}{unit}", n / size)).find(|text| text.len() <= width);
    fits.unwrap_or_else(|| "#".repeat(width))
}

/// Appends `value` as one line of JSON, with `\u` escapes for what is unfit.
pub fn json_line<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    let start = out.len();
    let mut serializer = Serializer::with_formatter(&mut *out, Escaping(CompactFormatter));
    match value.serialize(&mut serializer) {
        Ok(()) => out.push(b'\n'),
        // Our lines are structs with text keys, written to memory: this cannot fail. Half a line would be worse.
        Err(_) => out.truncate(start),
    }
}

struct Escaping(CompactFormatter);

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if !fragment.contains(unfit) {
            return self.0.write_string_fragment(writer, fragment);
        }
        for c in fragment.chars() {
            let mut utf8 = [0; 4];
            if unfit(c) {
                // All of them are in the basic plane: one escape.
                write!(writer, "\\u{:04x}", u32::from(c))?;
            } else {
                writer.write_all(c.encode_utf8(&mut utf8).as_bytes())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_gets_to_a_terminal() {
        let hostile = "\u{1b}[2Jcl\u{9b}2Jear\u{7}\r\n\t\u{202e}evil\u{feff}\u{7f}";
        assert_eq!(shown(hostile, 80), "?[2Jcl?2Jear?????evil??");
        let mut line = Vec::new();
        json_line(&hostile, &mut line);
        let text = String::from_utf8(line).unwrap();
        assert!(text.trim_end().chars().all(|c| !unfit(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), hostile, "and JSON readers get it back");
    }

    #[test]
    fn text_is_cut_to_columns_and_says_so() {
        for (text, width, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab~"),
            ("abcd", 1, "~"),
            ("abcd", 0, ""),
            ("\u{6e29}\u{5ea6}\u{8a08}", 6, "\u{6e29}\u{5ea6}\u{8a08}"),
            ("\u{6e29}\u{5ea6}\u{8a08}", 5, "\u{6e29}\u{5ea6}~"),
            ("\u{6e29}\u{5ea6}\u{8a08}", 4, "\u{6e29}~"),
        ] {
            assert_eq!(shown(text, width), expected, "{text} in {width}");
        }
        assert_eq!(padded("ab", 4), "ab  ");
        assert_eq!(padded("abcdef", 4), "abc~");
    }

    #[test]
    fn numbers_are_grouped() {
        for (n, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567")] {
            assert_eq!(grouped(n), expected);
        }
        for (n, expected) in [(9_999, "9,999"), (12_345, "12k"), (u64::MAX, "18446P"), (1 << 53, "9007T")] {
            assert_eq!(fitted(n, 6.min(expected.len())), expected);
        }
    }
}
