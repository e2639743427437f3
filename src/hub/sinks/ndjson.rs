//! Records as NDJSON, one object a line, in files that are closed by size and age.
//!
//! `records-{number}-{time}.ndjson`: numbers rise, only the newest file grows, the others are final. Each batch is
//! synced before the ledger commits. Takes back nothing but what this process wrote in a batch that failed, and a last line
//! that was never finished; how long files are kept is for whoever reads them.

mod beyond;

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Begun, Beyond, Correction, Sink, SinkError, SinkOptions, Stored};
use crate::clock::Now;
use crate::hub::line::time_of;
use crate::record::{ClockContext, Fields, RunError, Status, Tags};
use crate::wire::Lane;

/// Written out when it is this long.
const BUFFER: usize = 256 << 10;

pub fn open(options: &SinkOptions) -> Result<Box<dyn Sink>, SinkError> {
    std::fs::create_dir_all(&options.dir).map_err(failed("cannot make the directory", &options.dir))?;
    Ok(Box::new(Ndjson {
        options: options.clone(),
        base: Position::FIRST,
        failed: None,
        current: None,
        last: 0,
        buffer: Vec::new(),
        now_ms: 0,
        made: false,
    }))
}

struct Ndjson {
    options: SinkOptions,
    /// Where the batch begins.
    base: Position,
    /// The file into which a batch wrote that was not committed, and how far at most: all that may be taken back.
    failed: Option<Position>,
    current: Option<Current>,
    /// The highest number in use.
    last: u64,
    buffer: Vec<u8>,
    now_ms: i64,
    /// The file is new to its directory, which is not synced yet.
    made: bool,
}

struct Current {
    file: File,
    name: Name,
    /// Synced, and said so to the ledger.
    durable: u64,
    /// Written or buffered.
    len: u64,
}

impl Sink for Ndjson {
    fn beyond(&mut self, durable: Option<&str>) -> Result<Option<Beyond>, SinkError> {
        beyond::next(&self.options.dir, durable.and_then(Position::parse))
    }

    fn begin(&mut self, durable: Option<&str>, now: Now) -> Result<Begun, SinkError> {
        self.now_ms = now.wall_ms;
        self.buffer.clear();
        let at = durable.and_then(Position::parse).unwrap_or(Position::FIRST);
        let stands = self.stands(&at)?;
        self.base = at.clone();
        if stands {
            self.failed = None;
            // Before a file is made the directory is looked at: another may have that number by now.
            if self.current.as_ref().is_some_and(|current| !self.is_full(current)) {
                return Ok(Begun::Ready);
            }
        }
        if let Some(Current { name, len, .. }) = self.current.take().filter(|_| !stands) {
            self.failed = Some(Position { name, len });
        }
        let begun = self.recover(at)?;
        if self.current.as_ref().is_some_and(|current| self.is_full(current)) {
            self.current = None;
        }
        Ok(begun)
    }

    fn write(&mut self, record: &Stored<'_>) -> Result<(), SinkError> {
        self.line(&Row::new(record))
    }

    fn correct(&mut self, correction: &Correction<'_>) -> Result<(), SinkError> {
        self.line(&ClockRow::new(correction))
    }

    fn flush(&mut self) -> Result<String, SinkError> {
        self.write_out()?;
        let Some(current) = &mut self.current else { return Ok(self.base.to_string()) };
        let path = self.options.dir.join(current.name.to_string());
        if current.len > current.durable {
            current.file.sync_data().map_err(failed("cannot sync", &path))?;
        }
        if std::mem::take(&mut self.made) {
            sync_dir(&self.options.dir)?;
        }
        current.durable = current.len;
        Ok(Position { name: current.name.clone(), len: current.len }.to_string())
    }
}

impl Ndjson {
    fn line(&mut self, row: &impl Serialize) -> Result<(), SinkError> {
        if self.current.is_none() {
            self.make()?;
        }
        let before = self.buffer.len();
        serde_json::to_writer(&mut self.buffer, row).expect("a row is JSON, and a Vec takes all");
        self.buffer.push(b'\n');
        if let Some(current) = &mut self.current {
            current.len += (self.buffer.len() - before) as u64;
        }
        if self.buffer.len() >= BUFFER { self.write_out() } else { Ok(()) }
    }

    fn write_out(&mut self) -> Result<(), SinkError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let path = self.options.dir.join(current.name.to_string());
        current.file.write_all(&self.buffer).map_err(failed("cannot write to", &path))?;
        self.buffer.clear();
        Ok(())
    }

    fn is_full(&self, current: &Current) -> bool {
        let age = self.now_ms.saturating_sub(current.name.made_ms);
        current.len >= self.options.file_bytes || age >= self.options.file_age.as_millis() as i64
    }

    /// Whether the open file ends at `at`, and is the one of that name: somebody may have taken it away, replaced it or cut
    /// it, and what is written to it nobody would find.
    fn stands(&self, at: &Position) -> Result<bool, SinkError> {
        let ends_there = |c: &&Current| c.name == at.name && c.len == at.len && c.durable == at.len;
        let Some(current) = self.current.as_ref().filter(ends_there) else { return Ok(false) };
        let path = self.options.dir.join(at.name.to_string());
        let open = current.file.metadata().map_err(failed("cannot look at", &path))?;
        let found = metadata(&path)?;
        Ok(found.is_some_and(|found| (found.dev(), found.ino(), found.len()) == (open.dev(), open.ino(), at.len)))
    }

    /// Takes back what a batch of ours has left behind `at`, and goes on there.
    fn recover(&mut self, at: Position) -> Result<Begun, SinkError> {
        self.take_back(&at)?;
        let names = names(&self.options.dir)?;
        let path = self.options.dir.join(at.name.to_string());
        let len = length(&path)?;
        if len.is_some_and(|len| len > at.len) || names.iter().any(|name| name.key() > at.name.key()) {
            return Ok(Begun::Beyond);
        }
        self.last = at.name.number;
        match len {
            None if at.name.number == 0 => {}
            None => tracing::info!(file = %path.display(), "was taken away; going on with the next"),
            Some(len) if len < at.len => tracing::error!(
                file = %path.display(), has = len, had = at.len,
                "is shorter than what was stored in it: records are gone; going on with the next"
            ),
            Some(_) => self.continue_at(at, &path)?,
        }
        Ok(Begun::Ready)
    }

    /// Nothing that this process did not write: longer than we made it, it is somebody else's as well.
    fn take_back(&mut self, at: &Position) -> Result<(), SinkError> {
        let Some(Position { name, len: wrote }) = &self.failed else { return Ok(()) };
        let path = self.options.dir.join(name.to_string());
        let has = length(&path)?;
        let ours = has.is_some_and(|has| has <= *wrote);
        if ours && *name == at.name && has > Some(at.len) {
            tracing::info!(file = %path.display(), "taking back a batch that failed");
            let cut = || {
                let file = OpenOptions::new().write(true).open(&path)?;
                file.set_len(at.len)?;
                file.sync_all()
            };
            cut().map_err(failed("cannot shorten", &path))?;
        } else if ours && name.key() > at.name.key() {
            std::fs::remove_file(&path).map_err(failed("cannot delete the uncommitted", &path))?;
            sync_dir(&self.options.dir)?;
        }
        self.failed = None;
        Ok(())
    }

    fn continue_at(&mut self, at: Position, path: &Path) -> Result<(), SinkError> {
        let mut file = OpenOptions::new().write(true).open(path).map_err(failed("cannot open", path))?;
        file.seek(SeekFrom::Start(at.len)).map_err(failed("cannot seek in", path))?;
        self.current = Some(Current { file, name: at.name, durable: at.len, len: at.len });
        Ok(())
    }

    fn make(&mut self) -> Result<(), SinkError> {
        // To the second, as its name says.
        let name = Name { number: self.last + 1, made_ms: self.now_ms - self.now_ms.rem_euclid(1000) };
        let path = self.options.dir.join(name.to_string());
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed("cannot make", &path))?;
        self.made = true;
        self.last = name.number;
        self.current = Some(Current { file, name, durable: 0, len: 0 });
        Ok(())
    }
}

/// Our files, oldest first.
fn names(dir: &Path) -> Result<Vec<Name>, SinkError> {
    let list = || {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            names.extend(entry?.file_name().to_str().and_then(Name::parse));
        }
        Ok(names)
    };
    let mut names = list().map_err(failed("cannot list", dir))?;
    names.sort_unstable_by_key(Name::key);
    Ok(names)
}

fn length(path: &Path) -> Result<Option<u64>, SinkError> {
    Ok(metadata(path)?.map(|about| about.len()))
}

/// `None` when there is no such file.
fn metadata(path: &Path) -> Result<Option<Metadata>, SinkError> {
    match std::fs::metadata(path) {
        Ok(about) => Ok(Some(about)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("cannot look at", path)(e)),
    }
}

fn sync_dir(dir: &Path) -> Result<(), SinkError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(failed("cannot sync the directory", dir))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SinkError {
    let path: PathBuf = path.to_owned();
    move |source| SinkError { what, path, source }
}

/// A file's name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    number: u64,
    made_ms: i64,
}

impl Name {
    /// Files are read in this order.
    fn key(&self) -> (u64, i64) {
        (self.number, self.made_ms)
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, time) = text.strip_prefix("records-")?.strip_suffix(".ndjson")?.split_once('-')?;
        let made = jiff::fmt::strtime::parse(TIME, time).ok()?.to_datetime().ok()?;
        let made_ms = made.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond();
        Some(Self { number: number.parse().ok()?, made_ms })
    }
}

const TIME: &str = "%Y%m%dT%H%M%SZ";

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let made = jiff::Timestamp::from_millisecond(self.made_ms).unwrap_or_default();
        write!(f, "records-{:08}-{}.ndjson", self.number, made.strftime(TIME))
    }
}

/// `file length`, for the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    name: Name,
    len: u64,
}

impl Position {
    /// Before any file.
    const FIRST: Self = Self { name: Name { number: 0, made_ms: 0 }, len: 0 };

    fn parse(text: &str) -> Option<Self> {
        let (name, len) = text.split_once(' ')?;
        Some(Self { name: Name::parse(name)?, len: len.parse().ok()? })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.len)
    }
}

/// One line: the fields of `tail`'s `record`, without a verdict, for all are new, and what its time rests on.
#[derive(Serialize)]
struct Row<'a> {
    r#type: &'static str,
    host: &'a str,
    site: &'a str,
    epoch: u64,
    seq: u64,
    ts: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    name: &'a str,
    status: Status,
    tags: &'a Tags,
    fields: &'a Fields,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RunError>,
    synced: bool,
    /// Whether `time` is better than `ts`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    corrected: bool,
    /// What a later correction goes by; only where the clock was not synchronised and the time is of that clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mono: Option<u64>,
    lane: Lane,
    topic: &'a str,
}

impl<'a> Row<'a> {
    fn new(stored: &Stored<'a>) -> Self {
        let Stored { envelope, record, topic, time_ms, corrected } = *stored;
        let goes_with_a_boot = !envelope.synced && envelope.boot != ClockContext::NO_BOOT;
        Self {
            r#type: "record",
            host: &envelope.host,
            site: &envelope.site,
            epoch: envelope.epoch,
            seq: record.seq,
            ts: record.ts,
            time: time_of(time_ms),
            name: &record.name,
            status: record.status,
            tags: &record.tags,
            fields: &record.fields,
            error: record.error.as_ref(),
            synced: envelope.synced,
            corrected,
            boot: goes_with_a_boot.then_some(envelope.boot.as_str()),
            mono: goes_with_a_boot.then_some(record.mono),
            lane: envelope.lane,
            topic,
        }
    }
}

/// The one line that is no record: a [`Correction`].
#[derive(Serialize)]
struct ClockRow<'a> {
    r#type: &'static str,
    host: &'a str,
    site: &'a str,
    boot: &'a str,
    offset: i64,
}

impl<'a> ClockRow<'a> {
    fn new(correction: &Correction<'a>) -> Self {
        let Correction { host, site, boot, offset_ms } = *correction;
        Self { r#type: "clock", host, site, boot, offset: offset_ms }
    }
}

#[cfg(test)]
mod tests;
