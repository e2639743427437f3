//! A real mosquitto with the configuration that is shipped: only its two directories and its listener are replaced.

use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::child::Running;
use super::lab::{Identity, Lab};
use super::{PATIENCE, free_port, read_lossy, root, tail_of, wait_until};

pub struct Mosquitto {
    pub port: u16,
    dir: PathBuf,
    settings: Vec<(String, String)>,
    authority: PathBuf,
    child: Option<Running>,
}

impl Mosquitto {
    /// Prepared, not started: nobody listens on its port yet.
    pub fn absent(lab: &Lab, name: &str) -> Mosquitto {
        let dir = lab.path(name);
        std::fs::create_dir_all(dir.join("data")).expect("fresh directory");
        give_to_mosquitto(&dir.join("data"));
        let acl = lab.authority().join("acl");
        std::fs::copy(root().join("broker-config/mosquitto/acl"), acl).expect("the shipped acl is readable");
        Mosquitto { port: free_port(), dir, settings: Vec::new(), authority: lab.authority(), child: None }
    }

    pub fn start(lab: &Lab, name: &str) -> Mosquitto {
        let mut broker = Mosquitto::absent(lab, name);
        broker.up();
        broker
    }

    /// Starts it (again), on the same port and with what it has stored.
    pub fn up(&mut self) {
        assert!(self.child.is_none(), "it is running");
        let path = self.dir.join("mosquitto.conf");
        std::fs::write(&path, self.config()).expect("own directory");
        let mut command = Command::new("mosquitto");
        // Debian installs it where the PATH of an ordinary user does not look.
        command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
        command.arg("-c").arg(&path);
        let mut child = Running::start("mosquitto", &mut command, &self.log_path());
        let port = self.port;
        wait_until("mosquitto to listen", PATIENCE, || {
            child.assert_running();
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        self.child = Some(child);
    }

    /// SIGTERM: it saves its sessions and closes its connections in good order.
    pub fn stop(&mut self) {
        let status = self.child.take().expect("it is running").terminate(PATIENCE);
        assert!(status.success(), "mosquitto ended with {status}: {}", tail_of(&self.log_path(), 20));
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.take().expect("it is running").kill();
    }

    /// Deletes what it has stored: sessions, queues, retained messages. Only while it is down.
    pub fn forget(&mut self) {
        assert!(self.child.is_none(), "it would write it again");
        std::fs::remove_dir_all(self.dir.join("data")).expect("own directory");
        std::fs::create_dir(self.dir.join("data")).expect("own directory");
        give_to_mosquitto(&self.dir.join("data"));
    }

    /// From the next start on, `name value` stands in the place of the shipped setting of that name.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    pub fn log(&self) -> String {
        read_lossy(&self.log_path())
    }

    /// `mosquitto_pub` or `mosquitto_sub` as this client, over the broker's TLS.
    pub fn client(&self, program: &str, who: &Identity) -> Command {
        let mut command = Command::new(program);
        command.args(["-V", "5", "-h", "localhost", "-p", &self.port.to_string()]);
        command.arg("--cafile").arg(self.authority.join("ca.crt"));
        command.arg("--cert").arg(&who.cert).arg("--key").arg(&who.key);
        command
    }

    /// Publishes at QoS 1 as this client; `args` are further ones of `mosquitto_pub`.
    pub fn publish(&self, lab: &Lab, who: &Identity, topic: &str, payload: &[u8], args: &[&str]) {
        let file = lab.path("payload");
        std::fs::write(&file, payload).expect("own directory");
        let mut command = self.client("mosquitto_pub", who);
        let output = command.args(["-q", "1", "-t", topic, "-f"]).arg(&file).args(args).output();
        let output = output.expect("mosquitto_pub starts");
        assert!(output.status.success(), "mosquitto_pub to {topic}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("mosquitto.log")
    }

    fn config(&self) -> String {
        let shipped = std::fs::read_to_string(root().join("broker-config/mosquitto/mosquitto.conf"))
            .expect("the shipped mosquitto.conf is readable");
        let listener = format!("{} 127.0.0.1", self.port);
        let mut replaced = 0;
        let mut text = String::new();
        for line in shipped.lines() {
            let name = line.split(' ').next().unwrap_or_default();
            let given = self.settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
            match if line == "listener 8883" { Some(listener.as_str()) } else { given } {
                Some(value) => {
                    replaced += 1;
                    text += &format!("{name} {value}\n");
                }
                None => text += &format!("{line}\n"),
            }
        }
        assert_eq!(replaced, 1 + self.settings.len(), "the shipped mosquitto.conf has other settings than expected");
        let data = format!("{}/", self.dir.join("data").display());
        let ours = format!("{}/", self.authority.display());
        assert!(text.contains("/var/lib/mosquitto/") && text.contains("/etc/mosquitto/holdover/"));
        text.replace("/var/lib/mosquitto/", &data).replace("/etc/mosquitto/holdover/", &ours)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("mosquitto's log ends:\n{}", tail_of(&self.log_path(), 15));
        }
        if let Some(mut child) = self.child.take() {
            child.signal(rustix::process::Signal::TERM);
            // Drop of the child kills what has not ended by then.
            for _ in 0..100 {
                if child.exited().is_some() {
                    break;
                }
                super::pass_time(Duration::from_millis(10));
            }
        }
    }
}

/// As root, mosquitto becomes the user `mosquitto` and must own what it writes.
fn give_to_mosquitto(dir: &std::path::Path) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let number = |flag: &str| -> u32 {
        let output = Command::new("id").args([flag, "mosquitto"]).output().expect("id starts");
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().expect("the package mosquitto makes a user of that name")
    };
    chown(dir, Some(number("-u")), Some(number("-g"))).expect("root may give a directory away");
}
