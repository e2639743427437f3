//! What is asked for again, and when: confirmed gaps, one command at a time for each host, few for each heartbeat.
//!
//! Pure: time is an argument; what a gap is, the tracker says. After a question that brings nothing the host is left
//! alone for 1, 2, 4 .. 32 heartbeats, and the next question is about the next range, so that one which cannot be
//! answered holds up no other. Nothing here is asked at a reconnect: only heartbeats confirm gaps.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::hub::tracker::{Gap, GapState};

/// Seqs of one command, at most.
const SEQS: u64 = 10_000;
/// Commands for each heartbeat, at most; each waits for the one before.
const PER_HEARTBEAT: u32 = 16;
/// Heartbeats without an answer until the next question, at most.
const LONGEST_WAIT: u32 = 32;
/// Statuses that follow sooner are not another heartbeat.
const SPACING: Duration = Duration::from_secs(5);
/// Commands a second over all hosts.
const PER_SECOND: u32 = 20;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub host: String,
    pub site: String,
    pub epoch: u64,
    pub seqs: RangeInclusive<u64>,
    pub id: String,
}

#[derive(Debug)]
struct Asking {
    last: Ask,
    /// Not answered yet.
    open: bool,
    /// Asked since the last heartbeat.
    asked: u32,
    /// Heartbeats to let pass, and passed.
    wait: u32,
    passed: u32,
    beat: Duration,
}

#[derive(Debug)]
pub struct Resends {
    /// Makes ids unlike those of an earlier run.
    run: u64,
    count: u64,
    hosts: BTreeMap<String, Asking>,
    queue: VecDeque<Ask>,
    second: u64,
    this_second: u32,
}

impl Resends {
    pub fn new(run: u64) -> Self {
        Self { run, count: 0, hosts: BTreeMap::new(), queue: VecDeque::new(), second: 0, this_second: 0 }
    }

    /// A host that is there has said how it stands; `gaps` are what it lacks now.
    pub fn heartbeat(&mut self, host: &str, site: &str, gaps: &[Gap], now: Duration) {
        let gaps: Vec<&Gap> = gaps.iter().filter(|gap| gap.state == GapState::Confirmed).collect();
        if gaps.is_empty() {
            self.hosts.remove(host);
            return;
        }
        let Some(asking) = self.hosts.get_mut(host) else {
            self.ask(host, site, &gaps, 1, now);
            return;
        };
        if now.saturating_sub(asking.beat) < SPACING {
            return;
        }
        asking.beat = now;
        asking.asked = 0;
        asking.passed += 1;
        if !asking.open {
            let wait = asking.wait;
            self.ask(host, site, &gaps, wait, now);
        } else if asking.passed >= asking.wait {
            let wait = (asking.wait * 2).min(LONGEST_WAIT);
            self.ask(host, site, &gaps, wait, now);
        }
    }

    /// What is asked of this host and not answered.
    pub fn open(&self, host: &str) -> Option<(u64, RangeInclusive<u64>)> {
        let asking = self.hosts.get(host).filter(|asking| asking.open)?;
        Some((asking.last.epoch, asking.last.seqs.clone()))
    }

    /// Nothing of what was asked is missing any more: on to the next.
    pub fn answered(&mut self, host: &str, site: &str, gaps: &[Gap], now: Duration) {
        let Some(asking) = self.hosts.get_mut(host) else { return };
        asking.open = false;
        asking.wait = 1;
        let gaps: Vec<&Gap> = gaps.iter().filter(|gap| gap.state == GapState::Confirmed).collect();
        if gaps.is_empty() {
            self.hosts.remove(host);
        } else if asking.asked < PER_HEARTBEAT {
            self.ask(host, site, &gaps, 1, now);
        }
    }

    fn ask(&mut self, host: &str, site: &str, gaps: &[&Gap], wait: u32, now: Duration) {
        let known = self.hosts.get(host);
        let after = known.map(|asking| (asking.last.epoch, *asking.last.seqs.end()));
        let Some((epoch, seqs)) = next_range(gaps, after) else { return };
        self.count += 1;
        let id = format!("{:08x}-{}", self.run as u32, self.count);
        let ask = Ask { host: host.to_owned(), site: site.to_owned(), epoch, seqs, id };
        let (asked, beat) = known.map_or((0, now), |asking| (asking.asked, asking.beat));
        self.queue.retain(|waiting| waiting.host != host);
        self.queue.push_back(ask.clone());
        let asking = Asking { last: ask, open: true, asked: asked + 1, wait, passed: 0, beat };
        self.hosts.insert(host.to_owned(), asking);
    }

    /// The next command to publish. Give it back with [`Self::unsent`] if it cannot be.
    pub fn next(&mut self, now: Duration) -> Option<Ask> {
        if now.as_secs() != self.second {
            self.second = now.as_secs();
            self.this_second = 0;
        }
        if self.this_second >= PER_SECOND {
            return None;
        }
        let ask = self.queue.pop_front()?;
        self.this_second += 1;
        Some(ask)
    }

    pub fn unsent(&mut self, ask: Ask) {
        self.queue.push_front(ask);
    }

    /// A question that an operator asks, beside ours.
    pub fn by_hand(&mut self, host: &str, site: &str, epoch: u64, seqs: RangeInclusive<u64>) -> Ask {
        self.count += 1;
        let id = format!("{:08x}-{}", self.run as u32, self.count);
        Ask { host: host.to_owned(), site: site.to_owned(), epoch, seqs, id }
    }

    /// Whether the answer is to a question of this run.
    pub fn is_ours(&self, id: &str) -> bool {
        id.strip_prefix(&format!("{:08x}-", self.run as u32)).is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// The first range behind `after`, or the first of all: at most [`SEQS`] of it.
fn next_range(gaps: &[&Gap], after: Option<(u64, u64)>) -> Option<(u64, RangeInclusive<u64>)> {
    let behind = |gap: &&&Gap| after.is_none_or(|(epoch, seq)| (gap.epoch, *gap.seqs.end()) > (epoch, seq));
    if let Some(gap) = gaps.iter().find(behind) {
        let from = match after {
            Some((epoch, seq)) if epoch == gap.epoch && gap.seqs.contains(&seq) => seq + 1,
            _ => *gap.seqs.start(),
        };
        return Some((gap.epoch, from..=(*gap.seqs.end()).min(from + SEQS - 1)));
    }
    let gap = gaps.first()?;
    let from = *gap.seqs.start();
    Some((gap.epoch, from..=(*gap.seqs.end()).min(from + SEQS - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(seqs: RangeInclusive<u64>) -> Gap {
        Gap { epoch: 7, seqs, state: GapState::Confirmed }
    }

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn asked(resends: &mut Resends, s: u64) -> Vec<RangeInclusive<u64>> {
        std::iter::from_fn(|| resends.next(at(s))).map(|ask| ask.seqs).collect()
    }

    #[test]
    fn only_confirmed_gaps_are_asked_for() {
        let mut resends = Resends::new(1);
        let open = [Gap { state: GapState::Open, ..gap(4..=9) }, Gap { state: GapState::Pending, ..gap(12..=13) }];
        resends.heartbeat("a", "lab", &open, at(60));
        assert!(asked(&mut resends, 60).is_empty());
        resends.heartbeat("a", "lab", &[gap(4..=9)], at(120));
        assert_eq!(asked(&mut resends, 120), [4..=9]);
    }

    #[test]
    fn one_question_at_a_time_and_the_next_when_it_is_answered() {
        let mut resends = Resends::new(1);
        let gaps = [gap(4..=9), gap(20..=20), gap(30..=50_000)];
        resends.heartbeat("a", "lab", &gaps, at(60));
        assert_eq!(asked(&mut resends, 60), [4..=9]);
        assert_eq!(resends.open("a"), Some((7, 4..=9)));
        resends.answered("a", "lab", &gaps[1..], at(61));
        assert_eq!(asked(&mut resends, 61), [20..=20]);
        resends.answered("a", "lab", &gaps[2..], at(62));
        assert_eq!(asked(&mut resends, 62), [30..=10_029]);
        resends.answered("a", "lab", &[], at(63));
        assert_eq!((asked(&mut resends, 63), resends.open("a")), (vec![], None));
    }

    #[test]
    fn silence_is_met_with_ever_rarer_questions_about_the_next_range() {
        let mut resends = Resends::new(1);
        let gaps = [gap(4..=9), gap(20..=20)];
        let mut times = Vec::new();
        for beat in 0..200u64 {
            resends.heartbeat("a", "lab", &gaps, at(beat * 60));
            // Neither a status out of turn nor a reconnect is a heartbeat.
            resends.heartbeat("a", "lab", &gaps, at(beat * 60 + 1));
            times.extend(asked(&mut resends, beat * 60 + 1).into_iter().map(|seqs| (beat, *seqs.start())));
        }
        assert_eq!(times[..6], [(0, 4), (1, 20), (3, 4), (7, 20), (15, 4), (31, 20)]);
        assert!(times.windows(2).all(|w| w[1].0 - w[0].0 <= u64::from(LONGEST_WAIT)), "{times:?}");
    }

    #[test]
    fn a_fleet_with_gaps_is_asked_at_a_pace() {
        let mut resends = Resends::new(1);
        for host in 0..1000 {
            resends.heartbeat(&format!("h{host}"), "lab", &[gap(1..=1)], at(60));
        }
        assert_eq!(asked(&mut resends, 60).len(), PER_SECOND as usize);
        assert_eq!(asked(&mut resends, 60).len(), 0);
        assert_eq!(asked(&mut resends, 61).len(), PER_SECOND as usize);
    }

    #[test]
    fn many_gaps_take_many_heartbeats() {
        let mut resends = Resends::new(1);
        let gaps: Vec<Gap> = (0..100).map(|n| gap(10 * n + 1..=10 * n + 1)).collect();
        resends.heartbeat("a", "lab", &gaps, at(60));
        let mut count = asked(&mut resends, 60).len();
        for n in 1..100 {
            resends.answered("a", "lab", &gaps[n..], at(61));
            count += asked(&mut resends, 61 + n as u64).len();
        }
        assert_eq!(count, PER_HEARTBEAT as usize);
        resends.heartbeat("a", "lab", &gaps[50..], at(1000));
        assert_eq!(asked(&mut resends, 1000).len(), 1, "the next heartbeat goes on");
    }
}
