//! Damaged, foreign, newer and missing files: what is published is what was stored, or nothing.

use std::path::Path;
use std::sync::Arc;

use super::crash::path_of;
use super::crash_disk::{Rng, SimDisk};
use super::*;
use crate::wire::Chunk;

fn sim() -> Options {
    Options { max_bytes: 8 << 20, segment_bytes: Some(128 << 10), ..Options::new("/outbox") }
}

pub(super) fn open_on(disk: &SimDisk) -> (Outbox, Opened) {
    Outbox::open(Arc::new(disk.clone()), sim(), at(9)).unwrap()
}

/// A disk with some sealed segments and an active one, closed, and what is stored in it.
pub(super) fn filled() -> (SimDisk, Vec<Chunk>) {
    let disk = SimDisk::new();
    let (mut outbox, _) = open_on(&disk);
    let mut chunks = Vec::new();
    for i in 0..60 {
        let appended = outbox.append(&[run(1 + i % 5, 300 + 40 * i)], at(1)).unwrap();
        chunks.extend(appended.runs.into_iter().flat_map(|(_, chunks)| chunks));
    }
    assert!(outbox.stats().segments > 3, "{:?}", outbox.stats());
    outbox.close(at(2));
    (disk, chunks)
}

/// Everything pending, loaded to the end; and what the outbox says is lost.
pub(super) fn read_all(outbox: &mut Outbox) -> (Vec<Chunk>, Vec<Loss>) {
    let mut chunks = Vec::new();
    for view in outbox.epochs() {
        for range in view.pending.iter() {
            let mut from = *range.start();
            while from <= *range.end() {
                let loaded = outbox.load(view.epoch, from..=*range.end(), 1 << 20, at(10));
                assert_eq!(loaded.failed, None);
                let Some(last) = loaded.chunks.last() else { break };
                from = last.last() + 1;
                chunks.extend(loaded.chunks);
            }
        }
    }
    (chunks, outbox.losses().to_vec())
}

/// Every stored chunk came back the same or is declared, nothing else came back.
pub(super) fn check(stored: &[Chunk], outbox: &mut Outbox) -> (usize, u64) {
    let (found, losses) = read_all(outbox);
    for chunk in &found {
        assert!(stored.contains(chunk), "seqs {:?} of epoch {} are not what was stored", chunk.seqs(), chunk.epoch);
    }
    let mut lost = 0;
    for chunk in stored.iter().filter(|chunk| !found.contains(chunk)) {
        for seq in chunk.seqs() {
            let covered = |l: &Loss| l.epoch == chunk.epoch && l.from <= seq && l.to.is_none_or(|to| seq <= to);
            assert!(losses.iter().any(covered), "seq {seq} is gone without a word: {losses:?}");
            lost += 1;
        }
    }
    for identity in outbox.identity() {
        assert!(identity.holds(), "{identity:?}");
    }
    (found.len(), lost)
}

#[test]
fn no_bit_flip_is_ever_published() {
    let (disk, stored) = filled();
    let first = super::crash::seed();
    let mut rng = Rng(first | 1);
    let (mut lost, mut told) = (0, 0);
    for _ in 0..400 {
        let damaged = disk.killed();
        let victim = {
            let mut files = Vec::new();
            let segment = path_of(&damaged, |name| {
                if name.ends_with(".seg") {
                    files.push(name.to_owned());
                }
                false
            });
            assert_eq!(segment, None);
            let name = files[rng.below(files.len() as u64) as usize].clone();
            path_of(&damaged, move |n| n == name).unwrap()
        };
        damaged.world().edit(&victim, |bytes| {
            let bit = rng.below(bytes.len() as u64 * 8);
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        });
        let (mut outbox, opened) = open_on(&damaged);
        let (_, gone) = check(&stored, &mut outbox);
        lost += gone;
        told += u64::from(gone > 0);
        let last = stored.iter().filter(|c| c.epoch == opened.epoch).map(Chunk::last).max().unwrap_or(0);
        let appended = outbox.append(&[run(1, 5)], at(11)).unwrap();
        assert!(appended.next_seq > last + 1, "seq reused after a flip in {}", victim.display());
    }
    eprintln!("400 flips: {told} cost records, {lost} in all; HOLDOVER_SEED={first}");
}

#[test]
fn no_flip_in_the_root_of_a_killed_outbox_makes_it_use_a_seq_again() {
    let disk = SimDisk::new();
    let (mut outbox, opened) = open_on(&disk);
    let mut last = 0;
    for i in 0..12 {
        last = outbox.append(&[run(1 + i % 3, 100 + 90 * i)], at(1)).unwrap().next_seq - 1;
    }
    let killed = disk.killed();
    drop(outbox);
    let newest = path_of(&killed, |name| name.ends_with(".seg") && !name.contains('-')).unwrap();
    // Where redb keeps which root is the newest: it falls back to an older one without a word.
    for bit in 0..320 * 8 {
        let damaged = killed.killed();
        damaged.world().edit(&newest, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let (mut outbox, found) = open_on(&damaged);
        let appended = outbox.append(&[run(1, 5)], at(11)).unwrap();
        let anew = found.epoch != opened.epoch;
        assert!(anew || appended.next_seq > last + 1, "bit {bit}: {found:?}");
    }
}

#[test]
fn truncated_emptied_and_overwritten_segments_cost_only_what_they_held() {
    let (disk, stored) = filled();
    let all = stored.len();
    let newest = path_of(&disk, |name| name.ends_with(".seg") && !name.contains('-')).unwrap();
    let sealed = path_of(&disk, |name| name.ends_with(".seg") && name.contains('-')).unwrap();
    for victim in [&newest, &sealed] {
        for damage in 0..4 {
            let damaged = disk.killed();
            damaged.world().edit(victim, |bytes| match damage {
                0 => bytes.clear(),
                1 => bytes.truncate(bytes.len() / 2),
                2 => bytes.fill(0),
                _ => *bytes = b"#!/bin/sh\necho not an outbox\n".repeat(3000),
            });
            let (mut outbox, opened) = open_on(&damaged);
            let (found, lost) = check(&stored, &mut outbox);
            assert!(found < all && lost > 0, "{damage} of {}", victim.display());
            assert_eq!(opened.epoch == stored[0].epoch, victim == &sealed, "a damaged end begins a new epoch");
            if damage == 1 {
                assert!(found > all / 2, "what the checksums prove is still sent");
            }
        }
    }
}

#[test]
fn each_damaged_file_is_said_to_have_cost_what_it_held() {
    let (disk, _) = filled();
    let (mut outbox, opened) = open_on(&disk);
    let victims: Vec<_> = outbox.epochs[0].segments.iter().map(|(first, file)| (*first, file.path.clone())).collect();
    let mut expected = Vec::new();
    for pair in victims[..3].windows(2) {
        let ((first, path), (next, _)) = (&pair[0], &pair[1]);
        disk.world().edit(path, |bytes| bytes.fill(0));
        expected.push(format!("{}: {}", path.with_extension("corrupt").display(), next - first));
    }
    // One load passes over both.
    assert_eq!(outbox.load(opened.epoch, 1..=victims[2].0, 1, at(10)).chunks[0].first, victims[2].0);
    let problems = outbox.take_problems();
    let said = problems.iter().map(|line| {
        let (path, rest) = line.split_once(" is damaged (").unwrap();
        let (_, rest) = rest.split_once("): ").unwrap();
        format!("{path}: {}", rest.split_once(" records declared lost").unwrap().0)
    });
    assert_eq!(said.collect::<Vec<_>>(), expected);
}

#[test]
fn a_deleted_segment_is_declared_and_a_deleted_end_begins_a_new_epoch() {
    let (disk, stored) = filled();
    let newest = path_of(&disk, |name| name.ends_with(".seg") && !name.contains('-')).unwrap();
    let sealed = path_of(&disk, |name| name.ends_with(".seg") && name.contains('-')).unwrap();
    for victim in [&newest, &sealed] {
        let damaged = disk.killed();
        damaged.unlink(victim).unwrap();
        let (mut outbox, opened) = open_on(&damaged);
        check(&stored, &mut outbox);
        assert!(opened.losses.iter().any(|l| l.reason == LossReason::Corrupt), "{:?}", opened.losses);
        assert_eq!(opened.epoch == stored[0].epoch, victim == &sealed);
        assert!(!opened.problems.is_empty());
    }
}

#[test]
fn losing_the_state_file_costs_duplicates_only() {
    let (disk, stored) = filled();
    let (mut outbox, _) = open_on(&disk);
    outbox.settle(stored[0].epoch, &RangeSet::from_iter([1..=20]));
    outbox.close(at(10));
    for damage in 0..3 {
        let damaged = disk.killed();
        let state = Path::new("/outbox").join(names::STATE);
        match damage {
            0 => damaged.unlink(&state).unwrap(),
            1 => damaged.world().edit(&state, Vec::clear),
            _ => damaged.world().edit(&state, |bytes| bytes[4096..].fill(0xA5)),
        }
        let (mut outbox, opened) = open_on(&damaged);
        assert_eq!(opened.epoch, stored[0].epoch);
        assert_eq!(opened.losses, []);
        assert_eq!(check(&stored, &mut outbox), (stored.len(), 0));
        assert_eq!(opened.problems.is_empty(), damage == 0, "{:?}", opened.problems);
    }
}

#[test]
fn a_cloned_disk_begins_a_new_epoch_and_drains_the_old_one() {
    let (disk, stored) = filled();
    let opened_with = |disk: &SimDisk, fingerprint: &str| {
        let options = Options { fingerprint: fingerprint.into(), ..sim() };
        Outbox::open(Arc::new(disk.clone()), options, at(9)).unwrap()
    };
    let (mut outbox, first) = opened_with(&disk, "board-a");
    assert_eq!(first.epoch, stored[0].epoch, "an epoch of unknown hardware is continued");
    outbox.append(&[run(1, 5)], at(9)).unwrap();
    outbox.close(at(9));
    let fresh = SimDisk::new();
    let (mut outbox, first) = opened_with(&fresh, "board-a");
    let kept = outbox.append(&[run(3, 5)], at(9)).unwrap();
    outbox.close(at(9));
    let (outbox, same) = opened_with(&fresh, "board-a");
    assert_eq!(same.epoch, first.epoch);
    drop(outbox);
    let (mut outbox, cloned) = opened_with(&fresh, "board-b");
    assert_ne!(cloned.epoch, first.epoch);
    assert_eq!(cloned.epochs.last().unwrap().prev, Some(first.epoch));
    assert_eq!(check(&kept.runs[0].1, &mut outbox), (1, 0));
}

#[test]
fn newer_and_foreign_files_are_left_alone_and_named() {
    let (disk, stored) = filled();
    let root = Path::new("/outbox");
    let foreign = [root.join("README"), root.join("v7-000009-12/data"), root.join("v7-000009-12").join("x.seg")];
    disk.make_dir(&root.join("v7-000009-12")).unwrap();
    for path in &foreign {
        disk.create(path).unwrap().write(0, b"not yours").unwrap();
    }
    let inside = path_of(&disk, |name| name.ends_with(".seg")).unwrap().with_file_name("notes.txt");
    disk.create(&inside).unwrap().write(0, b"not yours").unwrap();
    let (mut outbox, opened) = open_on(&disk);
    assert_ne!(opened.epoch, stored[0].epoch, "a newer version appended since: a new epoch, beside it");
    assert_eq!(check(&stored, &mut outbox), (stored.len(), 0));
    for name in ["README", "v7-000009-12", "notes.txt"] {
        assert!(opened.problems.iter().any(|p| p.contains(name)), "{name}: {:?}", opened.problems);
    }
    for path in foreign.iter().chain([&inside]) {
        let mut bytes = [0; 9];
        disk.open(path, false).unwrap().read(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"not yours");
    }
}

#[test]
fn an_outbox_put_back_from_a_backup_begins_a_new_epoch() {
    let (disk, stored) = filled();
    let backup = disk.killed();
    let (mut outbox, _) = open_on(&disk);
    outbox.append(&[run(5, 5)], at(9)).unwrap();
    outbox.close(at(9));
    // Only the segments were put back: the state knows of later seqs.
    let epoch_dir = path_of(&backup, |name| name.ends_with(".seg") && !name.contains('-')).unwrap();
    let state = Path::new("/outbox").join(names::STATE);
    let newer = {
        let file = disk.open(&state, false).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read(0, &mut bytes).unwrap();
        bytes
    };
    backup.world().edit(&state, |bytes| *bytes = newer);
    let (mut outbox, opened) = open_on(&backup);
    assert_ne!(opened.epoch, stored[0].epoch, "{}", epoch_dir.display());
    assert_eq!(check(&stored, &mut outbox), (stored.len(), 0));
    assert!(opened.losses.iter().any(|l| l.to.is_none()), "{:?}", opened.losses);
}

#[test]
fn a_disk_that_cannot_be_read_is_asked_again_and_then_given_up() {
    let (disk, stored) = filled();
    let (mut outbox, opened) = open_on(&disk);
    disk.world().unreadable = true;
    let mut refused = 0;
    let losses = loop {
        let loaded = outbox.load(opened.epoch, 1..=3, 1000, at(10));
        match loaded.failed {
            Some(_) => refused += 1,
            None => break loaded.losses,
        }
        assert!(refused < 20);
    };
    assert!(refused >= 3 && !losses.is_empty(), "{refused} {losses:?}");
    disk.world().unreadable = false;
    check(&stored, &mut outbox);
}
