//! Lines of Prometheus' text format (0.0.4) and of OpenMetrics 1.0, as they stand: what each says, not what it means
//! together with others. Names in quotes, which Prometheus 3 allows, are read as well.

/// One line.
#[derive(Debug, PartialEq)]
pub(super) enum Line<'a> {
    Type(String, Kind),
    Unit(String, &'a str),
    /// Help, or any other comment.
    Comment,
    /// `# EOF`, which ends every OpenMetrics text and no other.
    Eof,
    Sample(Sample<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    StateSet,
    Info,
    /// `unknown`, `untyped`, or no `TYPE` line.
    Unknown,
}

#[derive(Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub name: String,
    /// In the order of the text, no name twice.
    pub labels: Vec<(String, String)>,
    pub value: f64,
    /// Milliseconds, or seconds in OpenMetrics.
    pub time: Option<&'a str>,
    /// An exemplar stood behind it; it is checked and left out.
    pub exemplar: bool,
}

const BLANKS: [char; 2] = [' ', '\t'];
/// More than a record may have tags; looking for one that is there twice stays cheap.
const MAX_LABELS: usize = 100;

pub(super) fn line(text: &str) -> Result<Line<'_>, String> {
    let text = text.trim_matches(BLANKS);
    if text == "# EOF" {
        return Ok(Line::Eof);
    }
    match text.strip_prefix('#') {
        Some(comment) => meta(comment),
        None => sample(text).map(Line::Sample),
    }
}

/// What follows a `#`.
fn meta(comment: &str) -> Result<Line<'_>, String> {
    let comment = comment.trim_start_matches(BLANKS);
    let (word, rest) = comment.split_once(BLANKS).unwrap_or((comment, ""));
    let rest = rest.trim_start_matches(BLANKS);
    match word {
        "TYPE" => {
            let (name, kind) = name(rest).ok_or("`# TYPE` names no metric")?;
            let kind = kind.trim_matches(BLANKS);
            Ok(Line::Type(name, Kind::of(kind).ok_or_else(|| format!("`{kind}` is no type of a metric"))?))
        }
        "UNIT" => {
            let (name, unit) = name(rest).ok_or("`# UNIT` names no metric")?;
            Ok(Line::Unit(name, unit.trim_matches(BLANKS)))
        }
        _ => Ok(Line::Comment),
    }
}

impl Kind {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "gaugehistogram" => Self::GaugeHistogram,
            "summary" => Self::Summary,
            "stateset" => Self::StateSet,
            "info" => Self::Info,
            "unknown" | "untyped" => Self::Unknown,
            _ => return None,
        })
    }
}

/// `name{label="value",..} value [time] [# exemplar]`
fn sample(text: &str) -> Result<Sample<'_>, String> {
    let (mut metric, mut rest) = match bare(text, true) {
        Some((name, rest)) => (Some(name.to_owned()), rest),
        None => (None, text),
    };
    rest = rest.trim_start_matches(BLANKS);
    let mut all = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = labels(inside, &mut metric, &mut all)?;
    }
    let name = metric.ok_or("no name of a metric")?;
    let (value, rest) = word(rest);
    let value = number(value).ok_or_else(|| format!("the value of `{name}` is no number"))?;
    let (time, rest) = match rest.starts_with('#') {
        true => (None, rest),
        false => {
            let (time, rest) = word(rest);
            (Some(time).filter(|time| !time.is_empty()), rest)
        }
    };
    let exemplar = rest.strip_prefix('#').map(exemplar).transpose()?.is_some();
    if !exemplar && !rest.is_empty() {
        return Err("something stands behind the time".to_owned());
    }
    Ok(Sample { name, labels: all, value, time, exemplar })
}

/// ` {trace_id="..."} value [time]`, of which nothing is kept.
fn exemplar(text: &str) -> Result<(), String> {
    let inside = text.trim_start_matches(BLANKS).strip_prefix('{').ok_or("an exemplar begins with `{`")?;
    let rest = labels(inside, &mut Some(String::new()), &mut Vec::new())?;
    let (value, rest) = word(rest);
    number(value).ok_or("the value of the exemplar is no number")?;
    let (time, rest) = word(rest);
    if (!time.is_empty() && number(time).is_none()) || !rest.is_empty() {
        return Err("the time of the exemplar is none".to_owned());
    }
    Ok(())
}

/// What stands between the braces; returns what follows them. A name in quotes without a value is the metric's.
fn labels<'a>(
    mut rest: &'a str,
    metric: &mut Option<String>,
    all: &mut Vec<(String, String)>,
) -> Result<&'a str, String> {
    loop {
        rest = rest.trim_start_matches(BLANKS);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok(rest);
        }
        let quoted = rest.starts_with('"');
        let (label, after) = name_of_label(rest).ok_or("the name of a label was expected, or `}`")?;
        let after = after.trim_start_matches(BLANKS);
        match after.strip_prefix('=') {
            Some(after) => {
                let after = after.trim_start_matches(BLANKS);
                let (value, after) =
                    quote(after).ok_or_else(|| format!("the value of label `{label}` is not in quotes"))?;
                if all.iter().any(|(other, _)| *other == label) {
                    return Err(format!("label `{label}` is there twice"));
                }
                if all.len() >= MAX_LABELS {
                    return Err(format!("more than {MAX_LABELS} labels"));
                }
                all.push((label, value));
                rest = after;
            }
            None if quoted && metric.is_none() => {
                *metric = Some(label);
                rest = after;
            }
            None => return Err(format!("label `{label}` has no value")),
        }
        rest = rest.trim_start_matches(BLANKS);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err("`,` or `}` was expected after a label".to_owned()),
        }
    }
}

fn name_of_label(text: &str) -> Option<(String, &str)> {
    quote(text).or_else(|| bare(text, false).map(|(name, rest)| (name.to_owned(), rest)))
}

/// The name of a metric in a `#` line.
fn name(text: &str) -> Option<(String, &str)> {
    quote(text).or_else(|| bare(text, true).map(|(name, rest)| (name.to_owned(), rest)))
}

/// A name without quotes; only those of metrics have colons.
fn bare(text: &str, colons: bool) -> Option<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then_some((name, rest))
}

/// A text in quotes: `\\`, `\"` and `\n` are escapes, any other backslash stands for itself.
fn quote(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                c @ ('"' | '\\') => out.push(c),
                c => out.extend(['\\', c]),
            },
            c => out.push(c),
        }
    }
    None
}

/// The next word and what follows it, blanks taken off.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches(BLANKS);
    let (word, rest) = text.split_at(text.find(BLANKS).unwrap_or(text.len()));
    (word, rest.trim_start_matches(BLANKS))
}

/// As Prometheus reads it: decimal, or NaN and infinity in any case.
pub(super) fn number(word: &str) -> Option<f64> {
    word.parse().ok()
}
