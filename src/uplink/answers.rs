//! What the world says, and what it means for the records: appends, losses, PUBACKs, ends of connections.
//!
//! P2 rests here: at level broker `accept` is the only way to a settlement, and only the PUBACK of a message that is in
//! flight on this connection leads to it. At level hub it settles nothing: see `acks`.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::evidence::Strike;
use super::gate::Closed;
use super::io::{Action, CloseReason, Limits, Severity, Unheard};
use super::journal::Subject;
use super::link::{GiveUp, State as LinkState};
use super::reasons::{self, Verdict, verdict};
use super::window::{Data, Kind, Route, Sent};
use super::{LIVE_BYTES, Uplink};
use crate::clock::Now;
use crate::ranges::RangeSet;
use crate::wire::{Chunk, Loss};

/// Values quarantined in a row before `h` itself is doubted, and probed at the pace of its gate: a broker
/// that refuses everything must not empty the outbox into quarantine at line speed.
const POISON_STREAK: u32 = 4;
/// Losses stay off messages with records after one such message was refused for its content.
const LOSSES_HOLD: Duration = Duration::from_secs(60);

impl Uplink {
    pub(super) fn appended(&mut self, collector: Arc<str>, chunks: Vec<Chunk>, now: Now) {
        self.learn_anchor(&chunks, now);
        let (now, wall_ms) = (now.mono, now.wall_ms);
        if let Some(first) = chunks.first().filter(|_| self.delivery.oldest_unsettled().is_none()) {
            self.oldest = Some((first.epoch, first.first, wall_ms));
        }
        self.redrawn(&chunks, now);
        self.context = chunks.last().map(|chunk| chunk.context.clone()).or(self.context.take());
        let doubted = chunks.iter().any(|chunk| self.delivery.is_doubted(chunk.epoch));
        let live =
            !doubted && self.link.up().is_some() && self.stopping.is_none() && self.gate_mut(&collector).admits(now);
        if chunks.is_empty() || !live || chunks.iter().map(|c| c.maps.len()).sum::<usize>() > LIVE_BYTES {
            return;
        }
        self.copies.take(&chunks);
        chunks.iter().for_each(|c| self.delivery.claim(c.epoch, c.seqs()));
        for run in self.live.push(collector, chunks) {
            self.release_run(&run);
        }
    }

    /// New seqs, to go by history.
    pub(super) fn redrawn(&mut self, chunks: &[Chunk], now: Duration) {
        for chunk in chunks {
            if self.delivery.appended(chunk.epoch, chunk.seqs()) {
                self.heartbeat.changed(now);
            }
        }
    }

    pub(super) fn lost(&mut self, losses: Vec<Loss>, now: Duration) {
        if losses.is_empty() {
            return;
        }
        for loss in &losses {
            let to = loss.to.or_else(|| self.delivery.pending(loss.epoch).last());
            if let Some(to) = to {
                self.delivery.gone(loss.epoch, loss.from..=to);
            }
        }
        self.suspects.retain(|epoch, chunk| self.delivery.is_wanted(epoch, chunk.clone()));
        self.losses.add(losses);
        self.heartbeat.changed(now);
    }

    pub(super) fn connected(&mut self, limits: Limits, now: Duration) {
        let attempts = self.link.fruitless();
        if !self.link.connected(limits, now) {
            self.counts.stray_inputs += 1;
            return;
        }
        self.heartbeat.connected(now);
        self.subscription.connected(now);
        self.gates.values_mut().chain([&mut self.history_gate]).for_each(|gate| gate.connected(now));
        self.behind = self.delivery.next_free().is_some();
        let url = self.url();
        if !self.link.retains() {
            self.journal.say(Subject::Status, Severity::Warn, now, || {
                format!(
                    "{url} keeps no retained messages: whoever subscribes later sees this host only at its next heartbeat, and \
                     an outbox set back to an older copy is not noticed by what the broker has kept; allow retained \
                     messages at the broker"
                )
            });
        }
        self.journal.say(Subject::Connected, Severity::Info, now, || match attempts {
            0 => format!("connected to {url}"),
            n => format!("connected to {url} after {n} failed attempts"),
        });
    }

    fn url(&self) -> String {
        self.settings.urls.get(self.link.url()).cloned().unwrap_or_default()
    }

    pub(super) fn acked(&mut self, token: u64, code: u8, now: Duration) {
        self.link.heard(now);
        let Some(sent) = self.window.take(token) else {
            self.counts.stray_acks += 1;
            return;
        };
        self.link.acked(now);
        self.heartbeat.unblocked();
        match sent.kind {
            Kind::Data(ref data) => self.judge(data, &sent, code, now),
            ref kind => {
                match kind {
                    Kind::Status => self.heartbeat.answered(),
                    Kind::Meta => self.heartbeat.meta_answered(),
                    _ => {}
                }
                if code >= reasons::UNSPECIFIED {
                    self.journal.say(Subject::Status, Severity::Warn, now, || {
                        format!("the broker refused our {kind:?} message: 0x{code:02x}, {}", reasons::name(code))
                    });
                }
            }
        }
    }

    fn judge(&mut self, data: &Data, sent: &Sent, code: u8, now: Duration) {
        match verdict(code) {
            Verdict::Accepted => self.accept(data, sent, now),
            Verdict::Unheard if self.settings.unheard == Unheard::Settle => {
                if self.counts.settled_unheard == 0 {
                    self.heartbeat.changed(now);
                    self.journal.say(Subject::Refused, Severity::Warn, now, || {
                        "the broker says nobody subscribes; taken for delivered by 'unheard = \"settle\"'".to_owned()
                    });
                }
                self.counts.settled_unheard += data.records();
                self.accept(data, sent, now);
            }
            Verdict::Unheard => self.refuse(data, sent.token, Closed::Unheard, code, now),
            Verdict::Busy => self.refuse(data, sent.token, Closed::Busy(code), code, now),
            Verdict::Forbidden => self.refuse(data, sent.token, Closed::Forbidden, code, now),
            Verdict::Poison => self.poison(data, sent.token, code, now),
        }
    }

    fn accept(&mut self, data: &Data, sent: &Sent, now: Duration) {
        if self.gate(&data.route).accepted() {
            // Whoever listens to a live topic again may well listen to `h`.
            self.history_gate.connected(now);
            self.heartbeat.changed(now);
            let topic = self.topic_of(&data.route);
            self.journal.say(Subject::Refused, Severity::Info, now, || format!("{topic} is accepted again"));
        }
        let losses = self.settle_at_level(data, sent.token);
        self.data_accepted |= !data.suspect;
        self.suspects.accepted(data.epoch, &data.chunks, sent.bytes, data.suspect);
        if data.route == Route::History {
            self.poison_streak = 0;
            let took = now.saturating_sub(sent.at);
            self.batch.acknowledged(sent.bytes, took, self.settings.in_flight_bytes);
        }
        if !losses.is_empty() {
            self.out.push_back(Action::SettleLosses(losses));
        }
        let draining = self.delivery.next_free().is_some() || self.window.iter().any(Sent::is_history);
        if self.behind && !draining {
            self.behind = false;
            self.heartbeat.changed(now);
        }
    }

    /// The broker has the message: that settles it, or makes it wait for a hub. Returns the losses that it settles.
    fn settle_at_level(&mut self, data: &Data, token: u64) -> Vec<Loss> {
        if self.standard.is_hub() {
            data.stretches().into_iter().for_each(|seqs| self.delivery.taken(data.epoch, seqs));
            return self.losses.told(token);
        }
        let settled: RangeSet =
            data.stretches().into_iter().flat_map(|seqs| self.delivery.settle(data.epoch, seqs)).collect();
        self.heartbeat.settled(data.records());
        if !settled.is_empty() {
            self.out.push_back(Action::Settle { epoch: data.epoch, seqs: settled });
        }
        self.losses.settle(token)
    }

    /// Not this topic, not now: its content is free again, its gate closes.
    fn refuse(&mut self, data: &Data, token: u64, why: Closed, code: u8, now: Duration) {
        self.release(data, token);
        let gate = match &data.route {
            Route::Live(collector) => self.gates.entry(Arc::clone(collector)).or_default(),
            Route::History => &mut self.history_gate,
        };
        if gate.refused(token, why, now, &mut self.rng) {
            self.heartbeat.changed(now);
            let topic = self.topic_of(&data.route);
            let severity = if why == Closed::Forbidden { Severity::Error } else { Severity::Warn };
            self.journal.say(Subject::Refused, severity, now, || {
                format!("the broker refused {topic}: 0x{code:02x}, {}; its records are kept", reasons::name(code))
            });
        }
    }

    /// Back to pending. What was loaded meanwhile is newer and is loaded again: the oldest goes first.
    fn release(&mut self, data: &Data, token: u64) {
        self.loader.clear();
        data.stretches().into_iter().for_each(|seqs| self.delivery.release(data.epoch, seqs));
        self.losses.release(token);
    }

    /// Not this content. A live message is judged again by history, where it can be taken apart; so is a
    /// message that carried losses beside records.
    fn poison(&mut self, data: &Data, token: u64, code: u8, now: Duration) {
        if data.chunks.is_empty() || matches!(data.route, Route::Live(_)) && code == reasons::TOPIC_NAME_INVALID {
            return self.refuse(data, token, Closed::Forbidden, code, now);
        }
        self.release(data, token);
        self.gate(&data.route).probe_undecided(token);
        let chunks = self.still_pending(data);
        if !data.losses.is_empty() {
            self.losses_held = Some(now + LOSSES_HOLD);
            self.suspects.accuse(data.epoch, &chunks);
        } else if matches!(data.route, Route::Live(_)) || chunks.len() < data.chunks.len() {
            self.suspects.accuse(data.epoch, &chunks);
        } else if let Some((epoch, seqs)) = self.suspects.refused(data.epoch, &chunks) {
            let why = format!("the broker refused it: 0x{code:02x}, {}", reasons::name(code));
            self.quarantine(epoch, seqs, why, now);
        }
    }

    fn still_pending(&self, data: &Data) -> Vec<RangeInclusive<u64>> {
        data.chunks.iter().filter(|c| self.delivery.is_wanted(data.epoch, (*c).clone())).cloned().collect()
    }

    pub(super) fn quarantine(&mut self, epoch: u64, seqs: RangeInclusive<u64>, reason: String, now: Duration) {
        self.delivery.gone(epoch, seqs.clone());
        self.suspects.acquit(epoch, std::slice::from_ref(&seqs));
        self.counts.quarantined += 1;
        self.counts.quarantined_records += seqs.end() - seqs.start() + 1;
        self.poison_streak += 1;
        if self.poison_streak >= POISON_STREAK {
            self.history_gate.close(Closed::Poison, now, &mut self.rng);
        }
        self.heartbeat.changed(now);
        self.journal.say(Subject::Quarantine, Severity::Error, now, || {
            format!("seqs {} to {} of epoch {epoch} are set aside: {reason}", seqs.start(), seqs.end())
        });
        self.out.push_back(Action::Quarantine { epoch, seqs, reason });
    }

    fn topic_of(&self, route: &Route) -> crate::wire::Topic {
        match route {
            Route::Live(collector) => self.settings.topics.live(collector),
            Route::History => self.settings.topics.history(),
        }
    }

    pub(super) fn closed(&mut self, reason: CloseReason, now: Duration) {
        if !matches!(self.link.state(), LinkState::Connecting { .. } | LinkState::Up(_)) {
            self.counts.stray_inputs += 1;
            return;
        }
        let (blame, text) = match reason {
            CloseReason::NoRetain(text) => {
                self.link.keeps_no_retained();
                (Blame::None, text)
            }
            CloseReason::Connect(text) | CloseReason::Other(text) => (Blame::None, text),
            CloseReason::Lost(text) => (Blame::Content, text),
            CloseReason::Server { code: reasons::PACKET_TOO_LARGE, text } => (Blame::Size, text),
            CloseReason::Server { code, text } if blames_content(code) => (Blame::Content, text),
            CloseReason::Server { code, text } => {
                if code == reasons::SESSION_TAKEN_OVER {
                    self.met_a_twin(now);
                }
                (Blame::None, text)
            }
        };
        self.disconnected(blame, &text, now);
    }

    pub(super) fn met_a_twin(&mut self, now: Duration) {
        self.twin.seen(now);
        if let Some(line) = self.twin.problem() {
            self.journal.say(Subject::Twin, Severity::Error, now, || line);
        }
    }

    pub(super) fn give_up(&mut self, why: GiveUp, now: Duration) {
        let (blame, text) = match why {
            GiveUp::Connect => (Blame::None, "no answer to the connection attempt"),
            GiveUp::Silence => (Blame::None, "nothing heard for one and a half keep-alives"),
            GiveUp::NoAck => (Blame::Content, "the broker answers pings but acknowledges nothing"),
        };
        self.out.push_back(Action::Disconnect { clean: false });
        self.disconnected(blame, text, now);
    }

    /// Everything in flight is forgotten here and sent again from the outbox.
    fn disconnected(&mut self, blame: Blame, text: &str, now: Duration) {
        let blame = if self.subscription.disconnected() { Blame::None } else { blame };
        let (url, proven) = (self.url(), self.link.up().is_some_and(|up| up.acks > 0));
        let carried = self.window.carried();
        self.first_connection &= carried.0 == 0;
        let lost = self.window.take_all();
        for sent in &lost {
            if let Kind::Data(data) = &sent.kind {
                self.release(data, sent.token);
            }
        }
        self.live_all_to_history();
        self.copies.clear();
        self.loader.clear();
        self.gates.values_mut().chain([&mut self.history_gate]).for_each(super::gate::Gate::disconnected);
        self.live_paused = false;
        self.suspects_wait = None;
        self.data_accepted = false;
        let only_ours = !lost.is_empty() && lost.iter().all(|s| matches!(s.kind, Kind::Status | Kind::Meta));
        self.heartbeat.disconnected(only_ours && blame != Blame::None);
        if lost.iter().filter_map(Sent::data).any(|d| d.route == Route::History) {
            self.batch.lost();
        }
        let convict = match blame {
            Blame::Size => self.blame_largest(&lost),
            _ => self.blame_head(&lost, blame == Blame::Content && proven, carried, now),
        };
        if let Some((epoch, seqs)) = convict {
            let why = format!("connections end when it is sent: {text}");
            self.quarantine(epoch, seqs, why, now);
        }
        self.suspects.adjourn(now);
        if blame != Blame::Size && lost.iter().filter_map(Sent::data).any(|d| d.suspect) {
            self.suspects.pause(now, &mut self.rng);
        }
        self.link.closed(now, &mut self.rng);
        let wait = self.link.next_wake(None).map_or(0, |at| at.saturating_sub(now).as_secs());
        self.journal.say(Subject::Disconnected, Severity::Warn, now, || {
            format!("no connection to {url}: {text}; {} publishes are sent again, next attempt in {wait} s", lost.len())
        });
        if self.stopping.is_some() {
            self.link.stop();
        }
    }

    /// The broker named a packet too large: the largest in flight.
    fn blame_largest(&mut self, lost: &VecDeque<Sent>) -> Option<(u64, RangeInclusive<u64>)> {
        self.suspects.doubt();
        let (largest, _) = data_of(lost).max_by_key(|(_, bytes)| *bytes)?;
        let chunks = self.still_pending(largest);
        if lost.len() == 1 && largest.losses.is_empty() && chunks.len() == largest.chunks.len() {
            return self.suspects.refused(largest.epoch, &chunks);
        }
        self.suspects.accuse(largest.epoch, &chunks);
        None
    }

    /// A connection ended, unexplained: the oldest data in flight may be why, if `blames` what was sent. It is
    /// held against a suspect that was alone, else only noted.
    fn blame_head(
        &mut self,
        lost: &VecDeque<Sent>,
        blames: bool,
        (published, answered): (u64, u64),
        now: Duration,
    ) -> Option<(u64, RangeInclusive<u64>)> {
        let rank = |(d, _): &(&Data, usize)| (self.delivery.age_rank(d.epoch), *d.chunks[0].start());
        let head = data_of(lost).min_by_key(rank);
        let chunks = head.map(|(d, _)| self.still_pending(d)).unwrap_or_default();
        let Some((head, size)) = head.filter(|_| !chunks.is_empty()) else {
            self.suspects.doubt();
            return None;
        };
        let alone = head.suspect && lost.len() == 1 && blames;
        if !alone || chunks.len() > 1 {
            self.suspects.doubt();
        }
        if alone {
            self.heartbeat.changed(now);
            return self.suspects.struck(head.epoch, &chunks, Strike { size, published, answered }, now);
        }
        if !head.suspect {
            self.suspects.lost_on(head.epoch, &chunks, now);
        }
        None
    }
}

/// The messages with records among these, and what each weighs.
fn data_of(lost: &VecDeque<Sent>) -> impl Iterator<Item = (&Data, usize)> {
    lost.iter().filter_map(|s| s.data().map(|d| (d, s.bytes))).filter(|(d, _)| !d.chunks.is_empty())
}

/// What the end of a connection says about what was in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    None,
    /// It may be what ended it.
    Content,
    /// One packet was too large.
    Size,
}

/// DISCONNECT codes that a publish can provoke; shutdowns, take-overs and quotas are none.
fn blames_content(code: u8) -> bool {
    matches!(code, 0x80..=0x83 | reasons::TOPIC_NAME_INVALID | reasons::PAYLOAD_FORMAT_INVALID)
}
