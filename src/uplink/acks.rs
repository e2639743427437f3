//! What hubs acknowledge, and what that settles.
//!
//! P2 at level hub rests here: `hub_acked` is the only way to a settlement. An acknowledgement settles seqs of the epoch
//! it names and of no other, and nothing at all when it speaks of seqs that were never drawn: then somebody else, or
//! this outbox before it was set back to an older copy, has used them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Uplink;
use super::delivery::Standing;
use super::io::{Action, Severity};
use super::journal::Subject;
use super::level::HubMemory;
use crate::ranges::RangeSet;
use crate::wire::Ack;

/// Hubs whose last acknowledgement is kept.
const MAX_HUBS: usize = 16;

/// What hubs have said.
#[derive(Debug, Default)]
pub struct Acks {
    /// The last of each hub, whatever epoch it names: for an outbox that is opened late.
    last: BTreeMap<String, Ack>,
    /// An epoch of ours of which seqs are known that were never drawn: their first, and by whom.
    foreign: Option<(u64, u64, String)>,
}

impl Acks {
    fn keep(&mut self, hub: &str, ack: &Ack) {
        if self.last.len() < MAX_HUBS || self.last.contains_key(hub) {
            self.last.insert(hub.to_owned(), ack.clone());
        }
    }

    pub fn problem(&self) -> Option<String> {
        let (epoch, seq, source) = self.foreign.as_ref()?;
        Some(format!(
            "ALARM: {source} knows seq {seq} of epoch {epoch}, which this outbox never drew: it was set back to an older \
             copy, or cloned; a new epoch has begun"
        ))
    }
}

impl Uplink {
    /// A message on our `ack/{hub}`.
    pub(super) fn hub_acked(&mut self, hub: &str, ack: Ack, retained: bool, now: Duration) {
        self.apply_ack(hub, &ack, retained, now);
        self.acks.keep(hub, &ack);
    }

    /// Epochs were found that the hubs may have spoken of before.
    pub(super) fn repeat_acks(&mut self, now: Duration) {
        for (hub, ack) in self.acks.last.clone() {
            self.apply_ack(&hub, &ack, true, now);
        }
    }

    fn apply_ack(&mut self, hub: &str, ack: &Ack, retained: bool, now: Duration) {
        let Some(standing) = self.delivery.standing(ack.epoch) else { return };
        let top = ack.ranges.iter().map(|[_, to]| *to).fold(ack.upto, u64::max);
        let beyond = top >= self.known_of(standing, retained);
        if beyond && !standing.ends_in_doubt {
            return self.set_back(ack.epoch, top, &format!("hub {hub}"), now);
        }
        if let Some(value) = self.standard.acknowledged(retained) {
            self.out.push_back(Action::Note { key: HubMemory::NOTE, value: value.to_owned() });
            self.heartbeat.changed(now);
            if self.standard.is_hub() {
                self.journal.say(Subject::Hub, Severity::Info, now, || {
                    format!(
                        "hub {hub} acknowledges this host: from now on only a hub's acknowledgement settles a record"
                    )
                });
            }
        }
        if !self.standard.is_hub() {
            return;
        }
        let mut stored: RangeSet = ack.ranges.iter().map(|[from, to]| *from..=*to).collect();
        stored.insert(1..=ack.upto);
        stored.remove(standing.next_seq..=u64::MAX);
        self.settle_stored(ack.epoch, &stored);
    }

    fn settle_stored(&mut self, epoch: u64, stored: &RangeSet) {
        let settled: RangeSet = stored.iter().flat_map(|r| self.delivery.proven(epoch, r)).collect();
        self.heartbeat.settled(settled.len());
        if !settled.is_empty() {
            self.out.push_back(Action::Settle { epoch, seqs: settled });
        }
        let losses = self.losses.stored(epoch, stored);
        if !losses.is_empty() {
            self.out.push_back(Action::SettleLosses(losses));
        }
    }

    /// The first seq of an epoch that nobody out there can know. What was kept from before our first publish can only know
    /// what was there before this process: whatever we have drawn since then, somebody else's records bear those seqs.
    fn known_of(&self, standing: Standing, retained: bool) -> u64 {
        if retained && self.first_connection { standing.born } else { standing.next_seq }
    }

    /// A status kept on our own topic from before this connection. On a later one than the first it is our own, or that of
    /// somebody who goes by our name.
    pub(super) fn saw_kept_status(&mut self, session: &str, epoch: u64, next_seq: u64, now: Duration) {
        let known = self.delivery.standing(epoch).map(|standing| self.known_of(standing, true));
        if known.is_none() && !self.first_connection && self.delivery.current().is_some() {
            self.met_a_twin(now);
        }
        if session != self.heartbeat.session() && known.is_some_and(|known| next_seq > known) {
            self.set_back(epoch, next_seq - 1, "the broker", now);
        }
    }

    /// Seqs of ours are known that were never drawn here. The epoch must not be continued: what it calls new would pass
    /// for known.
    fn set_back(&mut self, epoch: u64, seq: u64, source: &str, now: Duration) {
        let known = self.acks.foreign.as_ref().is_some_and(|(known, ..)| *known == epoch);
        if known {
            return;
        }
        self.acks.foreign = Some((epoch, seq, source.to_owned()));
        if self.delivery.current().is_some_and(|(current, _)| current == epoch) {
            self.live_all_to_history();
            self.loader.clear();
            self.delivery.doubt(epoch);
            self.out.push_back(Action::BeginEpoch);
        }
        self.heartbeat.changed(now);
        if let Some(line) = self.acks.problem() {
            self.journal.say(Subject::Hub, Severity::Error, now, || line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_so_many_hubs_is_kept_and_of_no_more() {
        let ack = |upto| Ack { v: 1, epoch: 1, upto, ranges: Vec::new() };
        let mut acks = Acks::default();
        for hub in 0..=MAX_HUBS {
            acks.keep(&format!("hub-{hub}"), &ack(1));
        }
        assert!(acks.last.len() == MAX_HUBS && !acks.last.contains_key(&format!("hub-{MAX_HUBS}")));
        acks.keep("hub-0", &ack(2));
        assert_eq!((acks.last.len(), acks.last["hub-0"].upto), (MAX_HUBS, 2), "one that is known speaks again");
    }
}
