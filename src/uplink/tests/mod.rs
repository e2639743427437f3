//! The uplink by example: a hand-driven world with one line per thing that happens.

mod answers;
mod commands;
mod compressed;
mod copies;
mod ends;
mod hubs;
mod kept;
mod lanes;
mod life;
mod poison;
mod reading;
mod trials;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::record::{ClockContext, Point, Record, Value};
use crate::wire::{Chunk, DecodeLimits, Envelope, LossReason, Status, TopicScheme, decode_envelope, encode_record};

const EPOCH: u64 = 77;

/// A publish as the world saw it.
#[derive(Clone, Debug)]
struct Seen {
    token: u64,
    /// The topic behind the host: `h`, `m/cpu`, `status`.
    topic: String,
    payload: Vec<u8>,
    retain: bool,
    content_type: &'static str,
    correlation: Option<Vec<u8>>,
}

impl Seen {
    fn envelope(&self) -> Envelope {
        decode_envelope(&self.payload, &DecodeLimits::default()).unwrap()
    }

    fn seqs(&self) -> Vec<u64> {
        self.envelope().records.iter().map(|r| r.seq).collect()
    }

    fn status(&self) -> Status {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

/// An uplink, a clock and an outbox that answers loads at once.
struct Bench {
    uplink: Uplink,
    now: Now,
    chunks: BTreeMap<(u64, u64), Chunk>,
    answers_loads: bool,
    seen: Vec<Seen>,
    /// Every action but publishes and logs.
    actions: Vec<Action>,
    logs: Vec<String>,
}

fn settings() -> Settings {
    let topics = TopicScheme::new("", "plant", "edge").unwrap();
    let mut settings = Settings::new("edge", "plant", "boot-1".into(), topics);
    settings.urls = vec!["mqtts://one:8883".into(), "mqtts://two:8883".into()];
    settings.meta = b"{}".to_vec();
    settings
}

/// Wall clock of the bench's boot.
const BOOTED: i64 = 1_699_999_500_000;

/// One record of about `bytes` bytes.
fn chunk(seq: u64, bytes: usize) -> Chunk {
    let point = Point {
        ts: BOOTED + seq as i64,
        mono: seq,
        name: "t".into(),
        tags: Default::default(),
        fields: [("x".into(), Value::Str("x".repeat(bytes.saturating_sub(70))))].into(),
        error: None,
    };
    let mut maps = Vec::new();
    encode_record(&Record::new(seq, point), &mut maps);
    let context = ClockContext { boot: "boot-1".into(), synced: true };
    Chunk { epoch: EPOCH, first: seq, count: 1, context, maps: maps.into() }
}

fn loss(from: u64, to: u64) -> Loss {
    Loss { epoch: EPOCH, from, to: Some(to), count: to - from + 1, reason: LossReason::Quota, t0: 1, t1: 2 }
}

impl Bench {
    fn new(settings: Settings, backlog: Vec<Chunk>) -> Self {
        let pending = backlog.iter().map(Chunk::seqs).collect();
        let next_seq = backlog.last().map_or(1, |c| c.last() + 1);
        let view = EpochView { epoch: EPOCH, pending, next_seq, in_doubt: false };
        Self {
            uplink: Uplink::new(settings, vec![view], Vec::new(), 1),
            now: Now { mono: Duration::from_secs(100), boot: Duration::from_secs(500), wall_ms: 1_700_000_000_000 },
            chunks: backlog.into_iter().map(|c| ((c.epoch, c.first), c)).collect(),
            answers_loads: true,
            seen: Vec::new(),
            actions: Vec::new(),
            logs: Vec::new(),
        }
    }

    /// Connected, its status and meta acknowledged and forgotten; history may already be on its way.
    fn connected(settings: Settings, backlog: Vec<Chunk>, limits: Limits) -> Self {
        let mut bench = Self::new(settings, backlog);
        bench.act();
        bench.actions.clear();
        bench.input(Input::Connected(limits));
        bench.ack_own();
        bench
    }

    /// Acknowledges status and meta.
    fn ack_own(&mut self) {
        let own = |s: &Seen| s.topic == "status" || s.topic == "meta";
        while let Some(at) = self.seen.iter().position(own) {
            let token = self.seen.remove(at).token;
            self.ack(token, 0);
        }
    }

    fn input(&mut self, input: Input) {
        self.uplink.handle(input, self.now);
        self.act();
    }

    fn ack(&mut self, token: u64, code: u8) {
        self.input(Input::Acked { token, code });
    }

    fn append(&mut self, collector: &str, chunks: Vec<Chunk>) {
        chunks.iter().for_each(|c| drop(self.chunks.insert((c.epoch, c.first), c.clone())));
        self.input(Input::Appended { collector: collector.into(), chunks });
    }

    fn lose(&mut self) {
        self.input(Input::Closed(CloseReason::Lost("reset".into())));
    }

    /// Waits for the next attempt and lets it succeed; status and meta are acknowledged.
    fn reconnect(&mut self) {
        self.come_up();
        self.ack_own();
    }

    /// Waits for the next attempt and lets it succeed.
    fn come_up(&mut self) {
        let connect = |a: &Action| matches!(a, Action::Connect { .. });
        self.act();
        for _ in 0..100 {
            if self.actions.iter().any(connect) {
                break;
            }
            self.sleep_until_woken();
        }
        self.actions.retain(|a| !connect(a));
        self.input(Input::Connected(Limits::default()));
    }

    fn act(&mut self) {
        while let Some(action) = self.uplink.poll(self.now) {
            match action {
                Action::Publish { token, topic, payload, retain, content_type, correlation } => {
                    let topic = topic.as_str().trim_start_matches("v1/plant/edge/").to_owned();
                    self.seen.push(Seen { token, topic, payload, retain, content_type, correlation });
                }
                Action::Load { epoch, range, max_bytes } if self.answers_loads => {
                    let mut bytes = 0;
                    let chunks: Vec<Chunk> = self
                        .chunks
                        .range((epoch, *range.start())..=(epoch, *range.end()))
                        .map(|(_, c)| c.clone())
                        .take_while(|c| {
                            bytes += c.maps.len();
                            bytes <= max_bytes || bytes == c.maps.len()
                        })
                        .collect();
                    self.uplink.handle(Input::Loaded { epoch, range, chunks }, self.now);
                }
                Action::Subscribe(filters) => {
                    let outcomes = filters.into_iter().map(|filter| (filter, 1)).collect();
                    self.uplink.handle(Input::Subscribed(outcomes), self.now);
                    // What was kept there: our own will.
                    let payload = self.uplink.offline_payload(&self.uplink.status(self.now).session);
                    let topic = "v1/plant/edge/status".to_owned();
                    let kept = Message { topic, payload, retained: true, ..Message::default() };
                    self.uplink.handle(Input::Received(kept), self.now);
                }
                Action::Log { severity, text } => self.logs.push(format!("{severity:?}: {text}")),
                action => self.actions.push(action),
            }
        }
    }

    fn sleep(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.boot += time;
        self.now.wall_ms += time.as_millis() as i64;
        self.act();
    }

    fn sleep_until_woken(&mut self) {
        let wake = self.uplink.next_wake().expect("something is due");
        assert!(wake > self.now.mono, "asked to be called at once");
        self.sleep(wake - self.now.mono);
    }

    /// Sleeps, honouring every wish to be called; returns how many there were.
    fn pass(&mut self, time: Duration) -> usize {
        let end = self.now.mono + time;
        let mut wakes = 0;
        while let Some(wake) = self.uplink.next_wake().filter(|at| *at <= end) {
            assert!(wake > self.now.mono, "asked to be called at once");
            self.sleep(wake - self.now.mono);
            wakes += 1;
        }
        self.sleep(end - self.now.mono);
        wakes
    }

    /// The publishes to `topic` since the last call.
    fn take(&mut self, topic: &str) -> Vec<Seen> {
        self.seen.extract_if(.., |s| s.topic == topic).collect()
    }

    fn take_one(&mut self, topic: &str) -> Seen {
        let mut seen = self.take(topic);
        assert_eq!(seen.len(), 1, "publishes to {topic}: {seen:?}");
        seen.remove(0)
    }

    fn settled(&mut self) -> Vec<u64> {
        let settles = self.actions.extract_if(.., |a| matches!(a, Action::Settle { .. }));
        settles
            .flat_map(|a| match a {
                Action::Settle { epoch, seqs } if epoch == EPOCH => seqs.iter().flatten().collect::<Vec<_>>(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn quarantined(&mut self) -> Vec<u64> {
        let found = self.actions.extract_if(.., |a| matches!(a, Action::Quarantine { .. }));
        found
            .map(|a| match a {
                Action::Quarantine { seqs, .. } => *seqs.start(),
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

/// Seqs 1..=n of about `bytes` bytes each.
fn backlog(n: u64, bytes: usize) -> Vec<Chunk> {
    (1..=n).map(|seq| chunk(seq, bytes)).collect()
}
