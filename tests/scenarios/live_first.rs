//! Live first (P6), as a proxy in front of the broker sees it: while a backlog drains, a live record waits for at most
//! one history batch. The simulation of the uplink proves it exactly; here it is seen from outside.

use crate::support::PATIENCE;
use crate::support::agent::{Agent, burst};
use crate::support::front::{Front, Seen};
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::witness::Witness;

/// The proxy sees a commit up to one poll of 2 ms and its own scheduling after it was made; a batch that was on its
/// way by then does not count.
const SLACK: f64 = 0.01;

#[test]
fn at_most_one_history_batch_precedes_a_live_record() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut front = Front::absent(&lab, broker.port);
    let mut agent = Agent::new(&lab, "edge-01", front.port);
    agent.setup.collectors = burst(agent.dir(), "bulk", 900, 700);
    agent.up();
    agent.wait_for_more(12_000);
    agent.down();
    // Fast, so that the next history batch is always at hand when a live record is made.
    agent.setup.uplink = "history_rate = \"20MB\"\nhistory_batches = 50\n".to_owned();
    agent.setup.collectors =
        ["1", "2", "3", "4", "5", "6", "7", "8"].map(|name| burst(agent.dir(), name, 10, 40)).concat();
    front.up(&lab, &agent, &[]);
    agent.up();
    witness.wait_for_all(&mut agent, PATIENCE * 2);
    agent.down();
    witness.assert_sound(&mut agent);
    witness.assert_no_gap();

    let seen = front.seen();
    let history = seen.iter().filter(|one| is_history(one)).count();
    assert!(history >= 40, "only {history} history batches: no backlog to speak of");
    let waits = waits(&seen);
    let during = waits.iter().filter(|wait| wait.later_history > 0).count();
    assert!(during >= 10, "only {during} live records were made while the backlog drained");
    let worst = waits.iter().max_by_key(|wait| wait.preceding).expect("there are some");
    eprintln!("{history} history batches, {during} live records among them, worst: {worst:?}");
    assert!(worst.preceding <= 1, "{worst:?}");
}

#[derive(Debug)]
struct Wait {
    #[expect(dead_code, reason = "for the message of a failing test")]
    seq: u64,
    /// History batches between its commit and its own publish.
    preceding: usize,
    /// History batches after that: the backlog was not drained yet.
    later_history: usize,
}

fn is_history(seen: &Seen) -> bool {
    matches!(seen, Seen::Publish { topic, .. } if topic.ends_with("/h"))
}

/// For each record committed while connected that went out live: what was sent before it.
fn waits(seen: &[Seen]) -> Vec<Wait> {
    let connected = seen.iter().position(|one| matches!(one, Seen::Connected { .. })).expect("it connected");
    let commits = seen.iter().enumerate().skip(connected).filter_map(|(index, one)| match one {
        Seen::Commit { at, seq } => Some((index, *at, *seq)),
        _ => None,
    });
    commits
        .filter_map(|(index, made, seq)| {
            let own = |one: &Seen| match one {
                Seen::Publish { topic, seqs: Some((first, last)), .. } => {
                    !topic.ends_with("/h") && (*first..=*last).contains(&seq)
                }
                _ => false,
            };
            let published = index + seen[index..].iter().position(own)?;
            let late = |one: &&Seen| matches!(one, Seen::Publish { at, .. } if *at > made + SLACK);
            let preceding = seen[index..published].iter().filter(|one| is_history(one)).filter(late).count();
            let later_history = seen[published..].iter().filter(|one| is_history(one)).count();
            Some(Wait { seq, preceding, later_history })
        })
        .collect()
}

#[test]
fn judge_counts_the_history_batches_that_a_live_record_waited_for() {
    let history = |at| Seen::Publish { at, topic: "v1/s/h/h".to_owned(), seqs: Some((1, 9)) };
    let live = |at| Seen::Publish { at, topic: "v1/s/h/m/cpu".to_owned(), seqs: Some((10, 12)) };
    let seen = [
        history(0.1),
        Seen::Connected { at: 0.2 },
        Seen::Commit { at: 1.0, seq: 11 },
        // On its way when the record was committed.
        history(1.005),
        history(1.2),
        history(1.3),
        live(1.4),
        history(1.5),
    ];
    let waits = waits(&seen);
    assert_eq!((waits.len(), waits[0].preceding, waits[0].later_history), (1, 2, 1));
}
