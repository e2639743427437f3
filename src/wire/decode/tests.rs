use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::tests::{batch, decode, loss, record};
use super::*;
use crate::record::{MAX_INT, Value};

fn envelope() -> Json {
    json!({
        "v": 1, "host": "edge-01", "site": "plant-a", "epoch": 7, "boot": "b", "synced": true,
        "sent": 1_790_000_000_123_i64, "lane": "live",
        "records": [{ "seq": 1, "ts": 5, "mono": 6, "name": "n", "status": "ok", "tags": {}, "fields": {} }],
    })
}

fn with(path: &str, value: Json) -> Json {
    let mut message = envelope();
    let (parent, key) = path.rsplit_once('/').expect("a pointer");
    message.pointer_mut(parent).expect("an object")[key] = value;
    message
}

/// Decodes `message` as JSON and as MessagePack, which must agree.
fn read(message: &Json) -> Result<Envelope, String> {
    let json = decode(message.to_string().as_bytes()).map_err(|e| e.to_string());
    let msgpack = decode(&rmp_serde::to_vec_named(message).unwrap()).map_err(|e| e.to_string());
    assert_eq!(json.is_ok(), msgpack.is_ok(), "{json:?} {msgpack:?}");
    if let (Ok(json), Ok(msgpack)) = (&json, &msgpack) {
        assert_eq!(json, msgpack);
    }
    json
}

fn refusal(message: &Json) -> String {
    read(message).expect_err("refused")
}

#[test]
fn unknown_fields_and_words_are_ignored_at_every_level() {
    let mut message = with("/future", json!({"a": [1, {"b": null}]}));
    message["records"][0]["future"] = json!([1, 2]);
    message["records"][0]["error"] = json!({"kind": "cosmic-ray", "message": "m", "future": 1});
    message["losses"] = json!([{"epoch":1,"from":1,"to":2,"count":2,"reason":"gremlins","t0":0,"t1":0,"future":true}]);
    let read = read(&message).unwrap();
    assert_eq!(read.losses[0].reason, super::super::LossReason::Other);
    assert_eq!(read.records[0].error.as_ref().unwrap().kind, crate::record::ErrorKind::Other);
}

#[test]
fn version_is_judged_before_anything_else() {
    assert!(refusal(&with("/v", json!(0))).contains("`v` is 0"));
    let mut newer = with("/v", json!(2));
    newer["records"] = json!("something else entirely");
    assert_eq!(refusal(&newer), "message version 2 is newer than this program understands (1): upgrade it");
    assert!(refusal(&with("/v", json!(1_000_000))).contains("version 1000000 is newer"));
    assert!(refusal(&with("/v", json!("1"))).contains("whole number"));
    let mut without = envelope();
    without.as_object_mut().unwrap().remove("v");
    assert!(refusal(&without).contains("`v` is missing"));
}

#[test]
fn every_required_field_is_missed_by_name() {
    for field in ["host", "site", "epoch", "boot", "synced", "sent", "lane"] {
        let mut message = envelope();
        message.as_object_mut().unwrap().remove(field);
        assert!(refusal(&message).contains(&format!("missing field `{field}`")), "{field}");
    }
    for field in ["seq", "ts", "mono", "name", "status"] {
        let mut message = envelope();
        message["records"][0].as_object_mut().unwrap().remove(field);
        assert!(refusal(&message).contains(&format!("missing field `{field}`")), "{field}");
    }
    let mut message = with("/losses", json!([{"epoch":1,"from":1,"count":2,"reason":"age","t0":0,"t1":0}]));
    assert!(refusal(&message).contains("missing field `to`"), "an open end is said, not implied");
    message["losses"][0]["to"] = Json::Null;
    assert_eq!(read(&message).unwrap().losses[0].to, None);
}

#[test]
fn whole_numbers_may_be_written_as_floats_but_stay_within_53_bits() {
    for path in ["/epoch", "/sent", "/records/0/seq", "/records/0/ts", "/records/0/mono"] {
        assert!(read(&with(path, json!(42.0))).is_ok(), "{path}");
        assert!(read(&with(path, json!(MAX_INT))).is_ok(), "{path}");
        for bad in
            [json!(42.5), json!(MAX_INT + 1), json!(u64::MAX), json!(1e300), json!("42"), json!(true), Json::Null]
        {
            assert!(refusal(&with(path, bad.clone())).contains("not a message"), "{path} {bad}");
        }
    }
    assert_eq!(read(&with("/records/0/seq", json!(42.0))).unwrap().records[0].seq, 42);
    assert!(refusal(&with("/epoch", json!(-1))).contains("-1 is negative"));
    assert!(read(&with("/records/0/ts", json!(-1))).is_ok(), "a clock may stand before 1970");
    assert_eq!(read(&with("/anchor", json!([1.0, 2]))).unwrap().anchor, Some([1, 2]));
    assert!(refusal(&with("/anchor", json!([1]))).contains("length"));
}

#[test]
fn values_that_do_not_fit_become_floats_and_other_kinds_are_refused() {
    let field = |value: Json| with("/records/0/fields", json!({ "f": value }));
    let read = |value: Json| read(&field(value)).map(|e| e.records[0].fields["f"].clone());
    assert_eq!(read(json!(u64::MAX)), Ok(Value::Float(18_446_744_073_709_551_615.0)));
    assert_eq!(read(json!(MAX_INT + 1)), Ok(Value::Float(9_007_199_254_740_992.0)));
    assert_eq!(read(json!(i64::MIN)), Ok(Value::Float(-9_223_372_036_854_775_808.0)));
    assert_eq!(read(json!(3.0)), Ok(Value::Float(3.0)), "a float stays one");
    assert_eq!(read(json!(3)), Ok(Value::Int(3)));
    for bad in [Json::Null, json!([1]), json!({"a": 1})] {
        assert!(read(bad).unwrap_err().contains("a boolean, a number or a text"));
    }
}

#[test]
fn a_float_that_is_no_number_is_refused() {
    let mut payload = batch(&[], &[]);
    payload.pop();
    payload.push(0x91);
    let head = b"\x87\xa3seq\x01\xa2ts\x01\xa4mono\x01\xa4name\xa1n\xa6status\xa2ok\xa4tags\x80\xa6fields\x81\xa1f\xcb";
    payload.extend_from_slice(head);
    payload.extend_from_slice(&f64::NAN.to_be_bytes());
    assert!(decode(&payload).unwrap_err().to_string().contains("a finite number"));
}

#[test]
fn a_single_precision_float_is_read() {
    let mut payload = batch(&[], &[]);
    payload.pop();
    payload.extend_from_slice(
        b"\x91\x87\xa3seq\x01\xa2ts\x01\xa4mono\x01\xa4name\xa1n\xa6status\xa2ok\xa4tags\x80\xa6fields\x81\xa1f\xca",
    );
    payload.extend_from_slice(&0.5_f32.to_be_bytes());
    assert_eq!(decode(&payload).unwrap().records[0].fields["f"], Value::Float(0.5));
}

#[test]
fn objects_are_maps_and_words_are_text() {
    assert!(refusal(&with("/records", json!([[1, 5, 6, "n", "ok", {}, {}, null]]))).contains("expected a map"));
    assert!(refusal(&with("/records", json!({}))).contains("expected an array"));
    assert!(refusal(&with("/lane", json!(0))).contains("expected a string"));
    assert!(refusal(&with("/lane", json!({"live": null}))).contains("expected a string"));
    assert!(refusal(&with("/lane", json!("sideways"))).contains("unknown variant `sideways`"));
    assert!(refusal(&with("/records/0/status", json!(1))).contains("expected a string"));
    for array in [b"[]".as_slice(), b"\x90", b"7", b"\x01", b"null", b"\xc0"] {
        assert!(decode(array).unwrap_err().to_string().contains("begins neither"), "{array:?}");
    }
    assert!(decode(b" \n").unwrap_err().to_string().contains("it is empty"));
}

#[test]
fn a_name_that_occurs_twice_is_refused() {
    let text = envelope().to_string();
    for (once, twice) in [
        ("\"v\":1", "\"v\":1,\"v\":1"),
        ("\"host\":", "\"host\":\"x\",\"host\":"),
        ("\"seq\":", "\"seq\":9,\"seq\":"),
        ("\"tags\":{}", "\"tags\":{\"a\":\"1\",\"a\":\"2\"}"),
        ("\"fields\":{}", "\"fields\":{\"a\":1,\"a\":2}"),
    ] {
        let doubled = text.replacen(once, twice, 1);
        assert_ne!(doubled, text);
        let error = decode(doubled.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("duplicate field") || error.contains("occurs twice"), "{error}");
    }
    let mut payload = batch(&[], &[]);
    payload[0] += 1;
    payload.extend_from_slice(b"\xa7records\x90");
    assert!(decode(&payload).unwrap_err().to_string().contains("duplicate field `records`"));
}

#[test]
fn numbers_must_make_sense() {
    assert!(refusal(&with("/records/0/seq", json!(0))).contains("records[0]: seq is 0"));
    let loss = |from: Json, to: Json| {
        with("/losses", json!([{"epoch":1,"from":from,"to":to,"count":0,"reason":"age","t0":0,"t1":0}]))
    };
    assert!(read(&loss(json!(3), json!(3))).is_ok());
    assert!(refusal(&loss(json!(3), json!(2))).contains("losses[0]: the range ends at 2, before it starts at 3"));
    assert!(refusal(&loss(json!(0), json!(2))).contains("losses[0]: `from` is 0"));
    assert!(refusal(&loss(json!(1), json!(MAX_INT + 1))).contains("2^53"));
    for path in ["/host", "/site"] {
        for bad in ["", "a/b", "..", "edge.01", "+", "\u{0}"] {
            assert!(refusal(&with(path, json!(bad))).contains(&path[1..]), "{path} {bad:?}");
        }
    }
}

#[test]
fn limits_hold_on_bytes_depth_and_counts() {
    let limits = DecodeLimits { max_bytes: 1000, max_depth: 8, max_records: 2, max_losses: 1 };
    let refusal = |message: &Json| decode_envelope(message.to_string().as_bytes(), &limits).unwrap_err().to_string();
    let record = envelope()["records"][0].clone();
    assert!(refusal(&with("/records", json!([record, record, record]))).contains("3 records, at most 2"));
    let loss = json!({"epoch":1,"from":1,"to":2,"count":2,"reason":"age","t0":0,"t1":0});
    assert!(refusal(&with("/losses", json!([loss, loss]))).contains("2 losses, at most 1"));
    assert!(refusal(&with("/x", json!("y".repeat(1000)))).contains("above the limit of 1000"));
    let mut deep = json!(1);
    for _ in 0..8 {
        deep = json!([deep]);
    }
    assert!(refusal(&with("/x", deep.clone())).contains("nested too deeply"));
    let msgpack = rmp_serde::to_vec_named(&with("/x", deep[0].clone())).unwrap();
    assert!(decode_envelope(&msgpack, &limits).is_ok(), "the limit itself is allowed");
    assert!(
        decode_envelope(with("/x", json!("[[[[[[[[[[\\\"{{{{{{{{{{")).to_string().as_bytes(), &limits).is_ok(),
        "text is not structure"
    );
}

#[test]
fn bombs_are_refused_cheaply() {
    let nested = [b"{\"v\":1,\"x\":".as_slice(), &vec![b'['; 1 << 20]].concat();
    assert!(decode(&nested).unwrap_err().to_string().contains("nested too deeply"));
    let nested = [b"\x82\xa1v\x01\xa1x".as_slice(), &vec![0x91; 1 << 20]].concat();
    assert!(decode(&nested).unwrap_err().to_string().contains("nested too deeply"));
    for header in
        [b"\xdd\xff\xff\xff\xff".as_slice(), b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]
    {
        let payload = [b"\x82\xa1v\x01\xa7records".as_slice(), header].concat();
        assert!(decode(&payload).is_err());
    }
    let payload = [b"\x82\xa1v\x01\xa7records\xdd\x00\x0f\xff\xff".as_slice(), &vec![0x80; 0x0f_ffff]].concat();
    assert!(decode(&payload).unwrap_err().to_string().contains("at most 100000"));
}

#[cfg(feature = "zstd")]
mod compressed {
    use super::*;

    fn squeeze(plain: &[u8]) -> Vec<u8> {
        zstd::encode_all(plain, 3).unwrap()
    }

    #[test]
    fn either_form_is_read_from_a_zstd_frame() {
        let json = envelope().to_string();
        assert_eq!(decode(&squeeze(json.as_bytes())).unwrap(), decode(json.as_bytes()).unwrap());
        let msgpack = batch(&[], &[]);
        assert_eq!(decode(&squeeze(&msgpack)).unwrap(), decode(&msgpack).unwrap());
    }

    #[test]
    fn zstd_bomb_stops_at_the_limit() {
        let bomb = squeeze(&vec![b' '; 64 << 20]);
        assert!(bomb.len() < 10_000);
        let error = decode(&bomb).unwrap_err();
        assert!(matches!(error, DecodeError::TooLarge(bytes, 4_194_304) if bytes == 4_194_305), "{error}");
    }

    #[test]
    fn a_bad_frame_is_refused() {
        let good = squeeze(envelope().to_string().as_bytes());
        assert!(decode(&good[..good.len() - 3]).unwrap_err().to_string().contains("zstd"));
        assert!(decode(&[&good, b"tail".as_slice()].concat()).unwrap_err().to_string().contains("zstd"));
        assert!(decode(&squeeze(&good)).unwrap_err().to_string().contains("begins neither"), "one layer only");
    }

    proptest! {
        #[test]
        fn arbitrary_frames_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&[&frame::MAGIC, bytes.as_slice()].concat()).is_err());
        }
    }
}

#[cfg(not(feature = "zstd"))]
#[test]
fn zstd_is_refused_by_name_in_a_build_without_it() {
    assert!(decode(&frame::MAGIC).unwrap_err().to_string().contains("compressed with zstd"));
}

/// What is accepted is within the promises, whatever it was.
fn sound(envelope: &Envelope) {
    assert_eq!(envelope.v, VERSION);
    assert!(envelope.records.iter().all(|r| r.seq >= 1 && r.seq <= MAX_INT as u64));
    assert!(envelope.losses.iter().all(|l| l.from >= 1 && l.to.is_none_or(|to| to >= l.from)));
    let json = serde_json::to_vec(envelope).unwrap();
    assert_eq!(&decode(&json).unwrap(), envelope, "what was accepted once is accepted again, equal");
}

#[derive(Clone, Debug)]
enum Mutation {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Cut(prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        1 => (index(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        1 => index().prop_map(Mutation::Remove),
        1 => index().prop_map(Mutation::Cut),
        1 => (index(), index()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    match mutation {
        Mutation::Set(at, byte) => bytes[at.index(len)] = *byte,
        Mutation::Insert(at, byte) => bytes.insert(at.index(len), *byte),
        Mutation::Remove(at) => _ = bytes.remove(at.index(len)),
        Mutation::Cut(at) => bytes.truncate(at.index(len)),
        Mutation::Repeat(from, to) => {
            let (from, to) = (from.index(len), to.index(len));
            let piece = bytes[from.min(to)..from.max(to)].to_vec();
            let at = from.max(to);
            bytes.splice(at..at, piece);
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), json: bool) {
        let head = if json { b"{".as_slice() } else { b"\x8a\xa1v\x01" };
        prop_assert!(decode(&bytes).is_err());
        prop_assert!(decode(&[head, &bytes].concat()).is_err());
    }

    #[test]
    fn mutated_messages_are_refused_or_sound(
        records in proptest::collection::vec(record(), 0..4),
        losses in proptest::collection::vec(loss(), 0..3),
        mutations in proptest::collection::vec(mutation(), 1..5),
        json: bool,
    ) {
        let mut payload = batch(&losses, &records);
        if json {
            payload = super::super::transcode_json(&payload).unwrap();
        }
        for mutation in &mutations {
            mutate(&mut payload, mutation);
        }
        if let Ok(envelope) = decode(&payload) {
            sound(&envelope);
        }
    }
}
