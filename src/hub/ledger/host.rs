//! What the ledger keeps of a host beside its epochs: where it is, what it last said, and how its clock is put right.
//! Pure.

use serde::{Deserialize, Serialize};

use super::clocks::Clocks;
use crate::wire::{PendingRange, State, Status};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostRow {
    pub site: String,
    /// Our wall clock when it was heard first and last, ms since 1970.
    pub first_ms: i64,
    pub last_ms: i64,
    /// Of the last message with records or status.
    pub epoch: u64,
    #[serde(default)]
    pub told: Option<Told>,
    #[serde(default)]
    pub clocks: Clocks,
}

/// The last status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub state: State,
    pub session: String,
    pub sent: i64,
    pub epoch: u64,
    pub next: u64,
    pub pending: Vec<(u64, u64, u64)>,
    pub backlog: u64,
    pub level: String,
    pub version: String,
}

impl HostRow {
    pub fn hear(&mut self, site: &str, epoch: Option<u64>, now_ms: i64) {
        if self.first_ms == 0 {
            self.first_ms = now_ms;
        }
        self.last_ms = now_ms;
        if self.site != site {
            site.clone_into(&mut self.site);
        }
        self.epoch = epoch.unwrap_or(self.epoch);
    }

    /// Whether the host says that the seq is still to come.
    pub fn promises(&self, epoch: u64) -> impl Iterator<Item = std::ops::RangeInclusive<u64>> + '_ {
        let pending = self.told.iter().flat_map(|told| &told.pending);
        pending.filter(move |(its, _, _)| *its == epoch).map(|(_, from, to)| *from..=*to)
    }
}

impl From<&Status> for Told {
    fn from(status: &Status) -> Self {
        Self {
            state: State::Online,
            session: status.session.clone(),
            sent: status.sent,
            epoch: status.epoch,
            next: status.next_seq,
            pending: status.pending.iter().map(|PendingRange { epoch, from, to }| (*epoch, *from, *to)).collect(),
            backlog: status.backlog,
            level: status.level.clone(),
            version: status.version.clone(),
        }
    }
}
