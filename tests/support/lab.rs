//! A laboratory: a temporary directory with an authority and certificates, made by the script that is shipped.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{clock, root};

pub struct Lab {
    dir: tempfile::TempDir,
    /// Certificates begin so long ago and last for ten years from then; else now, and as the script has it.
    age: Option<Duration>,
}

/// A client certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Lab {
    /// An authority and a certificate for `localhost`, 127.0.0.1 and ::1.
    pub fn new() -> Lab {
        Lab::made(None)
    }

    /// The same, so long ago.
    pub fn aged(age: Duration) -> Lab {
        Lab::made(Some(age))
    }

    fn made(age: Option<Duration>) -> Lab {
        let dir = tempfile::Builder::new().prefix("holdover-").tempdir().expect("a temporary directory");
        // mosquitto gives up root after its start and must still reach what it serves from here.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("own directory");
        let lab = Lab { dir, age };
        lab.script(&lab.authority(), &["server", "localhost"]);
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Directory of the authority and its certificates.
    pub fn authority(&self) -> PathBuf {
        self.path("lab")
    }

    pub fn ca(&self) -> PathBuf {
        self.authority().join("ca.crt")
    }

    /// A good client certificate.
    pub fn client(&self, name: &str) -> Identity {
        self.script(&self.authority(), &["client", name]);
        identity(&self.authority(), name)
    }

    /// One that ended in 2020.
    pub fn expired_client(&self, name: &str) -> Identity {
        self.script(&self.authority(), &["client", name, "--days", "0"]);
        identity(&self.authority(), name)
    }

    /// One of another authority; also that authority's certificate.
    pub fn foreign_client(&self, name: &str) -> (Identity, PathBuf) {
        let other = self.path("other-lab");
        self.script(&other, &["client", name]);
        (identity(&other, name), other.join("ca.crt"))
    }

    /// Replaces the broker's certificate: other arguments of `lab-ca.sh DIR server`.
    pub fn server(&self, args: &[&str]) {
        let mut all = vec!["server"];
        all.extend(args);
        all.push("--force");
        self.script(&self.authority(), &all);
    }

    fn script(&self, dir: &Path, args: &[&str]) {
        let script = root().join("broker-config/mosquitto/lab-ca.sh");
        let mut command = Command::new(&script);
        command.arg(dir).args(args);
        if let Some(age) = self.age {
            command.args(["--days", "3650"]).envs(clock::shifted(&format!("-{}", age.as_secs())));
        }
        let output = command.output().expect("lab-ca.sh starts");
        assert!(output.status.success(), "lab-ca.sh {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn identity(dir: &Path, name: &str) -> Identity {
    Identity { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) }
}
