//! What one commit takes in: messages in the order of arrival, read and checked. Bounded by the loop.

use std::mem::size_of;

use crate::record::{Name, Record, Value};
use crate::wire::{Envelope, Loss, PendingRange, Status};

#[derive(Debug)]
pub enum Item {
    Data {
        envelope: Envelope,
        topic: String,
    },
    /// `retained`: kept by the broker from before, so not a sign of life.
    Online {
        status: Box<Status>,
        retained: bool,
    },
    Offline {
        host: String,
        session: String,
    },
}

#[derive(Debug, Default)]
pub struct Batch {
    pub items: Vec<Item>,
}

/// Of a map of names, which keeps its entries by the eleven and may be half empty.
const MAP_NODE: usize = 11 * (size_of::<Name>() + size_of::<Value>()) + 2 * size_of::<usize>();
const MAP_ENTRIES: usize = 6;

impl Item {
    /// Bytes of memory that it takes, nearly: several times those that came, and more where they came compressed.
    pub fn held(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Data { envelope, topic } => {
                    let Envelope { host, site, boot, losses, records, .. } = envelope;
                    let texts = [host, site, boot, topic].map(String::len).iter().sum::<usize>();
                    texts + losses.len() * size_of::<Loss>() + records.iter().map(record).sum::<usize>()
                }
                Self::Online { status, .. } => {
                    let Status { pending, losses, problems, .. } = status.as_ref();
                    let lists = pending.len() * size_of::<PendingRange>() + losses.len() * size_of::<Loss>();
                    let problems = problems.iter().map(|line| size_of::<String>() + line.len()).sum::<usize>();
                    size_of::<Status>() + lists + problems
                }
                Self::Offline { host, session } => host.len() + session.len(),
            }
    }
}

fn record(record: &Record) -> usize {
    let Record { name, tags, fields, error, .. } = record;
    let tag_texts = tags.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let text = |value: &Value| if let Value::Str(text) = value { text.len() } else { 0 };
    let field_texts = fields.iter().map(|(name, value)| name.len() + text(value)).sum::<usize>();
    let nodes = tags.len().div_ceil(MAP_ENTRIES) + fields.len().div_ceil(MAP_ENTRIES);
    let error = error.as_ref().map_or(0, |error| error.message.len());
    size_of::<Record>() + name.len() + tag_texts + field_texts + nodes * MAP_NODE + error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ClockContext, Point};
    use crate::wire::{BatchHeader, Chunk, DecodeLimits, Lane, decode_envelope, encode_batch, encode_record};

    /// What the bound on memory goes by cannot be what came: of such records fifty times as much is held.
    #[test]
    fn a_compressed_message_counts_with_what_it_holds() {
        let context = ClockContext { boot: "boot".into(), synced: true };
        let mut maps = Vec::new();
        for seq in 1..=1000 {
            let fields = [("value".into(), Value::Int(1))].into();
            let point = Point { ts: 5, mono: 1, name: "m".into(), tags: Default::default(), fields, error: None };
            encode_record(&Record::new(seq, point), &mut maps);
        }
        let chunk = Chunk { epoch: 7, first: 1, count: 1000, context: context.clone(), maps: maps.into() };
        let lane = Lane::History;
        let header = BatchHeader { host: "h", site: "s", epoch: 7, context: &context, anchor: None, sent: 0, lane };
        let plain = encode_batch(&header, &[], &[chunk]);
        let came = zstd::encode_all(plain.as_slice(), 1).unwrap();
        let envelope = decode_envelope(&came, &DecodeLimits::default()).unwrap();
        let item = Item::Data { envelope, topic: "v1/s/h/h".to_owned() };
        assert!(
            item.held() > 10 * plain.len() && item.held() > 50 * came.len(),
            "{} {} {}",
            item.held(),
            plain.len(),
            came.len()
        );
        assert!(item.held() < 1000 * 1024, "{}", item.held());
    }
}
