//! The agent is killed at its n-th fdatasync, for every n, and at its n-th directory fsync (P1, P3): strace sends the
//! SIGKILL as the call is entered, so that each kill meets another step of opening, committing, rolling and saving.

use crate::support::agent::{Agent, burst};
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, number};

/// strace counts the calls of each thread by itself; the first dozen are those of the start. `HOLDOVER_SYNC_KILLS=n`
/// asks for more.
const FDATASYNCS: u64 = 24;
const FSYNCS: u64 = 4;

fn kill_at(agent: &mut Agent, call: &str, n: u64) -> bool {
    let inject = format!("inject={call}:signal=KILL:when={n}");
    let trace = format!("trace={call}");
    agent.wrap(&["strace", "-f", "-qqq", "-o", "/dev/null", "-e", &trace, "-e", &inject, "-e", "signal=none"]);
    agent.up();
    let code = agent.wait_for_exit();
    agent.runs.last_mut().expect("it ran").killed = true;
    assert_eq!(code, None, "the agent was to be killed at {call} {n} and ended by itself");
    agent.update_commits();
    !agent.runs.last().expect("it ran").list.is_empty()
}

#[test]
fn kill_at_every_nth_sync_loses_nothing() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    // Small segments, so that rolls and the first file of an epoch are among what is interrupted.
    agent.setup.max_bytes = "16MiB".to_owned();
    // Many small commits a second.
    agent.setup.collectors = (0..12).map(|n| burst(agent.dir(), &format!("c{n}"), 5, 40)).collect();
    let mut committed = 0;
    let fdatasyncs = number("HOLDOVER_SYNC_KILLS").unwrap_or(FDATASYNCS);
    for n in 1..=fdatasyncs {
        committed += u32::from(kill_at(&mut agent, "fdatasync", n));
    }
    for n in 1..=FSYNCS {
        committed += u32::from(kill_at(&mut agent, "fsync", n));
    }
    agent.wrap(&[]);
    agent.up();
    agent.wait_for_more(1);
    witness.wait_for_all(&mut agent, PATIENCE * 2);
    witness.wait_for_no_gap(PATIENCE);
    agent.down();
    witness.assert_sound(&mut agent);
    assert!(witness.received.losses.is_empty(), "{:?}", witness.received.losses);
    agent.verify_outbox();
    eprintln!("{} kills, {committed} after a commit; {} records", fdatasyncs + FSYNCS, agent.committed());
    assert!(committed > 5, "only {committed} of the killed processes had committed anything");
}
