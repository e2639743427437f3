//! Sealed segments read by their checksums alone: when that is done, that it reads what the tree would, and what damage
//! makes of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::crash::path_of;
use super::crash_disk::SimDisk;
use super::damage::{check, filled, open_on, read_all};
use super::segment::{Active, Batch, Item, Meta, Query, Sealed};
use super::value::{self, Burn};
use super::*;
use crate::wire::Chunk;

const EPOCH: u64 = 7;
pub(super) const FIRST: u64 = 1000;
const CACHE: usize = 256 << 10;

fn path() -> PathBuf {
    PathBuf::from("/outbox/segment")
}

/// One value to be.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Records { count: u32, boot: u8, text: Text },
    Burn(u64),
}

#[derive(Clone, Debug)]
pub(super) enum Text {
    Plain(Vec<u8>),
    /// Has in it a whole value of this epoch, of so many records so far from the segment's first.
    Value {
        first: u64,
        count: u32,
        around: usize,
    },
}

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..700).prop_map(Text::Plain),
        2 => (any::<u8>(), 3000..15_000usize).prop_map(|(byte, len)| Text::Plain(vec![byte; len])),
        2 => (0..60u64, 1..4u32, 0..400usize).prop_map(|(first, count, around)| Text::Value { first, count, around }),
        1 => Just(Text::Plain(b"Hoc\x01Hob\x01H".repeat(9))),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        9 => (1..5u32, 0..3u8, text()).prop_map(|(count, boot, text)| Part::Records { count, boot, text }),
        1 => (1..9u64).prop_map(Part::Burn),
    ]
}

fn commits() -> impl Strategy<Value = Vec<Vec<Part>>> {
    proptest::collection::vec(proptest::collection::vec(part(), 1..8), 1..25)
}

pub(super) fn chunk(first: u64, count: u32, boot: u8, maps: &[u8]) -> Chunk {
    let context = ClockContext { boot: Arc::from(format!("boot-{boot}")), synced: boot > 0 };
    Chunk { epoch: EPOCH, first, count, context, maps: maps.to_vec().into() }
}

/// A value that says something else of these seqs than what is stored.
fn lie(first: u64, count: u32) -> Vec<u8> {
    value::encode_chunk(&chunk(first, count, 1, b"a lie"), Times { t0: 1, t1: 2 })
}

impl Text {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Plain(bytes) => bytes.clone(),
            Self::Value { first, count, around } => {
                let around = vec![b'H'; *around];
                [&around[..], &lie(FIRST + first, *count), &around[..]].concat()
            }
        }
    }
}

/// A segment on a disk of its own, and what was committed to it.
pub(super) struct Segment {
    disk: SimDisk,
    active: Option<Active>,
    pub(super) items: Vec<Item>,
    next: u64,
}

impl Segment {
    fn new() -> Self {
        let disk = SimDisk::new();
        disk.make_dir(Path::new("/outbox")).unwrap();
        let meta = Meta { format: 1, epoch: EPOCH, first: FIRST, prev: None, created: 1, fingerprint: String::new() };
        let active = Active::create(&disk, Path::new("/outbox"), &meta, &Batch::default(), CACHE).unwrap();
        disk.rename(active.path(), &path()).unwrap();
        Self { disk, active: Some(active), items: Vec::new(), next: FIRST }
    }

    pub(super) fn with(commits: &[Vec<Part>]) -> Self {
        let mut segment = Self::new();
        commits.iter().for_each(|parts| assert!(segment.commit(parts)));
        segment
    }

    /// Whether it worked; if not, nothing was committed as far as anyone was told.
    fn commit(&mut self, parts: &[Part]) -> bool {
        let (mut batch, mut items, mut next) = (Batch::default(), Vec::new(), self.next);
        for part in parts {
            match part {
                Part::Records { count, boot, text } => {
                    let (chunk, times) = (chunk(next, *count, *boot, &text.bytes()), Times { t0: next as i64, t1: 9 });
                    batch.chunks.push((next, value::encode_chunk(&chunk, times)));
                    items.push(Item::Chunk(chunk, times));
                }
                Part::Burn(count) => {
                    let burn =
                        Burn { first: next, count: *count, reason: LossReason::Memory, times: Times { t0: 3, t1: 4 } };
                    batch.burns.push((next, value::encode_burn(EPOCH, &burn)));
                    items.push(Item::Burn(burn));
                }
            }
            next = items.last().map_or(next, Item::last) + 1;
        }
        let done = self.active.as_mut().unwrap().commit(&batch).is_ok();
        if done {
            self.items.extend(items);
            self.next = next;
        }
        done
    }

    pub(super) fn seal(&mut self) {
        self.active = None;
    }

    pub(super) fn seqs(&self) -> RangeInclusive<u64> {
        FIRST..=self.next - 1
    }

    /// Opened as the outbox opens a sealed segment.
    pub(super) fn open(&self) -> Result<Sealed, fault::Fault> {
        Sealed::open_proven(&self.disk, &path(), CACHE, EPOCH, self.seqs())
    }

    fn is_proven(&self) -> bool {
        matches!(self.open(), Ok(Sealed::Raw(_)))
    }

    pub(super) fn edit(&self, edit: impl FnOnce(&mut Vec<u8>)) {
        self.disk.world().edit(&path(), edit);
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.edit(|file| bytes.clone_from(file));
        bytes
    }
}

/// All of it, from one end to the other: a read may stop before a burn.
fn read_through(sealed: &mut Sealed, seqs: RangeInclusive<u64>) -> Result<Vec<Item>, fault::Fault> {
    let (mut items, mut from) = (Vec::new(), *seqs.start());
    while from <= *seqs.end() {
        let more = sealed.read(&all(from..=*seqs.end()))?;
        let Some(last) = more.last().map(Item::last) else { break };
        items.extend(more);
        from = last + 1;
    }
    Ok(items)
}

/// Puts it where redb has put nothing.
fn hide(bytes: &mut [u8], value: &[u8]) {
    let at = bytes.windows(value.len() + 16).rposition(|free| free.iter().all(|byte| *byte == 0)).unwrap();
    bytes[at + 8..at + 8 + value.len()].copy_from_slice(value);
}

pub(super) fn all(seqs: RangeInclusive<u64>) -> Query {
    Query { epoch: EPOCH, from: *seqs.start(), to: *seqs.end(), max_bytes: usize::MAX }
}

pub(super) fn plain(count: u32, len: usize) -> Part {
    Part::Records { count, boot: 1, text: Text::Plain((0..len).map(|i| (i * 31 % 251) as u8).collect()) }
}

/// Where a value lies, wherever redb put it and as often as it did.
pub(super) fn places(bytes: &[u8], value: &[u8]) -> Vec<usize> {
    (0..bytes.len().saturating_sub(value.len())).filter(|at| bytes[*at..].starts_with(value)).collect()
}

pub(super) fn stored(item: &Item) -> Vec<u8> {
    match item {
        Item::Chunk(chunk, times) => value::encode_chunk(chunk, *times),
        Item::Burn(burn) => value::encode_burn(EPOCH, burn),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sound_segment_is_proven_and_reads_as_its_tree_does(
        commits in commits(),
        failing in proptest::option::of((proptest::collection::vec(part(), 1..8), 0..9u64)),
        queries in proptest::collection::vec((0..90u64, 0..40u64, 0..30_000usize), 1..20),
    ) {
        let mut segment = Segment::with(&commits);
        if let Some((parts, after)) = failing {
            // It may be there in full and yet nobody was told: what begins beyond the end is void.
            segment.disk.fail(after, u64::MAX, std::io::ErrorKind::Other);
            let (items, next) = (segment.items.clone(), segment.next);
            segment.commit(&parts);
            (segment.items, segment.next) = (items, next);
            segment.disk.world().failure = None;
        }
        segment.seal();
        let mut proven = segment.open().unwrap();
        prop_assert!(matches!(proven, Sealed::Raw(_)), "the tree was needed");
        let mut tree = Sealed::open(&segment.disk, &path(), CACHE).unwrap();
        prop_assert!(matches!(tree, Sealed::Tree(_)));
        prop_assert_eq!(&read_through(&mut proven, segment.seqs()).unwrap(), &segment.items);
        for (from, len, max_bytes) in queries {
            let from = FIRST + from.min(segment.next - 1 - FIRST);
            let query = Query { epoch: EPOCH, from, to: (from + len).min(segment.next - 1), max_bytes };
            prop_assert_eq!(proven.read(&query).unwrap(), tree.read(&query).unwrap(), "{:?}", query);
        }
    }

    #[test]
    fn whatever_happens_to_its_bytes_a_proven_segment_is_what_was_stored(
        commits in commits(),
        hits in proptest::collection::vec((any::<u64>(), 0..5u8, 1..9000usize), 1..4),
    ) {
        let mut segment = Segment::with(&commits);
        segment.seal();
        segment.edit(|bytes| {
            for (at, kind, len) in hits {
                let at = (at % bytes.len() as u64) as usize;
                let end = (at + len).min(bytes.len());
                match kind {
                    0 => bytes[at] ^= 1 << (len % 8),
                    1 => bytes[at..end].fill(0),
                    2 => bytes.truncate(at + 1),
                    // A piece of it where another was: redb does so when it reuses a page.
                    3 => bytes.copy_within(at..end, 0),
                    _ => bytes.copy_within(0..end - at, at),
                }
            }
        });
        if let Ok(mut proven @ Sealed::Raw(_)) = segment.open() {
            prop_assert_eq!(read_through(&mut proven, segment.seqs()).unwrap(), segment.items);
        }
    }
}

#[test]
fn the_outbox_reads_its_sealed_segments_without_their_trees() {
    let (disk, stored) = filled();
    let (mut outbox, opened) = open_on(&disk);
    let mut sealed = 0;
    for first in outbox.epochs[0].segments.keys().copied().collect::<Vec<_>>() {
        if outbox.epochs[0].seqs_of(first).is_empty() {
            continue;
        }
        let loaded = outbox.load(opened.epoch, first..=first, 1, at(10));
        assert_eq!(loaded.chunks[0].first, first);
        if let Some(open) = outbox.readers.iter().find(|reader| reader.first == first) {
            assert!(matches!(open.sealed, Sealed::Raw(_)), "segment {first}");
            sealed += 1;
        }
    }
    assert!(sealed > 3, "{sealed}");
    assert_eq!(check(&stored, &mut outbox), (stored.len(), 0));
}

#[test]
fn a_value_whose_every_copy_is_damaged_costs_itself_alone() {
    let mut segment =
        Segment::with(&[vec![plain(2, 900), plain(3, 700)], vec![plain(1, 800), Part::Burn(4), plain(2, 60)]]);
    segment.seal();
    assert!(segment.is_proven());
    for victim in segment.items.clone() {
        let sound = segment.bytes();
        let value = stored(&victim);
        for at in places(&sound, &value) {
            segment.edit(|bytes| bytes[at + value.len() - 1] ^= 4);
        }
        assert!(!segment.is_proven(), "{victim:?}");
        // redb sees it too, and then the values that are left are what is read: as before there was a quick way.
        assert!(matches!(segment.open(), Err(fault::Fault::Damaged(_))));
        let mut rest = Sealed::open_raw(&segment.disk, &path(), EPOCH, FIRST).unwrap();
        let left: Vec<Item> = segment.items.iter().filter(|item| **item != victim).cloned().collect();
        assert_eq!(read_through(&mut rest, segment.seqs()).unwrap(), left);
        segment.edit(|bytes| *bytes = sound);
    }
}

#[test]
fn one_good_copy_of_a_value_is_enough() {
    let mut segment = Segment::with(&[vec![plain(1, 500), plain(2, 700)], vec![plain(1, 300)]]);
    segment.seal();
    // As redb leaves them behind when it writes a page anew.
    let copied = stored(&segment.items[1]);
    segment.edit(|bytes| hide(bytes, &copied));
    segment.edit(|bytes| hide(bytes, &copied));
    let sound = segment.bytes();
    let copies = places(&sound, &copied);
    assert!(copies.len() > 2);
    for spared in 0..copies.len() {
        for (_, at) in copies.iter().enumerate().filter(|(i, _)| *i != spared) {
            segment.edit(|bytes| bytes[at + 70] ^= 1);
        }
        assert!(segment.is_proven());
        assert_eq!(segment.open().unwrap().read(&all(segment.seqs())).unwrap(), segment.items);
        segment.edit(|bytes| bytes.clone_from(&sound));
    }
}

#[test]
fn a_damaged_tree_over_sound_values_is_not_asked() {
    let (disk, stored) = filled();
    let victim = path_of(&disk, |name| name.ends_with(".seg") && name.contains('-')).unwrap();
    // The first page is redb's own header, with the root of the tree.
    disk.world().edit(&victim, |bytes| bytes[..4096].fill(0x5A));
    assert!(Sealed::open(&disk, &victim, CACHE).is_err(), "redb refuses it");
    let (mut outbox, opened) = open_on(&disk);
    assert_eq!(check(&stored, &mut outbox), (stored.len(), 0));
    assert_eq!(opened.losses, []);
    assert_eq!(outbox.take_problems(), Vec::<String>::new());
    assert!(path_of(&disk, |name| name.ends_with(".corrupt")).is_none());
}

#[test]
fn a_torn_tail_and_foreign_bytes_are_left_to_the_tree_and_the_salvage() {
    let (disk, stored) = filled();
    let victim = path_of(&disk, |name| name.ends_with(".seg") && name.contains('-')).unwrap();
    let damages: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes.truncate(bytes.len() * 2 / 3),
        |bytes| bytes.clear(),
        |bytes| *bytes = b"\x89PNG, or something else".repeat(9000),
    ];
    for damage in damages {
        let damaged = disk.killed();
        damaged.world().edit(&victim, damage);
        let (mut outbox, _) = open_on(&damaged);
        let (found, lost) = check(&stored, &mut outbox);
        assert!(found < stored.len() && lost > 0, "{found} {lost}");
        assert!(path_of(&damaged, |name| name.ends_with(".corrupt")).is_some());
    }
}

#[test]
fn a_value_of_an_older_format_is_left_to_the_tree() {
    let mut segment = Segment::new();
    assert!(segment.commit(&[plain(1, 300)]));
    let mut older = value::encode_chunk(&chunk(segment.next, 1, 1, b"older"), Times::default());
    older[3] = 0;
    let batch = Batch { chunks: vec![(segment.next, older)], burns: Vec::new() };
    segment.active.as_mut().unwrap().commit(&batch).unwrap();
    segment.next += 1;
    segment.seal();
    let mut opened = segment.open().unwrap();
    assert!(matches!(opened, Sealed::Tree(_)));
    assert_eq!(opened.read(&all(FIRST..=FIRST)).unwrap(), segment.items, "the tree has the ones that it can read");
    assert!(matches!(opened.read(&all(segment.seqs())), Err(fault::Fault::Damaged(_))));
}

#[test]
fn a_lie_that_contradicts_leaves_the_word_to_the_tree() {
    let mut segment = Segment::with(&[vec![plain(2, 900), plain(3, 700)], vec![plain(1, 800)]]);
    segment.seal();
    for (first, count) in [(0, 1), (0, 2), (1, 1), (2, 3), (1, 9), (5, 1), (5, 2)] {
        let sound = segment.bytes();
        // In a page that the tree does not use.
        segment.edit(|bytes| hide(bytes, &lie(FIRST + first, count)));
        let mut opened = segment.open().unwrap();
        assert!(matches!(opened, Sealed::Tree(_)), "{first} {count}");
        assert_eq!(opened.read(&all(segment.seqs())).unwrap(), segment.items);
        drop(opened);
        segment.edit(|bytes| *bytes = sound);
    }
    // Of another epoch, of what is void, or from before the segment: nothing to do with it.
    let foreign = value::encode_chunk(&Chunk { epoch: EPOCH + 1, ..chunk(FIRST, 2, 1, b"a lie") }, Times::default());
    for harmless in [lie(segment.next, 3), lie(FIRST - 1, 1), foreign] {
        segment.edit(|bytes| hide(bytes, &harmless));
        assert!(segment.is_proven());
        assert_eq!(segment.open().unwrap().read(&all(segment.seqs())).unwrap(), segment.items);
    }
}

#[test]
fn a_lie_with_the_checksum_of_the_truth_is_found_out() {
    let mut segment = Segment::with(&[vec![plain(2, 900)], vec![plain(3, 700)]]);
    segment.seal();
    let sound = stored(&segment.items[1]);
    let lie = forged(&sound);
    assert!(
        value::decode_chunk(&lie, EPOCH)
            .is_some_and(|(chunk, ..)| Item::Chunk(chunk, Times::default()) != segment.items[1])
    );
    assert_eq!((&lie[..32], lie.len()), (&sound[..32], sound.len()), "checksum and seqs are the same");
    segment.edit(|bytes| hide(bytes, &lie));
    assert!(!segment.is_proven());
    assert_eq!(segment.open().unwrap().read(&all(segment.seqs())).unwrap(), segment.items);
}

/// Other bytes with the same CRC-32: its polynomial is laid over them once more.
fn forged(value: &[u8]) -> Vec<u8> {
    // x^32 + x^26 + ... + 1, bits reflected: 33 bits from the lowest of a byte on.
    let polynomial = (u64::from(0xEDB8_8320_u32) << 1) | 1;
    let mut forged = value.to_vec();
    for (byte, bits) in forged[200..].iter_mut().zip(polynomial.to_le_bytes()) {
        *byte ^= bits;
    }
    forged
}

#[test]
fn a_value_damaged_after_it_was_proven_is_not_handed_out() {
    let mut segment = Segment::with(&[vec![plain(2, 900), plain(3, 700)]]);
    segment.seal();
    let mut proven = segment.open().unwrap();
    assert!(matches!(proven, Sealed::Raw(_)));
    let value = stored(&segment.items[1]);
    for at in places(&segment.bytes(), &value) {
        segment.edit(|bytes| bytes[at + 100] ^= 1);
    }
    assert!(matches!(proven.read(&all(segment.seqs())), Err(fault::Fault::Damaged(_))));
    // And through the outbox: the rest is salvaged, the one declared.
    let (disk, stored) = filled();
    let victim = path_of(&disk, |name| name.ends_with(".seg") && name.contains('-')).unwrap();
    let (mut outbox, opened) = open_on(&disk);
    let first = outbox.epochs[0].segments.values().position(|file| file.path == victim).unwrap();
    let first = *outbox.epochs[0].segments.keys().nth(first).unwrap();
    assert_eq!(outbox.load(opened.epoch, first..=first, 1, at(10)).chunks.len(), 1);
    disk.world().edit(&victim, |bytes| {
        // Far from what was read, and perhaps read ahead, until now.
        let last = *outbox.epochs[0].seqs_of(first).end();
        let damaged = stored.iter().find(|chunk| chunk.last() == last).unwrap();
        let value = value::encode_chunk(damaged, Times { t0: 1_700_000_000_000, t1: 1_700_000_000_000 });
        // By its head up to the times: those of the record are not known here.
        for at in places(bytes, &value[8..28]) {
            bytes[at + 60] ^= 1;
        }
    });
    let (found, lost) = check(&stored, &mut outbox);
    assert!(found >= stored.len() - 1 && lost > 0, "{found} of {}, {lost} lost", stored.len());
}

#[test]
fn what_the_disk_does_not_read_is_left_to_the_tree() {
    let (disk, stored) = filled();
    let (mut outbox, opened) = open_on(&disk);
    disk.world().unreadable = true;
    assert!(outbox.load(opened.epoch, 1..=1, 1, at(10)).failed.is_some());
    disk.world().unreadable = false;
    assert_eq!(read_all(&mut outbox), (stored, Vec::new()));
}

/// Loads all of it as the writer's thread does; `meanwhile` comes after each load. What was found, and the most that one
/// load read from the disk but for the first.
fn drained(outbox: &mut Outbox, disk: &SimDisk, mut meanwhile: impl FnMut(&Outbox)) -> (Vec<Chunk>, u64) {
    let (epoch, next) = (outbox.epoch(), outbox.next_seq());
    let (mut chunks, mut most, mut from) = (Vec::<Chunk>::new(), 0, 1);
    while from < next {
        let before = disk.world().read;
        let loaded = outbox.load(epoch, from..=next - 1, 8000, at(10));
        let read = disk.world().read - before;
        most = if from == 1 { 0 } else { most.max(read) };
        let Some(last) = loaded.chunks.last().map(Chunk::last) else { break };
        outbox.look_ahead(epoch, last, loaded.chunks.iter().map(|c| c.maps.len()).sum());
        meanwhile(outbox);
        chunks.extend(loaded.chunks);
        from = last + 1;
    }
    (chunks, most)
}

#[test]
fn a_segment_is_looked_through_while_the_one_before_is_read() {
    let (disk, stored) = filled();
    let (mut outbox, _) = open_on(&disk);
    let mut followed = std::collections::BTreeSet::new();
    let (chunks, most) = drained(&mut outbox, &disk, |outbox| followed.extend(outbox.next.iter().map(|n| n.first())));
    assert_eq!(chunks, stored);
    let segments = outbox.epochs[0].segments.len();
    assert!(followed.len() + 2 >= segments, "{followed:?} of {segments}");
    assert!(most < 128 << 10, "{most} bytes read for one load: blocks, not a segment");
}

#[test]
fn what_is_damaged_after_it_was_looked_through_is_not_handed_out() {
    let (disk, stored) = filled();
    let (mut outbox, _) = open_on(&disk);
    let mut victim = None;
    let (chunks, _) = drained(&mut outbox, &disk, |outbox| {
        let Some(next) = outbox.next.as_ref().filter(|_| victim.is_none()) else { return };
        let chunk = stored.iter().find(|chunk| chunk.first == next.first()).unwrap();
        let path = &outbox.epochs[0].segments[&chunk.first].path;
        let value = value::encode_chunk(chunk, Times::default());
        disk.world().edit(path, |bytes| places(bytes, &value[8..28]).iter().for_each(|at| bytes[at + 60] ^= 1));
        victim = Some(chunk.clone());
    });
    let victim = victim.unwrap();
    let rest: Vec<Chunk> = stored.iter().filter(|chunk| **chunk != victim).cloned().collect();
    assert_eq!(chunks, rest);
    let lost: Vec<_> = outbox.losses().iter().map(|loss| (loss.from, loss.to)).collect();
    assert_eq!(lost, [(victim.first, Some(victim.last()))]);
}
