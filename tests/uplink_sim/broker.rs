//! A simulated MQTT 5 broker: honest, or with the moods of a bad day. It reads what it is sent byte by byte
//! and shares no code with the uplink.

use std::collections::BTreeSet;
use std::time::Duration;

use holdover::uplink::Limits;
use holdover::uplink::backoff::Rng;
use holdover::wire::{DecodeLimits, Envelope, Loss, decode_envelope};

use super::outbox::SimOutbox;

/// What a data message was found to hold.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    pub epoch: u64,
    /// First and last seq of each chunk.
    pub chunks: Vec<(u64, u64)>,
    pub losses: Vec<Loss>,
}

/// How one connection behaves.
#[derive(Clone, Debug)]
pub struct Mood {
    pub connect: Connect,
    pub limits: Limits,
    /// Milliseconds until a PUBACK, from and to.
    pub ack_delay: (u64, u64),
    pub out_of_order: bool,
    /// In 1000: PUBACKs that never come, refusals, duplicates.
    pub withhold: u64,
    pub refuse: u64,
    pub stray: u64,
    /// The connection ends at this publish; with an acceptance or not.
    pub cut_at: Option<u64>,
    /// From this publish on nothing is heard of the peer.
    pub silent_at: Option<u64>,
    /// The connection ends with the publish that holds this byte.
    pub cut_byte: Option<u64>,
}

/// A link that ends each connection after so many bytes; nothing is wrong with what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cutter {
    Always(u64),
    /// Some connections, after anything between these.
    Sometimes(u64, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    Accept,
    Refuse,
    Hang,
}

/// How a poison value shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poison {
    Code(u8),
    TooLarge,
    Cut,
}

/// What the broker does with one publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    Ack {
        code: u8,
        after: Duration,
    },
    /// Taken (or refused), but the answer gets lost.
    Nothing {
        taken: bool,
    },
    Cut {
        taken: bool,
    },
    Disconnect(u8),
}

pub struct Broker {
    pub healthy: bool,
    pub mood: Mood,
    /// Topics (their last level) that nobody listens to, or that are forbidden.
    pub unheard: BTreeSet<String>,
    pub forbidden: BTreeSet<String>,
    /// One value in so many is poison; 0: none.
    pub poison_rate: u64,
    pub poison: Poison,
    /// Ends the connection at our meta (1), or at anything retained (2).
    pub kills: u8,
    pub cutter: Option<Cutter>,
    /// Epoch and first seq of what comes after all poison.
    pub clean_from: Option<(u64, u64)>,
    published: u64,
    bytes: u64,
    last_ack: Duration,
}

const REFUSALS: [u8; 7] = [0x97, 0x80, 0x83, 0x91, 0x10, 0xA5, 0x87];

impl Broker {
    pub fn new(rng: &mut Rng) -> Self {
        let mut broker = Self {
            healthy: false,
            mood: Mood::healthy(),
            unheard: BTreeSet::new(),
            forbidden: BTreeSet::new(),
            poison_rate: if rng.below(3) == 0 { 5 + rng.below(40) } else { 0 },
            poison: [Poison::Code(0x99), Poison::Code(0x90), Poison::TooLarge, Poison::Cut][rng.below(4) as usize],
            kills: if rng.below(12) == 0 { 1 + rng.below(2) as u8 } else { 0 },
            cutter: None,
            clean_from: None,
            published: 0,
            bytes: 0,
            last_ack: Duration::ZERO,
        };
        if rng.below(8) == 0 {
            let width = 1 << (8 + rng.below(9));
            let at = 400 + rng.below(width);
            broker.cutter = Some(if rng.below(2) == 0 { Cutter::Always(at) } else { Cutter::Sometimes(400, 800 + at) });
            (broker.poison_rate, broker.kills) = (0, 0);
        }
        for topic in ["h", "cpu", "mem"] {
            if rng.below(8) == 0 {
                broker.unheard.insert(topic.to_owned());
            }
            if rng.below(12) == 0 {
                broker.forbidden.insert(topic.to_owned());
            }
        }
        broker
    }

    pub fn heal(&mut self) {
        self.healthy = true;
        self.unheard.clear();
        self.forbidden.clear();
        self.mood = Mood { connect: Connect::Accept, limits: self.mood.limits.clone(), ..Mood::healthy() };
    }

    /// A new attempt: what it will be like.
    pub fn next_mood(&mut self, rng: &mut Rng) -> Mood {
        (self.published, self.bytes) = (0, 0);
        self.last_ack = Duration::ZERO;
        if let Some(cutter) = self.cutter.filter(|_| !self.healthy) {
            let cut_byte = match cutter {
                Cutter::Always(at) => Some(at),
                Cutter::Sometimes(from, to) => (rng.below(3) != 0).then(|| from + rng.below(to - from)),
            };
            self.mood = Mood { cut_byte, ..Mood::healthy() };
            return self.mood.clone();
        }
        self.mood = if self.healthy || rng.below(4) == 0 { Mood::healthy() } else { Mood::bad(rng) };
        self.mood.clone()
    }

    pub fn is_poison(&self, epoch: u64, first: u64) -> bool {
        let clean = self.clean_from.is_some_and(|(e, from)| e == epoch && first >= from);
        self.poison_rate > 0 && !clean && Rng::new(epoch ^ first.rotate_left(20)).below(self.poison_rate) == 0
    }

    pub fn react(
        &mut self,
        (topic, retain, bytes): (&str, bool, usize),
        data: Option<&Parsed>,
        now: Duration,
        rng: &mut Rng,
    ) -> Reaction {
        self.published += 1;
        self.bytes += bytes as u64;
        let (n, mood) = (self.published, self.mood.clone());
        if mood.silent_at.is_some_and(|at| n >= at) {
            return Reaction::Nothing { taken: rng.below(2) == 0 };
        }
        if self.kills == 1 && topic.ends_with("/meta") || self.kills == 2 && retain {
            return Reaction::Cut { taken: false };
        }
        let poisoned = data.is_some_and(|d| d.chunks.iter().any(|(first, _)| self.is_poison(d.epoch, *first)));
        let mut code = 0;
        if poisoned {
            match self.poison {
                Poison::Code(refusal) => code = refusal,
                Poison::TooLarge => return Reaction::Disconnect(0x95),
                Poison::Cut => return Reaction::Cut { taken: false },
            }
        }
        if mood.cut_byte.is_some_and(|at| self.bytes >= at) {
            return Reaction::Cut { taken: false };
        }
        if mood.cut_at.is_some_and(|at| n >= at) {
            return Reaction::Cut { taken: code == 0 && rng.below(2) == 0 };
        }
        let leaf = topic.rsplit('/').next().unwrap_or_default();
        if code == 0 && self.forbidden.contains(leaf) {
            code = 0x87;
        } else if code == 0 && self.unheard.contains(leaf) {
            code = 0x10;
        } else if code == 0 && rng.below(1000) < mood.refuse {
            code = REFUSALS[rng.below(REFUSALS.len() as u64) as usize];
        }
        if rng.below(1000) < mood.withhold {
            return Reaction::Nothing { taken: code == 0 };
        }
        let delay = mood.ack_delay.0 + rng.below(mood.ack_delay.1 - mood.ack_delay.0 + 1);
        let mut at = now + Duration::from_millis(delay);
        if !mood.out_of_order {
            at = at.max(self.last_ack);
            self.last_ack = at;
        }
        Reaction::Ack { code, after: at - now }
    }
}

impl Mood {
    pub fn healthy() -> Self {
        Self {
            connect: Connect::Accept,
            limits: Limits::default(),
            ack_delay: (1, 40),
            out_of_order: false,
            withhold: 0,
            refuse: 0,
            stray: 0,
            cut_at: None,
            silent_at: None,
            cut_byte: None,
        }
    }

    fn bad(rng: &mut Rng) -> Self {
        let one_in = |rng: &mut Rng, n: u64| rng.below(n) == 0;
        let connect = match rng.below(10) {
            0..2 => Connect::Refuse,
            2 => Connect::Hang,
            _ => Connect::Accept,
        };
        let limits = Limits {
            receive_max: [1, 2, 5, 20, 65_535][rng.below(5) as usize],
            max_packet: [900, 5_000, 20_000, 65_536, u32::MAX][rng.below(5).max(rng.below(5)) as usize],
            keep_alive: Duration::from_secs(10 + rng.below(50)),
            retain_available: !one_in(rng, 4),
        };
        let slow = one_in(rng, 5);
        Self {
            connect,
            limits,
            ack_delay: if slow { (500, 5_000) } else { (1, 1 + rng.below(300)) },
            out_of_order: one_in(rng, 3),
            withhold: if one_in(rng, 4) { rng.below(200) } else { 0 },
            refuse: if one_in(rng, 3) { rng.below(400) } else { 0 },
            stray: if one_in(rng, 4) { 50 } else { 0 },
            cut_at: one_in(rng, 2).then(|| 1 + rng.below(60)),
            silent_at: one_in(rng, 6).then(|| 1 + rng.below(40)),
            cut_byte: None,
        }
    }
}

/// Reads a data message. The chunks' bytes must be those of the outbox, to the last.
pub fn parse(payload: &[u8], outbox: &SimOutbox, thorough: bool) -> Result<Parsed, String> {
    if payload.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return parse(&zstd::decode_all(payload).map_err(|e| e.to_string())?, outbox, thorough);
    }
    if payload.first() == Some(&b'{') {
        return parse_decoded(payload, outbox);
    }
    let epoch = read_uint(payload, find(payload, b"\xa5epoch").ok_or("no epoch")?).ok_or("no epoch value")?;
    let start = find(payload, b"\xa7records").ok_or("no records")?;
    let (mut at, count) = match payload.get(start..) {
        Some([b @ 0x90..=0x9f, ..]) => (start + 1, u64::from(b & 0x0f)),
        Some([0xdc, a, b, ..]) => (start + 3, u64::from(u16::from_be_bytes([*a, *b]))),
        _ => return Err("records are no array".into()),
    };
    let mut parsed = Parsed { epoch, ..Parsed::default() };
    let mut records = 0;
    let known = outbox.epochs.iter().find(|e| e.id == epoch).ok_or(format!("unknown epoch {epoch}"))?;
    while at < payload.len() {
        let seq = read_uint(payload, at + 5).ok_or("no seq")?;
        let chunk = known.chunks.get(&seq);
        // A chunk that was dropped after its load may still be on its way: its bytes are gone here.
        let Some(chunk) = chunk else { return parse_decoded(payload, outbox) };
        if payload.get(at..at + chunk.maps.len()) != Some(&chunk.maps) {
            return Err(format!("bytes of seq {seq} are not those stored"));
        }
        at += chunk.maps.len();
        records += u64::from(chunk.count);
        parsed.chunks.push((chunk.first, chunk.last()));
    }
    if records != count {
        return Err(format!("{records} records, {count} announced"));
    }
    if thorough || find(&payload[..start], b"\xa6losses").is_some() {
        let envelope = decoded(payload)?;
        check_context(&envelope, &parsed, outbox)?;
        parsed.losses = envelope.losses;
    }
    Ok(parsed)
}

fn decoded(payload: &[u8]) -> Result<Envelope, String> {
    decode_envelope(payload, &DecodeLimits::default()).map_err(|e| e.to_string())
}

fn check_context(envelope: &Envelope, parsed: &Parsed, outbox: &SimOutbox) -> Result<(), String> {
    let epoch = outbox.epoch(envelope.epoch);
    for (first, _) in &parsed.chunks {
        let Some(chunk) = epoch.chunks.get(first) else { continue };
        if *chunk.context.boot != *envelope.boot || chunk.context.synced != envelope.synced {
            return Err(format!("seq {first} travels under another clock context"));
        }
    }
    if envelope.anchor.is_some() && envelope.boot != super::outbox::BOOT {
        return Err("an anchor for a boot that is over".into());
    }
    Ok(())
}

/// By the full decoder, for JSON and for what the outbox no longer has.
fn parse_decoded(payload: &[u8], outbox: &SimOutbox) -> Result<Parsed, String> {
    let envelope = decoded(payload)?;
    let mut parsed = Parsed { epoch: envelope.epoch, losses: envelope.losses.clone(), chunks: Vec::new() };
    let epoch = outbox.epoch(envelope.epoch);
    let mut records = envelope.records.iter();
    while let Some(record) = records.next() {
        let last = epoch.chunks.get(&record.seq).map_or(record.seq, holdover::wire::Chunk::last);
        for seq in record.seq + 1..=last {
            if records.next().map(|r| r.seq) != Some(seq) {
                return Err(format!("seq {seq} of a chunk is missing"));
            }
        }
        parsed.chunks.push((record.seq, last));
    }
    check_context(&envelope, &parsed, outbox)?;
    Ok(parsed)
}

/// The position behind the first `needle`.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|w| w == needle).map(|at| at + needle.len())
}

fn read_uint(bytes: &[u8], at: usize) -> Option<u64> {
    let rest = bytes.get(at + 1..)?;
    Some(match *bytes.get(at)? {
        b @ 0..=0x7f => u64::from(b),
        0xcc => u64::from(*rest.first()?),
        0xcd => u64::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?)),
        0xce => u64::from(u32::from_be_bytes(rest.get(..4)?.try_into().ok()?)),
        0xcf => u64::from_be_bytes(rest.get(..8)?.try_into().ok()?),
        _ => return None,
    })
}
