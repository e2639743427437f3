//! The agent is killed a hundred times, in outages and in replays (P1, P3): what it had committed is not lost, and no
//! seq is ever used twice.

use std::time::Duration;

use crate::support::agent::Agent;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::proxy::Proxy;
use crate::support::random::Random;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, number, pass_time};

/// `HOLDOVER_KILLS=n` asks for more.
const KILLS: u64 = 100;

#[test]
fn committed_records_survive_a_hundred_kills() {
    let mut random = Random::new("committed_records_survive_a_hundred_kills");
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let proxy = Proxy::start(broker.port);
    let mut agent = Agent::new(&lab, "edge-01", proxy.port);
    let (mut in_outage, mut in_replay) = (0, 0);
    let kills = number("HOLDOVER_KILLS").unwrap_or(KILLS);
    for kill in 0..kills {
        // Five in an outage, then five while what they left is sent.
        let outage = kill % 10 < 5;
        proxy.refuse(outage);
        agent.up();
        pass_time(Duration::from_millis(random.within(150..1_200)));
        agent.check();
        agent.kill();
        let before = witness.received.arrivals.len();
        witness.received.update();
        let replayed = witness.received.arrivals[before..].iter().any(|(_, history, _)| *history);
        in_outage += u32::from(outage);
        in_replay += u32::from(!outage && replayed);
    }
    proxy.refuse(false);
    agent.up();
    agent.wait_for_more(1);
    witness.wait_for_all(&mut agent, PATIENCE * 2);
    agent.down();
    witness.assert_sound(&mut agent);
    witness.assert_no_gap();
    assert!(witness.received.losses.is_empty(), "{:?}", witness.received.losses);
    agent.verify_outbox();
    let runs_with_commits = agent.runs.iter().filter(|run| !run.list.is_empty()).count();
    eprintln!(
        "{kills} kills, {in_outage} in an outage, {in_replay} after a replay had begun; {runs_with_commits} processes \
         committed {} records; {} duplicates",
        agent.committed(),
        witness.received.duplicates()
    );
    // Otherwise this has tested nothing.
    assert!(runs_with_commits > 30, "only {runs_with_commits} processes committed anything before they were killed");
    assert!(in_replay > 5, "only {in_replay} kills met a replay");
}
