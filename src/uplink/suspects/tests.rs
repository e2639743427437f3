use super::*;

fn chunks(n: u64) -> Vec<RangeInclusive<u64>> {
    (0..n).map(|i| i * 10 + 1..=i * 10 + 10).collect()
}

/// Sends suspects as the uplink does until none are left; returns the convicted and the messages it took.
fn search(n: u64, poison: &[usize]) -> (Vec<RangeInclusive<u64>>, usize) {
    let all = chunks(n);
    let is_bad = |c: &RangeInclusive<u64>| poison.iter().any(|p| all[*p] == *c);
    let (mut suspects, mut found, mut messages) = (Suspects::default(), Vec::new(), 0);
    assert_eq!(suspects.refused(1, &all), if n == 1 { Some((1, all[0].clone())) } else { None });
    while let Some(group) = suspects.next().cloned() {
        messages += 1;
        if group.chunks.iter().any(is_bad) {
            found.extend(suspects.refused(1, &group.chunks).map(|(_, c)| c));
        } else {
            suspects.acquit(1, &group.chunks);
        }
    }
    (found, messages)
}

#[test]
fn bisection_convicts_exactly_the_poison() {
    for n in 2..40 {
        for bad in 0..n as usize {
            let (found, messages) = search(n, &[bad]);
            assert_eq!(found, vec![chunks(n)[bad].clone()]);
            assert!(messages <= 2 * (n as f64).log2().ceil() as usize, "{messages} messages for {n} chunks");
        }
    }
    assert_eq!(search(16, &[0, 7, 15]).0.len(), 3);
}

const S: Duration = Duration::from_secs(1);
const MIN: Duration = Duration::from_secs(60);

fn strike(published: u64, size: usize) -> Strike {
    Strike { size, published, answered: published - size as u64 }
}

fn resting(suspects: &mut Suspects) -> Vec<u64> {
    suspects.changed = true;
    suspects.resting_if_changed().into_iter().flatten().map(|(_, c)| *c.start()).collect()
}

/// Accused, and struck on a due trial until it is convicted; returns when.
fn convicted_after(trials: u32, contrast: impl Fn(u32) -> Option<usize>) -> Option<u32> {
    let (mut suspects, one, mut now) = (Suspects::default(), chunks(1), MIN);
    (0..STRIKES).for_each(|_| suspects.lost_on(1, &one, now));
    suspects.adjourn(now);
    for trial in 1..=trials {
        now = now.max(suspects.next_due().expect("it rests"));
        assert!(suspects.next_on_trial(now));
        if suspects.struck(1, &one, strike(u64::from(trial) * 5_000, 400), now).is_some() {
            assert!(suspects.is_empty() && suspects.next_due().is_none());
            return Some(trial);
        }
        assert_eq!(resting(&mut suspects), [1]);
        if let Some(bytes) = contrast(trial) {
            suspects.accepted(1, &[50..=50], bytes, false);
        }
    }
    assert_eq!(suspects.held_records(), 10);
    None
}

#[test]
fn a_single_value_is_convicted_by_its_third_lost_connection_with_contrast() {
    assert_eq!(convicted_after(10, |_| Some(400)), Some(3));
    assert_eq!(convicted_after(10, |trial| (trial != 2).then_some(400)), Some(4));
    assert_eq!(convicted_after(50, |_| Some(399)), None, "what the link carries is smaller");
    assert_eq!(convicted_after(50, |_| None), None);
}

#[test]
fn a_struck_value_rests_longer_each_time_and_is_then_due() {
    let (mut suspects, one, mut now) = (Suspects::default(), chunks(1), MIN);
    suspects.accuse(1, &one);
    for minutes in [1, 2, 4, 8, 10, 10] {
        assert_eq!(suspects.struck(1, &one, strike(900, 400), now), None);
        assert!(suspects.is_empty() && !suspects.next_on_trial(now + MIN * minutes - S));
        now += MIN * minutes;
        assert_eq!(suspects.next_due(), Some(now));
        assert!(suspects.next_on_trial(now));
        assert_eq!((resting(&mut suspects).len(), suspects.next().map(|g| g.chunks.clone())), (0, Some(one.clone())));
    }
}

#[test]
fn halves_of_a_group_that_ended_a_connection_wait_for_other_data() {
    let (mut suspects, all, mut rng) = (Suspects::default(), chunks(4), Rng::new(1));
    suspects.accuse(1, &all);
    assert_eq!(suspects.struck(1, &all, strike(900, 400), MIN), None);
    suspects.adjourn(MIN);
    suspects.pause(MIN, &mut rng);
    assert!(suspects.is_empty() && !suspects.next_on_trial(MIN + S * 14));
    assert!(suspects.next_on_trial(MIN * 2) && !suspects.next_on_trial(MIN * 2), "one at a time");
    assert_eq!((suspects.next().map(|g| g.chunks.len()), resting(&mut suspects).len()), (Some(2), 2));
}

#[test]
fn pauses_between_trials_that_end_connections_grow_and_differ() {
    let (mut suspects, mut rng) = (Suspects::default(), Rng::new(1));
    for expected in [30, 60, 120, 240, 240, 240] {
        suspects.pause(MIN, &mut rng);
        let pause = suspects.next_trial - MIN;
        assert!((S * expected / 2..=S * expected * 2).contains(&pause), "{pause:?}");
    }
    let pauses = |_| {
        suspects.pause(MIN, &mut rng);
        suspects.next_trial - MIN
    };
    let pauses: Vec<Duration> = (0..50).map(pauses).collect();
    assert!(pauses.iter().any(|p| *p < S * 200) && pauses.iter().any(|p| *p > S * 400), "{pauses:?}");
    suspects.accepted(1, &[1..=1], 100, true);
    suspects.pause(MIN, &mut rng);
    assert!(suspects.next_trial <= MIN * 2, "a trial went well");
}

#[test]
fn when_too_many_rest_the_oldest_is_ordinary_data_again() {
    let mut suspects = Suspects::default();
    for i in 1..=MAX_RESTING as u64 + 5 {
        assert_eq!(suspects.struck(1, &[i..=i], strike(900, 400), MIN), None);
    }
    assert_eq!(resting(&mut suspects), (6..=MAX_RESTING as u64 + 5).collect::<Vec<_>>());
    suspects.accuse(2, &chunks(MAX_RESTING_CHUNKS as u64));
    suspects.adjourn(MIN);
    assert_eq!(suspects.resting.iter().map(|(g, _)| g.epoch).collect::<Vec<_>>(), [2]);
}

#[test]
fn what_is_gone_no_longer_rests() {
    let mut suspects = Suspects::default();
    suspects.accuse(1, &chunks(3));
    suspects.adjourn(MIN);
    assert!(suspects.resting_if_changed().is_some() && suspects.resting_if_changed().is_none());
    suspects.retain(|_, c| *c.start() == 11);
    assert_eq!(suspects.resting_if_changed().map(Iterator::count), Some(1));
    suspects.acquit(1, &[11..=20]);
    assert_eq!((suspects.resting_if_changed().map(Iterator::count), suspects.next_due()), (Some(0), None));
}

#[test]
fn a_load_for_suspects_spans_no_gap() {
    let mut suspects = Suspects::default();
    suspects.accuse(1, &[1..=3, 4..=4, 6..=9]);
    assert_eq!(suspects.next().and_then(Group::span), Some(1..=4));
}

#[test]
fn another_head_starts_counting_anew() {
    let mut suspects = Suspects::default();
    for (epoch, first) in [(1, 1), (1, 1), (1, 5), (1, 1), (1, 1), (2, 1)] {
        suspects.lost_on(epoch, &[first..=first], MIN);
    }
    assert!(suspects.is_empty());
}

#[test]
fn what_cannot_be_read_is_told_from_what_lies_beside_it() {
    let mut suspects = Suspects::default();
    suspects.accuse(1, &[1..=3, 4..=6, 7..=9]);
    suspects.accuse(2, &[4..=6]);
    for (seqs, touched) in
        [(4..=6, vec![4..=6]), (3..=4, vec![1..=3, 4..=6]), (10..=20, vec![]), (5..=7, vec![4..=6, 7..=9])]
    {
        assert_eq!(suspects.within(1, &seqs), touched, "{seqs:?}");
    }
}

#[test]
fn only_values_that_ended_three_connections_are_told_of_and_by_their_records() {
    let mut suspects = Suspects::default();
    suspects.accuse(1, &chunks(3));
    for (times, told) in [(1, 0), (2, 0), (3, 7), (4, 7)] {
        suspects.struck(1, &[101..=107], strike(900, 400), MIN * times);
        assert_eq!(suspects.held_records(), told, "after {times}");
        suspects.next_trial = Duration::ZERO;
        while let Some((group, _)) = suspects.resting.pop_front() {
            suspects.groups.push(group);
        }
    }
}

#[test]
fn the_suspect_that_is_due_first_is_tried_first() {
    let mut suspects = Suspects::default();
    for (first, minutes) in [(1, 5), (11, 3), (21, 4)] {
        suspects.rest(Group::new(1, &[first..=first]), MIN * minutes);
    }
    assert!(!suspects.next_on_trial(MIN * 3 - S) && suspects.next_on_trial(MIN * 3));
    assert_eq!(suspects.next().map(|g| g.chunks.clone()), Some(vec![11..=11]));
    suspects.adjourn(MIN * 3);
    suspects.next_trial = MIN * 9;
    assert_eq!(suspects.next_due(), Some(MIN * 9), "none before");
}

#[test]
fn a_group_holds_its_own_chunks_of_its_epoch() {
    let chunk = |epoch, first, count| {
        let context = crate::record::ClockContext { boot: "b".into(), synced: true };
        Chunk { epoch, first, count, context, maps: vec![0u8; 9].into() }
    };
    let group = Group::new(1, &[1..=3, 7..=7]);
    assert!(group.holds(&chunk(1, 1, 3)) && group.holds(&chunk(1, 7, 1)));
    assert!(!group.holds(&chunk(2, 1, 3)) && !group.holds(&chunk(1, 4, 1)) && !group.holds(&chunk(1, 1, 2)));
}

#[test]
fn what_rests_has_changed_when_any_group_lost_a_chunk() {
    let mut suspects = Suspects::default();
    suspects.rest(Group::new(1, &[1..=1, 2..=2]), MIN);
    suspects.rest(Group::new(1, &[3..=3, 4..=4]), MIN);
    assert!(suspects.resting_if_changed().is_some());
    suspects.retain(|_, _| true);
    assert!(suspects.resting_if_changed().is_none());
    suspects.retain(|_, chunk| chunk.start() % 2 == 0);
    assert_eq!(suspects.resting_if_changed().map(Iterator::count), Some(2));
}

/// Ordinary data of this seq was the head of three lost connections.
fn lost_thrice(suspects: &mut Suspects, seq: u64, now: Duration) {
    (0..STRIKES).for_each(|_| suspects.lost_on(1, &[seq..=seq], now));
    suspects.adjourn(now);
}

#[test]
fn history_goes_on_behind_what_was_accused_when_no_more_could_rest() {
    let mut suspects = Suspects::default();
    for seq in 1..=MAX_RESTING as u64 {
        lost_thrice(&mut suspects, seq, MIN);
        assert_eq!(suspects.passed(), None);
    }
    lost_thrice(&mut suspects, 1_000, MIN);
    assert_eq!((suspects.passed(), resting(&mut suspects)[0]), (Some((1, 1_000)), 2), "the oldest is ordinary data");
    suspects.retain(|_, c| *c.start() > 33);
    suspects.next_on_trial(MIN);
    assert_eq!(suspects.passed(), None, "half of the room is free again");
}

#[test]
fn many_chunks_are_too_much_as_well_and_what_was_passed_over_has_its_turn_after_six_hours() {
    let mut suspects = Suspects::default();
    suspects.accuse(1, &chunks(MAX_RESTING_CHUNKS as u64));
    suspects.adjourn(MIN);
    for seq in 100_000..100_000 + MAX_RESTING as u64 / 2 {
        lost_thrice(&mut suspects, seq, MIN);
    }
    assert_eq!(suspects.passed(), Some((1, 100_000)), "the great group made way for the first");
    let mut suspects = Suspects::default();
    suspects.accuse(1, &chunks(MAX_RESTING_CHUNKS as u64 / 2));
    suspects.adjourn(MIN);
    suspects.accuse(2, &chunks(MAX_RESTING_CHUNKS as u64 / 2));
    suspects.adjourn(MIN);
    lost_thrice(&mut suspects, 100_000, MIN);
    suspects.next_on_trial(MIN);
    assert_eq!(suspects.passed(), Some((1, 100_000)), "few groups, but half of the chunks and one");
    suspects.retain(|_, c| *c.start() > 1);
    suspects.next_on_trial(MIN);
    assert_eq!(suspects.passed(), None);
    let mut suspects = Suspects::default();
    (1..=MAX_RESTING as u64 + 1).for_each(|seq| lost_thrice(&mut suspects, seq, MIN));
    for hour in 1..6 {
        lost_thrice(&mut suspects, 1_000 + hour, MIN * 60 * hour as u32);
    }
    suspects.next_on_trial(MIN + PASSED_FOR - S);
    assert_eq!(suspects.passed(), Some((1, 1_005)));
    suspects.adjourn(MIN);
    suspects.changed = false;
    suspects.next_on_trial(MIN + PASSED_FOR);
    assert!(suspects.passed().is_none() && suspects.changed);
}

#[test]
fn of_those_that_are_due_one_whose_next_lost_connection_counts_is_tried_first() {
    let mut suspects = Suspects::default();
    for first in [1, 11, 21] {
        suspects.rest(Group::new(1, &[first..=first]), MIN);
    }
    assert!(suspects.next_on_trial(MIN));
    assert_eq!(suspects.struck(1, &[1..=1], strike(900, 400), MIN), None);
    let on_trial = |suspects: &mut Suspects, now| {
        suspects.adjourn(now);
        suspects.next_on_trial(now);
        suspects.next().map(|g| *g.chunks[0].start())
    };
    assert_eq!(on_trial(&mut suspects, MIN * 9), Some(11), "without contrast it waits for its turn");
    suspects.accepted(1, &[50..=50], 400, false);
    assert_eq!(on_trial(&mut suspects, MIN * 2 - S), Some(21), "it rests");
    assert_eq!(on_trial(&mut suspects, MIN * 9), Some(1));
}
