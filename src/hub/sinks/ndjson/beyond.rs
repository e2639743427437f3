//! What the files hold beyond the ledger's position, read back so that the ledger learns it; decision 0010 says why.
//!
//! Whole lines are stored, whoever wrote them and whether or not a ledger once knew: they are synced and told in their
//! order, a part at a time. Nothing that a ledger may ever have vouched for is destroyed: what is no line of ours stays where it
//! is as far as its newline. Behind the last newline of the newest file a line that is whole gets its own, one
//! that was never finished is dropped, and other bytes are moved beside the file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
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
    let (mut rows, mut end, stop) = read(file, &path, at.len).map_err(failed("cannot read", &path))?;
    match stop {
        Stop::Whole { row, text, piece } => {
            rows.extend(row);
            if newest {
                finish_line(&path, end + text)?;
            }
            end += if newest { text + 1 } else { piece };
        }
        Stop::Unfinished if newest => drop_line(&path, end)?,
        Stop::Unreadable if newest => set_aside(dir, &path, end)?,
        Stop::Unreadable => {
            tracing::error!(file = %path.display(), at = end, "its end is no record of ours; it stays there")
        }
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
    /// What follows is a line whose newline is not there or another byte: so many bytes of text, in a piece so long.
    Whole {
        row: Option<Found>,
        text: u64,
        piece: u64,
    },
    /// What follows is the beginning of a line.
    Unfinished,
    /// What follows is no line of ours.
    Unreadable,
}

/// Lines from `from` on, and where they end. What is none of ours is passed over as far as its newline.
fn read(mut file: File, path: &Path, from: u64) -> io::Result<(Vec<Found>, u64, Stop)> {
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::new(file);
    let (mut rows, mut end, mut line) = (Vec::new(), from, Vec::new());
    let (mut first_bad, mut pieces, mut bytes) = (None, 0u64, 0u64);
    let stop = loop {
        if end - from >= PART {
            break Stop::More;
        }
        line.clear();
        let mut length = reader.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line)? as u64;
        if length == 0 {
            break Stop::End;
        }
        let whole = line.last() == Some(&b'\n');
        match found(&line).filter(|_| whole) {
            Some(row) => {
                rows.extend(row);
                end += length;
                continue;
            }
            None if whole => {}
            None if line.len() < MAX_LINE => break last(&line),
            None => match rest_of_line(&mut reader)? {
                Some(rest) => length += rest,
                None => break Stop::Unreadable,
            },
        }
        first_bad.get_or_insert(end);
        (pieces, bytes) = (pieces + 1, bytes + length);
        end += length;
    };
    if let Some(at) = first_bad {
        tracing::error!(
            file = %path.display(), at, pieces, bytes,
            "holds lines that are no records of ours (a damaged disk?), the first at this offset: they are passed over and \
             stay there; what is missing by it is asked for again"
        );
    }
    Ok((rows, end, stop))
}

/// What the piece is behind the last newline. The text of a line is whole only with its last brace, so one that reads
/// as a line is the line that was made.
fn last(piece: &[u8]) -> Stop {
    let length = piece.len() as u64;
    if let Some(row) = found(piece) {
        return Stop::Whole { row, text: length, piece: length };
    }
    if let Some(row) = found(&piece[..piece.len() - 1]) {
        return Stop::Whole { row, text: length - 1, piece: length };
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(piece) {
        Err(e) if e.is_eof() && piece.starts_with(b"{") => Stop::Unfinished,
        _ => Stop::Unreadable,
    }
}

/// The bytes up to and with the next newline; `None` when there is none.
fn rest_of_line(reader: &mut impl BufRead) -> io::Result<Option<u64>> {
    let mut length = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let newline = buffer.iter().position(|byte| *byte == b'\n');
        let used = newline.map_or(buffer.len(), |at| at + 1);
        reader.consume(used);
        length += used as u64;
        if newline.is_some() {
            return Ok(Some(length));
        }
    }
}

fn finish_line(path: &Path, end: u64) -> Result<(), SinkError> {
    tracing::info!(file = %path.display(), "a last line was whole but for its newline: it has one now");
    let finish = || {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::Start(end))?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    finish().map_err(failed("cannot write to", path))
}

fn drop_line(path: &Path, end: u64) -> Result<(), SinkError> {
    tracing::info!(file = %path.display(), "dropping a last line that was never finished");
    shorten(path, end)
}

/// Moves what follows `end` into a file of its own.
fn set_aside(dir: &Path, path: &Path, end: u64) -> Result<(), SinkError> {
    let mut from = File::open(path).map_err(failed("cannot open", path))?;
    from.seek(SeekFrom::Start(end)).map_err(failed("cannot seek in", path))?;
    let (aside, bytes) = copy_aside(path, from)?;
    sync_dir(dir)?;
    tracing::error!(
        file = %path.display(), bytes, aside = %aside.display(),
        "the end of the file is no record of ours (a damaged disk?): it was moved to the file named; what is missing by it is asked \
         for again; delete that file when you need nothing of it"
    );
    shorten(path, end)
}

/// Under its name only when it is whole: attempts on a full disk leave nothing behind.
fn copy_aside(path: &Path, mut from: impl Read) -> Result<(PathBuf, u64), SinkError> {
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let part = beside(".tail-part");
    let mut copy = || {
        let mut to = File::create(&part)?;
        let bytes = io::copy(&mut from, &mut to)?;
        to.sync_all()?;
        let mut number = 1u64;
        while beside(&format!(".tail-{number}")).try_exists()? {
            number += 1;
        }
        let aside = beside(&format!(".tail-{number}"));
        std::fs::rename(&part, &aside)?;
        Ok((aside, bytes))
    };
    copy().map_err(|error| {
        std::fs::remove_file(&part).ok();
        failed("cannot set aside what cannot be read, in", &part)(error)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Some bytes, then a full disk.
    struct Full(usize);

    impl Read for Full {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
            buffer.fill(b'x');
            Ok(buffer.len())
        }
    }

    #[test]
    fn setting_aside_leaves_nothing_of_an_attempt_that_failed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for _ in 0..3 {
            copy_aside(&path, Full(2)).unwrap_err();
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
        for number in 1..=2 {
            let (aside, bytes) = copy_aside(&path, &b"tail"[..]).unwrap();
            assert_eq!((aside, bytes), (dir.path().join(format!("f.tail-{number}")), 4));
        }
    }
}
