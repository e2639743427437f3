//! The hub: the shipped reading, desk (tracker, acknowledgements, questions), commit and ledger; its file is on a simulated
//! disk, its sink in memory.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use holdover::clock::Now;
use holdover::hub::ingest::commit::commit;
use holdover::hub::ingest::desk::Desk;
use holdover::hub::ingest::resends::Ask;
use holdover::hub::ingest::{begin, remembered};
use holdover::hub::ledger::{Ledger, LedgerError, begin_file};
use holdover::hub::read::{Message, read};
use holdover::hub::sinks::{Correction, Sink, SinkError, Stored};
use holdover::hub::tracker::Gap;
use holdover::outbox::Disk;
use holdover::ranges::RangeSet;
use holdover::wire::{Ack, DecodeLimits, VERSION};
use redb::{Builder, Database, StorageBackend};

use super::crash_disk::{Rng, SimDisk};

const HOST: &str = "host";
const DIR: &str = "/hub";

pub struct Hub {
    desk: Desk,
    ledger: Ledger,
    sink: MemorySink,
    disk: SimDisk,
    /// Messages taken since the last commit, that the broker is to be acknowledged for.
    pub uncommitted: usize,
    said: u64,
    runs: u64,
}

/// What the hub says to the host.
pub enum Word {
    Ask(Ask),
    Ack(Ack),
}

impl Hub {
    pub fn new(now: Now) -> Self {
        let disk = SimDisk::new();
        Self::on(disk, MemorySink::default(), 0, now).expect("nothing is wrong yet")
    }

    fn on(disk: SimDisk, mut sink: MemorySink, runs: u64, now: Now) -> Result<Self, String> {
        let its = disk.clone();
        let opener = Box::new(move || open(&its).map_err(|why| LedgerError::Io { path: DIR.into(), why }));
        let mut ledger = Ledger::kept_by(Path::new(DIR), opener).map_err(|e| format!("ledger: {e}"))?;
        begin(&mut ledger, &mut sink, now).map_err(|e| format!("ledger: {e}"))?;
        let (tracker, sites) = remembered(&mut ledger, now).map_err(|e| format!("ledger: {e}"))?;
        Ok(Self { desk: Desk::new(tracker, sites, runs), ledger, sink, disk, uncommitted: 0, said: 0, runs })
    }

    /// Takes in one message, as the loop of ingest does. Returns the epoch and seqs of its records.
    pub fn take(
        &mut self,
        (topic, payload, retain): (&str, &[u8], bool),
        now: Now,
    ) -> Result<Option<(u64, RangeSet)>, String> {
        self.uncommitted += usize::from(!retain);
        let message = read("", topic, payload, retain, &DecodeLimits::default());
        let mut records = None;
        match message.map_err(|bad| format!("read: {}", bad.reason))? {
            Some(Message::Data { envelope, proof, .. }) => {
                let seqs = envelope.records.iter().map(|record| record.seq..=record.seq).collect();
                records = Some((envelope.epoch, seqs));
                self.desk.data(envelope, topic.to_owned(), proof, now);
            }
            Some(Message::Online(status)) => drop(self.desk.online(status, retain, now)),
            Some(Message::Offline { host, session, .. }) => self.desk.offline(host, session),
            _ => {}
        }
        Ok(records)
    }

    /// Makes what was taken durable. Each record is in the sink once.
    pub fn commit(&mut self, now: Now) -> Result<(), String> {
        self.uncommitted = 0;
        let batch = std::mem::take(&mut self.desk.batch);
        let committed = commit(&batch, &mut self.ledger, &mut self.sink, now).map_err(|e| format!("commit: {e}"))?;
        committed.acks.into_iter().for_each(|ack| self.desk.acks.add(ack));
        self.sink.once()
    }

    /// What is to be said now; the broker takes it.
    pub fn speak(&mut self, now: Now) -> Vec<Word> {
        let mut words: Vec<Word> = std::iter::from_fn(|| self.desk.resends.next(now.mono)).map(Word::Ask).collect();
        while let Some(ack) = self.desk.acks.next(now.mono) {
            self.said += 1;
            words.push(Word::Ack(ack.ack.clone()));
            self.desk.acks.sent(self.said, ack, now.mono);
            self.desk.acks.answered(self.said, true);
        }
        words
    }

    pub fn has_to_say(&self) -> bool {
        !self.desk.acks.is_empty() || !self.desk.resends.is_empty()
    }

    /// The connection is gone, the process lives: it goes on with what it has, and gets it again.
    pub fn disconnected(&mut self) {
        self.uncommitted = 0;
        self.desk.acks.disconnected();
    }

    /// The process is killed or the power fails, and it starts again on what its disk kept.
    pub fn crash(&mut self, power: bool, seed: u64, now: Now) -> Result<(), String> {
        let mut chance = Rng(seed | 1);
        let image = if power { self.disk.world().crash(&mut chance) } else { self.disk.killed() };
        self.sink.crash(&mut chance);
        *self = Self::on(image, self.sink.clone(), self.runs + 1, now)?;
        Ok(())
    }

    /// What it lacks by its own account, pending or not.
    pub fn gaps(&self) -> Vec<Gap> {
        self.desk.tracker.gaps(HOST)
    }

    /// What a crash would leave it knowing of an epoch.
    pub fn knows(&mut self, epoch: u64) -> Result<Known, String> {
        let account = self.ledger.draft().and_then(|mut draft| draft.peek(HOST, epoch));
        let account = account.map_err(|e| format!("ledger: {e}"))?.unwrap_or_default();
        let mut sure = account.seen.clone();
        sure.union(&account.gone);
        account.declared_from.into_iter().for_each(|(from, _)| sure.insert(from..=u64::MAX));
        let mut excused = sure.clone();
        account.declared.values().for_each(|set| excused.union(set));
        Ok(Known { seen: account.seen, sure, excused })
    }
}

/// Seqs, by what is known of them: committed; these, and each one that is gone; these, and what a merged loss may cover.
pub struct Known {
    pub seen: RangeSet,
    pub sure: RangeSet,
    pub excused: RangeSet,
}

/// An acknowledgement of what was only received: for a planted fault.
pub fn early(epoch: u64, seqs: &RangeSet) -> Ack {
    Ack { v: VERSION, epoch, upto: 0, ranges: seqs.iter().take(64).map(|r| [*r.start(), *r.end()]).collect() }
}

/// The ledger's file, begun under another name and renamed, as the shipped one is.
fn open(disk: &SimDisk) -> Result<Database, String> {
    let (dir, temp, path) = (Path::new(DIR), Path::new("/hub/ledger.tmp"), Path::new("/hub/ledger.redb"));
    let mut builder = Builder::new();
    builder.set_cache_size(256 << 10);
    if let Ok(file) = disk.open(path, true) {
        return builder.create_with_backend(File(file)).map_err(|e| e.to_string());
    }
    let begun = || -> Result<Database, redb::Error> {
        disk.make_dir(dir)?;
        disk.sync_dir(Path::new("/"))?;
        let db = builder.create_with_backend(File(disk.create(temp)?))?;
        begin_file(&db)?;
        disk.rename(temp, path)?;
        disk.sync_dir(dir)?;
        Ok(db)
    };
    begun().map_err(|e| e.to_string())
}

#[derive(Debug)]
struct File(Box<dyn StorageBackend>);

impl StorageBackend for File {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

/// Epoch and seq of each record, in order; a position is how many there are.
#[derive(Clone, Default)]
struct MemorySink {
    rows: Arc<Mutex<Vec<(u64, u64)>>>,
    flushed: usize,
    /// Looked at so far.
    checked: usize,
    known: BTreeSet<(u64, u64)>,
}

impl MemorySink {
    fn once(&mut self) -> Result<(), String> {
        let rows = self.rows.lock().expect("one thread");
        for row in &rows[self.checked..] {
            if !self.known.insert(*row) {
                return Err(format!("stored-twice: {row:?} is in the sink twice"));
            }
        }
        self.checked = rows.len();
        Ok(())
    }

    /// Of what was not flushed, any part may be there.
    fn crash(&mut self, chance: &mut Rng) {
        let mut rows = self.rows.lock().expect("one thread");
        let unflushed = (rows.len() - self.flushed) as u64;
        rows.truncate(self.flushed + chance.below(unflushed + 1) as usize);
    }
}

impl Sink for MemorySink {
    fn begin(&mut self, durable: Option<&str>, _: Now) -> Result<(), SinkError> {
        let position = durable.and_then(|text| text.parse().ok()).unwrap_or(0);
        self.rows.lock().expect("one thread").truncate(position);
        self.flushed = position;
        Ok(())
    }
    fn write(&mut self, record: &Stored<'_>) -> Result<(), SinkError> {
        self.rows.lock().expect("one thread").push((record.envelope.epoch, record.record.seq));
        Ok(())
    }
    fn correct(&mut self, _: &Correction<'_>) -> Result<(), SinkError> {
        Ok(())
    }
    fn flush(&mut self) -> Result<String, SinkError> {
        self.flushed = self.rows.lock().expect("one thread").len();
        Ok(self.flushed.to_string())
    }
}
