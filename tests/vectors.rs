//! Golden vectors: messages of the wire format, each as MessagePack and as JSON, that never change.
//!
//! The JSON is written by hand; `HOLDOVER_BLESS=1` makes a MessagePack file where there is none yet and never
//! touches one that exists. Our decoder reads both alike, our encoder makes the same bytes, and Python's msgpack agrees.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use holdover::record::ClockContext;
use holdover::wire::{
    Ack, BatchHeader, Chunk, Command as WireCommand, DecodeLimits, Envelope, HubState, Meta, Offline, Payload, Reply,
    Status, compress, decode_envelope, decode_event, decode_payload, encode_batch, encode_payload, encode_record,
    raw_records, schemas, transcode_json,
};
use serde_json::Value as Json;

use crate::schemas::{bless, directory, run};
use crate::support::python;

/// Cases that no agent of this version sends: what must be readable all the same.
const READ_ONLY: &str = "foreign-";
/// The case that is there as zstd frames too.
const FRAMED: &str = "envelope.history-many";

struct Vector {
    /// `{schema}.{case}`
    name: String,
    json: Vec<u8>,
    msgpack: Vec<u8>,
}

impl Vector {
    fn schema(&self) -> &str {
        self.name.split('.').next().unwrap_or_default()
    }

    fn read_only(&self) -> bool {
        self.name.split('.').nth(1).is_some_and(|case| case.starts_with(READ_ONLY))
    }
}

/// The bytes that an agent sends for what `json` says.
fn encode(name: &str, json: &[u8]) -> Vec<u8> {
    if name.contains(READ_ONLY) {
        return rmp_serde::to_vec_named(&parsed(json)).expect("what was JSON can be MessagePack");
    }
    match name.split('.').next().unwrap_or_default() {
        "envelope" | "event" => encode_envelope(&envelope(json)),
        "status" => small::<Status>(json),
        "offline" => small::<Offline>(json),
        "meta" => small::<Meta>(json),
        "cmd" => small::<WireCommand>(json),
        "reply" => small::<Reply>(json),
        "ack" => small::<Ack>(json),
        "hub-state" => small::<HubState>(json),
        other => panic!("{name}: no payload is called {other:?}"),
    }
}

fn small<T: Payload>(json: &[u8]) -> Vec<u8> {
    let payload = decode_payload::<T>(json).expect("a vector is a valid payload");
    rmp_serde::to_vec_named(&payload).expect("payloads are plain")
}

fn parsed(json: &[u8]) -> Json {
    serde_json::from_slice(json).expect("a vector is JSON")
}

fn envelope(bytes: &[u8]) -> Envelope {
    decode_envelope(bytes, &DecodeLimits::default()).expect("a vector is a valid envelope")
}

/// As the agent does: each record on its own, then the batch around their bytes.
fn encode_envelope(envelope: &Envelope) -> Vec<u8> {
    let context = ClockContext { boot: envelope.boot.as_str().into(), synced: envelope.synced };
    let chunks: Vec<_> = envelope
        .records
        .iter()
        .map(|record| {
            let mut maps = Vec::new();
            encode_record(record, &mut maps);
            Chunk { epoch: envelope.epoch, first: record.seq, count: 1, context: context.clone(), maps: maps.into() }
        })
        .collect();
    let header = BatchHeader {
        host: &envelope.host,
        site: &envelope.site,
        epoch: envelope.epoch,
        context: &context,
        anchor: envelope.anchor,
        sent: envelope.sent,
        lane: envelope.lane,
    };
    encode_batch(&header, &envelope.losses, &chunks)
}

fn vectors() -> Vec<Vector> {
    let dir = directory().join("vectors/v1");
    let mut names: Vec<_> = fs::read_dir(&dir)
        .expect("the vectors are part of the repository")
        .map(|entry| entry.expect("a readable directory").file_name().to_string_lossy().into_owned())
        .filter_map(|file| file.strip_suffix(".json").map(str::to_owned))
        .collect();
    names.sort();
    let read = |name: String| {
        let json = fs::read(dir.join(format!("{name}.json"))).expect("just listed");
        let path = dir.join(format!("{name}.msgpack"));
        if bless() && !path.exists() {
            fs::write(&path, encode(&name, &json)).expect("a writable repository");
        }
        let msgpack = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}: HOLDOVER_BLESS=1 makes it", path.display()));
        Vector { name, json, msgpack }
    };
    names.into_iter().map(read).collect()
}

#[test]
fn our_encoder_makes_the_bytes_of_every_vector() {
    for vector in vectors().iter().filter(|v| !v.read_only()) {
        assert_eq!(encode(&vector.name, &vector.json), vector.msgpack, "{}", vector.name);
    }
}

fn same<T: Payload + PartialEq + std::fmt::Debug>(vector: &Vector) {
    let (json, msgpack) = (decode_payload::<T>(&vector.json), decode_payload::<T>(&vector.msgpack));
    let json = json.unwrap_or_else(|e| panic!("{}.json: {e}", vector.name));
    assert_eq!(json, msgpack.unwrap_or_else(|e| panic!("{}.msgpack: {e}", vector.name)), "{}", vector.name);
    if vector.read_only() {
        return;
    }
    assert_eq!(parsed(&encode_payload(&json)), parsed(&vector.json), "{}: what is sent as JSON", vector.name);
}

fn same_envelope(vector: &Vector) {
    let json = envelope(&vector.json);
    assert_eq!(json, envelope(&vector.msgpack), "{}", vector.name);
    assert_eq!(raw_records(&vector.msgpack).map(|raw| raw.len()).ok(), Some(json.records.len()));
    if vector.read_only() {
        return;
    }
    let sent = transcode_json(&vector.msgpack).expect("a vector is a valid envelope");
    assert_eq!(parsed(&sent), parsed(&vector.json), "{}: what is sent as JSON", vector.name);
}

#[test]
fn our_decoder_reads_both_forms_of_every_vector_alike() {
    for vector in &vectors() {
        match vector.schema() {
            "envelope" => same_envelope(vector),
            "event" => {
                same_envelope(vector);
                assert_eq!(decode_event(&vector.msgpack).unwrap(), decode_event(&vector.json).unwrap());
            }
            "status" => same::<Status>(vector),
            "offline" => same::<Offline>(vector),
            "meta" => same::<Meta>(vector),
            "cmd" => same::<WireCommand>(vector),
            "reply" => same::<Reply>(vector),
            "ack" => same::<Ack>(vector),
            "hub-state" => same::<HubState>(vector),
            other => panic!("{}: no payload is called {other:?}", vector.name),
        }
    }
}

/// The frames' own bytes are the encoder's affair and may differ from version to version; what is in them may not.
#[test]
fn our_decoder_reads_a_zstd_frame_of_either_form() {
    for form in ["msgpack", "json"] {
        let path = directory().join(format!("vectors/v1/{FRAMED}.{form}"));
        let plain = fs::read(&path).expect("a vector");
        let framed = path.with_added_extension("zst");
        if bless() && !framed.exists() {
            fs::write(&framed, compress(&plain).expect("it gets smaller")).expect("a writable repository");
        }
        let frame =
            fs::read(&framed).unwrap_or_else(|e| panic!("{}: {e}: HOLDOVER_BLESS=1 makes it", framed.display()));
        assert!(frame.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) && frame.len() < plain.len(), "{}", framed.display());
        assert_eq!(zstd::decode_all(&frame[..]).expect("a frame"), plain, "{}", framed.display());
        assert_eq!(envelope(&frame), envelope(&plain), "{}", framed.display());
        let again = compress(&plain).expect("it gets smaller");
        assert_eq!(zstd::decode_all(&again[..]).expect("a frame"), plain, "what an agent sends");
    }
}

#[test]
fn every_payload_has_a_vector() {
    let mut count: BTreeMap<&str, usize> = schemas().into_iter().map(|(name, _)| (name, 0)).collect();
    let vectors = vectors();
    for vector in &vectors {
        *count.get_mut(vector.schema()).expect("named after a schema") += 1;
    }
    assert!(count.values().all(|n| *n > 0), "{count:?}");
}

#[test]
fn a_foreign_library_reads_every_vector_alike() {
    let checker = directory().join("../tests/tools/check_vectors.py");
    let dir = directory().join("vectors/v1");
    let output =
        run(Command::new(python::with_modules(&["msgpack", "zstandard"])).arg(checker).arg(dir), "Python's msgpack");
    assert_eq!(String::from_utf8_lossy(&output).trim(), format!("{} vectors agree", vectors().len()));
}
