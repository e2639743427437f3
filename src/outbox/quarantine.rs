//! Records that no broker takes: set aside, so that they no longer hold up the rest, and what a person may do with them.
//!
//! Their bytes are copied to the quarantine directory, a file for each value, and their seqs are declared to the other side.
//! Only what has its file can be sent again; the account of the epoch knows of the others, whose file made way.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::disk::Disk;
use super::inspect::{self, InspectError};
use super::names;
use super::redraw::run_of;
use super::store::Outbox;
use super::value::{self, MAX_VALUE, Times};
use crate::clock::Now;
use crate::record::Record;
use crate::wire::{Chunk, Loss, LossReason};

const SUFFIX: &str = ".value";

/// One value that was set aside; or seqs that were, of which no value is kept any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quarantined {
    pub epoch: u64,
    pub from: u64,
    pub to: u64,
    pub bytes: u64,
    /// Wall clock of the oldest and the newest record, milliseconds since 1970; 0 when not known any more.
    pub t0: i64,
    pub t1: i64,
    /// Names of the records, each once.
    pub names: Vec<String>,
    /// `None`: it made way for newer ones, or cannot be read.
    pub file: Option<PathBuf>,
}

impl Quarantined {
    pub fn seqs(&self) -> RangeInclusive<u64> {
        self.from..=self.to
    }

    fn without_value(epoch: u64, seqs: &RangeInclusive<u64>) -> Self {
        let (from, to) = (*seqs.start(), *seqs.end());
        Self { epoch, from, to, bytes: 0, t0: 0, t1: 0, names: Vec::new(), file: None }
    }

    /// The file to send again from, or why there is nothing to send.
    pub fn value(&self) -> Result<&Path, String> {
        let Self { epoch, from, to, .. } = self;
        self.file.as_deref().ok_or_else(|| {
            format!(
                "seqs {from} to {to} of epoch {epoch} cannot be sent again: their value is no longer kept (it made way \
                 for newer ones, or cannot be read); they stay declared lost, and 'holdover outbox quarantine drop \
                 {from}-{to} --epoch {epoch}' takes them off the list"
            )
        })
    }
}

/// Everything that is set aside, by epoch and seq: the values in the quarantine directory, and what is left of the account
/// without one. And a line for each file that is not what it should be. Takes no lock.
pub fn list(disk: &dyn Disk, dir: &Path) -> Result<(Vec<Quarantined>, Vec<String>), InspectError> {
    let (accounts, mut notes) = inspect::quarantined(disk, dir)?;
    let mut found = kept(disk, &dir.join(names::QUARANTINE), &mut notes)?;
    for (epoch, mut seqs) in accounts {
        found.iter().filter(|value| value.epoch == epoch).for_each(|value| seqs.remove(value.seqs()));
        found.extend(seqs.iter().map(|seqs| Quarantined::without_value(epoch, &seqs)));
    }
    found.sort_by_key(|value| (value.epoch, value.from));
    Ok((found, notes))
}

fn kept(disk: &dyn Disk, dir: &Path, notes: &mut Vec<String>) -> Result<Vec<Quarantined>, InspectError> {
    let names = match value_files(disk, dir) {
        Ok(names) => names,
        Err(error) => return Err(InspectError::Unreadable { dir: dir.to_owned(), why: error.to_string() }),
    };
    let mut found = Vec::new();
    for name in names {
        let path = dir.join(&name);
        match view(disk, &path, &name) {
            Ok(value) => found.push(value),
            Err(why) => notes.push(format!("{}: {why}", path.display())),
        }
    }
    Ok(found)
}

/// Names in the quarantine directory; none if there is no such directory.
fn value_files(disk: &dyn Disk, dir: &Path) -> std::io::Result<Vec<String>> {
    match disk.list(dir) {
        Ok(entries) => Ok(entries.into_iter().map(|e| e.name).filter(|name| name.ends_with(SUFFIX)).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn file_name(epoch: u64, first: u64) -> String {
    format!("{epoch}-{first}{SUFFIX}")
}

/// Epoch and first seq.
fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (epoch, first) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    Some((epoch.parse().ok()?, first.parse().ok()?))
}

fn view(disk: &dyn Disk, path: &Path, name: &str) -> Result<Quarantined, String> {
    let (epoch, _) = parse_name(name).ok_or("not a name of ours")?;
    let (chunk, bytes) = read(disk, path, epoch)?;
    let records = || chunk.records().filter_map(|(_, map)| rmp_serde::from_slice::<Record>(map).ok());
    let mut names: Vec<String> = records().map(|record| record.name.to_string()).collect();
    names.sort();
    names.dedup();
    let times = || records().map(|record| record.ts);
    let (t0, t1) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    Ok(Quarantined { epoch, from: chunk.first, to: chunk.last(), bytes, t0, t1, names, file: Some(path.to_owned()) })
}

/// The value, and its length.
fn read(disk: &dyn Disk, path: &Path, epoch: u64) -> Result<(Chunk, u64), String> {
    let file = disk.open(path, false).map_err(|error| error.to_string())?;
    let len = file.len().map_err(|error| error.to_string())?.min(MAX_VALUE as u64);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(MAX_VALUE)];
    file.read(0, &mut bytes).map_err(|error| error.to_string())?;
    let (chunk, _, _) = value::decode_chunk(&bytes, epoch).ok_or("its checksum does not prove it")?;
    Ok((chunk, len))
}

impl Outbox {
    /// Stores the records of the values once more, under new seqs: the old ones are declared, and a hub may have
    /// acknowledged that. Returns how many. A kill in between may leave some of them stored twice.
    pub fn retry_quarantined(&mut self, values: &[Quarantined], now: Now) -> Result<u64, String> {
        let mut records = 0;
        for value in values {
            let file = value.value()?;
            let (chunk, _) =
                read(&*self.disk, file, value.epoch).map_err(|why| format!("{}: {why}", file.display()))?;
            let appended = self.append(&[run_of(&chunk)], now).map_err(|error| error.to_string())?;
            if appended.refused > 0 {
                return Err(format!("it is full and keeps what it has; {} stays where it is", file.display()));
            }
            records += u64::from(chunk.count);
            self.drop_quarantined(std::slice::from_ref(value), now)?;
        }
        Ok(records)
    }

    /// Deletes the values. Their records stay what they were declared to be: lost, because no broker took them. Returns
    /// how many.
    pub fn drop_quarantined(&mut self, values: &[Quarantined], now: Now) -> Result<u64, String> {
        for value in values {
            if let Some(epoch) = self.epochs.iter_mut().find(|e| e.id == value.epoch) {
                epoch.ledger.give_up(value.seqs());
            }
        }
        self.unsaved = true;
        self.save(now)?;
        // After the save: a crash between the two leaves a file too many, never one too few.
        self.forget_values(values);
        Ok(values.iter().map(|value| value.to - value.from + 1).sum())
    }

    fn forget_values(&mut self, values: &[Quarantined]) {
        let dir = self.options.dir.join(names::QUARANTINE);
        let is_of = |name: &String| {
            parse_name(name)
                .is_some_and(|(epoch, first)| values.iter().any(|v| v.epoch == epoch && v.seqs().contains(&first)))
        };
        for name in value_files(&*self.disk, &dir).unwrap_or_default().iter().filter(|name| is_of(name)) {
            let path = dir.join(name);
            if let Err(error) = self.disk.unlink(&path) {
                self.problem(format!("{} cannot be deleted: {error}", path.display()));
            }
        }
    }

    /// Sets records aside: their bytes go to the quarantine directory (while it has room), their seqs are declared to the
    /// other side. Also settled ones: they were sent again because somebody asked, who is told now why they do not come.
    pub fn quarantine(
        &mut self,
        epoch: u64,
        seqs: RangeInclusive<u64>,
        reason: &str,
        now: Now,
    ) -> Result<Vec<Loss>, String> {
        let at = self.epochs.iter().position(|e| e.id == epoch).ok_or("no such epoch")?;
        let to = (*seqs.end()).min(self.epochs[at].next - 1);
        let mut from = (*seqs.start()).max(1);
        let (mut kept, mut found) = (Vec::new(), Vec::new());
        while from <= to {
            let loaded = self.load(epoch, from..=to, usize::MAX, now);
            found.extend(loaded.losses);
            let Some(last) = loaded.chunks.last().map(Chunk::last) else { break };
            kept.extend(loaded.chunks);
            from = last + 1;
        }
        for chunk in &kept {
            if let Err(error) = self.keep_quarantined(chunk) {
                self.problem(format!("the bytes of quarantined seqs {:?} are not kept: {error}", chunk.seqs()));
            }
        }
        if !kept.is_empty() {
            self.keep_within_bounds();
        }
        self.fresh_losses.extend(found);
        let entry = &mut self.epochs[at];
        let gone = entry.ledger.quarantine(*seqs.start()..=to);
        // The state may know them as settled: until it is saved, that is not what became of them.
        entry.saved.subtract(&gone);
        for gone in gone.iter() {
            let (from, to) = (*gone.start(), *gone.end());
            let reason = LossReason::Quarantined;
            let loss = Loss { epoch, from, to: Some(to), count: to - from + 1, reason, t0: 0, t1: 0 };
            self.book.add(loss.clone());
            self.fresh_losses.push(loss);
        }
        self.problem(format!("seqs {seqs:?} of epoch {epoch} quarantined: {reason}"));
        self.unsaved = true;
        self.save(now)?;
        Ok(self.take_losses())
    }

    fn keep_quarantined(&mut self, chunk: &Chunk) -> std::io::Result<()> {
        let dir: PathBuf = self.options.dir.join(names::QUARANTINE);
        self.disk.make_dir(&dir)?;
        let bytes = value::encode_chunk(chunk, Times::default());
        let path = dir.join(file_name(chunk.epoch, chunk.first));
        let disk = Arc::clone(&self.disk);
        let file = disk.create(&path)?;
        file.set_len(bytes.len() as u64)?;
        file.write(0, &bytes)?;
        file.sync_data()?;
        disk.sync_dir(&dir)
    }
}
