//! The host id: decided once, kept in a text file of its own, so that nothing that befalls the store changes it.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::names;

#[derive(Debug, thiserror::Error)]
pub enum HostIdError {
    #[error("cannot read the host id from {0}: {1}")]
    Read(PathBuf, io::Error),
    #[error("{0} does not hold a host id (1 to 64 letters, digits, '_' or '-'): correct or remove it")]
    Malformed(PathBuf),
    #[error("cannot store the host id in {0}: {1}")]
    Store(PathBuf, io::Error),
}

const MAX_LEN: u64 = 64;

fn valid(id: &str) -> bool {
    !id.is_empty()
        && id.len() as u64 <= MAX_LEN
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// The id stored in this outbox directory, if any.
pub fn read_host_id(disk: &dyn Disk, dir: &Path) -> Result<Option<String>, HostIdError> {
    let path = dir.join(names::HOST_ID);
    let file = match disk.open(&path, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(HostIdError::Read(path, error)),
    };
    let read = || {
        let len = file.len()?;
        let mut bytes = vec![0; usize::try_from(len.min(MAX_LEN + 2)).unwrap_or(0)];
        file.read(0, &mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| HostIdError::Read(path.clone(), error))?;
    let id = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
    if valid(id) { Ok(Some(id.to_owned())) } else { Err(HostIdError::Malformed(path)) }
}

/// Stores it durably, whole or not at all.
pub fn store_host_id(disk: &dyn Disk, dir: &Path, id: &str) -> Result<(), HostIdError> {
    let path = dir.join(names::HOST_ID);
    if !valid(id) {
        return Err(HostIdError::Malformed(path));
    }
    let store = || {
        disk.make_dir(dir)?;
        let temp = dir.join(format!("{}.tmp", names::HOST_ID));
        let file = disk.create(&temp)?;
        let line = format!("{id}\n");
        file.set_len(line.len() as u64)?;
        file.write(0, line.as_bytes())?;
        file.sync_data()?;
        disk.rename(&temp, &path)?;
        disk.sync_dir(dir)
    };
    store().map_err(|error| HostIdError::Store(path.clone(), error))
}
