//! Control groups are Linux's; elsewhere there is no place for them.

use std::path::PathBuf;

pub use super::place::Place;

pub fn prepare(place: &Place) -> Result<Option<PathBuf>, String> {
    match place {
        Place::Auto | Place::Off => Ok(None),
        Place::At(dir) => Err(format!("{}: unsupported, only Linux has control groups", dir.display())),
    }
}
