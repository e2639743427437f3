//! Agent, broker and hub are killed with -9, one at a time and together, at random: at level `hub` every committed
//! record is in the hub's files once and unchanged, though the broker forgets what it had acknowledged (P1, P2, P4).

use std::time::Duration;

use crate::support::agent::Agent;
use crate::support::hub::Hub;
use crate::support::judge::Verdict;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::random::Random;
use crate::support::{PATIENCE, number, pass_time};

/// `HOLDOVER_ANY_KILLS=n` asks for more.
const CYCLES: u64 = 300;

#[test]
fn whoever_is_killed_every_record_is_stored_once() {
    let mut random = Random::new("whoever_is_killed_every_record_is_stored_once");
    let lab = Lab::new();
    let mut broker = Mosquitto::start(&lab, "broker");
    let mut hub = Hub::new(&lab, broker.port);
    hub.up();
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.setup.uplink = "level = \"hub\"\nhistory_rate = \"unlimited\"\n".to_owned();
    agent.up();
    let mut killed = [0_u32; 3];
    for _ in 0..number("HOLDOVER_ANY_KILLS").unwrap_or(CYCLES) {
        pass_time(Duration::from_millis(random.within(50..500)));
        // 1 to 7: at least one of the three.
        let who = random.within(1..8);
        if who & 1 != 0 {
            agent.check();
            agent.kill();
        }
        if who & 2 != 0 {
            broker.kill();
        }
        if who & 4 != 0 {
            hub.check();
            hub.kill();
        }
        pass_time(Duration::from_millis(random.within(0..100)));
        if who & 2 != 0 {
            broker.up();
        }
        if who & 4 != 0 {
            hub.up();
        }
        if who & 1 != 0 {
            agent.up();
        }
        (0..3).for_each(|bit| killed[bit] += u32::from(who & (1 << bit) != 0));
    }
    agent.wait_for_more(100);
    hub.wait_until_stored(&mut agent, PATIENCE * 3);
    agent.down();
    hub.down();
    agent.update_commits();
    // A kill between a commit and its witness line leaves records that nobody vouches for: `strange` is no fault here.
    let verdict = Verdict::of(&agent.commit_files(), &hub.dir);
    for fault in ["missing", "twice", "changed", "reused"] {
        assert_eq!(verdict.seqs(fault), 0, "{fault}: {verdict:?}");
    }
    let committed = agent.committed();
    let [agents, brokers, hubs] = killed;
    eprintln!(
        "{agents} kills of the agent, {brokers} of the broker, {hubs} of the hub; {committed} records, each stored once"
    );
    assert!(committed > 500, "only {committed} records were committed");
    agent.verify_outbox();
}
