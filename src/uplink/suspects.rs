//! Finding the one stored value that a broker will not take.
//!
//! A batch that was refused for its content, or that stood first when connections were lost, becomes a
//! group of suspects. A group on trial is sent alone, one at a time; a refused one is halved, and a single
//! value that is refused is convicted. One that ended a connection rests before it is tried again, and all
//! other data flows meanwhile; what convicts it then is in `evidence`. Holds seqs only, a bounded number,
//! in memory: after a restart all are ordinary data again.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::backoff::Rng;
use super::evidence::{Evidence, STRIKES, Strike};
use crate::wire::Chunk;

/// Groups that may rest, and chunks in them; beyond it the oldest are ordinary data again, and history goes on behind
/// what was accused last: else those few too many would end each connection before anything else is sent, and
/// bring doubt on every trial.
pub const MAX_RESTING: usize = 64;
const MAX_RESTING_CHUNKS: usize = 2048;
/// Between a trial that ended a connection and the next one of any suspect; doubled with each in a row.
const PAUSE: Duration = Duration::from_secs(30);
const MAX_DOUBLINGS: u32 = 3;
/// How long history passes over what was too much, unless half of the room is free again before.
pub const PASSED_FOR: Duration = Duration::from_secs(6 * 3600);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub epoch: u64,
    /// Chunks, in seq order; never empty.
    pub chunks: Vec<RangeInclusive<u64>>,
    /// Against a single value.
    evidence: Evidence,
}

impl Group {
    fn new(epoch: u64, chunks: &[RangeInclusive<u64>]) -> Self {
        Self { epoch, chunks: chunks.to_vec(), evidence: Evidence::default() }
    }

    /// The seqs of the first chunks that follow each other without a gap: what one load may ask for.
    pub fn span(&self) -> Option<RangeInclusive<u64>> {
        let (first, mut last) = self.chunks.first()?.clone().into_inner();
        for chunk in &self.chunks[1..] {
            if *chunk.start() != last + 1 {
                break;
            }
            last = *chunk.end();
        }
        Some(first..=last)
    }

    pub fn holds(&self, chunk: &Chunk) -> bool {
        self.epoch == chunk.epoch && self.chunks.contains(&chunk.seqs())
    }
}

/// The value that was found.
pub type Convict = (u64, RangeInclusive<u64>);

#[derive(Debug, Default)]
pub struct Suspects {
    /// On trial; the last is sent next.
    groups: Vec<Group>,
    /// Resting until then, those that began to first in front. Each chunk is here or on trial, not both.
    resting: VecDeque<(Group, Duration)>,
    /// `resting` is not what it was when last asked.
    changed: bool,
    /// No resting group is tried before.
    next_trial: Duration,
    /// Trials in a row that ended a connection.
    ended: u32,
    /// The head of the last lost connections: epoch, first seq, how many in a row.
    head: Option<(u64, u64, u32)>,
    /// Where ordinary data was accused last when no more could rest: epoch, last seq; and until when it is passed over.
    passed: Option<(u64, u64, Duration)>,
}

impl Suspects {
    /// Whether nothing is on trial.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The group to be sent next, alone.
    pub fn next(&self) -> Option<&Group> {
        self.groups.last()
    }

    /// The chunks on trial that touch `seqs`.
    pub fn within(&self, epoch: u64, seqs: &RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let touches = |c: &&RangeInclusive<u64>| c.start() <= seqs.end() && c.end() >= seqs.start();
        self.groups.iter().filter(|g| g.epoch == epoch).flat_map(|g| g.chunks.iter().filter(touches)).cloned().collect()
    }

    /// The chunks that rest, if they are others than at the last call.
    pub fn resting_if_changed(&mut self) -> Option<impl Iterator<Item = (u64, RangeInclusive<u64>)>> {
        let chunks = |(group, _): &(Group, Duration)| {
            let epoch = group.epoch;
            group.chunks.clone().into_iter().map(move |c| (epoch, c))
        };
        std::mem::take(&mut self.changed).then(|| self.resting.iter().flat_map(chunks))
    }

    /// Where history goes on, while too many are accused for all to rest: behind this epoch's seq.
    pub fn passed(&self) -> Option<(u64, u64)> {
        self.passed.map(|(epoch, last, _)| (epoch, last))
    }

    /// Records in values that ended connections again and again and are not convicted.
    pub fn held_records(&self) -> u64 {
        self.all_groups()
            .filter(|g| g.evidence.is_grave())
            .flat_map(|g| &g.chunks)
            .map(|c| c.end() - c.start() + 1)
            .sum()
    }

    /// These are on trial from now on.
    pub fn accuse(&mut self, epoch: u64, chunks: &[RangeInclusive<u64>]) {
        self.acquit(epoch, chunks);
        if !chunks.is_empty() {
            self.groups.push(Group::new(epoch, chunks));
        }
    }

    /// These are settled, gone or cannot be read: no longer anyone's concern here.
    pub fn acquit(&mut self, epoch: u64, chunks: &[RangeInclusive<u64>]) {
        self.retain(|e, c| e != epoch || !chunks.contains(c));
    }

    /// Keeps the chunks of which `keep` holds.
    pub fn retain(&mut self, keep: impl Fn(u64, &RangeInclusive<u64>) -> bool) {
        self.groups.iter_mut().for_each(|g| g.chunks.retain(|c| keep(g.epoch, c)));
        self.groups.retain(|g| !g.chunks.is_empty());
        for (group, _) in &mut self.resting {
            let before = group.chunks.len();
            group.chunks.retain(|c| keep(group.epoch, c));
            self.changed |= group.chunks.len() < before;
        }
        self.resting.retain(|(g, _)| !g.chunks.is_empty());
    }

    /// With room for a while, or after long, history begins at the oldest again.
    fn look_for_room(&mut self, now: Duration) {
        let few = !exceeds(self.all_groups(), MAX_RESTING / 2, MAX_RESTING_CHUNKS / 2);
        if self.passed.is_some_and(|(.., until)| few || until <= now) {
            self.passed = None;
            self.changed = true;
        }
    }

    /// A message of `bytes` with these chunks was accepted: they are acquitted, and it tells about the others.
    pub fn accepted(&mut self, epoch: u64, chunks: &[RangeInclusive<u64>], bytes: usize, suspect: bool) {
        self.acquit(epoch, chunks);
        if suspect {
            self.ended = 0;
        }
        self.all_evidence().for_each(|e| e.accepted(bytes));
    }

    /// A connection ended, and no single suspect did it.
    pub fn doubt(&mut self) {
        self.all_evidence().for_each(Evidence::doubt);
    }

    fn all_groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().chain(self.resting.iter().map(|(group, _)| group))
    }

    fn all_evidence(&mut self) -> impl Iterator<Item = &mut Evidence> {
        self.groups.iter_mut().chain(self.resting.iter_mut().map(|(group, _)| group)).map(|g| &mut g.evidence)
    }

    /// The message with exactly these chunks was refused for its content. Halves it, or names the culprit.
    pub fn refused(&mut self, epoch: u64, chunks: &[RangeInclusive<u64>]) -> Option<Convict> {
        self.acquit(epoch, chunks);
        if let [only] = chunks {
            return Some((epoch, only.clone()));
        }
        let (first, second) = chunks.split_at(chunks.len() / 2);
        self.accuse(epoch, second);
        self.accuse(epoch, first);
        None
    }

    /// A connection that had proved itself was lost with these suspects alone in flight.
    pub fn struck(
        &mut self,
        epoch: u64,
        chunks: &[RangeInclusive<u64>],
        strike: Strike,
        now: Duration,
    ) -> Option<Convict> {
        if chunks.len() > 1 {
            return self.refused(epoch, chunks);
        }
        if self.groups.last().is_none_or(|g| g.epoch != epoch || g.chunks != chunks) {
            self.accuse(epoch, chunks);
        }
        let mut group = self.groups.pop()?;
        if group.evidence.strike(strike) {
            self.ended = 0;
            return self.refused(epoch, chunks);
        }
        let until = now + group.evidence.rest();
        self.rest(group, until);
        None
    }

    fn rest(&mut self, group: Group, until: Duration) {
        self.resting.push_back((group, until));
        self.changed = true;
        while exceeds(self.resting.iter().map(|(group, _)| group), MAX_RESTING, MAX_RESTING_CHUNKS) {
            self.resting.pop_front();
        }
    }

    /// The connection is over: what is still on trial makes way, and is due on the next one.
    pub fn adjourn(&mut self, now: Duration) {
        for group in std::mem::take(&mut self.groups) {
            self.rest(group, now);
        }
    }

    /// A trial ended a connection: a while for everything else, not always the same.
    pub fn pause(&mut self, now: Duration, rng: &mut Rng) {
        let pause = PAUSE * (1 << self.ended.min(MAX_DOUBLINGS));
        self.ended = self.ended.saturating_add(1);
        self.next_trial = now + rng.between(pause / 2, pause * 2);
    }

    /// Puts the resting group that is due first on trial, if nothing is; before others one that is nearly convicted: with
    /// many, the count of each would else be begun anew before it ends. Returns whether it did.
    pub fn next_on_trial(&mut self, now: Duration) -> bool {
        self.look_for_room(now);
        if !self.groups.is_empty() || self.next_due().is_none_or(|at| at > now) {
            return false;
        }
        let rank = |(group, until): &(Group, Duration)| (*until > now || !group.evidence.is_nearing(), *until);
        let first = (0..self.resting.len()).min_by_key(|i| rank(&self.resting[*i]));
        let Some((group, _)) = first.and_then(|i| self.resting.remove(i)) else { return false };
        self.changed = true;
        self.groups.push(group);
        true
    }

    /// When a resting group may go on trial.
    pub fn next_due(&self) -> Option<Duration> {
        self.resting.iter().map(|(_, until)| (*until).max(self.next_trial)).min()
    }

    /// A connection was lost with this as the oldest data in flight. [`STRIKES`] in a row accuse it.
    pub fn lost_on(&mut self, epoch: u64, chunks: &[RangeInclusive<u64>], now: Duration) {
        let Some(first) = chunks.first().map(|c| *c.start()) else { return };
        let times = match self.head {
            Some((e, f, times)) if (e, f) == (epoch, first) => times + 1,
            _ => 1,
        };
        self.head = Some((epoch, first, times));
        if times >= STRIKES {
            self.head = None;
            self.accuse(epoch, chunks);
            if exceeds(self.all_groups(), MAX_RESTING, MAX_RESTING_CHUNKS) {
                // Counted from the first: what is passed over has its turn however many more are accused.
                let until = self.passed.map_or(now + PASSED_FOR, |(.., until)| until);
                self.passed = chunks.last().map(|c| (epoch, *c.end(), until));
            }
        }
    }
}

fn exceeds<'a>(groups: impl Iterator<Item = &'a Group>, max: usize, max_chunks: usize) -> bool {
    let (groups, chunks) = groups.fold((0, 0), |(groups, chunks), g| (groups + 1, chunks + g.chunks.len()));
    groups > max || chunks > max_chunks
}

#[cfg(test)]
mod tests;
