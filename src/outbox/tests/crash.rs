//! Crashes at every sync point, on a disk that loses, reorders and tears what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::crash_disk::{Rng, SimDisk};
use super::*;
use crate::wire::Chunk;

/// What the world outside knows: the judge of every crash.
#[derive(Clone, Default)]
struct Oracle {
    /// Records by epoch and first seq of their chunk, from appends that returned Ok.
    stored: BTreeMap<(u64, u64), Chunk>,
    settled: BTreeSet<(u64, u64)>,
    /// Losses the outbox told of before the crash, and that were confirmed.
    told: Vec<Loss>,
    now: u64,
}

impl Oracle {
    fn is_covered(&self, losses: &[Loss], epoch: u64, seq: u64) -> bool {
        losses.iter().chain(&self.told).any(|l| l.epoch == epoch && l.from <= seq && l.to.is_none_or(|to| seq <= to))
    }

    /// Reopens the disk as it is and says everything that is wrong.
    fn judge(&self, disk: &SimDisk, options: &Options) -> Vec<String> {
        let mut wrong = Vec::new();
        let (mut outbox, opened) = match Outbox::open(Arc::new(disk.clone()), options.clone(), at(self.now + 1)) {
            Ok(opened) => opened,
            Err(error) => return vec![format!("does not open: {error}")],
        };
        let mut found: BTreeMap<(u64, u64), Chunk> = BTreeMap::new();
        for view in &opened.epochs {
            for range in view.pending.iter() {
                let mut from = *range.start();
                while from <= *range.end() {
                    let loaded = outbox.load(view.epoch, from..=*range.end(), 1 << 20, at(self.now + 1));
                    let Some(last) = loaded.chunks.last() else { break };
                    from = last.last() + 1;
                    found.extend(loaded.chunks.into_iter().map(|c| ((c.epoch, c.first), c)));
                }
            }
        }
        let losses = outbox.losses().to_vec();
        for (key, chunk) in &self.stored {
            match found.get(key) {
                Some(same) if same == chunk => {}
                Some(other) => wrong.push(format!("{key:?} came back as other bytes ({} records)", other.count)),
                None if self.settled.contains(key) => {}
                None => {
                    let silent = chunk.seqs().filter(|seq| !self.is_covered(&losses, key.0, *seq)).count();
                    if silent > 0 {
                        wrong.push(format!(
                            "{silent} of {:?} of epoch {} are gone without a word",
                            chunk.seqs(),
                            key.0
                        ));
                    }
                }
            }
        }
        // This disk keeps what it synced: nothing stored may be called damaged or missing, delivered or not.
        for loss in losses.iter().filter(|l| l.reason == LossReason::Corrupt) {
            let meets =
                |c: &&Chunk| c.epoch == loss.epoch && loss.from <= c.last() && loss.to.is_none_or(|to| c.first <= to);
            if self.stored.values().any(|c| meets(&c)) {
                wrong.push(format!("declared without need: {loss:?}"));
            }
        }
        let last = self.stored.values().filter(|c| c.epoch == opened.epoch).map(Chunk::last).max().unwrap_or(0);
        for ((epoch, first), _) in found.iter().filter(|(key, _)| !self.stored.contains_key(key)) {
            if *epoch == opened.epoch && *first <= last {
                wrong.push(format!("seq {first} holds records never acknowledged, below {last}"));
            }
        }
        if opened.next_seq <= last {
            wrong.push(format!("next seq {} is not beyond {last}", opened.next_seq));
        }
        if !wrong.is_empty() {
            let files: Vec<String> = opened.epochs.iter().map(|e| format!("{e:?}")).collect();
            wrong.push(format!("opened: problems {:?}, epochs {files:?}, losses {losses:?}", opened.problems));
        }
        wrong.extend(outbox.identity().iter().filter(|i| !i.holds()).map(|i| format!("{i:?} does not add up")));
        match outbox.append(&[run(2, 20)], at(self.now + 2)) {
            Ok(appended) if appended.next_seq == opened.next_seq + 2 || opened.next_seq == 1 => {}
            other => wrong.push(format!("cannot go on: {other:?}")),
        }
        wrong
    }
}

fn small(seed: u64) -> Options {
    let counter = AtomicU64::new(seed % 1000 * 1000);
    Options {
        max_bytes: 768 << 10,
        segment_bytes: Some(96 << 10),
        save_every: Duration::from_secs(3),
        new_epoch: Arc::new(move || 1 + counter.fetch_add(1, Ordering::Relaxed)),
        ..Options::new("/outbox")
    }
}

/// Appends, settles, maintains and reopens at random; every append is told to the oracle.
fn live(disk: &SimDisk, options: &Options, oracle: &Mutex<Oracle>, rng: &mut Rng, steps: u64) {
    let open = |now| Outbox::open(Arc::new(disk.clone()), options.clone(), at(now)).unwrap().0;
    let mut outbox = open(0);
    for step in 1..=steps {
        oracle.lock().unwrap().now = step;
        match rng.below(12) {
            0..=6 => {
                let runs: Vec<Run> =
                    (0..1 + rng.below(3)).map(|_| run(1 + rng.below(6) as usize, rng.below(3000) as usize)).collect();
                let appended = outbox.append(&runs, at(step)).unwrap();
                let chunks = appended.runs.into_iter().flat_map(|(_, chunks)| chunks);
                oracle.lock().unwrap().stored.extend(chunks.map(|c| ((c.epoch, c.first), c)));
            }
            7..=8 => {
                let some: Vec<_> = oracle.lock().unwrap().stored.keys().copied().filter(|_| rng.one_in(3)).collect();
                for key in some {
                    let chunk = oracle.lock().unwrap().stored[&key].clone();
                    outbox.settle(key.0, &RangeSet::from_iter([chunk.seqs()]));
                    oracle.lock().unwrap().settled.insert(key);
                }
            }
            9 => {
                let losses = outbox.losses().to_vec();
                // Told to the other side before the outbox hears of it.
                oracle.lock().unwrap().told.extend(losses.clone());
                outbox.settle_losses(&losses);
            }
            10 => drop(outbox.maintain(at(step))),
            _ if rng.one_in(2) => {
                outbox.close(at(step));
                outbox = open(step);
            }
            _ => {
                drop(outbox);
                outbox = open(step);
            }
        }
        assert!(outbox.identity().iter().all(Identity::holds), "{:?}", outbox.identity());
    }
}

/// Runs one life, and judges some crash images before every sync. Returns (images, complaints).
fn crash_everywhere(seed: u64, steps: u64, images: u64, ignores_sync: bool) -> (u64, Vec<String>) {
    let disk = SimDisk::new();
    disk.world().ignores_sync = ignores_sync;
    let oracle = Arc::new(Mutex::new(Oracle::default()));
    let judged = Arc::new(AtomicU64::new(0));
    let complaints: Arc<Mutex<Vec<String>>> = Arc::default();
    let (known, count, said) = (Arc::clone(&oracle), Arc::clone(&judged), Arc::clone(&complaints));
    let options = small(seed);
    let fresh = small(seed + 500);
    let chance = Mutex::new(Rng(seed | 1));
    disk.on_sync(move |world| {
        let oracle = known.lock().unwrap().clone();
        for _ in 0..images {
            let mut rng = Rng(chance.lock().unwrap().next() | 1);
            let image = world.crash(&mut rng);
            count.fetch_add(1, Ordering::Relaxed);
            let mut wrong = oracle.judge(&image, &fresh);
            if rng.one_in(4) {
                // Once more, while it recovers: the image of the image.
                let again = image.world().crash(&mut rng);
                count.fetch_add(1, Ordering::Relaxed);
                wrong.extend(oracle.judge(&again, &fresh));
            }
            let sync = world.syncs;
            said.lock().unwrap().extend(wrong.into_iter().map(|w| format!("seed {seed}, sync {sync}: {w}")));
        }
    });
    live(&disk, &options, &oracle, &mut Rng(seed.wrapping_mul(77) | 1), steps);
    let complaints = complaints.lock().unwrap().clone();
    (judged.load(Ordering::Relaxed), complaints)
}

pub(super) fn seed() -> u64 {
    let seed = std::env::var("HOLDOVER_SEED").ok().and_then(|s| s.parse().ok());
    seed.unwrap_or_else(|| random_epoch() % 1_000_000)
}

/// About 900 crash states each. `HOLDOVER_CRASH_SEEDS=n` asks for more.
const SEEDS: u64 = 23;

#[test]
fn no_crash_at_any_sync_point_loses_a_record_silently() {
    let first = seed();
    let count = std::env::var("HOLDOVER_CRASH_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(SEEDS);
    let part = |part: u64| {
        let (mut total, mut wrong) = (0, Vec::new());
        for seed in (first..first + count).filter(|seed| seed % 2 == part) {
            let (judged, complaints) = crash_everywhere(seed, 90, 2, false);
            total += judged;
            wrong.extend(complaints);
        }
        (total, wrong)
    };
    let ((total, mut wrong), (more, others)) = std::thread::scope(|scope| {
        let other = scope.spawn(|| part(1));
        (part(0), other.join().expect("a panic is a failure"))
    });
    wrong.extend(others);
    eprintln!("{} crash states judged, HOLDOVER_SEED={first}", total + more);
    assert!(
        wrong.is_empty(),
        "HOLDOVER_SEED={first}: {} complaints\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    assert!(total + more > count * 600, "only {} crash states from {count} seeds", total + more);
}

#[test]
fn a_disk_that_ignores_syncs_is_caught_losing() {
    let (judged, complaints) = crash_everywhere(seed(), 20, 1, true);
    println!("{judged} crash states judged, {} complaints", complaints.len());
    assert!(complaints.len() > 5, "the judge must notice: {complaints:?}");
}

pub(super) fn path_of(disk: &SimDisk, mut name: impl FnMut(&str) -> bool) -> Option<PathBuf> {
    let root = Path::new("/outbox");
    for entry in disk.list(root).unwrap() {
        let at = root.join(&entry.name);
        if !entry.is_dir && name(&entry.name) {
            return Some(at);
        }
        let inside = if entry.is_dir { disk.list(&at).unwrap() } else { Vec::new() };
        if let Some(found) = inside.iter().find(|e| name(&e.name)) {
            return Some(at.join(&found.name));
        }
    }
    None
}
