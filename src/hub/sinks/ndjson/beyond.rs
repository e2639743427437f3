//! What the files hold beyond the ledger's position, read back so that the ledger learns it; decision 0010 says why.
//!
//! Whole lines are stored, whoever wrote them and whether or not a ledger once knew: they are synced and told in their
//! order, a part at a time. Nothing that a ledger may ever have vouched for is destroyed: behind the last newline of the newest
//! file there is only a line that was never finished, which is dropped; other bytes that are no lines of ours are moved
//! beside the newest file, and stay where they are in older ones.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Position, failed, length, names, sync_dir};
use crate::hub::sinks::{Beyond, Found, SinkError};

/// Read in one part, and then known to the ledger.
const PART: u64 = 8 << 20;
/// No record is as long in any encoding.
const MAX_LINE: usize = 4 << 20;

/// The part behind `at`, or behind nothing when a ledger begins anew.
pub(super) fn next(dir: &Path, at: Option<Position>) -> Result<Option<Beyond>, SinkError> {
    let names = names(dir)?;
    let at = at.unwrap_or(Position::FIRST);
    let newest = names.last().is_some_and(|name| *name == at.name);
    if names.contains(&at.name)
        && let Some(part) = part(dir, &at, newest)?
    {
        return Ok(Some(part));
    }
    let Some(next) = names.into_iter().find(|name| name.key() > at.name.key()) else { return Ok(None) };
    if next.number > at.name.number + 1 {
        tracing::warn!(
            from = at.name.number + 1,
            to = next.number - 1,
            "record files that the ledger does not know were taken away: what is in them may be stored twice if it comes again"
        );
    }
    tracing::info!(file = %next, "holds records that the ledger does not know; reading it");
    let since_ms = next.made_ms;
    Ok(Some(Beyond { rows: Vec::new(), since_ms, position: Position { name: next, len: 0 }.to_string() }))
}

/// The next part of one file; `None` when it holds no more.
fn part(dir: &Path, at: &Position, newest: bool) -> Result<Option<Beyond>, SinkError> {
    let path = dir.join(at.name.to_string());
    if length(&path)?.is_none_or(|len| len <= at.len) {
        return Ok(None);
    }
    let file = File::open(&path).map_err(failed("cannot open", &path))?;
    let (rows, end, stop) = read(file, at.len, newest).map_err(failed("cannot read", &path))?;
    match stop {
        Stop::Unfinished if newest => drop_line(&path, end)?,
        Stop::Unreadable => set_aside(dir, &path, end)?,
        Stop::Unfinished | Stop::More | Stop::End => {}
    }
    if end == at.len {
        return Ok(None);
    }
    let sync = || File::open(&path)?.sync_all();
    sync().map_err(failed("cannot sync", &path))?;
    sync_dir(dir)?;
    let position = Position { name: at.name.clone(), len: end }.to_string();
    Ok(Some(Beyond { rows, since_ms: at.name.made_ms, position }))
}

/// Why reading ended.
enum Stop {
    /// The part is long enough.
    More,
    End,
    /// What follows is the beginning of a line.
    Unfinished,
    /// What follows is no line of ours.
    Unreadable,
}

/// Lines from `from` on, and where they end.
fn read(mut file: File, from: u64, newest: bool) -> io::Result<(Vec<Found>, u64, Stop)> {
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::new(file);
    let (mut rows, mut end, mut passed) = (Vec::new(), from, 0u64);
    let mut line = Vec::new();
    let stop = loop {
        if end - from >= PART {
            break Stop::More;
        }
        line.clear();
        let length = reader.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line)? as u64;
        let whole = line.last() == Some(&b'\n');
        match found(&line).filter(|_| whole) {
            _ if length == 0 => break Stop::End,
            _ if !whole && line.len() < MAX_LINE => break Stop::Unfinished,
            Some(row) => rows.extend(row),
            None if newest => break Stop::Unreadable,
            None => passed += length,
        }
        end += length;
    };
    if passed > 0 {
        tracing::error!(bytes = passed, "a record file holds lines that are none of ours; they stay there");
    }
    Ok((rows, end, stop))
}

fn drop_line(path: &Path, end: u64) -> Result<(), SinkError> {
    tracing::info!(file = %path.display(), "dropping a last line that was never finished");
    shorten(path, end)
}

/// Moves what follows `end` into a file of its own.
fn set_aside(dir: &Path, path: &Path, end: u64) -> Result<(), SinkError> {
    let (aside, mut to) = free_file(path)?;
    let mut copy = || {
        let mut from = File::open(path)?;
        from.seek(SeekFrom::Start(end))?;
        let bytes = io::copy(&mut from, &mut to)?;
        to.sync_all().map(|()| bytes)
    };
    let bytes = copy().map_err(failed("cannot set aside what cannot be read, in", &aside))?;
    sync_dir(dir)?;
    tracing::error!(
        file = %path.display(), bytes, aside = %aside.display(),
        "the end of the file is no record of ours (a damaged disk?): it was moved to the file named; what is missing by it is asked \
         for again; delete that file when you need nothing of it"
    );
    shorten(path, end)
}

fn free_file(path: &Path) -> Result<(PathBuf, File), SinkError> {
    let mut number = 1u64;
    loop {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".tail-{number}"));
        let aside = PathBuf::from(aside);
        match OpenOptions::new().write(true).create_new(true).open(&aside) {
            Ok(file) => return Ok((aside, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(failed("cannot make", &aside)(e)),
        }
    }
}

fn shorten(path: &Path, end: u64) -> Result<(), SinkError> {
    let cut = || {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(end)?;
        file.sync_all()
    };
    cut().map_err(failed("cannot shorten", path))
}

/// Of a line that concerns the ledger, what it goes by.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line {
    Record {
        host: String,
        site: String,
        epoch: u64,
        seq: u64,
        time: Option<String>,
        #[serde(default)]
        corrected: bool,
        boot: Option<String>,
        mono: Option<i64>,
    },
    Clock {
        host: String,
        boot: String,
        offset: i64,
    },
    #[serde(other)]
    Other,
}

/// `None`: no line of ours. `Some(None)`: one of which the ledger keeps nothing.
fn found(line: &[u8]) -> Option<Option<Found>> {
    Some(match serde_json::from_slice(line).ok()? {
        Line::Record { host, site, epoch, seq, time, corrected, boot, mono } => {
            let given = || time?.parse::<jiff::Timestamp>().ok()?.as_millisecond().checked_sub(mono?);
            let given = if corrected { Some(given()?) } else { None };
            Some(Found::Record { host, site, epoch, seq, boot: boot.map(|boot| (boot, given)) })
        }
        Line::Clock { host, boot, offset } => Some(Found::Correction { host, boot, offset_ms: offset }),
        Line::Other => None,
    })
}
