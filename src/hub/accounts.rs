//! What the ledger says, for a person or a program: `hosts`, `gaps`, and the nightly audit.
//!
//! Pure but for reading the ledger; the same documents whether a running hub is asked or the file is read. Shapes are for
//! programs: fields are added, never renamed.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::ledger::{Account, HostRow, Ledger, LedgerError, View};
use super::line::time_of;
use crate::clock::Now;
use crate::ranges::RangeSet;
use crate::wire::{Loss, LossReason, State};

/// Ranges that one answer lists, of gaps and of losses each.
const LISTED: usize = 10_000;

/// What a running hub can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Question {
    Hosts,
    Gaps { host: Option<String> },
}

/// Every host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostsDocument {
    pub at_ms: i64,
    pub hosts: Vec<HostDocument>,
}

/// Counts are seqs, over all epochs that are remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostDocument {
    pub host: String,
    pub site: String,
    /// `None` before a status came.
    pub state: Option<State>,
    pub last_heard: Option<String>,
    pub last_heard_ms: i64,
    /// The one heard last, and how many are remembered.
    pub epoch: u64,
    pub epochs: usize,
    /// Up to here every seq of that epoch is stored or declared.
    pub upto: u64,
    pub next_seq: Option<u64>,
    pub stored: u64,
    #[serde(flatten)]
    pub absent: Absent,
    pub level: Option<String>,
    pub backlog: Option<u64>,
    pub version: Option<String>,
}

/// What is known to exist and not here, in seqs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// Declared lost by the host.
    pub declared: u64,
    /// The host's last status says that it is to come.
    pub pending: u64,
    /// Newer than the host's last status: it may be on its way.
    pub open: u64,
    /// The host's last status neither promised nor declared it.
    pub missing: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GapState {
    Pending,
    Open,
    Missing,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GapsDocument {
    pub at_ms: i64,
    /// Seqs in state `missing`, listed or not.
    pub missing: u64,
    pub gaps: Vec<GapDocument>,
    pub losses: Vec<LossDocument>,
    /// Further ranges of both kinds.
    pub not_listed: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GapDocument {
    pub host: String,
    pub site: String,
    pub epoch: u64,
    pub from: u64,
    pub to: u64,
    pub state: GapState,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossDocument {
    pub host: String,
    pub site: String,
    pub epoch: u64,
    pub from: u64,
    pub to: Option<u64>,
    pub reason: LossReason,
}

impl Question {
    /// As JSON; when the ledger cannot be read, `{"error": ..}`.
    pub fn answer(&self, ledger: &mut Ledger, now: Now) -> String {
        let document = ledger.view().and_then(|view| self.document(&view, now));
        document.unwrap_or_else(|error| serde_json::json!({"error": error.to_string()}).to_string())
    }

    pub fn document(&self, view: &View, now: Now) -> Result<String, LedgerError> {
        let text = |document: serde_json::Result<String>| document.expect("documents are maps with text keys");
        Ok(match self {
            Self::Hosts => text(serde_json::to_string(&hosts(view, now)?)),
            Self::Gaps { host } => text(serde_json::to_string(&gaps(view, host.as_deref(), now)?)),
        })
    }
}

pub fn hosts(view: &View, now: Now) -> Result<HostsDocument, LedgerError> {
    let mut document = HostsDocument { at_ms: now.wall_ms, hosts: Vec::new() };
    view.each(|host, row, accounts| document.hosts.push(host_document(host, row, accounts)))?;
    Ok(document)
}

fn host_document(host: &str, row: &HostRow, accounts: &[(u64, Account)]) -> HostDocument {
    let mut absent = Absent::default();
    for (epoch, account) in accounts {
        absent.declared = absent.declared.saturating_add(account.lost());
        for (seqs, state) in classified(row, *epoch, account) {
            let count = seqs.end() - seqs.start() + 1;
            let sum = match state {
                GapState::Pending => &mut absent.pending,
                GapState::Open => &mut absent.open,
                GapState::Missing => &mut absent.missing,
            };
            *sum = sum.saturating_add(count);
        }
    }
    let told = row.told.as_ref();
    let current = accounts.iter().find(|(epoch, _)| *epoch == row.epoch).map(|(_, account)| account);
    HostDocument {
        host: host.to_owned(),
        site: row.site.clone(),
        state: told.map(|told| told.state),
        last_heard: time_of(row.last_ms),
        last_heard_ms: row.last_ms,
        epoch: row.epoch,
        epochs: accounts.len(),
        upto: current.map_or(0, Account::upto),
        next_seq: told.filter(|told| told.epoch == row.epoch).map(|told| told.next),
        stored: accounts.iter().map(|(_, account)| account.seen.len()).fold(0, u64::saturating_add),
        absent,
        level: told.map(|told| told.level.clone()),
        backlog: told.map(|told| told.backlog),
        version: told.map(|told| told.version.clone()),
    }
}

pub fn gaps(view: &View, only: Option<&str>, now: Now) -> Result<GapsDocument, LedgerError> {
    let mut document = GapsDocument { at_ms: now.wall_ms, ..GapsDocument::default() };
    view.each(|host, row, accounts| {
        if only.is_some_and(|only| only != host) {
            return;
        }
        for (epoch, account) in accounts {
            document.add(host, row, *epoch, account);
        }
    })?;
    Ok(document)
}

impl GapsDocument {
    fn add(&mut self, host: &str, row: &HostRow, epoch: u64, account: &Account) {
        for (seqs, state) in classified(row, epoch, account) {
            let (from, to) = seqs.into_inner();
            if state == GapState::Missing {
                self.missing = self.missing.saturating_add(to - from + 1);
            }
            if self.gaps.len() >= LISTED {
                self.not_listed += 1;
                continue;
            }
            self.gaps.push(GapDocument { host: host.to_owned(), site: row.site.clone(), epoch, from, to, state });
        }
        for Loss { from, to, reason, .. } in account.losses(epoch) {
            if self.losses.len() >= LISTED {
                self.not_listed += 1;
                continue;
            }
            self.losses.push(LossDocument { host: host.to_owned(), site: row.site.clone(), epoch, from, to, reason });
        }
    }
}

/// What an epoch lacks, in order.
fn classified(row: &HostRow, epoch: u64, account: &Account) -> Vec<(RangeInclusive<u64>, GapState)> {
    let mut rest = account.missing();
    let told = row.told.as_ref();
    let mut found = Vec::new();
    let mut sort = |rest: &mut RangeSet, within: RangeInclusive<u64>, state| {
        let hits: Vec<_> = rest.within(within.clone()).collect();
        rest.remove(within);
        found.extend(hits.into_iter().map(|seqs| (seqs, state)));
    };
    for promised in row.promises(epoch) {
        sort(&mut rest, promised, GapState::Pending);
    }
    match told {
        None => sort(&mut rest, 1..=u64::MAX, GapState::Open),
        Some(told) if told.epoch == epoch => sort(&mut rest, told.next.max(1)..=u64::MAX, GapState::Open),
        Some(_) => {}
    }
    sort(&mut rest, 1..=u64::MAX, GapState::Missing);
    found.sort_unstable_by_key(|(seqs, _)| *seqs.start());
    found
}
