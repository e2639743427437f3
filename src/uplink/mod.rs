//! The uplink: decides what is published when, and what a broker's answers mean for the records.
//!
//! A pure state machine. [`Uplink::handle`] takes what happened, [`Uplink::poll`] says what to do until it
//! says nothing, [`Uplink::next_wake`] says when to ask again; time comes in with each call. It holds seqs
//! and at most a few batches of bytes, whatever the backlog: see [`MEMORY_CEILING`]. It never touches a
//! socket (that is `transport`), the outbox, or a clock.

mod acks;
mod anchors;
mod answers;
pub mod backoff;
mod commands;
mod copies;
mod delivery;
mod evidence;
mod gate;
mod heartbeat;
mod history;
mod inbound;
mod io;
mod journal;
mod lanes;
mod level;
mod link;
mod live;
mod losses;
mod message;
mod pacing;
mod patience;
pub mod reasons;
mod report;
mod squeeze;
mod subscription;
mod suspects;
#[cfg(test)]
mod tests;
pub mod transport;
mod trials;
mod turn;
mod twin;
mod window;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub use anchors::Anchors;
pub use commands::Ticket;
pub use io::{
    Action, CloseReason, Compression, Encoding, EpochView, Input, Limits, Message, Pace, Settings, Severity, Unheard,
    Will,
};
pub use level::{HubMemory, Level};
pub use live::LIVE_BYTES;
pub use squeeze::MAX_STORED;

use crate::clock::Now;
use crate::record::ClockContext;
use crate::wire::Loss;
use acks::Acks;
use backoff::Rng;
use commands::Commands;
use copies::Copies;
use delivery::Delivery;
use gate::Gate;
use heartbeat::Heartbeat;
use history::Loader;
use journal::Journal;
use level::Standard;
use link::{Link, State as LinkState};
use live::LiveQueue;
use losses::Losses;
use pacing::{BatchSize, TokenBucket};
use squeeze::Squeeze;
use subscription::Subscription;
use suspects::Suspects;
use twin::Twin;
use window::{Room, Route, Window};

/// P5: bytes that an uplink with default settings may hold, whatever the backlog: 64 KiB of waiting live
/// chunks, two loads of 64 KiB of history, one message being built (64 KiB, three times that as JSON), and seqs:
/// 4,096 pending ranges, 2,048 resting suspects, 1,024 losses and a window's bookkeeping, at most 512 KiB together.
/// Compression, which is off by default, doubles the loads and the message: [`squeeze::MAX_STORED`].
pub const MEMORY_CEILING: usize = (64 + 2 * 64 + 4 * 64 + 512) << 10;

/// Brokers with a smaller packet limit than any stored value needs would otherwise starve the window.
const MIN_IN_FLIGHT_BYTES: usize = 32 << 10;
const MAX_EXTERNAL_PROBLEMS: usize = 8;
/// Before seqs that a load did not bring are asked for again.
const UNREADABLE_RETRY: Duration = Duration::from_secs(30);

/// Counters for people and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// PUBACKs for no publish in flight; ignored.
    pub stray_acks: u64,
    /// Inputs that fit no state (a CONNACK without an attempt, an answer to no load); ignored.
    pub stray_inputs: u64,
    /// Stored values set aside.
    pub quarantined: u64,
    pub quarantined_records: u64,
    /// Records that the outbox did not bring when asked, at present.
    pub unreadable: u64,
    /// Records settled although nobody subscribed, by `unheard = "settle"`.
    pub settled_unheard: u64,
}

/// A stop in progress.
#[derive(Clone, Copy, Debug)]
struct Stopping {
    /// When waiting for what is in flight ends.
    deadline: Duration,
    /// The token of the offline status, and when waiting for its answer ends.
    farewell: Option<(u64, Duration)>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Uplink {
    settings: Arc<Settings>,
    link: Link,
    heartbeat: Heartbeat,
    standard: Standard,
    subscription: Subscription,
    acks: Acks,
    anchors: Anchors,
    /// Nothing has been published by this process before the present connection.
    first_connection: bool,
    commands: Commands,
    copies: Copies,
    delivery: Delivery,
    losses: Losses,
    /// Losses ride on no message with records until then: one such message was refused for its content.
    losses_held: Option<Duration>,
    live: LiveQueue,
    window: Window,
    /// Collector to the gate of its live topic; as many as there are collectors.
    gates: BTreeMap<Arc<str>, Gate>,
    history_gate: Gate,
    bucket: TokenBucket,
    batch: BatchSize,
    squeeze: Squeeze,
    loader: Loader,
    suspects: Suspects,
    twin: Twin,
    /// Since when suspects wait for live data in flight to be answered.
    suspects_wait: Option<Duration>,
    /// When a resting suspect is due, as found by the last poll.
    suspects_wake: Option<Duration>,
    /// Data that was no suspect has been accepted on this connection.
    data_accepted: bool,
    /// Live data waits for one suspect to go, which would never be alone in flight otherwise.
    live_paused: bool,
    /// Values quarantined since anything was accepted on `h`.
    poison_streak: u32,
    retry_unreadable: Option<Duration>,
    /// When history may go on, as found by the last poll.
    history_wake: Option<Duration>,
    /// There was a backlog and a reader is to be told once it is gone.
    behind: bool,
    /// The clock context of the last append.
    context: Option<ClockContext>,
    /// Epoch, seq and wall clock of a record that was the oldest pending when it was seen.
    oldest: Option<(u64, u64, i64)>,
    stopping: Option<Stopping>,
    /// Of the agent's other parts.
    problems: Vec<String>,
    counts: Counts,
    journal: Journal,
    out: VecDeque<Action>,
    rng: Rng,
    last_token: u64,
}

impl Uplink {
    /// Starts disconnected with what the outbox recovered, oldest epoch first, and its unsettled losses.
    /// `rng_seed` should differ between hosts and starts: it spreads reconnects and names sessions.
    pub fn new(mut settings: Settings, opened: Vec<EpochView>, losses: Vec<Loss>, rng_seed: u64) -> Self {
        settings.window = settings.window.max(1);
        settings.in_flight_bytes = settings.in_flight_bytes.max(MIN_IN_FLIGHT_BYTES);
        settings.max_packet = settings.max_packet.min(settings.in_flight_bytes);
        let mut unsettled = Losses::default();
        unsettled.add(losses);
        Self {
            link: Link::new(settings.urls.len(), settings.reconnect),
            bucket: TokenBucket::new(settings.pace),
            squeeze: Squeeze::new(settings.compression),
            standard: Standard::new(settings.level, settings.hub),
            anchors: settings.anchors.clone(),
            settings: Arc::new(settings),
            subscription: Subscription::default(),
            acks: Acks::default(),
            first_connection: true,
            commands: Commands::default(),
            copies: Copies::default(),
            heartbeat: Heartbeat::default(),
            delivery: Delivery::new(opened),
            losses: unsettled,
            losses_held: None,
            live: LiveQueue::default(),
            window: Window::default(),
            gates: BTreeMap::new(),
            history_gate: Gate::default(),
            batch: BatchSize::new(),
            loader: Loader::default(),
            suspects: Suspects::default(),
            twin: Twin::default(),
            suspects_wait: None,
            suspects_wake: None,
            data_accepted: false,
            live_paused: false,
            poison_streak: 0,
            retry_unreadable: None,
            history_wake: None,
            behind: false,
            context: None,
            oldest: None,
            stopping: None,
            problems: Vec::new(),
            counts: Counts::default(),
            journal: Journal::default(),
            out: VecDeque::new(),
            rng: Rng::new(rng_seed),
            last_token: 0,
        }
    }

    /// Takes note of what happened. Call [`Uplink::poll`] until `None` after each.
    pub fn handle(&mut self, input: Input, now: Now) {
        let mono = now.mono;
        match input {
            Input::Appended { collector, chunks } => self.appended(collector, chunks, now),
            Input::Redrawn(chunks) => self.redrawn(&chunks, mono),
            Input::Loaded { epoch, range, chunks } => self.loaded(epoch, range, chunks, mono),
            Input::LoadRefused => self.loader.refused(mono),
            Input::Lost(losses) => self.lost(losses, mono),
            Input::Opened { epochs, losses, hub } => {
                self.delivery.found(epochs);
                self.losses.add(losses);
                self.standard.remember(hub);
                self.repeat_acks(mono);
                self.heartbeat.changed(mono);
            }
            Input::Anchors(kept) => {
                let news = self.anchors.remember(kept);
                self.keep_anchors(news);
            }
            Input::Connected(limits) => self.connected(limits, mono),
            Input::Progress => self.link.heard(mono),
            Input::Acked { token, code } => self.acked(token, code, mono),
            Input::Closed(reason) => self.closed(reason, mono),
            Input::Subscribed(outcomes) => {
                if self.subscription.answered(outcomes) {
                    self.heartbeat.changed(mono);
                }
            }
            Input::Received(message) => self.received(message, now),
            Input::Ran { ticket, outcome } => self.answered(ticket, outcome, mono),
            Input::Meta(meta) => {
                if meta != self.settings.meta {
                    Arc::make_mut(&mut self.settings).meta = meta;
                    self.heartbeat.meta_changed(mono);
                }
            }
            Input::Problems(mut lines) => {
                lines.truncate(MAX_EXTERNAL_PROBLEMS);
                lines.iter_mut().for_each(report::shorten);
                if lines != self.problems {
                    self.problems = lines;
                    self.heartbeat.changed(mono);
                }
            }
            Input::Ease(eased) => self.bucket = TokenBucket::new(Pace::eased(self.settings.pace, eased)),
            Input::Stop => self.stop(mono),
        }
        self.hide_resting();
    }

    /// What rests is passed over by history.
    fn hide_resting(&mut self) {
        let passed = self.suspects.passed();
        if let Some(resting) = self.suspects.resting_if_changed() {
            self.delivery.rest(resting);
            self.delivery.go_on_behind(passed);
        }
    }

    /// Whether a stop is complete: nothing will be asked for any more.
    pub fn is_stopped(&self) -> bool {
        *self.link.state() == LinkState::Stopped && self.out.is_empty()
    }

    pub fn is_connected(&self) -> bool {
        self.link.up().is_some()
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Records recorded and not settled.
    pub fn backlog(&self) -> u64 {
        self.delivery.backlog()
    }

    /// Whether only a hub's acknowledgement settles a record.
    pub fn is_at_level_hub(&self) -> bool {
        self.standard.is_hub()
    }

    /// Seqs of one epoch that are recorded and not settled, whether the broker has them or not.
    pub fn unsettled(&self, epoch: u64) -> crate::ranges::RangeSet {
        let mut unsettled = self.delivery.pending(epoch);
        unsettled.union(&self.delivery.sent(epoch));
        unsettled
    }

    /// Seqs of one epoch that are recorded and that the broker has not taken.
    pub fn pending(&self, epoch: u64) -> crate::ranges::RangeSet {
        self.delivery.pending(epoch)
    }

    /// Bytes of records now held: waiting live, and loaded history.
    pub fn held_bytes(&self) -> usize {
        self.live.bytes() + self.loader.bytes()
    }

    /// What may be in flight on this connection.
    fn room(&self) -> Room {
        let receive_max = self.link.up().map_or(1, |up| usize::from(up.limits.receive_max));
        Room { messages: self.settings.window.min(receive_max).max(1), bytes: self.settings.in_flight_bytes }
    }

    /// The largest packet on this connection.
    fn max_packet(&self) -> usize {
        let broker = self.link.up().map_or(usize::MAX, |up| up.limits.max_packet as usize);
        self.settings.max_packet.min(broker)
    }

    fn answer_owed(&self) -> Option<Duration> {
        self.link.up().and_then(|up| self.window.unanswered_since(up.acked))
    }

    fn new_token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    fn gate(&mut self, route: &Route) -> &mut Gate {
        match route {
            Route::Live(collector) => self.gate_mut(collector),
            Route::History => &mut self.history_gate,
        }
    }

    fn gate_mut(&mut self, collector: &Arc<str>) -> &mut Gate {
        self.gates.entry(Arc::clone(collector)).or_default()
    }
}
