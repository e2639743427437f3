//! Who could change a file of the configuration. What it names runs as root where the agent does, so it is held to what
//! a program is held to: see docs/sandbox.md.

use std::path::Path;
use std::sync::Arc;

use super::Surroundings;
use super::problem::{Origin, Problem};
use super::tree::{Data, Node, Table};
use crate::collect::exec::distrusted;

/// Whether files that others could change are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owners(bool);

impl Owners {
    /// For the main file, which cannot vouch for itself: only the environment switches it off.
    pub fn of_main(around: &Surroundings<'_>, env: &Table) -> Self {
        Self(around.guarded && switch(env).unwrap_or(true))
    }

    /// For all other files.
    pub fn of_others(around: &Surroundings<'_>, env: &Table, main: &Table) -> Self {
        Self(around.guarded && switch(env).or(switch(main)).unwrap_or(true))
    }

    /// What is wrong with an entry that is left out: the rest stays in force.
    pub fn leaves_out(self, file: &Path) -> Option<Problem> {
        let hint = "what the files of the configuration name runs as root; agent.check_owner = false in the main file \
                    switches this off";
        self.distrusts(file).map(|(origin, message)| Problem::left_out(&origin, message).hint(hint))
    }

    /// What is wrong with the one file that everything is in.
    pub fn refuses(self, file: &Path) -> Option<Problem> {
        let hint = "what the files of the configuration name runs as root; HOLDOVER__AGENT__CHECK_OWNER=false in the \
                    environment switches this off";
        self.distrusts(file).map(|(origin, message)| Problem::error(&origin, message).hint(hint))
    }

    fn distrusts(self, file: &Path) -> Option<(Origin, String)> {
        let why = if self.0 { changeable(file)? } else { return None };
        let origin = Origin::File { file: Arc::from(file.to_string_lossy()), line: 1, column: 1 };
        Some((origin, format!("this file is not used: {why}")))
    }
}

/// How others than root and this user could change the file; not for one that is absent.
pub(super) fn changeable(file: &Path) -> Option<String> {
    let whole = std::path::absolute(file).ok()?;
    whole.symlink_metadata().ok()?;
    distrusted(&whole, None)
}

/// `check_owner` of `[agent]`, before anything is checked; a wrong type is reported when it is.
fn switch(root: &Table) -> Option<bool> {
    let (_, Node { data: Data::Table(agent), .. }) = root.0.get("agent")? else { return None };
    match &agent.0.get("check_owner")?.1.data {
        Data::Bool(on) => Some(*on),
        Data::Str(text) => text.parse().ok(),
        _ => None,
    }
}
