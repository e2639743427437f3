//! What the names in the directory and the saved state say, read without a lock: both may change meanwhile.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::InspectError;
use crate::outbox::disk::Disk;
use crate::outbox::fault::Fault;
use crate::outbox::ledger::Ledger;
use crate::outbox::names::{self, FileName, SegmentName};
use crate::outbox::segment::Sealed;
use crate::outbox::state::{self, State};
use crate::ranges::RangeSet;

/// Attempts at a file that changes while it is read.
const ATTEMPTS: u32 = 3;
/// Of redb's page cache while inspecting.
const CACHE: usize = 256 * 1024;

/// One epoch, as its directory and the saved state have it.
pub(super) struct EpochFiles {
    pub(super) id: u64,
    pub(super) ordinal: u32,
    pub(super) dir: PathBuf,
    pub(super) prev: Option<u64>,
    pub(super) created: i64,
    /// First seq, name, length, blocks.
    pub(super) segments: BTreeMap<u64, (SegmentName, u64, u64)>,
    pub(super) dropped: Vec<(names::Dropped, String)>,
    pub(super) ledger: Ledger,
    pub(super) next: u64,
}

impl EpochFiles {
    pub(super) fn last_of(&self, first: u64) -> u64 {
        let next = self.segments.range(first + 1..).next().map_or(self.next, |(next, _)| *next);
        let named = self.segments.get(&first).and_then(|(name, ..)| name.last).unwrap_or(u64::MAX);
        named.min(next - 1)
    }

    pub(super) fn held(&self, first: u64, last: u64) -> RangeSet {
        let mut held = RangeSet::default();
        if first <= last {
            self.ledger.held(first..=last).into_iter().for_each(|range| held.insert(range));
        }
        held
    }
}

/// Everything that the names and the state say.
pub(super) fn gather(disk: &dyn Disk, dir: &Path) -> Result<(State, Vec<EpochFiles>, Vec<String>), InspectError> {
    let unreadable = |why: String| InspectError::Unreadable { dir: dir.to_owned(), why };
    let listed = disk.list(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => InspectError::Missing(dir.to_owned()),
        _ => unreadable(error.to_string()),
    })?;
    let mut notes = Vec::new();
    let state = load_state(disk, dir, &mut notes);
    let mut epochs = Vec::new();
    for entry in listed {
        let Some(name) = names::parse_epoch_dir(&entry.name).filter(|_| entry.is_dir) else { continue };
        if name.format != names::FORMAT {
            notes.push(format!("{} was written by a newer version: not looked into", dir.join(&entry.name).display()));
            continue;
        }
        let files = epoch_files(disk, dir.join(&entry.name), name, &state, &mut notes);
        epochs.push(files.map_err(|error| unreadable(error.to_string()))?);
    }
    Ok((state, epochs, notes))
}

fn load_state(disk: &dyn Disk, dir: &Path, notes: &mut Vec<String>) -> State {
    for attempt in 1..=ATTEMPTS {
        let why = match state::load(disk, dir) {
            Ok(state::Loaded::State(state)) => return *state,
            Ok(state::Loaded::Nothing) => return State::default(),
            Ok(state::Loaded::Unreadable(why)) => why,
            Err(fault) => fault.to_string(),
        };
        if attempt == ATTEMPTS {
            notes.push(format!("the saved state is unreadable at present: {why}"));
        }
    }
    State::default()
}

fn epoch_files(
    disk: &dyn Disk,
    dir: PathBuf,
    name: names::EpochName,
    state: &State,
    notes: &mut Vec<String>,
) -> io::Result<EpochFiles> {
    let saved = state.epochs.iter().find(|e| e.epoch == name.epoch);
    let mut epoch = EpochFiles {
        id: name.epoch,
        ordinal: name.ordinal,
        prev: saved.and_then(|s| s.prev),
        created: saved.map_or(0, |s| s.created),
        segments: BTreeMap::new(),
        dropped: Vec::new(),
        ledger: saved.map(state::EpochState::ledger).unwrap_or_default(),
        next: saved.map_or(1, |s| s.next),
        dir,
    };
    for entry in disk.list(&epoch.dir)? {
        match names::parse_file(&entry.name) {
            FileName::Segment(segment) => {
                epoch.segments.insert(segment.first, (segment, entry.len, entry.blocks));
            }
            FileName::Dropped(dropped) => epoch.dropped.push((dropped, entry.name)),
            FileName::Temp => {}
            FileName::Foreign => notes.push(format!("{} is not ours", epoch.dir.join(&entry.name).display())),
        }
    }
    for (dropped, _) in &epoch.dropped {
        if let Some(lost) = &dropped.lost {
            epoch.ledger.lose(lost.hull.clone(), lost.reason);
        }
        let settled = epoch.ledger.held(dropped.seqs.clone()).into_iter().collect();
        epoch.ledger.settle(&settled);
    }
    if let Some((&first, &(name, ..))) = epoch.segments.last_key_value() {
        let end = open(disk, &epoch.dir, name, epoch.id).and_then(|sealed| sealed.end(epoch.id));
        match end {
            Ok(end) => epoch.next = epoch.next.max(end.unwrap_or(first)).max(first),
            Err(fault) => {
                epoch.next = epoch.next.max(first);
                notes.push(format!("{}: {fault}", epoch.dir.join(name.file_name()).display()));
            }
        }
    }
    Ok(epoch)
}

pub(super) fn open(disk: &dyn Disk, dir: &Path, name: SegmentName, epoch: u64) -> Result<Sealed, Fault> {
    let path = dir.join(name.file_name());
    if name.corrupt {
        return Sealed::open_raw(disk, &path, epoch, name.first);
    }
    let mut outcome = Sealed::open(disk, &path, CACHE);
    for _ in 1..ATTEMPTS {
        // Only the segment being appended to changes; sealed or renamed meanwhile, it has another name.
        match outcome {
            Err(Fault::Damaged(_)) if name.last.is_none() => outcome = Sealed::open(disk, &path, CACHE),
            done => return done,
        }
    }
    outcome
}
