use proptest::prelude::*;

use super::super::tests::{batch, chunk, context, decode, header, loss, record};
use super::*;
use crate::record::Name;

fn plain(fields: Fields) -> Record {
    Record { seq: 1, ts: 0, mono: 0, name: "n".into(), status: Status::Ok, tags: Tags::new(), fields, error: None }
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    encode_record(record, &mut out);
    out
}

fn field(value: Value) -> Vec<u8> {
    let whole = encoded(&plain(Fields::from([(Name::from("f"), value)])));
    let marker = [0xa6, b'f', b'i', b'e', b'l', b'd', b's', 0x81, 0xa1, b'f'];
    let at = whole.windows(marker.len()).position(|w| w == marker).expect("one field");
    whole[at + marker.len()..].to_vec()
}

#[test]
fn every_integer_takes_its_shortest_form() {
    let widths: [(i64, &[u8]); 18] = [
        (0, &[0x00]),
        (127, &[0x7f]),
        (128, &[0xcc, 0x80]),
        (255, &[0xcc, 0xff]),
        (256, &[0xcd, 0x01, 0x00]),
        (65_535, &[0xcd, 0xff, 0xff]),
        (65_536, &[0xce, 0, 1, 0, 0]),
        (4_294_967_295, &[0xce, 0xff, 0xff, 0xff, 0xff]),
        (4_294_967_296, &[0xcf, 0, 0, 0, 1, 0, 0, 0, 0]),
        (MAX_INT, &[0xcf, 0x00, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (-1, &[0xff]),
        (-32, &[0xe0]),
        (-33, &[0xd0, 0xdf]),
        (-128, &[0xd0, 0x80]),
        (-129, &[0xd1, 0xff, 0x7f]),
        (-32_769, &[0xd2, 0xff, 0xff, 0x7f, 0xff]),
        (-2_147_483_649, &[0xd3, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]),
        (-MAX_INT, &[0xd3, 0xff, 0xe0, 0, 0, 0, 0, 0, 1]),
    ];
    for (value, bytes) in widths {
        assert_eq!(field(Value::Int(value)), bytes, "{value}");
    }
}

#[test]
fn floats_keep_their_kind_and_all_their_bits() {
    assert_eq!(field(Value::Float(3.0))[..3], [0xcb, 0x40, 0x08]);
    for value in [-0.0, f64::MIN_POSITIVE, 5e-324, f64::MAX, 0.1 + 0.2] {
        let payload = batch(&[], &[plain(Fields::from([(Name::from("f"), Value::Float(value))]))]);
        for form in [payload.clone(), transcode_json(&payload).unwrap()] {
            let Value::Float(read) = decode(&form).unwrap().records[0].fields["f"] else { panic!("a float") };
            assert_eq!(read.to_bits(), value.to_bits());
        }
    }
}

#[test]
fn no_value_that_readers_misread_reaches_the_wire() {
    let fields = Fields::from([
        (Name::from("big"), Value::Int(i64::MAX)),
        (Name::from("inf"), Value::Float(f64::INFINITY)),
        (Name::from("kept"), Value::Int(7)),
        (Name::from("nan"), Value::Float(f64::NAN)),
    ]);
    let record = &decode(&batch(&[], &[plain(fields)])).unwrap().records[0];
    let expected =
        [(Name::from("big"), Value::Float(9_223_372_036_854_775_807.0)), (Name::from("kept"), Value::Int(7))];
    assert_eq!(record.fields, Fields::from(expected));
}

#[test]
fn a_time_beyond_53_bits_is_clamped() {
    let record = Record { ts: i64::MIN, mono: u64::MAX, ..plain(Fields::new()) };
    let read = &decode(&batch(&[], &[record])).unwrap().records[0];
    assert_eq!((read.ts, read.mono), (-MAX_INT, MAX_INT as u64));
}

#[test]
fn records_come_last_and_counts_are_exact() {
    let one = plain(Fields::new());
    let context = context();
    let (a, b) = (
        chunk(&context, &[one.clone(), Record { seq: 2, ..one.clone() }]),
        chunk(&context, &[Record { seq: 3, ..one }]),
    );
    let payload = encode_batch(&header(&context), &[], &[a.clone(), b.clone()]);
    let tail = [b"\xa7records\x93".as_slice(), &a.maps, &b.maps].concat();
    assert!(payload.ends_with(&tail));
    assert_eq!(payload[0], 0x8a, "a map of ten: everything but losses");
    assert_eq!(decode(&payload).unwrap().records.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn absent_anchor_and_losses_take_no_bytes() {
    let context = context();
    let header = BatchHeader { anchor: None, ..header(&context) };
    let payload = encode_batch(&header, &[], &[]);
    assert_eq!(payload[0], 0x89);
    assert!(!payload.windows(6).any(|w| w == b"losses" || w == b"anchor"));
    let envelope = decode(&payload).unwrap();
    assert_eq!((envelope.anchor, envelope.losses.len(), envelope.records.len()), (None, 0, 0));
}

#[test]
fn names_on_the_wire_are_those_of_the_types() {
    let quoted = |json: String| json.trim_matches('"').to_owned();
    for kind in [
        ErrorKind::Timeout,
        ErrorKind::Exit,
        ErrorKind::Signal,
        ErrorKind::Memory,
        ErrorKind::Cpu,
        ErrorKind::Output,
        ErrorKind::Parse,
        ErrorKind::Spawn,
        ErrorKind::Permission,
        ErrorKind::Unsupported,
        ErrorKind::Skipped,
        ErrorKind::Panic,
        ErrorKind::Processes,
        ErrorKind::Other,
    ] {
        assert_eq!(error_name(kind), quoted(serde_json::to_string(&kind).unwrap()));
    }
    for reason in super::super::tests::REASONS {
        assert_eq!(reason_name(reason), quoted(serde_json::to_string(&reason).unwrap()));
    }
    for lane in [Lane::Live, Lane::History] {
        assert_eq!(lane_name(lane), quoted(serde_json::to_string(&lane).unwrap()));
    }
    for status in [Status::Ok, Status::Err] {
        assert_eq!(status_name(status), quoted(serde_json::to_string(&status).unwrap()));
    }
}

#[test]
fn overhead_holds_when_every_number_is_widest() {
    let widest = MAX_INT as u64;
    let loss = Loss {
        epoch: widest,
        from: widest,
        to: Some(widest),
        count: widest,
        reason: LossReason::WriteFailure,
        t0: -MAX_INT,
        t1: -MAX_INT,
    };
    let text = "x".repeat(1 << 16);
    let context = ClockContext { boot: text.as_str().into(), synced: true };
    let widest = BatchHeader {
        host: &text,
        site: &text,
        epoch: widest,
        context: &context,
        anchor: Some([MAX_INT; 2]),
        sent: MAX_INT,
        lane: Lane::History,
    };
    for losses in [0, 1, 70_000] {
        let added = encode_batch(&widest, &vec![loss.clone(); losses], &[]).len();
        let bound = batch_overhead(&widest, losses);
        assert!(added <= bound && bound - added <= 20, "{losses} losses: {added} bytes added, {bound} promised");
    }
}

#[test]
fn what_is_no_envelope_is_not_transcoded() {
    assert!(transcode_json(b"\x80").is_err());
}

proptest! {
    #[test]
    fn overhead_is_an_upper_bound(
        host in "[a-z]{1,130}", site in "[a-z]{1,60}", boot in "[a-f0-9-]{0,40}", anchored: bool, history: bool,
        epoch in 0..=MAX_INT as u64, sent in -MAX_INT..=MAX_INT,
        losses in proptest::collection::vec(loss(), 0..40), records in proptest::collection::vec(record(), 0..4),
    ) {
        let context = ClockContext { boot: boot.as_str().into(), synced: false };
        let chunk = Chunk { epoch, ..chunk(&context, &records) };
        let header = BatchHeader {
            host: &host, site: &site, epoch, context: &context, sent,
            anchor: anchored.then_some([sent, -sent]),
            lane: if history { Lane::History } else { Lane::Live },
        };
        let added = encode_batch(&header, &losses, std::slice::from_ref(&chunk)).len() - chunk.maps.len();
        let bound = batch_overhead(&header, losses.len());
        prop_assert!(added <= bound, "{added} bytes added, {bound} promised");
        prop_assert!(bound - added <= 60 + 80 * losses.len(), "a bound that wastes {} bytes is of no use", bound - added);
    }

    #[test]
    fn equal_records_have_equal_bytes_whatever_the_order_of_insertion(record in record()) {
        let mut again = record.clone();
        again.fields = record.fields.iter().rev().map(|(k, v)| (k.clone(), v.clone())).collect();
        prop_assert_eq!(encoded(&record), encoded(&again));
    }
}
