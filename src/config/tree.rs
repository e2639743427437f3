//! Untyped configuration: values that know where they came from, and how files and environment merge into one table.
//!
//! Later sources win value by value; entries in double brackets add up; other lists are replaced whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::REPEATED;
use super::problem::{Origin, Problem, reading_order};

/// Deeper nesting than this means nothing here.
const MAX_DEPTH: usize = 8;
/// What a variable must start with; `__` separates the levels: `HOLDOVER__BROKER__URL`.
pub const ENV_PREFIX: &str = "HOLDOVER__";

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub data: Data,
    pub origin: Origin,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    Str(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Date(String),
    List(Vec<Node>),
    Table(Table),
}

impl Data {
    /// For messages: "expected a duration, found a list".
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Str(_) => "a string",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a boolean",
            Self::Date(_) => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Keys with the place of the key itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table(pub BTreeMap<String, (Origin, Node)>);

impl Table {
    /// Takes everything of `other`, which wins.
    pub fn merge(&mut self, other: Self) {
        for (name, (at, node)) in other.0 {
            let Some((_, old)) = self.0.get_mut(&name) else {
                self.0.insert(name, (at, node));
                continue;
            };
            match (&mut old.data, node.data) {
                (Data::Table(old), Data::Table(new)) => old.merge(new),
                (Data::List(old), Data::List(new)) if REPEATED.contains(&&*name) => old.extend(new),
                (_, data) => *old = Node { data, origin: node.origin },
            }
        }
    }
}

/// One file's text as a table; what could not be read is a problem each.
pub(super) fn parse(file: &Arc<str>, text: &str) -> (Table, Vec<Problem>) {
    let places = Places { file: file.clone(), text };
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = errors.iter().map(|error| places.syntax(error)).collect();
    // The parser goes on after a mistake and then often trips over the rest of the same line.
    problems.sort_by_cached_key(reading_order);
    problems.dedup_by_key(|problem| line(problem));
    let table = if problems.is_empty() {
        places.table(document.into_inner(), 0, &mut problems)
    } else {
        // A half-written file would only give misleading findings about what is missing.
        Table::default()
    };
    (table, problems)
}

fn line(problem: &Problem) -> Option<usize> {
    match problem.origin {
        Some(Origin::File { line, .. }) => Some(line),
        _ => None,
    }
}

struct Places<'a> {
    file: Arc<str>,
    text: &'a str,
}

impl Places<'_> {
    fn origin(&self, at: usize) -> Origin {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
        Origin::File { file: self.file.clone(), line, column: before[line_start..].chars().count() + 1 }
    }

    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let origin = self.origin(error.span().map_or(self.text.len(), |span| span.start));
        Problem::error(&origin, format!("not valid TOML: {}", error.message()))
            .hint("strings stand in double quotes, sections in [brackets], collectors in [[collector]]")
    }

    fn table(&self, table: DeTable<'_>, depth: usize, problems: &mut Vec<Problem>) -> Table {
        let entry = |(key, value): (Spanned<_>, Spanned<DeValue<'_>>)| {
            let at = self.origin(key.span().start);
            let name: std::borrow::Cow<'_, str> = key.into_inner();
            (name.into_owned(), (at, self.node(value, depth + 1, problems)))
        };
        Table(table.into_iter().map(entry).collect())
    }

    fn node(&self, value: Spanned<DeValue<'_>>, depth: usize, problems: &mut Vec<Problem>) -> Node {
        let origin = self.origin(value.span().start);
        if depth > MAX_DEPTH {
            problems.push(Problem::error(&origin, format!("nested deeper than {MAX_DEPTH} levels")));
            return Node { data: Data::Table(Table::default()), origin };
        }
        let data = match value.into_inner() {
            DeValue::String(text) => Data::Str(text.into_owned()),
            DeValue::Integer(int) => match i64::from_str_radix(int.as_str(), int.radix()) {
                Ok(int) => Data::Int(int),
                Err(_) => {
                    problems.push(Problem::error(&origin, format!("{int} does not fit into 64 bits")));
                    Data::Int(0)
                }
            },
            DeValue::Float(float) => Data::Float(float.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Data::Bool(value),
            DeValue::Datetime(date) => Data::Date(date.to_string()),
            DeValue::Array(array) => {
                Data::List(array.into_iter().map(|value| self.node(value, depth + 1, problems)).collect())
            }
            DeValue::Table(table) => Data::Table(self.table(table, depth, problems)),
        };
        Node { data, origin }
    }
}

/// The variables that begin with [`ENV_PREFIX`], as a table of strings; the reader turns them into the type it needs.
pub(super) fn from_env(env: &[(String, String)]) -> (Table, Vec<Problem>) {
    let (mut root, mut problems) = (Table::default(), Vec::new());
    for (name, value) in env {
        let Some(path) = name.strip_prefix(ENV_PREFIX) else { continue };
        let origin = Origin::Env(Arc::from(name.as_str()));
        let levels: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
        let [section, key] = levels.as_slice() else {
            let hint = "variables are HOLDOVER__SECTION__KEY, as HOLDOVER__BROKER__URL for url in [broker]";
            problems.push(Problem::error(&origin, "does not name one section and one key").hint(hint));
            continue;
        };
        if REPEATED.contains(&section.as_str()) {
            let hint = format!("put [[{section}]] entries into a file in conf.d");
            problems
                .push(Problem::error(&origin, format!("{section}s cannot be set by environment variables")).hint(hint));
            continue;
        }
        let node = Node { data: Data::Str(value.clone()), origin: origin.clone() };
        let inner = Table(BTreeMap::from([(key.clone(), (origin.clone(), node))]));
        let section_node = Node { data: Data::Table(inner), origin: origin.clone() };
        root.merge(Table(BTreeMap::from([(section.clone(), (origin, section_node))])));
    }
    (root, problems)
}
