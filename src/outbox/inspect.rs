//! Looking into an outbox without touching it, also while an agent runs: `ls`, `stats`, `losses`, `verify`, `export`.
//!
//! Takes no lock and writes nothing. Sealed segments do not change; the one being appended to is read as it was at
//! some moment, again if that moment fell into a commit. Plain structs and lines come out; printing is the caller's.

mod files;
mod reading;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use reading::{Verified, export, verify};

use super::disk::Disk;
use super::names::SegmentName;
use super::retain;
use crate::ranges::RangeSet;
use crate::wire::{Loss, LossReason};
use files::{EpochFiles, gather};

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

/// The quarantined seqs by epoch, as last saved; and notes.
pub(super) fn quarantined(disk: &dyn Disk, dir: &Path) -> Result<(BTreeMap<u64, RangeSet>, Vec<String>), InspectError> {
    let (_, epochs, notes) = gather(disk, dir)?;
    Ok((epochs.into_iter().map(|epoch| (epoch.id, epoch.ledger.quarantined().clone())).collect(), notes))
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
