//! What names and files say at the start, where nothing else is known.

use std::path::Path;
use std::sync::Arc;

use super::crash::path_of;
use super::crash_disk::SimDisk;
use super::names::{self, SegmentName};
use super::*;

fn open_on(disk: &SimDisk) -> (Outbox, Opened) {
    Outbox::open(Arc::new(disk.clone()), Options::new("/outbox"), at(0)).unwrap()
}

/// A disk with nothing but this in the directory of an epoch.
fn disk_with(epoch: u64, name: &str, bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new();
    let dir = Path::new("/outbox").join(names::epoch_dir(1, epoch));
    disk.make_dir(Path::new("/outbox")).unwrap();
    disk.make_dir(&dir).unwrap();
    disk.create(&dir.join(name)).unwrap().write(0, bytes).unwrap();
    disk
}

#[test]
fn seqs_that_only_the_name_of_a_segment_given_up_knows_were_drawn() {
    let (_, opened) = open_on(&disk_with(12, "1-9.settled", b""));
    let old = &opened.epochs[0];
    assert_eq!((old.epoch, old.next, old.in_doubt, old.pending.len()), (12, 10, true, 0), "{opened:?}");
    assert_ne!(opened.epoch, 12);
    assert_eq!(opened.losses.iter().map(|loss| (loss.from, loss.to)).collect::<Vec<_>>(), [(10, None)]);
}

#[test]
fn a_segment_under_another_name_than_its_own_is_not_gone_on_with() {
    let disk = SimDisk::new();
    let (mut outbox, opened) = open_on(&disk);
    outbox.append(&[run(3, 10)], at(0)).unwrap();
    outbox.close(at(0));
    let mut bytes = Vec::new();
    let segment = path_of(&disk, |name| name.ends_with(".seg")).unwrap();
    disk.world().edit(&segment, |file| bytes.clone_from(file));
    let own = opened.epoch;
    for (epoch, first, sound) in [(own, 1, true), (own, 2, false), (own ^ 1, 1, false)] {
        let name = SegmentName { first, last: None, corrupt: false }.file_name();
        let (_, opened) = open_on(&disk_with(epoch, &name, &bytes));
        assert_eq!(opened.epoch == epoch, sound, "{:?}", opened.problems);
        let says = format!("it says it is segment 1 of epoch {own}");
        assert_eq!(opened.problems.iter().any(|line| line.contains(&says)), !sound, "{:?}", opened.problems);
    }
}

#[test]
fn a_directory_of_a_format_that_never_was_is_named_and_left_alone() {
    let disk = SimDisk::new();
    let dir = Path::new("/outbox/v0-000003-12");
    disk.make_dir(Path::new("/outbox")).unwrap();
    disk.make_dir(dir).unwrap();
    let (_, opened) = open_on(&disk);
    assert_eq!(opened.problems, ["/outbox/v0-000003-12 is not ours: left alone"]);
    assert_eq!(disk.list(dir).unwrap(), []);
}
