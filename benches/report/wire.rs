//! What a value weighs on the wire: real records of this host, through a real outbox, as the messages that carry them.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdover::clock;
use holdover::outbox::{FileDisk, Options, Outbox};
use holdover::record::Run;
use holdover::uplink::MAX_STORED;
use holdover::wire::{BatchHeader, Chunk, Lane, compress, encode_batch, transcode_json};

use crate::figure::{Figure, Outcome, Section};
use crate::host::{Host, SET, values};
use crate::scratch;

pub const SECTION: Section = Section {
    name: "wire",
    about: "payload bytes per value of the host set's records, live and history, in each encoding",
    run,
};

/// Samples in the largest batch.
const SAMPLES: usize = 60;
/// What a batch holds beside its chunks, at most.
const HEADER: usize = 1 << 10;

fn run(short: bool) -> Outcome {
    let every = if short { Duration::from_millis(20) } else { Duration::from_secs(1) };
    let samples = Samples::take(every)?;
    let mut figures = vec![
        Figure::new("values that differ from the sample before", samples.changed * 100.0, "%")
            .note(format!("{SAMPLES} samples of {} values, one each {every:?}", samples.values / SAMPLES)),
    ];
    let live = samples.messages(Lane::Live, 1);
    figures.extend(of_lane("live", &live, samples.values)?);
    for count in [10, SAMPLES] {
        let history = samples.messages(Lane::History, count);
        figures.extend(of_lane(&format!("history, {count} samples"), &history, samples.values)?);
    }
    Ok(figures)
}

/// The four encodings of the same messages.
fn of_lane(lane: &str, messages: &[Vec<u8>], values: usize) -> Result<Vec<Figure>, Box<dyn Error>> {
    let json = messages.iter().map(|m| transcode_json(m)).collect::<Result<Vec<_>, _>>()?;
    // As the uplink does it, and for live as if it did.
    let packed = |messages: &[Vec<u8>]| -> Vec<_> {
        messages.iter().map(|message| compress(message).unwrap_or_else(|| message.clone())).collect()
    };
    let began = Instant::now();
    let msgpack_zstd = packed(messages);
    let took = began.elapsed() / u32::try_from(messages.len())?;
    let json_zstd = packed(&json);
    let budget = if lane.ends_with(&format!(" {SAMPLES} samples")) { "<= 3.3" } else { "" };
    let figure = |encoding: &str, messages: &[Vec<u8>]| {
        let bytes: usize = messages.iter().map(Vec::len).sum();
        Figure::new(format!("{lane}: {encoding}"), bytes as f64 / values as f64, "B/value")
            .note(format!("{} a message", size(bytes / messages.len())))
    };
    Ok(vec![
        figure("msgpack", messages),
        figure("json", &json),
        figure("msgpack, zstd", &msgpack_zstd).budget(budget),
        figure("json, zstd", &json_zstd),
        Figure::new(format!("{lane}: zstd, time for one of msgpack"), took.as_secs_f64() * 1e6, "us"),
    ])
}

fn size(bytes: usize) -> String {
    if bytes < 10_000 { format!("{bytes} B") } else { format!("{} kB", bytes / 1000) }
}

struct Samples {
    epoch: u64,
    /// Of each sample, of each run.
    chunks: Vec<Vec<Vec<Chunk>>>,
    values: usize,
    /// The share of values that are not those of the sample before.
    changed: f64,
}

impl Samples {
    fn take(every: Duration) -> Result<Self, Box<dyn Error>> {
        let dir = scratch::dir("wire")?;
        let (mut outbox, _) = Outbox::open(Arc::new(FileDisk), Options::new(dir), clock::now())?;
        let mut host = Host::of(&SET)?;
        let mut before = host.pass();
        let mut taken = Self { epoch: outbox.epoch(), chunks: Vec::new(), values: 0, changed: 0.0 };
        let mut changed = 0;
        for _ in 0..SAMPLES {
            std::thread::sleep(every);
            let runs = host.pass();
            let appended = outbox.append(&runs, clock::now())?;
            taken.chunks.push(appended.runs.into_iter().map(|(_, chunks)| chunks).collect());
            taken.values += values(&runs);
            changed += differences(&before, &runs);
            before = runs;
        }
        taken.changed = changed as f64 / taken.values as f64;
        Ok(taken)
    }

    /// Live: one message a run. History: one message for so many samples, or as many as a batch may take.
    fn messages(&self, lane: Lane, samples: usize) -> Vec<Vec<u8>> {
        match lane {
            Lane::Live => self.chunks.iter().flatten().map(|chunks| self.message(lane, chunks)).collect(),
            Lane::History => {
                let flat = |samples: &[Vec<Vec<Chunk>>]| samples.iter().flatten().flatten().cloned().collect();
                let parts = self.chunks.chunks(samples).map(flat).flat_map(batches);
                parts.map(|chunks: Vec<Chunk>| self.message(lane, &chunks)).collect()
            }
        }
    }

    fn message(&self, lane: Lane, chunks: &[Chunk]) -> Vec<u8> {
        let now = clock::now();
        let header = BatchHeader {
            host: "edge-01",
            site: "plant-a",
            epoch: self.epoch,
            context: &chunks[0].context,
            anchor: Some(now.anchor()),
            sent: now.wall_ms,
            lane,
        };
        encode_batch(&header, &[], chunks)
    }
}

/// Cut where the uplink would.
fn batches(chunks: Vec<Chunk>) -> Vec<Vec<Chunk>> {
    let (mut batches, mut bytes) = (vec![Vec::new()], 0);
    for chunk in chunks {
        if bytes + chunk.maps.len() > MAX_STORED - HEADER {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += chunk.maps.len();
        batches.last_mut().expect("there is one from the start").push(chunk);
    }
    batches
}

/// Values of `now` that `before` did not have in the same place.
fn differences(before: &[Run], now: &[Run]) -> usize {
    let points = |runs: &[Run]| runs.iter().flat_map(|run| run.points.clone()).collect::<Vec<_>>();
    let before = points(before);
    let same = |point: &holdover::record::Point| before.iter().find(|b| b.name == point.name && b.tags == point.tags);
    let differ = |point: &holdover::record::Point| {
        let then = same(point).map(|then| &then.fields);
        point.fields.iter().filter(|(field, value)| then.and_then(|then| then.get(*field)) != Some(value)).count()
    };
    points(now).iter().map(differ).sum()
}
