//! Message in, lines out: reads, tracks, filters, counts. The whole of `tail` but its connection, output and end.
//!
//! Pure: time is an argument. Everything is tracked before anything is filtered. Memory is bounded by the tracker's
//! hosts: a host that is not tracked has no view here either.

use std::collections::BTreeMap;

use super::filter::Filter;
use super::line::{
    BadLine, BoundLine, EpochLine, GapLine, GapWord, Line, LossLine, OnlineLine, RecordLine, StatusLine,
};
use super::read::{Bad, Message, read};
use super::tracker::{Finding, Tracker, Verdict};
use crate::clock::Now;
use crate::wire::{DecodeLimits, Envelope, Lane, State, Status};

/// What a person sees of one host, beside what the tracker knows.
#[derive(Clone, Debug)]
pub struct HostView {
    pub site: String,
    /// `None` until a status came.
    pub state: Option<State>,
    session: Option<String>,
    /// Our wall clock when it was heard last, ms since 1970.
    pub seen_ms: i64,
    pub backlog: Option<u64>,
    pub eta_s: Option<u64>,
    pub level: Option<String>,
    /// How many problems the host itself reports.
    pub problems: usize,
    pub rate: Rate,
}

/// Records in each of the last ten seconds.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    seconds: [u32; 10],
    last: u64,
}

/// What no host can be named for, and totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub messages: u64,
    pub bytes: u64,
    pub records: u64,
    /// Messages that were not used, of hosts that pass the filter.
    pub bad: u64,
}

#[derive(Debug)]
pub struct Observer {
    pub tracker: Tracker,
    pub hosts: BTreeMap<String, HostView>,
    pub counts: Counts,
    filter: Filter,
    prefix: String,
    limits: DecodeLimits,
    /// Whether we receive all of a host's messages; a member of a shared subscription does not.
    judges_gaps: bool,
}

impl Observer {
    pub fn new(prefix: &str, filter: Filter, judges_gaps: bool) -> Self {
        Self {
            tracker: Tracker::default(),
            hosts: BTreeMap::new(),
            counts: Counts::default(),
            filter,
            prefix: prefix.to_owned(),
            limits: DecodeLimits::default(),
            judges_gaps,
        }
    }

    pub fn judges_gaps(&self) -> bool {
        self.judges_gaps
    }

    /// Whether a shown host misses seqs that neither its status nor a loss explains and no heartbeats have confirmed.
    pub fn has_open_gaps(&self) -> bool {
        self.judges_gaps && self.shown_hosts().any(|(host, _)| self.tracker.missing(host).open > 0)
    }

    /// The tracked hosts that pass the filter, by name.
    pub fn shown_hosts(&self) -> impl Iterator<Item = (&String, &HostView)> {
        self.hosts.iter().filter(|(host, view)| self.filter.host(&view.site, host))
    }

    /// Takes in one message and says what is to be said of it. `retain`: kept by the broker from before.
    pub fn take(&mut self, topic: &str, payload: &[u8], retain: bool, now: Now) -> Vec<Line> {
        self.counts.messages += 1;
        self.counts.bytes += payload.len() as u64;
        match read(&self.prefix, topic, payload, retain, &self.limits) {
            Ok(Some(Message::Data { envelope, collector, proof })) => {
                self.data(topic, envelope, collector.as_deref(), proof, now)
            }
            Ok(Some(Message::Event(envelope))) => self.event(topic, envelope),
            Ok(Some(Message::Online(status))) => self.online(&status, retain, now),
            Ok(Some(Message::Offline { site, host, session })) => self.offline(&site, &host, session, retain, now),
            Ok(Some(Message::Reply { .. }) | None) => Vec::new(),
            Err(Bad { source, reason }) => {
                if source.is_some_and(|(site, host)| !self.filter.host(&site, &host)) {
                    return Vec::new();
                }
                self.counts.bad += 1;
                vec![Line::Bad(BadLine { topic: topic.to_owned(), bytes: payload.len(), reason })]
            }
        }
    }

    fn data(
        &mut self,
        topic: &str,
        mut envelope: Envelope,
        collector: Option<&str>,
        proof: bool,
        now: Now,
    ) -> Vec<Line> {
        let records = std::mem::take(&mut envelope.records);
        let Envelope { host, site, epoch, .. } = &envelope;
        let mut findings = self.tracker.declare(host, &envelope.losses);
        let seqs: Vec<u64> = records.iter().map(|r| r.seq).collect();
        let lane = if proof { Lane::Live } else { Lane::History };
        let observed = self.tracker.observe(host, *epoch, &seqs, lane, now);
        findings.extend(observed.findings);
        self.counts.records += seqs.len() as u64;
        if let Some(view) = self.view(host, site, now) {
            view.rate.add(seqs.len(), now);
        }
        let mut lines = self.lines_of(host, site, findings);
        if !self.filter.host(site, host) {
            return lines;
        }
        let verdicts = observed.verdicts.into_iter().flat_map(|(run, v)| run.map(move |_| v));
        let shown =
            records.into_iter().zip(verdicts).filter(|(r, _)| self.filter.record(collector, &r.name, envelope.lane));
        lines.extend(shown.map(|(r, v): (_, Verdict)| Line::Record(RecordLine::new(&envelope, r, Some(v), topic))));
        lines
    }

    fn event(&self, topic: &str, mut envelope: Envelope) -> Vec<Line> {
        let records = std::mem::take(&mut envelope.records);
        if !self.filter.host(&envelope.site, &envelope.host) {
            return Vec::new();
        }
        records.into_iter().map(|r| Line::Event(RecordLine::new(&envelope, r, None, topic))).collect()
    }

    fn online(&mut self, status: &Status, retained: bool, now: Now) -> Vec<Line> {
        let Status { host, site, .. } = status;
        let findings = self.tracker.heartbeat(host, status, retained, now);
        if let Some(view) = self.view(host, site, now) {
            view.state = Some(State::Online);
            view.session = Some(status.session.clone());
            view.backlog = Some(status.backlog);
            view.eta_s = status.eta_s;
            view.level = Some(status.level.clone());
            view.problems = status.problems.len();
        }
        let mut lines = self.lines_of(host, site, findings);
        if self.filter.host(site, host) {
            lines.push(Line::Status(StatusLine {
                host: host.clone(),
                site: site.clone(),
                state: State::Online,
                retained,
                online: Some(OnlineLine::of(status)),
            }));
        }
        lines
    }

    /// An offline of an older connection than the one heard last is the late will of that connection: no news.
    fn offline(&mut self, site: &str, host: &str, session: String, retained: bool, now: Now) -> Vec<Line> {
        let known = self.hosts.get(host).and_then(|view| view.session.as_ref());
        if known.is_some_and(|known| *known != session) {
            return Vec::new();
        }
        let Some(view) = self.hosts.get_mut(host) else { return self.offline_line(site, host, retained) };
        view.state = Some(State::Offline);
        view.session = Some(session);
        view.seen_ms = now.wall_ms;
        self.offline_line(site, host, retained)
    }

    fn offline_line(&self, site: &str, host: &str, retained: bool) -> Vec<Line> {
        if !self.filter.host(site, host) {
            return Vec::new();
        }
        let (site, host) = (site.to_owned(), host.to_owned());
        vec![Line::Status(StatusLine { host, site, state: State::Offline, retained, online: None })]
    }

    /// The view of a host that the tracker has admitted.
    fn view(&mut self, host: &str, site: &str, now: Now) -> Option<&mut HostView> {
        if !self.tracker.knows(host) {
            return None;
        }
        let view = self.hosts.entry(host.to_owned()).or_insert_with(|| HostView::new(site));
        if view.site != site {
            site.clone_into(&mut view.site);
        }
        view.seen_ms = now.wall_ms;
        Some(view)
    }

    fn lines_of(&self, host: &str, site: &str, findings: Vec<Finding>) -> Vec<Line> {
        if !self.filter.host(site, host) {
            return Vec::new();
        }
        findings.into_iter().filter_map(|finding| self.line_of(host, site, finding)).collect()
    }

    fn line_of(&self, host: &str, site: &str, finding: Finding) -> Option<Line> {
        let (host, site) = (host.to_owned(), site.to_owned());
        let gap = |epoch, seqs: std::ops::RangeInclusive<u64>, state| {
            let (from, to) = seqs.into_inner();
            let line = GapLine { host: host.clone(), site: site.clone(), epoch, from, to, count: to - from + 1, state };
            self.judges_gaps.then_some(Line::Gap(line))
        };
        match finding {
            Finding::NewEpoch { epoch, previous } => Some(Line::Epoch(EpochLine { host, site, epoch, previous })),
            Finding::Gap { epoch, seqs, pending: true } => gap(epoch, seqs, GapWord::Pending),
            Finding::Gap { epoch, seqs, pending: false } => gap(epoch, seqs, GapWord::Open),
            Finding::Confirmed { epoch, seqs } => gap(epoch, seqs, GapWord::Confirmed),
            Finding::Lost { epoch, from, to, reason } => {
                Some(Line::Loss(LossLine { host, site, epoch, from, to, reason }))
            }
            Finding::Bound(bound) => Some(Line::Bound(BoundLine::new(&host, bound))),
        }
    }
}

impl HostView {
    fn new(site: &str) -> Self {
        Self {
            site: site.to_owned(),
            state: None,
            session: None,
            seen_ms: 0,
            backlog: None,
            eta_s: None,
            level: None,
            problems: 0,
            rate: Rate::default(),
        }
    }
}

impl OnlineLine {
    fn of(status: &Status) -> Self {
        Self {
            sent: status.sent,
            version: status.version.clone(),
            epoch: status.epoch,
            next_seq: status.next_seq,
            backlog: status.backlog,
            oldest: status.oldest,
            eta_s: status.eta_s,
            level: status.level.clone(),
            problems: status.problems.clone(),
        }
    }
}

impl Rate {
    fn add(&mut self, records: usize, now: Now) {
        self.forward(now);
        let slot = &mut self.seconds[(self.last % 10) as usize];
        *slot = slot.saturating_add(u32::try_from(records).unwrap_or(u32::MAX));
    }

    /// Clears the seconds that have passed since the last call.
    fn forward(&mut self, now: Now) {
        let second = now.mono.as_secs();
        for passed in (self.last + 1..=second).rev().take(10) {
            self.seconds[(passed % 10) as usize] = 0;
        }
        self.last = self.last.max(second);
    }

    /// Over the nine whole seconds before this one.
    pub fn per_second(&self, now: Now) -> f64 {
        let mut upto_now = self.clone();
        upto_now.forward(now);
        let current = (upto_now.last % 10) as usize;
        let whole = upto_now.seconds.iter().enumerate().filter(|(i, _)| *i != current).map(|(_, n)| f64::from(*n));
        whole.sum::<f64>() / 9.0
    }
}

#[cfg(test)]
mod tests;
