//! The typed reader: takes keys out of a section one by one, checks type and limits by the key table, and remembers the
//! origin of each value. A key that nobody took is unknown. Never stops at the first error: it goes on with the default.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::keys::{self, Key, Kind};
use super::problem::{Origin, Problem};
use super::tree::{self, Data, Node, Table};
use super::{Rate, Setting, Surroundings, Watch, nearest, units};

/// One section or `[[collector]]` entry while its keys are being taken.
pub(super) struct Section {
    /// How its keys are called in messages: `broker`, `collector.cpu`.
    pub path: String,
    pub origin: Origin,
    pub keys: Cow<'static, [Key]>,
    pub table: Table,
}

pub(super) struct Reader<'a> {
    pub around: &'a Surroundings<'a>,
    pub problems: Vec<Problem>,
    /// The effective value of each key with its origin, in the order of reading.
    pub settings: Vec<Setting>,
    /// A source could not be read: what is missing may stand there.
    pub incomplete: bool,
    pub watch: Watch,
}

/// Why a value does not fit.
pub(super) struct Misfit {
    message: String,
    hint: Option<String>,
}

impl Misfit {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn kind(wanted: &str, node: &Node) -> Self {
        Self::new(format!("expected {wanted}, found {}", node.data.kind()))
    }
}

impl Reader<'_> {
    pub fn error(&mut self, path: &str, message: impl std::fmt::Display, hint: &str) {
        let origin = self.origin_of(path);
        self.problems.push(Problem::error(&origin, format!("{path}: {message}")).hint(hint));
    }

    pub fn warn(&mut self, path: &str, message: impl std::fmt::Display, hint: &str) {
        let origin = self.origin_of(path);
        self.problems.push(Problem::warning(&origin, format!("{path}: {message}")).hint(hint));
    }

    pub fn origin_of(&self, path: &str) -> Origin {
        self.settings.iter().find(|setting| setting.path == path).map_or(Origin::Default, |found| found.origin.clone())
    }

    pub fn bool(&mut self, section: &mut Section, name: &str) -> Option<bool> {
        let value = self.read(section, name, |node, _| match &node.data {
            Data::Bool(value) => Ok(*value),
            Data::Str(text) if is_env(node) => {
                text.parse().map_err(|_| Misfit::new(format!("{text:?} is neither true nor false")))
            }
            _ => Err(Misfit::kind("true or false", node)),
        })?;
        self.show(section, name, value.to_string());
        Some(value)
    }

    pub fn int(&mut self, section: &mut Section, name: &str) -> Option<i64> {
        let value = self.read(section, name, |node, key| {
            let value = match &node.data {
                Data::Int(value) => *value,
                Data::Str(text) if is_env(node) => {
                    text.trim().parse().map_err(|_| Misfit::new(format!("{text:?} is no whole number")))?
                }
                _ => return Err(Misfit::kind("a whole number", node)),
            };
            match key.kind {
                Kind::Int(min, max) if !(min..=max).contains(&value) => {
                    Err(Misfit::new(format!("{value} is outside {min} to {max}")))
                }
                _ => Ok(value),
            }
        })?;
        self.show(section, name, value.to_string());
        Some(value)
    }

    pub fn number(&mut self, section: &mut Section, name: &str) -> Option<f64> {
        let value = self.read(section, name, |node, _| match &node.data {
            Data::Int(value) => Ok(*value as f64),
            Data::Float(value) if value.is_finite() => Ok(*value),
            Data::Float(value) => Err(Misfit::new(format!("{value} is no finite number"))),
            _ => Err(Misfit::kind("a number", node)),
        })?;
        self.show(section, name, format!("{value:?}"));
        Some(value)
    }

    pub fn duration(&mut self, section: &mut Section, name: &str) -> Option<Duration> {
        let value = self.read(section, name, |node, key| {
            let Data::Str(text) = &node.data else {
                return Err(Misfit::kind("a duration", node).hint(units::DURATION_HINT));
            };
            let Some(value) = units::parse_duration(text) else {
                return Err(Misfit::new(format!("{text:?} is not a duration")).hint(units::DURATION_HINT));
            };
            match key.kind {
                Kind::Duration(min, max) => {
                    within(value, Duration::from_millis(min), Duration::from_millis(max), units::duration)
                }
                _ => Ok(value),
            }
        })?;
        self.show(section, name, quote(&units::duration(value)));
        Some(value)
    }

    pub fn size(&mut self, section: &mut Section, name: &str) -> Option<u64> {
        let value = self.read(section, name, |node, key| {
            let Data::Str(text) = &node.data else {
                return Err(Misfit::kind("a size", node).hint(units::SIZE_HINT));
            };
            let Some(value) = units::parse_size(text) else {
                return Err(Misfit::new(format!("{text:?} is not a size")).hint(units::SIZE_HINT));
            };
            match key.kind {
                Kind::Size(min, max) => within(value, min, max, units::size),
                _ => Ok(value),
            }
        })?;
        self.show(section, name, quote(&units::size(value)));
        Some(value)
    }

    /// A size for each second, or the word for no limit.
    pub fn rate(&mut self, section: &mut Section, name: &str) -> Option<Rate> {
        let value = self.read(section, name, |node, key| {
            let hint = || format!("{}; or {:?}", units::SIZE_HINT, keys::UNLIMITED);
            let Data::Str(text) = &node.data else {
                return Err(Misfit::kind("a size", node).hint(hint()));
            };
            if text == keys::UNLIMITED {
                return Ok(Rate::Unlimited);
            }
            let Some(value) = units::parse_size(text) else {
                return Err(Misfit::new(format!("{text:?} is not a size")).hint(hint()));
            };
            let Kind::Rate(min, max) = key.kind else { return Ok(Rate::Bytes(value)) };
            within(value, min, max, units::size).map(Rate::Bytes)
        })?;
        let shown = match value {
            Rate::Unlimited => keys::UNLIMITED.to_owned(),
            Rate::Bytes(bytes) => units::size(bytes),
        };
        self.show(section, name, quote(&shown));
        Some(value)
    }

    /// Text, a name, or one of the words that the key allows.
    pub fn text(&mut self, section: &mut Section, name: &str) -> Option<String> {
        let value = self.read(section, name, |node, key| match &node.data {
            Data::Str(text) => check_text(text, key.kind).map(|()| text.clone()),
            _ => Err(Misfit::kind("a string", node)),
        })?;
        self.show(section, name, quote(&value));
        Some(value)
    }

    /// A list of texts; from the environment separated by commas.
    pub fn texts(&mut self, section: &mut Section, name: &str) -> Option<Vec<String>> {
        let value = self.read(section, name, |node, _| match &node.data {
            Data::Str(text) if is_env(node) => Ok(text.split(',').map(|part| part.trim().to_owned()).collect()),
            Data::List(items) => items.iter().map(list_text).collect::<Result<Vec<_>, _>>(),
            _ => Err(Misfit::kind("a list of strings", node).hint("write [\"one\", \"two\"]")),
        })?;
        let shown: Vec<String> = value.iter().map(|text| quote(text)).collect();
        self.show(section, name, format!("[{}]", shown.join(", ")));
        Some(value)
    }

    /// A path, made absolute: relative ones count from the folder of the file they stand in, `$STATE_DIRECTORY/` and
    /// `$CREDENTIALS_DIRECTORY/` at the start are what systemd says.
    pub fn path(&mut self, section: &mut Section, name: &str) -> Option<PathBuf> {
        let around = self.around;
        let value = self.read(section, name, |node, _| match &node.data {
            Data::Str(text) => {
                check_text(text, Kind::Text)?;
                resolve(text, &node.origin, around)
            }
            _ => Err(Misfit::kind("a path", node)),
        })?;
        self.show(section, name, quote(&value.to_string_lossy()));
        Some(value)
    }

    /// The entries of a sub-table.
    pub fn table(&mut self, section: &mut Section, name: &str, keys: Cow<'static, [Key]>) -> Section {
        let path = format!("{}.{name}", section.path);
        match section.table.0.remove(name) {
            Some((_, Node { data: Data::Table(table), origin })) => Section { path, origin, keys, table },
            Some((_, node)) => {
                let message = format!("{path}: expected a table, found {}", node.data.kind());
                self.problems.push(Problem::error(&node.origin, message).hint("write { key = value }"));
                Section { path, origin: node.origin, keys, table: Table::default() }
            }
            None => Section { path, origin: section.origin.clone(), keys, table: Table::default() },
        }
    }

    /// Whether the key stands in a file or the environment.
    pub fn given(&self, section: &Section, name: &str) -> bool {
        section.table.0.contains_key(name)
    }

    /// The text of a key that is not taken yet.
    pub fn peek<'s>(&self, section: &'s Section, name: &str) -> Option<&'s str> {
        match &section.table.0.get(name)?.1.data {
            Data::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Reports what nobody took.
    pub fn finish(&mut self, section: Section) {
        for (name, (at, _)) in section.table.0 {
            let names: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
            let hint = match nearest(&name, &names) {
                Some(close) => format!("did you mean {close}?"),
                None if names.is_empty() => "there is nothing to set here".to_owned(),
                None => format!("the keys here are {}", names.join(", ")),
            };
            self.problems.push(Problem::error(&at, format!("unknown key {}.{name}", section.path)).hint(hint));
        }
    }

    /// Replaces what is shown and remembered for a key that was derived rather than read.
    pub fn derive(&mut self, path: &str, shown: String) {
        self.settings.push(Setting { path: path.to_owned(), shown, origin: Origin::Default });
    }

    fn read<T>(
        &mut self,
        section: &mut Section,
        name: &str,
        convert: impl Fn(&Node, &Key) -> Result<T, Misfit>,
    ) -> Option<T> {
        let key = *section.keys.iter().find(|key| key.name == name).expect("read keys are in the key table (tested)");
        let key = &key;
        if let Some((_, node)) = section.table.0.remove(name) {
            self.remember(section, name, node.origin.clone());
            match convert(&node, key) {
                Ok(value) => return Some(value),
                Err(misfit) => {
                    let message = format!("{}.{name}: {}", section.path, misfit.message);
                    let problem = Problem::error(&node.origin, message);
                    self.problems.push(match misfit.hint {
                        Some(hint) => problem.hint(hint),
                        None => problem.hint(key.about),
                    });
                }
            }
        } else if !key.default.is_empty() {
            self.remember(section, name, Origin::Default);
        }
        let node = default_node(key)?;
        convert(&node, key).ok()
    }

    fn remember(&mut self, section: &Section, name: &str, origin: Origin) {
        let path = format!("{}.{name}", section.path);
        self.settings.push(Setting { path, shown: String::new(), origin });
    }

    fn show(&mut self, section: &Section, name: &str, shown: String) {
        let path = format!("{}.{name}", section.path);
        if let Some(setting) = self.settings.iter_mut().rev().find(|setting| setting.path == path) {
            setting.shown = shown;
        }
    }
}

fn default_node(key: &Key) -> Option<Node> {
    let (table, problems) = tree::parse(&Arc::from("default"), &format!("value = {}", key.default));
    if key.default.is_empty() || !problems.is_empty() {
        return None;
    }
    table.0.into_values().next().map(|(_, node)| Node { origin: Origin::Default, ..node })
}

fn is_env(node: &Node) -> bool {
    matches!(node.origin, Origin::Env(_))
}

fn list_text(node: &Node) -> Result<String, Misfit> {
    match &node.data {
        Data::Str(text) => check_text(text, Kind::Texts).map(|()| text.clone()),
        _ => Err(Misfit::new(format!("a list member is {}, not a string", node.data.kind()))),
    }
}

fn within<T: PartialOrd + Copy>(value: T, min: T, max: T, show: fn(T) -> String) -> Result<T, Misfit> {
    if value < min || value > max {
        return Err(Misfit::new(format!("{} is outside {} to {}", show(value), show(min), show(max))));
    }
    Ok(value)
}

fn check_text(text: &str, kind: Kind) -> Result<(), Misfit> {
    if let Kind::Choice(words) = kind {
        if words.contains(&text) {
            return Ok(());
        }
        let hint = match nearest(text, words) {
            Some(close) => format!("did you mean {close:?}?"),
            None => format!("choose one of {}", words.join(", ")),
        };
        return Err(Misfit::new(format!("{text:?} is not one of {}", words.join(", "))).hint(hint));
    }
    // A program may be given an empty argument.
    if text.trim().is_empty() && kind != Kind::Texts {
        return Err(Misfit::new("it is empty").hint("leave the key out, or give it a value"));
    }
    if text.chars().any(char::is_control) {
        return Err(Misfit::new("it holds a control character").hint("check for stray line ends and escapes"));
    }
    if kind == Kind::Name {
        return check_name(text);
    }
    Ok(())
}

/// A topic level of ours.
pub(super) fn check_name(text: &str) -> Result<(), Misfit> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !text.bytes().all(allowed) {
        let fixed: String = text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
        return Err(Misfit::new(format!("{text:?} may hold only letters, digits, '_' and '-'"))
            .hint(format!("for example {fixed:?}")));
    }
    if text.len() > super::MAX_NAME {
        return Err(Misfit::new(format!("it has {} characters, at most {} are allowed", text.len(), super::MAX_NAME)));
    }
    Ok(())
}

fn resolve(text: &str, origin: &Origin, around: &Surroundings<'_>) -> Result<PathBuf, Misfit> {
    if let Some(rest) = text.strip_prefix('$') {
        let (variable, tail) = rest.split_once('/').unwrap_or((rest, ""));
        if !matches!(variable, "CREDENTIALS_DIRECTORY" | "STATE_DIRECTORY") {
            return Err(Misfit::new(format!("${variable} is not replaced in paths"))
                .hint("only $CREDENTIALS_DIRECTORY and $STATE_DIRECTORY are"));
        }
        return match around.directory(variable) {
            Some(folder) => Ok(folder.join(tail)),
            None => Err(Misfit::new(format!("${variable} is not set"))
                .hint("systemd sets it for units with LoadCredential= or StateDirectory=")),
        };
    }
    let path = Path::new(text);
    match origin {
        _ if path.has_root() => Ok(path.to_owned()),
        Origin::File { file, .. } => {
            Ok(std::path::absolute(Path::new(&**file).parent().unwrap_or(Path::new(".")).join(path))
                .unwrap_or_else(|_| path.to_owned()))
        }
        _ => {
            Err(Misfit::new(format!("{text:?} is relative"))
                .hint("outside of files only absolute paths have a meaning"))
        }
    }
}

/// A string as a TOML literal.
pub(super) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
