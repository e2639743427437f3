//! Shared by the tests of this module: strategies and a sample of everything.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::record::{ClockContext, ErrorKind, MAX_INT, Name, Record, RunError, Status as RecordStatus, Value};

pub(super) const REASONS: [LossReason; 10] = [
    LossReason::Quota,
    LossReason::Age,
    LossReason::Oversize,
    LossReason::WriteFailure,
    LossReason::Corrupt,
    LossReason::Memory,
    LossReason::Epoch,
    LossReason::Mixed,
    LossReason::Quarantined,
    LossReason::Other,
];

pub(super) fn context() -> ClockContext {
    ClockContext { boot: Arc::from("9ac4e6f2-2f0e-4c3b-8a59-0d7a5c1e7b11"), synced: true }
}

pub(super) fn header(context: &ClockContext) -> BatchHeader<'_> {
    BatchHeader {
        host: "edge-01",
        site: "plant-a",
        epoch: 5_123_456_789_012_345,
        context,
        anchor: Some([86_400_000, 1_790_000_000_000]),
        sent: 1_790_000_000_123,
        lane: Lane::Live,
    }
}

pub(super) fn chunk(context: &ClockContext, records: &[Record]) -> Chunk {
    let mut maps = Vec::new();
    for record in records {
        encode_record(record, &mut maps);
    }
    Chunk {
        epoch: 5_123_456_789_012_345,
        first: records.first().map_or(1, |r| r.seq),
        count: records.len() as u32,
        context: context.clone(),
        maps: maps.into(),
    }
}

pub(super) fn batch(losses: &[Loss], records: &[Record]) -> Vec<u8> {
    let context = context();
    encode_batch(&header(&context), losses, &[chunk(&context, records)])
}

pub(super) fn decode(payload: &[u8]) -> Result<Envelope, DecodeError> {
    decode_envelope(payload, &DecodeLimits::default())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z_.]{0,12}", 1 => "\\PC{0,40}", 1 => any::<String>()]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        (-MAX_INT..=MAX_INT).prop_map(Value::Int),
        (-300_i64..300).prop_map(Value::Int),
        any::<f64>().prop_filter_map("finite", Value::float),
        (-1000_i64..1000).prop_map(|n| Value::Float(n as f64)),
        text().prop_map(Value::Str),
    ]
}

fn whole() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..300, 0..=MAX_INT as u64, Just(MAX_INT as u64)]
}

pub(super) fn error() -> impl Strategy<Value = RunError> {
    let kind =
        prop_oneof![Just(ErrorKind::Timeout), Just(ErrorKind::Exit), Just(ErrorKind::Panic), Just(ErrorKind::Other)];
    (kind, text()).prop_map(|(kind, message)| RunError::new(kind, message))
}

prop_compose! {
    pub(super) fn record()(
        seq in whole(),
        ts in -MAX_INT..=MAX_INT,
        mono in whole(),
        name in text(),
        tags in proptest::collection::btree_map(text().prop_map(Name::from), text().prop_map(Name::from), 0..5),
        fields in proptest::collection::btree_map(text().prop_map(Name::from), value(), 0..20),
        error in proptest::option::of(error()),
    ) -> Record {
        let status = if error.is_some() { RecordStatus::Err } else { RecordStatus::Ok };
        Record { seq: seq.max(1), ts, mono, name: name.into(), status, tags, fields, error }
    }
}

prop_compose! {
    pub(super) fn loss()(
        epoch in whole(), from in whole(), len in proptest::option::of(0_u64..1000), count in whole(),
        reason in proptest::sample::select(REASONS.to_vec()),
        t0 in -MAX_INT..=MAX_INT, t1 in -MAX_INT..=MAX_INT,
    ) -> Loss {
        let from = from.clamp(1, MAX_INT as u64 - 1000);
        Loss { epoch, from, to: len.map(|len| from + len), count, reason, t0, t1 }
    }
}

proptest! {
    #[test]
    fn batch_decodes_to_the_same_records_by_either_encoding(
        records in proptest::collection::vec(record(), 0..8),
        losses in proptest::collection::vec(loss(), 0..5),
    ) {
        let msgpack = batch(&losses, &records);
        let envelope = decode(&msgpack).unwrap();
        prop_assert_eq!(&envelope.records, &records);
        prop_assert_eq!(&envelope.losses, &losses);
        prop_assert_eq!(&envelope.host, "edge-01");
        prop_assert_eq!(envelope.anchor, Some([86_400_000, 1_790_000_000_000]));
        prop_assert_eq!(decode(&transcode_json(&msgpack).unwrap()).unwrap(), envelope);
    }

    #[test]
    fn raw_records_are_the_bytes_that_were_appended(records in proptest::collection::vec(record(), 0..20)) {
        let payload = batch(&[], &records);
        let raw: Vec<&[u8]> = raw_records(&payload).unwrap().collect();
        prop_assert_eq!(raw.len(), records.len());
        for (raw, record) in raw.into_iter().zip(&records) {
            let mut bytes = Vec::new();
            encode_record(record, &mut bytes);
            prop_assert_eq!(raw, bytes);
        }
    }
}
