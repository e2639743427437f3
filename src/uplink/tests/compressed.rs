//! Compressed history, and what a build without zstd makes of it.

use super::*;

const MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

fn compressing() -> Settings {
    Settings { compression: Compression::Zstd, pace: None, ..settings() }
}

fn is_frame(seen: &Seen) -> bool {
    seen.payload.starts_with(MAGIC)
}

#[cfg(not(feature = "zstd"))]
#[test]
fn history_goes_plain_from_a_build_without_zstd() {
    let mut b = Bench::connected(compressing(), backlog(50, 200), Limits::default());
    let batch = b.take_one("h");
    assert!(!is_frame(&batch) && batch.seqs() == (1..=50).collect::<Vec<_>>());
}

#[cfg(feature = "zstd")]
mod with_zstd {
    use super::*;
    use crate::uplink::squeeze::MAX_STORED;
    use crate::wire::raw_records;

    /// One record with a text of `chars` random characters, which hardly get smaller.
    fn noise(seq: u64, chars: usize) -> Chunk {
        let mut rng = Rng::new(seq);
        let mut noise = chunk(seq, 100);
        let mut record: Record = rmp_serde::from_slice(&noise.maps).unwrap();
        let text: String =
            (0..chars).map(|_| char::from_u32(0x10000 + rng.next_u64() as u32 % 0x50000).unwrap()).collect();
        record.fields.insert("x".into(), Value::Str(text));
        let mut maps = Vec::new();
        encode_record(&record, &mut maps);
        noise.maps = maps.into();
        noise
    }

    fn plain(seen: &Seen) -> Vec<u8> {
        zstd::decode_all(&seen.payload[..]).unwrap()
    }

    /// Acknowledges until nothing is pending; what was sent as history.
    fn drain(b: &mut Bench) -> Vec<Seen> {
        let mut sent = Vec::new();
        for _ in 0..1_000 {
            let now: Vec<Seen> = b.seen.drain(..).collect();
            now.iter().for_each(|s| b.ack(s.token, 0));
            sent.extend(now.into_iter().filter(|s| s.topic == "h"));
            if b.uplink.backlog() == 0 {
                return sent;
            }
            b.pass(Duration::from_millis(100));
        }
        panic!("{} records are left", b.uplink.backlog());
    }

    #[test]
    fn a_frame_holds_the_bytes_that_would_have_gone_plain() {
        let chunks = backlog(50, 200);
        let maps: Vec<u8> = chunks.iter().flat_map(|c| c.maps.to_vec()).collect();
        let mut b = Bench::connected(compressing(), chunks, Limits::default());
        let batch = b.take_one("h");
        let bytes = plain(&batch);
        assert!(is_frame(&batch) && bytes.ends_with(&maps));
        assert!(batch.payload.len() * 4 < bytes.len(), "{} of {}", batch.payload.len(), bytes.len());
        assert_eq!(raw_records(&bytes).unwrap().len(), 50);
        assert_eq!((batch.seqs(), batch.content_type), ((1..=50).collect(), "application/vnd.msgpack"));
        let (stored, wire) = (bytes.len(), b.uplink.squeeze.wire(bytes.len()));
        assert!((batch.payload.len()..stored / 2).contains(&wire), "{stored} are expected to weigh {wire}");
        b.ack(batch.token, 0);
        assert_eq!(b.settled(), (1..=50).collect::<Vec<_>>());
    }

    #[test]
    fn json_is_compressed_as_well() {
        let settings = Settings { encoding: Encoding::Json, ..compressing() };
        let mut b = Bench::connected(settings, backlog(50, 200), Limits::default());
        let batch = b.take_one("h");
        assert!(is_frame(&batch) && plain(&batch).starts_with(b"{"));
        assert_eq!(batch.seqs(), (1..=50).collect::<Vec<_>>());
    }

    #[test]
    fn live_is_never_compressed_and_neither_is_what_is_small() {
        let mut b = Bench::connected(compressing(), vec![], Limits::default());
        b.append("cpu", vec![chunk(1, 5_000)]);
        assert!(!is_frame(&b.take_one("m/cpu")));
        let mut b = Bench::connected(compressing(), backlog(1, 80), Limits::default());
        let small = b.take_one("h");
        assert!(!is_frame(&small) && small.payload.len() < 256);
    }

    #[test]
    fn batches_grow_with_what_compression_saves_and_stay_within_limits() {
        let limits = Limits { max_packet: 16 << 10, ..Limits::default() };
        let mut b = Bench::connected(compressing(), backlog(4_000, 400), limits);
        let mut held = 0;
        let mut sent = Vec::new();
        while b.uplink.backlog() > 0 {
            let now: Vec<Seen> = b.seen.drain(..).collect();
            held = held.max(b.uplink.held_bytes());
            assert!(!now.is_empty(), "{} records are left", b.uplink.backlog());
            now.iter().for_each(|s| b.ack(s.token, 0));
            sent.extend(now.into_iter().filter(|s| s.topic == "h"));
        }
        let stored: Vec<usize> = sent.iter().map(|s| plain(s).len()).collect();
        let most = stored.iter().copied().max().unwrap_or_default();
        assert!(most > 64 << 10 && most <= MAX_STORED, "{stored:?}");
        assert!(sent.iter().all(|s| s.payload.len() <= 16 << 10));
        assert!(held <= 2 * MAX_STORED, "{held}");
        assert_eq!(sent.iter().flat_map(Seen::seqs).collect::<Vec<_>>(), (1..=4_000).collect::<Vec<_>>());
    }

    /// The batches promise to be small, and then come values that are not.
    #[test]
    fn a_batch_that_compresses_worse_than_the_last_is_cut_and_not_quarantined() {
        let chunks = (1..=600).map(|seq| if seq <= 300 { chunk(seq, 400) } else { noise(seq, 100) });
        let limits = Limits { max_packet: 16 << 10, ..Limits::default() };
        let mut b = Bench::connected(compressing(), chunks.collect(), limits);
        let sent = drain(&mut b);
        assert!(sent.iter().all(|s| s.payload.len() <= 16 << 10));
        assert_eq!(sent.iter().flat_map(Seen::seqs).collect::<Vec<_>>(), (1..=600).collect::<Vec<_>>());
        assert_eq!(b.uplink.counts().quarantined, 0);
    }

    #[test]
    fn a_value_that_only_fits_compressed_is_sent() {
        let limits = Limits { max_packet: 4 << 10, ..Limits::default() };
        let mut b = Bench::connected(compressing(), vec![chunk(1, 20_000)], limits);
        assert_eq!(b.take_one("h").seqs(), [1]);
        assert_eq!(b.uplink.counts().quarantined, 0);
    }

    #[test]
    fn a_refused_frame_is_halved_until_the_value_is_found() {
        let mut b = Bench::connected(compressing(), backlog(40, 300), Limits::default());
        for _ in 0..200 {
            let now: Vec<Seen> = b.seen.drain(..).collect();
            for seen in now {
                let bad = seen.topic == "h" && seen.seqs().contains(&23);
                b.ack(seen.token, if bad { 0x99 } else { 0 });
            }
            b.pass(Duration::from_secs(1));
        }
        assert_eq!(b.uplink.counts().quarantined, 1);
        assert_eq!(b.settled().len(), 39);
    }
}
