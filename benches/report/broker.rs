//! A real mosquitto for one section: the shipped configuration with its paths and its listener replaced.

use std::error::Error;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdover::uplink::transport::tls::{IdentityFiles, Roots, TlsFiles};

/// The one client: host id and common name of its certificate.
pub const HOST: &str = "bench";
const START: Duration = Duration::from_secs(10);

pub struct Broker {
    pub port: u16,
    dir: PathBuf,
    child: Child,
}

impl Broker {
    /// Certificates are made in `dir`, by the script that is shipped.
    pub fn start(dir: &Path) -> Result<Self, Box<dyn Error>> {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("broker-config/mosquitto");
        for what in [["server", "localhost"], ["client", HOST]] {
            let made = Command::new(shipped.join("lab-ca.sh")).arg(dir).args(what).output()?;
            if !made.status.success() {
                return Err(format!("lab-ca.sh {what:?}: {}", String::from_utf8_lossy(&made.stderr)).into());
            }
        }
        std::fs::copy(shipped.join("acl"), dir.join("acl"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let file = dir.join("mosquitto.conf");
        std::fs::write(&file, config(&std::fs::read_to_string(shipped.join("mosquitto.conf"))?, port, dir))?;
        let log = std::fs::File::create(dir.join("mosquitto.log"))?;
        let mut command = Command::new("mosquitto");
        // Debian installs it where the PATH of an ordinary user does not look.
        command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
        let child = command.arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.map_err(|e| format!("mosquitto does not start ({e}): install the package mosquitto"))?;
        let mut broker = Self { port, dir: dir.to_owned(), child };
        broker.wait()?;
        Ok(broker)
    }

    fn wait(&mut self) -> Result<(), Box<dyn Error>> {
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if began.elapsed() > START || self.child.try_wait()?.is_some() {
                let log = std::fs::read_to_string(self.dir.join("mosquitto.log")).unwrap_or_default();
                return Err(format!("mosquitto does not listen: {log}").into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The client's side of TLS.
    pub fn tls(&self) -> TlsFiles {
        let own = |suffix: &str| self.dir.join(format!("{HOST}.{suffix}"));
        let identity = IdentityFiles { certificate: own("crt"), key: own("key") };
        TlsFiles { roots: Roots::File(self.dir.join("ca.crt")), identity: Some(identity) }
    }
}

/// The listener moves, files come from `dir`, nothing is kept; the user stays who started this.
fn config(shipped: &str, port: u16, dir: &Path) -> String {
    let ours = format!("{}/", dir.display());
    let text = shipped
        .replace("listener 8883", &format!("listener {port} 127.0.0.1"))
        .replace("persistence true", "persistence false")
        .replace("/var/lib/mosquitto/", &ours)
        .replace("/etc/mosquitto/holdover/", &ours);
    if rustix::process::geteuid().is_root() { text + "\nuser root\n" } else { text }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Killed rather than asked: it keeps nothing.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
