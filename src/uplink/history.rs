//! The history lane: load the oldest pending chunks, pack them into one paced message at a time.
//!
//! At most one load is outstanding, asked for while another's chunks are still held: reading and sending overlap.
//! Each reason to wait is either an input that will come (an answer, a load) or a time, which is noted in
//! `history_wake`; there is no third, so the lane neither spins nor sleeps for ever.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::io::{Action, Settings};
use super::losses::LOSSES_PER_MESSAGE;
use super::message::{Envelope, packet_size};
use super::suspects::Group;
use super::window::{Data, Route, Window};
use super::{UNREADABLE_RETRY, Uplink};
use crate::clock::Now;
use crate::record::{ClockContext, Record};
use crate::wire::{Chunk, Lane};

/// After the outbox refused a load.
const LOAD_RETRY: Duration = Duration::from_secs(1);
/// An answer that is later than this got lost with the outbox that owed it (it was reopened, say).
const LOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Chunks held at most: a bound on what many tiny ones cost beside their bytes.
const MAX_CHUNKS: usize = 512;
/// The one load and its chunks.
#[derive(Debug, Default)]
pub struct Loader {
    asked: Option<(u64, RangeInclusive<u64>)>,
    /// When an answer that has not come is not waited for any longer.
    given_up_at: Duration,
    retry_at: Option<Duration>,
    chunks: VecDeque<Chunk>,
    /// Something older is free again: what is asked for does not follow what is held, and is not kept.
    void: bool,
}

impl Loader {
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(|c| c.maps.len()).sum()
    }

    pub fn refused(&mut self, now: Duration) {
        if self.asked.take().is_some() {
            self.retry_at = Some(now + LOAD_RETRY);
        }
    }

    /// Forgets the chunks, and those that are under way; they can be loaded again.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.void = self.asked.is_some();
    }

    fn ask(&mut self, epoch: u64, range: RangeInclusive<u64>, max_bytes: usize, now: Duration) -> Action {
        self.asked = Some((epoch, range.clone()));
        self.given_up_at = now + LOAD_TIMEOUT;
        self.void = false;
        Action::Load { epoch, range, max_bytes }
    }
}

/// What the lane found it has to do.
enum Next {
    /// Ask the outbox.
    Load(Action),
    /// Chunks are at hand.
    Send,
    /// Nothing but losses.
    Losses,
    Wait,
}

impl Uplink {
    pub(super) fn publish_history(&mut self, now: Now) -> Option<Action> {
        self.history_wake = None;
        self.try_suspects(now.mono);
        if !self.live.is_empty() && !self.live_paused {
            return None;
        }
        if !self.history_gate.admits(now.mono) {
            let work = self.delivery.next_free().is_some() || self.losses.any_to_send();
            self.history_wake = self.history_gate.opens_at().filter(|_| work);
            self.live_paused = false;
            return None;
        }
        if !self.suspects.is_empty() && !self.suspects_may_go(now.mono) {
            return None;
        }
        if let Some(load) = self.read_ahead(now.mono) {
            return Some(load);
        }
        loop {
            match self.next_history(now.mono) {
                Next::Wait => return None,
                Next::Load(action) => return Some(action),
                next => {
                    let ready = self.bucket.ready_at(now.mono);
                    if ready > now.mono {
                        self.history_wake = Some(ready);
                        return None;
                    }
                    let sent = if matches!(next, Next::Send) { self.send_chunks(now) } else { self.send_losses(now) };
                    match sent {
                        Step::Sent(action) => return Some(*action),
                        Step::Wait => return None,
                        Step::Again => {}
                    }
                    if !self.history_gate.admits(now.mono) {
                        self.history_wake = self.history_gate.opens_at();
                        return None;
                    }
                }
            }
        }
    }

    /// Drops what need not be sent from the front of the held chunks and looks what is left to do.
    fn next_history(&mut self, now: Duration) -> Next {
        let group = self.suspects.next().cloned();
        while let Some(chunk) = self.loader.chunks.front() {
            let wanted = group.as_ref().is_none_or(|g| g.holds(chunk));
            if wanted && self.delivery.is_free(chunk.epoch, chunk.seqs()) {
                return Next::Send;
            }
            self.loader.chunks.pop_front();
        }
        if self.loader.asked.is_some() && now < self.loader.given_up_at {
            self.history_wake = Some(self.loader.given_up_at);
            return Next::Wait;
        }
        let want = match group.as_ref().and_then(Group::span) {
            Some(span) => Some((group.map_or(0, |g| g.epoch), span)),
            None => self.delivery.next_free(),
        };
        match want {
            Some(_) if self.loader.retry_at.is_some_and(|at| at > now) => {
                self.history_wake = self.loader.retry_at;
                Next::Wait
            }
            Some((epoch, range)) => Next::Load(self.loader.ask(epoch, range, self.load_bytes(), now)),
            None if self.losses_may_go(now) => Next::Losses,
            None => Next::Wait,
        }
    }

    /// What follows the held chunks, while no more than one load of them is held.
    fn read_ahead(&mut self, now: Duration) -> Option<Action> {
        let loader = &self.loader;
        let last = loader.chunks.back()?;
        let idle = loader.asked.is_none() && loader.retry_at.is_none_or(|at| at <= now);
        let ordinary = self.suspects.is_empty() && self.history_gate.is_open();
        let max_bytes = self.load_bytes();
        if !idle || !ordinary || loader.bytes() > max_bytes || loader.chunks.len() > MAX_CHUNKS / 2 {
            return None;
        }
        let (epoch, free) = self.delivery.next_free()?;
        let next = last.last() + 1;
        (epoch == last.epoch && free.contains(&next))
            .then(|| self.loader.ask(epoch, next..=*free.end(), max_bytes, now))
    }

    fn load_bytes(&self) -> usize {
        let most = self.history_limit();
        if !self.suspects.is_empty() {
            most
        } else if self.history_gate.is_open() {
            self.squeeze.stored(self.batch.bytes().min(most))
        } else {
            1
        }
    }

    /// The largest history packet.
    fn history_limit(&self) -> usize {
        self.max_packet().min(Window::history_share(self.room()))
    }

    fn losses_may_go(&mut self, now: Duration) -> bool {
        if !self.losses.any_to_send() {
            return false;
        }
        if let Some(until) = self.losses_held.filter(|until| *until > now) {
            self.history_wake = Some(until);
            return false;
        }
        true
    }

    fn history_envelope<'a>(&self, settings: &'a Settings, about: (u64, ClockContext), now: Now) -> Envelope<'a> {
        self.envelope(settings, settings.topics.history(), Lane::History, about, now)
    }

    /// One message from the front of the held chunks, with losses where they fit.
    fn send_chunks(&mut self, now: Now) -> Step {
        let Some(head) = self.loader.chunks.front() else { return Step::Again };
        let (epoch, seqs, first_bytes) = (head.epoch, head.seqs(), head.maps.len());
        let settings = Arc::clone(&self.settings);
        let envelope = self.history_envelope(&settings, (epoch, head.context.clone()), now);
        let limit = self.history_limit();
        let suspect = !self.suspects.is_empty();
        let losses = if suspect || self.losses_held.is_some_and(|until| until > now.mono) {
            Vec::new()
        } else {
            let rest = limit.saturating_sub(first_bytes);
            self.losses.to_send(envelope.fitting_losses(LOSSES_PER_MESSAGE, rest))
        };
        let overhead = envelope.overhead(losses.len());
        let n = self.batch_len(self.load_bytes().saturating_sub(overhead));
        self.loader.chunks.make_contiguous();
        let chunks = &self.loader.chunks.as_slices().0[..n];
        let maps: usize = chunks.iter().map(|c| c.maps.len()).sum();
        let expected = self.squeeze.wire(overhead + maps);
        if expected <= limit && !self.window.fits_history(expected, self.room()) {
            return Step::Wait;
        }
        match envelope.encode_within(&losses, chunks, limit) {
            Ok((payload, n)) => {
                let maps: usize = chunks[..n].iter().map(|c| c.maps.len()).sum();
                self.squeeze.seen(overhead + maps, packet_size(&envelope.topic, payload.len()));
                let data = Data { losses, suspect, ..Data::new(Route::History, epoch, &chunks[..n]) };
                self.send_history(data, envelope, payload, now)
            }
            Err(why) => {
                self.quarantine(epoch, seqs, why, now.mono);
                Step::Again
            }
        }
    }

    /// How many chunks from the front may share a message of `max_bytes` of maps with the first.
    fn batch_len(&self, max_bytes: usize) -> usize {
        let Some(head) = self.loader.chunks.front() else { return 0 };
        let group = self.suspects.next();
        // Found once: most chunks lie in it.
        let free = self.delivery.free_from(head.epoch, head.first);
        let is_free = |c: &Chunk| free.contains(&c.last()) || self.delivery.is_free(c.epoch, c.seqs());
        let mut bytes = 0;
        let fits = |chunk: &&Chunk| {
            bytes += chunk.maps.len();
            chunk.first == head.first
                || (bytes <= max_bytes
                    && chunk.epoch == head.epoch
                    && chunk.context == head.context
                    && group.is_none_or(|g| g.holds(chunk))
                    && is_free(chunk))
        };
        self.loader.chunks.iter().take_while(fits).count()
    }

    fn send_losses(&mut self, now: Now) -> Step {
        let settings = Arc::clone(&self.settings);
        let context =
            self.context.clone().unwrap_or_else(|| ClockContext { boot: Arc::clone(&settings.boot), synced: false });
        let of_a_loss = self.losses.iter().next().map_or(0, |l| l.epoch);
        let epoch = self.delivery.current().map_or(of_a_loss, |(epoch, _)| epoch);
        let envelope = self.history_envelope(&settings, (epoch, context), now);
        let limit = self.history_limit();
        let losses = self.losses.to_send(envelope.fitting_losses(LOSSES_PER_MESSAGE, limit));
        if losses.is_empty() {
            return Step::Wait;
        }
        if !self.window.fits_history(envelope.overhead(losses.len()), self.room()) {
            return Step::Wait;
        }
        match envelope.encode_within(&losses, &[], limit) {
            Ok((payload, _)) => {
                let data = Data { losses, ..Data::new(Route::History, epoch, &[]) };
                self.send_history(data, envelope, payload, now)
            }
            Err(_) => Step::Wait,
        }
    }

    fn send_history(&mut self, data: Data, envelope: Envelope<'_>, payload: Vec<u8>, now: Now) -> Step {
        let bytes = packet_size(&envelope.topic, payload.len());
        if !self.window.fits_history(bytes, self.room()) {
            return Step::Wait;
        }
        self.loader.chunks.drain(..data.chunks.len());
        self.bucket.spend(bytes);
        self.live_paused = false;
        self.suspects_wait = None;
        Step::Sent(Box::new(self.send_data(data, envelope.topic, payload, now.mono)))
    }

    pub(super) fn loaded(&mut self, epoch: u64, range: RangeInclusive<u64>, chunks: Vec<Chunk>, now: Duration) {
        let awaited = self.loader.asked.as_ref().is_some_and(|(e, r)| (*e, r.start()) == (epoch, range.start()));
        if !awaited {
            self.counts.stray_inputs += 1;
            return;
        }
        self.loader.asked = None;
        self.loader.retry_at = None;
        let mut chunks = chunks;
        chunks.retain(|c| c.epoch == epoch && c.last() >= *range.start() && c.first <= *range.end());
        // What lies before, between the chunks, or everything if there are none, was not to be had.
        let mut next = *range.start();
        for chunk in &chunks {
            if chunk.first > next {
                self.not_readable(epoch, next..=chunk.first - 1, now);
            }
            next = next.max(chunk.last() + 1);
        }
        if chunks.is_empty() {
            self.not_readable(epoch, range, now);
        }
        if let Some(first) = chunks.first().filter(|c| self.delivery.oldest_unsettled() == Some((epoch, c.first))) {
            self.oldest = first_time(first).map(|ts| (epoch, first.first, ts));
        }
        if self.link.up().is_some() && !std::mem::take(&mut self.loader.void) {
            self.loader.chunks.extend(chunks);
            self.loader.chunks.truncate(MAX_CHUNKS);
        }
    }

    fn not_readable(&mut self, epoch: u64, seqs: RangeInclusive<u64>, now: Duration) {
        let gone = self.suspects.within(epoch, &seqs);
        self.suspects.acquit(epoch, &gone);
        let hidden = self.delivery.unreadable(epoch, seqs.clone());
        if hidden > 0 {
            self.counts.unreadable += hidden;
            self.retry_unreadable.get_or_insert(now + UNREADABLE_RETRY);
            self.heartbeat.changed(now);
            self.journal.say(super::journal::Subject::Unreadable, super::io::Severity::Warn, now, || {
                format!(
                    "the outbox did not bring seqs {} to {} of epoch {epoch} ({hidden} pending); asking again in {} s",
                    seqs.start(),
                    seqs.end(),
                    UNREADABLE_RETRY.as_secs()
                )
            });
        }
    }
}

/// The `ts` of a chunk's first record.
fn first_time(chunk: &Chunk) -> Option<i64> {
    let (_, first) = chunk.records().next()?;
    rmp_serde::from_slice::<Record>(first).ok().map(|record| record.ts)
}

/// What became of one attempt to send.
enum Step {
    Sent(Box<Action>),
    /// For an answer that makes room.
    Wait,
    /// Something was set aside; look again.
    Again,
}
