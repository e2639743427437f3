//! The hub without connection, thread and clock: what a message is to tracker, questions and batch, and what is to be said.
//!
//! Pure: time is an argument. The loop brings messages, hands the batch to the writer and publishes; the simulation does
//! the same with a ledger and a network of its own.

use std::collections::BTreeMap;

use super::acks::Acks;
use super::batch::{Batch, Item};
use super::resends::Resends;
use crate::clock::Now;
use crate::hub::tracker::{Finding, Tracker};
use crate::wire::{Envelope, Lane, Status};

#[derive(Debug)]
pub struct Desk {
    pub tracker: Tracker,
    /// Of the tracked hosts.
    pub sites: BTreeMap<String, String>,
    pub acks: Acks,
    pub resends: Resends,
    /// Taken in, in order, and not yet with the writer.
    pub batch: Batch,
}

impl Desk {
    /// With what is remembered; `run` makes the ids of questions unlike those of an earlier run.
    pub fn new(tracker: Tracker, sites: BTreeMap<String, String>, run: u64) -> Self {
        Self { tracker, sites, acks: Acks::default(), resends: Resends::new(run), batch: Batch::default() }
    }

    /// Records and losses. `proof`: by the live lane while we listened.
    pub fn data(&mut self, envelope: Envelope, topic: String, proof: bool, now: Now) -> Vec<Finding> {
        let Envelope { host, site, epoch, records, losses, .. } = &envelope;
        let seqs: Vec<u64> = records.iter().map(|record| record.seq).collect();
        let lane = if proof { Lane::Live } else { Lane::History };
        let mut findings = self.tracker.declare(host, losses);
        findings.extend(self.tracker.observe(host, *epoch, &seqs, lane, now).findings);
        if let Some((epoch, seqs)) = self.resends.open(host)
            && !self.tracker.confirmed(host, epoch, seqs)
        {
            self.resends.answered(host, site, &self.tracker.gaps(host), now.mono);
        }
        self.note_site(host, site);
        self.batch.items.push(Item::Data { envelope, topic });
        findings
    }

    /// A status; `retained`: kept by the broker from before.
    pub fn online(&mut self, status: Box<Status>, retained: bool, now: Now) -> Vec<Finding> {
        let Status { host, site, .. } = status.as_ref();
        let findings = self.tracker.heartbeat(host, &status, retained, now);
        if !retained {
            self.resends.heartbeat(host, site, &self.tracker.gaps(host), now.mono);
        }
        self.note_site(host, site);
        self.batch.items.push(Item::Online { status, retained });
        findings
    }

    pub fn offline(&mut self, host: String, session: String) {
        self.batch.items.push(Item::Offline { host, session });
    }

    /// Bounded by the tracker's hosts.
    fn note_site(&mut self, host: &str, site: &str) {
        if self.tracker.knows(host) && self.sites.get(host).is_none_or(|known| known != site) {
            self.sites.insert(host.to_owned(), site.to_owned());
        }
    }
}
