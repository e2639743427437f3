//! What the status says: backlog, losses, and the problems that a person has to know of.

use super::evidence::LAST_REST;
use super::gate::{Closed, Gate};
use super::link::State as LinkState;
use super::message::packet_size;
use super::suspects::PASSED_FOR;
use super::{Uplink, reasons};
use crate::clock::Now;
use crate::wire::{Offline, State, Status, VERSION, encode_payload};

/// Pending ranges in a status.
const MAX_PENDING: usize = 16;
/// Losses in a status; all of them travel on `h`.
const MAX_LOSSES: usize = 16;
const MAX_PROBLEMS: usize = 8;
/// A problem's length in bytes.
const MAX_LINE: usize = 200;

impl Uplink {
    /// The present state as it is published; also for a local `status`.
    pub fn status(&self, now: Now) -> Status {
        let (epoch, next_seq) = self.delivery.current().unwrap_or((0, 1));
        let backlog = self.delivery.backlog();
        let up = self.link.up().is_some();
        Status {
            v: VERSION,
            state: if up { State::Online } else { State::Offline },
            session: self.heartbeat.session().to_owned(),
            host: self.settings.host.clone(),
            site: self.settings.site.clone(),
            sent: now.wall_ms,
            version: self.settings.version.clone(),
            epoch,
            next_seq,
            pending: self.delivery.summary(MAX_PENDING),
            backlog,
            oldest: self.oldest_ts(),
            eta_s: self.eta(backlog),
            losses: self.losses.iter().take(MAX_LOSSES).cloned().collect(),
            level: self.standard.word().to_owned(),
            problems: self.problems(),
        }
    }

    /// The status as it is published: less of it where the broker takes small packets only, since without any a hub learns
    /// of nothing to ask for.
    pub(super) fn status_payload(&self, now: Now) -> Vec<u8> {
        let (topic, mut status) = (self.settings.topics.status(), self.status(now));
        let mut payload = encode_payload(&status);
        for (problems, pending) in [(1, MAX_PENDING), (0, MAX_PENDING), (0, 2)] {
            if packet_size(&topic, payload.len()) <= self.max_packet() {
                break;
            }
            status.losses.clear();
            status.problems.truncate(problems);
            status.pending = self.delivery.summary(pending);
            payload = encode_payload(&status);
        }
        payload
    }

    fn oldest_ts(&self) -> Option<i64> {
        let (epoch, seq, ts) = self.oldest?;
        (self.delivery.oldest_unsettled() == Some((epoch, seq))).then_some(ts)
    }

    fn eta(&self, backlog: u64) -> Option<u64> {
        if backlog == 0 {
            return Some(0);
        }
        let rate = self.heartbeat.rate();
        (self.link.up().is_some() && rate > 0.0).then(|| (backlog as f64 / rate).ceil() as u64)
    }

    /// The last status of a clean stop, and the will.
    pub(super) fn offline_payload(&self, session: &str) -> Vec<u8> {
        let (epoch, next_seq) = self.delivery.current().unzip();
        let offline = Offline { state: State::Offline, session: session.to_owned(), epoch, next_seq };
        encode_payload(&offline)
    }

    /// What is wrong, most important first, at most 8 lines.
    pub fn problems(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.acks.problem().into_iter().chain(self.twin.problem()).collect();
        let history = self.settings.topics.history();
        lines.extend(gate_problem(&self.history_gate, history.as_str(), "its records wait"));
        if self.counts.quarantined > 0 {
            lines.push(format!(
                "{} stored values ({} records) were set aside because no broker takes them: see 'holdover outbox ls'",
                self.counts.quarantined, self.counts.quarantined_records
            ));
        }
        match self.suspects.held_records() {
            0 => {}
            n => lines.push(format!(
                "{n} records end the connection each time they are sent; held, tried again every {} min at most",
                LAST_REST.as_secs() / 60
            )),
        }
        if let Some((epoch, last)) = self.suspects.passed() {
            lines.push(format!(
                "too many values end connections: history goes on behind seq {last} of epoch {epoch}, older records wait up \
                 to {} h",
                PASSED_FOR.as_secs() / 3600
            ));
        }
        if self.counts.unreadable > 0 {
            lines.push(format!("{} records cannot be read from the outbox at present", self.counts.unreadable));
        }
        if self.counts.settled_unheard > 0 {
            lines
                .push("the broker says nobody subscribes; delivered all the same by 'unheard = \"settle\"'".to_owned());
        }
        if !matches!(self.link.state(), LinkState::Up(_)) {
            lines.push(format!("not connected; {} attempts failed", self.link.fruitless()));
        }
        if self.heartbeat.is_suspect() {
            lines.push("connections end when status or meta are published; they are held back".to_owned());
        }
        lines.extend(self.subscription.problem());
        lines.extend(self.problems.iter().cloned());
        lines.extend(self.gates.iter().filter_map(|(collector, gate)| {
            let topic = self.settings.topics.live(collector);
            gate_problem(gate, topic.as_str(), "its records go by history")
        }));
        lines.truncate(MAX_PROBLEMS);
        lines.iter_mut().for_each(shorten);
        lines
    }
}

fn gate_problem(gate: &Gate, topic: &str, effect: &str) -> Option<String> {
    Some(match gate.closed()? {
        Closed::Unheard => format!("nobody subscribes to {topic}; {effect}"),
        Closed::Forbidden => format!("not authorized to publish to {topic}: check the broker's ACL; {effect}"),
        Closed::Busy(code) => format!("{topic} is refused for now (0x{code:02x}, {}); {effect}", reasons::name(code)),
        Closed::Poison => format!("the broker refuses one value after another on {topic}; {effect}"),
    })
}

/// Cut at a character boundary.
pub(super) fn shorten(line: &mut String) {
    if line.len() > MAX_LINE {
        line.truncate(line.floor_char_boundary(MAX_LINE));
    }
}
