//! Who may open a socket that is a file. Whoever may write to its folder may put a link in its place at any moment, so
//! what is looked at is what is changed: no link is followed, and anything but a socket is left as it is.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::path::Path;

/// `group` and `mode`. A service that may not change owners has its group made its own one: nothing is to be changed then.
#[cfg(target_os = "linux")]
pub fn permit(path: &Path, group: Option<u32>, mode: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{FileType, Mode};

    let file = open(path)?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::Socket {
        return Err(replaced());
    }
    permit_group(&file, group)?;
    // fchmod(2) takes no such descriptor; its name in /proc leads to it and nowhere else.
    Ok(rustix::fs::chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), Mode::from_raw_mode(mode))?)
}

#[cfg(target_os = "linux")]
fn open(path: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};

    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(target_os = "linux")]
fn permit_group(file: &OwnedFd, group: Option<u32>) -> io::Result<()> {
    use rustix::fs::{AtFlags, Gid};

    let found = rustix::fs::fstat(file)?.st_gid;
    match group.filter(|gid| *gid != found).map(Gid::from_raw) {
        None => Ok(()),
        group => rustix::fs::chownat(file, "", None, group, AtFlags::EMPTY_PATH).map_err(|e| no_group(&e.into())),
    }
}

#[cfg(not(target_os = "linux"))]
pub fn permit(path: &Path, group: Option<u32>, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    use rustix::fs::{AtFlags, CWD, Mode, RawMode};

    let found = std::fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        return Err(replaced());
    }
    if let Some(gid) = group.filter(|gid| *gid != found.gid()) {
        std::os::unix::fs::lchown(path, None, Some(gid)).map_err(|e| no_group(&e))?;
    }
    Ok(rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode as RawMode), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn replaced() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "somebody has put something else in its place, which is left alone")
}

fn no_group(error: &io::Error) -> io::Error {
    let message = format!("its group cannot be set: {error}; under systemd see docs/put.md, 'To enable it'");
    io::Error::new(error.kind(), message)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_link_in_the_place_of_a_socket_leads_to_no_file_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let (key, other, link) = (dir.path().join("host.key"), dir.path().join("other.sock"), dir.path().join("link"));
        std::fs::write(&key, "secret").unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let _other = UnixListener::bind(&other).unwrap();
        let before = mode(&other);
        for target in [&key, &other] {
            symlink(target, &link).unwrap();
            let error = permit(&link, None, 0o666).unwrap_err();
            assert!(error.to_string().contains("something else in its place"), "{error}");
            std::fs::remove_file(&link).unwrap();
        }
        assert_eq!((mode(&key), mode(&other)), (0o600, before));
        assert!(permit(&key, None, 0o666).is_err(), "nor a file");
        assert_eq!(permit(&link, None, 0o666).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_group_that_fits_already_is_not_set_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _socket = UnixListener::bind(&path).unwrap();
        permit(&path, None, 0o6770).unwrap();
        // Setting an owner or group clears the bits of set-id programs, whoever does it.
        let own = std::fs::metadata(&path).unwrap().gid();
        permit_group(&open(&path).unwrap(), Some(own)).unwrap();
        assert_eq!(mode(&path), 0o6770);
        permit(&path, Some(own), 0o660).unwrap();
        assert_eq!(mode(&path), 0o660);
    }
}
