//! What is wrong with a configuration: where, what, why, and what to write instead. All of it at once, not just the first.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::watch::Watch;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Line and column count from 1, columns in characters.
    File { file: Arc<str>, line: usize, column: usize },
    /// An environment variable.
    Env(Arc<str>),
    /// Not given anywhere.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Warning,
    /// One entry is left out; the rest is in force.
    LeftOut,
    /// The configuration is refused.
    Error,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// `None` when no place can be named, as for a file that cannot be read.
    pub origin: Option<Origin>,
    /// One line: the key and what is wrong with it.
    pub message: String,
    /// One line: what to write instead.
    pub hint: Option<String>,
}

impl Problem {
    pub fn error(origin: &Origin, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, origin: Some(origin.clone()), message: message.into(), hint: None }
    }

    pub fn warning(origin: &Origin, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(origin, message) }
    }

    /// An error that costs the entry it is about and nothing else.
    pub fn left_out(origin: &Origin, message: impl Into<String>) -> Self {
        Self { severity: Severity::LeftOut, ..Self::error(origin, message) }
    }

    /// An error without a place.
    pub fn general(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, origin: None, message: message.into(), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        f.write_str(match self.severity {
            Severity::Warning => "warning: ",
            Severity::LeftOut => "error, left out: ",
            Severity::Error => "error: ",
        })?;
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Errors before warnings; then as one reads: by file and line, the environment last.
pub(super) fn reading_order(problem: &Problem) -> (bool, u8, String, usize, usize) {
    let warning = problem.severity == Severity::Warning;
    match &problem.origin {
        None => (warning, 0, String::new(), 0, 0),
        Some(Origin::File { file, line, column }) => (warning, 1, file.to_string(), *line, *column),
        Some(Origin::Env(name)) => (warning, 2, name.to_string(), 0, 0),
        Some(Origin::Default) => (warning, 3, String::new(), 0, 0),
    }
}

/// A refused configuration: every error, and the warnings found on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub problems: Vec<Problem>,
    /// What was read, so that a correction is noticed.
    pub watch: Box<Watch>,
    /// Where the outbox is, as far as that could be read: an agent that runs can still be asked.
    pub outbox_dir: Option<PathBuf>,
}

impl Rejected {
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error)
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        match self.errors().count() {
            1 => f.write_str("the configuration has 1 error"),
            count => write!(f, "the configuration has {count} errors"),
        }
    }
}

impl std::error::Error for Rejected {}
