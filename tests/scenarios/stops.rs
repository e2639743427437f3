//! An orderly stop: what is collected in its last moment is published before the goodbye, not at the next start.

use crate::support::agent::{Agent, burst};
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::oracle::missing;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, wait_until};

#[test]
fn what_is_committed_while_the_agent_stops_is_published_before_it_ends() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    // It never ends by itself: that it was killed by the stop is a record, and the last one.
    let begun = agent.dir().join("begun");
    agent.setup.collectors = burst(agent.dir(), "a", 5, 40)
        + &format!(
            "[[collector]]\nname = \"endless\"\nexec = [\"/bin/sh\", \"-c\", \"touch {}; exec sleep 3000\"]\n\
             every = \"1s\"\ntimeout = \"1h\"\n",
            begun.display()
        );
    for round in 1..=3 {
        agent.up();
        wait_until("the script to run", PATIENCE, || {
            agent.check();
            begun.exists()
        });
        agent.wait_for_more(10);
        witness.wait_for_all(&mut agent, PATIENCE);
        agent.down();
        std::fs::remove_file(&begun).expect("it was there");
        agent.update_commits();
        let hex: String = "killed: the agent was stopped".bytes().map(|byte| format!("{byte:02x}")).collect();
        let stopped = agent.runs.last().expect("it ran").list.iter().filter(|(_, bytes)| bytes.contains(&hex)).count();
        assert_eq!(stopped, 1, "round {round}");
        // Nobody is left who could send anything again.
        witness.wait("what was committed last", PATIENCE, |received| missing(&agent.runs, received).is_empty());
    }
    witness.assert_sound(&mut agent);
    agent.verify_outbox();
}
