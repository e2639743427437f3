//! The publishes that the uplink makes of a backlog, for a client that only has to send them.
//!
//! The uplink's own state machine is run over the outbox, with every load answered at once and every publish as soon as the
//! window is full. The running agent packs less into one when a load is late: the same records, more packets.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use holdover::clock;
use holdover::outbox::{FileDisk, Outbox};
use holdover::uplink::{Action, EpochView, Input, Limits, Settings, Uplink};
use holdover::wire::TopicScheme;

use crate::broker::HOST;
use crate::fill;
use crate::raw::InFlight;

/// What was written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packets {
    pub messages: u64,
    /// Of the packets.
    pub bytes: u64,
}

/// Writes all history of the outbox in `dir` to `file` and settles nothing.
pub fn write(dir: &Path, file: &Path, room: InFlight) -> Result<Packets, Box<dyn Error>> {
    let mut now = clock::now();
    let (mut outbox, found) = Outbox::open(Arc::new(FileDisk), fill::options(dir), now)?;
    let view = |e: &holdover::outbox::EpochView| EpochView {
        epoch: e.epoch,
        pending: e.pending.clone(),
        next_seq: e.next,
        in_doubt: false,
    };
    let topics = TopicScheme::new("", "lab", HOST)?;
    let boot = holdover::host::boot_id(&holdover::collect::HostRoot::default()).into();
    let settings = Settings {
        urls: vec![String::new()],
        pace: None,
        window: room.messages,
        in_flight_bytes: room.bytes,
        ..Settings::new(HOST, "lab", boot, topics)
    };
    let mut uplink = Uplink::new(settings, found.epochs.iter().map(view).collect(), found.losses, 1);
    let mut out = BufWriter::new(File::create(file)?);
    let (mut unanswered, mut written) = (VecDeque::new(), Packets::default());
    loop {
        match uplink.poll(now) {
            Some(Action::Connect { .. }) => uplink.handle(Input::Connected(Limits::default()), now),
            Some(Action::Load { epoch, range, max_bytes }) => {
                let chunks = outbox.load(epoch, range.clone(), max_bytes, now).chunks;
                uplink.handle(Input::Loaded { epoch, range, chunks }, now);
            }
            Some(Action::Publish { token, topic, payload, content_type, .. }) => {
                unanswered.push_back(token);
                if topic.as_str().ends_with("/h") {
                    let packet = publish(topic.as_str(), content_type, &payload);
                    written.messages += 1;
                    written.bytes += packet.len() as u64;
                    out.write_all(&u32::try_from(packet.len())?.to_be_bytes())?;
                    out.write_all(&packet)?;
                }
            }
            Some(_) => {}
            None => {
                let Some(token) = unanswered.pop_front() else { break };
                now.mono += Duration::from_millis(1);
                uplink.handle(Input::Acked { token, code: 0 }, now);
            }
        }
    }
    if uplink.backlog() > 0 {
        return Err(format!("{} records of the backlog were not made into packets", uplink.backlog()).into());
    }
    out.flush()?;
    Ok(written)
}

/// A QoS 1 PUBLISH of MQTT 5 with packet id 0.
fn publish(topic: &str, content_type: &str, payload: &[u8]) -> Vec<u8> {
    let properties = 3 + content_type.len();
    let mut rest = 2 + topic.len() + 2 + 1 + properties + payload.len();
    let mut packet = vec![0x32];
    loop {
        let (low, more) = ((rest & 0x7f) as u8, rest >> 7);
        packet.push(if more > 0 { low | 0x80 } else { low });
        rest = more;
        if rest == 0 {
            break;
        }
    }
    packet.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    packet.extend_from_slice(topic.as_bytes());
    packet.extend_from_slice(&[0, 0, properties as u8, 3]);
    packet.extend_from_slice(&(content_type.len() as u16).to_be_bytes());
    packet.extend_from_slice(content_type.as_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// Where the packet id stands in such a packet.
pub fn id_at(packet: &[u8]) -> usize {
    let topic = 2 + packet[1..].iter().take_while(|b| **b & 0x80 != 0).count();
    topic + 2 + usize::from(u16::from_be_bytes([packet[topic], packet[topic + 1]]))
}
