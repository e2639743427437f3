use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn delivery(epochs: &[(u64, &[RangeInclusive<u64>])]) -> Delivery {
    let view = |(epoch, ranges): &(u64, &[RangeInclusive<u64>])| EpochView {
        epoch: *epoch,
        pending: ranges.iter().cloned().collect(),
        next_seq: 1000,
        in_doubt: false,
    };
    Delivery::new(epochs.iter().map(view).collect())
}

#[test]
fn history_passes_over_claimed_and_unreadable_seqs() {
    let mut d = delivery(&[(7, &[1..=10]), (8, &[5..=6])]);
    d.claim(7, 1..=3);
    assert_eq!(d.next_free(), Some((7, 4..=10)));
    assert_eq!(d.unreadable(7, 4..=5), 2);
    d.claim(7, 8..=8);
    assert_eq!(d.next_free(), Some((7, 6..=7)));
    d.claim(7, 6..=10);
    assert_eq!(d.next_free(), Some((8, 5..=6)));
    d.retry_unreadable();
    assert_eq!(d.next_free(), Some((7, 4..=5)));
    d.release(7, 1..=3);
    assert_eq!(d.next_free(), Some((7, 1..=5)));
}

#[test]
fn history_goes_on_behind_what_is_passed_over_until_it_is_not() {
    let mut d = delivery(&[(7, &[1..=10]), (8, &[1..=6, 9..=9]), (9, &[1..=2])]);
    for (passed, next) in [((7, 0), (7, 1..=10)), ((7, 4), (7, 5..=10)), ((7, 10), (8, 1..=6)), ((8, 7), (8, 9..=9))] {
        d.go_on_behind(Some(passed));
        assert_eq!(d.next_free(), Some(next));
    }
    d.go_on_behind(Some((9, 2)));
    assert_eq!((d.next_free(), d.backlog()), (None, 19));
    d.go_on_behind(Some((5, 2)));
    assert_eq!(d.next_free(), Some((7, 1..=10)), "an epoch that is forgotten hides nothing");
    d.go_on_behind(Some((9, 2)));
    d.go_on_behind(None);
    assert_eq!(d.next_free(), Some((7, 1..=10)));
}

#[test]
fn seqs_leave_pending_only_when_settled_or_gone() {
    let mut d = delivery(&[(7, &[1..=10])]);
    d.claim(7, 1..=5);
    d.release(7, 1..=5);
    assert_eq!(d.backlog(), 10);
    d.settle(7, 1..=5);
    d.gone(7, 9..=12);
    assert_eq!(d.pending(7).iter().collect::<Vec<_>>(), vec![6..=8]);
    assert!(!d.is_free(7, 1..=5) && d.is_free(7, 5..=6));
}

#[test]
fn a_fragmenting_settlement_is_forgotten_beyond_the_bound() {
    let mut d = delivery(&[(7, &[1..=20_000])]);
    for seq in (2..20_000).step_by(2) {
        d.settle(7, seq..=seq);
    }
    assert_eq!(d.range_count(), MAX_RANGES);
    assert!(d.is_wanted(7, 19_998..=19_998), "kept pending: a duplicate later");
    d.gone(7, 19_998..=19_998);
    assert!(!d.is_wanted(7, 19_998..=19_998), "a loss is never forgotten");
}

/// Sends what is oldest, at most `batch` seqs at a time, and has `answer` judge it; how often each seq was sent.
fn drain(d: &mut Delivery, batch: u64, mut answer: impl FnMut(&mut Delivery, RangeInclusive<u64>)) -> Vec<u8> {
    let mut sent = vec![0; 60_000];
    for _ in 0..200_000 {
        let Some((7, free)) = d.next_free() else { return sent };
        let seqs = *free.start()..=(*free.end()).min(free.start() + batch - 1);
        sent[*seqs.start() as usize..=*seqs.end() as usize].iter_mut().for_each(|times| *times += 1);
        d.claim(7, seqs.clone());
        answer(d, seqs);
    }
    panic!("history does not get on: {:?}", d.next_free());
}

#[test]
fn more_stretches_than_the_bound_are_each_sent_once() {
    let islands: Vec<_> = (0..5_000u64).map(|n| n * 10 + 1..=n * 10 + 7).collect();
    for (batch, at_hub) in [(100, false), (3, false), (100, true), (3, true)] {
        let mut d = delivery(&[(7, &islands)]);
        let sent = drain(&mut d, batch, |d, seqs| match at_hub {
            true => d.taken(7, seqs),
            false => drop(d.settle(7, seqs)),
        });
        let wanted = |seq: usize| u8::from(islands.iter().any(|r| r.contains(&(seq as u64))));
        assert!((0..60_000).all(|seq| sent[seq] == wanted(seq)), "batches of {batch}, at level hub: {at_hub}");
        assert!(d.range_count() <= islands.len(), "{}", d.range_count());
        d.proven(7, 1..=60_000);
        assert_eq!((d.backlog(), d.range_count()), (0, 0));
    }
}

/// A link that breaks after each live record: what was recorded meanwhile lies between what the broker has.
#[test]
fn alternating_stretches_stay_bounded_and_history_still_ends() {
    let mut d = delivery(&[(7, &[1..=40])]);
    let mut next = 1_001;
    for _ in 0..10_000 {
        d.appended(7, next..=next + 4);
        d.taken(7, next + 2..=next + 2);
        next += 5;
        assert!(d.range_count() <= MAX_RANGES + 2, "{}", d.range_count());
    }
    let (mut appends, end) = (0, next + 100);
    let sent = drain(&mut d, 7, |d, seqs| {
        d.taken(7, seqs);
        if next < end {
            d.appended(7, next..=next);
            d.taken(7, next..=next);
            (next, appends) = (next + 1, appends + 1);
        }
        assert!(d.range_count() <= MAX_RANGES + 2, "{}", d.range_count());
    });
    assert_eq!(appends, 100);
    assert!(sent.iter().all(|times| *times <= 1));
    assert_eq!(d.range_count(), 2, "1..=40, and all from 1001 on");
}

/// A hub that stored every other record says so while the ranges are at their bound.
#[test]
fn what_a_hub_acknowledges_at_the_bound_is_not_sent_again() {
    let mut d = delivery(&[(7, &[1..=20_000])]);
    drain(&mut d, 20_000, |d, seqs| d.taken(7, seqs));
    let settled: u64 = (2..20_000u64).step_by(2).map(|seq| d.proven(7, seq..=seq).len() as u64).sum();
    assert_eq!(settled, 9_999, "the outbox hears of all of them");
    assert!(d.range_count() <= MAX_RANGES && d.next_free().is_none(), "{:?}", d.next_free());
    assert_eq!(d.proven(7, 1..=20_000).len(), MAX_RANGES);
    assert_eq!(d.backlog(), 0);
}

#[derive(Clone, Debug)]
enum Op {
    Append(u64),
    Claim(u64, u64),
    Release(u64, u64),
    Settle(u64, u64),
    Gone(u64, u64),
    Unreadable(u64, u64),
    Retry,
}

fn op() -> impl Strategy<Value = Op> {
    (0u8..7, 1u64..60, 0u64..8).prop_map(|(kind, first, len)| match kind {
        0 => Op::Append(len + 1),
        1 => Op::Claim(first, first + len),
        2 => Op::Release(first, first + len),
        3 => Op::Settle(first, first + len),
        4 => Op::Gone(first, first + len),
        5 => Op::Unreadable(first, first + len),
        _ => Op::Retry,
    })
}

proptest! {
    #[test]
    fn behaves_as_three_sets_of_seqs(ops in proptest::collection::vec(op(), 0..60)) {
        let mut d = delivery(&[(7, &[1..=10])]);
        let (mut pending, mut claimed, mut hidden): (BTreeSet<u64>, BTreeSet<u64>, BTreeSet<u64>) =
            ((1..=10).collect(), BTreeSet::new(), BTreeSet::new());
        let mut next = 1000;
        for op in ops {
            match op {
                Op::Append(n) => {
                    d.appended(7, next..=next + n - 1);
                    pending.extend(next..next + n);
                    next += n;
                }
                Op::Claim(a, b) => { d.claim(7, a..=b); claimed.extend(a..=b); }
                Op::Release(a, b) => { d.release(7, a..=b); claimed.retain(|s| !(a..=b).contains(s)); }
                Op::Settle(a, b) => {
                    let settled: Vec<u64> = d.settle(7, a..=b).into_iter().flatten().collect();
                    prop_assert_eq!(settled, (a..=b).filter(|s| pending.contains(s)).collect::<Vec<_>>());
                    pending.retain(|s| !(a..=b).contains(s));
                    claimed.retain(|s| !(a..=b).contains(s));
                }
                Op::Gone(a, b) => { d.gone(7, a..=b); pending.retain(|s| !(a..=b).contains(s)); }
                Op::Unreadable(a, b) => {
                    d.unreadable(7, a..=b);
                    hidden.extend((a..=b).filter(|s| pending.contains(s)));
                }
                Op::Retry => { d.retry_unreadable(); hidden.clear(); }
            }
            let free = pending.iter().find(|s| !claimed.contains(s) && !hidden.contains(s));
            prop_assert_eq!(d.next_free().map(|(_, r)| *r.start()), free.copied());
            for first in [1, 8, 30, 1000] {
                let is_free = |s: &u64| pending.contains(s) && !claimed.contains(s) && !hidden.contains(s);
                let run = (first..).take_while(is_free).last();
                prop_assert_eq!(d.free_from(7, first).last(), run);
            }
            if let Some((_, range)) = d.next_free() {
                prop_assert!(range.clone().all(|s| pending.contains(&s) && !claimed.contains(&s) && !hidden.contains(&s)));
            }
            prop_assert_eq!(d.backlog(), pending.len() as u64);
            prop_assert_eq!(d.current(), Some((7, next)));
        }
    }
}

#[test]
fn beyond_the_bound_older_epochs_are_forgotten_once_delivered() {
    let mut d = Delivery::default();
    for id in 1..=MAX_EPOCHS as u64 + 2 {
        assert!(d.appended(id, 1..=3));
        if id != 1 {
            d.settle(id, 1..=3);
        }
    }
    assert!(d.standing(1).is_some(), "not delivered");
    assert!(d.standing(2).is_none() && d.standing(3).is_none(), "the oldest of those delivered");
    assert!(d.standing(4).is_some(), "a hub may ask for it again");
}

#[test]
fn summary_covers_everything_pending_within_its_bound() {
    let many: Vec<_> = (0..50u64).map(|i| i * 10 + 1..=i * 10 + 3).collect();
    let d = delivery(&[(1, &many), (2, &[1..=1]), (3, &many)]);
    let summary = d.summary(16);
    assert_eq!(summary.len(), 16);
    for (epoch, range) in [(1, 491..=493), (2, 1..=1), (3, 1..=3), (3, 491..=493)] {
        assert!(
            summary.iter().any(|p| p.epoch == epoch && p.from <= *range.start() && p.to >= *range.end()),
            "{epoch} {range:?} in {summary:?}"
        );
    }
    assert_eq!(summary[0], PendingRange { epoch: 1, from: 1, to: 3 });
    let crowd: Vec<_> = (1..=40).map(|id| (id, &many[..])).collect();
    let summary = delivery(&crowd).summary(16);
    assert_eq!((summary.len(), summary[0].epoch, summary[15].epoch), (16, 1, 40));
}

#[test]
fn only_the_newest_epoch_is_the_current_one() {
    let d = delivery(&[(7, &[1..=3]), (8, &[])]);
    assert_eq!(
        [7, 8].map(|id| d.standing(id).map(|s| (s.is_current, s.next_seq))),
        [Some((false, 1000)), Some((true, 1000))]
    );
    assert_eq!(d.standing(9), None);
}

fn view(epoch: u64, pending: RangeInclusive<u64>, in_doubt: bool) -> EpochView {
    EpochView { epoch, next_seq: pending.end() + 1, pending: std::iter::once(pending).collect(), in_doubt }
}

#[test]
fn epochs_that_are_found_late_are_older_and_joined_with_what_was_appended_since() {
    let mut d = Delivery::new(vec![view(7, 1..=2, true)]);
    d.appended(8, 11..=14);
    d.claim(8, 11..=11);
    d.taken(8, 13..=13);
    d.doubt(7);
    d.found(vec![view(6, 1..=3, true), view(7, 1..=2, true), view(8, 1..=10, false)]);
    assert_eq!([6, 7, 8, 9].map(|id| d.age_rank(id)), [0, 1, 2, usize::MAX]);
    assert_eq!((d.current(), d.next_free()), (Some((8, 15)), Some((6, 1..=3))));
    assert_eq!((d.pending(8).iter().collect::<Vec<_>>(), d.sent(8).len()), (vec![1..=12, 14..=14], 1));
    assert!(d.is_free(8, 10..=10) && !d.is_free(8, 11..=11) && d.is_free(8, 12..=12));
    let doubts = |id| d.standing(id).map(|s| (s.ends_in_doubt, s.born, d.is_doubted(id)));
    assert_eq!([6, 7, 8].map(doubts), [Some((true, 4, false)), Some((true, 3, true)), Some((false, 11, false))]);
}

#[test]
fn a_hubs_word_lets_patience_begin_anew_and_silence_does_not() {
    let minutes = |n: u64| Duration::from_secs(n * 60);
    let mut d = delivery(&[(7, &[1..=9]), (8, &[])]);
    d.taken(7, 1..=9);
    d.recheck(minutes(0));
    assert_eq!(d.next_recheck(), Some(minutes(10)));
    d.recheck(minutes(10));
    assert_eq!((d.pending(7).len(), d.next_recheck()), (9, None), "to be sent again");
    for (word, wait) in [(20..=30, 20), (1..=3, 10)] {
        d.taken(7, 1..=9);
        d.proven(7, word);
        d.recheck(minutes(10));
        assert_eq!(d.next_recheck(), Some(minutes(10 + wait)));
    }
}

#[test]
fn the_epoch_that_has_waited_longest_is_looked_at_first() {
    let mut d = delivery(&[(6, &[1..=9]), (7, &[1..=9]), (8, &[])]);
    d.taken(7, 1..=9);
    d.recheck(Duration::from_secs(1));
    d.taken(6, 1..=9);
    d.recheck(Duration::from_secs(2));
    assert_eq!(d.next_recheck(), Some(Duration::from_secs(601)));
}

/// Each takes two ranges more, so that the bound itself is never hit.
#[test]
fn what_the_broker_takes_out_of_the_middle_stays_bounded() {
    let mut d = delivery(&[(7, &[1..=20_000])]);
    for seq in (3..20_000).step_by(4) {
        d.taken(7, seq..=seq);
        assert!(d.range_count() <= MAX_RANGES, "{} at {seq}", d.range_count());
    }
}

#[test]
fn what_touches_a_pending_stretch_on_one_side_only_is_joined_with_it() {
    for taken in [1, 3] {
        let mut d = delivery(&[(7, &[])]);
        for island in 0..3_000 {
            d.appended(7, island * 10 + 1..=island * 10 + 3);
            d.taken(7, island * 10 + taken..=island * 10 + taken);
        }
        assert_eq!((d.range_count(), d.backlog()), (MAX_RANGES, 9_000));
    }
}
