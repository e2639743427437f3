//! `holdover-hub tail` beside the witness, as a viewer.

use std::path::PathBuf;
use std::process::Command;

use super::child::Running;
use super::lab::Lab;
use super::mosquitto::Mosquitto;
use super::{PATIENCE, read_lossy, wait_until};

pub struct Tail {
    child: Running,
    out: PathBuf,
    err: PathBuf,
}

impl Tail {
    /// Connects as the user `viewer` and is subscribed. `args` beyond how to connect.
    pub fn start(lab: &Lab, broker: &Mosquitto, args: &[&str]) -> Tail {
        let viewer = lab.client("viewer");
        let (out, err) = (lab.path("tail.out"), lab.path("tail.err"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdover-hub"));
        command.args(["tail", "--broker", &format!("mqtts://localhost:{}", broker.port)]);
        command.arg("--ca").arg(lab.ca()).arg("--cert").arg(viewer.cert).arg("--key").arg(viewer.key).args(args);
        let child = Running::start_split("holdover-hub tail", &mut command, &out, &err);
        let mut tail = Tail { child, out, err };
        // The broker logs connections and not subscriptions; what tail misses before its own it calls unknown, so
        // half a second more is for the test's strictness, not for its truth.
        wait_until("tail to subscribe", PATIENCE, || {
            tail.child.assert_running();
            broker.log().contains("as viewer")
        });
        super::pass_time(std::time::Duration::from_millis(500));
        tail
    }

    /// SIGTERM, as a user's Ctrl-C: its exit code and everything it said.
    pub fn stop(mut self) -> (Option<i32>, String) {
        let status = self.child.terminate(PATIENCE);
        (status.code(), read_lossy(&self.out) + &read_lossy(&self.err))
    }

    pub fn said(&self) -> String {
        read_lossy(&self.out) + &read_lossy(&self.err)
    }
}
