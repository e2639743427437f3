//! Copies of events on `event`: best effort, for whoever wants to be told and reads nothing else.
//!
//! The record itself is data like any other and is what is promised. A copy is made of what goes live, waits behind live
//! data for a place in the window, and is forgotten with the connection.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Uplink;
use super::io::Action;
use super::message::{content_type, packet_size};
use super::window::Kind;
use crate::clock::Now;
use crate::wire::{Chunk, EVENT_NAME, Lane};

/// Copies that may wait, and what of a record is copied at most.
const MAX_WAITING: usize = 16;
const MAX_BYTES: usize = 4 << 10;

#[derive(Debug, Default)]
pub struct Copies(VecDeque<Chunk>);

impl Copies {
    /// Copies the events among these records; those that find no place are left out.
    pub fn take(&mut self, chunks: &[Chunk]) {
        for chunk in chunks.iter().filter(|chunk| is_event(&chunk.maps)) {
            let events = chunk.records().filter(|(_, map)| map.len() <= MAX_BYTES && is_event(map));
            for (first, map) in events.take(MAX_WAITING - self.0.len()) {
                // Memory of its own: a chunk would be held whole.
                self.0.push_back(Chunk { first, count: 1, maps: Bytes::copy_from_slice(map), ..chunk.clone() });
            }
        }
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Whether a record of that name is among these maps. The bytes are the end of the text `name` and the head of the next
/// one, and no text can hold them: the head is no UTF-8 after a letter.
fn is_event(maps: &[u8]) -> bool {
    let head = 0xa0 | EVENT_NAME.len() as u8;
    let mut at = 0;
    while let Some(found) = maps[at..].iter().position(|byte| *byte == head) {
        at += found;
        if maps[..at].ends_with(b"name") && maps[at + 1..].starts_with(EVENT_NAME.as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

impl Uplink {
    /// The next copy, if there is place for it.
    pub(super) fn publish_copy(&mut self, now: Now) -> Option<Action> {
        while let Some(chunk) = self.copies.0.front().cloned() {
            let settings = std::sync::Arc::clone(&self.settings);
            let context = (chunk.epoch, chunk.context.clone());
            let envelope = self.envelope(&settings, settings.topics.event(), Lane::Live, context, now);
            let Ok((payload, _)) = envelope.encode_within(&[], &[chunk], self.max_packet()) else {
                self.copies.0.pop_front();
                continue;
            };
            let bytes = packet_size(&envelope.topic, payload.len());
            if self.window.has_suspect() || !self.window.fits(bytes, self.room()) {
                return None;
            }
            self.copies.0.pop_front();
            let token = self.send_own(Kind::Event, bytes, now.mono);
            let (topic, content_type) = (envelope.topic, content_type(settings.encoding));
            return Some(Action::Publish { token, topic, payload, retain: false, content_type, correlation: None });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ClockContext, Point, Record, Value};
    use crate::wire::encode_record;

    fn chunk(names: &[&str]) -> Chunk {
        let mut maps = Vec::new();
        for (seq, name) in (1..).zip(names) {
            let text = Value::Str(format!("a name like {EVENT_NAME}, name\u{ae}{EVENT_NAME}"));
            let fields = [("message".into(), text)].into();
            let name = (*name).to_owned().into();
            let point = Point { ts: 0, mono: 0, name, tags: [].into(), fields, error: None };
            encode_record(&Record::new(seq, point), &mut maps);
        }
        let context = ClockContext { boot: "b".into(), synced: true };
        Chunk { epoch: 1, first: 1, count: names.len() as u32, context, maps: maps.into() }
    }

    #[test]
    fn exactly_the_events_are_copied_and_no_more_than_may_wait() {
        let mut copies = Copies::default();
        copies.take(&[chunk(&["cpu", EVENT_NAME, "holdover.events", EVENT_NAME])]);
        assert_eq!(copies.0.iter().map(Chunk::seqs).collect::<Vec<_>>(), [2..=2, 4..=4]);
        assert!(copies.0.iter().all(|copy| copy.records().count() == 1 && is_event(&copy.maps)));
        copies.take(&[chunk(&["cpu", "name"])]);
        assert_eq!(copies.0.len(), 2);
        copies.take(&[chunk(&[EVENT_NAME; 40])]);
        assert_eq!(copies.0.len(), MAX_WAITING);
    }
}
