//! How a program of a `[[collector]]` is confined: its budgets, the user it runs as, its variables, what must be true
//! of its file.

use std::path::{Path, PathBuf};

use super::collectors::Exec;
use super::reader::{Reader, Section};
use crate::collect::exec::{Confinement, Format, Ionice, Limits, distrusted, find_account};

/// The keys that only programs have.
pub(super) const KEYS: [&str; 13] = [
    "format",
    "max_output",
    "cpu",
    "memory",
    "processes",
    "user",
    "nice",
    "io_class",
    "env",
    "dir",
    "sha256",
    "check_owner",
    "usage",
];
/// Hexadecimal digits of a SHA-256.
const DIGITS: usize = 64;

pub(super) struct Confined {
    limits: Limits,
    confinement: Confinement,
    env: Vec<(String, String)>,
    dir: Option<PathBuf>,
    usage: bool,
}

impl Confined {
    /// Why the program will be refused, unless that is switched off.
    pub fn distrusts(&self, program: &Path) -> Option<String> {
        let Confinement { check_owner, user, .. } = &self.confinement;
        check_owner.then(|| distrusted(program, user.as_deref())).flatten()
    }

    pub fn exec(self, argv: Vec<String>, format: Format, max_output: u64) -> Exec {
        let Self { limits, confinement, env, dir, usage } = self;
        Exec { argv, format, max_output, limits, confinement, env, dir, usage }
    }
}

pub(super) fn check(section: &mut Section, reader: &mut Reader<'_>) -> Option<Confined> {
    let limits = Limits {
        cpu: reader.duration(section, "cpu"),
        memory: reader.size(section, "memory"),
        processes: reader.int(section, "processes").and_then(|most| u32::try_from(most).ok()),
    };
    let (sha256, user) = (sha256(section, reader), user(section, reader));
    let nice = reader.int(section, "nice").and_then(|nice| u8::try_from(nice).ok());
    let ionice = reader.text(section, "io_class");
    let env = env(section, reader);
    let dir = reader.path(section, "dir");
    let (check_owner, usage) = (reader.bool(section, "check_owner"), reader.bool(section, "usage"));
    let confinement =
        Confinement { check_owner: check_owner?, sha256, user, nice: nice?, ionice: Ionice::from_name(&ionice?) };
    Some(Confined { limits, confinement, env: env?, dir, usage: usage? })
}

/// In lower case. One that is none is refused, for without it the program would run unpinned.
fn sha256(section: &mut Section, reader: &mut Reader<'_>) -> Option<String> {
    let hash = reader.text(section, "sha256")?.to_ascii_lowercase();
    if hash.len() != DIGITS || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        let message = format!("{hash:?} is no SHA-256: {DIGITS} hexadecimal digits");
        reader.error(&format!("{}.sha256", section.path), message, "take it from 'sha256sum FILE'");
    }
    Some(hash)
}

/// One that is not there may arrive later, by a package: its runs are errors until then.
fn user(section: &mut Section, reader: &mut Reader<'_>) -> Option<String> {
    let user = reader.text(section, "user")?;
    if let Err(why) = find_account(&user) {
        let hint = "runs will be recorded as errors until it is there";
        reader.warn(&format!("{}.user", section.path), why, hint);
    }
    Some(user)
}

fn env(section: &mut Section, reader: &mut Reader<'_>) -> Option<Vec<(String, String)>> {
    if !reader.given(section, "env") {
        return Some(Vec::new());
    }
    let texts = reader.texts(section, "env")?;
    let mut variables = Vec::new();
    for text in texts {
        match text.split_once('=').filter(|(name, _)| !name.trim().is_empty()) {
            Some((name, value)) => variables.push((name.to_owned(), value.to_owned())),
            None => {
                let message = format!("{text:?} is no variable");
                reader.error(&format!("{}.env", section.path), message, "write \"NAME=value\"");
            }
        }
    }
    Some(variables)
}
