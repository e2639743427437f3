//! Many connections, each wrong in its own way, from one seed: an acknowledgement is never given to the wrong publish.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdover::uplink::transport::{Connection, PublishRefused, TransportEvent};
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode, PubAckReason};

use super::scripted::options;
use super::{publish, run};
use crate::support::scripted_broker::{Acks, Script, ScriptedBroker};

const TOKENS: u64 = 3000;

/// splitmix64: small, and the same everywhere.
#[derive(Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// From HOLDOVER_SEED, or another one for each run.
pub fn seed() -> u64 {
    match std::env::var("HOLDOVER_SEED") {
        Ok(text) => text.parse().expect("HOLDOVER_SEED is a number"),
        Err(_) => u64::from(std::process::id()),
    }
}

fn script(seed: u64, n: usize) -> Script {
    let mut d = Dice(seed ^ (n as u64).wrapping_mul(0x0100_0000_01b3));
    let at = 1 + d.roll(60) as usize;
    let mut s = Script {
        session_present: d.one_in(2),
        receive_max: [None, Some(1), Some(2), Some(5), Some(20), Some(50)][d.roll(6) as usize],
        acks: [Acks::AtOnce, Acks::Reversed(2), Acks::Reversed(7)][d.roll(3) as usize].clone(),
        cut_after_publishes: Some(at + d.roll(60) as usize),
        ..Script::default()
    };
    if d.one_in(3) {
        let reasons = [PubAckReason::QuotaExceeded, PubAckReason::NotAuthorized, PubAckReason::NoMatchingSubscribers];
        s.codes = vec![(format!("/{}/", d.roll(10)), reasons[d.roll(3) as usize])];
    }
    match d.roll(9) {
        0 => s.refuse = Some(ConnectReturnCode::ServerBusy),
        1 => s.cut_after_bytes = Some(1 + d.roll(1500) as usize),
        2 => s.repeat_ack_of = Some(at),
        3 => s.invent_ack_after = Some(at),
        4 => s.forget_ack_of = Some(at),
        5 => s.disconnect_after = Some((at, DisconnectReasonCode::ServerBusy)),
        6 => s.acks = Acks::Never,
        _ => {}
    }
    s
}

#[derive(Default)]
struct Tally {
    connections: usize,
    acks: usize,
    refusals: usize,
    sent: usize,
}

#[test]
fn an_acked_token_was_received_and_acknowledged_on_that_connection() {
    let seed = seed();
    println!("HOLDOVER_SEED={seed}");
    run(async {
        let broker = ScriptedBroker::start(move |n| script(seed, n));
        let mut pending: BTreeSet<u64> = (1..=TOKENS).collect();
        let mut tally = Tally::default();
        while !pending.is_empty() {
            assert!(tally.connections < 5000, "seed {seed}: {} tokens left", pending.len());
            one_connection(&broker, &mut pending, &mut tally, seed).await;
        }
        println!(
            "{} connections, {} publishes, {} acks, {} refusals, 0 wrong",
            tally.connections, tally.sent, tally.acks, tally.refusals
        );
        assert!(tally.connections > 20, "the chaos was not chaotic");
    });
}

/// Sends the oldest pending tokens until the connection ends or falls quiet, and checks each acknowledgement.
async fn one_connection(broker: &ScriptedBroker, pending: &mut BTreeSet<u64>, tally: &mut Tally, seed: u64) {
    let n = tally.connections;
    tally.connections += 1;
    let mut connection = Connection::open(&options(broker.port)).unwrap();
    let mut sent = BTreeSet::new();
    let mut told: BTreeMap<(u64, u8), usize> = BTreeMap::new();
    let mut up = false;
    // A broker that keeps an acknowledgement back leaves it quiet: then the caller goes on to the next connection.
    while let Ok(event) =
        tokio::time::timeout(Duration::from_millis(if up { 150 } else { 10_000 }), connection.next()).await
    {
        match event {
            TransportEvent::Connected(_) => up = true,
            TransportEvent::Acked { token, code } => {
                *told.entry((token, code)).or_default() += 1;
                tally.acks += 1;
                if code < 0x80 {
                    assert!(pending.remove(&token), "seed {seed}, connection {n}: token {token} settled twice");
                } else {
                    tally.refusals += 1;
                }
            }
            TransportEvent::Closed(_) => break,
            _ => {}
        }
        while up && connection.free() > 0 {
            let Some(token) = pending.iter().find(|t| !sent.contains(*t)).copied() else { break };
            // The topic decides the reason code, and varies so that a refused token passes another time.
            let topic = format!("v1/p/e/{}/{n}", (token + n as u64) % 10);
            match connection.publish(publish(token, &format!("{topic}/"), &payload(token, n))) {
                Ok(()) => {}
                // Its last events still wait to be taken.
                Err(PublishRefused::Closed) => break,
                Err(other) => panic!("seed {seed}, connection {n}: {other}"),
            }
            sent.insert(token);
            tally.sent += 1;
        }
    }
    let seen = broker.seen(n);
    for ((token, code), times) in told {
        let really = seen.acked.iter().filter(|(p, c)| *p == payload(token, n) && *c == code).count();
        assert!(
            really >= times,
            "seed {seed}, connection {n}: token {token} code {code:#x}: {times} told, {really} real"
        );
    }
    assert!(!seen.id_misused, "seed {seed}, connection {n}: a packet id meant two things");
    let allowed = script(seed, n).receive_max.unwrap_or(u16::MAX).into();
    assert!(seen.most_unacknowledged <= allowed, "seed {seed}, connection {n}: above Receive Maximum {allowed}");
}

/// Tells apart the same token on two connections.
fn payload(token: u64, n: usize) -> Vec<u8> {
    [token.to_be_bytes(), (n as u64).to_be_bytes()].concat()
}
