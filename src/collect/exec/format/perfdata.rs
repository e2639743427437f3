//! Performance data of monitoring plugins: `'label'=value[UOM];warn;crit;min;max`, separated by white space.
//!
//! As the plugin guidelines have it, with what plugins print besides: labels without quotes that hold spaces, a unit
//! after a threshold, `U` or nothing for a value that could not be had. Field names are Telegraf's.

use crate::record::{Fields, Value};

/// One item as it stands in the text.
#[derive(Debug, PartialEq)]
pub(super) struct Item<'a> {
    pub label: String,
    pub value: f64,
    pub unit: &'a str,
    /// Warning, critical: ranges; minimum, maximum: numbers.
    limits: [&'a str; 4],
}

/// What comes next in `text`, and what follows it; `None` at the end. An item without a value is `Ok(None)`.
pub(super) fn next(text: &str) -> Option<(Result<Option<Item<'_>>, String>, &str)> {
    let text = text.trim_start();
    if text.is_empty() {
        return None;
    }
    let Some((label, rest)) = label(text) else {
        return Some((Err("performance data is `label=value[unit];warn;crit;min;max`".to_owned()), ""));
    };
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (values, rest) = rest.split_at(end);
    Some((item(label, values), rest))
}

/// Whether there is performance data here and all of it, in its plainest form, is good.
pub(super) fn is_plain(mut text: &str) -> bool {
    let mut some = false;
    while let Some((item, rest)) = next(text) {
        let quoted = text.trim_start().starts_with('\'');
        match item {
            Ok(Some(item)) if quoted || !item.label.contains(char::is_whitespace) => some = true,
            Ok(None) => {}
            _ => return false,
        }
        text = rest;
    }
    some
}

/// The label, in quotes or up to the `=`, and what follows the `=`.
fn label(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('\'') else {
        let (label, rest) = text.split_once('=')?;
        return Some((label.trim_end().to_owned(), rest));
    };
    let mut label = String::new();
    loop {
        let (part, after) = rest.split_once('\'')?;
        label.push_str(part);
        match after.strip_prefix('\'') {
            // Two quotes stand for one.
            Some(after) => {
                label.push('\'');
                rest = after;
            }
            None => return Some((label, after.trim_start().strip_prefix('=')?)),
        }
    }
}

fn item(label: String, values: &str) -> Result<Option<Item<'_>>, String> {
    if label.is_empty() {
        return Err("performance data without a label".to_owned());
    }
    let mut parts = values.split(';');
    let value = parts.next().unwrap_or_default();
    let mut limits = [""; 4];
    for (limit, part) in limits.iter_mut().zip(&mut parts) {
        *limit = part;
    }
    if parts.any(|part| !part.is_empty()) {
        return Err(format!("`{label}` has more than a value and four limits"));
    }
    if value.is_empty() || value == "U" {
        return Ok(None);
    }
    let Some((value, unit)) = number(value) else { return Err(format!("the value of `{label}` is no number")) };
    Ok(Some(Item { label, value, unit, limits }))
}

impl Item<'_> {
    /// The fields of its record, and the first limit that cannot be read.
    pub(super) fn fields(&self) -> (Fields, Option<String>) {
        let mut fields = Fields::new();
        let mut problem = None;
        let [warning, critical, min, max] = self.limits;
        put(&mut fields, "value", self.value);
        let names = [
            ("warning_lt", "warning_gt", "warning_le", "warning_ge"),
            ("critical_lt", "critical_gt", "critical_le", "critical_ge"),
        ];
        for (text, (lt, gt, le, ge)) in [warning, critical].into_iter().zip(names).filter(|(text, _)| !text.is_empty())
        {
            let Some(range) = Range::read(text) else {
                problem.get_or_insert_with(|| format!("a threshold of `{}` is no range", self.label));
                continue;
            };
            let (low, high) = if range.inside { (le, ge) } else { (lt, gt) };
            range.low.into_iter().for_each(|x| put(&mut fields, low, x));
            range.high.into_iter().for_each(|x| put(&mut fields, high, x));
        }
        for (name, text) in [("min", min), ("max", max)].into_iter().filter(|(_, text)| !text.is_empty()) {
            match number(text) {
                Some((x, _)) => put(&mut fields, name, x),
                None => {
                    problem.get_or_insert_with(|| format!("the {name} of `{}` is no number", self.label));
                }
            }
        }
        (fields, problem)
    }
}

fn put(fields: &mut Fields, name: &'static str, value: f64) {
    // `number` reads finite ones only.
    fields.extend(Value::float(value).map(|value| (name.into(), value)));
}

/// A threshold: `10` is 0 to 10, `10:` has no upper end, `~:10` no lower one; `@` turns it inside out.
struct Range {
    /// The alarm is for values within it, ends included, not for those outside.
    inside: bool,
    low: Option<f64>,
    high: Option<f64>,
}

impl Range {
    fn read(text: &str) -> Option<Self> {
        let (inside, text) = text.strip_prefix('@').map_or((false, text), |rest| (true, rest));
        let Some((low, high)) = text.split_once(':') else {
            return Some(Self { inside, low: Some(0.0), high: Some(number(text)?.0) });
        };
        let low = match low {
            "~" => None,
            "" => Some(0.0),
            low => Some(number(low)?.0),
        };
        let high = if high.is_empty() { None } else { Some(number(high)?.0) };
        (low.is_some() || high.is_some()).then_some(Self { inside, low, high })
    }
}

/// A finite decimal number and the unit that follows it.
fn number(text: &str) -> Option<(f64, &str)> {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let sign = |at: usize| usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
    let whole = sign(0) + digits(sign(0));
    let mut end = whole;
    if bytes.get(end) == Some(&b'.') {
        end += 1 + digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let first = end + 1 + sign(end + 1);
        // `5EB` are exabytes.
        end = if digits(first) > 0 { first + digits(first) } else { end };
    }
    let (number, unit) = text.split_at(end);
    // A decimal comma would be read as 0 of a unit.
    if unit.starts_with(|c: char| c == ',' || c == '.' || c.is_ascii_digit()) {
        return None;
    }
    number.parse().ok().filter(|x: &f64| x.is_finite()).map(|x| (x, unit))
}
