//! A backlog that is drained in zstd frames: the same records, the same bytes, in fewer of them on the wire (P2, P3).

use crate::support::PATIENCE;
use crate::support::agent::{Agent, burst};
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::witness::Witness;

#[test]
fn a_backlog_arrives_unchanged_in_frames_and_live_stays_plain() {
    let lab = Lab::new();
    let mut broker = Mosquitto::absent(&lab, "broker");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.setup.broker = "compression = \"zstd\"\n".to_owned();
    agent.setup.uplink = "history_rate = \"unlimited\"\n".to_owned();
    agent.setup.collectors += &burst(agent.dir(), "bulk", 900, 300);
    agent.up();
    agent.wait_for_more(6_000);
    broker.up();
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    witness.wait_for_all(&mut agent, PATIENCE);
    // Connected for a while, so that there is live data to be seen.
    agent.wait_for_more(300);
    witness.wait_for_all(&mut agent, PATIENCE);
    agent.down();
    witness.assert_sound(&mut agent);
    witness.assert_no_gap();
    agent.verify_outbox();

    let received = &witness.received;
    assert!(received.losses.is_empty(), "{:?}", received.losses);
    assert!(received.arrivals.iter().any(|(_, history, _)| !history), "nothing went live");
    assert!(received.frames.iter().all(|(topic, ..)| topic.ends_with("/h")), "{:?}", received.frames);
    let (sent, inside) = received.frames.iter().fold((0, 0), |(s, i), (_, bytes, plain)| (s + bytes, i + plain));
    let history: usize =
        received.arrivals.iter().filter(|(_, history, _)| *history).map(|(.., hex)| hex.len() / 2).sum();
    assert!(inside as usize >= history * 9 / 10, "{inside} of {history} bytes of history came in frames");
    assert!(sent * 4 < inside, "{sent} bytes for {inside}");
    let largest = received.frames.iter().map(|(.., plain)| *plain).max().unwrap_or_default();
    assert!(largest > 64 << 10, "no frame held more than a plain packet may: {largest}");
    eprintln!("{} frames, {inside} bytes as {sent}, the largest of {largest}", received.frames.len());
}
