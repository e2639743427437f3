//! What the ledger keeps of a host beside its epochs: where it is, what it last said, and how its clock is put right.
//! Pure.

use serde::{Deserialize, Serialize};

use crate::wire::{PendingRange, State, Status};

/// Boots with a correction that are remembered for each host; the oldest makes room.
const MAX_BOOTS: usize = 64;
/// A boot id longer than that is not one.
const MAX_BOOT_ID: usize = 64;

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
    /// Boot id to what its monotonic clock lacks to the wall clock, in ms, oldest first.
    #[serde(default)]
    offsets: Vec<(String, i64)>,
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
    /// What turns a boot's `mono` into a right time: chosen when it is first needed and known, and never changed.
    pub fn offset(&mut self, boot: &str, anchor: Option<[i64; 2]>) -> Option<i64> {
        if let Some((_, offset)) = self.offsets.iter().find(|(known, _)| known == boot) {
            return Some(*offset);
        }
        let [boot_ms, wall_ms] = anchor?;
        if boot.is_empty() || boot.len() > MAX_BOOT_ID {
            return None;
        }
        let offset = wall_ms.checked_sub(boot_ms)?;
        if self.offsets.len() >= MAX_BOOTS {
            self.offsets.remove(0);
        }
        self.offsets.push((boot.to_owned(), offset));
        Some(offset)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boots_offset_is_chosen_once() {
        let mut host = HostRow::default();
        assert_eq!(host.offset("a", None), None, "never synced, so far");
        assert_eq!(host.offset("a", Some([5_000, 1_790_000_005_000])), Some(1_790_000_000_000));
        assert_eq!(host.offset("a", Some([9_000, 1_790_000_009_444])), Some(1_790_000_000_000));
        assert_eq!(host.offset("a", None), Some(1_790_000_000_000));
        assert_eq!(host.offset("b", Some([0, 7])), Some(7));
    }

    #[test]
    fn senseless_boots_are_not_kept() {
        let mut host = HostRow::default();
        assert_eq!(host.offset(&"x".repeat(65), Some([0, 7])), None);
        (0..1000).for_each(|n| _ = host.offset(&format!("boot-{n}"), Some([0, n])));
        assert_eq!(host.offsets.len(), MAX_BOOTS);
    }
}
