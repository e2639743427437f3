//! What a host says, by the product's own encoder and without an agent: `mosquitto_pub` brings it.

use std::ops::RangeInclusive;

use holdover::record::{ClockContext, Point, Record, Value};
use holdover::wire::{
    BatchHeader, Chunk, Lane, PendingRange, State, Status, encode_batch, encode_payload, encode_record,
};

/// One record for each seq, of site `lab`.
pub fn batch(host: &str, epoch: u64, lane: Lane, seqs: RangeInclusive<u64>) -> Vec<u8> {
    let context = ClockContext { boot: "boot".into(), synced: true };
    let header =
        BatchHeader { host, site: "lab", epoch, context: &context, anchor: None, sent: 1_790_000_000_000, lane };
    let first = *seqs.start();
    let mut maps = Vec::new();
    let mut count = 0;
    for seq in seqs {
        let fields = [("value".into(), Value::Int(seq as i64))].into();
        let point = Point {
            ts: 1_790_000_000_000,
            mono: 1,
            name: "system.cpu".into(),
            tags: Default::default(),
            fields,
            error: None,
        };
        encode_record(&Record::new(seq, point), &mut maps);
        count += 1;
    }
    let chunk = Chunk { epoch, first, count, context: context.clone(), maps: maps.into() };
    encode_batch(&header, &[], std::slice::from_ref(&chunk))
}

/// A heartbeat of `edge-01`.
pub fn status(epoch: u64, next_seq: u64, pending: &[(u64, u64)]) -> Vec<u8> {
    encode_payload(&Status {
        v: 1,
        state: State::Online,
        session: "s1".into(),
        host: "edge-01".into(),
        site: "lab".into(),
        sent: 1_790_000_000_000,
        version: "0.1.0".into(),
        epoch,
        next_seq,
        pending: pending.iter().map(|&(from, to)| PendingRange { epoch, from, to }).collect(),
        backlog: 0,
        oldest: None,
        eta_s: None,
        losses: Vec::new(),
        level: "broker".into(),
        problems: Vec::new(),
    })
}
