//! Looking into an outbox without touching it, also while an agent runs: `ls`, `stats`, `losses`, `verify`, `export`.
//!
//! Takes no lock and writes nothing. Sealed segments do not change; the one being appended to is read as it was at
//! some moment, again if that moment fell into a commit. Plain structs and lines come out; printing is the caller's.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::disk::Disk;
use super::fault::Fault;
use super::ledger::Ledger;
use super::names::{self, FileName, SegmentName};
use super::retain;
use super::segment::{Item, Query, Sealed};
use super::state::{self, State};
use crate::ranges::RangeSet;
use crate::wire::{Chunk, Loss, LossReason};

/// Attempts at a file that changes while it is read.
const ATTEMPTS: u32 = 3;
/// Of redb's page cache while inspecting.
const CACHE: usize = 256 * 1024;
/// Maps read at a time.
const BITE: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("there is no outbox in {0}")]
    Missing(PathBuf),
    #[error("the outbox directory {dir} cannot be read: {why}")]
    Unreadable { dir: PathBuf, why: String },
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// One file of an epoch.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentView {
    pub epoch: u64,
    pub name: String,
    pub first: u64,
    /// The last seq that counts; `None` when it holds none yet.
    pub last: Option<u64>,
    /// Length of the file, holes included.
    pub len: u64,
    /// Bytes on disk.
    pub blocks: u64,
    /// `active`, `sealed`, `corrupt`, `settled`, `lost-quota`, `lost-age`.
    pub kind: &'static str,
    /// Records in it neither settled, lost nor quarantined, as last saved.
    pub held: u64,
}

/// What one epoch's seqs came to, as last saved: the state file may lag behind by its save interval.
#[derive(Clone, Debug, Serialize)]
pub struct EpochSummary {
    pub epoch: u64,
    pub ordinal: u32,
    pub prev: Option<u64>,
    /// Wall clock when it was minted, milliseconds since 1970.
    pub created: i64,
    pub next: u64,
    pub settled: u64,
    pub lost: BTreeMap<String, u64>,
    pub quarantined: u64,
    pub held: u64,
    /// Which those are.
    #[serde(skip)]
    pub held_seqs: RangeSet,
    /// The three and the held add up to `next - 1`.
    pub adds_up: bool,
}

/// The whole directory.
#[derive(Clone, Debug, Default, Serialize)]
pub struct View {
    pub dir: PathBuf,
    /// Bytes on disk of everything.
    pub disk_bytes: u64,
    /// Wall clock of the last save, milliseconds since 1970; 0 when never.
    pub saved_ms: i64,
    pub epochs: Vec<EpochSummary>,
    pub segments: Vec<SegmentView>,
    /// Losses that the other side has not confirmed.
    pub losses: usize,
    /// Newer, foreign, unreadable; one line each.
    pub notes: Vec<String>,
}

/// Seqs that were declared lost, or that nobody would take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LossView {
    pub epoch: u64,
    pub from: u64,
    /// `None`: nobody knows how many.
    pub to: Option<u64>,
    /// Records gone; 0 when not known.
    pub count: u64,
    pub reason: String,
    /// Wall clock of the oldest and the newest of them, milliseconds since 1970; 0 when not known (any more).
    pub t0: i64,
    pub t1: i64,
    /// The other side has confirmed it, as last saved.
    pub settled: bool,
}

/// Every declared loss of what the directory still knows, by epoch and seq. Those that the other side has confirmed are
/// told from the epoch's account, which no longer has their times.
pub fn losses(disk: &dyn Disk, dir: &Path) -> Result<(Vec<LossView>, Vec<String>), InspectError> {
    let (state, epochs, notes) = gather(disk, dir)?;
    let mut views: Vec<LossView> = state.losses.iter().map(unsettled_view).collect();
    for epoch in &epochs {
        let told = state.losses.iter().filter(|l| l.epoch == epoch.id);
        let told: RangeSet = told.map(|l| l.from..=l.to.unwrap_or(u64::MAX)).collect();
        let lost = epoch.ledger.lost().iter().map(|(reason, set)| (*reason, set));
        for (reason, set) in lost.chain([(LossReason::Quarantined, epoch.ledger.quarantined())]) {
            let mut settled = set.clone();
            settled.subtract(&told);
            views.extend(settled.iter().map(|range| {
                let (from, to) = (*range.start(), *range.end());
                let (count, reason) = (to - from + 1, word(reason));
                LossView { epoch: epoch.id, from, to: Some(to), count, reason, t0: 0, t1: 0, settled: true }
            }));
        }
    }
    let age = |id: u64| epochs.iter().find(|e| e.id == id).map_or(0, |e| e.ordinal);
    views.sort_by_key(|view| (age(view.epoch), view.epoch, view.from));
    Ok((views, notes))
}

fn unsettled_view(loss: &Loss) -> LossView {
    let Loss { epoch, from, to, count, t0, t1, .. } = *loss;
    LossView { epoch, from, to, count, reason: word(loss.reason), t0, t1, settled: false }
}

/// What [`verify`] found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    pub segments: u64,
    pub values: u64,
    pub records: u64,
    /// One line each; empty when all is well.
    pub problems: Vec<String>,
}

struct EpochFiles {
    id: u64,
    ordinal: u32,
    dir: PathBuf,
    prev: Option<u64>,
    created: i64,
    /// First seq, name, length, blocks.
    segments: BTreeMap<u64, (SegmentName, u64, u64)>,
    dropped: Vec<(names::Dropped, String)>,
    ledger: Ledger,
    next: u64,
}

impl EpochFiles {
    fn last_of(&self, first: u64) -> u64 {
        let next = self.segments.range(first + 1..).next().map_or(self.next, |(next, _)| *next);
        let named = self.segments.get(&first).and_then(|(name, ..)| name.last).unwrap_or(u64::MAX);
        named.min(next - 1)
    }

    fn held(&self, first: u64, last: u64) -> RangeSet {
        let mut held = RangeSet::default();
        if first <= last {
            self.ledger.held(first..=last).into_iter().for_each(|range| held.insert(range));
        }
        held
    }
}

/// Lists and counts everything in the directory.
pub fn view(disk: &dyn Disk, dir: &Path) -> Result<View, InspectError> {
    let (state, epochs, mut notes) = gather(disk, dir)?;
    if state.wall_ms == 0 {
        notes.push("no saved state: all that is stored counts as held".into());
    }
    let mut view = View {
        dir: dir.to_owned(),
        disk_bytes: retain::tree_bytes(disk, dir, 0),
        saved_ms: state.wall_ms,
        losses: state.losses.len(),
        notes,
        ..View::default()
    };
    for epoch in &epochs {
        view.epochs.push(summary(epoch));
        view.segments.extend(segment_views(epoch));
    }
    Ok(view)
}

fn summary(epoch: &EpochFiles) -> EpochSummary {
    let held_seqs = epoch.held(1, epoch.next - 1);
    let held = held_seqs.len();
    let lost: BTreeMap<String, u64> = epoch.ledger.lost().iter().map(|(r, set)| (word(*r), set.len())).collect();
    let (settled, quarantined) = (epoch.ledger.settled().len(), epoch.ledger.quarantined().len());
    let adds_up = settled + quarantined + lost.values().sum::<u64>() + held + 1 == epoch.next;
    let EpochFiles { id, ordinal, prev, created, next, .. } = *epoch;
    EpochSummary { epoch: id, ordinal, prev, created, next, settled, lost, quarantined, held, held_seqs, adds_up }
}

/// The reason as on the wire.
fn word(reason: LossReason) -> String {
    serde_json::to_value(reason).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_else(|| "other".into())
}

fn segment_views(epoch: &EpochFiles) -> Vec<SegmentView> {
    let newest = epoch.segments.last_key_value().map(|(first, _)| *first);
    let mut views: Vec<SegmentView> = Vec::new();
    for (&first, &(name, len, blocks)) in &epoch.segments {
        let last = epoch.last_of(first);
        let kind = match name {
            SegmentName { corrupt: true, .. } => "corrupt",
            SegmentName { last: None, .. } if newest == Some(first) => "active",
            SegmentName { .. } => "sealed",
        };
        let held = epoch.held(first, last).len();
        let last = (last >= first).then_some(last);
        views.push(SegmentView { epoch: epoch.id, name: name.file_name(), first, last, len, blocks, kind, held });
    }
    for (dropped, name) in &epoch.dropped {
        let (first, last) = (*dropped.seqs.start(), Some(*dropped.seqs.end()));
        let kind = match dropped.lost.as_ref().map(|lost| lost.reason) {
            None => "settled",
            Some(LossReason::Age) => "lost-age",
            Some(_) => "lost-quota",
        };
        views.push(SegmentView { epoch: epoch.id, name: name.clone(), first, last, len: 0, blocks: 0, kind, held: 0 });
    }
    views
}

/// Reads every value and checks its checksum, its place and that all seqs are accounted for.
pub fn verify(disk: &dyn Disk, dir: &Path) -> Result<Verified, InspectError> {
    let (_, epochs, notes) = gather(disk, dir)?;
    let mut verified = Verified { problems: notes, ..Verified::default() };
    for epoch in &epochs {
        if !summary(epoch).adds_up {
            verified.problems.push(format!("epoch {}: the seqs below {} do not add up", epoch.id, epoch.next));
        }
        let mut absent: RangeSet = epoch.ledger.held(1..=epoch.next - 1).into_iter().collect();
        for first in epoch.segments.keys() {
            verified.segments += 1;
            let read = each_item(disk, epoch, *first, |item| {
                absent.remove(item.first()..=item.last());
                if let Item::Chunk(chunk, _) = item {
                    verified.values += 1;
                    verified.records += u64::from(chunk.count);
                }
                Ok(())
            });
            match read {
                Ok(()) => {}
                Err(ReadError::Fault(fault)) => {
                    let name = epoch.segments[first].0.file_name();
                    verified.problems.push(format!("{}: {fault}", epoch.dir.join(name).display()));
                }
                Err(ReadError::Output(error)) => return Err(error.into()),
            }
        }
        for range in absent.iter() {
            let line =
                format!("epoch {}: seqs {range:?} are held, and not there: the agent will declare them lost", epoch.id);
            verified.problems.push(line);
        }
    }
    Ok(verified)
}

/// One line of [`export`].
#[derive(Serialize)]
struct Exported<'a> {
    epoch: u64,
    boot: &'a str,
    synced: bool,
    #[serde(flatten)]
    record: crate::record::Record,
}

/// Writes every stored record of every epoch as one JSON object a line, settled ones included. What cannot be read is
/// reported in the returned lines.
pub fn export(disk: &dyn Disk, dir: &Path, out: &mut dyn Write) -> Result<Vec<String>, InspectError> {
    let (_, epochs, mut notes) = gather(disk, dir)?;
    for epoch in &epochs {
        for first in epoch.segments.keys() {
            let read = each_item(disk, epoch, *first, |item| match item {
                Item::Chunk(chunk, _) => export_chunk(chunk, out, &mut notes),
                Item::Burn(_) => Ok(()),
            });
            match read {
                Ok(()) => {}
                Err(ReadError::Fault(fault)) => notes.push(format!("epoch {}, segment {first}: {fault}", epoch.id)),
                Err(ReadError::Output(error)) => return Err(error.into()),
            }
        }
    }
    Ok(notes)
}

fn export_chunk(chunk: &Chunk, out: &mut dyn Write, notes: &mut Vec<String>) -> io::Result<()> {
    let (epoch, boot, synced) = (chunk.epoch, &*chunk.context.boot, chunk.context.synced);
    for (seq, map) in chunk.records() {
        match rmp_serde::from_slice(map) {
            Ok(record) => {
                serde_json::to_writer(&mut *out, &Exported { epoch, boot, synced, record })?;
                out.write_all(b"\n")?;
            }
            Err(error) => notes.push(format!("epoch {epoch}, seq {seq}: not a record ({error})")),
        }
    }
    Ok(())
}

enum ReadError {
    Fault(Fault),
    Output(io::Error),
}

/// Calls `each` for everything in a segment, in seq order.
fn each_item(
    disk: &dyn Disk,
    epoch: &EpochFiles,
    first: u64,
    mut each: impl FnMut(&Item) -> io::Result<()>,
) -> Result<(), ReadError> {
    let (name, ..) = epoch.segments[&first];
    let mut sealed = open(disk, &epoch.dir, name, epoch.id).map_err(ReadError::Fault)?;
    let (mut from, to) = (first, epoch.last_of(first));
    while from <= to {
        let query = Query { epoch: epoch.id, from, to, max_bytes: BITE };
        let items = sealed.read(&query).map_err(ReadError::Fault)?;
        let Some(last) = items.last().map(Item::last) else { break };
        for item in &items {
            each(item).map_err(ReadError::Output)?;
        }
        from = last + 1;
    }
    Ok(())
}

fn open(disk: &dyn Disk, dir: &Path, name: SegmentName, epoch: u64) -> Result<Sealed, Fault> {
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

/// Everything that the names and the state say.
fn gather(disk: &dyn Disk, dir: &Path) -> Result<(State, Vec<EpochFiles>, Vec<String>), InspectError> {
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
