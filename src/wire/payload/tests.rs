use std::fmt::Debug;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::tests::batch;
use super::*;

fn status() -> Json {
    json!({
        "v": 1, "state": "online", "session": "s1", "host": "edge-01", "site": "plant-a", "sent": 1, "version": "0.1.0",
        "epoch": 7, "next_seq": 11, "pending": [{"epoch": 7, "from": 3, "to": 10}], "backlog": 8, "level": "broker",
    })
}

fn read<T: Payload + PartialEq + Debug>(message: &Json) -> Result<T, String> {
    let json = decode_payload::<T>(message.to_string().as_bytes()).map_err(|e| e.to_string());
    let msgpack = decode_payload::<T>(&rmp_serde::to_vec_named(message).unwrap()).map_err(|e| e.to_string());
    assert_eq!(json.is_ok(), msgpack.is_ok(), "{json:?} {msgpack:?}");
    if let (Ok(json), Ok(msgpack)) = (&json, &msgpack) {
        assert_eq!(json, msgpack);
        assert_eq!(&decode_payload::<T>(&encode_payload(json)).unwrap(), json, "its own encoding reads back");
    }
    json
}

fn refusal<T: Payload + PartialEq + Debug>(message: &Json) -> String {
    read::<T>(message).expect_err("refused")
}

#[test]
fn small_payloads_are_read_from_json_and_messagepack() {
    read::<Status>(&status()).unwrap();
    read::<Offline>(&json!({"state": "offline", "session": "s1"})).unwrap();
    read::<Meta>(&json!({"v":1,"host":"h","site":"s","version":"1","metrics_version":1,"config_hash":"ab","host_info":{},"schedules":{},"metrics":[]})).unwrap();
    read::<Command>(&json!({"cmd":"resend","id":"1","epoch":7,"from":3,"to":10})).unwrap();
    read::<Command>(&json!({"cmd":"run","id":"1","collector":"cpu"})).unwrap();
    read::<Command>(&json!({"cmd":"ping","id":"1"})).unwrap();
    read::<Reply>(&json!({"v":1,"id":"1","ok":true})).unwrap();
    read::<Ack>(&json!({"v":1,"epoch":7,"upto":3,"ranges":[[5,9]]})).unwrap();
    read::<HubState>(&json!({"v":1,"state":"online","session":"s1"})).unwrap();
}

#[test]
fn a_list_over_its_bound_is_refused_with_both_numbers() {
    let many = |n: usize, value: Json| Json::Array(vec![value; n]);
    let with = |mut message: Json, key: &str, value: Json| {
        message[key] = value;
        message
    };
    let range = json!({"epoch":7,"from":1,"to":1});
    assert!(read::<Status>(&with(status(), "pending", many(16, range.clone()))).is_ok());
    assert!(refusal::<Status>(&with(status(), "pending", many(17, range))).contains("17 pending, at most 16"));
    assert!(refusal::<Status>(&with(status(), "problems", many(9, json!("p")))).contains("9 problems, at most 8"));
    let loss = json!({"epoch":1,"from":1,"to":2,"count":2,"reason":"age","t0":0,"t1":0});
    assert!(refusal::<Status>(&with(status(), "losses", many(65, loss))).contains("65 losses, at most 64"));
    let ack = json!({"v":1,"epoch":7,"upto":0});
    assert!(read::<Ack>(&with(ack.clone(), "ranges", many(64, json!([1, 2])))).is_ok());
    assert!(refusal::<Ack>(&with(ack, "ranges", many(65, json!([1, 2])))).contains("65 ranges, at most 64"));
    assert!(refusal::<Command>(&json!({"cmd":"ping","id":"x".repeat(65)})).contains("65 bytes of id"));
}

#[test]
fn ranges_must_not_run_backwards() {
    assert!(refusal::<Ack>(&json!({"v":1,"epoch":7,"upto":0,"ranges":[[5,4]]})).contains("ends at 4"));
    assert!(refusal::<Command>(&json!({"cmd":"resend","id":"1","epoch":7,"from":3,"to":2})).contains("ends at 2"));
    let mut backwards = status();
    backwards["pending"][0]["to"] = json!(1);
    assert!(refusal::<Status>(&backwards).contains("pending: the range ends at 1"));
}

#[test]
fn a_command_that_does_not_exist_is_named() {
    let error = refusal::<Command>(&json!({"cmd":"rm","id":"1"}));
    assert!(error.contains("unknown variant `rm`") && error.contains("resend"), "{error}");
    assert!(refusal::<Command>(&json!({"id":"1"})).contains("missing field `cmd`"));
    assert!(refusal::<Command>(&json!(["ping", "1"])).contains("begins neither"));
}

#[test]
fn a_newer_version_is_named_in_every_payload_that_has_one() {
    let newer = json!({"v": 2}).to_string();
    for error in [
        decode_payload::<Status>(newer.as_bytes()).unwrap_err(),
        decode_payload::<Meta>(newer.as_bytes()).unwrap_err(),
        decode_payload::<Reply>(newer.as_bytes()).unwrap_err(),
        decode_payload::<Ack>(newer.as_bytes()).unwrap_err(),
        decode_payload::<HubState>(newer.as_bytes()).unwrap_err(),
    ] {
        assert!(matches!(error, DecodeError::Version(2)), "{error}");
    }
}

#[test]
fn size_is_limited_per_kind() {
    let large = json!({"v":1,"epoch":7,"upto":0,"x":"y".repeat(8 << 10)}).to_string();
    assert!(matches!(decode_payload::<Ack>(large.as_bytes()), Err(DecodeError::TooLarge(_, 8192))));
}

#[test]
fn status_topic_holds_the_heartbeat_or_the_will() {
    let online = decode_status(status().to_string().as_bytes()).unwrap();
    assert!(matches!(online, StatusMessage::Online(s) if s.next_seq == 11));
    let will = decode_status(br#"{"state":"offline","session":"s1"}"#).unwrap();
    assert_eq!(
        will,
        StatusMessage::Offline(Offline { state: State::Offline, session: "s1".into(), epoch: None, next_seq: None })
    );
    let error = decode_status(br#"{"state":"online","session":"s1"}"#).unwrap_err().to_string();
    assert!(error.contains("`v` is missing"), "{error}");
    assert!(decode_status(br#"{"state":"asleep","session":"s1"}"#).is_err());
}

#[test]
fn an_event_is_one_record_of_that_name() {
    let record = |name: &'static str| crate::record::Record {
        seq: 1,
        ts: 0,
        mono: 0,
        name: name.into(),
        status: crate::record::Status::Ok,
        tags: Default::default(),
        fields: Default::default(),
        error: None,
    };
    assert_eq!(decode_event(&batch(&[], &[record(EVENT_NAME)])).unwrap().records.len(), 1);
    assert!(decode_event(&batch(&[], &[record("system.cpu")])).unwrap_err().to_string().contains("not \"system.cpu\""));
    assert!(decode_event(&batch(&[], &[])).unwrap_err().to_string().contains("this one none"));
    assert!(decode_event(&batch(&[], &[record(EVENT_NAME), record(EVENT_NAME)])).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for head in [b"".as_slice(), b"{", b"\x85", b"{\"v\":1,", b"\x85\xa1v\x01"] {
            let bytes = [head, &bytes].concat();
            prop_assert!(decode_payload::<Status>(&bytes).is_err());
            prop_assert!(decode_payload::<Meta>(&bytes).is_err());
            prop_assert!(decode_payload::<Command>(&bytes).is_err());
            prop_assert!(decode_payload::<Ack>(&bytes).is_err());
            prop_assert!(decode_status(&bytes).is_err());
            prop_assert!(decode_event(&bytes).is_err());
        }
    }
}
