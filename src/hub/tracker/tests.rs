use super::*;
use crate::wire::{LossReason, PendingRange, State};

pub(super) fn at(seconds: u64) -> Now {
    let mono = Duration::from_secs(seconds);
    Now { mono, boot: mono, wall_ms: 0 }
}

pub(super) fn loss(epoch: u64, from: u64, to: Option<u64>) -> Loss {
    let count = to.map_or(0, |to| to.saturating_sub(from).saturating_add(1));
    Loss { epoch, from, to, count, reason: LossReason::Quota, t0: 0, t1: 0 }
}

/// Pending as (epoch, from, to).
pub(super) fn status(epoch: u64, next_seq: u64, pending: &[(u64, u64, u64)]) -> Status {
    Status {
        v: 1,
        state: State::Online,
        session: "s1".into(),
        host: "h".into(),
        site: "site".into(),
        sent: 0,
        version: "0".into(),
        epoch,
        next_seq,
        pending: pending.iter().map(|&(epoch, from, to)| PendingRange { epoch, from, to }).collect(),
        backlog: 0,
        oldest: None,
        eta_s: None,
        losses: Vec::new(),
        level: "broker".into(),
        problems: Vec::new(),
    }
}

/// A tracker of one host with short verbs; time moves 60 s at each heartbeat.
#[derive(Default)]
struct Line {
    tracker: Tracker,
    seconds: u64,
}

impl Line {
    fn live(&mut self, seqs: RangeInclusive<u64>) -> Observed {
        let seqs: Vec<u64> = seqs.collect();
        self.tracker.observe("h", 7, &seqs, Lane::Live, at(self.seconds))
    }

    fn history(&mut self, seqs: RangeInclusive<u64>) -> Observed {
        let seqs: Vec<u64> = seqs.collect();
        self.tracker.observe("h", 7, &seqs, Lane::History, at(self.seconds))
    }

    fn beat(&mut self, next: u64, pending: &[(u64, u64, u64)]) -> Vec<Finding> {
        self.seconds += 60;
        self.tracker.heartbeat("h", &status(7, next, pending), false, at(self.seconds))
    }

    fn retained(&mut self, next: u64, pending: &[(u64, u64, u64)]) -> Vec<Finding> {
        self.tracker.heartbeat("h", &status(7, next, pending), true, at(self.seconds))
    }

    fn gaps(&self) -> Vec<(RangeInclusive<u64>, GapState)> {
        self.tracker.gaps("h").into_iter().map(|g| (g.seqs, g.state)).collect()
    }
}

fn gap(seqs: RangeInclusive<u64>, pending: bool) -> Finding {
    Finding::Gap { epoch: 7, seqs, pending }
}

fn confirmed(seqs: RangeInclusive<u64>) -> Finding {
    Finding::Confirmed { epoch: 7, seqs }
}

#[test]
fn records_in_order_are_new_and_seen_again_are_duplicates() {
    let mut line = Line::default();
    let first = line.live(1..=3);
    assert_eq!(first.verdicts, [(1..=3, Verdict::New)]);
    assert_eq!(first.findings, [Finding::NewEpoch { epoch: 7, previous: None }]);
    assert_eq!(
        line.live(2..=5),
        Observed { verdicts: vec![(2..=3, Verdict::Duplicate), (4..=5, Verdict::New)], findings: vec![] }
    );
    assert_eq!(line.tracker.tally("h"), Tally { new: 5, duplicate: 2, epochs: 1, ..Tally::default() });
}

#[test]
fn verdicts_follow_the_order_of_the_message() {
    let mut line = Line::default();
    line.live(1..=2);
    let odd = line.tracker.observe("h", 7, &[5, 6, 2, 3, 3], Lane::Live, at(0));
    let verdicts =
        [(5..=6, Verdict::New), (2..=2, Verdict::Duplicate), (3..=3, Verdict::Late), (3..=3, Verdict::Duplicate)];
    assert_eq!(odd.verdicts, verdicts);
    assert_eq!(line.gaps(), [(4..=4, GapState::Open)]);
}

#[test]
fn a_hole_is_open_then_filled_by_late_records() {
    let mut line = Line::default();
    line.live(1..=10);
    assert_eq!(line.live(15..=16).findings, [gap(11..=14, false)]);
    assert_eq!(line.history(12..=13).verdicts, [(12..=13, Verdict::Late)]);
    assert_eq!(line.gaps(), [(11..=11, GapState::Open), (14..=14, GapState::Open)]);
    line.history(11..=14);
    assert_eq!(line.gaps(), []);
    assert_eq!(line.tracker.tally("h").late, 4);
}

#[test]
fn live_records_beside_a_draining_backlog_are_no_loss() {
    let mut line = Line::default();
    line.live(1..=10);
    line.beat(1000, &[(7, 11, 999)]);
    assert_eq!(line.live(1000..=1000).findings, [], "the status had opened the gap");
    assert_eq!(line.gaps(), [(11..=999, GapState::Pending)]);
    for drained in [300, 600, 900] {
        line.history(11..=drained);
        assert_eq!(line.beat(1001, &[(7, drained + 1, 999)]), []);
    }
    line.history(901..=999);
    line.beat(1001, &[]);
    assert_eq!(line.gaps(), []);
}

#[test]
fn a_gap_is_confirmed_by_the_second_heartbeat_that_does_not_explain_it() {
    let mut line = Line::default();
    line.live(1..=10);
    line.live(13..=20);
    assert_eq!(line.beat(21, &[]), []);
    assert_eq!(line.gaps(), [(11..=12, GapState::Open)]);
    assert_eq!(line.beat(21, &[]), [confirmed(11..=12)]);
    assert_eq!(line.beat(21, &[]), [], "found once");
    assert_eq!(line.tracker.missing("h"), Missing { confirmed: 2, ..Missing::default() });
    assert_eq!(line.history(11..=12).verdicts, [(11..=12, Verdict::Late)]);
    assert_eq!(line.gaps(), []);
}

#[test]
fn statuses_close_together_count_as_one_heartbeat() {
    let mut line = Line::default();
    line.live(1..=10);
    line.live(12..=12);
    line.beat(13, &[]);
    for _ in 0..5 {
        line.seconds += 1;
        let now = at(line.seconds);
        let expected = if line.seconds < 65 { vec![] } else { vec![confirmed(11..=11)] };
        assert_eq!(line.tracker.heartbeat("h", &status(7, 13, &[]), false, now), expected);
    }
}

#[test]
fn a_gap_that_becomes_pending_again_is_no_longer_confirmed() {
    let mut line = Line::default();
    line.live(1..=1);
    line.live(3..=3);
    line.beat(4, &[]);
    line.beat(4, &[]);
    assert_eq!(line.gaps(), [(2..=2, GapState::Confirmed)]);
    line.beat(4, &[(7, 2, 2)]);
    assert_eq!(line.gaps(), [(2..=2, GapState::Pending)]);
    assert_eq!(line.beat(4, &[]), []);
    assert_eq!(line.beat(4, &[]), [confirmed(2..=2)], "it takes two again");
}

#[test]
fn a_missing_tail_is_seen_by_the_status() {
    let mut line = Line::default();
    line.live(1..=10);
    assert_eq!(line.beat(14, &[]), [gap(11..=13, false)]);
    assert_eq!(line.beat(14, &[]), [confirmed(11..=13)]);
}

#[test]
fn a_declared_loss_excuses_before_and_after_and_never_overrides_presence() {
    let mut line = Line::default();
    line.live(1..=10);
    let lost = |from, to| Finding::Lost { epoch: 7, from, to: Some(to), reason: LossReason::Quota };
    assert_eq!(line.tracker.declare("h", &[loss(7, 9, Some(14))]), [lost(9, 14)]);
    assert_eq!(line.live(16..=20).findings, [gap(15..=15, false)]);
    assert_eq!(line.tracker.declare("h", &[loss(7, 12, Some(15))]), [lost(15, 15)], "only what is news");
    assert_eq!(line.gaps(), []);
    assert_eq!(line.tracker.missing("h"), Missing { declared: 5, ..Missing::default() }, "9 and 10 are here");
    assert_eq!(line.live(9..=9).verdicts, [(9..=9, Verdict::Duplicate)]);
    assert_eq!(line.live(12..=12).verdicts, [(12..=12, Verdict::Late)]);
    assert_eq!(line.tracker.missing("h").declared, 4);
}

#[test]
fn an_open_ended_loss_covers_all_that_follows() {
    let mut line = Line::default();
    line.live(1..=5);
    let lost = |from| Finding::Lost { epoch: 7, from, to: None, reason: LossReason::Quota };
    assert_eq!(line.tracker.declare("h", &[loss(7, 4, None)]), [lost(4)]);
    assert_eq!(line.tracker.declare("h", &[loss(7, 6, None), loss(7, 8, Some(9))]), []);
    let news = Finding::Lost { epoch: 7, from: 3, to: Some(3), reason: LossReason::Quota };
    assert_eq!(line.tracker.declare("h", &[loss(7, 3, None)]), [news], "the rest was known");
    assert_eq!(line.beat(20, &[]), []);
    assert_eq!(line.tracker.missing("h").declared, 14, "6..=19");
}

#[test]
fn an_impossible_loss_declares_nothing() {
    let mut line = Line::default();
    line.live(1..=5);
    assert_eq!(line.tracker.declare("h", &[loss(7, 4, Some(2)), loss(7, u64::MAX, Some(0))]), []);
    line.tracker.declare("h", &[loss(7, 0, Some(u64::MAX))]);
    assert_eq!(line.tracker.losses("h").len(), 1);
}

#[test]
fn a_loss_may_speak_of_an_older_epoch() {
    let mut line = Line::default();
    line.live(1..=5);
    let findings = line.tracker.declare("h", &[loss(3, 1, None)]);
    assert_eq!(findings, [Finding::Lost { epoch: 3, from: 1, to: None, reason: LossReason::Quota }]);
    assert_eq!(line.tracker.current_epoch("h"), Some(7));
    assert_eq!(line.tracker.tally("h").epochs, 1, "spoken of, not heard");
}

#[test]
fn joining_mid_stream_makes_no_gap_of_what_was_before() {
    let mut line = Line::default();
    assert_eq!(line.live(5000..=5001).findings, [Finding::NewEpoch { epoch: 7, previous: None }]);
    assert_eq!(line.history(100..=200).verdicts, [(100..=200, Verdict::New)]);
    assert_eq!(line.live(5005..=5005).findings, [gap(5002..=5004, false)]);
}

#[test]
fn history_alone_proves_no_gap_as_live_records_may_have_gone_before_we_joined() {
    let mut line = Line::default();
    line.history(200..=300);
    assert_eq!(line.history(400..=500).findings, []);
    assert_eq!(line.retained(601, &[(7, 501, 600)]), []);
    assert_eq!(line.live(700..=700).findings, [], "501..=699 went by before");
    assert_eq!(line.gaps(), []);
}

#[test]
fn a_live_status_is_a_base_as_good_as_a_live_record() {
    let mut line = Line::default();
    line.beat(601, &[]);
    assert_eq!(line.live(603..=603).findings, [gap(601..=602, false)]);
}

#[test]
fn a_backlog_listed_at_a_connection_we_saw_begin_is_owed() {
    let mut line = Line::default();
    assert_eq!(line.beat(101, &[(7, 1, 100)]), [Finding::NewEpoch { epoch: 7, previous: None }, gap(1..=100, true)]);
    line.live(101..=101);
    line.history(1..=40);
    line.history(51..=100);
    assert_eq!(line.beat(102, &[]), []);
    assert_eq!(line.beat(102, &[]), [confirmed(41..=50)]);
}

#[test]
fn a_backlog_of_a_running_connection_is_owed_once_two_heartbeats_list_it() {
    let mut line = Line::default();
    line.retained(101, &[(7, 1, 100)]);
    assert_eq!(line.beat(101, &[(7, 20, 100)]), []);
    assert_eq!(line.beat(101, &[(7, 30, 100)]), [gap(30..=100, true)]);
}

#[test]
fn a_backlog_of_a_host_that_waits_for_a_hub_is_not_owed() {
    let mut line = Line::default();
    let mut beat = status(7, 101, &[(7, 1, 100)]);
    beat.level = "hub".into();
    let findings = line.tracker.heartbeat("h", &beat, false, at(0));
    assert_eq!(findings, [Finding::NewEpoch { epoch: 7, previous: None }]);
}

#[test]
fn the_last_of_sixteen_pending_ranges_explains_but_does_not_owe() {
    let mut line = Line::default();
    let pending: Vec<_> = (0..16).map(|i| (7, i * 10 + 1, i * 10 + 5)).collect();
    let findings = line.beat(200, &pending);
    assert_eq!(findings.len(), 16, "a new epoch and fifteen gaps");
    assert!(!findings.contains(&gap(151..=155, true)));
}

#[test]
fn a_retained_status_neither_confirms_nor_sets_the_base() {
    let mut line = Line::default();
    line.retained(50, &[]);
    line.live(60..=60);
    line.live(62..=62);
    for _ in 0..3 {
        line.seconds += 60;
        assert_eq!(line.retained(63, &[]), []);
    }
    assert_eq!(line.gaps(), [(61..=61, GapState::Open)]);
}

#[test]
fn a_new_epoch_starts_anew_and_the_old_one_is_still_judged() {
    let mut line = Line::default();
    line.live(1..=10);
    let new = line.tracker.observe("h", 8, &[1, 2], Lane::Live, at(1));
    assert_eq!(new.findings, [Finding::NewEpoch { epoch: 8, previous: Some(7) }]);
    assert_eq!(new.verdicts, [(1..=2, Verdict::New)]);
    assert_eq!(line.live(12..=12).findings, [gap(11..=11, false)], "the rest of the old epoch drains");
    let both = status(8, 3, &[(7, 11, 11)]);
    line.tracker.heartbeat("h", &both, false, at(60));
    assert_eq!(line.gaps(), [(11..=11, GapState::Pending)]);
    line.tracker.heartbeat("h", &status(8, 3, &[]), false, at(120));
    let findings = line.tracker.heartbeat("h", &status(8, 3, &[]), false, at(180));
    assert_eq!(findings, [confirmed(11..=11)]);
}

#[test]
fn a_host_beyond_the_bound_is_not_tracked_and_said_so_once() {
    let mut tracker = Tracker::new(Bounds { hosts: 1, ..Bounds::default() });
    tracker.observe("a", 1, &[1], Lane::Live, at(0));
    let b = tracker.observe("b", 1, &[1, 2], Lane::Live, at(0));
    assert_eq!(b.verdicts, [(1..=2, Verdict::Untracked)]);
    assert_eq!(b.findings, [Finding::Bound(Bound::Hosts)]);
    assert_eq!(tracker.observe("c", 1, &[1], Lane::Live, at(0)).findings, []);
    assert_eq!(tracker.heartbeat("c", &status(1, 2, &[]), false, at(0)), []);
    assert_eq!(tracker.untracked(), 3);
    assert_eq!(tracker.observe("a", 1, &[1], Lane::Live, at(0)).verdicts, [(1..=1, Verdict::Duplicate)]);
}

#[test]
fn an_epoch_beyond_the_bound_takes_the_place_of_the_least_recently_heard() {
    let mut tracker = Tracker::new(Bounds { epochs_per_host: 2, ..Bounds::default() });
    tracker.observe("h", 1, &[1, 3], Lane::Live, at(0));
    tracker.observe("h", 2, &[1], Lane::Live, at(1));
    tracker.observe("h", 1, &[4], Lane::Live, at(2));
    let third = tracker.observe("h", 3, &[1], Lane::Live, at(3));
    assert!(third.findings.contains(&Finding::Bound(Bound::Epochs)));
    assert_eq!(tracker.observe("h", 1, &[4], Lane::Live, at(4)).verdicts, [(4..=4, Verdict::Duplicate)]);
    tracker.observe("h", 4, &[1], Lane::Live, at(5));
    tracker.observe("h", 5, &[1], Lane::Live, at(6));
    assert_eq!(tracker.tally("h").overflowed, 1, "seq 2 of epoch 1 can never be found again");
}

#[test]
fn gaps_beyond_the_bound_are_forgotten_but_counted_for_ever() {
    let mut tracker = Tracker::new(Bounds { ranges_per_epoch: 8, ..Bounds::default() });
    let odd: Vec<u64> = (0..100).map(|i| i * 2 + 1).collect();
    let said: Vec<_> = odd
        .iter()
        .flat_map(|&seq| tracker.observe("h", 1, &[seq], Lane::Live, at(0)).findings)
        .filter(|f| matches!(f, Finding::Bound(_)))
        .collect();
    assert_eq!(said, [Finding::Bound(Bound::Ranges)]);
    let (tally, missing) = (tracker.tally("h"), tracker.missing("h"));
    assert_eq!(tally.overflowed + missing.open, 99, "every hole is either listed or counted");
    assert!(tracker.gaps("h").len() <= 8);
    assert!(tally.forgotten >= 90);
}

#[test]
fn one_who_wants_everything_expects_it_from_the_first_seq_on() {
    let mut tracker = Tracker::of_everything(Bounds::default());
    let observed = tracker.observe("a", 7, &[5, 6], Lane::History, at(0));
    assert!(observed.findings.contains(&Finding::Gap { epoch: 7, seqs: 1..=4, pending: false }), "{observed:?}");
    tracker.heartbeat("a", &status(7, 9, &[(7, 3, 4)]), false, at(10));
    assert!(!tracker.confirmed("a", 7, 1..=9), "one heartbeat proves nothing");
    tracker.heartbeat("a", &status(7, 9, &[(7, 3, 4)]), false, at(20));
    assert!(tracker.confirmed("a", 7, 1..=2) && tracker.confirmed("a", 7, 7..=8));
    assert!(!tracker.confirmed("a", 7, 3..=6), "promised, or here");
}

#[test]
fn what_an_earlier_run_knew_is_neither_missing_nor_new() {
    let mut tracker = Tracker::of_everything(Bounds::default());
    let seen = RangeSet::from_iter([1..=10, 15..=20]);
    tracker.remember("a", 7, &seen, 25, at(0));
    let gaps: Vec<_> = tracker.gaps("a").into_iter().map(|gap| gap.seqs).collect();
    assert_eq!(gaps, [11..=14, 21..=24]);
    let verdicts = tracker.observe("a", 7, &[10, 11], Lane::History, at(1)).verdicts;
    assert_eq!(verdicts, [(10..=10, Verdict::Duplicate), (11..=11, Verdict::Late)]);
    tracker.heartbeat("a", &status(7, 25, &[]), true, at(60));
    assert!(!tracker.confirmed("a", 7, 1..=30), "a restart begins to count heartbeats anew");
}
