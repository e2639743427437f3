//! Reading every stored value: to check it, or to write it out.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::files::{EpochFiles, gather, open};
use super::{InspectError, summary};
use crate::outbox::disk::Disk;
use crate::outbox::fault::Fault;
use crate::outbox::segment::{Item, Query};
use crate::ranges::RangeSet;
use crate::wire::Chunk;

/// Maps read at a time.
const BITE: usize = 256 * 1024;

/// What [`verify`] found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    pub segments: u64,
    pub values: u64,
    pub records: u64,
    /// One line each; empty when all is well.
    pub problems: Vec<String>,
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
/// reported in the returned lines. Where nobody reads (`BrokenPipe`) it ends, with what it has met so far.
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
                Err(ReadError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(notes),
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
