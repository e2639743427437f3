//! Parameters of a collector: declared by it, checked before it is built, so that a wrong one is an error of the
//! configuration and never of a run. Knows no file and no line; the configuration adds those.

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// An array of strings.
    List,
    Str,
    /// A whole number, 0 or more.
    Int,
    Bool,
    /// A string such as `5s`, `250ms`, `1m`.
    Duration,
}

impl ParamKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::List => "a list of strings",
            Self::Str => "a string",
            Self::Int => "a whole number",
            Self::Bool => "true or false",
            Self::Duration => "a duration such as \"5s\"",
        }
    }
}

/// One parameter that a collector takes.
#[derive(Clone, Copy, Debug)]
pub struct ParamSpec {
    pub name: &'static str,
    pub kind: ParamKind,
    pub about: &'static str,
    /// As written in TOML; for documentation, the collector applies it itself.
    pub default: &'static str,
}

/// A value as the configuration gives it; a duration arrives as a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamValue {
    List(Vec<String>),
    Str(String),
    Int(i64),
    Bool(bool),
}

impl ParamValue {
    /// `None` for what no parameter can be (a table, a float, a date, a list of other things).
    pub fn from_toml(value: &toml::Value) -> Option<Self> {
        match value {
            toml::Value::String(s) => Some(Self::Str(s.clone())),
            toml::Value::Integer(n) => Some(Self::Int(*n)),
            toml::Value::Boolean(b) => Some(Self::Bool(*b)),
            toml::Value::Array(items) => {
                let strings = items.iter().map(|item| item.as_str().map(str::to_owned));
                strings.collect::<Option<Vec<_>>>().map(Self::List)
            }
            _ => None,
        }
    }

    fn describe(&self) -> &'static str {
        match self {
            Self::List(_) => "a list of strings",
            Self::Str(_) => "a string",
            Self::Int(_) => "a number",
            Self::Bool(_) => "a boolean",
        }
    }
}

/// What is wrong with a parameter.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ParamError {
    #[error("unknown parameter `{param}`; {}", known_list(.known))]
    Unknown { param: String, known: Vec<&'static str> },
    #[error("parameter `{param}` must be {want}, not {got}")]
    Type { param: &'static str, want: &'static str, got: &'static str },
    #[error("parameter `{param}`: {reason}")]
    Value { param: &'static str, reason: String },
}

fn known_list(known: &[&str]) -> String {
    if known.is_empty() {
        "this collector takes none".to_owned()
    } else {
        format!("this collector takes {}", known.join(", "))
    }
}

impl ParamError {
    /// A value of the right type that cannot be used.
    pub fn value(param: &'static str, reason: impl Into<String>) -> Self {
        Self::Value { param, reason: reason.into() }
    }

    /// The parameter at fault.
    pub fn param(&self) -> &str {
        match self {
            Self::Unknown { param, .. } => param,
            Self::Type { param, .. } | Self::Value { param, .. } => param,
        }
    }
}

/// The checked parameters of one collector; those not given are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<&'static str, ParamValue>);

impl Params {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one parameter that `specs` declares.
    pub fn set(&mut self, specs: &'static [ParamSpec], param: &str, value: ParamValue) -> Result<(), ParamError> {
        let Some(spec) = specs.iter().find(|spec| spec.name == param) else {
            let known = specs.iter().map(|spec| spec.name).collect();
            return Err(ParamError::Unknown { param: param.to_owned(), known });
        };
        match (spec.kind, &value) {
            (ParamKind::List, ParamValue::List(_))
            | (ParamKind::Str, ParamValue::Str(_))
            | (ParamKind::Bool, ParamValue::Bool(_)) => {}
            (ParamKind::Int, ParamValue::Int(n)) if *n >= 0 => {}
            (ParamKind::Int, ParamValue::Int(_)) => return Err(ParamError::value(spec.name, "must not be negative")),
            (ParamKind::Duration, ParamValue::Str(text)) if parse_duration(text).is_some() => {}
            (ParamKind::Duration, ParamValue::Str(text)) => {
                return Err(ParamError::value(spec.name, format!("`{text}` is not a duration such as \"5s\"")));
            }
            (kind, value) => {
                return Err(ParamError::Type { param: spec.name, want: kind.as_str(), got: value.describe() });
            }
        }
        self.0.insert(spec.name, value);
        Ok(())
    }

    pub fn list(&self, param: &str) -> &[String] {
        match self.0.get(param) {
            Some(ParamValue::List(items)) => items,
            _ => &[],
        }
    }

    pub fn str(&self, param: &str) -> Option<&str> {
        match self.0.get(param) {
            Some(ParamValue::Str(text)) => Some(text),
            _ => None,
        }
    }

    pub fn uint(&self, param: &str) -> Option<u64> {
        match self.0.get(param) {
            Some(ParamValue::Int(n)) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    pub fn bool(&self, param: &str) -> Option<bool> {
        match self.0.get(param) {
            Some(ParamValue::Bool(b)) => Some(*b),
            _ => None,
        }
    }

    pub fn duration(&self, param: &str) -> Option<Duration> {
        self.str(param).and_then(parse_duration)
    }
}

/// `250ms`, `5s`, `1m`, `2h`, `1d`: one whole number and its unit, at most 10 years.
fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let ms = digits.parse::<u64>().ok()?.checked_mul(factor)?;
    (ms <= 3_650 * 86_400_000).then(|| Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[ParamSpec] = &[
        ParamSpec { name: "names", kind: ParamKind::List, about: "", default: "[]" },
        ParamSpec { name: "wait", kind: ParamKind::Duration, about: "", default: "\"5s\"" },
        ParamSpec { name: "top", kind: ParamKind::Int, about: "", default: "0" },
    ];

    #[test]
    fn unknown_and_mistyped_parameters_say_what_is_known_and_wanted() {
        let mut params = Params::new();
        let error = params.set(SPECS, "nmes", ParamValue::Bool(true)).unwrap_err();
        assert_eq!(error.to_string(), "unknown parameter `nmes`; this collector takes names, wait, top");
        let error = params.set(SPECS, "names", ParamValue::Str("a".into())).unwrap_err();
        assert_eq!(error.to_string(), "parameter `names` must be a list of strings, not a string");
        let error = params.set(SPECS, "wait", ParamValue::Str("5 s".into())).unwrap_err();
        assert_eq!(error.to_string(), "parameter `wait`: `5 s` is not a duration such as \"5s\"");
        let error = params.set(SPECS, "top", ParamValue::Int(-1)).unwrap_err();
        assert_eq!(error.to_string(), "parameter `top`: must not be negative");
        let error = params.set(&[], "x", ParamValue::Int(1)).unwrap_err();
        assert_eq!(error.to_string(), "unknown parameter `x`; this collector takes none");
    }

    #[test]
    fn given_parameters_are_read_back_and_others_are_absent() {
        let mut params = Params::new();
        let toml: toml::Table = toml::from_str("names = ['a', 'b']\nwait = '250ms'\ntop = 3").unwrap();
        for (key, value) in &toml {
            params.set(SPECS, key, ParamValue::from_toml(value).unwrap()).unwrap();
        }
        assert_eq!(params.list("names"), ["a", "b"]);
        assert_eq!(params.duration("wait"), Some(Duration::from_millis(250)));
        assert_eq!(params.uint("top"), Some(3));
        assert_eq!(Params::new().duration("wait"), None);
        assert_eq!(ParamValue::from_toml(&toml::Value::Float(1.0)), None);
    }

    #[test]
    fn durations_have_one_number_and_a_unit() {
        assert_eq!(parse_duration("1d"), Some(Duration::from_secs(86_400)));
        for bad in ["", "5", "s", "-5s", "1.5s", "5S", "99999999999999999999s", "99999999d"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
