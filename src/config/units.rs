//! Durations and sizes as people write them: `10s`, `5m`, `256MiB`. Also the way back, for the effective configuration.

use std::time::Duration;

const DURATIONS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 7 * 86_400_000)];

const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

pub const DURATION_HINT: &str =
    "write a number and a unit: \"500ms\", \"10s\", \"5m\", \"1h\", \"7d\", or a sum: \"1h30m\"";
pub const SIZE_HINT: &str = "write a number and a unit: \"64KiB\", \"256MiB\", \"1GiB\", \"480kB\"";

/// A sum of number-unit pairs, largest first or not: `90s`, `1h30m`, `1.5h`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (amount, unit, tail) = pair(rest)?;
        total = total.checked_add(scale(amount, unit, DURATIONS)?)?;
        rest = tail;
    }
    Some(Duration::from_millis(total))
}

/// One number-unit pair in bytes. `K`, `M`, `G` without `B` are refused: they mean two things.
pub fn parse_size(text: &str) -> Option<u64> {
    let (amount, unit, tail) = pair(text.trim())?;
    if tail.is_empty() { scale(amount, unit, SIZES) } else { None }
}

/// Splits off the first number, its unit, and what follows them.
fn pair(text: &str) -> Option<(&str, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|&end| end > 0)?;
    let (amount, tail) = text.split_at(digits);
    let tail = tail.trim_start();
    let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
    let (unit, tail) = tail.split_at(letters);
    Some((amount, unit, tail.trim_start()))
}

/// Exact in integers; a fraction is allowed as long as the result is a whole number.
fn scale(amount: &str, unit: &str, units: &[(&str, u64)]) -> Option<u64> {
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    let whole: u64 = whole.parse().ok()?;
    if amount.contains('.') && fraction.is_empty() {
        return None;
    }
    let mut total = whole.checked_mul(factor)?;
    if !fraction.is_empty() {
        let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = fraction.parse::<u64>().ok()?.checked_mul(factor)?;
        if part % scale != 0 {
            return None;
        }
        total = total.checked_add(part / scale)?;
    }
    Some(total)
}

/// The shortest exact form: `90s` rather than `1m30s`, `5m` rather than `300s`.
pub fn duration(value: Duration) -> String {
    let ms = value.as_millis();
    let exact = DURATIONS.iter().rev().find(|(_, unit)| ms != 0 && ms.is_multiple_of(u128::from(*unit)));
    match exact {
        Some((name, unit)) => format!("{}{name}", ms / u128::from(*unit)),
        None if ms == 0 => "0s".to_owned(),
        None => format!("{ms}ms"),
    }
}

/// The shortest exact form, binary units first.
pub fn size(bytes: u64) -> String {
    let largest = |units: &[&str]| {
        let known = SIZES.iter().rev().filter(|(name, _)| units.contains(name));
        known
            .clone()
            .find(|(_, unit)| bytes != 0 && bytes.is_multiple_of(*unit))
            .map(|(name, unit)| (bytes / unit, *name))
    };
    let exact = largest(&["TiB", "GiB", "MiB", "KiB"]).or_else(|| largest(&["TB", "GB", "MB", "kB"]));
    exact.map_or_else(|| format!("{bytes}B"), |(amount, name)| format!("{amount}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print() {
        let cases =
            [("500ms", 500, "500ms"), ("10s", 10_000, "10s"), ("5m", 300_000, "5m"), ("1h30m", 5_400_000, "90m")];
        for (text, ms, shown) in cases {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
            assert_eq!(duration(Duration::from_millis(ms)), shown);
        }
        assert_eq!(parse_duration("1.5h"), Some(Duration::from_secs(5_400)));
        assert_eq!(parse_duration(" 2 d "), Some(Duration::from_secs(172_800)));
        assert_eq!(duration(Duration::ZERO), "0s");
    }

    #[test]
    fn bad_durations_are_refused() {
        for text in
            ["", "10", "s", "10 parsecs", "-5s", "1.s", "1.0001s", "10s5", "1e3s", "99999999999999999999s", "10S"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes, shown) in [
            ("256MiB", 256 << 20, "256MiB"),
            ("480kB", 480_000, "480kB"),
            ("1 GiB", 1 << 30, "1GiB"),
            ("1.5MiB", 3 << 19, "1536KiB"),
            ("12B", 12, "12B"),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(size(bytes), shown);
        }
        for text in ["", "256", "256M", "MiB", "-1MiB", "1MiB2", "99999999TiB", "0.0001B"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
