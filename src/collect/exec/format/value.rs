//! A single value on a single line: `42`, `0.5`, `true`. A number or boolean is the field `value`; any other text is
//! the field `text`, so that the type of `value` does not change when a script prints `N/A`, and is read so only where
//! the configuration says that this is the format.

use std::borrow::Cow;

use super::reading::{self, Reading};
use super::{Likeness, Output, Spec};
use crate::record::Value;

pub(super) const SPEC: Spec =
    Spec { name: "value", about: "one number, boolean or text on one line", exit_is_data: false, detect, parse };

fn detect(output: &Output<'_>) -> Likeness {
    let mut lines = output.lines();
    match (lines.next(), lines.next()) {
        (Some((_, line)), None) if std::str::from_utf8(line).is_ok_and(|text| plain(text).is_some()) => {
            Likeness::Probably
        }
        _ => Likeness::No,
    }
}

fn parse(output: &Output<'_>, reading: &mut Reading<'_>) {
    let mut lines = output.lines();
    let Some((at, line)) = lines.next() else { return };
    if let Some((second, line)) = lines.next() {
        return reading.refuse(second, line, "one line with one value was expected, and this is another");
    }
    let mut point = reading.defaults().point();
    let value = reading::utf8(line).and_then(|text| match plain(text) {
        Some(value) => Ok(("value", value)),
        None if text.parse::<f64>().is_ok() => Err("no finite number".to_owned()),
        None => Ok(("text", Value::Str(text.to_owned()))),
    });
    let point = value.map(|(field, value)| {
        point.fields.insert(Cow::Borrowed(field), value);
        point
    });
    reading.line(at, line, point);
}

/// A number or a boolean.
fn plain(text: &str) -> Option<Value> {
    match text {
        "true" | "True" | "TRUE" => return Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Value::Bool(false)),
        _ => {}
    }
    if let Ok(n) = text.parse() {
        return Some(Value::int(n));
    }
    match text.parse() {
        Ok(n) => Some(Value::uint(n)),
        Err(_) => Value::float(text.parse().ok()?),
    }
}
