//! The hub: the shipped reading, desk (tracker, acknowledgements, questions), commit and ledger; its file is on a simulated
//! disk, its sink in memory.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use holdover::clock::Now;
use holdover::hub::ingest::commit::{Committed, commit};
use holdover::hub::ingest::desk::Desk;
use holdover::hub::ingest::resends::Ask;
use holdover::hub::ingest::{begin, remembered};
use holdover::hub::ledger::{Ledger, LedgerError, begin_file};
use holdover::hub::read::{Message, read};
use holdover::hub::sinks::{Begun, Beyond, Correction, Found, Sink, SinkError, Stored};
use holdover::hub::tracker::Gap;
use holdover::outbox::Disk;
use holdover::ranges::RangeSet;
use holdover::record::Record;
use holdover::wire::{Ack, DecodeLimits, VERSION};
use redb::{Builder, Database, StorageBackend};

use super::crash_disk::{Rng, SimDisk};
use super::plant::Fault;

const HOST: &str = "host";
const SITE: &str = "site";
/// Rows of which the ledger learns at once.
const PART: usize = 16;
const DIR: &str = "/hub";

pub struct Hub {
    desk: Desk,
    ledger: Ledger,
    sink: MemorySink,
    disk: SimDisk,
    /// The next commit does not end well.
    doom: Option<(Doom, u64)>,
    /// Messages taken since the last commit, that the broker is to be acknowledged for.
    pub uncommitted: usize,
    said: u64,
    runs: u64,
    fault: Option<Fault>,
}

/// How a commit is cut short.
#[derive(Clone, Copy, Debug)]
pub enum Doom {
    /// Killed while it writes to its sink.
    InSink,
    /// The power fails at the first sync of the ledger: the sink is ahead.
    AtLedger,
}

/// What the hub says to the host.
pub enum Word {
    Ask(Ask),
    Ack(Ack),
}

impl Hub {
    pub fn new(fault: Option<Fault>, now: Now) -> Self {
        let sink = MemorySink {
            keeps_tail: fault == Some(Fault::SinkKeepsTail),
            forgets: matches!(fault, Some(Fault::SinkForgets | Fault::HubNoFsync)),
            ..MemorySink::default()
        };
        Self::on(SimDisk::new(), sink, (0, fault), now).expect("nothing is wrong yet")
    }

    fn on(disk: SimDisk, mut sink: MemorySink, (runs, fault): (u64, Option<Fault>), now: Now) -> Result<Self, String> {
        disk.world().ignores_sync = fault == Some(Fault::HubNoFsync);
        let its = disk.clone();
        let opener = Box::new(move || {
            open(&its).map_err(|why| LedgerError::Io { path: DIR.into(), source: std::io::Error::other(why) })
        });
        let mut ledger = Ledger::kept_by(Path::new(DIR), opener).map_err(|e| format!("ledger: {e}"))?;
        begin(&mut ledger, &mut sink, now).map_err(|e| format!("ledger: {e}"))?;
        let (tracker, sites) = remembered(&mut ledger, now).map_err(|e| format!("ledger: {e}"))?;
        let desk = Desk::new(tracker, sites, runs);
        Ok(Self { desk, ledger, sink, disk, doom: None, uncommitted: 0, said: 0, runs, fault })
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

    /// Makes what was taken durable: each record once. Returns what was stored, or `None` when the process did not live to
    /// see it.
    pub fn commit(&mut self, now: Now) -> Result<Option<Vec<Row>>, String> {
        let Some((doom, seed)) = self.doom.take() else {
            self.uncommitted = 0;
            let committed = self.try_commit(now)?;
            committed.acks.into_iter().for_each(|ack| self.desk.acks.add(ack));
            return self.sink.once().map(Some);
        };
        let mut chance = Rng(seed | 1);
        let image = Arc::new(Mutex::new(None));
        let (before, flushed, at_sync) = (self.disk.killed(), self.sink.flushed, Arc::clone(&image));
        self.disk.on_sync(move |world| {
            let mut chance = Rng(seed | 1);
            at_sync.lock().expect("one thread").get_or_insert_with(|| world.crash(&mut chance));
        });
        self.try_commit(now)?;
        let image = match doom {
            Doom::InSink => {
                self.sink.flushed = flushed;
                before
            }
            Doom::AtLedger => image.lock().expect("one thread").take().ok_or("a commit without a sync")?,
        };
        self.sink.crash(&mut chance);
        *self = Self::on(image, self.sink.clone(), (self.runs + 1, self.fault), now)?;
        Ok(None)
    }

    /// Nothing goes wrong any more.
    pub fn spare(&mut self) {
        self.doom = None;
    }

    fn try_commit(&mut self, now: Now) -> Result<Committed, String> {
        let batch = std::mem::take(&mut self.desk.batch);
        commit(&batch, &mut self.ledger, &mut self.sink, now).map_err(|e| format!("commit: {e}"))
    }

    pub fn doom(&mut self, doom: Doom, seed: u64) {
        self.doom = Some((doom, seed));
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
        *self = Self::on(image, self.sink.clone(), (self.runs + 1, self.fault), now)?;
        Ok(())
    }

    /// What it lacks by its own account, pending or not.
    pub fn gaps(&self) -> Vec<Gap> {
        self.desk.tracker.gaps(HOST)
    }

    /// What is in its files of an epoch.
    pub fn stored(&self, epoch: u64) -> RangeSet {
        self.sink.seqs(epoch)
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

/// A stored record, and its epoch.
pub type Row = (u64, Record);

/// What a file of records would hold, in order; a position is how many there are.
#[derive(Clone, Default)]
pub struct MemorySink {
    rows: Arc<Mutex<Vec<Row>>>,
    flushed: usize,
    /// Looked at so far.
    checked: usize,
    known: BTreeSet<(u64, u64)>,
    /// For planted faults: what lies beyond the ledger's position stays; what was flushed may be gone after a crash.
    keeps_tail: bool,
    forgets: bool,
}

impl MemorySink {
    /// What is new. No record is there twice.
    fn once(&mut self) -> Result<Vec<Row>, String> {
        let rows = self.rows.lock().expect("one thread");
        let fresh = rows[self.checked..].to_vec();
        self.checked = rows.len();
        for (epoch, record) in &fresh {
            if !self.known.insert((*epoch, record.seq)) {
                return Err(format!("stored-twice: seq {} of {epoch} is in the sink twice", record.seq));
            }
        }
        Ok(fresh)
    }

    fn seqs(&self, epoch: u64) -> RangeSet {
        let rows = self.rows.lock().expect("one thread");
        rows.iter().filter(|row| row.0 == epoch).map(|(_, record)| record.seq..=record.seq).collect()
    }

    /// Of what was not flushed, any part may be there.
    fn crash(&mut self, chance: &mut Rng) {
        let rows = self.rows.lock().expect("one thread").len();
        let sure = if self.forgets { self.flushed / 2 } else { self.flushed };
        let unsure = (rows - sure) as u64;
        let left = sure + chance.below(unsure + 1) as usize;
        self.cut(left);
    }

    fn cut(&mut self, position: usize) {
        let mut rows = self.rows.lock().expect("one thread");
        let position = position.min(rows.len());
        for (epoch, record) in rows.drain(position..) {
            self.known.remove(&(epoch, record.seq));
        }
        self.checked = self.checked.min(rows.len());
    }
}

impl Sink for MemorySink {
    fn beyond(&mut self, durable: Option<&str>) -> Result<Option<Beyond>, SinkError> {
        let from = durable.and_then(|text| text.parse().ok()).unwrap_or(0);
        let rows = self.rows.lock().expect("one thread");
        let part = rows.get(from..(from + PART).min(rows.len())).filter(|part| !part.is_empty() && !self.keeps_tail);
        let Some(part) = part else { return Ok(None) };
        self.flushed = from + part.len();
        // Of clocks this sink knows nothing: nobody asks for its times.
        let found = |(epoch, record): &Row| Found::Record {
            host: HOST.into(),
            site: SITE.into(),
            epoch: *epoch,
            seq: record.seq,
            boot: None,
        };
        let rows = part.iter().map(found).collect();
        Ok(Some(Beyond { rows, since_ms: 1, position: self.flushed.to_string() }))
    }
    fn begin(&mut self, durable: Option<&str>, _: Now) -> Result<Begun, SinkError> {
        let position = durable.and_then(|text| text.parse().ok()).unwrap_or(0);
        if !self.keeps_tail {
            self.cut(position);
        }
        self.flushed = position;
        Ok(Begun::Ready)
    }
    fn write(&mut self, record: &Stored<'_>) -> Result<(), SinkError> {
        self.rows.lock().expect("one thread").push((record.envelope.epoch, record.record.clone()));
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
