//! Reading the kernel's text files: words, numbers, names that are not always UTF-8. Never panics, never allocates
//! for what it only looks at.

use std::borrow::Cow;

use crate::record::{ErrorKind, RunError};

/// Longest name taken from the host into a tag (a mount point, an interface, a process).
const MAX_NAME: usize = 255;
/// Longest excerpt of foreign text in a message.
const MAX_EXCERPT: usize = 120;

pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&b| b == b'\n').filter(|line| !line.is_empty())
}

pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| b.is_ascii_whitespace()).filter(|word| !word.is_empty())
}

/// A decimal number without sign that fits 64 bits.
pub fn uint(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0u64, |n, &b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

/// A finite decimal number, as in `/proc/loadavg`.
pub fn float(word: &[u8]) -> Option<f64> {
    std::str::from_utf8(word).ok()?.parse().ok().filter(|x: &f64| x.is_finite())
}

/// Whether `name` is `pattern`; a `*` at the end of the pattern stands for any rest.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.strip_suffix(b"*") {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

/// Foreign bytes as one harmless line: invalid UTF-8 and control characters replaced, cut at `max` bytes.
pub fn clean(bytes: &[u8], max: usize) -> String {
    let cut = bytes.len() > max;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(max)]);
    let mut line: String = text.chars().map(|c| if c.is_control() || is_bidi(c) { '\u{fffd}' } else { c }).collect();
    if cut {
        line.push_str("...");
    }
    line
}

/// Characters that make a terminal show text in another order than it is.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// A name for a tag.
pub fn name(bytes: &[u8]) -> Cow<'static, str> {
    Cow::Owned(clean(bytes, MAX_NAME))
}

/// A short excerpt for a message, in quotes.
pub fn excerpt(bytes: &[u8]) -> String {
    format!("`{}`", clean(bytes, MAX_EXCERPT))
}

/// The file was read and is not what the kernel documents.
pub fn malformed(file: &str, what: &str, line: &[u8]) -> RunError {
    let found = if line.is_empty() { "nothing".to_owned() } else { excerpt(line) };
    RunError::new(ErrorKind::Parse, format!("/{file}: expected {what}, found {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_strict() {
        assert_eq!(uint(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "18446744073709551616", "-1", "+1", "1x", "0x1", " 1"] {
            assert_eq!(uint(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(float(b"0.25"), Some(0.25));
        assert_eq!(float(b"nan"), None);
        assert_eq!(float(b"inf"), None);
    }

    #[test]
    fn foreign_text_becomes_one_harmless_line() {
        assert_eq!(clean(b"a\x1b[31m\r\nb\xff\0", 100), "a\u{fffd}[31m\u{fffd}\u{fffd}b\u{fffd}\u{fffd}");
        assert_eq!(clean("x\u{202e}y".as_bytes(), 100), "x\u{fffd}y");
        assert_eq!(clean(b"abcdef", 3), "abc...");
    }
}
