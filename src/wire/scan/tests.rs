use proptest::prelude::*;

use super::super::tests::{batch, record};
use super::*;

fn refusal(payload: &[u8]) -> String {
    check(payload, 32).expect_err("refused").to_string()
}

#[test]
fn headers_that_promise_more_than_there_is_are_refused() {
    for header in [0xdd_u8, 0xdf, 0xdb] {
        let payload = [0x81, 0xa1, b'a', header, 0xff, 0xff, 0xff, 0xff];
        assert!(refusal(&payload).contains("cut off"), "{header:#x}");
    }
    assert!(refusal(&[0xde, 0xff]).contains("cut off: 2 bytes announced at byte 1, 1 present"));
    assert!(refusal(&[]).contains("cut off"));
}

#[test]
fn bin_ext_and_the_reserved_byte_are_refused_by_name() {
    for bytes in [
        &[0xc4, 1, 0][..],
        &[0xc5, 0, 1, 0],
        &[0xc6, 0, 0, 0, 1, 0],
        &[0xd4, 1, 0],
        &[0xd6, 0xff, 0, 0, 0, 1],
        &[0xc7, 1, 5, 0],
        &[0xc1],
    ] {
        let payload = [&[0x81, 0xa1, b'a'], bytes].concat();
        assert!(refusal(&payload).contains("at byte 3: only maps"), "{bytes:x?}");
    }
}

#[test]
fn keys_must_be_text() {
    assert!(refusal(&[0x81, 0x01, 0x01]).contains("the key at byte 1 is not text"));
    assert!(refusal(&[0x81, 0xc4, 0x01, b'v', 0x01]).contains("at byte 1"));
}

#[test]
fn nesting_ends_at_the_limit() {
    let nested = |depth: usize| [vec![0x91; depth - 1], vec![0x90]].concat();
    assert!(check(&nested(32), 32).is_ok());
    assert!(refusal(&nested(33)).contains("nested too deeply at byte 32"));
    assert!(refusal(&vec![0x91; 1 << 20]).contains("nested too deeply"));
}

#[test]
fn nothing_may_follow_the_message() {
    assert!(refusal(&[0x80, 0x00]).contains("1 bytes follow"));
}

#[test]
fn raw_records_are_empty_when_there_are_none() {
    assert_eq!(raw_records(&batch(&[], &[])).unwrap().len(), 0);
    assert_eq!(raw_records(&[0x80]).unwrap().len(), 0);
    assert!(raw_records(b"{\"records\":[]}").is_err());
    assert!(raw_records(b"\x81\xa7records\x05").is_err());
    assert!(raw_records(&[0x90]).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(records) = raw_records(&bytes) {
            prop_assert!(records.flatten().count() <= bytes.len());
        }
    }

    #[test]
    fn a_message_cut_anywhere_is_refused(records in proptest::collection::vec(record(), 0..3), cut in any::<prop::sample::Index>()) {
        let payload = batch(&[], &records);
        prop_assert!(check(&payload, 32).is_ok());
        prop_assert!(check(&payload[..cut.index(payload.len())], 32).is_err());
    }
}
