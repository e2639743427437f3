//! Runs `tests/tools/mitm.py`, which sees, counts and changes MQTT packets between one agent and the broker.

use std::path::PathBuf;

use super::agent::Agent;
use super::child::Running;
use super::lab::Lab;
use super::{PATIENCE, free_port, python, read_lossy, tool, wait_until};

pub struct Front {
    pub port: u16,
    log: PathBuf,
    target: u16,
    child: Option<Running>,
}

/// One line of its log. Times are seconds on the monotonic clock of the proxy.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The agent published; first and last seq if it carried records.
    Publish {
        at: f64,
        topic: String,
        seqs: Option<(u64, u64)>,
    },
    /// The agent's witness file grew.
    Commit {
        at: f64,
        seq: u64,
    },
    /// The broker accepted a connection.
    Connected {
        at: f64,
    },
    /// A record was taken out.
    Dropped,
    Other,
}

impl Front {
    /// Not started: nobody listens on its port.
    pub fn absent(lab: &Lab, target: u16) -> Front {
        Front { port: free_port(), log: lab.path("front.log"), target, child: None }
    }

    /// Starts it for the next process of `agent`, with further arguments.
    pub fn up(&mut self, lab: &Lab, agent: &Agent, args: &[&str]) {
        let own = agent.setup.identity.clone().expect("an agent with a certificate");
        let mut command = python();
        command.arg(tool("mitm.py")).args(["--listen", &self.port.to_string(), "--connect", &self.target.to_string()]);
        command.arg("--ca").arg(lab.ca()).arg("--cert").arg(own.cert).arg("--key").arg(own.key);
        command.arg("--server-cert").arg(lab.authority().join("server.crt"));
        command.arg("--server-key").arg(lab.authority().join("server.key"));
        command.arg("--log").arg(&self.log).arg("--commits").arg(agent.next_commits()).args(args);
        let mut child = Running::start("mitm.py", &mut command, &lab.path("mitm.err"));
        let port = self.port;
        wait_until("the front to listen", PATIENCE, || {
            child.assert_running();
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        self.child = Some(child);
    }

    pub fn seen(&self) -> Vec<Seen> {
        let text = read_lossy(&self.log);
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(parse).collect()
    }
}

fn parse(line: &str) -> Seen {
    let words: Vec<&str> = line.split(' ').collect();
    let at = words[0].parse().expect("a time");
    match words[1..] {
        [">", "PUBLISH", topic, _, first, last] => {
            let seqs = first.parse().ok().zip(last.parse().ok());
            Seen::Publish { at, topic: topic.to_owned(), seqs }
        }
        ["+", "COMMIT", _, seq] => Seen::Commit { at, seq: seq.parse().expect("a seq") },
        ["<", "CONNACK"] => Seen::Connected { at },
        ["-", "DROPPED", _] => Seen::Dropped,
        _ => Seen::Other,
    }
}
