//! The tracker against its definition, written once more as plain sets of single seqs.
//!
//! Random histories of messages, losses and statuses of two epochs; after each step every verdict, finding and
//! state must be the same. Prints its seed; `HOLDOVER_SEED` replays it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::tests::{at, loss, status};
use super::*;

type Seqs = BTreeSet<u64>;

/// Open-ended losses reach this far in the model; no operation speaks of a higher seq.
const END: u64 = 120;

#[derive(Clone, Debug)]
enum Op {
    Message { epoch: u64, lane: Lane, seqs: Vec<u64> },
    Loss { epoch: u64, from: u64, to: Option<u64> },
    Status { epoch: u64, next: u64, pending: Vec<(u64, u64, u64)>, retained: bool, session: u8, hub: bool, after: u64 },
}

#[derive(Debug, Default)]
struct ModelEpoch {
    seen: Seqs,
    expected: Seqs,
    declared: Seqs,
    pending: Seqs,
    struck: Seqs,
    confirmed: Seqs,
    base: Option<u64>,
    top: u64,
}

#[derive(Debug, Default)]
struct Model {
    epochs: BTreeMap<u64, ModelEpoch>,
    session: Option<u8>,
    last_live: BTreeSet<(u64, u64)>,
    counted_at: Option<u64>,
    now: u64,
}

/// What a step is seen to do, per seq.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    verdicts: Vec<(u64, Verdict)>,
    opened: BTreeSet<(u64, u64)>,
    confirmed: BTreeSet<(u64, u64)>,
    lost: BTreeSet<(u64, u64)>,
}

impl ModelEpoch {
    fn missing(&self) -> Seqs {
        self.expected.iter().filter(|s| !self.seen.contains(s) && !self.declared.contains(s)).copied().collect()
    }

    fn reach(&mut self, last: u64) {
        if let Some(base) = self.base {
            self.expected.extend(base.max(self.top + 1)..=last);
        }
        self.top = self.top.max(last);
    }

    fn begin(&mut self, base: u64, last: u64) {
        self.base = Some(base);
        self.top = self.top.max(last);
        self.expected.extend(base..=self.top);
    }

    fn run(&mut self, run: &[u64], lane: Lane) -> Vec<(u64, Verdict)> {
        let missing = self.missing();
        let judge = |s: u64| match s {
            s if self.seen.contains(&s) => Verdict::Duplicate,
            s if missing.contains(&s) || self.declared.contains(&s) => Verdict::Late,
            _ => Verdict::New,
        };
        let verdicts = run.iter().map(|&s| (s, judge(s))).collect();
        self.seen.extend(run);
        match (self.base, lane) {
            (None, Lane::Live) => self.begin(run[0], run[run.len() - 1]),
            _ => self.reach(run[run.len() - 1]),
        }
        self.tidy();
        verdicts
    }

    fn tidy(&mut self) {
        let missing = self.missing();
        self.struck.retain(|s| missing.contains(s));
        self.confirmed.retain(|s| missing.contains(s));
    }
}

impl Model {
    fn step(&mut self, op: &Op) -> Seen {
        let before: BTreeMap<u64, Seqs> = self.epochs.iter().map(|(&e, m)| (e, m.missing())).collect();
        let declared: BTreeMap<u64, Seqs> = self.epochs.iter().map(|(&e, m)| (e, m.declared.clone())).collect();
        let mut seen = Seen::default();
        match op {
            Op::Message { epoch, lane, seqs } => {
                let state = self.epochs.entry(*epoch).or_default();
                for run in seqs.chunk_by(|a, b| a + 1 == *b) {
                    let missing = state.missing();
                    seen.verdicts.extend(state.run(run, *lane));
                    seen.opened.extend(state.missing().difference(&missing).map(|&s| (*epoch, s)));
                }
            }
            Op::Loss { epoch, from, to } => {
                let state = self.epochs.entry(*epoch).or_default();
                state.declared.extend(*from..=to.unwrap_or(END));
                state.tidy();
            }
            Op::Status { .. } => self.status(op, &mut seen),
        }
        for (&epoch, state) in &self.epochs {
            if !matches!(op, Op::Message { .. }) {
                let none = Seqs::new();
                let was = before.get(&epoch).unwrap_or(&none);
                seen.opened.extend(state.missing().difference(was).map(|&s| (epoch, s)));
            }
            let none = Seqs::new();
            let was = declared.get(&epoch).unwrap_or(&none);
            seen.lost.extend(state.declared.difference(was).map(|&s| (epoch, s)));
        }
        seen
    }

    fn status(&mut self, op: &Op, seen: &mut Seen) {
        let Op::Status { epoch, next, pending, retained, session, hub, after } = op else { return };
        self.now += after;
        let counts = !retained && self.counted_at.is_none_or(|at| self.now - at >= 5);
        if counts {
            self.counted_at = Some(self.now);
        }
        let listed: BTreeSet<(u64, u64)> =
            pending.iter().flat_map(|&(e, from, to)| (from..=to).map(move |s| (e, s))).collect();
        let connected = self.session != Some(*session);
        let owed: BTreeSet<(u64, u64)> = match (retained, hub, connected, counts) {
            (true, ..) | (_, true, ..) => BTreeSet::new(),
            (_, _, true, _) => listed.clone(),
            (_, _, _, true) => listed.intersection(&self.last_live).copied().collect(),
            _ => BTreeSet::new(),
        };
        if counts {
            self.last_live = listed.clone();
        } else if connected {
            self.last_live.clear();
        }
        self.session = Some(*session);
        let state = self.epochs.entry(*epoch).or_default();
        match state.base {
            None if !retained => state.begin(*next, next - 1),
            _ => state.reach(next - 1),
        }
        for &(epoch, seq) in &owed {
            self.epochs.entry(epoch).or_default().expected.insert(seq);
        }
        for (&epoch, state) in &mut self.epochs {
            state.pending = listed.iter().filter(|(e, _)| *e == epoch).map(|(_, s)| *s).collect();
            state.confirmed.retain(|s| !state.pending.contains(s));
            state.struck.retain(|s| !state.pending.contains(s));
            if counts {
                let twice: Seqs = state.struck.difference(&state.confirmed).copied().collect();
                seen.confirmed.extend(twice.iter().map(|&s| (epoch, s)));
                state.confirmed.extend(twice);
                state.struck = state.missing().difference(&state.pending).copied().collect();
            }
        }
    }
}

fn step_tracker(tracker: &mut Tracker, op: &Op, now: &mut u64) -> Seen {
    let mut seen = Seen::default();
    let findings = match op {
        Op::Message { epoch, lane, seqs } => {
            let observed = tracker.observe("h", *epoch, seqs, *lane, at(*now));
            seen.verdicts = observed.verdicts.into_iter().flat_map(|(r, v)| r.map(move |s| (s, v))).collect();
            observed.findings
        }
        Op::Loss { epoch, from, to } => tracker.declare("h", &[loss(*epoch, *from, *to)]),
        Op::Status { epoch, next, pending, retained, session, hub, after } => {
            *now += after;
            let mut beat = status(*epoch, *next, pending);
            beat.session = session.to_string();
            beat.level = if *hub { "hub" } else { "broker" }.to_owned();
            tracker.heartbeat("h", &beat, *retained, at(*now))
        }
    };
    for finding in findings {
        match finding {
            Finding::Gap { epoch, seqs, .. } => seen.opened.extend(seqs.map(|s| (epoch, s))),
            Finding::Confirmed { epoch, seqs } => seen.confirmed.extend(seqs.map(|s| (epoch, s))),
            Finding::Lost { epoch, from, to, .. } => {
                seen.lost.extend((from..=to.unwrap_or(END)).map(|s| (epoch, s)));
            }
            Finding::NewEpoch { .. } | Finding::Bound(_) => {}
        }
    }
    seen
}

fn states(tracker: &Tracker) -> BTreeMap<(u64, u64), GapState> {
    let gaps = tracker.gaps("h").into_iter();
    gaps.flat_map(|gap| gap.seqs.map(move |seq| ((gap.epoch, seq), gap.state))).collect()
}

fn model_states(model: &Model) -> BTreeMap<(u64, u64), GapState> {
    let mut states = BTreeMap::new();
    for (&epoch, m) in &model.epochs {
        for seq in m.missing() {
            let state = match () {
                () if m.confirmed.contains(&seq) => GapState::Confirmed,
                () if m.pending.contains(&seq) => GapState::Pending,
                () => GapState::Open,
            };
            states.insert((epoch, seq), state);
        }
    }
    states
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let epoch = 1u64..3;
    let lane = prop_oneof![Just(Lane::Live), Just(Lane::History)];
    let run = (1u64..60, 0u64..8).prop_map(|(first, len)| (first..=first + len).collect::<Vec<u64>>());
    let seqs = prop_oneof![
        4 => run,
        1 => proptest::collection::vec(1u64..60, 1..6),
    ];
    let message = (epoch.clone(), lane, seqs).prop_map(|(epoch, lane, seqs)| Op::Message { epoch, lane, seqs });
    let loss = (epoch.clone(), 1u64..60, proptest::option::weighted(0.9, 0u64..10))
        .prop_map(|(epoch, from, len)| Op::Loss { epoch, from, to: len.map(|l| from + l) });
    let pending = proptest::collection::vec((epoch.clone(), 1u64..60, 0u64..20), 0..4)
        .prop_map(|p| p.into_iter().map(|(e, from, len)| (e, from, from + len)).collect());
    let status = (epoch, 1u64..80, pending, any::<bool>(), 0u8..3, any::<bool>(), 0u64..9).prop_map(
        |(epoch, next, pending, retained, session, hub, after)| Op::Status {
            epoch,
            next,
            pending,
            retained,
            session,
            hub,
            after,
        },
    );
    proptest::collection::vec(prop_oneof![5 => message, 1 => loss, 3 => status], 1..40)
}

/// A runner whose cases follow from one printed number.
fn seeded(cases: u32) -> TestRunner {
    let seed = std::env::var("HOLDOVER_SEED")
        .ok()
        .and_then(|s| s.parse::<u64>().ok())
        .unwrap_or_else(|| RandomState::new().hash_one("tracker"));
    println!("HOLDOVER_SEED={seed}");
    let mut bytes = [0u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

#[test]
fn judges_every_history_as_the_definition_does() {
    let run = |ops: Vec<Op>| {
        let (mut tracker, mut model, mut now) = (Tracker::default(), Model::default(), 0);
        for (i, op) in ops.iter().enumerate() {
            let expected = model.step(op);
            let got = step_tracker(&mut tracker, op, &mut now);
            prop_assert_eq!(got, expected, "step {} {:?}", i, op);
            prop_assert_eq!(states(&tracker), model_states(&model), "after step {} {:?}", i, op);
        }
        let missing = tracker.missing("h");
        let count = |want| model_states(&model).values().filter(|s| **s == want).count() as u64;
        prop_assert_eq!(missing.open, count(GapState::Open));
        prop_assert_eq!(missing.pending, count(GapState::Pending));
        prop_assert_eq!(missing.confirmed, count(GapState::Confirmed));
        Ok(())
    };
    seeded(800).run(&ops(), run).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn stays_within_its_bounds_whatever_arrives() {
    let bounds = Bounds { hosts: 1, epochs_per_host: 1, ranges_per_epoch: 4, ranges_total: 20, ..Bounds::default() };
    let run = |ops: Vec<Op>| {
        let (mut tracker, mut now) = (Tracker::new(bounds), 0);
        for op in &ops {
            step_tracker(&mut tracker, op, &mut now);
            prop_assert!(tracker.gaps("h").len() <= 16, "missing ranges, split by state");
            prop_assert!(tracker.losses("h").len() <= 5);
            let held: usize = tracker.hosts.values().flat_map(|h| h.epochs.values()).map(Epoch::range_count).sum();
            prop_assert_eq!(held, tracker.ranges, "the running count is the true one");
            prop_assert!(tracker.hosts.values().all(|h| h.epochs.len() <= 1));
        }
        Ok(())
    };
    seeded(400).run(&ops(), run).unwrap_or_else(|failure| panic!("{failure}"));
}
