//! One simulated life of an uplink: outbox, broker, clock and faults from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use holdover::clock::Now;
use holdover::ranges::RangeSet;
use holdover::uplink::backoff::Rng;
use holdover::uplink::{
    Action, CloseReason, Compression, Encoding, HubMemory, Input, Level, Message, Pace, Settings, Unheard, Uplink,
};
use holdover::wire::{Ack, Chunk, Command, Loss, LossReason, Status, TopicScheme, encode_payload};

use super::broker::{Broker, Connect, Parsed, Poison, Reaction, parse};
use super::hub::{SimHub, covered};
use super::oracle::{Check, Flight, Oracle};
use super::outbox::{BOOT, SimOutbox};
use super::plant::{Fault, Machine};

const COLLECTORS: [&str; 3] = ["cpu", "mem", "disk"];
/// What may follow the healing: probes, back-off, watchdogs, one search for each poisoned value.
const DRAIN: Duration = Duration::from_secs(900);
/// With a hub: two heartbeats for each gap, and the patience with epochs that are over.
const DRAIN_HUB: Duration = Duration::from_secs(6_000);
const DRAIN_PER_POISON: Duration = Duration::from_secs(1_800);
/// Bytes that hold every status.
const FULL_STATUS: u32 = 8_000;
/// Where values end connections, more data has to come to tell them from a bad link: this often one value,
/// as large as the broker takes.
const CONTRAST: Duration = Duration::from_secs(40);

enum Event {
    /// Reported by the connection of this number, if it is still the one.
    FromConnection(u64, Input),
    Loaded(u64, Input),
    Declared(u64, Loss),
    /// The outbox could not be opened at the start and now was.
    Opened(u64),
    Append(usize),
    Drop,
    WallStep,
    Restart,
    SawOffline,
    Heal,
    StopAppends,
    Contrast,
    /// The hub acknowledges, or does worse.
    HubSpeaks,
}

/// What a life amounted to, for tests that ask whether the simulation did anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    pub settled: u64,
    pub quarantined: u64,
    /// Of these, values that ended connections; and such values that were held to the end.
    pub ended: u64,
    pub held: u64,
    /// Lives with nothing but a bad link.
    pub only_link: u64,
    pub live: u64,
    pub history: u64,
    /// Lives with a hub, and seqs that hubs asked for.
    pub hubs: u64,
    pub asked: u64,
    pub connections: u64,
    pub virtual_time: Duration,
}

pub struct World {
    rng: Rng,
    now: Duration,
    wall_ms: i64,
    events: BTreeMap<(Duration, u64), Event>,
    serial: u64,
    settings: Settings,
    machine: Machine,
    outbox: SimOutbox,
    broker: Broker,
    oracle: Oracle,
    hub: Option<SimHub>,
    /// The last acknowledgement, which the broker keeps.
    retained: Option<Ack>,
    /// The last that the uplink heard: it is to count once the epochs are known.
    heard: Option<Ack>,
    /// Epochs of which the uplink knows by appends, whether the outbox was opened or not.
    appended: BTreeSet<u64>,
    /// More than there is was acknowledged: so often.
    lies: u32,
    /// Number of the present connection; a new one makes older events void.
    connection: u64,
    incarnation: u64,
    loads: u32,
    granted_retain: bool,
    /// The uplink has been told what the outbox held at the start.
    opened: bool,
    appending: bool,
    /// Every input and action, when one seed is replayed.
    pub trace: Option<Vec<String>>,
    summary: Summary,
}

fn settings(rng: &mut Rng) -> Settings {
    let topics = TopicScheme::new("", "site", "host").expect("plain levels");
    let mut settings = Settings::new("host", "site", BOOT.into(), topics);
    settings.urls = (0..1 + rng.below(3)).map(|i| format!("mqtts://broker-{i}:8883")).collect();
    settings.meta = b"{\"meta\":true}".to_vec();
    settings.encoding = if rng.below(10) == 0 { Encoding::Json } else { Encoding::Msgpack };
    settings.unheard = if rng.below(5) == 0 { Unheard::Settle } else { Unheard::Hold };
    settings.level = [Level::Auto, Level::Auto, Level::Broker][rng.below(3) as usize];
    settings.pace = match rng.below(4) {
        0 => None,
        1 => Some(Pace { bytes_per_s: 20_000, batches_per_s: 4 }),
        _ => Some(Pace::default()),
    };
    settings
}

impl World {
    pub fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut rng = Rng::new(seed);
        let mut settings = settings(&mut rng);
        if seed % 4 == 1 {
            settings.compression = Compression::Zstd;
        }
        let hub = (rng.below(2) == 0).then(|| SimHub::new(&mut rng));
        if hub.is_some() && rng.below(2) == 0 {
            settings.level = Level::Hub;
        }
        let outbox = SimOutbox::new(&mut rng);
        let opened = rng.below(10) != 0;
        let (views, losses) = if opened { (outbox.views(), outbox.losses.clone()) } else { Default::default() };
        let uplink = Uplink::new(settings.clone(), views, losses, rng.next_u64());
        let mut world = Self {
            now: Duration::from_millis(rng.below(10_000_000)),
            wall_ms: rng.below(1_900_000_000_000) as i64,
            events: BTreeMap::new(),
            serial: 0,
            oracle: Oracle::new(settings.unheard, settings.pace),
            machine: Machine::new(uplink, fault, settings.clone()),
            summary: Summary { hubs: hub.is_some().into(), ..Summary::default() },
            hub,
            retained: None,
            heard: None,
            appended: BTreeSet::new(),
            lies: 0,
            broker: Broker::new(&mut rng),
            settings,
            outbox,
            rng,
            connection: 0,
            incarnation: 0,
            loads: 0,
            granted_retain: true,
            opened,
            appending: true,
            trace: None,
        };
        world.oracle.at_level_hub = world.settings.level == Level::Hub;
        world.oracle.newest = world.outbox.epochs.last().map_or(0, |e| e.id);
        world.plan();
        world
    }

    fn plan(&mut self) {
        let only_link = self.broker.cutter.is_some();
        self.oracle.only_link = only_link;
        self.summary.only_link = only_link.into();
        if self.hub.is_some() {
            self.after(Duration::from_secs(3), Event::HubSpeaks);
        }
        let faulty = 10 + self.rng.below(if only_link { 1_800 } else { 90 });
        let second = |s: u64| Duration::from_secs(s);
        for i in 0..COLLECTORS.len() {
            let at = Duration::from_millis(self.rng.below(5_000));
            self.after(at, Event::Append(i));
        }
        for _ in 0..self.rng.below(4) {
            let at = second(self.rng.below(faulty));
            let event = match self.rng.below(5) {
                0 => Event::Drop,
                1 => Event::Restart,
                2 => Event::SawOffline,
                _ => Event::WallStep,
            };
            self.after(at, event);
        }
        if !self.opened {
            let at = second(self.rng.below(faulty));
            self.after(at, Event::Opened(self.incarnation));
        }
        self.after(second(faulty), Event::Heal);
        let calm = self.rng.below(15);
        self.after(second(faulty + calm), Event::StopAppends);
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.serial += 1;
        self.events.insert((self.now + wait, self.serial), event);
    }

    fn clock(&self) -> Now {
        Now { mono: self.now, boot: self.now, wall_ms: self.wall_ms }
    }

    /// Runs until everything is delivered or something is wrong.
    pub fn run(&mut self) -> Result<Summary, String> {
        let start = self.now;
        self.act()?;
        let mut deadline = Duration::MAX;
        while !self.is_done() {
            let event_at = self.events.keys().next().map(|k| k.0);
            let wake = self.machine.next_wake(self.now);
            let next = [event_at, wake].into_iter().flatten().min().ok_or("stuck: nothing will ever happen again")?;
            if next > deadline && self.holds_only_what_ends_connections() {
                break;
            }
            if next > deadline {
                return Err(format!("stuck: {}", self.describe()));
            }
            self.wall_ms += next.saturating_sub(self.now).as_millis() as i64;
            self.now = self.now.max(next);
            if event_at.is_some_and(|at| at <= next) {
                if let Some((_, event)) = self.events.pop_first() {
                    self.happen(event);
                }
            } else {
                self.oracle.woken(self.now)?;
            }
            self.act()?;
            if self.broker.healthy && !self.appending && deadline == Duration::MAX {
                deadline = self.now + DRAIN + DRAIN_PER_POISON * self.poisoned();
                deadline += if self.hub.is_some() { DRAIN_HUB } else { Duration::ZERO };
            }
        }
        self.summary.virtual_time = self.now - start;
        self.summary.live = self.oracle.published_live;
        self.summary.history = self.oracle.published_history;
        self.stop()?;
        Ok(self.summary)
    }

    fn poisoned(&self) -> u32 {
        let firsts = self.outbox.epochs.iter().flat_map(|e| e.chunks.keys().map(|first| (e.id, *first)));
        firsts.filter(|(epoch, first)| self.broker.is_poison(*epoch, *first)).count() as u32
    }

    fn is_done(&self) -> bool {
        !self.appending
            && self.broker.healthy
            && self.outbox.losses.is_empty()
            && self.machine.uplink.backlog() == 0
            && self.outbox.epochs.iter().all(|e| e.pending().is_empty())
    }

    /// Values that end connections where nothing of their size is accepted, or where connections also end for
    /// another reason, are never given up.
    fn holds_only_what_ends_connections(&mut self) -> bool {
        let (broker, limit) = (&self.broker, self.broker.mood.limits.max_packet as usize);
        let may_stay = |epoch: u64, chunk: &Chunk| {
            broker.poison == Poison::Cut
                && broker.is_poison(epoch, chunk.first)
                && (broker.kills > 0 || chunk.maps.len() + 2_000 > limit)
        };
        let mut held = 0;
        for epoch in &self.outbox.epochs {
            let pending = epoch.pending();
            for chunk in epoch.chunks.values().filter(|c| pending.intersects(c.seqs())) {
                let recent = broker.clean_from.is_some_and(|(e, first)| e == epoch.id && chunk.first >= first);
                if !may_stay(epoch.id, chunk) && !recent {
                    return false;
                }
                held += u64::from(!recent);
            }
        }
        self.summary.held = held;
        held > 0
    }

    fn describe(&self) -> String {
        let pending: Vec<_> = self.outbox.epochs.iter().map(|e| (e.id, e.pending())).collect();
        format!("pending {pending:?}, losses {:?}, problems {:?}", self.outbox.losses, self.machine.uplink.problems())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::FromConnection(number, input) if number == self.connection => self.reported(input),
            Event::Loaded(incarnation, input) if incarnation == self.incarnation => {
                self.loads -= 1;
                self.note(|| match &input {
                    Input::Loaded { chunks, .. } => format!("<- loaded {} chunks", chunks.len()),
                    other => format!("<- {other:?}"),
                });
                self.machine.handle(input, self.clock());
            }
            Event::Declared(incarnation, loss) if incarnation == self.incarnation => {
                self.machine.handle(Input::Lost(vec![loss]), self.clock());
            }
            Event::Opened(incarnation) if incarnation == self.incarnation => {
                self.opened = true;
                let (epochs, losses) = (self.outbox.views(), self.outbox.losses.clone());
                // What was kept until now is repeated when the epochs are known.
                let kept = self.heard.clone();
                kept.into_iter().for_each(|ack| self.about_to_hear(&ack));
                let hub = self.settings.hub;
                self.machine.handle(Input::Opened { epochs, losses, hub }, self.clock());
            }
            Event::FromConnection(..) | Event::Loaded(..) | Event::Declared(..) | Event::Opened(_) => {}
            Event::Append(collector) => self.append(collector),
            Event::Drop => {
                self.outbox.drop_settled();
                if let Some(loss) = self.outbox.drop_oldest() {
                    self.machine.handle(Input::Lost(vec![loss]), self.clock());
                }
            }
            Event::WallStep => self.wall_ms += self.rng.below(2_000_000_000) as i64 - 1_000_000_000,
            Event::Restart => self.restart(),
            Event::SawOffline => {
                let topic = self.settings.topics.status().to_string();
                let payload = b"{\"state\":\"offline\",\"session\":\"older\"}".to_vec();
                self.machine.handle(Input::Received(Message { topic, payload, ..Message::default() }), self.clock());
            }
            Event::Heal => {
                self.broker.heal();
                self.hub.iter_mut().for_each(SimHub::heal);
                // What the broker withheld or swallowed before stays so: the watchdogs have to see to it.
            }
            Event::StopAppends => {
                self.appending = false;
                if self.broker.poison == Poison::Cut && self.broker.poison_rate > 0 {
                    let newest = self.outbox.epochs.last().expect("there is always one");
                    self.broker.clean_from = Some((newest.id, newest.next_seq));
                    self.after(CONTRAST, Event::Contrast);
                }
            }
            Event::Contrast => self.contrast(),
            Event::HubSpeaks => self.hub_speaks(),
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.now.as_secs_f64();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:10.3} {}", what()));
        }
    }

    fn reported(&mut self, input: Input) {
        self.note(|| format!("<- {input:?}"));
        match &input {
            Input::Connected(limits) => {
                self.granted_retain = limits.retain_available;
                self.oracle.connected(limits);
            }
            Input::Acked { token, code } => self.oracle.acked(*token, *code, self.now),
            Input::Received(message) => self.overhear(message),
            Input::Closed(reason) => {
                if matches!(reason, CloseReason::Server { code: 0x95, .. }) {
                    self.oracle.too_large();
                }
                self.connection += 1;
                self.oracle.disconnected(true);
            }
            Input::Progress => {
                let again = self.broker.mood.limits.keep_alive;
                self.after(again, Event::FromConnection(self.connection, Input::Progress));
            }
            _ => {}
        }
        self.machine.handle(input, self.clock());
    }

    /// What the uplink is about to hear from the hub, as the oracle judges it.
    fn overhear(&mut self, message: &Message) {
        if let Ok(ack) = serde_json::from_slice::<Ack>(&message.payload) {
            self.about_to_hear(&ack);
            if message.topic.ends_with("/hub") {
                self.heard = Some(ack);
            }
        } else if let Ok(Command::Resend { epoch, from, to, .. }) = serde_json::from_slice(&message.payload)
            && let Some(known) = self.outbox.epochs.iter().find(|e| e.id == epoch)
            && from < known.next_seq
        {
            let to = to.min(known.next_seq - 1);
            self.summary.asked += to - from + 1;
            self.oracle.ask(epoch, from..=to);
        }
    }

    fn about_to_hear(&mut self, ack: &Ack) {
        let Some(epoch) = self.outbox.epochs.iter().find(|e| e.id == ack.epoch) else { return };
        let covered = covered(ack);
        if covered.last().is_none_or(|last| last < epoch.next_seq) {
            self.oracle.stored(ack.epoch, &covered);
            if self.settings.level == Level::Auto && (self.opened || self.appended.contains(&ack.epoch)) {
                self.settings.hub = HubMemory::Acknowledged;
                self.oracle.at_level_hub = true;
            }
        }
    }

    fn sends(&mut self, topic: String, payload: Vec<u8>, retained: bool) {
        let wait = Duration::from_millis(1 + self.rng.below(200));
        let message = Message { topic, payload, retained, ..Message::default() };
        self.after(wait, Event::FromConnection(self.connection, Input::Received(message)));
    }

    /// Acknowledges what it has, and in bad times what it has not: of epochs that are not ours, beyond what was drawn.
    fn hub_speaks(&mut self) {
        let pause = if self.broker.healthy { 5_000 } else { 1_000 + self.rng.below(60_000) };
        self.after(Duration::from_millis(pause), Event::HubSpeaks);
        let newest = self.oracle.newest;
        let partly = !self.broker.healthy && self.rng.below(3) == 0;
        let Some(hub) = &self.hub else { return };
        let acks = hub.acks(newest, &mut self.rng, partly);
        for ack in acks {
            let payload = encode_payload(&ack);
            self.sends(self.settings.topics.ack("hub").to_string(), payload, false);
            self.retained = Some(ack);
        }
        if self.broker.healthy {
            return;
        }
        let next = self.outbox.epoch(newest).next_seq;
        let strange = match self.rng.below(12) {
            0 => Some((self.rng.next_u64() >> 11, 1_000)),
            1 if self.lies == 0 && next > 1 && self.opened => Some((newest, next + 5)),
            _ => None,
        };
        if let Some((epoch, upto)) = strange {
            self.lies += u32::from(epoch == newest);
            let payload = encode_payload(&Ack { v: 1, epoch, upto, ranges: Vec::new() });
            self.sends(self.settings.topics.ack("other").to_string(), payload, false);
        }
        if self.rng.below(4) == 0 && self.opened {
            // Whatever it is, on its way or not.
            let (from, length) = (1 + self.rng.below(next + 5), self.rng.below(30));
            self.hub_asks(newest, from..=from + length);
        }
    }

    fn hub_asks(&mut self, epoch: u64, seqs: RangeInclusive<u64>) {
        let command = Command::Resend { id: "1".into(), epoch, from: *seqs.start(), to: *seqs.end() };
        self.sends(self.settings.topics.cmd().to_string(), encode_payload(&command), false);
    }

    /// The broker took it. Whether the hub gets it is another matter.
    fn taken(&mut self, parsed: Option<&Parsed>, status: Option<&Status>) {
        let Some(hub) = &mut self.hub else { return };
        if !hub.hears(&mut self.rng) {
            return;
        }
        if let Some(data) = parsed {
            hub.data(data);
        }
        let asks = status.map(|status| hub.status(status)).unwrap_or_default();
        asks.into_iter().for_each(|(epoch, seqs)| self.hub_asks(epoch, seqs));
    }

    fn subscribed(&mut self, filters: Vec<String>) {
        let outcomes = filters.into_iter().map(|filter| (filter, 1)).collect();
        let wait = Duration::from_millis(1 + self.rng.below(20));
        self.after(wait, Event::FromConnection(self.connection, Input::Subscribed(outcomes)));
        if let Some(ack) = self.retained.clone() {
            self.sends(self.settings.topics.ack("hub").to_string(), encode_payload(&ack), true);
        }
        // What stands on its own status topic; not every broker has kept it.
        if self.rng.below(10) != 0 {
            let will = b"{\"state\":\"offline\",\"session\":\"kept\"}".to_vec();
            self.sends(self.settings.topics.status().to_string(), will, true);
        }
    }

    fn contrast(&mut self) {
        self.after(CONTRAST, Event::Contrast);
        let largest = self.broker.mood.limits.max_packet.min(14_000) as usize;
        let chunk = self.outbox.append_of(largest.saturating_sub(1_200));
        self.oracle.appended(chunk.epoch, chunk.first);
        self.oracle.newest = chunk.epoch;
        self.machine.handle(Input::Appended { collector: "cpu".into(), chunks: vec![chunk] }, self.clock());
    }

    fn append(&mut self, collector: usize) {
        if !self.appending {
            return;
        }
        let wait = Duration::from_millis(200 + self.rng.below(8_000));
        self.after(wait, Event::Append(collector));
        // More epochs than a status can tell of are none of these lives' business.
        if self.rng.below(200) == 0 && self.outbox.epochs.len() < 12 {
            self.outbox.new_epoch(&mut self.rng);
        }
        let chunks = match self.rng.below(40) {
            0 => 30 + self.rng.below(60),
            1..5 => 1 + self.rng.below(4),
            _ => 1,
        };
        let chunks: Vec<_> = (0..chunks)
            .map(|_| {
                let records = 1 + self.rng.below(4) as u32;
                self.outbox.append(&mut self.rng, records, true)
            })
            .collect();
        chunks.iter().for_each(|c| self.oracle.appended(c.epoch, c.first));
        self.oracle.newest = self.outbox.epochs.last().map_or(0, |e| e.id);
        self.appended.insert(self.oracle.newest);
        self.machine.handle(Input::Appended { collector: COLLECTORS[collector].into(), chunks }, self.clock());
    }

    /// kill -9 and a new start: the settled of the last while is forgotten.
    fn restart(&mut self) {
        for epoch in &mut self.outbox.epochs {
            let mut before = epoch.settled.clone();
            let recent: Vec<_> = epoch.settled.iter().rev().take(2).collect();
            if self.rng.below(2) == 0 {
                recent.into_iter().for_each(|r| epoch.settled.remove(r));
                // Nothing is dropped before what became of it is durably known.
                let kept: RangeSet = epoch.chunks.values().map(Chunk::seqs).collect();
                before.subtract(&kept);
                epoch.settled.union(&before);
            }
        }
        let seed = self.rng.next_u64();
        let uplink = Uplink::new(self.settings.clone(), self.outbox.views(), self.outbox.losses.clone(), seed);
        self.machine = Machine::new(uplink, self.machine.fault, self.settings.clone());
        self.connection += 1;
        self.incarnation += 1;
        self.heard = None;
        self.loads = 0;
        self.opened = true;
        self.oracle.disconnected(false);
        self.oracle.restarted();
    }

    /// Carries out everything the uplink wants.
    fn act(&mut self) -> Check {
        let mut polls = 0;
        while let Some(action) = self.machine.poll(self.clock()) {
            polls += 1;
            if polls > 2_000 {
                return Err("busy: no end of actions".into());
            }
            self.carry_out(action)?;
        }
        self.oracle.memory(self.machine.uplink.held_bytes(), self.settings.compression)?;
        self.oracle.quiet(self.machine.next_wake(self.now), self.now)
    }

    fn carry_out(&mut self, action: Action) -> Check {
        self.note(|| match &action {
            Action::Publish { token, topic, payload, .. } => {
                format!("-> publish {token} to {topic}, {} bytes", payload.len())
            }
            other => format!("-> {other:?}"),
        });
        match action {
            Action::Connect { url, .. } => {
                if url >= self.settings.urls.len() {
                    return Err(format!("storm: no URL {url}"));
                }
                self.connect()
            }
            Action::Publish { token, topic, payload, retain, .. } => {
                self.publish(token, topic.as_str(), &payload, retain)
            }
            Action::Subscribe(filters) => {
                self.subscribed(filters);
                Ok(())
            }
            Action::Note { .. } | Action::Run { .. } => Ok(()),
            Action::BeginEpoch => {
                let (chunks, losses) = self.outbox.give_up(&mut self.rng);
                self.oracle.newest = self.outbox.epochs.last().map_or(0, |e| e.id);
                self.appended.extend(chunks.first().map(|c| c.epoch));
                self.machine.handle(Input::Redrawn(chunks), self.clock());
                self.machine.handle(Input::Lost(losses), self.clock());
                Ok(())
            }
            Action::Load { epoch, range, max_bytes } => self.load(epoch, range, max_bytes),
            Action::Settle { epoch, seqs } => {
                self.oracle.settle(epoch, &seqs)?;
                let gone = self.outbox.epoch(epoch);
                if seqs.iter().any(|r| gone.lost.intersects(r.clone()) || gone.quarantined.intersects(r)) {
                    return Err(format!("settle: {seqs:?} of {epoch} are lost or quarantined"));
                }
                self.summary.settled += seqs.len();
                self.outbox.epoch_mut(epoch).settled.union(&seqs);
                Ok(())
            }
            Action::SettleLosses(losses) => {
                self.oracle.settle_losses(&losses)?;
                self.outbox.losses.retain(|l| !losses.contains(l));
                Ok(())
            }
            Action::Quarantine { epoch, seqs, reason } => {
                let json = self.settings.encoding == Encoding::Json;
                let (first, chunks) = (*seqs.start(), &self.outbox.epoch(epoch).chunks);
                let bytes = chunks.get(&first).map_or(0, |c| c.maps.len());
                self.oracle.quarantine(epoch, first, bytes, json)?;
                self.summary.quarantined += 1;
                self.summary.ended += u64::from(reason.starts_with("connections end"));
                let known = self.outbox.epoch_mut(epoch);
                known.quarantined.insert(seqs.clone());
                known.chunks.retain(|_, chunk| !known.quarantined.covers(chunk.seqs()));
                // As the real one, it declares what it set aside.
                let count = seqs.end() - seqs.start() + 1;
                let (from, to) = (*seqs.start(), Some(*seqs.end()));
                let loss = Loss { epoch, from, to, count, reason: LossReason::Other, t0: 1, t1: 2 };
                self.outbox.losses.push(loss.clone());
                self.after(Duration::from_millis(20), Event::Declared(self.incarnation, loss));
                Ok(())
            }
            Action::Disconnect { .. } => {
                // The uplink gave up: silence, or PUBACKs that never came.
                self.connection += 1;
                self.oracle.disconnected(true);
                Ok(())
            }
            Action::Log { .. } => Ok(()),
        }
    }

    fn connect(&mut self) -> Check {
        self.oracle.connect(self.now)?;
        self.summary.connections += 1;
        self.connection += 1;
        let mood = self.broker.next_mood(&mut self.rng);
        let wait = Duration::from_millis(5 + self.rng.below(2_000));
        let input = match mood.connect {
            Connect::Hang => return Ok(()),
            Connect::Refuse => Input::Closed(CloseReason::Connect("refused".into())),
            Connect::Accept => Input::Connected(mood.limits.clone()),
        };
        if mood.connect == Connect::Accept && mood.silent_at.is_none() {
            let at = wait + mood.limits.keep_alive;
            self.after(at, Event::FromConnection(self.connection, Input::Progress));
        }
        self.after(wait, Event::FromConnection(self.connection, input));
        Ok(())
    }

    fn publish(&mut self, token: u64, topic: &str, payload: &[u8], retain: bool) -> Check {
        let bytes = payload.len() + topic.len();
        let is_data = topic.ends_with("/h") || topic.contains("/m/");
        let parsed = if is_data {
            let thorough = self.rng.below(16) == 0;
            Some(parse(payload, &self.outbox, thorough).map_err(|e| format!("bytes: {e}"))?)
        } else {
            None
        };
        let status = if is_data { None } else { self.check_status(topic, payload, retain)? };
        self.note(|| format!("   {parsed:?}"));
        self.machine.published(token, parsed.as_ref().unwrap_or(&Parsed::default()));
        let flight = Flight { bytes, history: topic.ends_with("/h"), data: parsed.clone() };
        self.oracle.publish(token, topic, flight, self.now)?;
        let reaction = self.broker.react((topic, retain, bytes), parsed.as_ref(), self.now, &mut self.rng);
        let connection = self.connection;
        let taken = match &reaction {
            Reaction::Ack { code, .. } => *code < 0x80 && *code != 0x10,
            Reaction::Nothing { taken } | Reaction::Cut { taken } => *taken,
            Reaction::Disconnect(_) => false,
        };
        if taken {
            self.taken(parsed.as_ref(), status.as_ref());
        }
        match reaction {
            Reaction::Ack { code, after } => {
                self.after(after, Event::FromConnection(connection, Input::Acked { token, code }));
                if self.rng.below(1000) < self.broker.mood.stray {
                    let stray = token.saturating_sub(self.rng.below(30));
                    self.after(after * 2, Event::FromConnection(connection, Input::Acked { token: stray, code: 0 }));
                }
            }
            Reaction::Nothing { .. } => {}
            Reaction::Cut { .. } => {
                let reason = CloseReason::Lost("end of stream".into());
                self.after(Duration::from_millis(2), Event::FromConnection(connection, Input::Closed(reason)));
            }
            Reaction::Disconnect(code) => {
                let reason = CloseReason::Server { code, text: "packet too large".into() };
                self.after(Duration::from_millis(2), Event::FromConnection(connection, Input::Closed(reason)));
            }
        }
        Ok(())
    }

    /// A status covers everything that is still to be delivered.
    fn check_status(&self, topic: &str, payload: &[u8], retain: bool) -> Result<Option<Status>, String> {
        if !topic.ends_with("/status") || payload.starts_with(b"{\"state\":\"offline\"") {
            return Ok(None);
        }
        if retain && !self.granted_retain {
            return Err("status: retained against the broker's word".into());
        }
        let status: Status = serde_json::from_slice(payload).map_err(|e| format!("status: {e}"))?;
        if status.pending.len() > 16 {
            return Err("status: more than 16 ranges".into());
        }
        // Whole epochs may be left out where the broker takes small packets only.
        let fits = self.broker.mood.limits.max_packet >= FULL_STATUS;
        let told = |id: u64| fits || status.pending.iter().any(|p| p.epoch == id);
        for epoch in self.outbox.epochs.iter().filter(|epoch| self.opened && told(epoch.id)) {
            let told = status.pending.iter().filter(|p| p.epoch == epoch.id);
            let told: RangeSet = told.map(|p| p.from..=p.to).collect();
            let mut pending = epoch.pending();
            pending.subtract(&self.oracle.waiting_for_hub(epoch.id));
            if let Some(range) = pending.iter().find(|r| !told.covers(r.clone())) {
                return Err(format!("status: pending {range:?} of {} is not told", epoch.id));
            }
            if status.pending.len() < 16 {
                self.oracle.told_pending(epoch.id, &told)?;
            }
        }
        let level = if self.oracle.at_level_hub { "hub" } else { "broker" };
        if status.level != level {
            return Err(format!("status: says level {}, it is {level}", status.level));
        }
        Ok(Some(status))
    }

    fn load(&mut self, epoch: u64, range: RangeInclusive<u64>, max_bytes: usize) -> Check {
        self.loads += 1;
        if self.loads > 1 {
            return Err("memory: two loads at once".into());
        }
        let wait = Duration::from_millis(self.rng.below(60));
        let input = match self.rng.below(if self.broker.healthy { 1_000_000 } else { 60 }) {
            0 => Input::LoadRefused,
            1 => Input::Loaded { epoch, range, chunks: Vec::new() },
            _ => {
                let chunks = self.outbox.load(epoch, &range, max_bytes);
                let absent = self.outbox.absent(epoch, &range, &chunks);
                absent.into_iter().for_each(|loss| self.after(wait, Event::Declared(self.incarnation, loss)));
                Input::Loaded { epoch, range, chunks }
            }
        };
        self.after(wait, Event::Loaded(self.incarnation, input));
        Ok(())
    }

    /// In the end: a clean goodbye within the grace, and the books balance.
    fn stop(&mut self) -> Check {
        let begun = self.now;
        // A record appended during a stop rightly stays held for the next start; the books here are those before it.
        self.events.retain(|_, event| !matches!(event, Event::Contrast | Event::HubSpeaks));
        self.machine.handle(Input::Stop, self.clock());
        self.act()?;
        while !self.machine.uplink.is_stopped() {
            let event_at = self.events.keys().next().map(|k| k.0);
            let wake = self.machine.next_wake(self.now);
            self.now = [event_at, wake].into_iter().flatten().min().ok_or("stuck: the stop never ends")?;
            if event_at == Some(self.now)
                && let Some((_, event)) = self.events.pop_first()
            {
                self.happen(event);
            }
            self.act()?;
            if self.now > begun + Duration::from_secs(5) {
                return Err("stuck: the stop takes too long".into());
            }
        }
        self.check_books()
    }

    fn check_books(&self) -> Check {
        for epoch in &self.outbox.epochs {
            let mut all: RangeSet =
                if epoch.next_seq > 1 { [1..=epoch.next_seq - 1].into_iter().collect() } else { RangeSet::new() };
            for part in [&epoch.settled, &epoch.lost, &epoch.quarantined] {
                all.subtract(part);
            }
            if !all.is_empty() && self.summary.held == 0 {
                return Err(format!("books: {all:?} of {} are neither settled, lost nor quarantined", epoch.id));
            }
        }
        let backlog = self.machine.uplink.backlog();
        if backlog == 0 || self.summary.held > 0 {
            Ok(())
        } else {
            Err(format!("books: the uplink still holds {backlog} for pending"))
        }
    }
}
