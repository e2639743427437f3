//! From chunks and losses to the payload of one data message.
//!
//! The only caller of the wire encoder on this side, and the one place that knows what a packet weighs
//! beside its payload.

use super::io::{Compression, Encoding, Settings};
use crate::clock::Now;
use crate::record::ClockContext;
use crate::wire::{
    BatchHeader, CONTENT_TYPE_JSON, CONTENT_TYPE_MSGPACK, Chunk, Lane, Loss, Topic, batch_overhead, compress,
    encode_batch, transcode_json,
};

/// Fixed header, packet id, topic length, and the properties that every data message has (content type).
const PACKET_EXTRA: usize = 64;

/// What a packet weighs, as an upper bound.
pub fn packet_size(topic: &Topic, payload: usize) -> usize {
    payload + topic.as_str().len() + PACKET_EXTRA
}

/// Everything about a message but its chunks.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    pub settings: &'a Settings,
    pub topic: Topic,
    pub epoch: u64,
    pub context: ClockContext,
    pub lane: Lane,
    /// Whether the wall clock is synchronised now: otherwise the present anchor is worth nothing.
    pub synced: bool,
    /// The pair of clocks that is remembered of the context's boot.
    pub kept: Option<[i64; 2]>,
    pub now: Now,
}

impl Envelope<'_> {
    fn header(&self) -> BatchHeader<'_> {
        let present = self.synced && self.context.boot == self.settings.boot;
        BatchHeader {
            host: &self.settings.host,
            site: &self.settings.site,
            epoch: self.epoch,
            context: &self.context,
            anchor: if present { Some(self.now.anchor()) } else { self.kept },
            sent: self.now.wall_ms,
            lane: self.lane,
        }
    }

    /// The packet's weight beside the chunks' maps.
    pub fn overhead(&self, losses: usize) -> usize {
        packet_size(&self.topic, batch_overhead(&self.header(), losses))
    }

    /// How many of at most `max` losses fit a packet of `limit` bytes.
    pub fn fitting_losses(&self, max: usize, limit: usize) -> usize {
        let mut n = max;
        while n > 0 && self.overhead(n) > limit {
            n /= 2;
        }
        n
    }

    /// The payload of as many of the chunks as make a packet of at most `limit` bytes, and how many those
    /// are. An error when not even the first (or the losses) can be written, or its packet is larger.
    pub fn encode_within(&self, losses: &[Loss], chunks: &[Chunk], limit: usize) -> Result<(Vec<u8>, usize), String> {
        let mut n = chunks.len();
        loop {
            let result = self.encode(losses, &chunks[..n]).and_then(|payload| {
                let bytes = packet_size(&self.topic, payload.len());
                let too_large = || format!("its packet of {bytes} bytes is above the limit of {limit}");
                if bytes <= limit { Ok(payload) } else { Err(too_large()) }
            });
            match result {
                Ok(payload) => return Ok((payload, n)),
                Err(_) if n > 1 => n /= 2,
                Err(why) => return Err(why),
            }
        }
    }

    fn encode(&self, losses: &[Loss], chunks: &[Chunk]) -> Result<Vec<u8>, String> {
        let payload = encode_batch(&self.header(), losses, chunks);
        let payload = match self.settings.encoding {
            Encoding::Msgpack => payload,
            Encoding::Json => transcode_json(&payload).map_err(|e| format!("it cannot be written as JSON: {e}"))?,
        };
        let frame = if self.may_be_compressed() { compress(&payload) } else { None };
        Ok(frame.unwrap_or(payload))
    }

    /// Live messages are small, and read by the simplest of subscribers.
    fn may_be_compressed(&self) -> bool {
        self.lane == Lane::History && self.settings.compression == Compression::Zstd
    }
}

pub fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Msgpack => CONTENT_TYPE_MSGPACK,
        Encoding::Json => CONTENT_TYPE_JSON,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_weighs_no_less_than_its_parts_and_little_more() {
        let topic = crate::wire::TopicScheme::new("", "plant", "edge").unwrap().history();
        for payload in [0, 100, 60_000] {
            let parts = payload + topic.as_str().len();
            assert!((parts + 20..parts + 100).contains(&packet_size(&topic, payload)));
        }
    }
}
