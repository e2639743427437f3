//! What a `[[collector]]` runs: a built-in with its parameters, or a program. Parameters are tried on the collector
//! itself, so that a wrong one is an error of the configuration and never of a run.

use std::path::Path;

use super::collectors::{Exec, What};
use super::keys::{Key, Kind};
use super::problem::{Origin, Problem};
use super::reader::{Reader, Section};
use super::{confine, nearest, source};
use crate::collect::exec::{DEFAULT_PATH, Format};
use crate::collect::{self, COLLECTORS, CollectorSpec, ParamKind, ParamSpec, ParamValue, Params};

/// The longest duration of a parameter, in milliseconds: a year.
const MAX_PARAM_MS: u64 = 366 * 86_400_000;

pub(super) fn check(name: &str, enabled: bool, section: &mut Section, reader: &mut Reader<'_>) -> Option<What> {
    let (builtin_given, exec_given) = (reader.given(section, "use"), reader.given(section, "exec"));
    if exec_given {
        if builtin_given {
            let message = "use and exec are both given";
            reader.text(section, "use");
            reader.error(&format!("{}.use", section.path), message, "keep use for a built-in, or exec for a program");
        }
        if section.table.0.contains_key("params") {
            let path = section.path.clone();
            let origin = section.table.0.remove("params").map_or(section.origin.clone(), |(at, _)| at);
            let problem = Problem::error(&origin, format!("{path}.params: programs take arguments, not params"));
            reader.problems.push(problem.hint("put them into exec = [\"/path\", \"argument\"]"));
        }
        return check_exec(section, reader).map(What::Exec);
    }
    for key in confine::KEYS {
        if reader.given(section, key) {
            let origin = section.table.0.remove(key).map_or(section.origin.clone(), |(at, _)| at);
            let message = format!("{}.{key}: only programs (exec) have it", section.path);
            reader.problems.push(Problem::error(&origin, message).hint("remove it, or give exec"));
        }
    }
    check_builtin(name, enabled, section, reader)
}

fn check_builtin(name: &str, enabled: bool, section: &mut Section, reader: &mut Reader<'_>) -> Option<What> {
    let given = reader.given(section, "use");
    let wanted = reader.text(section, "use").unwrap_or_else(|| name.to_owned());
    let Some(spec) = collect::find(&wanted) else {
        unknown_builtin(&wanted, given, section, reader);
        return None;
    };
    let params = check_params(spec, section, reader);
    // One that is switched off need not be complete.
    if let (true, Err(error)) = (enabled, (spec.build)(&params)) {
        let path = format!("{}.params.{}", section.path, error.param());
        let origin = match reader.origin_of(&path) {
            Origin::Default => section.origin.clone(),
            origin => origin,
        };
        let about =
            spec.params.iter().find(|param| param.name == error.param()).map_or(spec.about, |param| param.about);
        let message = format!("{}: {error}", section.path);
        reader.problems.push(Problem::error(&origin, message).hint(format!("params.{}: {about}", error.param())));
    }
    Some(What::Builtin { spec, params })
}

fn unknown_builtin(wanted: &str, given: bool, section: &mut Section, reader: &mut Reader<'_>) {
    let names: Vec<&str> = COLLECTORS.iter().map(|spec| spec.name).collect();
    let hint = match nearest(wanted, &names) {
        Some(close) => format!("did you mean use = {close:?}?"),
        None => format!("the built-in collectors are {}; a program is run by exec = [\"/path\"]", names.join(", ")),
    };
    let message = format!("{wanted:?} is no built-in collector");
    if given {
        reader.error(&format!("{}.use", section.path), message, &hint);
    } else {
        let message = format!("{}: neither use nor exec is given, and {message}", section.path);
        reader.problems.push(Problem::error(&section.origin, message).hint(hint));
    }
    // Nobody can say what they should be.
    section.table.0.remove("params");
}

/// Those that are given or have a default, so that a default written out makes no difference.
fn check_params(spec: &'static CollectorSpec, section: &mut Section, reader: &mut Reader<'_>) -> Params {
    let mut table = reader.table(section, "params", spec.params.iter().map(key).collect());
    let mut params = Params::new();
    for param in spec.params {
        let value = match param.kind {
            ParamKind::List => reader.texts(&mut table, param.name).map(ParamValue::List),
            ParamKind::Str => reader.text(&mut table, param.name).map(ParamValue::Str),
            ParamKind::Int => reader.int(&mut table, param.name).map(ParamValue::Int),
            ParamKind::Bool => reader.bool(&mut table, param.name).map(ParamValue::Bool),
            ParamKind::Duration => {
                reader.duration(&mut table, param.name).map(|value| ParamValue::Str(format!("{}ms", value.as_millis())))
            }
        };
        if let Some(value) = value
            && let Err(error) = params.set(spec.params, param.name, value)
        {
            reader.error(&format!("{}.{}", table.path, param.name), error, param.about);
        }
    }
    reader.finish(table);
    params
}

/// A parameter as a key of its own table.
pub(super) fn key(param: &ParamSpec) -> Key {
    let kind = match param.kind {
        ParamKind::List => Kind::Texts,
        ParamKind::Str => Kind::Text,
        ParamKind::Int => Kind::Int(0, i64::MAX),
        ParamKind::Bool => Kind::Bool,
        ParamKind::Duration => Kind::Duration(0, MAX_PARAM_MS),
    };
    Key { name: param.name, kind, default: param.default, example: "", about: param.about }
}

fn check_exec(section: &mut Section, reader: &mut Reader<'_>) -> Option<Exec> {
    let argv = reader.texts(section, "exec");
    let format = Format::from_name(&reader.text(section, "format")?)?;
    let max_output = reader.size(section, "max_output");
    let confined = confine::check(section, reader);
    let (mut argv, path) = (argv?, format!("{}.exec", section.path));
    let Some(program) = argv.first_mut().filter(|program| !program.is_empty()) else {
        reader.error(&path, "no program is named", "write exec = [\"/path/to/program\", \"argument\"]");
        return None;
    };
    if !program.contains(std::path::is_separator) {
        warn_not_found(&path, program, reader);
        return Some(confined?.exec(argv, format, max_output?));
    }
    if !Path::new(program).is_absolute() {
        // Collectors come from files only, so that "beside the file" has a meaning.
        let Origin::File { file, .. } = reader.origin_of(&path) else { return None };
        let absolute = Path::new(&*file).parent().unwrap_or(Path::new(".")).join(&*program);
        *program = std::path::absolute(&absolute).unwrap_or(absolute).to_string_lossy().into_owned();
    }
    let confined = confined?;
    match confined.distrusts(Path::new(program)) {
        Some(why) => reader.warn(&path, why, "runs will be recorded as errors until then; see check_owner"),
        None => warn_program(&path, Path::new(program), reader),
    }
    Some(confined.exec(argv, format, max_output?))
}

/// A program may arrive later, by a package or a mount: its absence is no reason not to collect the rest.
fn warn_program(path: &str, program: &Path, reader: &mut Reader<'_>) {
    let shown = program.display();
    match std::fs::metadata(program) {
        Err(error) => {
            reader.warn(path, format!("{shown}: {error}"), "runs will be recorded as errors until it is there")
        }
        Ok(meta) if !meta.is_file() => reader.warn(path, format!("{shown} is not a file"), "name the program itself"),
        Ok(_) => match source::mode(program) {
            Some(mode) if mode & 0o111 == 0 => {
                reader.warn(path, format!("{shown} is not executable"), &format!("chmod +x {shown}"));
            }
            Some(mode) if mode & 0o002 != 0 => {
                let hint = format!("chmod o-w {shown}");
                reader.warn(path, format!("every user of this host may change {shown}"), &hint);
            }
            _ => {}
        },
    }
}

fn warn_not_found(path: &str, program: &str, reader: &mut Reader<'_>) {
    if !std::env::split_paths(DEFAULT_PATH).any(|folder| folder.join(program).is_file()) {
        let hint = "name it by its path, or install it; runs will be recorded as errors until it is there";
        reader.warn(path, format!("{program:?} is in none of {DEFAULT_PATH}"), hint);
    }
}
