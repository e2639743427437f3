//! Commands of a hub: `resend`, `run`, `ping`, and nothing else; and the answers to them.
//!
//! Every command is bounded: a resend is a range, read back at the pace of history, and asks for nothing that is to come
//! anyway; runs are at least a second apart; answers wait in a short queue. An answer goes to this host's own reply
//! topics and nowhere else.

use std::collections::VecDeque;
use std::time::Duration;

use super::Uplink;
use super::delivery::MAX_RANGES;
use super::io::{Action, Message, Severity};
use super::journal::Subject;
use super::message::packet_size;
use super::window::Kind;
use crate::wire::{CONTENT_TYPE_JSON, Command, MAX_ID, Reply, Topic, VERSION, decode_payload, encode_payload};

/// Settled seqs that may wait to be sent again.
const MAX_ASKED: u64 = 1_000_000;
const MAX_REPLIES: usize = 16;
const MAX_CORRELATION: usize = 256;
const RUN_GAP: Duration = Duration::from_secs(1);
/// Of the text in an answer.
const MAX_TEXT: usize = 300;

/// To whom an answer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub id: String,
    topic: Option<Topic>,
    correlation: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
pub struct Commands {
    replies: VecDeque<(Topic, Option<Vec<u8>>, Vec<u8>)>,
    last_run: Option<Duration>,
}

impl Uplink {
    /// A message on our `cmd`.
    pub(super) fn commanded(&mut self, message: Message, now: Duration) {
        let topic = message.response_topic.as_deref().and_then(|topic| self.settings.topics.own_reply(topic));
        let correlation = message.correlation.filter(|data| data.len() <= MAX_CORRELATION);
        let ticket = |id: String| Ticket { id, topic, correlation };
        if message.retained {
            // It would be carried out again on each connection.
            return self.refuse_command(ticket(String::new()), "a retained command is not carried out", now);
        }
        match decode_payload::<Command>(&message.payload) {
            Ok(Command::Ping { id }) => self.answer(ticket(id), Ok(None)),
            Ok(Command::Resend { id, epoch, from, to }) => {
                let outcome = self.resend(epoch, from, to, now);
                self.answered(ticket(id), outcome, now);
            }
            Ok(Command::Run { id, collector }) => self.run_now(ticket(id), collector, now),
            Err(error) => self.refuse_command(ticket(id_of(&message.payload)), &format!("not a command: {error}"), now),
        }
    }

    /// A command that was handed on has been carried out, or not.
    pub(super) fn answered(&mut self, ticket: Ticket, outcome: Result<String, String>, now: Duration) {
        match outcome {
            Ok(text) => self.answer(ticket, Ok(Some(text))),
            Err(why) => self.refuse_command(ticket, &why, now),
        }
    }

    fn refuse_command(&mut self, ticket: Ticket, why: &str, now: Duration) {
        self.journal.say(Subject::Command, Severity::Warn, now, || format!("a command was refused: {why}"));
        self.answer(ticket, Err(why.to_owned()));
    }

    fn answer(&mut self, ticket: Ticket, outcome: Result<Option<String>, String>) {
        let Ticket { id, topic: Some(topic), correlation } = ticket else { return };
        let ok = outcome.is_ok();
        let message = outcome.unwrap_or_else(Some).map(|mut text| {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
            text
        });
        // Whoever sends more than these before reading one answer does without.
        if self.commands.replies.len() < MAX_REPLIES {
            let reply = encode_payload(&Reply { v: VERSION, id, ok, message });
            self.commands.replies.push_back((topic, correlation, reply));
        }
    }

    /// These seqs again, from what is kept; what is gone is declared when it is not found.
    fn resend(&mut self, epoch: u64, from: u64, to: u64, now: Duration) -> Result<String, String> {
        if self.delivery.current().is_none() {
            return Err("the outbox is not open yet: ask again later".to_owned());
        }
        let Some(standing) = self.delivery.standing(epoch) else {
            return Err(format!("epoch {epoch} is not, or no longer, in this outbox"));
        };
        let next = standing.next_seq;
        if from >= next {
            let end =
                if standing.is_current { "the next one is" } else { "the epoch is over and would have gone on with" };
            return Err(format!("seq {from} was not drawn: {end} {next}"));
        }
        let room = MAX_ASKED.saturating_sub(self.delivery.asked());
        if room == 0 || self.delivery.range_count() >= MAX_RANGES {
            return Err("too much is asked for already: ask again later".to_owned());
        }
        let last = to.min(next - 1).min(from.saturating_add(room - 1));
        let count = self.delivery.ask(epoch, from..=last);
        self.losses.tell_again(epoch, from..=last);
        self.heartbeat.changed(now);
        Ok(format!("{count} of the seqs up to {last} are sent again; the others are on their way"))
    }

    fn run_now(&mut self, ticket: Ticket, collector: String, now: Duration) {
        if self.commands.last_run.is_some_and(|at| now < at + RUN_GAP) {
            return self.refuse_command(ticket, "runs on command are at least a second apart", now);
        }
        self.commands.last_run = Some(now);
        self.out.push_back(Action::Run { collector, ticket });
    }

    /// The next answer, if there is place for it.
    pub(super) fn publish_reply(&mut self, now: Duration) -> Option<Action> {
        let (topic, _, payload) = self.commands.replies.front()?;
        let bytes = packet_size(topic, payload.len()) + MAX_CORRELATION;
        if self.window.has_suspect() || !self.window.fits(bytes, self.room()) {
            return None;
        }
        let (topic, correlation, payload) = self.commands.replies.pop_front()?;
        let token = self.send_own(Kind::Reply, bytes, now);
        let content_type = CONTENT_TYPE_JSON;
        Some(Action::Publish { token, topic, payload, retain: false, content_type, correlation })
    }
}

/// The id in something that is no command of ours, so that whoever sent it can be told.
fn id_of(payload: &[u8]) -> String {
    let id = serde_json::from_slice::<serde_json::Value>(payload).ok();
    let id = id.as_ref().and_then(|value| value["id"].as_str()).unwrap_or_default();
    if id.len() <= MAX_ID { id.to_owned() } else { String::new() }
}
