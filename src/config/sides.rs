//! `[scripts]`: the two sides of the old agent. The vendor's *default* file and directory, the operator's *user* file and
//! directory; what the user has wins by name, line by line and script by script.
//!
//! Each line becomes a `[[collector]]` table whose values know their line and column; a table of the same name in a TOML
//! file changes it key by key. A bad line is told and left out: it costs no other line, and no start.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::collectors::MAX_COLLECTORS;
use super::line::{self, Bad, Line};
use super::owners::Owners;
use super::problem::{Origin, Problem};
use super::reader::{Reader, Section, quote};
use super::tree::{Data, Node, Table};
use super::{MAX_NAME, keys, source};
use crate::collect;
use crate::schedule::{Cron, Schedule, Zone};

/// Derived names leave room for what may be put behind them.
const MAX_STEM: usize = MAX_NAME - 12;
/// Behind the name of a script that is called like a built-in collector: both may run.
const BESIDE_BUILTIN: &str = "-script";

/// Whether the lines are read, and where the user's file and directory are looked for unless they are named.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lines<'a> {
    Unread,
    Beside(Option<&'a Path>, Owners),
}

/// Where a collector that a line asks for came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromLine {
    pub collector: Arc<str>,
    pub origin: Origin,
    /// The program that runs.
    pub script: String,
    /// What the user's side has replaced: a line, or the vendor's script.
    pub instead_of: Option<String>,
}

struct Side {
    name: &'static str,
    lines: Option<PathBuf>,
    /// Somebody named the file: its absence is a mistake.
    required: bool,
    dir: Option<PathBuf>,
}

struct Sides {
    vendor: Side,
    user: Side,
    zone: Node,
    owners: Owners,
}

/// A line that was understood.
struct Entry {
    /// Of its script; not yet told apart from others of the same name.
    stem: String,
    /// Which script, whichever side's runs.
    script_id: PathBuf,
    origin: Origin,
    table: Table,
    script: String,
    instead_of: Option<String>,
}

/// The collectors of both sides under their final names, the vendor's first.
pub(super) fn check(section: Section, lines: Lines<'_>, reader: &mut Reader<'_>) -> Vec<(FromLine, Section)> {
    let Some(sides) = read_section(section, lines, reader) else { return Vec::new() };
    let vendor = sides.entries(&sides.vendor, reader);
    let user = sides.entries(&sides.user, reader);
    named(overridden(vendor, user))
}

fn read_section(mut section: Section, lines: Lines<'_>, reader: &mut Reader<'_>) -> Option<Sides> {
    let beside = match lines {
        Lines::Beside(folder, _) => folder.map(whole),
        Lines::Unread => None,
    };
    let vendor = side("default", ["default_lines", "default_dir"], None, &mut section, reader);
    let user = side("user", ["user_lines", "user_dir"], beside.as_deref(), &mut section, reader);
    let zone = reader.text(&mut section, "zone");
    reader.finish(section);
    let origin = reader.origin_of("scripts.zone");
    let zone = zone?;
    if let Err(error) = Zone::get(&zone) {
        reader.error("scripts.zone", &error, &error.hint());
        return None;
    }
    let zone = Node { data: Data::Str(zone), origin };
    match lines {
        Lines::Beside(_, owners) => Some(Sides { vendor, user, zone, owners }),
        Lines::Unread => None,
    }
}

/// `holdover.toml` is in the folder `` of the working directory.
fn whole(folder: &Path) -> PathBuf {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}

fn side(
    name: &'static str,
    [lines_key, dir_key]: [&'static str; 2],
    beside: Option<&Path>,
    section: &mut Section,
    reader: &mut Reader<'_>,
) -> Side {
    let given = reader.given(section, lines_key);
    let mut place = |key: &str, file: &str| {
        reader.path(section, key).or_else(|| {
            let path = beside?.join(file);
            if path.exists() {
                reader.derive(&format!("scripts.{key}"), quote(&path.to_string_lossy()));
            }
            Some(path)
        })
    };
    let lines = place(lines_key, &format!("{name}.cron"));
    let dir = place(dir_key, name);
    let usual = keys::section("scripts").and_then(|section| section.keys.iter().find(|key| key.name == lines_key));
    let named = |path: &Path| usual.is_none_or(|key| key.default != quote(&path.to_string_lossy()));
    let required = given && lines.as_deref().is_some_and(named);
    Side { name, lines, required, dir }
}

impl Sides {
    /// What the lines of one side ask for, as far as they can be read.
    fn entries(&self, side: &Side, reader: &mut Reader<'_>) -> Vec<Entry> {
        let Some(path) = &side.lines else { return Vec::new() };
        reader.watch.file(path);
        if let Some(problem) = self.owners.leaves_out(path) {
            reader.problems.push(problem);
            return Vec::new();
        }
        let bytes = match source::read_lines(path, side.required) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Vec::new(),
            Err(why) => {
                let key = format!("scripts.{}_lines", side.name);
                let hint = "check the path, and that the user of the agent may read the file";
                reader.error(&key, format!("cannot read {}: {why}", path.display()), hint);
                return Vec::new();
            }
        };
        let file: Arc<str> = Arc::from(path.to_string_lossy());
        source::warn_world_writable(path, &file, &mut reader.problems);
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let mut entries = Vec::new();
        for (number, line) in text.split(|&b| b == b'\n').enumerate() {
            let at = |column| Origin::File { file: file.clone(), line: number + 1, column };
            match utf8(line).and_then(line::parse).and_then(|line| line.map(|l| self.entry(l, &at, reader)).transpose())
            {
                Ok(entry) => entries.extend(entry),
                Err(Bad { column, message, hint }) => {
                    reader.problems.push(Problem::left_out(&at(column), format!("line: {message}")).hint(hint));
                }
            }
        }
        entries
    }

    fn entry(&self, line: Line, at: &dyn Fn(usize) -> Origin, reader: &mut Reader<'_>) -> Result<Entry, Bad> {
        let Line { cron, cron_column, words, program_column, shell } = line;
        check_times(&cron, cron_column, &self.zone, reader)?;
        let found = self.find(&words[0], program_column, reader)?;
        if let Some((sign, column)) = shell {
            let message = format!("line: {sign:?} is handed to the script as it is: no shell is started");
            let hint = "for a shell's work write [..] /bin/sh -c '...'; to mean the character, put it in quotes";
            reader.problems.push(Problem::warning(&at(column), message).hint(hint));
        }
        let script = found.path.to_string_lossy().into_owned();
        let text = |text: &str, origin: Origin| (origin.clone(), Node { data: Data::Str(text.to_owned()), origin });
        let program = at(program_column);
        let argv = std::iter::once(script.as_str()).chain(words[1..].iter().map(String::as_str));
        let argv = argv.map(|word| text(word, program.clone()).1).collect();
        let table = BTreeMap::from([
            ("cron".to_owned(), text(&cron, at(cron_column))),
            ("zone".to_owned(), (self.zone.origin.clone(), self.zone.clone())),
            ("exec".to_owned(), (program.clone(), Node { data: Data::List(argv), origin: program.clone() })),
        ]);
        let instead_of = found.instead_of.map(|path| path.display().to_string());
        let (stem, script_id) = (found.stem, found.id);
        Ok(Entry { stem, script_id, origin: at(1), table: Table(table), script, instead_of })
    }

    /// The script that a line names: `default/x` is the user's `x` if there is one, else the vendor's.
    fn find(&self, word: &str, column: usize, reader: &mut Reader<'_>) -> Result<Found, Bad> {
        let refuse = |message: String, hint| Bad { column, message, hint };
        let path = Path::new(word);
        if path.is_absolute() {
            let stem = stem(Path::new(path.file_name().unwrap_or_default()));
            return Ok(Found { path: path.to_owned(), stem, id: self.below(path), instead_of: None });
        }
        let parts: Vec<Component<'_>> = path.components().filter(|part| *part != Component::CurDir).collect();
        if !parts.iter().all(|part| matches!(part, Component::Normal(_))) {
            return Err(refuse(format!("{word:?} leaves its directory"), "name scripts without '..'"));
        }
        let first = parts.first().map(|part| part.as_os_str().to_owned()).unwrap_or_default();
        let (named, rest) = match first.to_str().filter(|_| parts.len() > 1) {
            Some(name @ ("default" | "user")) => (Some(name), parts[1..].iter().collect::<PathBuf>()),
            _ => (None, parts.iter().collect::<PathBuf>()),
        };
        let stem = stem(&rest);
        let mut candidate = |side: &Side| {
            let path = side.dir.as_ref()?.join(&rest);
            reader.watch.script(&path);
            Some(path)
        };
        let user = candidate(&self.user);
        let vendor = candidate(&self.vendor).filter(|_| named != Some("user"));
        let found = match (named, user, vendor) {
            (Some("user"), Some(path), _) => Found { path, stem, id: rest, instead_of: None },
            (_, Some(path), vendor) if path.is_file() => {
                Found { path, stem, id: rest, instead_of: vendor.filter(|v| v.exists()) }
            }
            (Some(_), _, Some(path)) => Found { path, stem, id: rest, instead_of: None },
            (None, _, Some(path)) if path.is_file() => Found { path, stem, id: rest, instead_of: None },
            _ => {
                let hint = "write default/NAME, user/NAME, or a whole path; scripts.user_dir and scripts.default_dir say where";
                return Err(refuse(format!("{word:?} is in neither directory of scripts"), hint));
            }
        };
        Ok(found)
    }

    /// A whole path as `default/NAME` and `user/NAME` are called: NAME, if it is in one of the directories.
    fn below(&self, path: &Path) -> PathBuf {
        let real = |folder: &Path| std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
        // The file itself may be a link: it is called by the name that it has there.
        let whole = real(folder).join(name);
        let dirs = [&self.user, &self.vendor].into_iter().filter_map(|side| side.dir.as_deref());
        dirs.filter_map(|dir| Some(whole.strip_prefix(real(dir)).ok()?.to_owned())).next().unwrap_or(whole)
    }
}

impl Entry {
    fn place(&self) -> String {
        match &self.origin {
            Origin::File { file, line, .. } => format!("{file}:{line}"),
            other => other.to_string(),
        }
    }
}

struct Found {
    path: PathBuf,
    stem: String,
    /// Its name in the directories of both sides; a whole path outside of them.
    id: PathBuf,
    instead_of: Option<PathBuf>,
}

fn utf8(line: &[u8]) -> Result<&str, Bad> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    std::str::from_utf8(line).map_err(|error| {
        let good = String::from_utf8_lossy(&line[..error.valid_up_to()]);
        Bad { column: good.chars().count() + 1, message: "not UTF-8 text".to_owned(), hint: "save the file as UTF-8" }
    })
}

/// Looked at here and not with the tables: there a mistake refuses the whole configuration.
fn check_times(cron: &str, column: usize, zone: &Node, reader: &Reader<'_>) -> Result<(), Bad> {
    let hint = "Quartz order is second minute hour day-of-month month day-of-week [year], as in [0 0/5 * * * ?]";
    let parsed = Cron::parse(cron).map_err(|error| Bad { column, message: error.to_string(), hint })?;
    let zone = match &zone.data {
        Data::Str(name) => Zone::get(name).unwrap_or_else(|_| Zone::utc()),
        _ => Zone::utc(),
    };
    if Schedule::Cron(parsed, zone).next_runs(reader.around.now, std::time::Duration::ZERO, 1).is_empty() {
        let message = format!("{cron:?} names only times that are over");
        return Err(Bad { column, message, hint: "check its year field" });
    }
    Ok(())
}

/// `net/if-stat.py` becomes `net-if-stat`.
fn stem(path: &Path) -> String {
    let text = path.with_extension("").to_string_lossy().into_owned();
    let level = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' };
    let name: String = text.chars().map(level).take(MAX_STEM).collect();
    match name.trim_matches('-') {
        "" => "script".to_owned(),
        name if collect::find(name).is_some() => format!("{name}{BESIDE_BUILTIN}"),
        name => name.to_owned(),
    }
}

/// The user's lines of a script stand in for all of the vendor's lines of it, not of one that is called alike.
fn overridden(vendor: Vec<Entry>, mut user: Vec<Entry>) -> Vec<Entry> {
    let mut kept = Vec::new();
    for entry in vendor {
        match user.iter_mut().find(|other| other.script_id == entry.script_id) {
            Some(other) => {
                other.instead_of.get_or_insert_with(|| entry.place());
            }
            None => kept.push(entry),
        }
    }
    kept.append(&mut user);
    kept
}

/// The second line of a script is `name-2`, the third `name-3`.
fn named(entries: Vec<Entry>) -> Vec<(FromLine, Section)> {
    let mut done: Vec<(FromLine, Section)> = Vec::new();
    let stems: Vec<String> = entries.iter().map(|entry| entry.stem.clone()).collect();
    for entry in entries {
        let taken = |name: &str| done.iter().any(|(from, _)| *from.collector == *name);
        let numbered = (2..).map(|n| format!("{}-{n}", entry.stem)).filter(|name| !stems.contains(name));
        let name = std::iter::once(entry.stem.clone()).chain(numbered).find(|name| !taken(name));
        let collector: Arc<str> = Arc::from(name.unwrap_or(entry.stem));
        let keys = keys::section(keys::COLLECTOR).expect("it is in the key table").keys;
        let mut table = entry.table;
        let node = Node { data: Data::Str(collector.to_string()), origin: entry.origin.clone() };
        table.0.insert("name".to_owned(), (entry.origin.clone(), node));
        let path = keys::COLLECTOR.to_owned();
        let section = Section { path, origin: entry.origin.clone(), keys: keys.into(), table };
        let from = FromLine { collector, origin: entry.origin, script: entry.script, instead_of: entry.instead_of };
        done.push((from, section));
    }
    done
}

/// Lines first, each changed by the table of its name; then the other tables. Also which lines are still what runs.
pub(super) fn join(
    lines: Vec<(FromLine, Section)>,
    tables: Vec<Section>,
    reader: &mut Reader<'_>,
) -> (Vec<FromLine>, Vec<Section>) {
    let lines = within_limit(lines, tables.len(), reader);
    let mut tables: Vec<Option<Section>> = tables.into_iter().map(Some).collect();
    let (mut from, mut sections) = (Vec::new(), Vec::new());
    for (line, mut section) in lines {
        let changes = tables
            .iter_mut()
            .find(|table| table.as_ref().is_some_and(|table| reader.peek(table, "name") == Some(&*line.collector)));
        let mut replaced = false;
        if let Some(changes) = changes.and_then(Option::take) {
            replaced = changes.table.0.contains_key("use") || changes.table.0.contains_key("exec");
            change(&mut section, changes);
        }
        from.extend((!replaced).then_some(line));
        sections.push(section);
    }
    let lost: Vec<Section> = tables.into_iter().flatten().filter_map(|table| stands_alone(table, reader)).collect();
    sections.extend(lost);
    (from, sections)
}

/// Too many tables are a refusal; too many lines cost those that are too many.
fn within_limit(
    mut lines: Vec<(FromLine, Section)>,
    tables: usize,
    reader: &mut Reader<'_>,
) -> Vec<(FromLine, Section)> {
    let room = MAX_COLLECTORS.saturating_sub(tables);
    if let Some((first, _)) = lines.get(room) {
        let message =
            format!("line: this and the {} after it are more than {MAX_COLLECTORS} collectors", lines.len() - room - 1);
        reader.problems.push(Problem::left_out(&first.origin, message).hint("let one script do the work of several"));
        lines.truncate(room);
    }
    lines
}

fn change(section: &mut Section, changes: Section) {
    let given = |key: &str| changes.table.0.contains_key(key);
    let drop: &[&str] = match (given("every"), given("use") || given("exec")) {
        (true, true) => &["cron", "zone", "exec"],
        (true, false) => &["cron", "zone"],
        (false, true) => &["exec"],
        (false, false) => &[],
    };
    for key in drop {
        section.table.0.remove(*key);
    }
    section.origin = changes.origin;
    section.table.merge(changes.table);
}

/// A table that only changes something, of which there is nothing (the vendor has withdrawn the line): told, not refused.
fn stands_alone(table: Section, reader: &mut Reader<'_>) -> Option<Section> {
    let own = ["use", "exec", "every", "cron"].iter().any(|key| reader.given(&table, key));
    let good = |name: &&str| super::reader::check_name(name).is_ok() && collect::find(name).is_none();
    let Some(name) = reader.peek(&table, "name").filter(|name| !own && !name.is_empty()).filter(good) else {
        return Some(table);
    };
    let message = format!("collector.{name}: there is no line and no built-in collector of that name to change");
    let names: Vec<&str> = collect::COLLECTORS.iter().map(|spec| spec.name).collect();
    let hint = match super::nearest(name, &names) {
        Some(close) => format!("did you mean {close}? A collector of its own needs use or exec, and every or cron"),
        None => "a collector of its own needs use or exec, and every or cron".to_owned(),
    };
    reader.problems.push(Problem::left_out(&table.origin, message).hint(hint));
    None
}
