//! Runs `tests/tools/witness.py` and waits for what it receives.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::agent::Agent;
use super::child::Running;
use super::lab::Lab;
use super::oracle::{Received, complaints, gaps, missing, newest};
use super::{PATIENCE, python, tail_of, tool, wait_until};

pub struct Witness {
    child: Running,
    log: PathBuf,
    pub received: Received,
    /// Up to here everything had to be there.
    complete: BTreeMap<u64, u64>,
}

impl Witness {
    /// Subscribes to everything as the user `hub`; `host` is the one that it is asked about.
    pub fn start(lab: &Lab, port: u16, host: &str) -> Witness {
        let witness = Witness::soon(lab, port, host);
        witness.subscribed(1)
    }

    /// As the user `viewer`: beside a hub, whose name it would take.
    pub fn beside(lab: &Lab, port: u16, host: &str) -> Witness {
        Witness::connect(lab, port, host, "viewer").subscribed(1)
    }

    /// The same for a broker that is not there yet.
    pub fn soon(lab: &Lab, port: u16, host: &str) -> Witness {
        Witness::connect(lab, port, host, "hub")
    }

    fn connect(lab: &Lab, port: u16, host: &str, who: &str) -> Witness {
        let hub = lab.client(who);
        let (out, log) = (lab.path("received"), lab.path("witness.log"));
        let mut command = python();
        command.arg(tool("witness.py")).args(["--host", "localhost", "--port", &port.to_string(), "--id", who]);
        command.arg("--ca").arg(lab.ca()).arg("--cert").arg(hub.cert).arg("--key").arg(hub.key);
        command.arg("--out").arg(&out);
        let child = Running::start("witness.py", &mut command, &log);
        Witness { child, log, received: Received::new(&out, host), complete: BTreeMap::new() }
    }

    /// Waits until it has subscribed so many times.
    pub fn subscribed(mut self, times: usize) -> Witness {
        self.wait("the witness to subscribe", PATIENCE, |received| received.subscriptions >= times);
        self
    }

    pub fn wait(&mut self, what: &str, limit: Duration, condition: impl Fn(&Received) -> bool) {
        let what = format!("{what}\n--- witness.log ends:\n{}", tail_of(&self.log, 10));
        wait_until(&what, limit, || {
            self.child.assert_running();
            self.received.update();
            let met = condition(&self.received);
            if !met {
                super::pass_time(Duration::from_millis(40));
            }
            met
        });
    }

    /// Everything the agent has committed up to now has arrived or been declared lost, unchanged, no seq twice.
    pub fn wait_for_all(&mut self, agent: &mut Agent, limit: Duration) {
        agent.update_commits();
        let (required, total) = (newest(&agent.runs), agent.committed());
        let end = std::time::Instant::now() + limit;
        let mut absent = missing(&agent.runs, &self.received);
        while !absent.is_empty() {
            self.received.update();
            absent.retain(|key| !self.received.has(*key));
            agent.check();
            assert!(
                std::time::Instant::now() < end || absent.is_empty(),
                "{} of {total} committed records neither arrived nor were declared lost in {limit:?}: {:?} ...\n\
                 --- witness.log ends:\n{}\n--- agent's log ends:\n{}",
                absent.len(),
                &absent[..absent.len().min(5)],
                tail_of(&self.log, 10),
                tail_of(&agent.log, 30),
            );
            super::pass_time(Duration::from_millis(40));
        }
        self.complete = required;
        self.assert_sound(agent);
    }

    /// Nothing that must never be has been: see [`complaints`]. Gaps are judged by [`Witness::assert_no_gap`].
    pub fn assert_sound(&mut self, agent: &mut Agent) {
        self.received.update();
        agent.update_commits();
        let found = complaints(&agent.runs, &self.received);
        assert!(found.is_empty(), "{} complaints:\n{}", found.len(), found[..found.len().min(20)].join("\n"));
    }

    /// Waits for what a killed process had made durable and had not told of yet, which history brings last.
    pub fn wait_for_no_gap(&mut self, limit: Duration) {
        let complete = self.complete.clone();
        self.wait("every seq below the newest", limit, |received| gaps(received, &complete).is_empty());
    }

    /// Below the newest record that [`Witness::wait_for_all`] waited for, every seq has been received or declared. What
    /// was committed later may rest in the outbox.
    pub fn assert_no_gap(&mut self) {
        self.received.update();
        let found = gaps(&self.received, &self.complete);
        assert!(found.is_empty(), "{} seqs are a gap: {:?} ...", found.len(), &found[..found.len().min(10)]);
    }
}
