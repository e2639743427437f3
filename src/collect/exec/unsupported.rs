//! What a script's configuration asks for and a system without a minder cannot do. What protects the host is not left
//! out silently: such a script does not run. Budgets of CPU time, memory and processes have values for every script,
//! and are not held there (docs/windows.md).

use super::Script;
use super::confinement::Confinement;
use crate::platform::children;
use crate::record::{ErrorKind, RunError};

pub(super) fn refuse(script: &Script, program: &str) -> Result<(), RunError> {
    if children::OBEYS_OWNERS {
        return Ok(());
    }
    asked(&script.confinement).map_or(Ok(()), |(key, instead)| {
        let why = format!("{program} is not run: `{key}` is unsupported on {}; {instead}", std::env::consts::OS);
        Err(RunError::new(ErrorKind::Unsupported, why))
    })
}

/// The first key that cannot be obeyed, and what to do.
fn asked(confinement: &Confinement) -> Option<(&'static str, &'static str)> {
    let Confinement { check_owner, sha256, user, nice, ionice } = confinement;
    let drop_it = "remove it";
    let asked = [
        (*check_owner, "check_owner", "see to it that only administrators may write the file, then set it to false"),
        (sha256.is_some(), "sha256", drop_it),
        (user.is_some(), "user", "remove it; the script runs as the agent does"),
        (*nice > 0, "nice", drop_it),
        (ionice.is_some(), "io_class", drop_it),
    ];
    asked.into_iter().find(|(is_asked, ..)| *is_asked).map(|(_, key, instead)| (key, instead))
}

#[cfg(test)]
mod tests {
    use super::super::Ionice;
    use super::*;

    #[test]
    fn what_protects_a_host_is_refused_by_its_key_where_it_cannot_be_had() {
        let trusted = Confinement { check_owner: false, ..Confinement::default() };
        assert_eq!(asked(&trusted), None);
        let key = |confinement: Confinement| asked(&confinement).unwrap().0;
        assert_eq!(key(Confinement::default()), "check_owner");
        assert_eq!(key(Confinement { sha256: Some("00".into()), ..trusted.clone() }), "sha256");
        assert_eq!(key(Confinement { user: Some("nobody".into()), ..trusted.clone() }), "user");
        assert_eq!(key(Confinement { nice: 5, ..trusted.clone() }), "nice");
        assert_eq!(key(Confinement { ionice: Some(Ionice::Idle), ..trusted }), "io_class");
    }
}
