//! `mosquitto_sub` as the user `viewer`: an eye of somebody else's make.

use std::path::PathBuf;

use super::child::Running;
use super::lab::Lab;
use super::mosquitto::Mosquitto;
use super::{PATIENCE, read_lossy, wait_until};

pub struct Sub {
    _child: Running,
    out: PathBuf,
}

impl Sub {
    /// Subscribed to these filters; each message is a line of this format.
    pub fn start(lab: &Lab, broker: &Mosquitto, format: &str, filters: &[&str]) -> Sub {
        let (out, log) = (lab.path("sub.out"), lab.path("sub.log"));
        // Line by line, also into a file.
        let inner = broker.client("mosquitto_sub", &lab.client("viewer"));
        let mut command = std::process::Command::new("stdbuf");
        command.arg("-oL").arg(inner.get_program()).args(inner.get_args()).args(["-q", "1", "-F", format]);
        for filter in filters {
            command.args(["-t", filter]);
        }
        let child = Running::start_split("mosquitto_sub", &mut command, &out, &log);
        let mut sub = Sub { _child: child, out };
        wait_until("mosquitto_sub to subscribe", PATIENCE, || {
            sub._child.assert_running();
            broker.log().contains("as viewer")
        });
        super::pass_time(std::time::Duration::from_millis(300));
        sub
    }

    /// The messages so far.
    pub fn lines(&self) -> Vec<String> {
        let text = read_lossy(&self.out);
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }
}
