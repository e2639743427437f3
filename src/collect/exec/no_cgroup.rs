//! Control groups are Linux's; elsewhere there is no place for them.

use std::path::PathBuf;

/// How the configuration says where groups may be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    #[default]
    Auto,
    Off,
    At(PathBuf),
}

pub fn prepare(place: &Place) -> Result<Option<PathBuf>, String> {
    match place {
        Place::Auto | Place::Off => Ok(None),
        Place::At(dir) => Err(format!("{}: unsupported, only Linux has control groups", dir.display())),
    }
}
