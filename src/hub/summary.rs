//! The account at the end: what came, what is missing, what was declared lost, and whether that is all right.
//!
//! Pure. Lists are bounded; what is left out is counted.

use serde::Serialize;

use super::line::{GapWord, word};
use super::observer::Observer;
use super::text::{grouped, shown};
use super::tracker::{Declared, GapState, Tally};
use crate::wire::{LossReason, State};

/// Ranges listed per host.
const LISTED: usize = 64;
/// Hosts in the text for a person.
const HOSTS_SHOWN: usize = 50;

#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Something was heard, nothing is missing without a declared loss or a promise, and no message was bad.
    pub complete: bool,
    /// False when this was a member of a shared subscription, which sees only a part: gaps are then not listed.
    pub gaps_judged: bool,
    pub seconds: u64,
    /// Connections that came to be; more than 1 means that we were away in between.
    pub connections: u64,
    pub messages: u64,
    pub bytes: u64,
    pub records: u64,
    pub bad: u64,
    /// Records of hosts beyond the tracker's bound.
    pub untracked: u64,
    /// QoS 0 messages that were dropped here because they came faster than they were taken.
    pub discarded: u64,
    pub hosts: Vec<HostSummary>,
}

#[derive(Clone, Debug, Serialize)]
pub struct HostSummary {
    pub host: String,
    pub site: String,
    pub state: Option<State>,
    pub epochs: u64,
    pub new: u64,
    pub duplicate: u64,
    pub late: u64,
    /// Missing, and promised by the last status.
    pub pending: u64,
    /// Missing, not explained, not confirmed.
    pub open: u64,
    /// Missing, and two heartbeats neither promised nor declared it.
    pub confirmed: u64,
    /// Declared lost and not here.
    pub declared: u64,
    /// Missing beyond what the tracker can list.
    pub overflowed: u64,
    pub backlog: Option<u64>,
    pub gaps: Vec<GapRange>,
    pub losses: Vec<LossRange>,
    /// Further ranges of both kinds.
    pub not_listed: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct GapRange {
    pub epoch: u64,
    pub from: u64,
    pub to: u64,
    pub state: GapWord,
}

#[derive(Clone, Debug, Serialize)]
pub struct LossRange {
    pub epoch: u64,
    pub from: u64,
    pub to: Option<u64>,
    pub reason: LossReason,
}

/// What the observer cannot know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    pub seconds: u64,
    pub connections: u64,
    pub discarded: u64,
}

impl Summary {
    pub fn of(observer: &Observer, run: Run) -> Self {
        let judged = observer.judges_gaps();
        let hosts: Vec<HostSummary> = observer
            .shown_hosts()
            .map(|(host, view)| HostSummary {
                site: view.site.clone(),
                state: view.state,
                backlog: view.backlog,
                ..HostSummary::of(observer, host, judged)
            })
            .collect();
        let counts = observer.counts;
        let untracked = observer.tracker.untracked();
        let sound = counts.bad == 0 && untracked == 0 && hosts.iter().all(HostSummary::complete);
        // Silence proves nothing: a host that died and a filter that is misspelt look alike.
        let complete = sound && !hosts.is_empty();
        Self {
            complete,
            gaps_judged: judged,
            seconds: run.seconds,
            connections: run.connections,
            messages: counts.messages,
            bytes: counts.bytes,
            records: counts.records,
            bad: counts.bad,
            untracked,
            discarded: run.discarded,
            hosts,
        }
    }

    /// The outcome in one line.
    pub fn verdict_text(&self) -> String {
        let sum = |part: fn(&HostSummary) -> u64| self.hosts.iter().map(part).fold(0, u64::saturating_add);
        let (open, confirmed) = (sum(|h| h.open), sum(|h| h.confirmed));
        let (overflowed, declared, pending) = (sum(|h| h.overflowed), sum(|h| h.declared), sum(|h| h.pending));
        let mut parts = Vec::new();
        let mut part = |n: u64, what: &str| {
            if n > 0 {
                parts.push(format!("{} {what}", grouped(n)));
            }
        };
        part(confirmed, "missing (confirmed)");
        part(open, "missing (not yet confirmed)");
        part(overflowed, "missing (not listed)");
        part(self.bad, "bad messages");
        part(self.untracked, "records of untracked hosts");
        part(declared, "declared lost");
        part(pending, "still to come");
        let what = match (self.complete, self.gaps_judged) {
            (_, false) => "gaps not judged (a shared subscription sees only a part)",
            (_, true) if self.hosts.is_empty() => "nothing was heard of any host that was asked for",
            (true, true) => "nothing is missing",
            (false, true) => "NOT COMPLETE",
        };
        if parts.is_empty() { what.to_owned() } else { format!("{what}: {}", parts.join(", ")) }
    }

    /// For a person, ends with a newline.
    pub fn text(&self) -> String {
        let mut out = format!(
            "{} records in {} messages ({} bytes) in {} s over {} connection(s)\n",
            grouped(self.records),
            grouped(self.messages),
            grouped(self.bytes),
            self.seconds,
            self.connections
        );
        if self.discarded > 0 {
            out += &format!("{} QoS 0 messages dropped: they came faster than they were taken\n", self.discarded);
        }
        if !self.hosts.is_empty() {
            let columns = ["new", "dup", "late", "pending", "open", "confirmed", "declared", "backlog"]
                .map(|c| format!("{c:>9}"));
            out += &format!("{:<24} {:<12} {:<8}{}\n", "host", "site", "state", columns.join(" "));
        }
        for host in self.hosts.iter().take(HOSTS_SHOWN) {
            out += &host.text();
        }
        if let Some(more) = self.hosts.len().checked_sub(HOSTS_SHOWN).filter(|more| *more > 0) {
            out += &format!("... and {more} more hosts\n");
        }
        out + &self.verdict_text() + "\n"
    }
}

impl HostSummary {
    fn of(observer: &Observer, host: &str, judged: bool) -> Self {
        let Tally { new, duplicate, late, overflowed, epochs, .. } = observer.tracker.tally(host);
        let missing = if judged { observer.tracker.missing(host) } else { Default::default() };
        let gaps = if judged { observer.tracker.gaps(host) } else { Vec::new() };
        let losses = observer.tracker.losses(host);
        let not_listed = gaps.len().saturating_sub(LISTED) + losses.len().saturating_sub(LISTED);
        // The worst first, so that a cut list cuts what matters least.
        let mut gaps = gaps;
        gaps.sort_by_key(|gap| (std::cmp::Reverse(gap.state), gap.epoch, *gap.seqs.start()));
        let range = |gap: &super::tracker::Gap| {
            let (from, to) = gap.seqs.clone().into_inner();
            GapRange { epoch: gap.epoch, from, to, state: GapState::into(gap.state) }
        };
        Self {
            host: host.to_owned(),
            site: String::new(),
            state: None,
            backlog: None,
            epochs,
            new,
            duplicate,
            late,
            pending: missing.pending,
            open: missing.open,
            confirmed: missing.confirmed,
            declared: observer.tracker.missing(host).declared,
            overflowed: if judged { overflowed } else { 0 },
            gaps: gaps.iter().take(LISTED).map(range).collect(),
            losses: losses.into_iter().take(LISTED).map(LossRange::from).collect(),
            not_listed,
        }
    }

    /// Whether everything of this host is here, promised or declared.
    pub fn complete(&self) -> bool {
        self.open == 0 && self.confirmed == 0 && self.overflowed == 0
    }

    fn text(&self) -> String {
        let state = self.state.map_or_else(|| "?".to_owned(), |s| word(&s));
        let backlog = self.backlog.map_or_else(|| "?".to_owned(), grouped);
        let open = self.open.saturating_add(self.overflowed);
        let numbers = [self.new, self.duplicate, self.late, self.pending, open, self.confirmed, self.declared]
            .map(|n| format!("{:>9}", grouped(n)));
        let (host, site) = (shown(&self.host, 24), shown(&self.site, 12));
        let mut out = format!("{host:<24} {site:<12} {state:<8}{} {backlog:>9}\n", numbers.join(" "));
        for GapRange { epoch, from, to, state } in self.gaps.iter().filter(|g| g.state != GapWord::Pending).take(8) {
            out += &format!("    missing seq {from}..={to} of epoch {epoch} ({})\n", word(state));
        }
        for LossRange { epoch, from, to, reason } in self.losses.iter().take(8) {
            let to = to.map_or_else(|| "?".to_owned(), |to| to.to_string());
            out += &format!("    declared lost seq {from}..={to} of epoch {epoch} ({})\n", word(reason));
        }
        out
    }
}

impl From<Declared> for LossRange {
    fn from(Declared { epoch, from, to, reason }: Declared) -> Self {
        Self { epoch, from, to, reason }
    }
}
