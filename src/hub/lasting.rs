//! Errors of files that trying again does not mend: a wrong path, a right that is missing. A disk that is full, fails or is
//! away is none. Pure.

use std::io;

use rustix::io::Errno;

pub(super) fn is_lasting(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    let kind = matches!(
        error.kind(),
        Kind::PermissionDenied
            | Kind::NotADirectory
            | Kind::IsADirectory
            | Kind::AlreadyExists
            | Kind::ReadOnlyFilesystem
            | Kind::InvalidFilename
            | Kind::InvalidInput
            | Kind::Unsupported
    );
    kind || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    #[test]
    fn what_the_operator_has_to_mend_is_told_from_what_passes() {
        for errno in [
            Errno::ACCESS,
            Errno::PERM,
            Errno::NOTDIR,
            Errno::ISDIR,
            Errno::EXIST,
            Errno::ROFS,
            Errno::NAMETOOLONG,
            Errno::LOOP,
        ] {
            assert!(is_lasting(&error(errno)), "{errno}");
        }
        for errno in [
            Errno::IO,
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::NOENT,
            Errno::NODEV,
            Errno::NXIO,
            Errno::NOTCONN,
            Errno::STALE,
            Errno::TIMEDOUT,
            Errno::MFILE,
            Errno::NOMEM,
        ] {
            assert!(!is_lasting(&error(errno)), "{errno}");
        }
    }
}
