//! One batch into sink and ledger: what is new is written, what is known is not, and both are durable together.
//!
//! Blocking; run by the writer's thread. A batch that fails can be committed again: the ledger decides what is new. In
//! this process the sink takes back what the failed one wrote; after a crash the ledger learns whole lines of it as stored.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::adopt::begin_batch;
use super::batch::{Batch, Item};
use crate::clock::Now;
use crate::hub::ledger::{Draft, Forgot, Ledger, LedgerError, Times, Told};
use crate::hub::sinks::{Correction, Sink, SinkError, Stored};
use crate::record::Record;
use crate::wire::{Ack, Envelope, Loss, State, Status};

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What a commit has made known.
#[derive(Debug, Default)]
pub struct Committed {
    pub stored: u64,
    pub duplicates: u64,
    pub acks: Vec<HostAck>,
    /// What bounds made the ledger forget, with one epoch of each host.
    pub forgot: BTreeMap<(String, Forgot), u64>,
}

/// What may be said to a host now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAck {
    pub site: String,
    pub host: String,
    pub ack: Ack,
    /// Records stored by this commit.
    pub stored: u64,
}

/// The epochs to acknowledge, with what was stored of each.
type Touched = std::collections::BTreeMap<(String, u64), u64>;

pub fn commit(batch: &Batch, ledger: &mut Ledger, sink: &mut dyn Sink, now: Now) -> Result<Committed, CommitError> {
    begin_batch(ledger, sink, now)?;
    let mut work = Work { draft: ledger.draft()?, sink, now, done: Committed::default(), touched: Touched::new() };
    // All anchors first: no record of this batch is stored as it came when another message of the batch knows better.
    for item in &batch.items {
        work.learn(item)?;
    }
    for item in &batch.items {
        work.item(item)?;
    }
    let done = work.finish()?;
    Ok(Committed { forgot: ledger.take_forgotten(), ..done })
}

struct Work<'a> {
    draft: Draft<'a>,
    sink: &'a mut dyn Sink,
    now: Now,
    done: Committed,
    touched: Touched,
}

impl Work<'_> {
    fn learn(&mut self, item: &Item) -> Result<(), CommitError> {
        let Item::Data { envelope: Envelope { host, site, boot, anchor: Some(anchor), .. }, .. } = item else {
            return Ok(());
        };
        if let Some(offset_ms) = self.draft.host(host)?.clocks.learn(boot, *anchor, self.now.wall_ms) {
            self.sink.correct(&Correction { host, site, boot, offset_ms })?;
        }
        Ok(())
    }

    fn item(&mut self, item: &Item) -> Result<(), CommitError> {
        match item {
            Item::Data { envelope, topic } => self.data(envelope, topic),
            Item::Online { status, retained } => self.online(status, *retained),
            Item::Offline { host, session } => self.offline(host, session),
        }
    }

    fn data(&mut self, envelope: &Envelope, topic: &str) -> Result<(), CommitError> {
        let Envelope { host, site, epoch, losses, records, .. } = envelope;
        // Losses may speak of other epochs; a message of losses only is about its own as well.
        self.draft.host(host)?.hear(site, Some(*epoch), self.now.wall_ms);
        self.hear(host, *epoch)?;
        self.losses(host, losses)?;
        for run in records.chunk_by(|a, b| a.seq.checked_add(1) == Some(b.seq)) {
            let (seqs, before) = (run[0].seq..=run[run.len() - 1].seq, self.done.stored);
            for fresh in self.draft.account(host, *epoch)?.fresh(seqs.clone()) {
                self.store(envelope, topic, run, fresh)?;
            }
            self.draft.account(host, *epoch)?.take(seqs);
            self.done.duplicates += run.len() as u64 - (self.done.stored - before);
        }
        self.touch(host, *epoch);
        Ok(())
    }

    fn store(
        &mut self,
        envelope: &Envelope,
        topic: &str,
        run: &[Record],
        fresh: RangeInclusive<u64>,
    ) -> Result<(), CommitError> {
        let first = run[0].seq;
        let part = &run[(*fresh.start() - first) as usize..=(*fresh.end() - first) as usize];
        let times = match envelope.synced {
            true => Times::default(),
            false => self.draft.host(&envelope.host)?.clocks.times(&envelope.boot, envelope.epoch, fresh),
        };
        for record in part {
            let time = times.time_of(record);
            let (time_ms, corrected) = time.map_or((record.ts, false), |time| (time, true));
            self.sink.write(&Stored { envelope, record, topic, time_ms, corrected })?;
        }
        self.done.stored += part.len() as u64;
        *self.touch(&envelope.host, envelope.epoch) += part.len() as u64;
        Ok(())
    }

    fn losses(&mut self, host: &str, losses: &[Loss]) -> Result<(), CommitError> {
        for Loss { epoch, from, to, count, reason, .. } in losses {
            self.hear(host, *epoch)?;
            self.draft.account(host, *epoch)?.declare(*from, *to, *count, *reason);
            self.touch(host, *epoch);
        }
        Ok(())
    }

    fn online(&mut self, status: &Status, retained: bool) -> Result<(), CommitError> {
        let Status { host, site, epoch, .. } = status;
        let row = self.draft.host(host)?;
        let lives = !retained || row.first_ms == 0;
        if lives {
            row.hear(site, Some(*epoch), self.now.wall_ms);
        }
        row.told = Some(Told::from(status));
        if lives {
            self.hear(host, *epoch)?;
        }
        self.draft.account(host, *epoch)?.tell_next(status.next_seq);
        self.losses(host, &status.losses)?;
        // What the host still calls pending though it is here: our acknowledgement has not reached it.
        let pending: BTreeSet<u64> = status.pending.iter().map(|range| range.epoch).collect();
        for epoch in pending {
            let ranges = status.pending.iter().filter(|range| range.epoch == epoch);
            let known = self.draft.peek(host, epoch)?;
            if known.is_some_and(|account| ranges.clone().any(|r| account.seen.intersects(r.from..=r.to))) {
                self.draft.account(host, epoch)?;
                self.touch(host, epoch);
            }
        }
        // It waits for a hub's word on more than it has to send: ours was lost with the broker, or with us.
        let to_come = status.pending.iter().map(|range| range.to - range.from + 1).fold(0, u64::saturating_add);
        if !retained && status.level == "hub" && status.backlog > to_come {
            self.touch(host, *epoch);
        }
        Ok(())
    }

    /// Late wills of older connections are no news, and that one is gone of whom nothing was ever heard tells of no host.
    fn offline(&mut self, host: &str, session: &str) -> Result<(), CommitError> {
        let told = self.draft.known_host(host)?.and_then(|row| row.told.as_mut());
        if let Some(told) = told.filter(|told| told.session == session) {
            told.state = State::Offline;
        }
        Ok(())
    }

    fn hear(&mut self, host: &str, epoch: u64) -> Result<(), CommitError> {
        let now_ms = self.now.wall_ms;
        let account = self.draft.account(host, epoch)?;
        if account.first_ms == 0 {
            account.first_ms = now_ms;
        }
        account.last_ms = now_ms;
        Ok(())
    }

    fn touch(&mut self, host: &str, epoch: u64) -> &mut u64 {
        self.touched.entry((host.to_owned(), epoch)).or_default()
    }

    fn finish(self) -> Result<Committed, CommitError> {
        let Work { mut draft, sink, mut done, touched, .. } = self;
        let mut sites = std::collections::BTreeMap::new();
        for (host, _) in touched.keys() {
            if !sites.contains_key(host) {
                sites.insert(host.clone(), draft.host(host)?.site.clone());
            }
        }
        let position = sink.flush()?;
        let accounts = draft.commit(&position)?;
        done.acks.extend(touched.into_iter().filter_map(|((host, epoch), stored)| {
            let ack = accounts.get(&(host.clone(), epoch))?.ack(epoch);
            let site = sites.get(&host)?.clone();
            Some(HostAck { site, host, ack, stored })
        }));
        Ok(done)
    }
}

#[cfg(test)]
mod tests;
