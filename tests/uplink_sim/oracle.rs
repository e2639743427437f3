//! What must hold after every step, judged from outside: from the bytes that were published, the answers
//! that were delivered, and the actions that were taken. Holds nothing of the uplink's own view.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use holdover::ranges::RangeSet;
use holdover::uplink::{Compression, Limits, Pace, Unheard};
use holdover::wire::Loss;

use super::broker::Parsed;

pub type Check = Result<(), String>;

/// A full live queue and two loads, which are twice as large where batches are compressed.
const RECORDS_HELD: usize = 192 << 10;
const RECORDS_HELD_COMPRESSED: usize = 320 << 10;

/// Of an epoch that is over, what no hub acknowledges may be sent again after this.
const RECHECK: Duration = Duration::from_secs(600);

/// Records of a simulated chunk, and more.
const MAX_CHUNK: u64 = 100;

/// A publish that the uplink has not been answered.
pub struct Flight {
    pub bytes: usize,
    pub history: bool,
    pub data: Option<Parsed>,
}

/// What speaks against a value that was alone in flight at the end of connections.
#[derive(Default)]
struct Ended {
    /// Connections that ended so, each with contrast since the one before.
    counted: u32,
    bytes: usize,
    /// Another message of at least `bytes` was accepted since.
    contrast: bool,
}

#[derive(Default)]
pub struct Oracle {
    pub unheard_settles: bool,
    pub pace: Option<Pace>,
    limits: Option<Limits>,
    flights: BTreeMap<u64, Flight>,
    /// What a delivered PUBACK with success covers.
    proved: BTreeMap<u64, RangeSet>,
    proved_losses: Vec<Loss>,
    /// Settled by this incarnation of the uplink: not to be published again.
    settled: BTreeMap<u64, RangeSet>,
    /// Only a hub's acknowledgement settles from now on.
    pub at_level_hub: bool,
    /// What hubs have honestly acknowledged.
    stored: BTreeMap<u64, RangeSet>,
    /// Chunks accepted by the broker at level hub, by first seq, with their last and when: not to be published again unasked.
    accepted: BTreeMap<u64, BTreeMap<u64, (u64, Duration)>>,
    asked: BTreeMap<u64, RangeSet>,
    pub newest: u64,
    /// Live chunks appended while connected: epoch, first seq, history messages since.
    waiting: Vec<(u64, u64, u32)>,
    history: VecDeque<(Duration, usize)>,
    connects: VecDeque<Duration>,
    wakes: VecDeque<Duration>,
    /// Only the link is bad: no value may be set aside for the end of a connection.
    pub only_link: bool,
    /// Values refused when alone; and those that were alone in flight when connections ended.
    refused_alone: BTreeSet<(u64, u64)>,
    ended_alone: BTreeMap<(u64, u64), Ended>,
    pub published_live: u64,
    pub published_history: u64,
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(what()) }
}

impl Oracle {
    pub fn new(unheard: Unheard, pace: Option<Pace>) -> Self {
        Self { unheard_settles: unheard == Unheard::Settle, pace, ..Self::default() }
    }

    pub fn connect(&mut self, now: Duration) -> Check {
        if let Some(last) = self.connects.back() {
            ensure(now >= *last + Duration::from_secs(1), || format!("storm: attempts at {last:?} and {now:?}"))?;
        }
        self.connects.push_back(now);
        self.connects.retain(|at| *at + Duration::from_secs(600) > now);
        ensure(self.connects.len() <= 60, || format!("storm: {} attempts in ten minutes", self.connects.len()))
    }

    pub fn connected(&mut self, limits: &Limits) {
        self.limits = Some(limits.clone());
    }

    /// The connection is over; `by_peer` when that may be held against what was in flight.
    pub fn disconnected(&mut self, by_peer: bool) {
        self.limits = None;
        self.waiting.clear();
        let flights = std::mem::take(&mut self.flights);
        let mut data = flights.values().filter_map(|f| f.data.as_ref().map(|d| (d, f.bytes)));
        if let (Some((only, bytes)), None, true) = (data.next(), data.next(), by_peer)
            && let [(first, _)] = only.chunks[..]
        {
            let ended = self.ended_alone.entry((only.epoch, first)).or_default();
            ended.counted += u32::from(ended.counted == 0 || ended.contrast);
            (ended.bytes, ended.contrast) = (bytes, false);
        } else {
            // It ended for something else: the link may be what is bad, and all counts begin anew.
            self.ended_alone.clear();
        }
    }

    /// The broker named a packet too large while these were in flight.
    pub fn too_large(&mut self) {
        for data in self.flights.values().filter_map(|f| f.data.as_ref()) {
            if let [(first, _)] = data.chunks[..] {
                self.refused_alone.insert((data.epoch, first));
            }
        }
    }

    pub fn restarted(&mut self) {
        self.settled.clear();
        self.accepted.clear();
        self.asked.clear();
        self.connects.clear();
    }

    pub fn appended(&mut self, epoch: u64, first: u64) {
        if self.limits.is_some() {
            self.waiting.push((epoch, first, 0));
        }
    }

    pub fn publish(&mut self, token: u64, topic: &str, flight: Flight, now: Duration) -> Check {
        let limits = self.limits.clone().ok_or("window: a publish without a connection")?;
        let window = 10.min(usize::from(limits.receive_max)).max(1);
        let (count, bytes) =
            (self.flights.len() + 1, self.flights.values().map(|f| f.bytes).sum::<usize>() + flight.bytes);
        let live = topic.contains("/m/");
        ensure(count <= window, || format!("window: {count} in flight, {window} allowed"))?;
        ensure(bytes <= 64 << 10, || format!("window: {bytes} bytes in flight"))?;
        ensure(flight.bytes <= (limits.max_packet as usize).min(64 << 10), || {
            format!("window: a packet of {} bytes, the broker takes {}", flight.bytes, limits.max_packet)
        })?;
        ensure(!flight.history || window == 1 || count < window, || "window: history took the last slot".into())?;
        if flight.history {
            self.published_history += 1;
            self.paced(flight.bytes, now)?;
        }
        if let Some(data) = &flight.data {
            self.published_live += u64::from(live);
            self.data(data, live, now)?;
        }
        ensure(self.flights.insert(token, flight).is_none(), || format!("window: token {token} used twice"))
    }

    fn data(&mut self, data: &Parsed, live: bool, now: Duration) -> Check {
        for &(first, last) in &data.chunks {
            self.unasked(data.epoch, first..=last, now)?;
            let twice = self
                .flights
                .values()
                .filter_map(|f| f.data.as_ref())
                .any(|d| d.epoch == data.epoch && d.chunks.contains(&(first, last)));
            ensure(!twice, || format!("republish: seqs {first}..={last} are in flight"))?;
        }
        let of_this = |w: &(u64, u64, u32)| w.0 == data.epoch && data.chunks.iter().any(|c| c.0 == w.1);
        if live {
            let late = self.waiting.iter().find(|w| of_this(w) && w.2 > 1).copied();
            ensure(late.is_none(), || format!("p6: {late:?} history messages went before a live one"))?;
        }
        self.waiting.retain(|w| !of_this(w));
        if !live {
            self.waiting.iter_mut().for_each(|w| w.2 += 1);
        }
        Ok(())
    }

    /// What was settled, or waits for a hub, is not published again unless a hub asked for some of it.
    fn unasked(&mut self, epoch: u64, chunk: RangeInclusive<u64>, now: Duration) -> Check {
        if self.asked.get(&epoch).is_some_and(|asked| asked.intersects(chunk.clone())) {
            return Ok(());
        }
        let settled = self.settled.get(&epoch).is_some_and(|s| s.intersects(chunk.clone()));
        ensure(!settled || self.at_level_hub, || format!("republish: seqs {chunk:?} were settled"))?;
        let over = epoch != self.newest;
        let (start, end) = chunk.clone().into_inner();
        let Some(accepted) = self.accepted.get_mut(&epoch) else { return Ok(()) };
        for (first, (_, at)) in
            accepted.extract_if(start.saturating_sub(MAX_CHUNK)..=end, |_, (last, _)| *last >= start)
        {
            ensure(over && now >= at + RECHECK, || {
                format!("storm: seq {first} of {epoch} waits for a hub since {at:?} and nobody asked for it")
            })?;
        }
        Ok(())
    }

    /// A hub is about to ask for these.
    pub fn ask(&mut self, epoch: u64, seqs: RangeInclusive<u64>) {
        self.asked.entry(epoch).or_default().insert(seqs);
    }

    /// A hub is about to say, truly, that it has these.
    pub fn stored(&mut self, epoch: u64, seqs: &RangeSet) {
        self.stored.entry(epoch).or_default().union(seqs);
    }

    /// Whether the status may tell these to be pending: not what a hub has to ask for.
    pub fn told_pending(&self, epoch: u64, told: &RangeSet) -> Check {
        if epoch != self.newest {
            return Ok(());
        }
        let accepted = self.waiting_for_hub(epoch);
        let mut hidden: RangeSet = told.iter().flat_map(|r| accepted.within(r).collect::<Vec<_>>()).collect();
        if let Some(settled) = self.settled.get(&epoch) {
            hidden.subtract(settled);
        }
        ensure(hidden.is_empty(), || {
            format!("status: {hidden:?} of {epoch} wait for a hub, which will not ask for them")
        })
    }

    /// What waits for a hub.
    pub fn waiting_for_hub(&self, epoch: u64) -> RangeSet {
        let accepted = self.accepted.get(&epoch).into_iter().flatten();
        let mut waiting: RangeSet = accepted.map(|(first, (last, _))| *first..=*last).collect();
        if let Some(asked) = self.asked.get(&epoch) {
            waiting.subtract(asked);
        }
        waiting
    }

    fn paced(&mut self, bytes: usize, now: Duration) -> Check {
        let Some(pace) = self.pace else { return Ok(()) };
        self.history.push_back((now, bytes));
        self.history.retain(|(at, _)| *at + Duration::from_secs(10) > now);
        let (count, sum) = (self.history.len(), self.history.iter().map(|(_, b)| b).sum::<usize>());
        ensure(count <= pace.batches_per_s as usize * 10 + 4, || format!("pace: {count} batches in ten seconds"))?;
        ensure(sum <= pace.bytes_per_s as usize * 11 + (64 << 10), || format!("pace: {sum} bytes in ten seconds"))
    }

    /// A PUBACK is about to be delivered. Returns whether it proves anything.
    pub fn acked(&mut self, token: u64, code: u8, now: Duration) {
        let Some(flight) = self.flights.remove(&token) else { return };
        let Some(data) = flight.data else { return };
        let success = code < 0x80 && (code != 0x10 || self.unheard_settles);
        if success {
            let proved = self.proved.entry(data.epoch).or_default();
            data.chunks.iter().for_each(|&(first, last)| proved.insert(first..=last));
            if self.at_level_hub {
                let accepted = self.accepted.entry(data.epoch).or_default();
                accepted.extend(data.chunks.iter().map(|&(first, last)| (first, (last, now))));
            }
            if let Some(asked) = self.asked.get_mut(&data.epoch) {
                data.chunks.iter().for_each(|&(first, last)| asked.remove(first..=last));
            }
            for (value, ended) in &mut self.ended_alone {
                let itself = value.0 == data.epoch && data.chunks.iter().any(|c| c.0 == value.1);
                ended.contrast |= !itself && flight.bytes >= ended.bytes;
            }
            self.proved_losses.extend(data.losses);
        } else if matches!(code, 0x90 | 0x95 | 0x99)
            && let [(first, _)] = data.chunks[..]
        {
            self.refused_alone.insert((data.epoch, first));
        }
    }

    pub fn settle(&mut self, epoch: u64, seqs: &RangeSet) -> Check {
        let (proved, stored) = (self.proved.entry(epoch).or_default(), self.stored.entry(epoch).or_default());
        for range in seqs.iter() {
            if self.at_level_hub {
                ensure(stored.covers(range.clone()), || {
                    format!("settle-hub: {range:?} of {epoch} without a hub's word")
                })?;
            } else {
                ensure(proved.covers(range.clone()), || format!("settle: {range:?} of {epoch} without its PUBACK"))?;
            }
        }
        self.settled.entry(epoch).or_default().union(seqs);
        Ok(())
    }

    pub fn settle_losses(&self, losses: &[Loss]) -> Check {
        if self.at_level_hub {
            // One without an end can be covered by no acknowledgement: the broker's word is all there is.
            let stored = |l: &Loss| match l.to {
                Some(to) => self.stored.get(&l.epoch).is_some_and(|s| s.covers(l.from..=to)),
                None => self.proved_losses.contains(l),
            };
            let unproved = losses.iter().find(|l| !stored(l));
            return ensure(unproved.is_none(), || format!("settle-hub: loss {unproved:?} without a hub's word"));
        }
        let unproved = losses.iter().find(|l| !self.proved_losses.contains(l));
        ensure(unproved.is_none(), || format!("settle: loss {unproved:?} without its PUBACK"))
    }

    /// A value of so many bytes is about to be set aside.
    pub fn quarantine(&self, epoch: u64, first: u64, bytes: usize, json: bool) -> Check {
        let key = (epoch, first);
        let weight = if json { bytes * 2 + 600 } else { bytes + 400 };
        let too_large = self.limits.as_ref().is_some_and(|l| weight > l.max_packet as usize);
        let ended = self.ended_alone.get(&key).map_or(0, |e| e.counted);
        let by_ends = ended >= 3 && !self.only_link;
        ensure(too_large || self.refused_alone.contains(&key) || by_ends, || {
            format!(
                "quarantine: {key:?} of {bytes} bytes, never refused alone, with contrast alone at the end of {ended} \
                 connections (of a link that cuts: {})",
                self.only_link
            )
        })
    }

    pub fn memory(&self, held: usize, compression: Compression) -> Check {
        let most = if compression == Compression::Zstd { RECORDS_HELD_COMPRESSED } else { RECORDS_HELD };
        ensure(held <= most, || format!("memory: {held} bytes of records held"))
    }

    /// The machine was woken by its own timer.
    pub fn woken(&mut self, now: Duration) -> Check {
        self.wakes.push_back(now);
        self.wakes.retain(|at| *at + Duration::from_secs(1) > now);
        ensure(self.wakes.len() <= 30, || format!("busy: {} wakes in a second", self.wakes.len()))
    }

    pub fn quiet(&self, next_wake: Option<Duration>, now: Duration) -> Check {
        ensure(next_wake.is_none_or(|at| at > now), || {
            format!("busy: wants to be woken at {next_wake:?}, it is {now:?}")
        })
    }
}
