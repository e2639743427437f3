//! A sealed segment is read again and again from where its values were once found: they share what they can, and what is
//! not as it was found is not handed out.

use std::sync::Arc;

use super::damage::{filled, open_on};
use super::proven::{FIRST, Segment, all, chunk, places, plain, stored};
use super::segment::Sealed;
use super::value::{self, Times};
use super::*;

#[test]
fn another_value_in_the_place_of_one_is_damage_though_its_checksum_proves_it() {
    for (first, count) in [(FIRST + 3, 2), (FIRST + 2, 9), (FIRST, 2)] {
        let mut segment = Segment::with(&[vec![plain(2, 900), plain(3, 700)]]);
        segment.seal();
        let mut proven = segment.open().unwrap();
        assert!(matches!(proven, Sealed::Raw(_)));
        let sound = stored(&segment.items[1]);
        let other = value::encode_chunk(&chunk(first, count, 1, &[7; 700]), Times::default());
        assert_eq!(other.len(), sound.len());
        for at in places(&segment.bytes(), &sound) {
            segment.edit(|bytes| bytes[at..at + other.len()].copy_from_slice(&other));
        }
        let read = proven.read(&all(segment.seqs()));
        assert!(matches!(read, Err(fault::Fault::Damaged(_))), "{first} {count}: {read:?}");
    }
}

#[test]
fn the_chunks_of_one_load_have_one_context_among_them() {
    let (disk, _) = filled();
    let (mut outbox, opened) = open_on(&disk);
    let loaded = outbox.load(opened.epoch, 1..=50, 1 << 20, at(10));
    let boots: Vec<_> = loaded.chunks.iter().map(|chunk| &chunk.context.boot).collect();
    assert!(boots.len() > 3 && boots.iter().all(|boot| Arc::ptr_eq(boot, boots[0])), "{boots:?}");
}
