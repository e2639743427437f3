//! A mosquitto of our own on a free loopback port, stopped when dropped.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Mosquitto {
    pub port: u16,
    child: Child,
}

impl Mosquitto {
    /// `conf` follows the listener line; file names in it are absolute.
    pub fn start(dir: &Path, conf: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = dir.join(format!("mosquitto-{port}.conf"));
        // It would otherwise change to a user that cannot read the temporary directory.
        let user = if rustix::process::geteuid().is_root() { "user root\n" } else { "" };
        std::fs::write(&file, format!("{user}listener {port} 127.0.0.1\n{conf}")).unwrap();
        let log = std::fs::File::create(dir.join(format!("mosquitto-{port}.log"))).unwrap();
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"]
            .into_iter()
            .find(|p| Path::new(p).exists())
            .expect("mosquitto is installed (Debian: apt install mosquitto)");
        let child = Command::new(program)
            .arg("-v")
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut broker = Self { port, child };
        broker.wait_until_it_listens();
        broker
    }

    fn wait_until_it_listens(&mut self) {
        for _ in 0..300 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "mosquitto ended; see its log");
            pause(Duration::from_millis(50));
        }
        panic!("mosquitto does not listen on {} after 15 s", self.port);
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test waits for another process, outside any runtime")]
fn pause(d: Duration) {
    std::thread::sleep(d);
}
