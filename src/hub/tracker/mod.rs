//! Tells, from what arrived, what did not: duplicates, late arrivals, gaps and declared losses per (host, epoch).
//!
//! Pure: no I/O, no clock, no wire bytes. The terms, exactly:
//!
//! - **expected**: seqs that must reach a subscriber who is listening now. Everything from the *base* of an epoch up
//!   to the highest seq seen or named by a status, and what [`owed`](Tracker::heartbeat) adds below the base. The base
//!   is the first seq heard by the live lane, or the `next_seq` of the first status that was not retained, whichever
//!   comes first: both prove that what follows was published while we listened. What lies below is unknown, not missing.
//!   One who [wants everything](Tracker::of_everything) has its base at 1.
//! - **missing**: expected, not seen, not declared lost. A missing range is *pending* when the last status lists it,
//!   else *open*; it is *confirmed* once two heartbeats in a row, at least [`Bounds::heartbeat_spacing`] apart, named it
//!   neither pending nor lost. Reordering between the lanes is normal, so only a confirmed gap is a finding of loss.
//! - **New**: not seen before. **Duplicate**: seen before. **Late**: not seen before, but had been missing or
//!   declared lost. A declared loss excuses absence; it never overrides presence.
//!
//! Memory is bounded whatever a host sends; what is forgotten at a bound is defined and counted in [`Tally`]:
//! a host beyond the bound is not tracked (those that are keep their state); the least recently heard epoch of a host
//! makes room, its missing seqs counted as `overflowed`; of too many ranges the smallest go: from *seen* (their
//! duplicates are then taken for new), from *missing* (counted as `overflowed`: a gap that is never excused again),
//! from *declared* (statuses repeat losses until they are settled).

mod epoch;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use self::epoch::{Beat, Epoch};
pub use self::verdict::{Bound, Declared, Finding, Gap, GapState, Missing, Observed, Tally, Verdict};
use crate::clock::Now;
use crate::ranges::RangeSet;
use crate::wire::{Lane, Loss, MAX_PENDING, Status};

/// What an epoch may keep once all epochs together are above [`Bounds::ranges_total`].
const RANGES_WHEN_SHORT: usize = 64;

/// How much the tracker may remember.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub hosts: usize,
    pub epochs_per_host: usize,
    /// Ranges in each of an epoch's sets (seen, missing, declared).
    pub ranges_per_epoch: usize,
    /// Ranges over all hosts; above it an epoch that changes is cut to 64 ranges a set.
    pub ranges_total: usize,
    /// Statuses that follow sooner than this after one that counted as a heartbeat do not count as another.
    pub heartbeat_spacing: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            hosts: 10_000,
            epochs_per_host: 8,
            ranges_per_epoch: 4096,
            ranges_total: 1_000_000,
            heartbeat_spacing: Duration::from_secs(5),
        }
    }
}

/// Epoch to seqs.
type Pending = BTreeMap<u64, RangeSet>;

#[derive(Debug, Default)]
struct Host {
    epochs: BTreeMap<u64, Epoch>,
    /// The epoch heard last.
    current: Option<u64>,
    /// Session of the last status, retained or not.
    session: Option<String>,
    /// What the last counting heartbeat of that session listed as pending.
    last_live: Pending,
    counted_at: Option<Duration>,
    said: Vec<Bound>,
    tally: Tally,
}

/// See the module's head for its terms.
#[derive(Debug, Default)]
pub struct Tracker {
    bounds: Bounds,
    /// The base of every epoch is 1.
    everything: bool,
    hosts: BTreeMap<String, Host>,
    ranges: usize,
    untracked: u64,
    hosts_said: bool,
}

impl Tracker {
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// For one who keeps what it has and wants all that there ever was.
    pub fn of_everything(bounds: Bounds) -> Self {
        Self { bounds, everything: true, ..Self::default() }
    }

    /// Takes in what is known of an epoch from before: seqs seen, and the next to be drawn. Losses with [`Self::declare`].
    /// Call it in the order in which the epochs were heard last.
    pub fn remember(&mut self, host: &str, epoch: u64, seen: &RangeSet, next: u64, now: Now) {
        let mut findings = Vec::new();
        if !self.admit(host, &mut findings) {
            return;
        }
        self.hear(host, epoch, now, &mut findings);
        self.change(host, epoch, &mut findings, |state, _| state.remember(seen, next));
    }

    /// Judges the records of one message, in its order.
    pub fn observe(&mut self, host: &str, epoch: u64, seqs: &[u64], lane: Lane, now: Now) -> Observed {
        let mut out = Observed::default();
        if !self.admit(host, &mut out.findings) {
            self.untracked += seqs.len() as u64;
            out.verdicts.extend(runs(seqs).map(|run| (run, Verdict::Untracked)));
            return out;
        }
        self.hear(host, epoch, now, &mut out.findings);
        self.change(host, epoch, &mut out.findings, |state, findings| {
            for run in runs(seqs) {
                let opened = state.observe(run, lane, &mut out.verdicts);
                findings.extend(gaps_of(epoch, state, opened));
            }
        });
        if let Some(host) = self.hosts.get_mut(host) {
            host.tally.count(&out.verdicts);
        }
        out
    }

    /// Takes in declared losses, from an envelope or a status, before or after the records they speak of.
    pub fn declare(&mut self, host: &str, losses: &[Loss]) -> Vec<Finding> {
        let mut findings = Vec::new();
        if losses.is_empty() || !self.admit(host, &mut findings) {
            return findings;
        }
        for loss in losses {
            let Loss { epoch, from, to, reason, .. } = *loss;
            self.change(host, epoch, &mut findings, |state, findings| {
                let fresh = state.declare(from, to, reason);
                findings.extend(fresh.into_iter().map(|(from, to)| Finding::Lost { epoch, from, to, reason }));
            });
        }
        findings
    }

    /// Takes in a status: losses, how far the epoch goes, what is pending; confirms gaps.
    ///
    /// Below an epoch's base, seqs become expected (*owed*) when the host settles on the broker's word (`level`
    /// `broker`) and lists them as pending either in the first status of a connection that began while we listened,
    /// or in two heartbeats of one connection: both prove that they will be published to us. A retained status is
    /// older than our listening: it explains, but neither owes nor confirms.
    pub fn heartbeat(&mut self, host: &str, status: &Status, retained: bool, now: Now) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !self.admit(host, &mut findings) {
            return findings;
        }
        self.hear(host, status.epoch, now, &mut findings);
        findings.append(&mut self.declare(host, &status.losses));
        let spacing = self.bounds.heartbeat_spacing;
        let Some(known) = self.hosts.get_mut(host) else { return findings };
        let counts = !retained && known.counted_at.is_none_or(|at| now.mono.saturating_sub(at) >= spacing);
        if counts {
            known.counted_at = Some(now.mono);
        }
        let mut pending = pending_of(status);
        let mut owed = known.owed(status, &pending, retained, counts);

        let mut epochs: Vec<u64> = known.epochs.keys().chain(owed.keys()).copied().collect();
        epochs.sort_unstable();
        epochs.dedup();
        for epoch in epochs {
            let beat = Beat {
                next: (epoch == status.epoch).then_some(status.next_seq),
                pending: pending.remove(&epoch).unwrap_or_default(),
                owed: owed.remove(&epoch).unwrap_or_default(),
                live: !retained,
                counts,
            };
            self.change(host, epoch, &mut findings, |state, findings| {
                let (opened, confirmed) = state.heartbeat(beat);
                findings.extend(gaps_of(epoch, state, opened));
                findings.extend(confirmed.into_iter().map(|seqs| Finding::Confirmed { epoch, seqs }));
            });
        }
        findings
    }

    /// Whether the host is tracked.
    pub fn knows(&self, host: &str) -> bool {
        self.hosts.contains_key(host)
    }

    /// Records of hosts beyond the bound, which no verdict covers.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }

    pub fn tally(&self, host: &str) -> Tally {
        self.hosts.get(host).map(|h| h.tally).unwrap_or_default()
    }

    /// The epoch heard last.
    pub fn current_epoch(&self, host: &str) -> Option<u64> {
        self.hosts.get(host).and_then(|h| h.current)
    }

    pub fn missing(&self, host: &str) -> Missing {
        let mut sum = Missing::default();
        for state in self.hosts.get(host).into_iter().flat_map(|h| h.epochs.values()) {
            state.add_missing(&mut sum);
        }
        sum
    }

    /// Whether anything of these seqs is a confirmed gap.
    pub fn confirmed(&self, host: &str, epoch: u64, seqs: RangeInclusive<u64>) -> bool {
        self.hosts.get(host).and_then(|h| h.epochs.get(&epoch)).is_some_and(|state| state.is_confirmed(seqs))
    }

    /// Every missing range of a host, by epoch and seq.
    pub fn gaps(&self, host: &str) -> Vec<Gap> {
        let epochs = self.hosts.get(host).into_iter().flat_map(|h| &h.epochs);
        epochs.flat_map(|(&epoch, state)| state.gaps(epoch)).collect()
    }

    /// Every declared loss of a host, by epoch and reason.
    pub fn losses(&self, host: &str) -> Vec<Declared> {
        let epochs = self.hosts.get(host).into_iter().flat_map(|h| &h.epochs);
        epochs.flat_map(|(&epoch, state)| state.losses(epoch)).collect()
    }

    /// Whether the host may be tracked; says so when it may not for the first time.
    fn admit(&mut self, host: &str, findings: &mut Vec<Finding>) -> bool {
        if self.hosts.contains_key(host) {
            return true;
        }
        if self.hosts.len() < self.bounds.hosts {
            self.hosts.insert(host.to_owned(), Host::default());
            return true;
        }
        if !std::mem::replace(&mut self.hosts_said, true) {
            findings.push(Finding::Bound(Bound::Hosts));
        }
        false
    }

    /// Notes that the host speaks of `epoch` as its own.
    fn hear(&mut self, host: &str, epoch: u64, now: Now, findings: &mut Vec<Finding>) {
        let everything = self.everything;
        self.change(host, epoch, findings, |state, findings| {
            if everything {
                let opened = state.begin_at_1();
                findings.extend(gaps_of(epoch, state, opened));
            }
        });
        let Some(host) = self.hosts.get_mut(host) else { return };
        let Some(state) = host.epochs.get_mut(&epoch) else { return };
        if state.heard_at.replace(now.mono).is_none() {
            findings.push(Finding::NewEpoch { epoch, previous: host.current });
            host.tally.epochs += 1;
        }
        host.current = Some(epoch);
    }

    /// Runs `change` on one epoch's state, made if it is new, and holds it to the bounds.
    fn change(
        &mut self,
        host: &str,
        epoch: u64,
        findings: &mut Vec<Finding>,
        change: impl FnOnce(&mut Epoch, &mut Vec<Finding>),
    ) {
        let Some(host) = self.hosts.get_mut(host) else { return };
        if !host.epochs.contains_key(&epoch) {
            self.ranges -= host.make_room(self.bounds.epochs_per_host, findings);
        }
        let state = host.epochs.entry(epoch).or_default();
        let before = state.range_count();
        change(state, findings);
        let short = self.ranges > self.bounds.ranges_total;
        let max = if short { RANGES_WHEN_SHORT } else { self.bounds.ranges_per_epoch };
        let dropped = state.hold_to(max, &mut host.tally);
        self.ranges = self.ranges - before + state.range_count();
        if dropped {
            host.say(Bound::Ranges, findings);
        }
    }
}

impl Host {
    /// Pending seqs of this status which will be published while we listen; remembers it for the next one.
    fn owed(&mut self, status: &Status, pending: &Pending, retained: bool, counts: bool) -> Pending {
        let connected_now = self.session.as_deref() != Some(&status.session);
        let mut owed = Pending::new();
        if !retained && status.level == "broker" {
            // When there are as many as there may be, the last covers more than is pending.
            for range in status.pending.iter().take(MAX_PENDING - 1) {
                let seqs = range.from..=range.to;
                let set = owed.entry(range.epoch).or_default();
                if connected_now {
                    set.insert(seqs);
                } else if let Some(before) = self.last_live.get(&range.epoch).filter(|_| counts) {
                    before.within(seqs).for_each(|both| set.insert(both));
                }
            }
            owed.retain(|_, set| !set.is_empty());
        }
        if counts {
            self.last_live = pending.clone();
        } else if connected_now {
            self.last_live.clear();
        }
        self.session = Some(status.session.clone());
        owed
    }

    /// Forgets the epoch heard least recently when there is no room for one more. Returns the ranges given up.
    fn make_room(&mut self, max: usize, findings: &mut Vec<Finding>) -> usize {
        if self.epochs.len() < max.max(1) {
            return 0;
        }
        let oldest = self.epochs.iter().min_by_key(|(_, state)| state.heard_at).map(|(&epoch, _)| epoch);
        let Some(gone) = oldest.and_then(|epoch| self.epochs.remove(&epoch)) else { return 0 };
        gone.forget(&mut self.tally);
        self.say(Bound::Epochs, findings);
        gone.range_count()
    }

    fn say(&mut self, bound: Bound, findings: &mut Vec<Finding>) {
        if !self.said.contains(&bound) {
            self.said.push(bound);
            findings.push(Finding::Bound(bound));
        }
    }
}

fn pending_of(status: &Status) -> Pending {
    let mut pending = Pending::new();
    for range in status.pending.iter().take(MAX_PENDING) {
        pending.entry(range.epoch).or_default().insert(range.from..=range.to);
    }
    pending
}

fn gaps_of(epoch: u64, state: &Epoch, opened: Vec<RangeInclusive<u64>>) -> impl Iterator<Item = Finding> {
    opened.into_iter().map(move |seqs| {
        let pending = state.is_pending(seqs.clone());
        Finding::Gap { epoch, seqs, pending }
    })
}

/// The message's seqs as contiguous ascending runs, in its order.
fn runs(seqs: &[u64]) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
    seqs.chunk_by(|a, b| a.checked_add(1) == Some(*b)).map(|run| run[0]..=run[run.len() - 1])
}
